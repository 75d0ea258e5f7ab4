//! What each operation does to tables, frames, lists and observers.
#![allow(clippy::unwrap_used, reason = "a test stops where an answer is missing")]

mod common;

use common::{CALLER, Flushes, Machine, START, fresh, prot, rules, with};
use kernmem_arch::EntryFormat;
use kernmem_arch::arm64::Arm64Granule4K;
use kernmem_arch::x86::X86Level4;
use kernmem_base::{Era, Frame, FrameSource, Level, NoFrame, Order, Pfn, PhysAddr, VirtAddr};
use kernmem_page_alloc::{AllocError, FreeError, Gfp, PageSource};
use kernmem_pgtable::{Walk, translate};
use kernmem_vmalloc::{
    Call, Env, Line, Modified, Request, Trace, VmFlags, VmallocError, pages_on_nodes, vmalloc_to_pfn,
};

fn level_at<F: EntryFormat>(machine: &Machine, va: VirtAddr) -> Option<(Level, u64)> {
    match translate::<F, _>(&machine.mem, machine.root, va).unwrap() {
        Walk::Mapped { pa, level, .. } => Some((level, pa.0)),
        Walk::Hole { .. } => None,
    }
}

fn page_and_free<F: EntryFormat>() {
    let mut machine = Machine::new(64);
    let mut tlb = Flushes::default();
    let mut areas = fresh(rules(Era::V6_1, 1 << 20), 1 << 21);
    let free = machine.source.free_frames();
    let (addr, modified) = with::<F, _>(&mut machine, &mut tlb, |env| {
        let addr = areas.vmalloc(env, 0x2800, CALLER).unwrap();
        (addr, env.modified)
    });
    // three new tables are linked by the upper three levels
    assert!(modified.levels().eq([Level::Pgd, Level::Pud, Level::Pmd, Level::Pte]));
    let area = *areas.find_vm_area(addr + 0x2fff).unwrap();
    assert_eq!((area.start, area.size, area.nr_pages, area.flags), (VirtAddr(START), 0x4000, 3, VmFlags::ALLOC));
    assert_eq!(machine.source.free_frames(), free - 6);
    assert!(level_at::<F>(&machine, addr + 0x2000).is_some());
    assert_eq!(level_at::<F>(&machine, addr + 0x3000), None, "the guard page");
    let pfn = vmalloc_to_pfn::<F, _>(Era::V5_10, &machine.mem, machine.root, addr).unwrap();
    assert_eq!(pfn.map(|pfn| pfn.0 << 12), level_at::<F>(&machine, addr).map(|(_, pa)| pa));

    with::<F, _>(&mut machine, &mut tlb, |env| areas.vfree(env, addr)).unwrap();
    assert_eq!(level_at::<F>(&machine, addr), None, "entries go at once");
    assert_eq!((machine.tables::<F>(), machine.source.free_frames()), (3, free - 3), "pages go at once, tables stay");
    assert!(tlb.0.is_empty(), "nothing is flushed");
    // the freed addresses are not used before the flush
    let second = with::<F, _>(&mut machine, &mut tlb, |env| areas.vmalloc(env, 0x1000, CALLER)).unwrap();
    assert_eq!(second, VirtAddr(START + 0x4000));
    areas.purge(&mut tlb).unwrap();
    let again = with::<F, _>(&mut machine, &mut tlb, |env| {
        let again = areas.vmalloc(env, 0x1000, CALLER).unwrap();
        let mut pages = Modified::NONE;
        pages.add(Level::Pte);
        assert_eq!(env.modified, pages, "the tables are used again");
        again
    });
    assert_eq!(again, addr);
    let unknown = with::<F, _>(&mut machine, &mut tlb, |env| {
        assert_eq!(areas.vfree(env, VirtAddr(0)), Ok(()));
        assert_eq!(areas.vunmap(env, addr), Err(VmallocError::Owned { start: addr }));
        assert_eq!(areas.vfree(env, addr + 8), Err(VmallocError::Misaligned { addr: addr + 8 }));
        let guard = addr + 0x1000;
        assert_eq!(areas.vfree(env, guard), Err(VmallocError::Inside { addr: guard, start: addr }));
        areas.vfree(env, addr).unwrap();
        areas.vfree(env, addr)
    });
    assert_eq!(unknown, Err(VmallocError::Nonexistent { addr }));
    areas.audit().unwrap();
}

#[test]
fn pages_are_mapped_and_freed_on_arm64() {
    page_and_free::<Arm64Granule4K>();
}

#[test]
fn pages_are_mapped_and_freed_on_x86() {
    page_and_free::<X86Level4>();
}

#[test]
fn sizes_that_cannot_be_are_refused_before_anything_is_taken() {
    let mut machine = Machine::new(64);
    let mut tlb = Flushes::default();
    let mut areas = fresh(rules(Era::V6_1, 1 << 20), 1 << 21);
    machine.list.truncate(10);
    let free = machine.source.free_frames();
    with::<X86Level4, _>(&mut machine, &mut tlb, |env| {
        assert_eq!(areas.vmalloc(env, 0, CALLER), Err(VmallocError::Zero));
        let size = 65 << 12;
        assert_eq!(areas.vmalloc(env, size, CALLER), Err(VmallocError::TooLarge { size }));
        let list = VmallocError::NoList { wanted: 11, lent: 10 };
        assert_eq!(areas.vmalloc(env, 11 << 12, CALLER), Err(list));
        assert_eq!(areas.vmap(env, &[], VmFlags::MAP, prot::<X86Level4>(), CALLER), Err(VmallocError::Zero));
        assert_eq!(areas.ioremap(env, PhysAddr(0), 0, prot::<X86Level4>(), CALLER), Err(VmallocError::Zero));
        let wraps = areas.ioremap(env, PhysAddr(u64::MAX), 2, prot::<X86Level4>(), CALLER);
        assert_eq!(wraps, Err(VmallocError::TooLarge { size: 2 }));
    });
    assert_eq!((machine.source.free_frames(), areas.areas().count(), areas.lazy_pages()), (free, 1, 0));
}

fn huge<F: EntryFormat>() {
    let mut machine = Machine::new(2560);
    let mut tlb = Flushes::default();
    let mut areas = fresh(rules(Era::V6_1, 1 << 20), 1 << 21);
    let free = machine.source.free_frames();
    // a small area first, whose table stands where a block will be wanted
    let small = with::<F, _>(&mut machine, &mut tlb, |env| areas.vmalloc(env, 0x1000, CALLER)).unwrap();
    let addr = with::<F, _>(&mut machine, &mut tlb, |env| areas.vmalloc_huge(env, 3 << 20, CALLER)).unwrap();
    let area = *areas.find_vm_area(addr).unwrap();
    // rounded up to whole blocks, and a guard page
    assert_eq!((addr.0, area.size, area.nr_pages), (START + (2 << 20), (4 << 20) + 4096, 1024));
    assert_eq!(area.page_order, Order(9));
    let array = *areas.find_vm_area(area.array.unwrap()).unwrap();
    assert_eq!((array.nr_pages, array.start.0), (2, START + 0x2000), "1024 pointers need two pages");
    for block in [0, 2 << 20] {
        let (level, pa) = level_at::<F>(&machine, addr + block).unwrap();
        assert_eq!((level, pa & ((2 << 20) - 1)), (Level::Pmd, 0));
    }
    let inside = addr + 0x1_2345;
    let seen = |era| vmalloc_to_pfn::<F, _>(era, &machine.mem, machine.root, inside).unwrap();
    assert_eq!(seen(Era::V5_10), None);
    assert_eq!(seen(Era::V6_1).map(|pfn| pfn.0), level_at::<F>(&machine, inside).map(|(_, pa)| pa >> 12));
    let mut counts = [0; 2];
    let nid = |pfn: Pfn| u32::from(pfn.0 >= 1024);
    pages_on_nodes::<F, _>(&machine.mem, machine.root, &area, nid, &mut counts).unwrap();
    assert_eq!(counts, [512, 512]);
    assert_eq!(areas.nr_vmalloc_pages(), 1024 + 2 + 1);

    with::<F, _>(&mut machine, &mut tlb, |env| areas.vfree(env, addr)).unwrap();
    with::<F, _>(&mut machine, &mut tlb, |env| areas.vfree(env, small)).unwrap();
    assert_eq!(machine.source.free_frames() + machine.tables::<F>(), free, "also the array's pages");
    areas.purge(&mut tlb).unwrap();
    areas.audit().unwrap();
}

#[test]
fn a_huge_vmalloc_maps_blocks_on_arm64() {
    huge::<Arm64Granule4K>();
}

#[test]
fn a_huge_vmalloc_maps_blocks_on_x86() {
    huge::<X86Level4>();
}

#[test]
fn a_huge_vmalloc_without_blocks_has_pages() {
    let mut machine = Machine::new(1100);
    let mut tlb = Flushes::default();
    let mut areas = fresh(rules(Era::V6_1, 1 << 20), 1 << 21);
    // 1099 frames from 1 on, one taken at 600: only one block is left whole
    let taken: Vec<Pfn> = (0..600).map(|_| machine.source.alloc(Gfp::KERNEL, Order(0)).unwrap()).collect();
    taken[..599].iter().for_each(|&page| machine.source.free(page, Order(0)).unwrap());
    let addr = with::<Arm64Granule4K, _>(&mut machine, &mut tlb, |env| {
        areas.vmalloc_huge(env, 2 << 20, CALLER).map_err(|error| (error, env.modified))
    })
    .unwrap();
    assert_eq!(level_at::<Arm64Granule4K>(&machine, addr).unwrap().0, Level::Pte);
    let area = areas.find_vm_area(addr).unwrap();
    assert_eq!((area.size, area.nr_pages, area.page_order), ((2 << 20) + 4096, 512, Order(0)));
    // the block's addresses wait for a purge
    assert_eq!(areas.lazy_pages(), 513);
    areas.audit().unwrap();
}

fn blocks_replace_empty_tables<F: EntryFormat>() {
    let mut machine = Machine::new(600);
    let mut tlb = Flushes::default();
    let mut areas = fresh(rules(Era::V6_1, 1 << 20), 1 << 21);
    let free = machine.source.free_frames();
    let addr = with::<F, _>(&mut machine, &mut tlb, |env| areas.vmalloc(env, 0x1000, CALLER)).unwrap();
    with::<F, _>(&mut machine, &mut tlb, |env| areas.vfree(env, addr)).unwrap();
    areas.purge(&mut tlb).unwrap();
    assert_eq!(machine.tables::<F>(), 3);
    let window = with::<F, _>(&mut machine, &mut tlb, |env| {
        areas.ioremap(env, PhysAddr(0x4000_0123), (2 << 20) - 0x123, prot::<F>(), CALLER).unwrap()
    });
    assert_eq!(window, VirtAddr(START + 0x123), "the offset in the page is kept");
    assert_eq!(level_at::<F>(&machine, window), Some((Level::Pmd, 0x4000_0123)));
    assert_eq!(tlb.0.len(), 2, "the freed table is flushed");
    let area = *areas.find_vm_area(window).unwrap();
    assert_eq!((area.phys, area.size, area.nr_pages), (Some(PhysAddr(0x4000_0000)), (2 << 20) + 4096, 0));
    assert_eq!(area.flags, VmFlags::IOREMAP);
    with::<F, _>(&mut machine, &mut tlb, |env| areas.iounmap(env, window)).unwrap();
    assert_eq!(level_at::<F>(&machine, window), None);
    assert_eq!(machine.source.free_frames() + machine.tables::<F>(), free);
    areas.audit().unwrap();
}

#[test]
fn a_block_takes_the_place_of_an_empty_table() {
    blocks_replace_empty_tables::<Arm64Granule4K>();
    blocks_replace_empty_tables::<X86Level4>();
}

#[test]
fn windows_have_pages_where_sides_differ_or_blocks_are_forbidden() {
    let mut machine = Machine::new(600);
    let mut tlb = Flushes::default();
    let mut no_blocks = rules(Era::V6_1, 1 << 20);
    no_blocks.huge.io = false;
    for (rules, phys, level) in [
        (rules(Era::V6_1, 1 << 20), 0x4000_1000, Level::Pte),
        (rules(Era::V6_1, 1 << 20), 0x4020_0000, Level::Pmd),
        (no_blocks, 0x4000_0000, Level::Pte),
    ] {
        let mut areas = fresh(rules, 1 << 21);
        let window = with::<X86Level4, _>(&mut machine, &mut tlb, |env| {
            areas.ioremap(env, PhysAddr(phys), 2 << 20, prot::<X86Level4>(), CALLER).unwrap()
        });
        assert_eq!(level_at::<X86Level4>(&machine, window), Some((level, phys)));
        with::<X86Level4, _>(&mut machine, &mut tlb, |env| areas.iounmap(env, window)).unwrap();
    }
}

#[test]
fn mapped_pages_stay_their_owners_unless_the_area_puts_them() {
    let mut machine = Machine::new(64);
    let mut tlb = Flushes::default();
    let mut areas = fresh(rules(Era::V6_1, 1 << 20), 1 << 21);
    let free = machine.source.free_frames();
    let pages: Vec<Pfn> = (0..5).map(|_| machine.source.alloc(Gfp::KERNEL, Order(0)).unwrap()).rev().collect();
    let rights = prot::<X86Level4>();
    let flags = VmFlags::MAP | VmFlags::NO_GUARD;
    with::<X86Level4, _>(&mut machine, &mut tlb, |env| {
        let addr = areas.vmap(env, &pages, flags, rights, CALLER).unwrap();
        let area = *areas.find_vm_area(addr).unwrap();
        assert_eq!((area.flags, area.size, area.nr_pages), (VmFlags::MAP, 6 << 12, 0), "6.1 insists on the guard");
        areas.vfree(env, addr).unwrap();
        let put = VmFlags::MAP | VmFlags::MAP_PUT_PAGES;
        let addr = areas.vmap(env, &pages, put, rights, CALLER).unwrap();
        assert_eq!(areas.find_vm_area(addr).unwrap().nr_pages, 5);
        areas.vfree(env, addr).unwrap();
    });
    assert_eq!(machine.source.free_frames() + machine.tables::<X86Level4>(), free);
}

#[test]
fn a_hundred_scattered_pages_go_back_each_once() {
    let mut machine = Machine::new(256);
    let mut tlb = Flushes::default();
    let mut areas = fresh(rules(Era::V6_1, 1 << 20), 1 << 21);
    let taken: Vec<Pfn> = (0..200).map(|_| machine.source.alloc(Gfp::KERNEL, Order(0)).unwrap()).collect();
    let (mapped, kept): (Vec<Pfn>, Vec<Pfn>) = taken.iter().partition(|pfn| pfn.0 % 2 == 0);
    let free = machine.source.free_frames();
    with::<Arm64Granule4K, _>(&mut machine, &mut tlb, |env| {
        let flags = VmFlags::MAP | VmFlags::MAP_PUT_PAGES;
        let addr = areas.vmap(env, &mapped, flags, prot::<Arm64Granule4K>(), CALLER).unwrap();
        areas.vfree(env, addr).unwrap();
    });
    assert_eq!(machine.source.free_frames(), free + 100 - 3);
    assert_eq!(machine.source.pool.free_bulk(&kept), Ok(()));
}

#[test]
fn a_window_of_a_gigabyte_is_one_entry_where_the_upper_level_has_blocks() {
    for (pud, level) in [(true, Level::Pud), (false, Level::Pmd)] {
        let mut machine = Machine::new(64);
        let mut tlb = Flushes::default();
        let mut rules = rules(Era::V6_1, 1 << 20);
        rules.huge.pud = pud;
        let mut areas = fresh(rules, 1 << 21);
        with::<X86Level4, _>(&mut machine, &mut tlb, |env| {
            let window = areas.ioremap(env, PhysAddr(1 << 40), 1 << 30, prot::<X86Level4>(), CALLER).unwrap();
            assert_eq!(window, VirtAddr(START), "aligned to its size");
            assert!(env.modified.contains(level) && !env.modified.contains(Level::Pte));
        });
        assert_eq!(level_at::<X86Level4>(&machine, VirtAddr(START + 0x1234)), Some((level, (1 << 40) + 0x1234)));
    }
}

/// A source that notes what was wished for.
struct Wishes<'p>(&'p mut common::Source, Vec<(Option<u32>, Gfp)>);

impl PageSource for Wishes<'_> {
    fn alloc_on(&mut self, nid: Option<u32>, gfp: Gfp, order: Order) -> Result<Pfn, AllocError> {
        self.1.push((nid, gfp));
        self.0.alloc_on(nid, gfp, order)
    }

    fn alloc_contig(&mut self, nid: Option<u32>, gfp: Gfp, frames: u64) -> Result<Pfn, AllocError> {
        self.0.alloc_contig(nid, gfp, frames)
    }

    fn free(&mut self, pfn: Pfn, order: Order) -> Result<(), FreeError> {
        self.0.free(pfn, order)
    }

    fn adopt(&mut self, pfn: Pfn) -> Result<(), FreeError> {
        self.0.adopt(pfn)
    }

    fn free_frames(&self) -> u64 {
        self.0.free_frames()
    }
}

impl FrameSource for Wishes<'_> {
    fn take(&mut self, level: Level) -> Result<Frame, NoFrame> {
        self.0.take(level)
    }

    fn give_back(&mut self, frame: PhysAddr) {
        self.0.give_back(frame);
    }
}

#[test]
fn every_page_is_asked_of_the_node_that_was_named() {
    let mut machine = Machine::new(64);
    let mut tlb = Flushes::default();
    let mut areas = fresh(rules(Era::V6_1, 1 << 20), 1 << 21);
    with::<X86Level4, _>(&mut machine, &mut tlb, |env| {
        let mut wishes = Wishes(&mut *env.pages, Vec::new());
        let mut env = Env {
            tables: &mut *env.tables,
            pages: &mut wishes,
            tlb: &mut *env.tlb,
            trace: &mut *env.trace,
            list: &mut *env.list,
            prot: env.prot,
            table_attrs: env.table_attrs,
            total_pages: env.total_pages,
            modified: env.modified,
        };
        areas.vmalloc_node(&mut env, 3 << 12, 1, CALLER).unwrap();
        areas.vzalloc(&mut env, 2 << 12, CALLER).unwrap();
        // from any zone, without a warning; zeroed where that was asked
        let (plain, zeroed) = (Gfp(0xcc0 | 0x2 | 0x2000), Gfp(0xcc0 | 0x2 | 0x2000 | 0x100));
        let first = (Some(1), plain);
        assert_eq!(wishes.1, [first, first, first, (None, zeroed), (None, zeroed)]);
    });
}

#[test]
fn freed_neighbours_are_one_line_behind_the_busy_ones() {
    let mut machine = Machine::new(64);
    let mut tlb = Flushes::default();
    let mut areas = fresh(rules(Era::V6_1, 1 << 20), 1 << 21);
    with::<Arm64Granule4K, _>(&mut machine, &mut tlb, |env| {
        let all: Vec<VirtAddr> = (0..4).map(|_| areas.vmalloc(env, 0x1000, CALLER).unwrap()).collect();
        areas.vfree(env, all[2]).unwrap();
        areas.vfree(env, all[1]).unwrap();
    });
    let lines: Vec<_> = areas
        .lines()
        .map(|line| match line {
            Line::Area(area) => (area.start.0 - START, area.size, area.nr_pages),
            Line::Unpurged { start, size } => (start.0 - START, size, 99),
        })
        .collect();
    assert_eq!(lines, [(0, 0x2000, 1), (0x6000, 0x2000, 1), (1 << 33, 0x1000, 0), (0x2000, 0x4000, 99)]);
}

/// Names with their depth, and whether a call ended well.
#[derive(Default)]
struct Chain {
    depth: usize,
    lines: Vec<(usize, &'static str)>,
    failed: Vec<&'static str>,
}

impl Trace for Chain {
    fn enter(&mut self, call: &Call) {
        self.lines.push((self.depth, call.name()));
        self.depth += 1;
    }

    fn leave(&mut self, call: &Call, is_done: bool) {
        self.depth -= 1;
        if !is_done {
            self.failed.push(call.name());
        }
    }
}

#[test]
fn the_chain_of_a_vmalloc_is_told_by_linux_names() {
    let mut machine = Machine::new(64);
    let mut tlb = Flushes::default();
    let mut areas = fresh(rules(Era::V6_1, 1 << 20), 1 << 21);
    let mut chain = Chain::default();
    with::<X86Level4, _>(&mut machine, &mut tlb, |env| {
        let mut env = Env {
            tables: &mut *env.tables,
            pages: &mut *env.pages,
            tlb: &mut *env.tlb,
            trace: &mut chain,
            list: &mut *env.list,
            ..*env
        };
        areas.vmalloc(&mut env, 0x3000, CALLER).unwrap();
        let end = areas.rules().start + 0x1000;
        let none = Request { end, ..areas.request(0x1000, CALLER) };
        areas.vmalloc_node_range(&mut env, &none).unwrap_err();
    });
    assert_eq!(
        chain.lines[..11],
        [
            (0, "vmalloc"),
            (1, "__vmalloc_node"),
            (2, "__vmalloc_node_range"),
            (3, "__get_vm_area_node"),
            (4, "kzalloc_node"),
            (4, "alloc_vmap_area"),
            (4, "setup_vmalloc_vm"),
            (3, "__vmalloc_area_node"),
            (4, "kmalloc_node"),
            (4, "vm_area_alloc_pages"),
            (4, "vmap_pages_range"),
        ]
    );
    assert_eq!(chain.failed, ["alloc_vmap_area", "__get_vm_area_node", "__vmalloc_node_range"]);
    assert_eq!(chain.depth, 0);
}
