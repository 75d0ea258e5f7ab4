//! The shadow of KASAN in kernels that nobody recorded: one machine of 1 GiB and the symbols of a 6.1 kernel, linked where
//! each era links its image, booted with both modes of shadow.
//!
//! Expected ranges are computed by hand from the headers' constants: memory from 40000000 on lies at the start of the linear
//! map, the image is 4e0000 bytes long and was not moved.

use core::fmt::Write;

use kernmem::{Boot, Kernel};
use kernmem_base::{Era, Granule, Level, PhysAddr, PhysRange, VirtAddr};
use kernmem_config::Symbols;
use kernmem_report::ptdump;
use kernmem_sim::Memory;
use kernmem_source::{Options, Source};
use kernmem_view::entries::walk;
use kernmem_view::{Answer, BootRecord, KernelView, LayoutView, RootKind};

/// Where the symbols were linked.
const LINKED: u64 = 0xffff_8000_0800_0000;

/// What symbols other eras and KASAN add, and rooms that they or larger pages need elsewhere; as linked in 6.1.
const MORE: [(&str, u64); 18] = [
    ("idmap_pg_dir", LINKED + 0x37_0000),
    ("idmap_pg_end", LINKED + 0x38_0000),
    ("swapper_pg_dir", LINKED + 0x38_0000),
    ("__entry_tramp_data_start", LINKED + 0x2e_6000),
    ("init_idmap_pg_end", LINKED + 0x35_8000),
    ("init_pg_end", LINKED + 0x4e_0000),
    ("kasan_early_shadow_page", LINKED + 0x47_0000),
    ("kasan_early_shadow_pte", LINKED + 0x47_4000),
    ("kasan_early_shadow_pmd", LINKED + 0x47_8000),
    ("kasan_early_shadow_pud", LINKED + 0x47_c000),
    ("kasan_early_shadow_p4d", LINKED + 0x48_0000),
    ("tbl.1", LINKED + 0x48_4000),
    ("idmap_ptes", LINKED + 0x48_8000),
    ("kpti_ptes", LINKED + 0x49_4000),
    ("bm_pud", LINKED + 0x4a_0000),
    ("bm_pmd", LINKED + 0x4a_4000),
    ("bm_pte", LINKED + 0x4a_8000),
    ("reserved_pg_dir", LINKED + 0x36_c000),
];

fn symbols(of: &Symbols, image: u64) -> Symbols {
    let mut text = String::new();
    let mut line = |address: u64, name: &str| {
        writeln!(text, "{:x} d {name}", address - LINKED + image).expect("a string");
    };
    let own = of.iter().filter(|symbol| MORE.iter().all(|(name, _)| symbol.name != *name));
    own.filter(|symbol| symbol.address.0 >= LINKED).for_each(|symbol| line(symbol.address.0, &symbol.name));
    MORE.iter().for_each(|(name, address)| line(*address, name));
    Symbols::parse(&text)
}

fn kasan(era: Era, mode: &str, image: u64) -> Source {
    kasan_of(mode, image, &Options { era: Some(era), ..Options::default() })
}

fn kasan_of(mode: &str, image: u64, of: &Options) -> Source {
    let cmdline = Some("rodata=off nokaslr".to_owned());
    let options = Options { cmdline, cpu: of.cpu.clone(), ..Options::default() };
    let mut source = Source::open_with("arm64-4g", &options).expect("a preset");
    // The image stays that of 6.1: its symbols are added to and moved by hand.
    source.config.era = of.era.expect("an era");
    source.config.kconfig.name_for_all_eras();
    if let Some(granule) = of.page_size {
        source.config.kconfig.set_arm64_pages(granule);
    }
    if let Some(bits) = of.va_bits {
        source.config.kconfig.set_arm64_va_bits(bits);
    }
    let bank = &mut source.machine.memory[0];
    bank.range = PhysRange::new(PhysAddr(0x4000_0000), PhysAddr(0x8000_0000));
    source.config.symbols = symbols(&source.config.symbols, image);
    for option in ["KASAN", mode, "STACKDEPOT", "STACKDEPOT_ALWAYS_INIT"] {
        source.config.kconfig.insert(option, "y");
    }
    if source.config.era != Era::V5_10 {
        source.config.kconfig.insert("KASAN_VMALLOC", "y");
    }
    source
}

fn with_kernel(source: &Source, show: impl FnOnce(&Kernel<'_, Memory, BootRecord>)) {
    let boot = Boot::new(&source.machine, &source.config);
    let memory = Memory::new(kernmem::memory_ranges(&boot)).expect("memory");
    show(&kernmem_live::boot(&memory, &boot, BootRecord::default()).expect("a kernel that boots"));
}

/// What a line of the listing says: its range, and its rights or the level of a hole.
type Stretch = (u64, u64, String);

/// The lines of the shadow, from marker to marker, without those that touch `left_out`.
fn shadow_lines(view: &impl KernelView<Mem = Memory>, left_out: (u64, u64)) -> Vec<Stretch> {
    let mut listing = String::new();
    ptdump::linux(view, RootKind::Kernel, &mut listing).expect("a listing");
    let inside = listing.lines().skip_while(|line| !line.contains("Kasan shadow start")).skip(1);
    let lines = inside.take_while(|line| !line.contains("Kasan shadow end")).map(|line| {
        let mut words = line.split_whitespace();
        let (start, end) = words.next().and_then(|range| range.split_once('-')).expect("a range");
        let number = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).expect("an address");
        let level = words.nth(1).expect("a level");
        (number(start), number(end), words.next().map_or_else(|| format!("no {level}"), str::to_owned))
    });
    lines.filter(|(start, end, _)| *end <= left_out.0 || left_out.1 <= *start).collect()
}

fn stretches(expected: &[(u64, u64, &str)]) -> Vec<Stretch> {
    expected.iter().map(|(start, end, what)| (*start, *end, (*what).to_owned())).collect()
}

/// Where the shadow of `va` leads: its page, and whether it can be written.
fn target(kernel: &Kernel<'_, Memory, BootRecord>, va: VirtAddr) -> Option<(PhysAddr, bool)> {
    let LayoutView::Arm64 { layout, .. } = kernel.layout() else { panic!("an arm64 kernel") };
    let at = layout.shadow_map.expect("a shadow").of(va);
    let Answer::Known(root) = kernel.root(RootKind::Kernel) else { panic!("a root") };
    let last = *walk(kernel, root, at).expect("tables").last().expect("a step");
    let is_read_only = last.place.raw & 1 << 7 != 0;
    let page = last.place.raw & 0xffff_ffff_f000;
    (last.place.level == Level::Pte && last.place.raw & 1 != 0).then_some((PhysAddr(page), !is_read_only))
}

/// Each page of shadow of memory and image is memory of its own that boot has taken; the shared page backs what is outside.
fn check_memory(kernel: &Kernel<'_, Memory, BootRecord>, image: u64, per_page: u64) {
    let LayoutView::Arm64 { layout, .. } = kernel.layout() else { panic!("an arm64 kernel") };
    let linear = (0..1 << 30).step_by(per_page as usize).map(|offset| layout.page_offset + offset);
    let own = (0..0x4e_0000).step_by(per_page as usize).map(|offset| VirtAddr(image + offset));
    let Answer::Known(reserved) = kernel.reserved() else { panic!("a list") };
    let mut pages: Vec<PhysAddr> = Vec::new();
    for va in linear.chain(own) {
        let (page, is_writable) = target(kernel, va).unwrap_or_else(|| panic!("no shadow of {va:?}"));
        assert!(is_writable, "shadow of {va:?}");
        assert!(reserved.iter().any(|region| region.range().contains(page)), "shadow of {va:?} is taken");
        pages.push(page);
    }
    let count = pages.len();
    pages.sort_unstable();
    pages.dedup();
    assert_eq!(pages.len(), count, "no page serves twice");
    let Answer::Known(zero) = kernel.zero_shadow() else { panic!("a shared page") };
    for outside in [layout.page_end, VirtAddr(u64::MAX)] {
        assert_eq!(target(kernel, outside), Some((zero.page, false)), "{outside:?}");
    }
}

#[test]
fn in_5_10_the_shadow_lies_above_the_linear_map_and_vmalloc_has_none_of_its_own() {
    const IMAGE: u64 = 0xffff_a000_1000_0000;
    with_kernel(&kasan(Era::V5_10, "KASAN_GENERIC", IMAGE), |kernel| {
        let expected = [
            (0xffff_8000_0000_0000, 0xffff_8000_0800_0000, "RW"),
            (0xffff_8000_0800_0000, 0xffff_8000_4000_0000, "no PMD"),
            (0xffff_8000_4000_0000, 0xffff_8080_0000_0000, "no PUD"),
            (0xffff_8080_0000_0000, 0xffff_9000_0000_0000, "no PGD"),
            (0xffff_9000_0000_0000, 0xffff_9400_0100_0000, "ro"),
            (0xffff_9400_0100_0000, 0xffff_9400_0200_0000, "no PMD"),
            (0xffff_9400_0200_0000, 0xffff_9400_0209_c000, "RW"),
            (0xffff_9400_0209_c000, 0xffff_a000_0000_0000, "ro"),
        ];
        assert_eq!(shadow_lines(kernel, (0, 0)), stretches(&expected));
        check_memory(kernel, IMAGE, 32 << 10);
    });
}

#[test]
fn in_6_12_software_tags_take_a_sixteenth() {
    const IMAGE: u64 = 0xffff_8000_8000_0000;
    with_kernel(&kasan(Era::V6_12, "KASAN_SW_TAGS", IMAGE), |kernel| {
        let expected = [
            (0xffff_7000_0000_0000, 0xffff_7000_0400_0000, "RW"),
            (0xffff_7000_0400_0000, 0xffff_7000_4000_0000, "no PMD"),
            (0xffff_7000_4000_0000, 0xffff_7080_0000_0000, "no PUD"),
            (0xffff_7080_0000_0000, 0xffff_7700_0000_0000, "no PGD"),
            (0xffff_7700_0000_0000, 0xffff_7800_0000_0000, "ro"),
            (0xffff_7800_0000_0000, 0xffff_7800_0800_0000, "no PMD"),
            (0xffff_7fdf_fbf8_0000, 0xffff_8000_0000_0000, "ro"),
        ];
        // Behind the image's shadow comes that of the first areas.
        assert_eq!(shadow_lines(kernel, (0xffff_7800_0800_0000, 0xffff_7fdf_fbf8_0000)), stretches(&expected));
        check_memory(kernel, IMAGE, 64 << 10);
    });
}

#[test]
fn in_7_2_the_shadow_lies_as_in_6_12() {
    const IMAGE: u64 = 0xffff_8000_8000_0000;
    with_kernel(&kasan(Era::V7_2, "KASAN_GENERIC", IMAGE), |kernel| {
        let expected = [
            (0xffff_6000_0000_0000, 0xffff_6000_0800_0000, "RW"),
            (0xffff_6000_0800_0000, 0xffff_6000_4000_0000, "no PMD"),
            (0xffff_6000_4000_0000, 0xffff_6080_0000_0000, "no PUD"),
            (0xffff_6080_0000_0000, 0xffff_6c00_0000_0000, "no PGD"),
            (0xffff_6c00_0000_0000, 0xffff_7000_0000_0000, "ro"),
            (0xffff_7000_0000_0000, 0xffff_7000_1000_0000, "no PMD"),
            (0xffff_7fbf_f7f0_0000, 0xffff_8000_0000_0000, "ro"),
        ];
        assert_eq!(shadow_lines(kernel, (0xffff_7000_1000_0000, 0xffff_7fbf_f7f0_0000)), stretches(&expected));
        check_memory(kernel, IMAGE, 32 << 10);
    });
}

/// The root has two entries: the shadow begins inside the one that the linear map is in, in a table that the image keeps.
#[test]
fn a_shadow_that_shares_its_root_entry_with_the_linear_map_clears_its_own_part_alone() {
    const IMAGE: u64 = 0xffff_8000_8000_0000;
    let (page_size, va_bits) = (Some(Granule::K16), Some(48));
    let options =
        Options { era: Some(Era::V6_12), cpu: Some("max".to_owned()), page_size, va_bits, ..Options::default() };
    with_kernel(&kasan_of("KASAN_GENERIC", IMAGE, &options), |kernel| {
        let expected = [
            (0xffff_6000_0000_0000, 0xffff_6000_0800_0000, "RW"),
            (0xffff_6000_0800_0000, 0xffff_6010_0000_0000, "no PMD"),
            (0xffff_6010_0000_0000, 0xffff_6c00_0000_0000, "no PUD"),
            (0xffff_6c00_0000_0000, 0xffff_7000_0000_0000, "ro"),
            (0xffff_7000_0000_0000, 0xffff_7000_1000_0000, "no PMD"),
            (0xffff_7fef_f7f0_0000, 0xffff_8000_0000_0000, "ro"),
        ];
        assert_eq!(shadow_lines(kernel, (0xffff_7000_1000_0000, 0xffff_7fef_f7f0_0000)), stretches(&expected));
        check_memory(kernel, IMAGE, 128 << 10);
    });
}

/// With 52 bits a root entry spans 256T: the shadow begins and ends inside one.
#[test]
fn a_shadow_of_52_bits_begins_and_ends_inside_entries_of_the_root() {
    const IMAGE: u64 = 0xffff_8000_8000_0000;
    let (page_size, va_bits) = (Some(Granule::K4), Some(52));
    let options =
        Options { era: Some(Era::V6_12), cpu: Some("max".to_owned()), page_size, va_bits, ..Options::default() };
    let mut source = kasan_of("KASAN_GENERIC", IMAGE, &options);
    source.config.kconfig.insert("ARM64_PA_BITS", "52");
    with_kernel(&source, |kernel| {
        let expected = [
            (0xfffd_8000_0000_0000, 0xfffd_8000_0800_0000, "RW"),
            (0xfffd_8000_0800_0000, 0xfffd_8000_4000_0000, "no PMD"),
            (0xfffd_8000_4000_0000, 0xfffd_8080_0000_0000, "no PUD"),
            (0xfffd_8080_0000_0000, 0xfffe_0000_0000_0000, "no P4D"),
            (0xfffe_0000_0000_0000, 0xffff_0000_0000_0000, "no PGD"),
            (0xffff_0000_0000_0000, 0xffff_3000_0000_0000, "no P4D"),
            (0xffff_3000_0000_0000, 0xffff_7000_0000_0000, "ro"),
            (0xffff_7000_0000_0000, 0xffff_7000_1000_0000, "no PMD"),
            (0xffff_783f_f7f0_0000, 0xffff_8000_0000_0000, "ro"),
        ];
        assert_eq!(shadow_lines(kernel, (0xffff_7000_1000_0000, 0xffff_783f_f7f0_0000)), stretches(&expected));
        check_memory(kernel, IMAGE, 32 << 10);
    });
}

#[test]
fn in_6_1_both_modes_boot_and_tell_it() {
    for (mode, per_page, line) in [
        ("KASAN_GENERIC", 32 << 10, "kasan: KernelAddressSanitizer initialized (generic)"),
        ("KASAN_SW_TAGS", 64 << 10, "kasan: KernelAddressSanitizer initialized (sw-tags, stacktrace=on)"),
    ] {
        with_kernel(&kasan(Era::V6_1, mode, LINKED), |kernel| {
            check_memory(kernel, LINKED, per_page);
            let mut log = String::new();
            kernmem_report::boot_log::print(kernel.witness(), kernel.format(), Era::V6_1, false, &mut log)
                .expect("a log");
            assert_eq!(log.lines().filter(|told| *told == line).count(), 1, "{mode}");
            assert!(log.contains("stackdepot hash table entries: 1048576 (order: 11, 8388608 bytes, linear)"));
        });
    }
}

/// 32768 entries of 32 bytes are 1 MiB, 1000 are 32000 bytes.
#[test]
fn the_ring_of_stacks_is_as_large_as_asked() {
    let taken = |line: &str| {
        let mut source = kasan(Era::V6_1, "KASAN_SW_TAGS", LINKED);
        source.config.cmdline = kernmem_config::CommandLine::parse(line);
        let mut bytes = None;
        with_kernel(&source, |kernel| {
            let ring = kernel.witness().taken.iter().find(|one| one.taker == kernmem::takers::Taker::KasanStacks);
            bytes = ring.map(|one| one.range.size());
        });
        bytes
    };
    assert_eq!(taken(""), Some(1 << 20));
    assert_eq!(taken("kasan.stack_ring_size=1000"), Some(32_000));
    assert_eq!(taken("kasan.stacktrace=off"), None);
}
