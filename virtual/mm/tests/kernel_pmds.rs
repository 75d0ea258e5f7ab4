//! i386: a hundred processes and areas of the kernel, each below a PMD entry of its own: two levels, PAE with PMDs of their
//! own, PAE with shared ones.
#![allow(clippy::unwrap_used, reason = "a test stops where an answer is missing")]

use kernmem_arch::UserFormat;
use kernmem_arch::i386::{I386Level2, I386Pae};
use kernmem_arch::x86::X86Attrs;
use kernmem_base::{Era, Granule, Level, Pfn, PhysAddr, PhysRange, VirtAddr, VirtRange};
use kernmem_mm::{
    History, KernelFault, KernelHandled, KernelPmds, KernelSharing, RootError, SharingCounts, SyncError, UserRoot,
    shared_kernel_pmd,
};
use kernmem_page_alloc::PageSource;
use kernmem_page_alloc::pool::FramePool;
use kernmem_pgtable::heap::HeapMem;
use kernmem_pgtable::{Mapping, Sizes, Tables, Walk, translate};

/// 128 MiB below the fixed mappings, from a boundary of both kinds of PMD entries on.
const VMALLOC: VirtRange = VirtRange { start: VirtAddr(0xf780_0000), last: VirtAddr(0xff7f_dfff) };
const DATA: X86Attrs = X86Attrs(0x163);
const ROOTS: u64 = 100;

struct Machine<F: UserFormat> {
    mem: HeapMem,
    pool: FramePool,
    kernel: KernelPmds<F, Vec<PhysAddr>>,
    reference: PhysAddr,
    roots: Vec<UserRoot>,
}

impl<F: UserFormat<Attrs = X86Attrs>> Machine<F> {
    fn new(is_shared: bool, sharing: KernelSharing) -> Self {
        let (first, end) = (0x100, 0x100 + 2 * ROOTS + 100);
        let mem = HeapMem::new(PhysRange::new(PhysAddr(first << 12), PhysAddr(end << 12)));
        let mut pool = FramePool::new(Granule::K4, Pfn(first), Pfn(end));
        let reference = pool.take_frame().unwrap();
        // PMD tables of the kernel are there since boot.
        if F::shape().depth(Level::Pmd) > 0 {
            let link = F::attrs(0x1);
            Tables::<F, _>::new(&mem, reference).make_table(VMALLOC.start, Level::Pmd, link, &mut pool).unwrap();
        }
        let kernel = KernelPmds::new(reference, is_shared, sharing, VMALLOC, Vec::new());
        Self { mem, pool, kernel, reference, roots: Vec::new() }
    }

    fn make_roots(&mut self, count: u64) {
        for _ in 0..count {
            self.roots.push(self.kernel.new_root(&self.mem, &mut self.pool).unwrap());
        }
    }

    /// Maps a page at `va` in the reference alone.
    fn map(&mut self, va: VirtAddr) {
        let mapping = Mapping::<F>::new(PhysAddr(0x0700_0000), DATA, Sizes::PAGES).with_table_attrs(X86Attrs(0x63));
        let range = VirtRange::of_size(va, 0x1000).unwrap();
        let done = Tables::<F, _>::new(&self.mem, self.reference).cursor(range).map(&mut self.pool, &mapping).unwrap();
        done.forgive("a fresh mapping leaves no debt");
    }

    fn follow(&mut self, va: VirtAddr) -> Result<(), SyncError> {
        self.kernel.follow(&self.mem, VirtRange::of_size(va, 0x1000).unwrap())
    }

    fn sees(&self, root: usize, va: VirtAddr) -> bool {
        matches!(translate::<F, _>(&self.mem, self.roots[root].pa(), va), Ok(Walk::Mapped { .. }))
    }

    fn fault(&mut self, root: usize, va: VirtAddr) -> Result<KernelHandled, KernelFault> {
        self.kernel.vmalloc_fault(&self.mem, self.roots[root].pa(), va)
    }

    fn seers(&self, va: VirtAddr) -> usize {
        (0..self.roots.len()).filter(|&root| self.sees(root, va)).count()
    }
}

/// The `number`th area: each has a PMD entry of its own in both formats.
fn area(number: u64) -> VirtAddr {
    VMALLOC.start + (number << 22)
}

fn counts(faults: u64, copied: u64, visited: u64, walks: u64) -> SharingCounts {
    SharingCounts { faults, entries_copied: copied, roots_visited: visited, list_walks: walks, ..Default::default() }
}

/// By hand: 8 areas carried to 100 roots; the 20 born later have the entries.
fn at_mapping<F: UserFormat<Attrs = X86Attrs>>() {
    let mut machine = Machine::<F>::new(false, KernelSharing::AtMapping);
    machine.make_roots(ROOTS);
    for number in 0..8 {
        machine.map(area(number));
        assert_eq!(machine.seers(area(number)), 0);
        machine.follow(area(number)).unwrap();
        assert_eq!(machine.seers(area(number)), 100);
    }
    assert_eq!(machine.kernel.counts(), counts(0, 800, 800, 8));
    machine.make_roots(20);
    assert_eq!((0..8).map(|number| machine.seers(area(number))).collect::<Vec<_>>(), [120; 8]);
    // A second page below the same entries changes no PMD entry, and is seen at once.
    machine.map(area(3) + 0x1000);
    assert_eq!(machine.seers(area(3) + 0x1000), 120);
}

#[test]
fn at_mapping_every_root_gets_the_new_pmd_entry() {
    at_mapping::<I386Level2>();
    at_mapping::<I386Pae>();
}

/// By hand: each of 100 roots faults once for each of 8 areas.
#[test]
fn on_fault_each_root_pays_for_itself() {
    fn play<F: UserFormat<Attrs = X86Attrs>>() {
        let mut machine = Machine::<F>::new(false, KernelSharing::OnFault);
        machine.make_roots(ROOTS);
        for number in 0..8 {
            machine.map(area(number));
            machine.follow(area(number)).unwrap();
            for root in 0..ROOTS as usize {
                assert!(!machine.sees(root, area(number)));
                assert_eq!(machine.fault(root, area(number)), Ok(KernelHandled::Copied));
                assert_eq!(machine.fault(root, area(number)), Ok(KernelHandled::Spurious));
            }
            assert_eq!(machine.seers(area(number)), 100);
        }
        assert_eq!(machine.kernel.counts(), counts(1600, 800, 0, 0));
    }
    play::<I386Level2>();
    play::<I386Pae>();
}

/// All roots link the reference's PMD table: an area is there for all once it is mapped, and the list stays empty.
#[test]
fn shared_pmds_leave_nothing_to_follow() {
    let mut machine = Machine::<I386Pae>::new(true, KernelSharing::AtMapping);
    let free = machine.pool.free_frames();
    machine.make_roots(ROOTS);
    assert_eq!(machine.pool.free_frames(), free - ROOTS); // a root each, and no table
    machine.map(area(0));
    assert_eq!((machine.seers(area(0)), machine.kernel.roots().count()), (100, 0));
    machine.follow(area(0)).unwrap();
    assert_eq!(machine.kernel.counts(), SharingCounts::default());
    // Two levels have no PMD table to share.
    assert!(!Machine::<I386Level2>::new(true, KernelSharing::AtMapping).kernel.is_shared());
}

/// A CPU reads the area after its entry was made and before the walk over the list has come to its root: the fault
/// copies, and the walk copies into the other 99.
#[test]
fn a_fault_helps_until_the_walk_is_done() {
    let mut machine = Machine::<I386Pae>::new(false, KernelSharing::AtMapping);
    machine.make_roots(ROOTS);
    machine.map(area(2));
    assert_eq!(machine.fault(7, area(2)), Ok(KernelHandled::Copied));
    assert_eq!(machine.seers(area(2)), 1);
    machine.follow(area(2)).unwrap();
    assert_eq!((machine.seers(area(2)), machine.kernel.counts()), (100, counts(1, 100, 100, 1)));
}

/// A PMD entry that goes away is cleared in every root; where only faults copy it stays, and the root goes on reading
/// what the kernel has given back.
#[test]
fn an_entry_that_goes_is_cleared_at_mapping_and_stays_on_fault() {
    fn play<F: UserFormat<Attrs = X86Attrs>>(sharing: KernelSharing) -> (usize, SharingCounts) {
        let mut machine = Machine::<F>::new(false, sharing);
        [area(1), area(6)].into_iter().for_each(|va| machine.map(va));
        machine.make_roots(ROOTS);
        let gone = Tables::<F, _>::new(&machine.mem, machine.reference)
            .cursor(VirtRange::of_size(area(1), 1 << F::shape().level(Level::Pmd).shift).unwrap())
            .unmap()
            .unwrap();
        gone.forgive("no TLB here");
        assert!(matches!(translate::<F, _>(&machine.mem, machine.reference, area(1)), Ok(Walk::Hole { .. })));
        machine.follow(area(1)).unwrap();
        (
            machine.roots.iter().filter(|root| has_entry::<F>(&machine.mem, root.pa(), area(1))).count(),
            machine.kernel.counts(),
        )
    }
    assert_eq!(play::<I386Level2>(KernelSharing::AtMapping), (0, counts(0, 100, 100, 1)));
    assert_eq!(play::<I386Pae>(KernelSharing::AtMapping), (0, counts(0, 100, 100, 1)));
    assert_eq!(play::<I386Level2>(KernelSharing::OnFault), (100, SharingCounts::default()));
    assert_eq!(play::<I386Pae>(KernelSharing::OnFault), (100, SharingCounts::default()));
}

/// Whether a walk for `va` gets to the last level.
fn has_entry<F: UserFormat>(mem: &HeapMem, root: PhysAddr, va: VirtAddr) -> bool {
    !matches!(translate::<F, _>(mem, root, va), Ok(Walk::Hole { level: Level::Pmd }))
}

#[test]
fn without_any_way_old_roots_fault_for_good() {
    let mut machine = Machine::<I386Level2>::new(false, KernelSharing::AtMapping);
    machine.kernel = KernelPmds::new(machine.reference, false, KernelSharing::AtMapping, VMALLOC, Vec::new())
        .with_history(History::NoWay);
    machine.make_roots(3);
    machine.map(area(0));
    machine.follow(area(0)).unwrap();
    assert_eq!(machine.fault(0, area(0)), Err(KernelFault::NoRule { va: area(0) }));
    assert_eq!(machine.seers(area(0)), 0);
}

#[test]
fn real_faults_and_odd_roots_are_told() {
    let mut machine = Machine::<I386Level2>::new(false, KernelSharing::AtMapping);
    machine.make_roots(3);
    assert_eq!(machine.fault(0, area(5)), Err(KernelFault::NotMapped { va: area(5) }));
    let below = VirtAddr(0xc000_0000);
    assert_eq!(machine.fault(0, below), Err(KernelFault::NoRule { va: below }));
    machine.map(area(5));
    let (odd, slot) = (machine.roots[1].pa(), (area(5).0 >> 22) as usize);
    Tables::<I386Level2, _>::new(&machine.mem, odd).set_entry(odd, 0, slot, 0x5063).unwrap();
    // Newest first: the third root was served, the first was not.
    assert_eq!(machine.follow(area(5)), Err(SyncError::Differs { root: odd, slot }));
    assert_eq!([0, 2].map(|root| machine.sees(root, area(5))), [false, true]);
}

/// What does not lie in vmalloc's range is not followed, and a range over several entries takes a walk for each.
#[test]
fn a_range_is_followed_entry_by_entry_within_vmalloc() {
    let mut machine = Machine::<I386Pae>::new(false, KernelSharing::AtMapping);
    machine.make_roots(2);
    (0..3).for_each(|number| machine.map(area(number)));
    // 2 MiB entries: 4 below 8 MiB and one page; of these 0, 2 and 4 are there.
    let range = VirtRange { start: VirtAddr(0xf000_0000), last: area(2) };
    machine.kernel.follow(&machine.mem, range).unwrap();
    assert_eq!(machine.kernel.counts(), counts(0, 6, 10, 5));
    machine
        .kernel
        .follow(&machine.mem, VirtRange { start: VirtAddr(0xc000_0000), last: VirtAddr(0xc000_0fff) })
        .unwrap();
    machine
        .kernel
        .follow(&machine.mem, VirtRange { start: VirtAddr(0xffff_0000), last: VirtAddr(0xffff_ffff) })
        .unwrap();
    assert_eq!(machine.kernel.counts(), counts(0, 6, 10, 5));
}

/// The nth frame is missing: nothing is lost, for a root and for its PMD table.
#[test]
fn a_root_that_cannot_be_made_takes_nothing() {
    for (nth, needed) in [(0, 2), (1, 2)] {
        let mut machine = Machine::<I386Pae>::new(false, KernelSharing::AtMapping);
        let free = machine.pool.free_frames();
        machine.pool.fail_after(Some(nth));
        let refused = machine.kernel.new_root(&machine.mem, &mut machine.pool);
        assert!(matches!(refused, Err(RootError::NoFrame(_))), "{refused:?}");
        assert_eq!((machine.pool.free_frames(), machine.kernel.roots().count()), (free, 0));
        machine.pool.fail_after(None);
        machine.make_roots(1);
        assert_eq!(machine.pool.free_frames(), free - needed);
        let root = machine.roots.remove(0);
        machine.kernel.free_root(&machine.mem, &mut machine.pool, root).unwrap();
        assert_eq!((machine.pool.free_frames(), machine.kernel.roots().count()), (free, 0));
    }
}

/// Facts: PAE without isolation shares up to 6.12, 7.2 never; two levels never.
#[test]
fn who_shares_pmds() {
    let shared = |pae, pti| Era::ALL.map(|era| shared_kernel_pmd(era, pae, pti));
    assert_eq!(shared(true, false), [true, true, true, true, false]);
    assert_eq!([shared(true, true), shared(false, false)], [[false; 5]; 2]);
    let ways = Era::ALL.map(KernelSharing::of_i386);
    assert_eq!(ways[0], KernelSharing::OnFault);
    assert_eq!(ways[1..], [KernelSharing::AtMapping; 4]);
}
