//! Tables of arm64: which kernels exist, which bits are in use, what a seed moves.

use kernmem_arch::arm64::{
    self, FixmapFacts, Layout, LayoutFacts, has_kasan, kaslr, linear, va_bits_choices, va_bits_min,
};
use kernmem_base::{Era, Granule, PhysAddr, VirtAddr};
use kernmem_config::{Arch, Arm64Cpu, Config};
use kernmem_report::layout::{self, Moved, Table};

use super::{Kasan, LayoutArgs, Tables};
use crate::failure::Failure;
use crate::machine::Opened;

/// The tables of all eras that have such a kernel; an era that is asked alone must have it.
///
/// A kernel of 52 bits has two where nobody tells its CPU: with them and without.
pub(super) fn tables(args: &LayoutArgs, opened: &Opened, eras: &[Era]) -> Result<Tables, Failure> {
    if args.levels.is_some() || args.bases.is_some() {
        return Err(Failure::input("--levels and --bases are x86's; arm64 has --page-size and --va-bits"));
    }
    let (mut tables, mut notes) = (Vec::new(), Vec::new());
    for era in eras {
        match kernels(args, opened, *era) {
            Ok(kernels) => tables.extend(kernels.iter().map(|facts| table(args, opened, facts))),
            Err(refusal) if eras.len() > 1 => notes.push(format!("{}.", refusal.why)),
            Err(refusal) => {
                let Refusal { option, why, advice } = refusal;
                return Err(Failure::input(format!("{option}: {why}; {advice}")));
            }
        }
    }
    if tables.is_empty() {
        return Err(Failure::input(format!("no era has such a kernel: {}", notes.join(" "))));
    }
    if args.kernel.seed.is_some() && tables.iter().all(|table| table.moved.is_empty()) {
        notes.push("Nothing is drawn: RANDOMIZE_BASE is off, the seed is 0, or nokaslr forbids it.".to_owned());
    }
    // Kernels with all of their bits before those with fewer: each kind may stand side by side.
    tables.sort_by_key(|table| table.va_bits != table.va_bits_in_use);
    Ok(Tables { tables, notes, beside: eras.len() > 1 })
}

/// Why there is no such kernel.
struct Refusal {
    option: String,
    why: String,
    advice: &'static str,
}

/// The kernels of one era: one, or with and without 52 bits in use.
fn kernels(args: &LayoutArgs, opened: &Opened, era: Era) -> Result<Vec<LayoutFacts>, Refusal> {
    let config = &opened.source.config;
    let granule = config.kconfig.arm64_granule();
    let page = granule.bytes() >> 10;
    // Another page size without a word about bits takes the most that all eras know.
    let own = config.kconfig.arm64_va_bits().filter(|_| args.kernel.page_size.is_none());
    let va_bits = args.kernel.va_bits.or(own).unwrap_or(48);
    let choices = va_bits_choices(era, granule);
    if !choices.contains(&va_bits) {
        let known: Vec<String> = choices.iter().map(u32::to_string).collect();
        let why = format!("Linux {era} with {page}K pages has {}", known.join(", "));
        return Err(Refusal { option: format!("--va-bits {va_bits}"), why, advice: "choose one of them" });
    }
    let (mode, spelled) = kasan(args, config);
    if !has_kasan(era, granule, va_bits, mode) {
        let why = format!("Linux {era} with {page}K pages and {va_bits} bits has no such shadow");
        return Err(Refusal { option: format!("--kasan {spelled}"), why, advice: "choose another" });
    }
    let in_use = in_use(args, config, era, granule, va_bits)?;
    let fixmap = fixmap(config, era, granule);
    let of = |va_bits_actual| LayoutFacts { era, granule, va_bits, va_bits_actual, kasan: mode, fixmap };
    Ok(in_use.into_iter().map(of).collect())
}

fn kasan(args: &LayoutArgs, config: &Config) -> (arm64::Kasan, &'static str) {
    let set = |name| config.kconfig.is_set(name);
    let told = args.kasan.unwrap_or_else(|| match (set("KASAN_GENERIC"), set("KASAN_SW_TAGS")) {
        (true, _) => Kasan::Generic,
        (false, true) => Kasan::SwTags,
        (false, false) => Kasan::Off,
    });
    let mode = match told {
        Kasan::Off => arm64::Kasan::Off,
        Kasan::Generic => arm64::Kasan::Generic,
        Kasan::SwTags => arm64::Kasan::SwTags,
    };
    (mode, told.name())
}

fn fixmap(config: &Config, era: Era, granule: Granule) -> FixmapFacts {
    let set = |name| config.kconfig.is_set(name);
    let nested = era == Era::V7_2 && set("KVM");
    FixmapFacts {
        era,
        granule,
        relocatable: set("RELOCATABLE"),
        unmap_at_el0: set("UNMAP_KERNEL_AT_EL0"),
        ghes: set("ACPI_APEI_GHES"),
        sdei: set("ARM_SDE_INTERFACE"),
        vncr_slots: if nested { config.kconfig.number("NR_CPUS").unwrap_or(0) } else { 0 },
    }
}

/// The bits in use: as many as configured, or fewer than 52 on a CPU or command line without them; both where nobody
/// tells the CPU.
fn in_use(args: &LayoutArgs, config: &Config, era: Era, granule: Granule, va_bits: u32) -> Result<Vec<u32>, Refusal> {
    let cpu = config.cpu.arm64().filter(|_| args.tells_cpu());
    if let Some(cpu) = cpu.filter(|cpu| !cpu.has_granule(granule)) {
        let why = format!("this CPU has no {}K pages", granule.bytes() >> 10);
        return Err(Refusal { option: format!("--cpu {}", cpu.model), why, advice: "choose another" });
    }
    let least = va_bits_min(granule, va_bits);
    let turned_off = matches!(era, Era::V6_12 | Era::V7_2) && config.cmdline.has("arm64.nolva");
    Ok(match cpu {
        _ if va_bits != 52 => vec![va_bits],
        _ if turned_off && args.tells_cmdline() => vec![least],
        Some(cpu) if cpu.has_52_bits(granule) => vec![va_bits],
        Some(_) => vec![least],
        None => vec![va_bits, least],
    })
}

fn table(args: &LayoutArgs, opened: &Opened, facts: &LayoutFacts) -> Table {
    layout::arm64_table(facts, moved(args, opened, facts))
}

/// What the seed moves, or what is given: the image, and memory in the linear map.
fn moved(args: &LayoutArgs, opened: &Opened, facts: &LayoutFacts) -> Vec<Moved> {
    let (machine, config) = (&opened.source.machine, &opened.source.config);
    if args.names_machine() && args.kernel.seed.is_none() {
        let given = [("_text, as given", config.given.text_virt), ("memory, as given", config.given.linear_start)];
        let given: Vec<Moved> =
            given.into_iter().filter_map(|(what, va)| Some(Moved { what: what.to_owned(), va: va? })).collect();
        if !given.is_empty() {
            return given;
        }
    }
    let seed = machine.kaslr_seed.filter(|_| args.names_machine() || args.kernel.seed.is_some()).unwrap_or(0);
    let off = args.tells_cmdline() && config.cmdline.nokaslr(facts.era, Arch::Arm64);
    let starts = machine.memory.iter().map(|bank| bank.range.start).min();
    let (Some(start), false) = (starts, seed == 0 || off || !config.kconfig.is_set("RANDOMIZE_BASE")) else {
        return Vec::new();
    };
    let end = machine.memory.iter().map(|bank| bank.range.end).max().unwrap_or(start);
    let layout = Layout::new(facts);
    let text = config.given.text_phys.map_or(start.0, |text| text.0);
    let least = va_bits_min(facts.granule, facts.va_bits);
    let moved = kaslr::displacement(facts.era, least, &layout, text, seed);
    let first = first_byte(config, facts, &layout, (start, end), moved.memstart_seed);
    vec![
        Moved { what: format!("_text, moved up by {:#x}", moved.image), va: layout.kimage.wrapping_add(moved.image) },
        Moved { what: format!("memory at {:#x} in the linear map", start.0), va: first },
    ]
}

/// Where the first byte of memory is in the linear map.
fn first_byte(
    config: &Config,
    facts: &LayoutFacts,
    layout: &Layout,
    (start, end): (PhysAddr, PhysAddr),
    seed: u16,
) -> VirtAddr {
    let align = linear::memstart_align(facts.era, facts.granule);
    let region = layout.linear_region_size();
    let physical_bits = config.cpu.arm64().map_or(48, Arm64Cpu::physical_bits);
    let mut memstart = start.0 & !(align - 1);
    if memstart.saturating_add(region) < end.0 {
        memstart = (end.0 - region).next_multiple_of(align);
    }
    let offset = kaslr::memstart_offset(facts.era, region, end - start, physical_bits, align, seed);
    let memstart = memstart.wrapping_sub(layout.unused_below()).wrapping_sub(offset);
    kaslr::linear_address(layout, memstart, start.0)
}
