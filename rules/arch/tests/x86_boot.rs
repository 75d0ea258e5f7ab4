//! Boot decisions of x86-64 against values worked out by hand and lines of recorded listings.

use kernmem_arch::x86::counters::DirectMapCounters;
use kernmem_arch::x86::cpu_entry_area::{self, AreaFacts, Kind};
use kernmem_arch::x86::direct_map::{MapRanges, split_mem_range};
use kernmem_arch::x86::direct_map::{PageSizes, SizeFacts, early_table_pages, page_sizes, why_not_larger};
use kernmem_arch::x86::fixmap::{Fixmap, FixmapFacts};
use kernmem_arch::x86::kaslr::{self, RegionFacts, Switches};
use kernmem_arch::x86::layout::{Bases, Layout, LayoutFacts, Paging};
use kernmem_arch::x86::markers::{MarkerFacts, Markers, listed_ranges};
use kernmem_arch::x86::memtype::{CacheMode, PatKind};
use kernmem_arch::x86::prealloc::{root_frames, synchronised_level, vmalloc_slots};
use kernmem_arch::x86::prot::{self, CpuFacts, Masks, Needed, Prot};
use kernmem_arch::x86::pti::{self, GlobalFacts, PtiDecision, PtiFacts, PtiMessage, PtiOption};
use kernmem_arch::x86::steps::{BottomUp, TopDown, may_use_early_tables};
use kernmem_arch::x86::zones::{ZoneLimits, dma_reserve};
use kernmem_arch::x86::{X86Attrs, bit};
use kernmem_arch::{Bound, Reason};
use kernmem_base::{Era, Level, Pfn, PhysAddr, PhysRange, VirtAddr};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

fn range(start: u64, end: u64) -> PhysRange {
    PhysRange::new(PhysAddr(start), PhysAddr(end))
}

fn layout(era: Era, paging: Paging, bases: Option<Bases>) -> Layout {
    let facts = LayoutFacts {
        era,
        paging,
        randomize_base: true,
        kasan: false,
        kmsan: false,
        force_kmap_local: false,
        physical_start: 16 * MIB,
        physical_align: 2 * MIB,
    };
    Layout::new(&facts, bases.unwrap_or(Bases::fixed(era, paging)))
}

fn bases(page_offset: u64, vmalloc: u64, vmemmap: u64) -> Bases {
    Bases { page_offset: VirtAddr(page_offset), vmalloc: VirtAddr(vmalloc), vmemmap: VirtAddr(vmemmap) }
}

const USUAL_FIXMAP: FixmapFacts = FixmapFacts {
    vsyscall: false,
    ohci1394: false,
    local_apic: true,
    io_apics: 128,
    kmap_local: 0,
    paravirt: false,
    ghes: false,
    txt: false,
};

const ALL: PageSizes = PageSizes { m2: true, g1: true };
const BIG: PageSizes = PageSizes { m2: true, g1: false };
const BASE: PageSizes = PageSizes { m2: false, g1: false };

fn pieces(ranges: &MapRanges) -> Vec<(u64, u64, PageSizes)> {
    ranges.as_slice().iter().map(|piece| (piece.range.start.0, piece.range.end.0, piece.sizes)).collect()
}

#[test]
fn a_range_is_cut_at_its_outermost_boundaries() {
    let never = |_| false;
    let cut = split_mem_range(range(MIB, 5 * GIB + 3 * MIB + 4 * KIB), ALL, never);
    let expected = [
        (MIB, 2 * MIB, BASE),
        (2 * MIB, GIB, BIG),
        (GIB, 5 * GIB, ALL),
        (5 * GIB, 5 * GIB + 2 * MIB, BIG),
        (5 * GIB + 2 * MIB, 5 * GIB + 3 * MIB + 4 * KIB, BASE),
    ];
    assert_eq!(pieces(&cut), expected);
    assert_eq!(pieces(&split_mem_range(range(0, MIB), ALL, never)), [(0, MIB, BASE)]);
    assert_eq!(pieces(&split_mem_range(range(MIB, 3 * MIB), BASE, never)), [(MIB, 3 * MIB, BASE)]);
    assert_eq!(pieces(&split_mem_range(range(MIB, MIB), ALL, never)), []);
}

#[test]
fn a_piece_inside_one_region_is_widened_to_whole_leaves() {
    // the step [0x40200000, 0x80000000) of a machine whose memory is [1M, 3G)
    let memory = range(MIB, 3 * GIB);
    let inside = |wide: PhysRange| memory.start <= wide.start && wide.end <= memory.end;
    let cut = split_mem_range(range(GIB + 2 * MIB, 2 * GIB), ALL, inside);
    assert_eq!(pieces(&cut), [(GIB + 2 * MIB, 2 * GIB, ALL)]);
    // 4K at the head of memory: [1M, 2M) lies in a 2 MiB that reaches out of it
    let cut = split_mem_range(range(MIB, 4 * MIB), ALL, inside);
    assert_eq!(pieces(&cut), [(MIB, 2 * MIB, BASE), (2 * MIB, 4 * MIB, BIG)]);
    // not widened to what the CPU lacks
    let cut = split_mem_range(range(GIB + 2 * MIB, 2 * GIB), BIG, inside);
    assert_eq!(pieces(&cut), [(GIB + 2 * MIB, 2 * GIB, BIG)]);
}

#[test]
fn larger_leaves_are_left_out_for_a_reason() {
    let facts = SizeFacts { pse: true, gbpages: true, gbpages_wanted: true, debug_pagealloc: false };
    assert_eq!(page_sizes(facts).sizes, ALL);
    let plain = page_sizes(SizeFacts { gbpages: false, ..facts });
    assert_eq!((plain.sizes, plain.no_1g), (BIG, Some(Reason::CpuLacks)));
    let refused = page_sizes(SizeFacts { gbpages_wanted: false, ..facts });
    assert_eq!((refused.sizes, refused.no_1g), (BIG, Some(Reason::NoGbpages)));
    let debug = page_sizes(SizeFacts { debug_pagealloc: true, ..facts });
    assert_eq!(
        (debug.sizes, debug.no_2m, debug.no_1g),
        (BASE, Some(Reason::DebugPagealloc), Some(Reason::DebugPagealloc))
    );

    let bank = |_| Bound::Bank;
    let memory = range(MIB, 0xbffe_0000);
    let tail = why_not_larger(&page_sizes(facts), range(0xbfe0_0000, 0xbfe0_1000), memory, bank);
    assert_eq!(tail, Reason::Edge { bound: Bound::Bank, at: PhysAddr(0xbffe_0000) });
    let head = why_not_larger(&page_sizes(facts), range(2 * MIB, 4 * MIB), memory, bank);
    assert_eq!(head, Reason::Edge { bound: Bound::Bank, at: PhysAddr(MIB) });
    assert_eq!(why_not_larger(&page_sizes(facts), range(GIB, 2 * GIB), memory, bank), Reason::LargestLeaf);
    assert_eq!(why_not_larger(&refused, range(GIB, GIB + 2 * MIB), memory, bank), Reason::NoGbpages);
}

/// All steps, where every byte of `memory` counts.
fn steps(mut steps: TopDown, memory: &[PhysRange]) -> Vec<(u64, u64)> {
    let mut list = Vec::new();
    while let Some(step) = steps.next_range() {
        steps.done(step, memory.iter().map(|piece| piece.intersect(&step).size()).sum());
        list.push((step.start.0, step.end.0));
    }
    list
}

#[test]
fn steps_down_grow_by_a_table_of_leaves_halved() {
    // 4 GiB with a PCI hole: 2M, 512M, then 128G down to 1M
    let memory = [range(0x1000, 0x9f000), range(MIB, 0xbffe_0000), range(4 * GIB, 5 * GIB)];
    let top = 5 * GIB;
    let taken = steps(TopDown::new(Era::V6_1, Some(PhysAddr(top - 2 * MIB)), PhysAddr(top)), &memory);
    assert_eq!(taken, [(top - 2 * MIB, top), (top - 512 * MIB, top - 2 * MIB), (MIB, top - 512 * MIB)]);
    // an end that is no multiple of 2M: the rest above the block comes last
    let end = 0x3ffe_0000;
    let memory = [range(MIB, end)];
    let taken = steps(TopDown::new(Era::V6_1, Some(PhysAddr(0x3fc0_0000)), PhysAddr(end)), &memory);
    assert_eq!(taken, [(0x3fc0_0000, 0x3fe0_0000), (0x2000_0000, 0x3fc0_0000), (MIB, 0x2000_0000), (0x3fe0_0000, end)]);
    // without a block
    let taken = steps(TopDown::new(Era::V5_10, None, PhysAddr(end)), &memory);
    assert_eq!(taken, [(MIB, 2 * MIB), (2 * MIB, end)]);
    let taken = steps(TopDown::new(Era::V6_12, None, PhysAddr(end)), &memory);
    assert_eq!(taken[0], (0x3fc0_0000, 0x3fe0_0000));
    assert!(TopDown::warns_without_block(Era::V6_12) && !TopDown::warns_without_block(Era::V5_10));
}

#[test]
fn steps_up_start_at_the_kernels_end() {
    let all = range(0x1e2_0000, GIB);
    let mut up = BottomUp::new(all);
    let mut taken = Vec::new();
    while let Some(step) = up.next_range() {
        up.done(step, step.size());
        taken.push((step.start.0, step.end.0));
    }
    // [0x1e20000, 0x2000000) is less than 2M, so is the sum with the next only after it
    let expected = [(0x1e2_0000, 0x200_0000), (0x200_0000, 0x220_0000), (0x220_0000, 0x2000_0000), (0x2000_0000, GIB)];
    assert_eq!(taken, expected);
    assert!(!may_use_early_tables(all, range(0x1e0_0000, 0x1e3_0000)));
    assert!(may_use_early_tables(all, range(0x1e0_0000, 0x1e1_0000)));
}

#[test]
fn the_early_table_buffer_is_what_boots_reserved() {
    // memblock=debug of 5.10, 6.1, 6.12, 7.2: 12, 16, 16, 16 pages behind __brk_base
    let pages = Era::ALL.map(|era| early_table_pages(era, true, true));
    assert_eq!(pages, [12, 12, 16, 16, 16]);
    assert_eq!(early_table_pages(Era::V6_1, false, false), 6);
}

fn counted(k4: u64, m2: u64) -> DirectMapCounters {
    let mut counters = DirectMapCounters::default();
    counters.add(Level::Pte, k4);
    counters.add(Level::Pmd, m2);
    counters
}

#[test]
fn counters_move_with_a_split_unless_they_are_empty() {
    let mut counters = counted(512 + 480, 1534 + 512);
    for _ in 0..6 {
        counters.split(Level::Pmd);
    }
    assert_eq!(counters.kib(), [16256, 4_177_920, 0]);
    counters.split(Level::Pud);
    assert_eq!(counters.kib(), [16256, 4_177_920, 0]);
    let mut debug = DirectMapCounters::default();
    debug.add(Level::Pte, 3);
    debug.split(Level::Pmd);
    assert_eq!(debug, counted(3, 0));
    debug.add(Level::Pud, 1);
    debug.split(Level::Pud);
    assert_eq!(debug, counted(3, 512));
    debug.remove(Level::Pmd, 512);
    assert_eq!(debug.kib(), [12, 0, 0]);
}

fn regions(era: Era, max_pfn: u64) -> RegionFacts {
    let paging = Paging::Level4;
    RegionFacts { era, paging, max_pfn: Pfn(max_pfn), padding_tb: 10, zone_device: false, struct_page_bytes: 64 }
}

#[test]
fn regions_without_luck_stand_close_together() {
    // 5 GiB: 1 TiB and 10 of padding; vmemmap of 11 TiB takes 176 GiB, so 1 TiB
    let facts = regions(Era::V6_1, 0x14_0000);
    assert_eq!(facts.sizes_tb(), [11, 32, 1]);
    let placed = facts.place([0; 3]);
    let expected = bases(0xffff_8880_0000_0000, 0xffff_9380_4000_0000, 0xffff_b380_8000_0000);
    assert_eq!(placed.bases, expected);
    assert_eq!(placed.physmem_last, PhysAddr((11 << 40) - 1));
    assert_eq!(regions(Era::V5_10, 0x14_0000).place([0; 3]).physmem_last, PhysAddr((64 << 40) - 1));
    assert_eq!(RegionFacts { zone_device: true, ..facts }.sizes_tb(), [64, 32, 1]);
    assert_eq!(RegionFacts { zone_device: true, era: Era::V5_10, ..facts }.sizes_tb(), [11, 32, 1]);
    assert_eq!(RegionFacts { paging: Paging::Level5, ..facts }.sizes_tb(), [11, 12_800, 1]);
}

#[test]
fn recorded_regions_can_be_drawn() {
    // x-4G-kaslr (5 GiB end of memory): each gap fits its share, so drawing the gap itself gives the base
    let facts = regions(Era::V6_1, 0x14_0000);
    let recorded = bases(0xffff_9e76_8000_0000, 0xffff_b6cd_0000_0000, 0xffff_d918_4000_0000);
    let after = |base: VirtAddr, tb: u64| base.0 + (tb << 40) + GIB;
    let gaps = [
        recorded.page_offset.0 - 0xffff_8880_0000_0000,
        recorded.vmalloc.0 - after(recorded.page_offset, 11),
        recorded.vmemmap.0 - after(recorded.vmalloc, 32),
    ];
    assert_eq!(facts.place(gaps).bases, recorded);
    // what is below 1 GiB in a draw is lost
    assert_eq!(facts.place(gaps.map(|gap| gap + GIB - 1)).bases, recorded);
}

#[test]
fn the_image_moves_by_its_alignment_within_its_region() {
    let at = |draw| kaslr::image_address(16 * MIB, 0xe2_0000, GIB, 2 * MIB, draw).0;
    assert_eq!(at(0), 0xffff_ffff_8100_0000);
    assert_eq!(at(240), 0xffff_ffff_9f00_0000); // as in x-4G-kaslr
    // (1G - 16M - 0xe20000) / 2M = 496 with a rest: 497 places
    assert_eq!((at(496), at(497)), (0xffff_ffff_bf00_0000, at(0)));
    let base = kaslr::phys_base(PhysAddr(0x51a0_0000), VirtAddr(0xffff_ffff_9f00_0000));
    let image = layout(Era::V6_1, Paging::Level4, None);
    assert_eq!(image.image_phys(VirtAddr(0xffff_ffff_9f00_1000), base), PhysAddr(0x51a0_1000));
    let kasan = Switches { randomize_memory: true, loader_flag: true, kasan: true };
    assert_eq!((kasan.image(), kasan.regions()), (true, false));
}

#[test]
fn fixed_addresses_are_where_recordings_show_devices() {
    // x-4G: two uncached pages, the IO-APIC below the local APIC
    let fixmap = Fixmap::new(&USUAL_FIXMAP);
    assert_eq!(fixmap.local_apic.map(|index| fixmap.address(index)), Some(VirtAddr(0xffff_ffff_ff7f_d000)));
    assert_eq!(fixmap.io_apic.map(|index| fixmap.address(index)), Some(VirtAddr(0xffff_ffff_ff7f_c000)));
    assert_eq!(fixmap.start(), VirtAddr(0xffff_ffff_ff77_c000));
    // boot-time mappings fill the table of slot 506
    let boot_time = fixmap.boot_time();
    assert_eq!((boot_time.start.0, boot_time.size()), (0xffff_ffff_ff40_0000, 2 * MIB));

    // the vsyscall page takes index 511, and counting goes on behind it
    let emulated = Fixmap::new(&FixmapFacts { vsyscall: true, ..USUAL_FIXMAP });
    assert_eq!((emulated.vsyscall, emulated.dbgp), (Some(511), 512));
    assert_eq!(emulated.vsyscall.map(|index| emulated.address(index)), Some(VirtAddr(0xffff_ffff_ff60_0000)));
    assert_eq!((emulated.end_permanent, emulated.btmap_end, emulated.end), (643, 1024, 1536));
    // 131 + 9 optional ones still need a table of their own; none at all do not
    let none = FixmapFacts { local_apic: false, io_apics: 0, ..USUAL_FIXMAP };
    assert_eq!((Fixmap::new(&none).end_permanent, Fixmap::new(&none).btmap_end), (2, 512));
    let more = FixmapFacts { ohci1394: true, ghes: true, paravirt: true, txt: true, ..USUAL_FIXMAP };
    assert_eq!((Fixmap::new(&more).end_permanent, Fixmap::new(&more).end), (135, 1025));
}

#[test]
fn markers_stand_in_order_at_their_addresses() {
    let (era, fixmap) = (Era::V6_1, Fixmap::new(&USUAL_FIXMAP));
    let usual = MarkerFacts { modify_ldt: true, espfix: false, efi: false };
    let markers = Markers::new(&layout(era, Paging::Level4, None), &fixmap, usual);
    let listed: Vec<_> = markers.as_slice().iter().map(|marker| (marker.name, marker.start.0)).collect();
    let expected = [
        ("User Space", 0),
        ("Kernel Space", 0x8000_0000_0000_0000),
        ("LDT remap", 0xffff_8800_0000_0000),
        ("Low Kernel Mapping", 0xffff_8880_0000_0000),
        ("vmalloc() Area", 0xffff_c900_0000_0000),
        ("Vmemmap", 0xffff_ea00_0000_0000),
        ("CPU entry Area", 0xffff_fe00_0000_0000),
        ("High Kernel Mapping", 0xffff_ffff_8000_0000),
        ("Modules", 0xffff_ffff_c000_0000),
        ("End Modules", 0xffff_ffff_ff00_0000),
        ("Fixmap Area", 0xffff_ffff_ff77_c000),
    ];
    assert_eq!(listed, expected);
    // the recorded listing names the same ones in the same order
    let listing = include_str!("../../../testing/recordings/x86/x-4G/page_tables_kernel");
    let names = listing.lines().filter_map(|line| line.strip_prefix("---[ ")?.strip_suffix(" ]---"));
    assert!(names.eq(expected.iter().map(|(name, _)| *name)));

    let facts = LayoutFacts {
        era,
        paging: Paging::Level5,
        randomize_base: false,
        kasan: true,
        kmsan: false,
        force_kmap_local: true,
        physical_start: 16 * MIB,
        physical_align: 2 * MIB,
    };
    let full = Layout::new(&facts, Bases::fixed(era, Paging::Level5));
    let all = Markers::new(&full, &fixmap, MarkerFacts { modify_ldt: true, espfix: true, efi: true });
    assert_eq!(all.as_slice().len(), 15);
    assert!(all.as_slice().is_sorted_by_key(|marker| marker.start));
    let espfix = all.as_slice().iter().find(|marker| marker.name == "ESPfix Area").expect("built");
    assert_eq!((espfix.start.0, espfix.max_lines), (0xffff_ff00_0000_0000, Some(16)));
    assert_eq!(full.modules_end.0, 0xffff_ffff_fe00_0000);
    assert_eq!(full.kasan_shadow_of(full.page_offset).0, 0xffdf_fc00_0000_0000 + (0x11 << 45));
    let ranges = listed_ranges(&full);
    assert_eq!((ranges[0].end().0, ranges[1].start.0), (1 << 56, 0xff10_0000_0000_0000));
}

#[test]
fn a_cpus_entry_area_has_the_recorded_pages() {
    let parts = cpu_entry_area::parts(AreaFacts { kasan: false, intel: true, sev_es: false });
    // x-4G, CPU 1: present lines from 0xfffffe000003c000 on
    let base = cpu_entry_area::area(1, false).0;
    assert_eq!(base, 0xffff_fe00_0003_c000);
    let mut runs: Vec<(u64, u64, Kind)> = Vec::new();
    for part in parts.iter().filter(|part| matches!(part.kind, Kind::Ro | Kind::Rw)) {
        let (start, end) = (base + part.offset, base + part.offset + part.pages * 4096);
        match runs.last_mut() {
            Some(run) if run.1 == start && run.2 == part.kind => run.1 = end,
            _ => runs.push((start, end, part.kind)),
        }
    }
    let recorded = [
        (0x3c000, 0x3d000, Kind::Ro),
        (0x3d000, 0x3e000, Kind::Rw),
        (0x3e000, 0x43000, Kind::Ro),
        (0x44000, 0x46000, Kind::Rw),
        (0x47000, 0x49000, Kind::Rw),
        (0x4a000, 0x4c000, Kind::Rw),
        (0x4d000, 0x4f000, Kind::Rw),
        (0x56000, 0x57000, Kind::Rw),
    ];
    let recorded =
        recorded.map(|(start, end, kind)| (0xffff_fe00_0000_0000 + start, 0xffff_fe00_0000_0000 + end, kind));
    assert_eq!(runs, recorded);
    let last = parts.last().expect("parts");
    assert_eq!((last.kind, last.offset + last.pages * 4096), (Kind::NoRights, 0x3b000));
    let amd = cpu_entry_area::parts(AreaFacts { kasan: false, intel: false, sev_es: false });
    assert!(amd[16..].iter().all(|part| part.kind == Kind::Unmapped));

    // global also under isolation, if the CPU can
    let isolated = Masks::new(true, true, true);
    let attrs = |kind, pge| cpu_entry_area::attrs(kind, Era::V6_1, isolated, pge).map(|attrs| attrs.0);
    assert_eq!(attrs(Kind::Ro, true), Some(0x8000_0000_0000_0161));
    assert_eq!(attrs(Kind::Rw, true), Some(0x8000_0000_0000_0163));
    assert_eq!(attrs(Kind::Rw, false), Some(0x8000_0000_0000_0063));
    assert_eq!(attrs(Kind::NoRights, true), Some(0x120));
    assert_eq!(attrs(Kind::Unmapped, true), None);
    assert!(cpu_entry_area::slots_are_drawn(Era::V6_12, true));
    assert!(!cpu_entry_area::slots_are_drawn(Era::V6_1, true) && !cpu_entry_area::slots_are_drawn(Era::V7_2, false));
    // (512G - 4K) / 0x3b000
    assert_eq!(cpu_entry_area::slots(false), 2_274_876);
}

#[test]
fn vmalloc_gets_its_tables_at_boot() {
    let count =
        |era, paging, bases| vmalloc_slots(&layout(era, paging, bases)).map(|slots| (slots.count(), slots.level));
    for era in [Era::V5_10, Era::V6_1, Era::V6_12, Era::V7_2] {
        assert_eq!(count(era, Paging::Level4, None), Some((64, Level::Pud)));
        assert_eq!(count(era, Paging::Level5, None), Some((50, Level::P4d)));
    }
    let drawn = bases(0xffff_9e76_8000_0000, 0xffff_b6cd_0000_0000, 0xffff_d918_4000_0000);
    assert_eq!(count(Era::V6_1, Paging::Level4, Some(drawn)), Some((65, Level::Pud)));
    let drawn = bases(0xff20_0000_4000_0000, 0xffa1_2345_4000_0000, 0xffd5_0000_0000_0000);
    assert_eq!(count(Era::V6_1, Paging::Level5, Some(drawn)), Some((51, Level::P4d)));
    let fixed = layout(Era::V6_1, Paging::Level4, None);
    let slots = vmalloc_slots(&fixed).expect("preallocated");
    assert_eq!((slots.first, slots.last), (402, 465));
    assert_eq!(slots.addresses(&fixed).next(), Some(VirtAddr(0xffff_c900_0000_0000)));
    assert_eq!(slots.addresses(&fixed).last(), Some(VirtAddr(0xffff_e880_0000_0000)));
    assert_eq!(synchronised_level(Era::V5_10, Paging::Level4), None);
    assert_eq!(synchronised_level(Era::V6_1, Paging::Level4), Some(Level::P4d));
    assert_eq!(synchronised_level(Era::V7_2, Paging::Level5), Some(Level::Pgd));
    assert_eq!((root_frames(Era::V6_12, true, false), root_frames(Era::V7_2, true, false)), (2, 1));
}

#[test]
fn isolation_follows_the_cpu_unless_told() {
    let facts =
        PtiFacts { built: true, option: PtiOption::Unset, mitigations_off: false, meltdown: true, xen_pv: false };
    let decide = |facts| {
        let PtiDecision { on, message } = pti::decide(Era::V6_1, facts);
        (on, message)
    };
    let safe = PtiFacts { meltdown: false, ..facts };
    assert_eq!(decide(facts), (true, None));
    assert_eq!(decide(safe), (false, None));
    assert_eq!(decide(PtiFacts { option: PtiOption::On, ..facts }), (true, None));
    assert_eq!(decide(PtiFacts { option: PtiOption::On, ..safe }), (true, Some(PtiMessage::ForceEnabled)));
    assert_eq!(decide(PtiFacts { option: PtiOption::Off, ..facts }), (false, Some(PtiMessage::DisabledByOption)));
    assert_eq!(decide(PtiFacts { option: PtiOption::Off, ..safe }), (false, None));
    assert_eq!(decide(PtiFacts { mitigations_off: true, ..facts }), (false, Some(PtiMessage::DisabledByOption)));
    assert_eq!(decide(PtiFacts { xen_pv: true, ..facts }), (false, Some(PtiMessage::DisabledOnXen)));
    assert_eq!(decide(PtiFacts { built: false, ..facts }), (false, None));

    let global = GlobalFacts { option: PtiOption::Unset, pcid: false, amd_k8: false, randstruct: false };
    assert!(pti::image_may_be_global(global));
    assert!(!pti::image_may_be_global(GlobalFacts { pcid: true, ..global }));
    assert!(!pti::image_may_be_global(GlobalFacts { option: PtiOption::On, ..global }));
    assert!(!pti::image_may_be_global(GlobalFacts { amd_k8: true, ..global }));
    assert!(!pti::image_may_be_global(GlobalFacts { randstruct: true, ..global }));
}

#[test]
fn user_entries_are_mirrored_and_lose_execution_in_the_kernel_root() {
    let write = |era, slot, raw| {
        let write = pti::root_write(era, slot, raw, true);
        (write.kernel, write.user)
    };
    assert_eq!(write(Era::V6_1, 255, 0x1067), (bit::NX | 0x1067, Some(0x1067)));
    assert_eq!(write(Era::V6_1, 256, 0x1067), (0x1067, None));
    assert_eq!(write(Era::V6_1, 0, 0), (0, Some(0)));
    let shadowed = 1 << 58 | 0x1067;
    assert_eq!(write(Era::V6_12, 0, shadowed), (shadowed, None));
    assert_eq!(write(Era::V6_1, 0, shadowed), (bit::NX | shadowed, Some(shadowed)));
    assert_eq!(pti::root_write(Era::V6_1, 0, 0x1067, false).kernel, 0x1067);
}

#[test]
fn masks_take_what_the_cpu_lacks_and_isolation_what_is_global() {
    let data = |masks: Masks| masks.kernel(Era::V6_1, Prot::Kernel).0;
    assert_eq!(data(Masks::new(true, true, false)), 0x8000_0000_0000_0163);
    assert_eq!(data(Masks::new(true, true, true)), 0x8000_0000_0000_0063);
    assert_eq!(data(Masks::new(true, false, false)), 0x8000_0000_0000_0063);
    assert_eq!(data(Masks::new(false, true, false)), 0x163);
    // isolation does not forbid an entry that asks for it
    let isolated = Masks::new(true, true, true);
    let global = X86Attrs(0x8000_0000_0000_0163);
    assert_eq!(isolated.raw_leaf(PhysAddr(0x5000), global, Level::Pte), 0x8000_0000_0000_5163);
    // a page without rights hides its frame
    let hidden = isolated.raw_leaf(PhysAddr(0), X86Attrs(0x120), Level::Pte);
    assert_eq!(hidden, 0x000f_ffff_ffff_f120);
    assert_eq!(prot::base_of(hidden, Level::Pte), PhysAddr(0));
    assert_eq!(
        prot::base_of(isolated.raw_leaf(PhysAddr(0x20_0000), X86Attrs(0xe2), Level::Pmd), Level::Pmd),
        PhysAddr(0x20_0000)
    );
    assert_eq!(isolated.raw_leaf(PhysAddr(0), X86Attrs(0), Level::Pte), 0);

    let cpu = CpuFacts { pse: true, pge: false, nx: true, gbpages: false, pcid: false };
    assert_eq!(prot::missing_feature(Era::V6_12, cpu), None);
    assert_eq!(prot::missing_feature(Era::V7_2, cpu), Some(Needed::Pge));
    assert_eq!(prot::missing_feature(Era::V6_1, CpuFacts { pse: false, ..cpu }), Some(Needed::Pse));
    assert!(!prot::nx_used(Era::V5_10, true, true) && prot::nx_used(Era::V6_1, true, true));
}

#[test]
fn memory_types_use_the_lowest_index_that_holds_them() {
    use CacheMode::{Uc, UcMinus, Wb, Wc, Wp, Wt};
    let modes = [Wb, Wc, UcMinus, Uc, Wt, Wp];
    assert_eq!(modes.map(|mode| PatKind::Full.bits(mode)), [0, 0x08, 0x10, 0x18, 0x98, 0x88]);
    assert_eq!(modes.map(|mode| PatKind::Broken.bits(mode)), [0, 0x08, 0x10, 0x18, 0x10, 0x10]);
    assert_eq!(modes.map(|mode| PatKind::None.bits(mode)), [0, 0x10, 0x10, 0x18, 0x08, 0x10]);
    assert_eq!(modes.map(|mode| PatKind::Unprogrammed.bits(mode)), [0, 0x10, 0x10, 0x18, 0x10, 0x10]);
    for kind in [PatKind::Full, PatKind::Broken, PatKind::None] {
        for mode in kind.entries() {
            let bits = kind.bits(mode);
            let index = (bits >> 3 & 1) + 2 * (bits >> 4 & 1) + 4 * (bits >> 7 & 1);
            assert_eq!(kind.entries()[index as usize], mode);
        }
    }
    // x-4G's console names them in this order
    let console = include_str!("../../../testing/recordings/x86/x-4G/console.txt");
    let (_, line) = console.split_once("Configuration [0-7]: ").expect("the boot log tells");
    let names = line.lines().next().expect("a line").split_whitespace();
    assert!(names.eq(PatKind::Full.entries().map(CacheMode::name)));
    assert_eq!(PatKind::of(true, false, true, 6, 0xd), PatKind::Broken);
    assert_eq!(PatKind::of(true, false, true, 6, 60), PatKind::Full);
    assert_eq!(PatKind::of(true, true, false, 6, 60), PatKind::None);
}

#[test]
fn zones_end_where_devices_or_memory_do() {
    let limits = ZoneLimits::new(true, true, Pfn(0x14_0000));
    assert_eq!((limits.dma, limits.dma32, limits.normal), (Some(Pfn(0x1000)), Some(Pfn(0x10_0000)), Pfn(0x14_0000)));
    let small = ZoneLimits::new(false, true, Pfn(0x3_ffe0));
    assert_eq!((small.dma, small.dma32, small.normal), (None, Some(Pfn(0x3_ffe0)), Pfn(0x3_ffe0)));

    // memory 1000-9efff and 1M on; [0, 1M) and the image from 16M on are taken
    let memory = [range(0x1000, 0x9f000), range(MIB, 0xbffe_0000)];
    let free = [range(MIB, 16 * MIB), range(0x1e1_0000, 0xbffd_f000)];
    assert_eq!(dma_reserve(Era::V6_1, memory, free), 0x9e);
    assert_eq!(dma_reserve(Era::V6_12, memory, free), 0);
}
