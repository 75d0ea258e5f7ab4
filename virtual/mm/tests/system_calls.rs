//! mmap, munmap, mprotect: the order of their errors, and which regions are one: the examples of the facts.
#![allow(clippy::unwrap_used, reason = "a test stops where an answer is missing")]

mod play;

use kernmem_arch::UserRights;
use kernmem_arch::x86::X86Level4;
use kernmem_base::{Access, Era, Granule, NoTlb, Pfn, PhysAddr, PhysRange, VirtAddr, VirtRange};
use kernmem_mm::{
    Env, Errno, Handled, KernelHalf, KernelSharing, Lent, LentCounts, Limits, Place, Region, Space, SpaceError,
};
use kernmem_page_alloc::pool::FramePool;
use kernmem_pgtable::heap::HeapMem;
use play::{Mmu, PAGE};

const ERAS: [Era; 4] = [Era::V5_10, Era::V6_1, Era::V6_12, Era::V7_2];
const RW: UserRights = UserRights::READ_WRITE;
const RO: UserRights = UserRights::READ;
const BASE: VirtAddr = VirtAddr(0x4000_0000);

/// What a call works with, owned.
struct Machine {
    mem: HeapMem,
    pool: FramePool,
    words: Vec<u32>,
    kernel: KernelHalf<X86Level4, Vec<PhysAddr>>,
    era: Era,
}

impl Machine {
    fn new(era: Era) -> Self {
        let mem = HeapMem::new(PhysRange::new(PhysAddr(0), PhysAddr(256 * PAGE)));
        let pool = FramePool::new(Granule::K4, Pfn(2), Pfn(256));
        let kernel = KernelHalf::new(PhysAddr(PAGE), KernelSharing::OnFault, era, X86Level4::VMALLOC, Vec::new());
        Self { mem, pool, words: vec![0; 256], kernel, era }
    }

    fn space(&mut self, limits: Limits) -> Space<X86Level4, Vec<Region>> {
        let root = self.kernel.new_root(&self.mem, &mut self.pool).unwrap();
        Space::new(root, limits, Vec::new())
    }

    /// Runs `call` with an environment.
    fn with<R>(&mut self, call: impl FnOnce(&mut Env<'_, HeapMem, FramePool, NoTlb, LentCounts<'_>>) -> R) -> R {
        let mut counts = LentCounts::new(Pfn(0), &mut self.words);
        call(&mut Env {
            mem: &self.mem,
            frames: &mut self.pool,
            tlb: &mut NoTlb,
            counts: &mut counts,
            zero_page: PhysAddr(0),
            era: self.era,
        })
    }
}

/// Regions as start page, end page and whether they may be written, counted from [`BASE`].
fn shape(space: &Space<X86Level4, Vec<Region>>) -> Vec<(u64, u64, bool)> {
    let page = |va: VirtAddr| (va - BASE) / PAGE;
    space.regions().iter().map(|region| (page(region.start), page(region.end), region.rights.write)).collect()
}

/// Recorded on 6.1: one line after two mappings one below the other; three after the middle of three pages lost its
/// right to write; one again after it got it back.
#[test]
fn the_recorded_example_of_merging_holds_in_every_era() {
    for era in ERAS {
        let mut machine = Machine::new(era);
        let mut space = machine.space(Limits::x86_64());
        machine.with(|env| {
            let three = space.mmap(env, Place::Anywhere, 3 * PAGE, RW).unwrap();
            assert_eq!(three.0 + 3 * PAGE, Limits::x86_64().mmap_base.0);
            let one = space.mmap(env, Place::Anywhere, PAGE, RW).unwrap();
            assert_eq!((one.0 + PAGE, space.regions().len()), (three.0, 1));
            space.mprotect(env, three + PAGE, PAGE, RO).unwrap();
            assert_eq!(space.regions().len(), 3);
            space.mprotect(env, three + PAGE, PAGE, RW).unwrap();
            assert_eq!(space.regions().len(), 1);
        });
    }
}

/// Facts: unfaulted or faulted by the same process, the three become one again.
#[test]
fn pages_of_the_same_process_are_no_obstacle() {
    for era in ERAS {
        for when in 0..3 {
            let mut machine = Machine::new(era);
            let mut space = machine.space(Limits::x86_64());
            machine.with(|env| {
                space.mmap(env, Place::Fixed(BASE), 3 * PAGE, RW).unwrap();
                let touch = |env: &mut _, page: u64, space: &mut Space<_, _>| {
                    let va = BASE + page * PAGE;
                    space.fault(env, va, Access::Write, kernmem_base::Privilege::User)
                };
                if when == 0 {
                    assert_eq!(touch(env, 1, &mut space), Ok(Handled::NewPage));
                }
                space.mprotect(env, BASE + PAGE, PAGE, RO).unwrap();
                assert_eq!(shape(&space), [(0, 1, true), (1, 2, false), (2, 3, true)]);
                if when == 1 {
                    // The first part alone gets a page, behind the split.
                    assert_eq!(touch(env, 0, &mut space), Ok(Handled::NewPage));
                }
                space.mprotect(env, BASE + PAGE, PAGE, RW).unwrap();
                assert_eq!(shape(&space), [(0, 3, true)], "{era:?} {when}");
            });
        }
    }
}

/// Facts: an inherited group stands in the way of a merge with a region that has none.
#[test]
fn a_child_s_inherited_regions_do_not_merge_with_new_ones() {
    let mut machine = Machine::new(Era::V6_1);
    let mut parent = machine.space(Limits::x86_64());
    let root = machine.kernel.new_root(&machine.mem, &mut machine.pool).unwrap();
    machine.with(|env| {
        parent.mmap(env, Place::Fixed(BASE), PAGE, RW).unwrap();
        parent.fault(env, BASE, Access::Write, kernmem_base::Privilege::User).unwrap();
        let mut child = parent.fork(env, root, Vec::new()).unwrap();
        for space in [&mut parent, &mut child] {
            space.mmap(env, Place::Fixed(BASE + PAGE), PAGE, RW).unwrap();
        }
        assert_eq!((shape(&parent), shape(&child).len()), (vec![(0, 2, true)], 2));
    });
}

/// Memory that could once be written counts for good; memory that never could does not: they differ.
#[test]
fn read_only_memory_that_was_writable_is_another_kind() {
    let mut machine = Machine::new(Era::V6_1);
    let mut space = machine.space(Limits::x86_64());
    machine.with(|env| {
        space.mmap(env, Place::Fixed(BASE), PAGE, RW).unwrap();
        space.mprotect(env, BASE, PAGE, RO).unwrap();
        space.mmap(env, Place::Fixed(BASE + PAGE), PAGE, RO).unwrap();
        assert_eq!(shape(&space), [(0, 1, false), (1, 2, false)]);
        space.mmap(env, Place::Fixed(BASE + 2 * PAGE), PAGE, RO).unwrap();
        assert_eq!(shape(&space), [(0, 1, false), (1, 3, false)]);
    });
}

/// The cases of the facts' table, by number: P is [0, 2), N is [3, 5), the hole [2, 3).
#[test]
fn the_eight_cases_of_merging() {
    let check =
        |case: u32, build: &[(u64, u64, UserRights)], change: (u64, u64, UserRights), expected: &[(u64, u64, bool)]| {
            let mut machine = Machine::new(Era::V6_1);
            let mut space = machine.space(Limits::x86_64());
            machine.with(|env| {
                for (start, end, rights) in build {
                    // All could be written once, so that they differ in their rights alone.
                    let va = BASE + start * PAGE;
                    space.mmap(env, Place::Fixed(va), (end - start) * PAGE, RW).unwrap();
                    space.mprotect(env, va, (end - start) * PAGE, *rights).unwrap();
                }
                let (start, end, rights) = change;
                let (va, bytes) = (BASE + start * PAGE, (end - start) * PAGE);
                match case {
                    1..=3 => assert_eq!(space.mmap(env, Place::FixedNoReplace(va), bytes, rights), Ok(va)),
                    _ => space.mprotect(env, va, bytes, rights).unwrap(),
                }
                assert_eq!(shape(&space), expected, "case {case}");
            });
        };
    check(1, &[(0, 2, RW), (3, 5, RW)], (2, 3, RW), &[(0, 5, true)]);
    check(2, &[(0, 2, RW), (3, 5, RO)], (2, 3, RW), &[(0, 3, true), (3, 5, false)]);
    check(3, &[(0, 2, RO), (3, 5, RW)], (2, 3, RW), &[(0, 2, false), (2, 5, true)]);
    check(4, &[(0, 3, RO), (3, 5, RW)], (2, 3, RW), &[(0, 2, false), (2, 5, true)]);
    check(5, &[(0, 2, RW), (2, 5, RO)], (2, 3, RW), &[(0, 3, true), (3, 5, false)]);
    check(6, &[(0, 2, RW), (2, 3, RO), (3, 5, RW)], (2, 3, RW), &[(0, 5, true)]);
    check(7, &[(0, 2, RW), (2, 3, RO), (3, 5, UserRights::NONE)], (2, 3, RW), &[(0, 3, true), (3, 5, false)]);
    check(8, &[(0, 2, UserRights::NONE), (2, 3, RO), (3, 5, RW)], (2, 3, RW), &[(0, 2, false), (2, 5, true)]);
}

#[test]
fn mmap_refuses_in_the_order_of_its_checks() {
    let mut machine = Machine::new(Era::V6_1);
    let mut space = machine.space(Limits::x86_64());
    let size = Limits::x86_64().task_size;
    machine.with(|env| {
        let mut refused = |place, bytes, errno| {
            let error: SpaceError = space.mmap(env, place, bytes, RW).unwrap_err();
            assert_eq!(error.errno(), errno, "{error}");
            error
        };
        assert_eq!(refused(Place::Fixed(VirtAddr(1)), 0, Errno::Inval), SpaceError::ZeroLength);
        refused(Place::Anywhere, u64::MAX, Errno::NoMem);
        refused(Place::Anywhere, size.0, Errno::NoMem);
        refused(Place::Fixed(VirtAddr(size.0)), PAGE, Errno::NoMem);
        let va = BASE + 1;
        assert_eq!(refused(Place::Fixed(va), PAGE, Errno::Inval), SpaceError::Misaligned { va });
        refused(Place::Fixed(VirtAddr(0xf000)), PAGE, Errno::Perm);
        space.mmap(env, Place::Fixed(BASE), PAGE, RW).unwrap();
        let mut refused = |place, bytes| space.mmap(env, place, bytes, RW).unwrap_err().errno();
        assert_eq!(refused(Place::FixedNoReplace(BASE - PAGE), 2 * PAGE), Errno::Exist);
        // Adjacent on both sides is no overlap.
        assert_eq!(space.mmap(env, Place::FixedNoReplace(BASE - PAGE), PAGE, RW), Ok(BASE - PAGE));
        assert_eq!(space.mmap(env, Place::FixedNoReplace(BASE + PAGE), PAGE, RW), Ok(BASE + PAGE));
        assert_eq!(shape_from(&space, BASE - PAGE), [(0, 3, true)]);
    });
}

fn shape_from(space: &Space<X86Level4, Vec<Region>>, base: VirtAddr) -> Vec<(u64, u64, bool)> {
    let page = |va: VirtAddr| (va - base) / PAGE;
    space.regions().iter().map(|region| (page(region.start), page(region.end), region.rights.write)).collect()
}

/// By hand: a hint is rounded down and raised to the minimum; one that is taken sends the search to the top; when
/// nothing is free below the base, the search goes up from its own.
#[test]
fn where_a_region_goes() {
    let limits = Limits {
        task_size: VirtAddr(0x100_0000),
        mmap_base: VirtAddr(0x1_3000),
        unmapped_base: VirtAddr(0x2_0000),
        min_addr: VirtAddr(0x1_0000),
        max_regions: 100,
    };
    let mut machine = Machine::new(Era::V6_1);
    let mut space = machine.space(limits);
    machine.with(|env| {
        let mut at = |place, pages: u64| space.mmap(env, place, pages * PAGE, RW).map(|va| va.0);
        assert_eq!(at(Place::Hint(VirtAddr(0x5_0fff)), 1), Ok(0x5_0000));
        assert_eq!(at(Place::Hint(VirtAddr(0x1000)), 1), Ok(0x1_0000));
        assert_eq!(at(Place::Hint(VirtAddr(0x5_0000)), 1), Ok(0x1_2000));
        assert_eq!(at(Place::Hint(VirtAddr(0xfff)), 1), Ok(0x1_1000));
        assert_eq!(at(Place::Anywhere, 2), Ok(0x2_0000));
        assert_eq!(at(Place::Anywhere, 0x30), Ok(0x5_1000));
        assert_eq!(at(Place::Anywhere, 0xff0), Err(SpaceError::NoRoom { bytes: 0xff_0000 }));
        assert_eq!(at(Place::Anywhere, 0xff1), Err(SpaceError::TooLong { bytes: 0xff_1000 }));
    });
}

#[test]
fn munmap_and_mprotect_refuse_in_the_order_of_their_checks() {
    let mut machine = Machine::new(Era::V6_1);
    let mut space = machine.space(Limits::x86_64());
    let size = Limits::x86_64().task_size;
    machine.with(|env| {
        space.mmap(env, Place::Fixed(BASE), 2 * PAGE, RW).unwrap();
        let unmap = |space: &mut Space<_, _>, env: &mut _, va, bytes| {
            Space::<X86Level4, Vec<Region>>::munmap(space, env, va, bytes).map_err(|error| error.errno())
        };
        assert_eq!(unmap(&mut space, env, BASE + 1, PAGE), Err(Errno::Inval));
        assert_eq!(unmap(&mut space, env, BASE, 0), Err(Errno::Inval));
        assert_eq!(unmap(&mut space, env, size, PAGE), Err(Errno::Inval));
        assert_eq!(unmap(&mut space, env, BASE + 8 * PAGE, PAGE), Ok(()));
        assert_eq!(space.mprotect(env, BASE + 1, PAGE, RO), Err(SpaceError::Misaligned { va: BASE + 1 }));
        assert_eq!(space.mprotect(env, BASE + 64 * PAGE, 0, RO), Ok(()));
        let top = VirtAddr(u64::MAX - 0xfff);
        assert_eq!(space.mprotect(env, top, 2 * PAGE, RO).unwrap_err().errno(), Errno::NoMem);
        assert_eq!(space.mprotect(env, BASE - PAGE, PAGE, RO), Err(SpaceError::NotMapped { va: BASE - PAGE }));
        // A hole on the way: what lies before it has changed.
        let hole = SpaceError::NotMapped { va: BASE + 2 * PAGE };
        assert_eq!(space.mprotect(env, BASE + PAGE, 4 * PAGE, RO), Err(hole));
        assert_eq!(shape(&space), [(0, 1, true), (1, 2, false)]);
    });
}

/// By hand: page 511 and page 512 of a gigabyte have a page table each. The table of a neighbour that was never touched
/// stays, an empty one goes: what Linux frees lies between the region before and the region behind.
#[test]
fn a_table_goes_with_the_last_region_of_its_addresses() {
    let mut machine = Machine::new(Era::V6_1);
    let mut space = machine.space(Limits::x86_64());
    machine.with(|env| {
        let end = BASE + 512 * PAGE;
        space.mmap(env, Place::Fixed(end - 2 * PAGE), 4 * PAGE, RW).unwrap();
        for va in [end - PAGE, end] {
            space.fault(env, va, Access::Write, kernmem_base::Privilege::User).unwrap();
        }
        assert_eq!((space.table_bytes(), space.anon_pages()), (4 * PAGE, 2));
        // Page 510 lies under the first page table and was never touched.
        space.munmap(env, end - PAGE, PAGE).unwrap();
        assert_eq!((space.table_bytes(), space.anon_pages()), (4 * PAGE, 1));
        space.munmap(env, end - 2 * PAGE, PAGE).unwrap();
        assert_eq!(space.table_bytes(), 3 * PAGE);
        space.munmap(env, end, 2 * PAGE).unwrap();
        assert_eq!((space.table_bytes(), space.anon_pages()), (0, 0));
    });
}

#[test]
fn at_the_limit_of_regions_a_split_is_refused_and_changes_nothing() {
    let mut machine = Machine::new(Era::V6_1);
    let limits = Limits { max_regions: 2, ..Limits::x86_64() };
    let mut space = machine.space(limits);
    machine.with(|env| {
        space.mmap(env, Place::Fixed(BASE), 3 * PAGE, RW).unwrap();
        space.mmap(env, Place::Fixed(BASE + 4 * PAGE), PAGE, RW).unwrap();
        let before = shape(&space);
        assert_eq!(space.munmap(env, BASE + PAGE, PAGE), Err(SpaceError::TooManyRegions));
        assert_eq!(space.mprotect(env, BASE, PAGE, RO), Err(SpaceError::TooManyRegions));
        assert_eq!(shape(&space), before);
        // The whole of a region, or one end of it for munmap, needs no further one.
        assert_eq!(space.munmap(env, BASE, PAGE), Ok(()));
        assert_eq!(space.mprotect(env, BASE + PAGE, 2 * PAGE, RO), Ok(()));
        // One more than the limit may be made: the check asks whether there are more already.
        assert_eq!(space.mmap(env, Place::Fixed(BASE + 8 * PAGE), PAGE, RW), Ok(BASE + 8 * PAGE));
        let refused = space.mmap(env, Place::Fixed(BASE + 10 * PAGE), PAGE, RW);
        assert_eq!(refused, Err(SpaceError::TooManyRegions));
    });
}

#[test]
fn a_lent_list_of_regions_says_when_it_is_full() {
    let mut machine = Machine::new(Era::V6_1);
    let root = machine.kernel.new_root(&machine.mem, &mut machine.pool).unwrap();
    let child_root = machine.kernel.new_root(&machine.mem, &mut machine.pool).unwrap();
    let (mut slots, mut fewer) = ([Region::default(); 2], [Region::default(); 1]);
    let mut space = Space::<X86Level4, _>::new(root, Limits::x86_64(), Lent::new(&mut slots));
    machine.with(|env| {
        for nr in [0, 2] {
            space.mmap(env, Place::Fixed(BASE + nr * PAGE), PAGE, RW).unwrap();
        }
        let full = space.mmap(env, Place::Fixed(BASE + 4 * PAGE), PAGE, RW);
        assert_eq!(full, Err(SpaceError::TooManyRegions));
        assert_eq!(space.regions().len(), 2);
        let failed = space.fork(env, child_root, Lent::new(&mut fewer)).unwrap_err();
        assert_eq!(failed.error, SpaceError::TooManyRegions);
        // A page between the two makes them one.
        assert_eq!(space.mmap(env, Place::Fixed(BASE + PAGE), PAGE, RW), Ok(BASE + PAGE));
        let whole = VirtRange::of_size(BASE, 3 * PAGE);
        assert_eq!(space.regions().iter().map(Region::range).collect::<Vec<_>>(), [whole]);
    });
}
