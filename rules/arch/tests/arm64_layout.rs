//! The layout formulas against the constants that a compiler took out of the kernels' headers.

use kernmem_arch::arm64::{FixmapFacts, Kasan, Layout, LayoutFacts, linear};
use kernmem_base::{Era, Granule, VirtAddr};

const ROWS: &str = include_str!("../../../testing/golden/arm64_layout.csv");

fn facts(era: Era, granule: Granule, va_bits: u32, va_bits_actual: u32, kasan: Kasan) -> LayoutFacts {
    let fixmap =
        FixmapFacts { era, granule, relocatable: true, unmap_at_el0: true, ghes: false, sdei: false, vncr_slots: 0 };
    LayoutFacts { era, granule, va_bits, va_bits_actual, kasan, fixmap }
}

/// The value of constant `name`, if the layout tells it.
fn value(f: &LayoutFacts, name: &str) -> Option<u64> {
    let layout = Layout::new(f);
    let at = |index| layout.fixmap.address(layout.fixaddr_top, index).0;
    let place = |range: Option<(VirtAddr, VirtAddr)>| range;
    Some(match name {
        "PAGE_OFFSET" => layout.page_offset.0,
        "PAGE_END" => layout.page_end.0,
        "KASAN_SHADOW_START" => place(layout.kasan)?.0.0,
        "KASAN_SHADOW_END" => place(layout.kasan)?.1.0,
        "KASAN_SHADOW_OFFSET" => layout.shadow_map?.offset,
        "KASAN_SHADOW_SCALE_SHIFT" => layout.shadow_map?.scale.into(),
        "BPF_JIT_REGION_START" => place(layout.bpf)?.0.0,
        "BPF_JIT_REGION_END" => place(layout.bpf)?.1.0,
        "MODULES_VADDR" => layout.modules_start.0,
        "MODULES_END" => layout.modules_end.0,
        "KIMAGE_VADDR" | "VMALLOC_START" => layout.kimage.0,
        "VMALLOC_END" => layout.vmalloc_end.0,
        "FIXADDR_TOP" => layout.fixaddr_top.0,
        "FIXADDR_START" => layout.fixaddr_start.0,
        "FIXADDR_TOT_START" => layout.fixaddr_tot_start.0,
        "PCI_IO_START" => layout.pci_io_start.0,
        "PCI_IO_END" => layout.pci_io_end.0,
        "VMEMMAP_START" => layout.vmemmap_start.0,
        "VMEMMAP_END" => layout.vmemmap_end.0,
        "ARM64_MEMSTART_ALIGN" => linear::memstart_align(f.era, f.granule),
        "SECTION_SIZE_BITS" => u64::from(linear::section_size_bits(f.era, f.granule)),
        "FIX_FDT" => layout.fixmap.fdt,
        "fix_to_virt.FIX_FDT" => at(layout.fixmap.fdt),
        "FIX_ENTRY_TRAMP_TEXT1" => layout.fixmap.tramp_text,
        "fix_to_virt.FIX_ENTRY_TRAMP_TEXT1" => at(layout.fixmap.tramp_text),
        "FIX_ENTRY_TRAMP_DATA" => layout.fixmap.tramp_data,
        "__end_of_permanent_fixed_addresses" => layout.fixmap.permanent,
        "__end_of_fixed_addresses" => layout.fixmap.total,
        _ => return None,
    })
}

#[test]
fn every_layout_row_of_the_headers_is_what_the_formulas_say() {
    let mut compared = 0;
    for row in ROWS.lines().skip(1) {
        let mut cells = row.split(',');
        let mut cell = || cells.next().expect("six cells");
        let (era, page, va_bits, kasan, name, expected) = (cell(), cell(), cell(), cell(), cell(), cell());
        let era: Era = era.parse().expect("a known era");
        let granule = match page {
            "4K" => Granule::K4,
            "16K" => Granule::K16,
            "64K" => Granule::K64,
            other => panic!("page size {other}"),
        };
        let va_bits: u32 = va_bits.parse().expect("bits");
        let kasan = match kasan {
            "off" => Kasan::Off,
            "generic" => Kasan::Generic,
            "sw_tags" => Kasan::SwTags,
            other => panic!("KASAN mode {other}"),
        };
        let (name, variant) = name.split_once('@').unwrap_or((name, ""));
        let mut f = facts(era, granule, va_bits, va_bits, kasan);
        match variant {
            "" => {}
            "fallback" => f.va_bits_actual = if granule == Granule::K16 { 47 } else { 48 },
            "ghes" => f.fixmap.ghes = true,
            "ghes+sdei" => (f.fixmap.ghes, f.fixmap.sdei) = (true, true),
            "nokpti" => f.fixmap.unmap_at_el0 = false,
            _ => continue, // sizes of boot tables for sample images
        }
        let Some(ours) = value(&f, name) else { continue };
        let expected = u64::from_str_radix(expected.trim_start_matches("0x"), 16).expect("a number");
        assert_eq!(format!("{ours:#x}"), format!("{expected:#x}"), "{row}");
        compared += 1;
    }
    println!("{compared} rows equal");
    assert!(compared > 2000, "only {compared} rows were compared");
}
