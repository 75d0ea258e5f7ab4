//! Layout and protections of x86-64 against the constants that a compiler took out of the kernels' headers.

use kernmem_arch::x86::cpa::{Decision, Mapped, Masking, Protections, Target, decide};
use kernmem_arch::x86::cpu_entry_area::{self, AreaFacts, Part, PartName};
use kernmem_arch::x86::fixmap::{self, Fixmap, FixmapFacts};
use kernmem_arch::x86::layout::{self, Bases, Layout, LayoutFacts, Paging};
use kernmem_arch::x86::prot::{Masks, Prot, table};
use kernmem_arch::x86::{X86Attrs, X86Level4, X86Level5, bit, zones};
use kernmem_arch::{EntryFormat, Shape};
use kernmem_base::{Era, Level, PhysAddr, PhysRange, VirtAddr, VirtRange};

const LAYOUT_ROWS: &str = include_str!("../../../testing/golden/x86_layout.csv");
const PROT_ROWS: &str = include_str!("../../../testing/golden/x86_prot.csv");

/// The cells of a line; a cell in quotes may hold commas.
fn cells(line: &str) -> Vec<&str> {
    let (mut cells, mut rest) = (Vec::new(), line);
    loop {
        let (cell, next) = match rest.strip_prefix('"') {
            Some(quoted) => {
                let (cell, next) = quoted.split_once('"').expect("a closing quote");
                (cell, next.strip_prefix(','))
            }
            None => rest.split_once(',').map_or((rest, None), |(cell, next)| (cell, Some(next))),
        };
        cells.push(cell);
        match next {
            Some(next) => rest = next,
            None => return cells,
        }
    }
}

fn hex(text: &str) -> u64 {
    u64::from_str_radix(text.trim_start_matches("0x"), 16).expect("a hexadecimal value")
}

/// The build that the rows come from (testing/golden: SMP, 64 CPUs, NUMA, local and IO APIC).
struct Build {
    facts: LayoutFacts,
    layout: Layout,
    fixmap: Fixmap,
    kasan: bool,
}

const NR_CPUS: u64 = 64;

impl Build {
    fn new(era: Era, levels: &str, option: &str) -> Self {
        let paging = if levels == "4" { Paging::Level4 } else { Paging::Level5 };
        let kasan = option == "kasan";
        let facts = LayoutFacts {
            era,
            paging,
            randomize_base: option == "kaslr",
            kasan,
            kmsan: false,
            force_kmap_local: false,
            physical_start: 0x100_0000,
            physical_align: 0x20_0000,
        };
        let fixmap = Fixmap::new(&FixmapFacts {
            vsyscall: false,
            ohci1394: false,
            local_apic: true,
            io_apics: 128,
            kmap_local: 0,
            paravirt: false,
            ghes: false,
            txt: false,
        });
        Self { facts, layout: Layout::new(&facts, Bases::fixed(era, paging)), fixmap, kasan }
    }

    fn shape(&self) -> &'static Shape {
        match self.facts.paging {
            Paging::Level4 => X86Level4::shape(),
            Paging::Level5 => X86Level5::shape(),
        }
    }

    fn part(&self, name: PartName) -> Part {
        let facts = AreaFacts { kasan: self.kasan, intel: true, sev_es: true };
        cpu_entry_area::parts(facts).into_iter().find(|part| part.name == name).expect("a part")
    }
}

/// Offset or size of a member of a CPU's entry area.
fn member(build: &Build, name: &str) -> Option<u64> {
    let (path, what) = name.split_once(' ')?;
    let (structure, field) = path.split_once('.')?;
    let in_stacks = structure == "cea_exception_stacks";
    let stacks = 0x7000;
    let part = match field {
        "gdt" => PartName::Gdt,
        "entry_stack_page" => PartName::EntryStack,
        "tss" => PartName::Tss,
        "cpu_debug_store" => PartName::DebugStore,
        "cpu_debug_buffers" => PartName::DebugBuffers,
        "DF_stack" => PartName::DoubleFault,
        "NMI_stack" => PartName::Nmi,
        "DB_stack" => PartName::Debug,
        "MCE_stack" => PartName::MachineCheck,
        "VC_stack" => PartName::Vc,
        "VC2_stack" => PartName::Vc2,
        "estacks" if what == "offset" => return Some(build.part(PartName::Guard).offset),
        "estacks" => return Some(cpu_entry_area::stacks_bytes(build.kasan)),
        _ => return None,
    };
    let part = build.part(part);
    match what {
        "offset" => Some(part.offset - if in_stacks { stacks } else { 0 }),
        "size" => Some(part.pages * 4096),
        _ => None,
    }
}

/// What our rules say about a constant.
fn layout_value(build: &Build, name: &str) -> Option<u64> {
    let (l, f, shape) = (&build.layout, &build.fixmap, build.shape());
    let shift = |level| u64::from(shape.level(level).shift);
    let entries = |level| shape.level(level).entries() as u64;
    let p4d_entries = match build.facts.paging {
        Paging::Level4 => 1,
        Paging::Level5 => entries(Level::P4d),
    };
    let image = l.start_kernel_map.0;
    Some(match name {
        "PAGE_SHIFT" => shift(Level::Pte),
        "PAGE_SIZE" => 1 << shift(Level::Pte),
        "PTRS_PER_PTE" => entries(Level::Pte),
        "PMD_SHIFT" => shift(Level::Pmd),
        "PMD_SIZE" => 1 << shift(Level::Pmd),
        "PTRS_PER_PMD" => entries(Level::Pmd),
        "PUD_SHIFT" => shift(Level::Pud),
        "PUD_SIZE" => 1 << shift(Level::Pud),
        "PTRS_PER_PUD" => entries(Level::Pud),
        "P4D_SHIFT" => Paging::P4D_SHIFT.into(),
        "P4D_SIZE" => 1 << Paging::P4D_SHIFT,
        "PTRS_PER_P4D" => p4d_entries,
        "MAX_PTRS_PER_P4D" => X86Level5::shape().level(Level::P4d).entries() as u64,
        "PGDIR_SHIFT" => shift(Level::Pgd),
        "PGDIR_SIZE" => 1 << shift(Level::Pgd),
        "PTRS_PER_PGD" => entries(Level::Pgd),
        "PAGE_OFFSET" => l.page_offset.0,
        "__START_KERNEL_map" => image,
        "KERNEL_IMAGE_SIZE" => l.kernel_image_size,
        "__PHYSICAL_START" | "LOAD_PHYSICAL_ADDR" => l.text_link.0 - image,
        "__START_KERNEL" => l.text_link.0,
        "CONFIG_PHYSICAL_START" => build.facts.physical_start,
        "CONFIG_PHYSICAL_ALIGN" => build.facts.physical_align,
        "MODULES_VADDR" => l.modules_start.0,
        "MODULES_END" => l.modules_end.0,
        "MODULES_LEN" => l.modules_end - l.modules_start,
        "FIXADDR_TOP" => layout::FIXADDR_TOP.0,
        "FIXADDR_START" => f.start().0,
        "FIXADDR_SIZE" => layout::FIXADDR_TOP - f.start(),
        "FIXADDR_TOT_START" => f.total_start().0,
        "FIXADDR_TOT_SIZE" => layout::FIXADDR_TOP - f.total_start(),
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
        "FIX_BTMAP_BEGIN" => f.btmap_begin.into(),
        "FIX_BTMAP_END" => f.btmap_end.into(),
        "MAX_IO_APICS" => u64::from(f.io_apic_last? - f.io_apic? + 1),
        "VSYSCALL_ADDR" => layout::VSYSCALL.0,
        "CPU_ENTRY_AREA_BASE" => l.cpu_entry_area.0,
        "CPU_ENTRY_AREA_PGD" => ((l.cpu_entry_area.0 as i64) >> Paging::P4D_SHIFT) as u64,
        "CPU_ENTRY_AREA_RO_IDT" => cpu_entry_area::RO_IDT.0,
        "CPU_ENTRY_AREA_PER_CPU" => cpu_entry_area::area(0, build.kasan).0,
        "CPU_ENTRY_AREA_SIZE" => cpu_entry_area::area_bytes(build.kasan),
        "CPU_ENTRY_AREA_MAP_SIZE" | "CPU_ENTRY_AREA_TOTAL_SIZE" => {
            cpu_entry_area::map_bytes(build.facts.era, build.kasan, NR_CPUS)
        }
        "CPU_ENTRY_AREA_ARRAY_SIZE" => NR_CPUS * cpu_entry_area::area_bytes(build.kasan),
        "EXCEPTION_STKSZ" => cpu_entry_area::exception_stack_bytes(build.kasan),
        "ESPFIX_BASE_ADDR" => l.espfix.0,
        "LDT_BASE_ADDR" => l.ldt?.start.0,
        "LDT_END_ADDR" => l.ldt?.end().0,
        "GUARD_HOLE_BASE_ADDR" => l.guard_hole.start.0,
        "GUARD_HOLE_END_ADDR" => l.guard_hole.end().0,
        "GUARD_HOLE_SIZE" => l.guard_hole.size(),
        "EFI_VA_START" => l.efi_start.0,
        "EFI_VA_END" => l.efi_end.0,
        "KASAN_SHADOW_OFFSET" => layout::KASAN_SHADOW_OFFSET,
        "KASAN_SHADOW_SCALE_SHIFT" => layout::KASAN_SHADOW_SCALE_SHIFT.into(),
        "KASAN_SHADOW_START" => l.kasan_shadow?.start.0,
        "KASAN_SHADOW_END" => l.kasan_shadow?.end().0,
        "SECTION_SIZE_BITS" => layout::SECTION_SIZE_BITS.into(),
        "PFN_SECTION_SHIFT" => u64::from(layout::SECTION_SIZE_BITS) - 12,
        "PAGES_PER_SECTION" => 1 << (layout::SECTION_SIZE_BITS - 12),
        "NR_MEM_SECTIONS" => 1 << (build.facts.paging.physmem_bits() - layout::SECTION_SIZE_BITS),
        "MAX_PHYSMEM_BITS" => build.facts.paging.physmem_bits().into(),
        "MAX_POSSIBLE_PHYSMEM_BITS" => Paging::Level5.physmem_bits().into(),
        "MAXMEM" => l.physmem_last.0 + 1,
        "PHYSMEM_END" | "DIRECT_MAP_PHYSMEM_END" => l.physmem_last.0,
        "VMALLOC_SIZE_TB" => build.facts.paging.vmalloc_tb(),
        "VMALLOC_START" => l.vmalloc_start.0,
        "VMALLOC_END" => l.vmalloc_last.0,
        "VMEMORY_END" => l.vmemory_last.0,
        "VMEMMAP_START" => l.vmemmap.0,
        "TASK_SIZE_MAX" => l.task_size_max(),
        "DEFAULT_MAP_WINDOW" => Layout::default_map_window(),
        "THREAD_SIZE" | "IRQ_STACK_SIZE" => l.thread_size,
        "__PHYSICAL_MASK_SHIFT" => layout::PHYSICAL_MASK_SHIFT.into(),
        "__VIRTUAL_MASK_SHIFT" => build.facts.paging.user_bits().into(),
        "KERNEL_PGD_BOUNDARY" => l.kernel_root_boundary(),
        "KERNEL_PGD_PTRS" => entries(Level::Pgd) - l.kernel_root_boundary(),
        "PGD_KERNEL_START" => entries(Level::Pgd) / 2,
        "PGD_ALLOCATION_ORDER" => kernmem_arch::x86::prealloc::root_frames(build.facts.era, true, false).ilog2().into(),
        "EARLY_DYNAMIC_PAGE_TABLES" => layout::EARLY_DYNAMIC_TABLES as u64,
        "IOREMAP_MAX_ORDER" => layout::IOREMAP_MAX_SHIFT.into(),
        "ISA_START_ADDRESS" | "BIOS_BEGIN" => layout::ISA_HOLE.0.0,
        "ISA_END_ADDRESS" | "BIOS_END" => layout::ISA_HOLE.1.0,
        _ => return member(build, name),
    })
}

/// Names that no rule of this crate gives, and why.
const NOT_OURS: [(&str, &str); 19] = [
    ("NR_CPUS", "the configuration says it"),
    ("MAX_NUMNODES", "the configuration says it"),
    ("MAX_NR_ZONES", "the configuration says it; zones are kernmem-page-alloc's"),
    ("sizeof(struct page)", "the compiled kernel says it"),
    ("sizeof(struct mem_section)", "the compiled kernel says it"),
    ("STRUCT_PAGE_MAX_SHIFT", "follows from the size of struct page"),
    ("SECTIONS_PER_ROOT", "a page of struct mem_section, in kernmem-sparse"),
    ("MAX_ORDER", "the page allocator's, which the boot tells"),
    ("MAX_PAGE_ORDER", "the page allocator's, which the boot tells"),
    ("NR_PAGE_ORDERS", "the page allocator's, which the boot tells"),
    ("PERCPU_MODULE_RESERVE", "the per-CPU allocator's"),
    ("KM_MAX_IDX", "the configuration's temporary mappings, which 64-bit kernels have no slots for"),
    ("KM_TYPE_NR", "the same in 5.10"),
    ("LDT_ENTRIES", "the CPU's: what a descriptor table holds is not modelled"),
    ("LDT_ENTRY_SIZE", "the CPU's: what a descriptor table holds is not modelled"),
    ("IDT_ENTRIES", "the CPU's: what a descriptor table holds is not modelled"),
    ("TLB_NR_DYN_ASIDS", "address spaces of a CPU, in kernmem-mm"),
    ("E820_MAX_ENTRIES", "room in the firmware map, in kernmem-firmware"),
    ("E820_MAX_ENTRIES_ZEROPAGE", "room in the firmware map, in kernmem-firmware"),
];

#[test]
fn every_layout_row_of_the_headers_follows_from_the_rules() {
    let (mut compared, mut others) = (0, std::collections::BTreeMap::new());
    for line in LAYOUT_ROWS.lines().skip(1) {
        let row = cells(line);
        let [era, arch, levels, option, name, value] = row[..] else { panic!("six cells: {line}") };
        if arch != "x86_64" {
            continue;
        }
        let build = Build::new(era.parse().expect("an era"), levels, option);
        match layout_value(&build, name) {
            Some(ours) => {
                assert_eq!(ours, hex(value), "{line}: ours {ours:#x}");
                compared += 1;
            }
            None => {
                assert!(NOT_OURS.iter().any(|(other, _)| *other == name), "{line}: no rule");
                *others.entry(name).or_insert(0) += 1;
            }
        }
    }
    println!("x86_layout.csv, x86-64: {compared} rows compared");
    for (name, reason) in NOT_OURS {
        println!("  not ours: {name}, {} rows: {reason}", others[name]);
    }
    assert_eq!((compared, others.values().sum::<i32>()), (2798, 396));
}

/// The leaf of kernel text after read-only data was protected, by the rules of changed attributes.
fn protected_text(era: Era, masks: Masks, born: X86Attrs) -> u64 {
    let va = VirtRange { start: VirtAddr(0xffff_ffff_8100_0000), last: VirtAddr(0xffff_ffff_811f_ffff) };
    let pa = PhysRange::new(PhysAddr(0x100_0000), PhysAddr(0x120_0000));
    let protections = Protections {
        text: va,
        text_and_rodata: va,
        rodata: PhysRange::new(PhysAddr(0x180_0000), PhysAddr(0x18d_a000)),
        rodata_is_readonly: false,
        pci_bios: false,
    };
    let leaf = Target { attrs: born, level: Level::Pmd, whole: Mapped { va, pa } };
    match decide(&leaf, va, Masking::ro(era), &protections, masks, false) {
        Decision::Rewrite(attrs) => attrs.0,
        other => panic!("a whole leaf is rewritten, not {other:?}"),
    }
}

fn prot_value(era: Era, name: &str) -> Option<u64> {
    let open = Masks::new(true, true, false);
    let isolated = Masks::new(true, true, true);
    let text = Prot::KernelLargeExec.raw(era);
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
        "_PAGE_SOFTW4" => bit::softw4(era),
        "_PAGE_SPECIAL" => bit::SPECIAL,
        "_PAGE_CPA_TEST" => bit::CPA_TEST,
        "_PAGE_KERNEL_4K" => bit::kernel_4k(era),
        "_PAGE_DEVMAP" => bit::devmap(era),
        "_PAGE_SAVED_DIRTY" => bit::saved_dirty(era),
        "_PAGE_NOPTISHADOW" => bit::nopti_shadow(era),
        "_PAGE_DIRTY_BITS" => bit::DIRTY | bit::saved_dirty(era),
        "_PAGE_PROTNONE" => bit::PROTNONE,
        "_PAGE_NX" => bit::NX,
        "_PAGE_SWP_EXCLUSIVE" => bit::SWP_EXCLUSIVE,
        "_PAGE_CACHE_MASK" => bit::CACHE,
        "_PAGE_LARGE_CACHE_MASK" => bit::CACHE_LARGE,
        "_PAGE_KNL_ERRATUM_MASK" => bit::KNL_ERRATUM,
        "_KERNPG_TABLE_NOENC" => table::KERNPG.0,
        "_PAGE_TABLE_NOENC" => table::PAGE.0,
        "__PAGE_KERNEL" => Prot::Kernel.raw(era).0,
        "__PAGE_KERNEL_EXEC" => Prot::KernelExec.raw(era).0,
        "__PAGE_KERNEL_RO" => Prot::KernelRo.raw(era).0,
        "__PAGE_KERNEL_ROX" => Prot::KernelRox.raw(era).0,
        "__PAGE_KERNEL_NOCACHE" => Prot::KernelNocache.raw(era).0,
        "__PAGE_KERNEL_VVAR" => Prot::KernelVvar.raw(era).0,
        "__PAGE_KERNEL_LARGE" => Prot::KernelLarge.raw(era).0,
        "__PAGE_KERNEL_LARGE_EXEC" | "__PAGE_KERNEL_IDENT_LARGE_EXEC" => Prot::KernelLargeExec.raw(era).0,
        "__PAGE_KERNEL_WP" => Prot::KernelWp.raw(era).0,
        "__PAGE_KERNEL_IO" => Prot::KernelIo.raw(era).0,
        "__PAGE_KERNEL_IO_NOCACHE" => Prot::KernelIoNocache.raw(era).0,
        "PAGE_NONE" => Prot::UserNone.raw(era).0,
        "PAGE_SHARED" => Prot::UserShared.raw(era).0,
        "PAGE_SHARED_EXEC" => Prot::UserSharedExec.raw(era).0,
        "PAGE_COPY" | "PAGE_READONLY" => Prot::UserReadonly.raw(era).0,
        "PAGE_COPY_EXEC" | "PAGE_READONLY_EXEC" => Prot::UserReadonlyExec.raw(era).0,
        "PTE_PFN_MASK(52-bit physical mask)" => bit::FRAME,
        "derived:direct map 4K, no PTI" => open.kernel(era, Prot::Kernel).0,
        "derived:direct map large, no PTI" => open.kernel(era, Prot::KernelLarge).0,
        "derived:direct map 4K, PTI" => isolated.kernel(era, Prot::Kernel).0,
        "derived:direct map large, PTI" => isolated.kernel(era, Prot::KernelLarge).0,
        "derived:kernel text 2M after rodata protection, no PTI" => protected_text(era, open, text),
        "derived:kernel text 2M after rodata protection, PTI, not global" => {
            protected_text(era, isolated, X86Attrs(text.0 & !bit::GLOBAL))
        }
        _ => return None,
    })
}

/// Bits that this build leaves out: the table holds 0 for them and their place when they are built in the note.
fn unbuilt_bit(name: &str) -> Option<u64> {
    Some(match name {
        "_PAGE_UFFD_WP" => bit::UFFD_WP,
        "_PAGE_SOFT_DIRTY" => bit::SOFT_DIRTY,
        "_PAGE_SWP_SOFT_DIRTY" => bit::SWP_SOFT_DIRTY,
        "_PAGE_SWP_UFFD_WP" => bit::SWP_UFFD_WP,
        "_PAGE_PKEY_MASK" => bit::PKEY,
        _ => return None,
    })
}

/// The bits that a note names: `bit 10 when built`, `bits 62:59 when built`, `RW bit when built`.
fn noted_bits(note: &str) -> u64 {
    let words: Vec<&str> = note.split_whitespace().collect();
    let after = |word| words.iter().position(|w| *w == word).map(|at| words[at + 1]);
    if note.contains("RW bit") {
        bit::RW
    } else if note.contains("USER bit") {
        bit::USER
    } else if let Some((high, low)) = after("bits").and_then(|range| range.split_once(':')) {
        let (high, low): (u32, u32) = (high.parse().expect("a bit"), low.parse().expect("a bit"));
        (1 << (high + 1)) - (1 << low)
    } else {
        1 << after("bit").and_then(|bit| bit.parse::<u32>().ok()).expect("a bit in the note")
    }
}

#[test]
fn every_protection_row_of_the_headers_follows_from_the_rules() {
    let (mut compared, mut unbuilt) = (0, 0);
    for line in PROT_ROWS.lines().skip(1) {
        let row = cells(line);
        let [era, arch, name, value, note] = row[..] else { panic!("five cells: {line}") };
        if arch != "x86_64" {
            continue;
        }
        let era: Era = era.parse().expect("an era");
        if let Some(place) = unbuilt_bit(name) {
            assert_eq!((hex(value), place), (0, noted_bits(note)), "{line}");
            unbuilt += 1;
            continue;
        }
        let ours = prot_value(era, name).unwrap_or_else(|| panic!("{line}: no rule"));
        assert_eq!(ours, hex(value), "{line}: ours {ours:#x}");
        compared += 1;
    }
    println!("x86_prot.csv, x86-64: {compared} values compared, {unbuilt} places of bits that the build leaves out");
    assert_eq!((compared, unbuilt), (212, 20));
}

#[test]
fn the_limits_of_zones_are_those_of_the_devices() {
    assert_eq!((zones::MAX_DMA_PFN.0 << 12, zones::MAX_DMA32_PFN.0 << 12), (16 << 20, 4 << 30));
}
