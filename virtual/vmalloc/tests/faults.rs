//! The nth request of the source fails, for every n until none does: a typed error, and nothing lost.
#![allow(clippy::unwrap_used, reason = "a test stops where an answer is missing")]

mod common;

use common::{CALLER, Flushes, Machine, Source, fresh, prot, rules, with};
use kernmem_arch::arm64::Arm64Granule4K;
use kernmem_arch::x86::X86Level4;
use kernmem_arch::{Entry, EntryFormat};
use kernmem_base::{Era, Order, Pfn, PhysAddr, VirtAddr, VirtRange};
use kernmem_page_alloc::{Gfp, PageSource};
use kernmem_pgtable::Tables;
use kernmem_pgtable::heap::HeapMem;
use kernmem_vmalloc::{Area, Env, Modified, VecStore, VmFlags, Vmalloc, VmallocError};

type Work<F> =
    fn(&mut Vmalloc<VecStore>, &mut Env<'_, '_, F, HeapMem, Source>, &[Pfn]) -> Result<VirtAddr, VmallocError>;

/// What must be as before: areas, holes, free frames and frames of tables together, leaves.
fn state<F: EntryFormat>(areas: &Vmalloc<VecStore>, machine: &Machine) -> (Vec<Area>, usize, u64, usize) {
    let frames = machine.source.free_frames() + machine.tables::<F>();
    (areas.areas().copied().collect(), areas.holes().count(), frames, leaves::<F>(areas, machine))
}

/// Leaves of the whole range.
fn leaves<F: EntryFormat>(areas: &Vmalloc<VecStore>, machine: &Machine) -> usize {
    let range = VirtRange::until(areas.rules().start, areas.rules().end).unwrap();
    let mut tables = Tables::<F, _>::new(&machine.mem, machine.root);
    let mut cursor = tables.cursor(range);
    let mut leaves = 0;
    while let Some((_, _, entry)) = cursor.next_slot().unwrap() {
        leaves += usize::from(matches!(entry, Entry::Leaf { .. }));
    }
    leaves
}

/// Runs `work` with the nth request failing, from 0 on; `limit` bounds n where failing later ones says nothing new.
/// Returns how many failed.
fn sweep<F: EntryFormat>(era: Era, work: Work<F>, limit: u64) -> u64 {
    let mut failed = 0;
    for n in 0..=limit {
        let mut machine = Machine::new(2560);
        let mut tlb = Flushes::default();
        let mut areas = fresh(rules(era, 1 << 20), 1 << 21);
        let pages: Vec<Pfn> = (0..40).map(|_| machine.source.alloc(Gfp::KERNEL, Order(0)).unwrap()).collect();
        // every second frame, so that no two are neighbours
        let pages: Vec<Pfn> = pages.into_iter().step_by(2).collect();
        let kept = with::<F, _>(&mut machine, &mut tlb, |env| areas.vmalloc(env, 0x3000, CALLER).unwrap());
        let before = state::<F>(&areas, &machine);
        machine.source.left = Some(n);
        let done = with::<F, _>(&mut machine, &mut tlb, |env| work(&mut areas, env, &pages));
        let is_reached = machine.source.left.is_none();
        machine.source.left = None;
        areas.audit().unwrap();
        match done {
            Ok(addr) => {
                let area = *areas.find_vm_area(addr).unwrap();
                let is_owned = area.nr_pages != 0;
                let free = |env: &mut Env<'_, '_, F, HeapMem, Source>| {
                    if is_owned { areas.vfree(env, addr) } else { areas.iounmap(env, addr) }
                };
                with::<F, _>(&mut machine, &mut tlb, free).unwrap();
            }
            Err(error) => {
                failed += 1;
                assert_eq!(leaves::<F>(&areas, &machine), before.3, "cleared at once, request {n}");
                let is_expected = match error {
                    VmallocError::NoPages { got, wanted } => got < wanted,
                    VmallocError::Map(kernmem_pgtable::MapError::NoFrame(_)) => true,
                    _ => false,
                };
                assert!(is_expected, "request {n}: {error:?}");
            }
        }
        let flushes = tlb.0.len();
        areas.purge(&mut tlb);
        assert_eq!(tlb.0.len(), flushes + 1, "one flush for all");
        assert_eq!(state::<F>(&areas, &machine), before, "request {n}");
        for page in &pages {
            assert_eq!(machine.source.free(*page, Order(0)), Ok(()), "the caller's pages are still the caller's");
        }
        with::<F, _>(&mut machine, &mut tlb, |env| areas.vfree(env, kept)).unwrap();
        if !is_reached {
            return failed;
        }
    }
    failed
}

fn vmalloc<F: EntryFormat>(era: Era) -> u64 {
    sweep::<F>(era, |areas, env, _| areas.vmalloc(env, 9 << 12, CALLER), u64::MAX)
}

#[test]
fn a_vmalloc_that_fails_at_any_page_or_table_leaves_nothing() {
    // 6.1 asks again, page by page, for what a lot did not give: a page that fails once is had the second time
    assert_eq!(vmalloc::<Arm64Granule4K>(Era::V6_1), 0);
    assert_eq!(vmalloc::<X86Level4>(Era::V5_10), 9);
    assert_eq!(vmalloc::<Arm64Granule4K>(Era::V7_2), 0);
}

/// An address behind another upper entry, so that tables are needed too.
fn far<F: EntryFormat>(
    areas: &mut Vmalloc<VecStore>,
    env: &mut Env<'_, '_, F, HeapMem, Source>,
    _: &[Pfn],
) -> Result<VirtAddr, VmallocError> {
    let request = areas.request(300 << 12, CALLER);
    let start = request.start + (1 << 30) - (20 << 12);
    areas.vmalloc_node_range(env, &kernmem_vmalloc::Request { start, ..request })
}

#[test]
fn a_vmalloc_across_two_tables_leaves_nothing() {
    // each of the 300 pages, and two tables of the last level and one of the middle level
    assert_eq!(sweep::<Arm64Granule4K>(Era::V5_10, far, u64::MAX), 303);
    assert_eq!(sweep::<X86Level4>(Era::V5_10, far, u64::MAX), 303);
    assert_eq!(sweep::<X86Level4>(Era::V6_1, far, u64::MAX), 3);
}

#[test]
fn a_vmap_that_fails_at_any_table_leaves_nothing() {
    fn work<F: EntryFormat>(
        areas: &mut Vmalloc<VecStore>,
        env: &mut Env<'_, '_, F, HeapMem, Source>,
        pages: &[Pfn],
    ) -> Result<VirtAddr, VmallocError> {
        // pushes the mapping over the end of the first table
        let request = areas.request(495 << 12, CALLER);
        let filler = areas.get_vm_area(&mut kernmem_base::NoTlb, &request)?.start;
        let done = areas.vmap(env, pages, VmFlags::MAP, prot::<F>(), CALLER);
        areas.free_vm_area(&mut kernmem_base::NoTlb, filler)?;
        done
    }
    assert_eq!(sweep::<Arm64Granule4K>(Era::V6_1, work, u64::MAX), 1);
    assert_eq!(sweep::<X86Level4>(Era::V6_1, work, u64::MAX), 1);
}

#[test]
fn a_huge_vmalloc_that_fails_falls_back_or_leaves_nothing() {
    fn work<F: EntryFormat>(
        areas: &mut Vmalloc<VecStore>,
        env: &mut Env<'_, '_, F, HeapMem, Source>,
        _: &[Pfn],
    ) -> Result<VirtAddr, VmallocError> {
        areas.vmalloc_huge(env, 3 << 20, CALLER)
    }
    // a request that fails once sends the call to base pages, which are there
    assert_eq!(sweep::<Arm64Granule4K>(Era::V6_1, work, 8), 0);
    assert_eq!(sweep::<X86Level4>(Era::V6_1, work, 8), 0);
}

#[test]
fn a_huge_vmalloc_without_memory_gives_back_blocks_pages_and_array() {
    // from the nth request on nothing is given: n = 1 fails the second page of the array, 3 the second block, and so on
    for n in (0..40).chain([200, 700, 770, 775, 780]) {
        let mut machine = Machine::new(2560);
        let mut tlb = Flushes::default();
        let mut areas = fresh(rules(Era::V6_1, 1 << 20), 1 << 21);
        let before = state::<Arm64Granule4K>(&areas, &machine);
        machine.source.pool.fail_after(Some(n));
        let done = with::<Arm64Granule4K, _>(&mut machine, &mut tlb, |env| areas.vmalloc_huge(env, 4 << 20, CALLER));
        machine.source.pool.fail_after(None);
        areas.audit().unwrap();
        // three tables and two pages for the array, two blocks; the middle level's table is there already
        assert_eq!(done.is_ok(), n >= 7, "{n}: {done:?}");
        if let Ok(addr) = done {
            with::<Arm64Granule4K, _>(&mut machine, &mut tlb, |env| areas.vfree(env, addr)).unwrap();
        }
        areas.purge(&mut tlb);
        assert_eq!(state::<Arm64Granule4K>(&areas, &machine), before, "{n}");
    }
}

#[test]
fn a_window_that_fails_at_any_table_leaves_nothing() {
    fn work<F: EntryFormat>(
        areas: &mut Vmalloc<VecStore>,
        env: &mut Env<'_, '_, F, HeapMem, Source>,
        _: &[Pfn],
    ) -> Result<VirtAddr, VmallocError> {
        let done = areas.ioremap(env, PhysAddr(0x4020_0000), 0x60_1000, prot::<F>(), CALLER);
        assert!(done.is_ok() || env.modified == Modified::NONE || areas.unpurged().count() > 0);
        done
    }
    // blocks of 2 MiB in the table that is there, and one table for the last page
    assert_eq!(sweep::<Arm64Granule4K>(Era::V6_1, work, u64::MAX), 1);
    assert_eq!(sweep::<X86Level4>(Era::V6_1, work, u64::MAX), 1);
}
