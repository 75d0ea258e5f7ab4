//! `layout`: the regions of an address space, for any era.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use kernmem_arch::arm64::{FixmapFacts, LayoutFacts, va_bits_choices};
use kernmem_arch::{arm64, x86};
use kernmem_base::Era;
use kernmem_config::{Arch, Config};
use kernmem_report::layout;

use crate::Outcome;
use crate::args::{Eras, KernelArgs, parse_eras};
use crate::failure::Failure;
use crate::output::Out;

/// KASAN's modes as options spell them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Kasan {
    /// No shadow
    Off,
    /// A byte for 8 bytes
    Generic,
    /// A byte for 16 bytes
    SwTags,
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
    /// x86-64: levels of tables, 4 or 5
    #[arg(long, value_parser = clap::value_parser!(u32).range(4..=5), default_value_t = 4)]
    levels: u32,
    /// Answer as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    kernel: LayoutKernelArgs,
}

/// The kernel's options without the era, which may be several here.
#[derive(Args, Clone, Debug)]
struct LayoutKernelArgs {
    /// Architecture: arm64 or x86-64
    #[arg(long, value_parser = crate::args::parse_arch)]
    arch: Option<Arch>,
    /// arm64: page size, 4K, 16K or 64K
    #[arg(long, value_parser = crate::args::parse_page_size)]
    page_size: Option<kernmem_base::Granule>,
    /// arm64: bits of virtual addresses
    #[arg(long)]
    va_bits: Option<u32>,
    /// The kernel's configuration file
    #[arg(long, value_name = "FILE")]
    kconfig: Option<std::path::PathBuf>,
}

impl LayoutArgs {
    fn arm64_facts(&self, config: &Config, era: Era) -> Result<LayoutFacts, Failure> {
        let set = |name| config.kconfig.is_set(name);
        let granule = config.kconfig.arm64_granule();
        let choices = va_bits_choices(era, granule);
        // Another page size without a word about bits takes the most that all eras know.
        let told =
            self.kernel.va_bits.or_else(|| config.kconfig.arm64_va_bits().filter(|_| self.kernel.page_size.is_none()));
        let va_bits = told.unwrap_or(48);
        if !choices.contains(&va_bits) {
            let known: Vec<String> = choices.iter().map(u32::to_string).collect();
            let page = granule.bytes() >> 10;
            return Err(Failure::input(format!(
                "--va-bits {va_bits}: Linux {era} with {page}K pages has {}; choose one of them",
                known.join(", ")
            )));
        }
        let kasan = match self.kasan {
            Some(Kasan::Off) => arm64::Kasan::Off,
            Some(Kasan::Generic) => arm64::Kasan::Generic,
            Some(Kasan::SwTags) => arm64::Kasan::SwTags,
            None if set("KASAN_GENERIC") => arm64::Kasan::Generic,
            None if set("KASAN_SW_TAGS") => arm64::Kasan::SwTags,
            None => arm64::Kasan::Off,
        };
        let fixmap = FixmapFacts {
            era,
            granule,
            relocatable: set("RELOCATABLE"),
            unmap_at_el0: set("UNMAP_KERNEL_AT_EL0"),
            ghes: set("ACPI_APEI_GHES"),
            sdei: set("ARM_SDE_INTERFACE"),
            vncr_slots: 0,
        };
        Ok(LayoutFacts { era, granule, va_bits, va_bits_actual: va_bits, kasan, fixmap })
    }

    fn x86_layout(&self, config: &Config, era: Era) -> x86::layout::Layout {
        let set = |name| config.kconfig.is_set(name);
        let number = |name, default| config.kconfig.number(name).unwrap_or(default);
        let paging = if self.levels == 5 { x86::layout::Paging::Level5 } else { x86::layout::Paging::Level4 };
        let facts = x86::layout::LayoutFacts {
            era,
            paging,
            randomize_base: set("RANDOMIZE_BASE"),
            kasan: self.kasan.map_or_else(|| set("KASAN"), |mode| mode != Kasan::Off),
            kmsan: set("KMSAN"),
            force_kmap_local: set("DEBUG_KMAP_LOCAL_FORCE_MAP"),
            physical_start: number("PHYSICAL_START", 0x100_0000),
            physical_align: number("PHYSICAL_ALIGN", 0x20_0000),
        };
        x86::layout::Layout::new(&facts, x86::layout::Bases::fixed(era, paging))
    }
}

/// Prints.
pub fn run(args: &LayoutArgs) -> Outcome {
    let LayoutKernelArgs { arch, page_size, va_bits, kconfig } = args.kernel.clone();
    let kernel = KernelArgs { arch, page_size, va_bits, kconfig, ..KernelArgs::default() };
    let opened = kernel.open(args.source.as_deref())?;
    let config = &opened.source.config;
    let eras = match args.era {
        Some(Eras::All) => Era::ALL.to_vec(),
        Some(Eras::One(era)) => vec![era],
        None => vec![config.era],
    };
    match config.arch {
        Arch::Arm64 => arm64_tables(args, config, &eras),
        Arch::X86_64 => {
            x86_tables(args, config, &eras);
            Ok(ExitCode::SUCCESS)
        }
        Arch::I386 => Err(Failure::beyond("the layout of i386".to_owned())),
    }
}

fn arm64_tables(args: &LayoutArgs, config: &Config, eras: &[Era]) -> Outcome {
    let facts: Result<Vec<LayoutFacts>, Failure> = eras.iter().map(|era| args.arm64_facts(config, *era)).collect();
    let facts = facts?;
    let mut out = Out::new();
    // Writing to `Out` cannot fail: it ends the program itself.
    let _ = if args.json {
        let rows = |facts: &LayoutFacts| layout::arm64_rows(&arm64::Layout::new(facts), facts);
        let all: Vec<_> = facts.iter().map(|facts| (facts.era, "arm64", rows(facts))).collect();
        layout::json(&all, &mut out)
    } else if let [only] = facts.as_slice() {
        layout::print_arm64(only, &mut out)
    } else {
        layout::print_arm64_eras(&facts, &mut out)
    };
    Ok(ExitCode::SUCCESS)
}

fn x86_tables(args: &LayoutArgs, config: &Config, eras: &[Era]) {
    let all: Vec<_> = eras.iter().map(|era| args.x86_layout(config, *era)).collect();
    let mut out = Out::new();
    if args.json {
        let all: Vec<_> = all.iter().map(|own| (own.era, "x86_64", layout::x86_rows(own))).collect();
        let _ = layout::json(&all, &mut out);
        return;
    }
    for (nr, own) in all.iter().enumerate() {
        if nr > 0 {
            out.text("\n");
        }
        let _ = layout::print_x86(own, &mut out);
    }
}
