//! `info`: the files of `/proc` and sysfs about memory.

use core::fmt;
use std::process::ExitCode;

use clap::Args;
use kernmem::Boot;
use kernmem_arch::hugetlb::HugeArch;
use kernmem_config::Arch;
use kernmem_report::json::Json;
use kernmem_report::{hugepages, proc};
use kernmem_view::proc::{OfBoot, TextConfig};
use kernmem_view::{Answer, BootRecord, KernelView};

use crate::Outcome;
use crate::args::KernelArgs;
use crate::failure::Failure;
use crate::machine::{Booted, Opened};
use crate::output::Out;

/// Which files, as the page allocator takes over.
#[derive(Args, Debug)]
pub struct InfoArgs {
    /// A preset, a file, a recording, or `-`
    source: Option<String>,
    #[command(flatten)]
    files: FileArgs,
    /// Answer as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    kernel: KernelArgs,
}

/// The files; several are printed in the order of this list, each under its name.
#[derive(Args, Debug)]
#[group(required = true, multiple = true)]
#[command(next_help_heading = "Files")]
struct FileArgs {
    /// /proc/buddyinfo: free blocks by order
    #[arg(long)]
    buddyinfo: bool,
    /// /proc/zoneinfo: sizes, watermarks, limits of each zone
    #[arg(long)]
    zoneinfo: bool,
    /// /proc/pagetypeinfo: free blocks by migrate type
    #[arg(long)]
    pagetypeinfo: bool,
    /// /proc/meminfo
    #[arg(long)]
    meminfo: bool,
    /// /proc/iomem, without devices
    #[arg(long)]
    iomem: bool,
    /// /proc/vmallocinfo: areas of the vmalloc region
    #[arg(long)]
    vmallocinfo: bool,
    /// /proc/slabinfo: slab caches
    #[arg(long)]
    slabinfo: bool,
    /// /sys/devices/system/memory: memory blocks
    #[arg(long)]
    sections: bool,
    /// What descriptors of huge pages give back, by size and era
    #[arg(long)]
    hugepages: bool,
}

/// A file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum File {
    Buddyinfo,
    Zoneinfo,
    Pagetypeinfo,
    Meminfo,
    Iomem,
    Vmallocinfo,
    Slabinfo,
    Sections,
    Hugepages,
}

impl File {
    const fn name(self) -> &'static str {
        match self {
            Self::Buddyinfo => "buddyinfo",
            Self::Zoneinfo => "zoneinfo",
            Self::Pagetypeinfo => "pagetypeinfo",
            Self::Meminfo => "meminfo",
            Self::Iomem => "iomem",
            Self::Vmallocinfo => "vmallocinfo",
            Self::Slabinfo => "slabinfo",
            Self::Sections => "sections",
            Self::Hugepages => "hugepages",
        }
    }

    /// What a kernel must have done before the file says anything; `None` if a boot settles it.
    const fn comes_later(self) -> Option<&'static str> {
        match self {
            Self::Pagetypeinfo => Some("pageblocks have no migrate types"),
            Self::Vmallocinfo => Some("there are no vmalloc areas"),
            Self::Slabinfo => Some("there are no slab caches"),
            Self::Buddyinfo | Self::Zoneinfo | Self::Meminfo | Self::Iomem | Self::Sections | Self::Hugepages => None,
        }
    }
}

impl FileArgs {
    fn chosen(&self) -> Vec<File> {
        let all = [
            (self.buddyinfo, File::Buddyinfo),
            (self.zoneinfo, File::Zoneinfo),
            (self.pagetypeinfo, File::Pagetypeinfo),
            (self.meminfo, File::Meminfo),
            (self.iomem, File::Iomem),
            (self.vmallocinfo, File::Vmallocinfo),
            (self.slabinfo, File::Slabinfo),
            (self.sections, File::Sections),
            (self.hugepages, File::Hugepages),
        ];
        all.into_iter().filter(|(is_chosen, _)| *is_chosen).map(|(_, file)| file).collect()
    }
}

/// Prints.
pub fn run(args: &InfoArgs) -> Outcome {
    let files = args.files.chosen();
    // What cannot be answered is said first, not after a boot.
    if let Some((file, why)) = files.iter().find_map(|file| Some((file.name(), file.comes_later()?))) {
        return Err(Failure::beyond(format!("--{file}: a boot ends where the page allocator takes over: {why} yet")));
    }
    let opened = args.kernel.open(args.source.as_deref())?;
    let texts = if files == [File::Hugepages] {
        vec![(File::Hugepages, huge(&opened)?)]
    } else {
        opened.boot(|kernel, record| {
            files.iter().map(|file| Ok((*file, text(&opened, kernel, record, *file)?))).collect()
        })?
    };
    let mut out = Out::new();
    // Writing to `Out` cannot fail: it ends the program itself.
    let _ = if args.json { json(&opened, &texts, &mut out) } else { print(&texts, &mut out) };
    Ok(ExitCode::SUCCESS)
}

/// One file alone is printed as it is.
fn print(texts: &[(File, String)], out: &mut impl fmt::Write) -> fmt::Result {
    for (at, (file, text)) in texts.iter().enumerate() {
        if texts.len() > 1 {
            let gap = if at > 0 { "\n" } else { "" };
            writeln!(out, "{gap}==> {} <==", file.name())?;
        }
        out.write_str(text)?;
    }
    Ok(())
}

fn json(opened: &Opened, texts: &[(File, String)], out: &mut impl fmt::Write) -> fmt::Result {
    let mut json = Json::new(out);
    json.answer("info")?;
    for (file, text) in texts {
        if *file == File::Hugepages {
            hugepages::json(huge_arch(opened), &mut json)?;
            continue;
        }
        json.open(Some(file.name()), '[')?;
        text.lines().try_for_each(|line| json.item(line))?;
        json.close(']')?;
    }
    json.finish()
}

const fn huge_arch(opened: &Opened) -> HugeArch {
    match opened.source.config.arch {
        Arch::Arm64 => HugeArch::Arm64,
        Arch::X86_64 => HugeArch::X86_64,
    }
}

fn huge(opened: &Opened) -> Result<String, Failure> {
    let mut text = String::new();
    hugepages::print(huge_arch(opened), &mut text).map_err(|_| unprinted(opened, File::Hugepages))?;
    Ok(text)
}

/// A string takes everything: only a value that cannot be shown fails.
fn unprinted(opened: &Opened, file: File) -> Failure {
    Failure::input(format!("{}: --{} cannot be shown", opened.name, file.name()))
}

fn text(opened: &Opened, kernel: &Booted<'_>, record: &BootRecord, file: File) -> Result<String, Failure> {
    let boot = Boot::new(&opened.source.machine, &opened.source.config);
    let of = OfBoot { boot, kernel };
    let known = |answer: Option<_>| answer.ok_or_else(|| unprinted(opened, file));
    let era = kernel.era();
    let direct_map = kernel.direct_map().known().unwrap_or_default();
    let texts =
        TextConfig::of(&opened.source.config.kconfig, true, direct_map.iter().any(|(bytes, _)| *bytes >= 1 << 30));
    let mut out = String::new();
    let printed = match file {
        File::Buddyinfo => proc::buddyinfo(&of.buddyinfo(), &mut out),
        File::Zoneinfo => proc::zoneinfo(era, &of.zoneinfo(&texts), &mut out),
        File::Meminfo => proc::meminfo(&of.meminfo(&texts, &direct_map), &mut out),
        File::Iomem => match of.iomem(record.log()) {
            Answer::Known(iomem) => proc::iomem(era, &iomem, &mut out),
            Answer::Absent(why) => {
                return Err(Failure::input(format!("{}: {why}; name them (--symbols)", opened.name)));
            }
        },
        File::Sections => {
            let bytes = known(kernel.memory_block_bytes().known())?;
            proc::memory_blocks(era, &of.memory_blocks(bytes), &mut out)
        }
        File::Hugepages => hugepages::print(huge_arch(opened), &mut out),
        File::Pagetypeinfo | File::Vmallocinfo | File::Slabinfo => Err(fmt::Error),
    };
    printed.map_err(|_| unprinted(opened, file))?;
    Ok(out)
}
