//! Layout and protections of i386 against the constants that a compiler took out of the kernels' headers.

use kernmem_arch::i386::layout::{self, Layout, LayoutFacts, Paging, Split};
use kernmem_arch::i386::{SWP_EXCLUSIVE, cpu_entry_area, early, saved_dirty};
use kernmem_arch::x86::bit;
use kernmem_arch::x86::cpu_entry_area::{Part, PartName};
use kernmem_arch::x86::fixmap::{self, Fixmap};
use kernmem_arch::x86::layout::ISA_HOLE;
use kernmem_arch::x86::prealloc;
use kernmem_arch::x86::prot::{Masks, Prot, table};
use kernmem_base::Era;

const LAYOUT_ROWS: &str = include_str!("../../../testing/golden/x86_layout.csv");
const PROT_ROWS: &str = include_str!("../../../testing/golden/x86_prot.csv");

fn hex(text: &str) -> u64 {
    u64::from_str_radix(text.trim_start_matches("0x"), 16).expect("a hexadecimal value")
}

/// The build that the rows come from (testing/golden: SMP, local and IO APIC, PCI MMCONFIG).
struct Build {
    facts: LayoutFacts,
    layout: Layout,
    fixmap: Fixmap,
}

impl Build {
    /// `option` is `VMSPLIT_x+highmem`, `VMSPLIT_x+nohighmem`, with `+NR_CPUS=n` behind it or not.
    fn new(era: Era, arch: &str, option: &str) -> Self {
        let mut words = option.split('+');
        let split = words.next().expect("a split");
        let split = Split::ALL.into_iter().find(|(_, name)| *name == split).expect("a known split").0;
        let highmem = words.next() == Some("highmem");
        let nr_cpus = words
            .next()
            .and_then(|word| word.strip_prefix("NR_CPUS="))
            .map_or(8, |cpus| cpus.parse().expect("a number"));
        let facts = LayoutFacts {
            era,
            paging: if arch == "i386" { Paging::Level2 } else { Paging::Pae },
            split,
            highmem,
            nr_cpus,
            local_apic: true,
            io_apic: true,
            pcie_mcfg: true,
            ohci1394: false,
            paravirt: false,
            ghes: false,
            txt: false,
            reserved_top: 0,
            vmalloc: None,
            physical_start: 0x100_0000,
            physical_align: 0x20_0000,
        };
        let (layout, fixmap) = Layout::new(&facts);
        Self { facts, layout, fixmap }
    }
}

/// Offset or size of a member of a CPU's entry area.
fn member(name: &str) -> Option<u64> {
    let (path, what) = name.split_once(' ')?;
    let (_, field) = path.split_once('.')?;
    let parts = cpu_entry_area::parts(true);
    let named = |name| parts.iter().position(|part| part.name == name);
    let at = match field {
        "gdt" => named(PartName::Gdt)?,
        "entry_stack_page" => named(PartName::EntryStack)?,
        "doublefault_stack" => named(PartName::DoubleFault)?,
        "guard_entry_stack" => named(PartName::EntryStack)? - 1,
        "guard_doublefault_stack" => named(PartName::DoubleFault)? - 1,
        "tss" => named(PartName::Tss)?,
        "cpu_debug_store" => named(PartName::DebugStore)?,
        "cpu_debug_buffers" => named(PartName::DebugBuffers)?,
        _ => return None,
    };
    let Part { offset, pages, .. } = parts[at];
    match what {
        "offset" => Some(offset),
        "size" => Some(pages * 4096),
        _ => None,
    }
}

/// What our rules say about a constant.
fn layout_value(build: &Build, name: &str) -> Option<u64> {
    let (l, f, paging) = (&build.layout, &build.fixmap, build.facts.paging);
    let facts = &build.facts;
    let large = paging.large();
    let root = u64::from(paging.root_shift());
    let is_pae = paging == Paging::Pae;
    let kmap = layout::kmap_pages(facts.era, facts.highmem, facts.nr_cpus);
    let entry_areas = facts.nr_cpus * cpu_entry_area::AREA_BYTES;
    Some(match name {
        "PAGE_SHIFT" => 12,
        "PAGE_SIZE" => 1 << 12,
        "PTRS_PER_PTE" => paging.table_entries(),
        "PMD_SHIFT" => large.ilog2().into(),
        "PMD_SIZE" => large,
        "PTRS_PER_PMD" if is_pae => paging.table_entries(),
        "PTRS_PER_PMD" | "PTRS_PER_PUD" | "PTRS_PER_P4D" | "MAX_PTRS_PER_P4D" => 1, // folded
        "PGDIR_SHIFT" | "PUD_SHIFT" | "P4D_SHIFT" => root,
        "PGDIR_SIZE" | "PUD_SIZE" | "P4D_SIZE" => 1 << root,
        "PTRS_PER_PGD" => l.root_entries(),
        "PAGE_OFFSET" | "__START_KERNEL_map" => l.page_offset.0,
        "TASK_SIZE_MAX" | "DEFAULT_MAP_WINDOW" => l.page_offset.0,
        "KERNEL_IMAGE_SIZE" => layout::KERNEL_IMAGE_SIZE,
        "__PHYSICAL_START" | "LOAD_PHYSICAL_ADDR" => l.text_link - l.page_offset,
        "__START_KERNEL" => l.text_link.0,
        "CONFIG_PHYSICAL_START" => facts.physical_start,
        "CONFIG_PHYSICAL_ALIGN" => facts.physical_align,
        "MODULES_END" | "VMALLOC_END" => l.vmalloc_end.0,
        "VMALLOC_START(full lowmem)" => l.vmalloc_start().0,
        "VMALLOC_OFFSET" => layout::VMALLOC_OFFSET,
        "MAXMEM" => l.max_low_bytes,
        "LOWMEM_PAGES" => l.kernel_half().size() >> 12,
        "FIXADDR_TOP" => f.top.0,
        "FIXADDR_START" => f.start().0,
        "FIXADDR_SIZE" => f.top - f.start(),
        "FIXADDR_TOT_START" => f.total_start().0,
        "FIXADDR_TOT_SIZE" => f.top - f.total_start(),
        "FIXMAP_PMD_NUM" => fixmap::PMD_NUM.into(),
        "FIXMAP_PMD_TOP" => fixmap::PMD_TOP.into(),
        "NR_FIX_BTMAPS" => fixmap::BTMAP_PAGES.into(),
        "FIX_BTMAPS_SLOTS" => fixmap::BTMAP_SLOTS.into(),
        "TOTAL_FIX_BTMAPS" => fixmap::BTMAPS.into(),
        "__end_of_permanent_fixed_addresses" => f.end_permanent.into(),
        "__end_of_fixed_addresses" => f.end.into(),
        "FIX_DBGP_BASE" => f.dbgp.into(),
        "FIX_EARLYCON_MEM_BASE" => f.earlycon.into(),
        "FIX_APIC_BASE" => f.local_apic?.into(),
        "FIX_IO_APIC_BASE_0" => f.io_apic?.into(),
        "FIX_IO_APIC_BASE_END" => f.io_apic_last?.into(),
        "FIX_KMAP_BEGIN" => f.kmap_begin?.into(),
        "FIX_KMAP_END" => u64::from(f.kmap_begin?) + kmap - 1,
        "KM_TYPE_NR" | "KM_MAX_IDX" => layout::kmap_pages(facts.era, true, 1),
        "FIX_BTMAP_BEGIN" => f.btmap_begin.into(),
        "FIX_BTMAP_END" => f.btmap_end.into(),
        "FIX_WP_TEST" => u64::from(f.end) - 1,
        "MAX_IO_APICS" => layout::MAX_IO_APICS.into(),
        "CPU_ENTRY_AREA_BASE" => l.cpu_entry_area.0,
        "CPU_ENTRY_AREA_RO_IDT" => cpu_entry_area::ro_idt(l.cpu_entry_area).0,
        "CPU_ENTRY_AREA_PER_CPU" => cpu_entry_area::area(l.cpu_entry_area, 0).0,
        "CPU_ENTRY_AREA_SIZE" => cpu_entry_area::AREA_BYTES,
        "CPU_ENTRY_AREA_MAP_SIZE" | "CPU_ENTRY_AREA_TOTAL_SIZE" => l.cpu_entry_areas().size(),
        "CPU_ENTRY_AREA_ARRAY_SIZE" => entry_areas,
        "CPU_ENTRY_AREA_PAGES" => entry_areas >> 12,
        "LDT_BASE_ADDR" => l.ldt.start.0,
        "LDT_END_ADDR" => l.ldt.end().0,
        "PKMAP_BASE" => l.pkmap_base.0,
        "LAST_PKMAP" => paging.pkmap_pages(),
        "THREAD_SIZE" | "IRQ_STACK_SIZE" => layout::THREAD_SIZE,
        "__PHYSICAL_MASK_SHIFT" => paging.physical_mask_bits().into(),
        "__VIRTUAL_MASK_SHIFT" => layout::VIRTUAL_BITS.into(),
        "MAX_PHYSMEM_BITS" | "MAX_POSSIBLE_PHYSMEM_BITS" => paging.physmem_bits().into(),
        "DIRECT_MAP_PHYSMEM_END" if is_pae => u64::MAX >> 1,
        "DIRECT_MAP_PHYSMEM_END" => u32::MAX.into(),
        "KERNEL_PGD_BOUNDARY" | "PGD_KERNEL_START" => l.kernel_root_boundary(),
        "KERNEL_PGD_PTRS" => l.root_entries() - l.kernel_root_boundary(),
        "PGD_ALLOCATION_ORDER" => prealloc::root_frames(facts.era, is_pae, false).ilog2().into(),
        "IOREMAP_MAX_ORDER" => large.ilog2().into(),
        "ISA_START_ADDRESS" | "BIOS_BEGIN" => ISA_HOLE.0.0,
        "ISA_END_ADDRESS" | "BIOS_END" => ISA_HOLE.1.0,
        _ => return member(name),
    })
}

/// Constants of the build, and those that other crates decide.
const NOT_OURS: [&str; 15] = [
    "NR_CPUS",
    "MAX_NUMNODES",
    "MAX_NR_ZONES",
    "SECTION_SIZE_BITS",
    "sizeof(struct page)",
    "STRUCT_PAGE_MAX_SHIFT",
    "MAX_ORDER",
    "MAX_PAGE_ORDER",
    "NR_PAGE_ORDERS",
    "PERCPU_MODULE_RESERVE",
    "LDT_ENTRIES",
    "LDT_ENTRY_SIZE",
    "IDT_ENTRIES",
    "TLB_NR_DYN_ASIDS",
    "E820_MAX_ENTRIES",
];

#[test]
fn every_layout_row_of_the_headers_follows_from_the_rules() {
    let (mut compared, mut others) = (0, 0);
    for line in LAYOUT_ROWS.lines().skip(1) {
        let row: Vec<&str> = line.split(',').collect();
        let [era, arch, _levels, option, name, value] = row[..] else { panic!("six cells: {line}") };
        if !arch.starts_with("i386") {
            continue;
        }
        let build = Build::new(era.parse().expect("an era"), arch, option);
        match layout_value(&build, name) {
            Some(ours) => {
                assert_eq!(ours, hex(value), "{line}: ours {ours:#x}");
                compared += 1;
            }
            None => {
                assert!(NOT_OURS.iter().any(|known| name.starts_with(known)), "{line}: no rule");
                others += 1;
            }
        }
    }
    println!("x86_layout.csv, i386: {compared} rows compared, {others} of the build or of other crates");
    assert_eq!(compared + others, 11_548);
    assert!(compared > 9_000, "{compared}");
}

/// What the rules of x86-64 say, cut to what an entry of this format has.
fn prot_value(era: Era, is_pae: bool, name: &str) -> Option<u64> {
    let cut = |bits: u64| if is_pae { bits } else { bits & 0xffff_ffff };
    let raw = |prot: Prot| cut(prot.raw(era).0);
    let masked = |prot, pti| Masks::new(is_pae, true, pti).kernel(era, prot).0;
    Some(match name {
        "_PAGE_PRESENT" => bit::PRESENT,
        "_PAGE_RW" => bit::RW,
        "_PAGE_USER" => bit::USER,
        "_PAGE_PWT" => bit::PWT,
        "_PAGE_PCD" => bit::PCD,
        "_PAGE_ACCESSED" => bit::ACCESSED,
        "_PAGE_DIRTY" => bit::DIRTY,
        "_PAGE_PSE" => bit::PSE,
        "_PAGE_PAT" => bit::PAT,
        "_PAGE_PAT_LARGE" => bit::PAT_LARGE,
        "_PAGE_GLOBAL" => bit::GLOBAL,
        "_PAGE_SOFTW1" => bit::SOFTW1,
        "_PAGE_SOFTW2" => bit::SOFTW2,
        "_PAGE_SOFTW3" => bit::SOFTW3,
        "_PAGE_SOFTW4" => cut(bit::softw4(era)),
        "_PAGE_SPECIAL" => bit::SPECIAL,
        "_PAGE_CPA_TEST" => bit::CPA_TEST,
        "_PAGE_KERNEL_4K" => bit::kernel_4k(era),
        "_PAGE_SAVED_DIRTY" | "_PAGE_NOPTISHADOW" => saved_dirty(era),
        "_PAGE_DIRTY_BITS" => bit::DIRTY | saved_dirty(era),
        "_PAGE_DEVMAP" => cut(bit::devmap(era)),
        "_PAGE_PROTNONE" => bit::PROTNONE,
        "_PAGE_NX" => cut(bit::NX),
        "_PAGE_SWP_EXCLUSIVE" => SWP_EXCLUSIVE,
        "_PAGE_CACHE_MASK" => bit::CACHE,
        "_PAGE_LARGE_CACHE_MASK" => bit::CACHE_LARGE,
        "_PAGE_KNL_ERRATUM_MASK" if is_pae => bit::KNL_ERRATUM,
        "_PAGE_KNL_ERRATUM_MASK" => 0,
        "_KERNPG_TABLE_NOENC" => table::KERNPG.0,
        "_PAGE_TABLE_NOENC" => table::PAGE.0,
        "__PAGE_KERNEL" => raw(Prot::Kernel),
        "__PAGE_KERNEL_EXEC" => raw(Prot::KernelExec),
        "__PAGE_KERNEL_RO" => raw(Prot::KernelRo),
        "__PAGE_KERNEL_ROX" => raw(Prot::KernelRox),
        "__PAGE_KERNEL_NOCACHE" => raw(Prot::KernelNocache),
        "__PAGE_KERNEL_VVAR" => raw(Prot::KernelVvar),
        "__PAGE_KERNEL_LARGE" => raw(Prot::KernelLarge),
        "__PAGE_KERNEL_LARGE_EXEC" => raw(Prot::KernelLargeExec),
        "__PAGE_KERNEL_WP" => raw(Prot::KernelWp),
        "__PAGE_KERNEL_IO" => raw(Prot::KernelIo),
        "__PAGE_KERNEL_IO_NOCACHE" => raw(Prot::KernelIoNocache),
        "PTE_IDENT_ATTR" => early::PAGE.0,
        "PDE_IDENT_ATTR" => table::KERNPG.0,
        "PGD_IDENT_ATTR" => bit::PRESENT,
        "PAGE_NONE" => raw(Prot::UserNone),
        "PAGE_SHARED" => raw(Prot::UserShared),
        "PAGE_SHARED_EXEC" => raw(Prot::UserSharedExec),
        "PAGE_COPY" | "PAGE_READONLY" => raw(Prot::UserReadonly),
        "PAGE_COPY_EXEC" | "PAGE_READONLY_EXEC" => raw(Prot::UserReadonlyExec),
        "derived:direct map 4K, no PTI" => masked(Prot::Kernel, false),
        "derived:direct map large, no PTI" => masked(Prot::KernelLarge, false),
        "derived:direct map 4K, PTI" => masked(Prot::Kernel, true),
        "derived:direct map large, PTI" => masked(Prot::KernelLarge, true),
        "PTE_PFN_MASK(52-bit physical mask)" => cut(bit::FRAME),
        _ => return None,
    })
}

/// Bits that these builds leave out: the table holds 0 for them.
const UNBUILT: [&str; 5] =
    ["_PAGE_UFFD_WP", "_PAGE_SOFT_DIRTY", "_PAGE_SWP_SOFT_DIRTY", "_PAGE_SWP_UFFD_WP", "_PAGE_PKEY_MASK"];

#[test]
fn every_protection_row_of_the_headers_follows_from_the_rules() {
    let (mut compared, mut unbuilt) = (0, 0);
    for line in PROT_ROWS.lines().skip(1).filter(|line| line.contains(",i386")) {
        let (era, rest) = line.split_once(',').expect("cells");
        let (arch, rest) = rest.split_once(',').expect("cells");
        // A name with a comma stands in quotes.
        let (name, rest) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once("\",").expect("a closing quote"),
            None => rest.split_once(',').expect("cells"),
        };
        let value = rest.split(',').next().expect("a value");
        if value.is_empty() {
            assert_eq!(arch, "i386", "{line}: only two levels know no isolation");
            unbuilt += 1;
            continue;
        }
        let value = hex(value);
        let era: Era = era.parse().expect("an era");
        if UNBUILT.contains(&name) {
            assert_eq!(value, 0, "{line}");
            unbuilt += 1;
            continue;
        }
        let ours = prot_value(era, arch == "i386pae", name).unwrap_or_else(|| panic!("{line}: no rule"));
        assert_eq!(ours, value, "{line}: ours {ours:#x}");
        compared += 1;
    }
    println!("x86_prot.csv, i386: {compared} values compared, {unbuilt} of bits that the build leaves out");
    assert_eq!(compared + unbuilt, 462);
    assert!(compared > 400, "{compared}");
}
