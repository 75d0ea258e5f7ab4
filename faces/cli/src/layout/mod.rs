//! `layout`: the regions of an address space, for any era.
//!
//! Here: the options, which eras, and the form of the answer. Each architecture's file makes the tables.

mod arm64;
mod i386;
mod x86;

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use kernmem_base::{Era, Granule, VirtAddr};
use kernmem_config::Arch;
use kernmem_report::layout::{self, Table};
use kernmem_source::PRESETS;

use crate::Outcome;
use crate::args::{Eras, KernelArgs, parse_eras};
use crate::failure::Failure;
use crate::machine::Opened;
use crate::numbers::{parse_address, parse_number, parse_size};
use crate::output::Out;

/// KASAN's modes as options spell them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Kasan {
    /// No shadow
    Off,
    /// A byte for 8 bytes
    Generic,
    /// A byte for 16 bytes (arm64)
    SwTags,
}

impl Kasan {
    /// The option's own spelling.
    const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Generic => "generic",
            Self::SwTags => "sw-tags",
        }
    }
}

/// The three bases of x86-64.
fn parse_bases(text: &str) -> Result<[VirtAddr; 3], &'static str> {
    const WRONG: &str = "three addresses such as ffff888000000000,ffffc90000000000,ffffea0000000000 expected";
    let addresses: Vec<VirtAddr> =
        text.split(',').map(|one| parse_address(one).map(VirtAddr)).collect::<Result<_, _>>().map_err(|_| WRONG)?;
    addresses.try_into().map_err(|_| WRONG)
}

/// Whose regions.
#[derive(Args, Debug)]
pub struct LayoutArgs {
    /// A source whose kernel configuration counts; the preset's otherwise
    source: Option<String>,
    /// Branch of Linux: 4.14, 5.10, 6.1, 6.12, 7.2, or all side by side
    #[arg(long, value_parser = parse_eras)]
    era: Option<Eras>,
    /// KASAN's shadow; the configuration's otherwise
    #[arg(long, value_enum)]
    kasan: Option<Kasan>,
    /// Levels of tables that the kernel is built for: x86-64 4 or 5, i386 2 or 3
    #[arg(long, value_parser = clap::value_parser!(u32).range(2..=5))]
    levels: Option<u32>,
    /// x86-64: drawn bases of direct map, vmalloc and page descriptors
    #[arg(long, value_name = "A,B,C", value_parser = parse_bases)]
    bases: Option<Bases>,
    /// Answer as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    kernel: LayoutKernelArgs,
}

type Bases = [VirtAddr; 3];

/// The kernel's options without the era, which may be several here.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "The kernel")]
struct LayoutKernelArgs {
    /// Architecture: arm64, x86-64 or i386
    #[arg(long, value_parser = crate::args::parse_arch)]
    arch: Option<Arch>,
    /// arm64: page size, 4K, 16K or 64K
    #[arg(long, value_parser = crate::args::parse_page_size)]
    page_size: Option<Granule>,
    /// Bits of virtual addresses; on x86-64 48 or 57
    #[arg(long)]
    va_bits: Option<u32>,
    /// The kernel's command line
    #[arg(long, allow_hyphen_values = true)]
    cmdline: Option<String>,
    /// The kernel's configuration file
    #[arg(long, value_name = "FILE")]
    kconfig: Option<std::path::PathBuf>,
    /// arm64: the CPU's model; x86: a list of features
    #[arg(long)]
    cpu: Option<String>,
    /// Seed of KASLR: tells what moves
    #[arg(long, value_parser = parse_number)]
    seed: Option<u64>,
    /// Memory in place of the machine's, such as 64G
    #[arg(long, value_parser = parse_size, value_name = "SIZE")]
    memory: Option<u64>,
}

impl LayoutArgs {
    fn open(&self) -> Result<Opened, Failure> {
        let LayoutKernelArgs { arch, page_size, va_bits: _, cmdline, kconfig, cpu, seed, memory } = self.kernel.clone();
        let kernel = KernelArgs { arch, cmdline, kconfig, cpu, seed, memory, ..KernelArgs::default() };
        // Regions follow from rules alone: no kernel has to be built in.
        let mut opened = kernel.open(self.source.as_deref())?;
        if let Some(granule) = page_size {
            opened.source.config.kconfig.set_arm64_pages(granule);
        }
        Ok(opened)
    }

    /// Whether the machine is one that the caller means: a preset lends its configuration alone.
    fn names_machine(&self) -> bool {
        self.source.as_deref().is_some_and(|source| !PRESETS.contains(&source))
    }

    /// Whether the CPU counts.
    fn tells_cpu(&self) -> bool {
        self.names_machine() || self.kernel.cpu.is_some()
    }

    /// Whether the command line counts.
    fn tells_cmdline(&self) -> bool {
        self.names_machine() || self.kernel.cmdline.is_some()
    }
}

/// Prints.
pub fn run(args: &LayoutArgs) -> Outcome {
    let opened = args.open()?;
    let config = &opened.source.config;
    let eras = match args.era {
        Some(Eras::All) => Era::ALL.to_vec(),
        Some(Eras::One(era)) => vec![era],
        None => vec![config.era],
    };
    match config.arch {
        Arch::Arm64 => answer(args, &arm64::tables(args, &opened, &eras)?, layout::print_arm64),
        Arch::X86_64 => answer(args, &x86::tables(args, &opened, &eras)?, layout::print_x86),
        Arch::I386 => answer(args, &i386::tables(args, &opened, &eras)?, layout::print_i386),
    }
    Ok(ExitCode::SUCCESS)
}

/// Tables, and what is said behind them.
struct Tables {
    tables: Vec<Table>,
    /// Whole sentences: eras without such a kernel, seeds that draw nothing.
    notes: Vec<String>,
    /// Neighbours with the same bits in use stand side by side; else every table by itself.
    beside: bool,
}

/// Writing to `Out` cannot fail: it ends the program itself.
fn answer(args: &LayoutArgs, all: &Tables, print: fn(&Table, &mut Out) -> core::fmt::Result) {
    let mut out = Out::new();
    if args.json {
        let _ = layout::json(&all.tables, &mut out);
        return;
    }
    let same = |one: &Table, two: &Table| all.beside && one.va_bits_in_use == two.va_bits_in_use;
    for (nr, group) in all.tables.chunk_by(same).enumerate() {
        if nr > 0 {
            out.text("\n");
        }
        let _ = match group {
            [only] => print(only, &mut out),
            several => layout::print_arm64_eras(several, &mut out),
        };
    }
    for sentence in &all.notes {
        out.text(&format!("\n  {sentence}\n"));
    }
}
