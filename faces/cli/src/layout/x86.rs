//! Tables of x86-64: how many levels, and where the three large regions are.

use kernmem_arch::x86::kaslr::{RegionFacts, Regions, Switches, draws};
use kernmem_arch::x86::layout::{Bases, Layout, LayoutFacts, Paging, PagingFacts};
use kernmem_base::{Era, Pfn, PhysAddr};
use kernmem_config::{Arch, Config};
use kernmem_report::layout::{self, Moved, Table};

use super::{Kasan, LayoutArgs, Tables};
use crate::failure::Failure;
use crate::machine::Opened;

/// The tables of all eras.
pub(super) fn tables(args: &LayoutArgs, opened: &Opened, eras: &[Era]) -> Result<Tables, Failure> {
    if args.kernel.page_size.is_some_and(|granule| granule.shift() != 12) {
        return Err(Failure::input("--page-size: x86-64 has pages of 4K alone; leave it out"));
    }
    if args.kasan == Some(Kasan::SwTags) {
        return Err(Failure::input("--kasan sw-tags: x86-64 has no such shadow; choose generic or off"));
    }
    let (mut tables, mut drawn) = (Vec::new(), false);
    for era in eras {
        let table = table(args, opened, *era)?;
        drawn |= !table.moved.is_empty();
        tables.push(table);
    }
    let notes = match (args.kernel.seed, drawn) {
        (Some(_), false) => {
            vec!["Nothing is drawn: RANDOMIZE_MEMORY is off, or KASAN or nokaslr forbids it.".to_owned()]
        }
        _ => Vec::new(),
    };
    Ok(Tables { tables, notes, beside: false })
}

/// The levels that the kernel is built for, and those that the CPU and the command line leave.
///
/// Without a word about them a kernel that can have five runs with four unless the CPU that is told has them.
fn paging(args: &LayoutArgs, config: &Config, era: Era) -> Result<(Paging, Paging), Failure> {
    if let Some(levels @ ..4) = args.levels {
        return Err(Failure::input(format!("--levels {levels}: x86-64 has 4 or 5")));
    }
    let wished = match (args.levels, args.kernel.va_bits) {
        (Some(levels), None) => Some(levels),
        (None | Some(4), Some(48)) => Some(4),
        (None | Some(5), Some(57)) => Some(5),
        (None, None) => None,
        (_, Some(bits)) => {
            return Err(Failure::input(format!("--va-bits {bits}: x86-64 has 48 with 4 levels and 57 with 5")));
        }
    };
    let has = config.cpu.x86().is_some_and(|cpu| cpu.has("la57"));
    let no5lvl = args.tells_cmdline() && config.cmdline.no5lvl();
    let facts = |built, la57| PagingFacts { built, la57, no5lvl };
    Ok(match wished {
        Some(5) => (Paging::Level5, Paging::choose(era, facts(true, has || !args.tells_cpu()))),
        Some(_) => (Paging::Level4, Paging::Level4),
        None => {
            let in_use = Paging::choose(era, facts(config.kconfig.is_set("X86_5LEVEL"), has && args.tells_cpu()));
            (in_use, in_use)
        }
    })
}

fn table(args: &LayoutArgs, opened: &Opened, era: Era) -> Result<Table, Failure> {
    let config = &opened.source.config;
    let (built, in_use) = paging(args, config, era)?;
    let set = |name| config.kconfig.is_set(name);
    let number = |name, default| config.kconfig.number(name).unwrap_or(default);
    let kasan = args.kasan.map_or_else(|| set("KASAN"), |mode| mode != Kasan::Off);
    let facts = LayoutFacts {
        era,
        paging: in_use,
        randomize_base: set("RANDOMIZE_BASE"),
        kasan,
        kmsan: set("KMSAN"),
        force_kmap_local: set("DEBUG_KMAP_LOCAL_FORCE_MAP"),
        physical_start: number("PHYSICAL_START", 0x100_0000),
        physical_align: number("PHYSICAL_ALIGN", 0x20_0000),
    };
    let fixed = Bases::fixed(era, in_use);
    let drawn = regions(args, opened, &facts);
    let bases = match (args.bases, &drawn) {
        (Some([page_offset, vmalloc, vmemmap]), _) => Bases { page_offset, vmalloc, vmemmap },
        (None, Some((_, regions))) => regions.bases,
        (None, None) => given(args, config).unwrap_or(fixed),
    };
    check(&facts, &bases)?;
    let mut layout = Layout::new(&facts, bases);
    let moved = match drawn {
        Some((facts, regions)) if args.bases.is_none() => {
            layout.physmem_last = PhysAddr((facts.sizes_tb()[0] << 40) - 1);
            moved(&facts, &regions)
        }
        _ if args.names_machine() => {
            let text = config.given.text_virt.map(|va| Moved { what: "_text, as given".to_owned(), va });
            text.into_iter().collect()
        }
        _ => Vec::new(),
    };
    Ok(layout::x86_table(&layout, built, moved))
}

/// Bases that a recording or a description tells; a preset's are those that every kernel has.
fn given(args: &LayoutArgs, config: &Config) -> Option<Bases> {
    let given = config.given.clone();
    if !args.names_machine() {
        return None;
    }
    Some(Bases { page_offset: given.page_offset_base?, vmalloc: given.vmalloc_base?, vmemmap: given.vmemmap_base? })
}

/// Refuses bases that no such kernel draws.
fn check(facts: &LayoutFacts, bases: &Bases) -> Result<(), Failure> {
    if bases.can_be_drawn(facts.era, facts.paging) {
        return Ok(());
    }
    let (least, tb) = (Bases::fixed(facts.era, facts.paging).page_offset.0, facts.paging.vmalloc_tb());
    let order = "direct map, vmalloc, page descriptors";
    Err(Failure::input(format!(
        "--bases: {order} in this order, whole gigabytes from {least:x} on, vmalloc of {tb} TB"
    )))
}

/// The regions that the seed draws, if anything is drawn.
fn regions(args: &LayoutArgs, opened: &Opened, layout: &LayoutFacts) -> Option<(RegionFacts, Regions)> {
    let (machine, config) = (&opened.source.machine, &opened.source.config);
    let seed = machine.kaslr_seed.filter(|_| args.names_machine() || args.kernel.seed.is_some())?;
    let switches = Switches {
        randomize_memory: config.kconfig.is_set("RANDOMIZE_MEMORY"),
        loader_flag: !(args.tells_cmdline() && config.cmdline.nokaslr(layout.era, Arch::X86_64)),
        kasan: layout.kasan,
    };
    if !switches.regions() {
        return None;
    }
    let limit = layout.paging.max_arch_pfn().0;
    let facts = RegionFacts {
        era: layout.era,
        paging: layout.paging,
        max_pfn: Pfn(machine.e820.end_pfn(layout.era, limit, limit)),
        padding_tb: config.kconfig.number("RANDOMIZE_MEMORY_PHYSICAL_PADDING").unwrap_or(0),
        zone_device: config.kconfig.is_set("ZONE_DEVICE"),
        struct_page_bytes: config.sizes.get("sizeof_page").unwrap_or(64),
    };
    Some((facts, facts.place(draws(seed))))
}

/// The three bases, with the size of each region and the gap that was drawn before it.
fn moved(facts: &RegionFacts, regions: &Regions) -> Vec<Moved> {
    const GIB: u64 = 1 << 30;
    let bases = [regions.bases.page_offset, regions.bases.vmalloc, regions.bases.vmemmap];
    let names = ["page_offset_base", "vmalloc_base", "vmemmap_base"];
    let mut end = Bases::fixed(facts.era, facts.paging).page_offset.0;
    let all = bases.into_iter().zip(names).zip(facts.sizes_tb());
    all.map(|((va, name), tb)| {
        let gap = (va.0 - end) / GIB;
        end = (va.0 + (tb << 40) + 1).next_multiple_of(GIB);
        Moved { what: format!("{name}: {tb} TB, {gap} GB behind the region before"), va }
    })
    .chain([end_of_memory(regions.physmem_last)])
    .collect()
}

fn end_of_memory(last: PhysAddr) -> Moved {
    Moved { what: "last physical address that the direct map can hold".to_owned(), va: kernmem_base::VirtAddr(last.0) }
}
