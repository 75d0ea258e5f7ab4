//! `info`: the files of `/proc` and sysfs about memory, of a kernel that has just come up.

use core::fmt;
use std::process::ExitCode;

use clap::Args;
use kernmem::Boot;
use kernmem_arch::hugetlb::HugeArch;
use kernmem_config::Arch;
use kernmem_live::{ProcError, ProcFile, proc_text};
use kernmem_report::json::Json;
use kernmem_report::{hugepages, proc};
use kernmem_view::proc::{OfBoot, Settled};
use kernmem_view::{Answer, KernelView};

use crate::Outcome;
use crate::args::KernelArgs;
use crate::failure::Failure;
use crate::machine::{Booted, Opened};
use crate::output::Out;

/// Which files, of a kernel that has just come up.
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
    /// /proc/pagetypeinfo: free blocks and pageblocks by migrate type
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
    Proc(ProcFile),
    Sections,
    Hugepages,
}

/// What a machine must have done before a file says anything.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Needs {
    /// Nothing: the file follows from the kernel alone.
    Nothing,
    /// A boot.
    Boot,
    /// A kernel that runs.
    Running,
}

impl File {
    const fn name(self) -> &'static str {
        match self {
            Self::Proc(file) => file.name(),
            Self::Sections => "sections",
            Self::Hugepages => "hugepages",
        }
    }

    const fn needs(self) -> Needs {
        match self {
            Self::Hugepages => Needs::Nothing,
            Self::Sections | Self::Proc(ProcFile::Iomem) => Needs::Boot,
            Self::Proc(_) => Needs::Running,
        }
    }
}

impl FileArgs {
    fn chosen(&self) -> Vec<File> {
        let all = [
            (self.buddyinfo, File::Proc(ProcFile::Buddyinfo)),
            (self.zoneinfo, File::Proc(ProcFile::Zoneinfo)),
            (self.pagetypeinfo, File::Proc(ProcFile::Pagetypeinfo)),
            (self.meminfo, File::Proc(ProcFile::Meminfo)),
            (self.iomem, File::Proc(ProcFile::Iomem)),
            (self.vmallocinfo, File::Proc(ProcFile::Vmallocinfo)),
            (self.slabinfo, File::Proc(ProcFile::Slabinfo)),
            (self.sections, File::Sections),
            (self.hugepages, File::Hugepages),
        ];
        all.into_iter().filter(|(is_chosen, _)| *is_chosen).map(|(_, file)| file).collect()
    }
}

/// Prints.
pub fn run(args: &InfoArgs) -> Outcome {
    let files = args.files.chosen();
    let opened = args.kernel.open(args.source.as_deref())?;
    let texts = texts(&opened, &files)?;
    let mut out = Out::new();
    // Writing to `Out` cannot fail: it ends the program itself.
    let _ = if args.json { json(&opened, &texts, &mut out) } else { print(&texts, &mut out) };
    Ok(ExitCode::SUCCESS)
}

/// The files' texts, from a machine that has gone no further than they need.
fn texts(opened: &Opened, files: &[File]) -> Result<Vec<(File, String)>, Failure> {
    match files.iter().map(|file| file.needs()).max() {
        None | Some(Needs::Nothing) => files.iter().map(|file| Ok((*file, huge(opened)?))).collect(),
        Some(Needs::Boot) => opened.boot(|kernel, record| {
            let boot = Boot::new(&opened.source.machine, &opened.source.config);
            let settled = Settled::of(boot, kernel, record);
            files.iter().map(|file| Ok((*file, of_boot(opened, kernel, &settled, *file)?))).collect()
        }),
        Some(Needs::Running) => opened.run(|of| {
            let text = |file: &File| match file {
                File::Proc(file) => proc_text(&of, *file).map_err(|error| untold(opened, &error)),
                file => of_boot(opened, &of.running.kernel, of.settled, *file),
            };
            files.iter().map(|file| Ok((*file, text(file)?))).collect()
        }),
    }
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

fn huge_arch(opened: &Opened) -> HugeArch {
    match opened.source.config.arch {
        Arch::Arm64 => HugeArch::Arm64,
        Arch::X86_64 => HugeArch::X86_64,
        Arch::I386 if opened.source.config.kconfig.is_set("X86_PAE") => HugeArch::I386Pae,
        Arch::I386 => HugeArch::I386,
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

fn untold(opened: &Opened, error: &ProcError) -> Failure {
    let hint = if matches!(error, ProcError::Unknown(_)) { "; name them (--symbols)" } else { "" };
    Failure::input(format!("{}: {error}{hint}", opened.name))
}

/// The text of a file that is settled once the kernel has booted.
fn of_boot(opened: &Opened, kernel: &Booted<'_>, settled: &Settled, file: File) -> Result<String, Failure> {
    let era = kernel.era();
    let mut out = String::new();
    let printed = match file {
        File::Sections => {
            let bytes = kernel.memory_block_bytes().known().ok_or_else(|| unprinted(opened, file))?;
            let boot = Boot::new(&opened.source.machine, &opened.source.config);
            proc::memory_blocks(era, &OfBoot { boot, kernel }.memory_blocks(bytes), &mut out)
        }
        File::Hugepages => hugepages::print(huge_arch(opened), &mut out),
        File::Proc(_) => match settled.iomem() {
            Answer::Known(iomem) => proc::iomem(era, iomem, &mut out),
            Answer::Absent(why) => return Err(untold(opened, &ProcError::Unknown(why))),
        },
    };
    printed.map_err(|_| unprinted(opened, file))?;
    Ok(out)
}
