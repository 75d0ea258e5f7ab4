//! The layout and the sizes of arm64 against the constants that a compiler took out of the kernels' headers.

use std::collections::BTreeMap;

use kernmem_arch::arm64::carve_out::{self, CarveOuts};
use kernmem_arch::arm64::levels::{self, contiguous_shifts};
use kernmem_arch::arm64::{
    BTMAP_SLOTS, FixSlot, FixmapFacts, Geometry, Kasan, Layout, LayoutFacts, Output, STRUCT_PAGE_SHIFT, address,
    btmap_pages, kasan_shadow_offset, limits, linear, va_bits_choices, va_bits_min,
};
use kernmem_arch::hugetlb::HugeArch;
use kernmem_base::{Era, Granule, Level};

const ROWS: &str = include_str!("../../../testing/golden/arm64_layout.csv");

/// Names that no rule of this crate gives, and why.
const NOT_OURS: [(&str, &str); 4] = [
    ("NODES_SHIFT", "the configuration says it"),
    ("NR_PAGEFLAGS", "the size of an enumeration that the configuration builds"),
    ("SECTIONS_PER_ROOT", "a page of `struct mem_section`, in kernmem-sparse"),
    ("sizeof_mem_section", "the compiled kernel says it"),
];

/// One kernel of the file.
struct Build {
    f: LayoutFacts,
    layout: Layout,
    geometry: Geometry,
    /// Bytes of the sample image; 0 in rows that depend on none.
    image: u64,
}

impl Build {
    fn new(era: &str, page: &str, va_bits: &str, kasan: &str, variant: &str) -> Self {
        let era: Era = era.parse().expect("a known era");
        let granule = match page {
            "4K" => Granule::K4,
            "16K" => Granule::K16,
            "64K" => Granule::K64,
            other => panic!("page size {other}"),
        };
        let va_bits = va_bits.parse().expect("bits");
        assert!(va_bits_choices(era, granule).contains(&va_bits), "{era} {page} {va_bits}");
        let kasan = match kasan {
            "off" => Kasan::Off,
            "generic" => Kasan::Generic,
            "sw_tags" => Kasan::SwTags,
            other => panic!("KASAN mode {other}"),
        };
        let fixmap = FixmapFacts {
            era,
            granule,
            relocatable: true,
            unmap_at_el0: true,
            ghes: variant.starts_with("ghes"),
            sdei: variant.ends_with("+sdei"),
            vncr_slots: 0,
        };
        let va_bits_actual = if variant == "fallback" { va_bits_min(granule, va_bits) } else { va_bits };
        let image = match variant {
            "image16M" => 16 << 20,
            "image34M" => 34 << 20,
            "" | "fallback" | "ghes" | "ghes+sdei" => 0,
            other => panic!("variant {other}"),
        };
        let f = LayoutFacts { era, granule, va_bits, va_bits_actual, kasan, fixmap };
        Self { f, layout: Layout::new(&f), geometry: Geometry::of(granule.shift(), va_bits).expect("tables"), image }
    }

    fn carve_outs(&self) -> CarveOuts {
        let start = self.layout.kimage;
        CarveOuts { era: self.f.era, geometry: self.geometry, start, end: start.wrapping_add(self.image) }
    }

    /// The build has 52 bits of physical addresses exactly where it has 52 of virtual ones.
    fn pa_bits(&self) -> u32 {
        if self.f.va_bits == 52 { 52 } else { 48 }
    }

    /// KASAN kernels of 5.10 have no shadow for vmalloc and keep stacks out of it.
    fn stack(&self) -> limits::Stack {
        let in_vmalloc = self.f.kasan == Kasan::Off || self.f.era > Era::V5_10;
        limits::stack(self.f.granule, self.f.kasan, in_vmalloc)
    }
}

/// A slot of the fixmap by Linux's name, without its prefix.
fn slot(name: &str) -> Option<FixSlot> {
    Some(match name {
        "HOLE" => FixSlot::Hole,
        "FDT_END" => FixSlot::FdtEnd,
        "FDT" => FixSlot::Fdt,
        "EARLYCON_MEM_BASE" => FixSlot::EarlyconMemBase,
        "TEXT_POKE0" => FixSlot::TextPoke,
        "APEI_GHES_IRQ" => FixSlot::GhesIrq,
        "APEI_GHES_SEA" => FixSlot::GhesSea,
        "APEI_GHES_SDEI_NORMAL" => FixSlot::GhesSdeiNormal,
        "APEI_GHES_SDEI_CRITICAL" => FixSlot::GhesSdeiCritical,
        "ENTRY_TRAMP_TEXT1" => FixSlot::TrampolineText(1),
        "ENTRY_TRAMP_TEXT2" => FixSlot::TrampolineText(2),
        "ENTRY_TRAMP_TEXT3" => FixSlot::TrampolineText(3),
        "ENTRY_TRAMP_TEXT4" => FixSlot::TrampolineText(4),
        "ENTRY_TRAMP_DATA" => FixSlot::TrampolineData,
        "BTMAP_END" => FixSlot::BtmapEnd,
        "BTMAP_BEGIN" => FixSlot::BtmapBegin,
        "PTE" => FixSlot::Pte,
        "PMD" => FixSlot::Pmd,
        "PUD" => FixSlot::Pud,
        "P4D" => FixSlot::P4d,
        "PGD" => FixSlot::Pgd,
        _ => return None,
    })
}

fn fixmap_value(b: &Build, name: &str) -> Option<u64> {
    let fixmap = &b.layout.fixmap;
    if let Some(inner) = name.strip_prefix("fix_to_virt.") {
        return Some(fixmap.address(b.layout.fixaddr_top, fixmap_value(b, inner)?).0);
    }
    if let Some(slot) = name.strip_prefix("FIX_").and_then(slot) {
        return fixmap.index(slot);
    }
    Some(match name {
        "__end_of_permanent_fixed_addresses" => fixmap.permanent,
        "__end_of_fixed_addresses" => fixmap.total,
        "NR_FIX_BTMAPS" => btmap_pages(b.f.era, b.f.granule),
        "FIX_BTMAPS_SLOTS" => BTMAP_SLOTS,
        "FIXADDR_TOP" => b.layout.fixaddr_top.0,
        "FIXADDR_START" => b.layout.fixaddr_start.0,
        "FIXADDR_SIZE" => b.layout.fixaddr_top - b.layout.fixaddr_start,
        "FIXADDR_TOT_START" => b.layout.fixaddr_tot_start.0,
        "FIXADDR_TOT_SIZE" => b.layout.fixaddr_top - b.layout.fixaddr_tot_start,
        _ => return None,
    })
}

fn region_value(b: &Build, name: &str) -> Option<u64> {
    let (l, f) = (&b.layout, &b.f);
    Some(match name {
        "VA_BITS" => f.va_bits.into(),
        "VA_BITS_MIN" => va_bits_min(f.granule, f.va_bits).into(),
        "vabits_actual" => l.va_bits_actual.into(),
        "PAGE_OFFSET" => l.page_offset.0,
        "PAGE_END" => l.page_end.0,
        "KASAN_SHADOW_OFFSET" => kasan_shadow_offset(f)?,
        "KASAN_SHADOW_SCALE_SHIFT" => f.kasan.scale()?.into(),
        "KASAN_SHADOW_START" => l.kasan?.0.0,
        // Where there is no shadow, 5.10 still names the place at which the next region starts.
        "KASAN_SHADOW_END" => l.kasan.map_or(l.bpf.map(|(start, _)| start), |(_, end)| Some(end))?.0,
        "BPF_JIT_REGION_START" => l.bpf?.0.0,
        "BPF_JIT_REGION_END" => l.bpf?.1.0,
        "BPF_JIT_REGION_SIZE" => l.bpf?.1 - l.bpf?.0,
        "MODULES_VADDR" => l.modules_start.0,
        "MODULES_END" => l.modules_end.0,
        "MODULES_VSIZE" => l.modules_end - l.modules_start,
        "KIMAGE_VADDR" | "VMALLOC_START" => l.kimage.0,
        "VMALLOC_END" => l.vmalloc_end.0,
        "PCI_IO_START" => l.pci_io_start.0,
        "PCI_IO_END" => l.pci_io_end.0,
        "PCI_IO_SIZE" => l.pci_io_end - l.pci_io_start,
        "VMEMMAP_START" => l.vmemmap_start.0,
        "VMEMMAP_END" => l.vmemmap_end.0,
        "VMEMMAP_SIZE" => l.vmemmap_end.0.wrapping_sub(l.vmemmap_start.0),
        "VMEMMAP_SHIFT" => (f.granule.shift() - STRUCT_PAGE_SHIFT).into(),
        "STRUCT_PAGE_MAX_SHIFT" => STRUCT_PAGE_SHIFT.into(),
        "sizeof_struct_page" => 1 << STRUCT_PAGE_SHIFT,
        "TASK_SIZE_64" => 1 << l.va_bits_actual,
        "DEFAULT_MAP_WINDOW_64" => 1 << va_bits_min(f.granule, f.va_bits),
        "ARM64_MEMSTART_ALIGN" => linear::memstart_align(f.era, f.granule),
        // The shift is that of a table of the linear map; a section may ask for more.
        "ARM64_MEMSTART_SHIFT" => linear::memstart_shift(f.granule).into(),
        "SECTION_SIZE_BITS" => linear::section_size_bits(f.era, f.granule).into(),
        _ => return None,
    })
}

fn geometry_value(b: &Build, name: &str) -> Option<u64> {
    let (g, granule) = (b.geometry, b.f.granule);
    let (pages, blocks) = contiguous_shifts(granule);
    Some(match name {
        "PAGE_SHIFT" => granule.shift().into(),
        "PAGE_SIZE" => granule.bytes(),
        "CONFIG_PGTABLE_LEVELS" => g.levels().into(),
        "PGDIR_SHIFT" => g.shift(Level::Pgd).into(),
        "P4D_SHIFT" => g.shift(Level::P4d).into(),
        "PUD_SHIFT" => g.shift(Level::Pud).into(),
        "PMD_SHIFT" => g.shift(Level::Pmd).into(),
        "PTRS_PER_PGD" => g.entries(Level::Pgd),
        "PTRS_PER_P4D" | "MAX_PTRS_PER_P4D" => g.entries(Level::P4d),
        "PTRS_PER_PUD" | "MAX_PTRS_PER_PUD" => g.entries(Level::Pud),
        "PTRS_PER_PMD" | "MAX_PTRS_PER_PMD" => g.entries(Level::Pmd),
        "PTRS_PER_PTE" | "MAX_PTRS_PER_PTE" => g.entries(Level::Pte),
        "PTRS_PER_PGD_52_VA" => Geometry::of(granule.shift(), 52)?.entries(Level::Pgd),
        "PTRS_PER_PGD_48_VA" => levels::root_entries_of_48(granule),
        "TTBR1_BADDR_4852_OFFSET" => levels::fallback_root_offset(granule),
        "CONT_PTES" => 1 << (pages - granule.shift()),
        "CONT_PMDS" => 1 << (blocks - levels::block_shift(granule)),
        "CONT_PTE_SHIFT" => pages.into(),
        "CONT_PTE_SIZE" => 1 << pages,
        "CONT_PMD_SHIFT" => blocks.into(),
        "CONT_PMD_SIZE" => 1 << blocks,
        _ => return None,
    })
}

fn limit_value(b: &Build, name: &str) -> Option<u64> {
    let (f, granule) = (&b.f, b.f.granule);
    let physical = limits::physical_bits(granule, b.pa_bits(), f.va_bits_actual);
    Some(match name {
        "PHYS_MASK_SHIFT" | "MAX_PHYSMEM_BITS" => physical.into(),
        "PHYS_MASK" => (1 << physical) - 1,
        "MAX_POSSIBLE_PHYSMEM_BITS" => limits::MAX_POSSIBLE_PHYSICAL_BITS.into(),
        "PHYS_TO_PTE_ADDR_MASK" => address::conversion_mask(f.era, granule, Output::of(granule, b.pa_bits())),
        "SEGMENT_ALIGN" => limits::SEGMENT_ALIGN,
        "MIN_KIMG_ALIGN" => limits::IMAGE_ALIGN,
        "MAX_FDT_SIZE" => limits::MAX_FDT_BYTES,
        "SUBSECTION_SHIFT" => limits::SUBSECTION_SHIFT.into(),
        "MAX_ORDER" => u64::from(limits::max_page_order(granule)) + 1,
        "MAX_PAGE_ORDER" => limits::max_page_order(granule).into(),
        "MAX_ORDER_NR_PAGES" => 1 << limits::max_page_order(granule),
        "pageblock_order" => limits::pageblock_order(f.era, granule).into(),
        "IOREMAP_MAX_ORDER" => limits::ioremap_max_shift(granule).into(),
        "THREAD_SIZE" => b.stack().bytes,
        "THREAD_ALIGN" => b.stack().align,
        "RESERVED_SWAPPER_OFFSET" => limits::reserved_root_offset(granule),
        "TRAMP_SWAPPER_OFFSET" => limits::trampoline_root_offset(granule),
        // The headers keep room for the most sizes that any page size has.
        "HUGE_MAX_HSTATE" => {
            [Granule::K4, Granule::K16, Granule::K64].map(|g| HugeArch::Arm64.sizes(g).len()).into_iter().max()? as u64
        }
        _ => return None,
    })
}

fn carve_out_value(b: &Build, name: &str) -> Option<u64> {
    let (c, granule) = (b.carve_outs(), b.f.granule);
    let identity = carve_out::of_identity(granule);
    Some(match name {
        "INIT_DIR_SIZE" => c.kernel_bytes(),
        "INIT_IDMAP_DIR_SIZE" | "IDMAP_DIR_SIZE" => c.identity_bytes(),
        "INIT_IDMAP_FDT_PAGES" => c.fdt_pages(),
        "INIT_IDMAP_FDT_SIZE" => c.fdt_bytes(),
        "INIT_IDMAP_PGTABLE_LEVELS" | "IDMAP_PGTABLE_LEVELS" => c.identity_levels().into(),
        "IDMAP_VA_BITS" => carve_out::IDMAP_VA_BITS.into(),
        "IDMAP_LEVELS" => identity.levels().into(),
        "IDMAP_ROOT_LEVEL" => (4 - identity.levels()).into(),
        "EARLY_SEGMENT_EXTRA_PAGES" => c.kernel_extra_pages(),
        "EARLY_IDMAP_EXTRA_PAGES" => c.identity_extra_pages(),
        "EARLY_IDMAP_EXTRA_FDT_PAGES" => c.fdt_extra_pages(),
        "SWAPPER_BLOCK_SHIFT" => carve_out::leaf_shift(granule).into(),
        "SWAPPER_BLOCK_SIZE" => 1 << carve_out::leaf_shift(granule),
        "SWAPPER_TABLE_SHIFT" => carve_out::table_shift(granule).into(),
        "SWAPPER_PGTABLE_LEVELS" => carve_out::boot_levels(b.geometry).into(),
        _ => return None,
    })
}

#[test]
fn every_row_of_the_headers_follows_from_the_rules() {
    let (mut compared, mut others) = (0, BTreeMap::new());
    let mut configurations = std::collections::BTreeSet::new();
    for row in ROWS.lines().skip(1) {
        let cells: Vec<&str> = row.split(',').collect();
        let [era, page, va_bits, kasan, full_name, expected] = cells[..] else { panic!("six cells: {row}") };
        configurations.insert((era, page, va_bits, kasan));
        let (name, variant) = full_name.split_once('@').unwrap_or((full_name, ""));
        let build = Build::new(era, page, va_bits, kasan, variant);
        let parts = [fixmap_value, region_value, geometry_value, limit_value, carve_out_value];
        let Some(ours) = parts.into_iter().find_map(|part| part(&build, name)) else {
            assert!(NOT_OURS.iter().any(|(other, _)| *other == name), "{row}: no rule");
            *others.entry(name).or_insert(0) += 1;
            continue;
        };
        let expected = u64::from_str_radix(expected.trim_start_matches("0x"), 16).expect("a number");
        assert_eq!(format!("{ours:#x}"), format!("{expected:#x}"), "{row}");
        compared += 1;
    }
    println!("arm64_layout.csv: {compared} rows compared, {} configurations", configurations.len());
    for (name, reason) in NOT_OURS {
        println!("  not ours: {name}, {} rows: {reason}", others[name]);
    }
    assert_eq!((compared, others.values().sum::<i32>(), configurations.len()), (15_063, 416, 104));
}

/// Facts: the sheet of 4.14, computed there from the formulas of headers derived from it; unverified against vanilla.
#[test]
fn the_layout_before_the_flip_has_the_values_of_the_sheet() {
    let b = Build::new("4.14", "4K", "48", "off", "");
    let l = &b.layout;
    assert_eq!((l.modules_start.0, l.modules_end.0), (0xffff_0000_0000_0000, 0xffff_0000_0800_0000));
    assert_eq!((l.kimage.0, l.vmalloc_end.0), (0xffff_0000_0800_0000, 0xffff_7dff_bfff_0000));
    assert_eq!((l.vmemmap_start.0, l.vmemmap_end.0), (0xffff_7e00_0000_0000, 0xffff_8000_0000_0000));
    assert_eq!((l.pci_io_start.0, l.pci_io_end.0), (0xffff_7dff_fee0_0000, 0xffff_7dff_ffe0_0000));
    assert_eq!((l.fixaddr_top.0, l.page_offset.0, l.page_end.0), (0xffff_7dff_fec0_0000, 0xffff_8000_0000_0000, 0));
    assert_eq!(l.linear_region_size(), 1 << 47);
}
