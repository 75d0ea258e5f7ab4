//! A thousand processes and a mapping of the kernel: each way of following it, its price, and how it once went wrong.
#![allow(clippy::unwrap_used, reason = "a test stops where an answer is missing")]

use kernmem_arch::UserFormat;
use kernmem_arch::arm64::{Arm64Attrs, Arm64Granule4K};
use kernmem_arch::x86::{X86Attrs, X86Level4, X86Level5};
use kernmem_base::{BusFault, Era, Granule, Pfn, PhysAddr, PhysRange, PhysRead, VirtAddr, VirtRange};
use kernmem_mm::{
    History, KernelFault, KernelHalf, KernelHandled, KernelSharing, RootError, SharingCounts, SyncError, UserRoot,
};
use kernmem_page_alloc::PageSource;
use kernmem_page_alloc::pool::FramePool;
use kernmem_pgtable::heap::HeapMem;
use kernmem_pgtable::{Mapping, Sizes, Tables, Walk, translate};

const X86_VMALLOC: VirtRange =
    VirtRange { start: VirtAddr(0xffff_c900_0000_0000), last: VirtAddr(0xffff_e8ff_ffff_ffff) };
const ARM64_VMALLOC: VirtRange =
    VirtRange { start: VirtAddr(0xffff_8000_0800_0000), last: VirtAddr(0xffff_fdff_bfff_ffff) };
/// What is mapped: two pages on both sides of the boundary of two slots of the root.
const AREA: VirtRange = VirtRange { start: VirtAddr(0xffff_c97f_ffff_f000), last: VirtAddr(0xffff_c980_0000_0fff) };
const X86_DATA: X86Attrs = X86Attrs(0x8000_0000_0000_0163);
const ROOTS: u64 = 1000;

struct Machine<F: UserFormat> {
    mem: HeapMem,
    pool: FramePool,
    kernel: KernelHalf<F, Vec<PhysAddr>>,
    roots: Vec<UserRoot>,
}

impl<F: UserFormat> Machine<F> {
    /// Frames from `first` on.
    fn new(sharing: KernelSharing, history: History, vmalloc: VirtRange, first: u64) -> Self {
        let end = first + ROOTS + 200;
        let mem = HeapMem::new(PhysRange::new(PhysAddr(first << 12), PhysAddr(end << 12)));
        let mut pool = FramePool::new(Granule::K4, Pfn(first.max(1)), Pfn(end));
        let reference = pool.take_frame().unwrap();
        let kernel = KernelHalf::new(reference, sharing, Era::V5_10, vmalloc, Vec::new()).with_history(history);
        Self { mem, pool, kernel, roots: Vec::new() }
    }

    fn make_roots(&mut self, count: u64) {
        for _ in 0..count {
            self.roots.push(self.kernel.new_root(&self.mem, &mut self.pool).unwrap());
        }
    }

    fn map(&mut self, range: VirtRange, attrs: F::Attrs) -> Result<(), SyncError> {
        let mapping =
            Mapping::<F>::new(PhysAddr(0x7000_0000), attrs, Sizes::PAGES).with_table_attrs(F::table(Era::V5_10));
        let pool = &mut self.pool;
        let (done, followed) =
            self.kernel.change(&self.mem, range, |tables| tables.cursor(range).map(pool, &mapping).unwrap());
        done.forgive("a fresh mapping leaves no debt");
        followed
    }

    /// Accesses both ends of the range under each root; the faults that no rule mends.
    fn access_all(&mut self, range: VirtRange) -> Vec<KernelFault> {
        let mut unmended = Vec::new();
        for root in &self.roots {
            for va in [range.start, range.last] {
                while translate::<F, _>(&self.mem, root.pa(), va)
                    == Ok(Walk::Hole { level: F::shape().levels[0].level })
                {
                    match self.kernel.fault(&self.mem, root.pa(), va) {
                        Ok(handled) => assert_eq!(handled, KernelHandled::Copied),
                        Err(fault) => {
                            unmended.push(fault);
                            break;
                        }
                    }
                }
            }
        }
        unmended
    }

    fn sees(&self, range: VirtRange) -> usize {
        let mapped = |root: PhysAddr, va| matches!(translate::<F, _>(&self.mem, root, va), Ok(Walk::Mapped { .. }));
        self.roots.iter().filter(|root| mapped(root.pa(), range.start) && mapped(root.pa(), range.last)).count()
    }
}

fn x86(sharing: KernelSharing, history: History) -> Machine<X86Level4> {
    Machine::new(sharing, history, X86_VMALLOC, 0x100)
}

/// Half of the roots before the mapping, half behind it.
fn half_before_half_behind(machine: &mut Machine<X86Level4>) -> Vec<KernelFault> {
    machine.make_roots(ROOTS / 2);
    machine.map(AREA, X86_DATA).unwrap();
    machine.make_roots(ROOTS / 2);
    machine.access_all(AREA)
}

/// By hand: 500 old roots lack two entries each, one fault an entry; the 500 new ones were born with both.
#[test]
fn on_fault_each_old_root_pays_for_itself() {
    let mut machine = x86(KernelSharing::OnFault, History::Right);
    assert_eq!(half_before_half_behind(&mut machine), []);
    assert_eq!(machine.sees(AREA), 1000);
    let counts = SharingCounts { faults: 1000, entries_copied: 1000, ..SharingCounts::default() };
    assert_eq!(machine.kernel.counts(), counts);
}

/// By hand: two new entries, each carried to the 500 roots that exist: two walks over the list; no fault ever.
#[test]
fn at_mapping_the_mapper_pays_for_all() {
    let mut machine = x86(KernelSharing::AtMapping, History::Right);
    assert_eq!(half_before_half_behind(&mut machine), []);
    assert_eq!(machine.sees(AREA), 1000);
    let counts = SharingCounts { entries_copied: 1000, roots_visited: 1000, list_walks: 2, ..SharingCounts::default() };
    assert_eq!(machine.kernel.counts(), counts);
}

/// By hand: 32 TiB in slots of 512 GiB are 64 tables, 402 to 465; afterwards nothing is copied and nobody faults.
#[test]
fn preallocated_boot_pays_once() {
    let mut machine = x86(KernelSharing::Preallocated, History::Right);
    assert_eq!(machine.kernel.preallocate(&machine.mem, &mut machine.pool), Ok(64));
    assert_eq!(half_before_half_behind(&mut machine), []);
    assert_eq!(machine.sees(AREA), 1000);
    let counts = SharingCounts { tables_preallocated: 64, ..SharingCounts::default() };
    assert_eq!(machine.kernel.counts(), counts);
    let present =
        |slot: &usize| machine.mem.entry::<core::sync::atomic::AtomicU64>(machine.kernel.reference(), *slot) != Ok(0);
    let slots: Vec<usize> = (0..512).filter(present).collect();
    assert_eq!(slots, (402..=465).collect::<Vec<_>>());
}

/// By hand: 12.5 PiB in slots of 256 TiB are 50 tables, 416 to 465; without them each of 500 old roots lacks the two
/// entries on both sides of a slot's boundary.
#[test]
fn five_levels_have_fewer_and_larger_slots() {
    const VMALLOC: VirtRange =
        VirtRange { start: VirtAddr(0xffa0_0000_0000_0000), last: VirtAddr(0xffd1_ffff_ffff_ffff) };
    let area = VirtRange { start: VirtAddr(0xffa0_ffff_ffff_f000), last: VirtAddr(0xffa1_0000_0000_0fff) };
    let play = |sharing| {
        let mut machine = Machine::<X86Level5>::new(sharing, History::Right, VMALLOC, 0x100);
        let made = machine.kernel.preallocate(&machine.mem, &mut machine.pool);
        machine.make_roots(ROOTS / 2);
        machine.map(area, X86_DATA).unwrap();
        machine.make_roots(ROOTS / 2);
        assert_eq!((machine.access_all(area), machine.sees(area)), (Vec::new(), 1000), "{sharing:?}");
        let present = |slot: &usize| {
            machine.mem.entry::<core::sync::atomic::AtomicU64>(machine.kernel.reference(), *slot) != Ok(0)
        };
        (made, machine.kernel.counts(), (0..512).filter(present).collect::<Vec<usize>>())
    };
    let none = SharingCounts::default();
    let boot = SharingCounts { tables_preallocated: 50, ..none };
    assert_eq!(play(KernelSharing::Preallocated), (Ok(50), boot, (416..=465).collect()));
    let faults = SharingCounts { faults: 1000, entries_copied: 1000, ..none };
    assert_eq!(play(KernelSharing::OnFault), (Ok(0), faults, vec![416, 417]));
    let walks = SharingCounts { entries_copied: 1000, roots_visited: 1000, list_walks: 2, ..none };
    assert_eq!(play(KernelSharing::AtMapping), (Ok(0), walks, vec![416, 417]));
}

#[test]
fn a_second_mapping_in_the_same_slots_costs_nothing_in_any_way() {
    for sharing in [KernelSharing::OnFault, KernelSharing::AtMapping] {
        let mut machine = x86(sharing, History::Right);
        half_before_half_behind(&mut machine);
        let before = machine.kernel.counts();
        let more = VirtRange { start: AREA.start - 0x2000, last: AREA.start - 1 };
        machine.map(more, X86_DATA).unwrap();
        assert_eq!(machine.access_all(more), []);
        assert_eq!((machine.sees(more), machine.kernel.counts()), (1000, before), "{sharing:?}");
    }
}

/// The kernel of arm64 has a root of its own: a process's is empty, and stays so.
#[test]
fn on_arm64_there_is_nothing_to_follow() {
    let mut machine = Machine::<Arm64Granule4K>::new(KernelSharing::OnFault, History::Right, ARM64_VMALLOC, 0x100);
    assert_eq!(machine.kernel.sharing(), KernelSharing::OwnRoot);
    machine.make_roots(ROOTS / 2);
    let area = VirtRange::of_size(ARM64_VMALLOC.start, 0x2000).unwrap();
    machine.map(area, Arm64Attrs(0x00e8_0000_0000_0703)).unwrap();
    machine.make_roots(ROOTS / 2);
    let reference = machine.kernel.reference();
    assert!(matches!(translate::<Arm64Granule4K, _>(&machine.mem, reference, area.start), Ok(Walk::Mapped { .. })));
    assert_eq!(machine.kernel.counts(), SharingCounts::default());
    for root in &machine.roots {
        let table = machine.mem.table::<core::sync::atomic::AtomicU64>(root.pa(), 512).unwrap();
        assert!(table.iter().all(|slot| slot.load(core::sync::atomic::Ordering::Relaxed) == 0));
    }
}

/// A kernel that dropped the fault rule and put nothing in its place: whoever is older than the mapping faults for
/// good, whoever is younger does not.
#[test]
fn without_any_way_old_roots_fault_for_good() {
    for sharing in [KernelSharing::OnFault, KernelSharing::AtMapping, KernelSharing::Preallocated] {
        let mut machine = x86(sharing, History::NoWay);
        assert_eq!(machine.kernel.preallocate(&machine.mem, &mut machine.pool), Ok(0));
        let faults = half_before_half_behind(&mut machine);
        assert_eq!((faults.len(), machine.sees(AREA)), (1000, 500), "{sharing:?}");
        assert!(faults.iter().all(|fault| matches!(fault, KernelFault::NoRule { .. })));
    }
}

/// The first preallocation took the address in an empty entry, frame 0, for a table. Where no memory lies there, the
/// read itself fails.
#[test]
fn the_first_preallocation_reads_a_table_where_there_is_none() {
    let mut machine = x86(KernelSharing::Preallocated, History::DereferencesAbsent);
    let failed = machine.kernel.preallocate(&machine.mem, &mut machine.pool);
    let Err(SyncError::Dereferenced { slot: 402, error }) = failed else { panic!("{failed:?}") };
    assert_eq!((error.pa, error.fault), (PhysAddr(0), BusFault::Hole));
}

/// Where memory lies in frame 0, its bytes decide: slots whose word is not zero are taken for made, and old roots fault
/// there for good.
#[test]
fn the_first_preallocation_leaves_out_what_the_bytes_of_frame_0_say() {
    let mut machine =
        Machine::<X86Level4>::new(KernelSharing::Preallocated, History::DereferencesAbsent, X86_VMALLOC, 0);
    // Each slot's first address has index 0 in the next table: all 64 depend on the first word of frame 0.
    assert_eq!(machine.kernel.preallocate(&machine.mem, &mut machine.pool), Ok(64));
    let mut machine =
        Machine::<X86Level4>::new(KernelSharing::Preallocated, History::DereferencesAbsent, X86_VMALLOC, 0);
    let frame_0 = Tables::<X86Level4, _>::new(&machine.mem, PhysAddr(0)).set_entry(PhysAddr(0), 0, 0, 0xf000);
    assert_eq!(frame_0, Ok(0));
    assert_eq!(machine.kernel.preallocate(&machine.mem, &mut machine.pool), Ok(0));
    let faults = half_before_half_behind(&mut machine);
    assert_eq!((faults.len(), machine.sees(AREA)), (1000, 500));
}

/// From 6.1 on a new top-level entry is copied into every root again. The mistake is of a kernel that did not, so the
/// rule of a later era does not hide it; without the mistake, what boot left out is mended so.
#[test]
fn a_later_era_mends_what_was_not_preallocated_but_not_the_mistake() {
    for (history, seen) in [(History::Right, 1000), (History::DereferencesAbsent, 500)] {
        let mut machine = x86(KernelSharing::Preallocated, history);
        let reference = machine.kernel.reference();
        machine.kernel = KernelHalf::new(reference, KernelSharing::Preallocated, Era::V6_1, X86_VMALLOC, Vec::new())
            .with_history(history);
        let faults = half_before_half_behind(&mut machine);
        assert_eq!((machine.sees(AREA), faults.len()), (seen, 2 * (1000 - seen)), "{history:?}");
    }
}

#[test]
fn a_fault_where_the_kernel_maps_nothing_is_a_real_one() {
    let mut machine = x86(KernelSharing::OnFault, History::Right);
    machine.make_roots(1);
    let va = AREA.start;
    let root = machine.roots[0].pa();
    assert_eq!(machine.kernel.fault(&machine.mem, root, va), Err(KernelFault::NotMapped { va }));
    let outside = VirtAddr(0xffff_8880_0000_0000);
    let no_rule = Err(KernelFault::NoRule { va: outside });
    assert_eq!(machine.kernel.fault(&machine.mem, root, outside), no_rule);
    machine.map(AREA, X86_DATA).unwrap();
    assert_eq!(machine.kernel.fault(&machine.mem, root, va), Ok(KernelHandled::Copied));
    assert_eq!(machine.kernel.fault(&machine.mem, root, va), Ok(KernelHandled::Spurious));
}

#[test]
fn a_root_that_links_another_table_is_named() {
    let mut machine = x86(KernelSharing::OnFault, History::Right);
    machine.make_roots(3);
    let odd = machine.roots[1].pa();
    machine.map(AREA, X86_DATA).unwrap();
    Tables::<X86Level4, _>::new(&machine.mem, odd).set_entry(odd, 0, 402, 0x5000 | 0x67).unwrap();
    let differs = SyncError::Differs { root: odd, slot: 402 };
    assert_eq!(machine.kernel.sync_global_pgds(&machine.mem, AREA), Err(differs));
    // Newest first: the third root was served, the first was not.
    assert_eq!((machine.kernel.counts().entries_copied, machine.kernel.counts().roots_visited), (1, 2));
}

#[test]
fn the_list_has_the_newest_first_and_forgets_what_is_freed() {
    let mut machine = x86(KernelSharing::OnFault, History::Right);
    let free = machine.pool.free_frames();
    machine.make_roots(3);
    let roots: Vec<PhysAddr> = machine.roots.iter().map(UserRoot::pa).collect();
    assert_eq!(machine.kernel.roots().collect::<Vec<_>>(), [roots[2], roots[1], roots[0]]);
    let middle = machine.roots.remove(1);
    machine.kernel.free_root(&machine.mem, &mut machine.pool, middle).unwrap();
    assert_eq!(machine.kernel.roots().collect::<Vec<_>>(), [roots[2], roots[0]]);
    machine.pool.fail_after(Some(0));
    assert!(matches!(machine.kernel.new_root(&machine.mem, &mut machine.pool), Err(RootError::NoFrame(_))));
    for root in machine.roots.drain(..) {
        machine.kernel.free_root(&machine.mem, &mut machine.pool, root).unwrap();
    }
    assert_eq!(machine.pool.free_frames(), free);
}
