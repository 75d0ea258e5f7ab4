//! Sharing the descriptors of huge pages and making them whole again, on both formats.

mod common;

use common::{MAP, Machine, Small, memory};
use kernmem_arch::arm64::Arm64Granule4K;
use kernmem_arch::x86::X86Level4;
use kernmem_base::{Frame, FrameSource, Level, NoFrame, Order, Pfn, PhysAddr, VirtAddr};
use kernmem_hugetlb::{Counts, Env, HvoError, PoolError, hvo};
use kernmem_page_alloc::pool::FramePool;
use kernmem_page_alloc::{AllocError, FreeError, Gfp, PageSource};
use kernmem_sparse::Descriptors;
use kernmem_sparse::page::{Resolved, resolve};

/// The addresses of the eight pages of descriptors of a 2M page.
fn map_pages<F: Machine>(pfn: Pfn) -> [VirtAddr; 8] {
    let start = F::vmemmap().descriptor(pfn);
    core::array::from_fn(|index| start + index as u64 * 4096)
}

/// The frame behind the first descriptors of `pfn` at boot.
fn boot_frame(pfn: Pfn) -> PhysAddr {
    MAP + pfn.0 * 64
}

fn shares_and_restores<F: Machine>() {
    let mem = memory();
    let mut small = Small::<F>::boot(&mem);
    let mut pool = Small::<F>::pool();
    let at_boot = small.pages.free_frames();

    // Without the optimisation a pool costs its pages.
    assert_eq!(pool.resize(&mut small.env(), 3).pages, 3);
    assert_eq!(small.pages.free_frames(), at_boot - 3 * 512);
    let first = pool.pages()[0].pfn;
    let plain = small.words_of(first, 512);
    assert_eq!(pool.resize(&mut small.env(), 0).pages, 0);
    assert_eq!(small.pages.free_frames(), at_boot);
    let dissolved = small.words_of(first, 512);

    // With it seven frames a page come back, and one table goes for the block that was split.
    pool.optimize_new(true);
    assert_eq!(pool.resize(&mut small.env(), 3).pages, 3);
    assert_eq!(small.pages.free_frames(), at_boot - 3 * 512 + 3 * 7 - 1);
    let pfns: Vec<Pfn> = pool.pages().iter().map(|page| page.pfn).collect();
    for &pfn in &pfns {
        let [head, tails @ ..] = map_pages::<F>(pfn);
        let kept = boot_frame(pfn);
        assert_eq!(small.page_entry(head), (kept, F::bits(F::vmemmap().writable)));
        for tail in tails {
            assert_eq!(small.page_entry(tail), (kept, F::bits(F::vmemmap().read_only)));
        }
        let head = F::vmemmap().descriptor(pfn);
        for index in 1..512 {
            let own = small.descriptors.words(Pfn(pfn.0 + index)).expect("a descriptor");
            let next = small.descriptors.words(Pfn(pfn.0 + index + 1)).ok().filter(|_| index < 511);
            let page = F::vmemmap().descriptor(Pfn(pfn.0 + index));
            assert_eq!(resolve(own, next, F::vmemmap().era, page, 4096), Resolved::Tail(head), "tail {index}");
        }
    }
    // Every flush that was needed came, and none for addresses outside the map.
    assert!(small.tlb.0.iter().all(|range| range.start >= F::vmemmap().base));

    // Restored pages say what they said, in frames of their own; the table of the split block stays.
    assert_eq!(pool.resize(&mut small.env(), 0).pages, 0);
    assert_eq!(small.pages.free_frames(), at_boot - 1);
    for &pfn in &pfns {
        let mut frames: Vec<_> = map_pages::<F>(pfn).iter().map(|va| small.page_entry(*va)).collect();
        assert!(frames.iter().all(|(_, bits)| *bits == F::bits(F::vmemmap().writable)));
        frames.sort();
        frames.dedup();
        assert_eq!(frames.len(), 8, "each page of descriptors has a frame of its own");
    }
    assert_eq!(pfns[0], first);
    let restored = small.words_of(first, 512);
    assert!(restored.into_iter().map(without_list).eq(dissolved.into_iter().map(without_list)));

    // The second time no table is needed, and the first 64 descriptors are those of a plain huge page.
    assert_eq!(pool.resize(&mut small.env(), 3).pages, 3);
    assert_eq!(small.pages.free_frames(), at_boot - 3 * 512 + 3 * 7 - 1);
    let again = small.words_of(first, 64);
    assert!(again.into_iter().map(without_list).eq(plain.into_iter().take(64).map(without_list)));
}

/// A head's list words hold its own address, which is another for another block.
fn without_list(mut words: Vec<u64>) -> Vec<u64> {
    if words[1] & 1 == 0 {
        (words[1], words[2]) = (0, 0);
    } else {
        words[1] = 1;
    }
    words
}

#[test]
fn a_2m_page_gives_seven_frames_back_on_x86_64() {
    shares_and_restores::<X86Level4>();
}

#[test]
fn a_2m_page_gives_seven_frames_back_on_arm64_with_break_before_make() {
    shares_and_restores::<Arm64Granule4K>();
}

/// Memory runs out at every request of growing and shrinking: nothing is lost, and once there is memory again all of
/// it comes back.
fn loses_nothing<F: Machine>() {
    let mem = memory();
    let mut small = Small::<F>::boot(&mem);
    let mut pool = Small::<F>::pool();
    pool.optimize_new(true);
    let at_boot = small.pages.free_frames();
    let mut failures = 0;
    for limit in 0.. {
        small.pages.fail_after(Some(limit));
        let grown = pool.resize(&mut small.env(), 2);
        let shrunk = pool.resize(&mut small.env(), 0);
        small.pages.fail_after(None);
        for stopped in [grown.stopped, shrunk.stopped].into_iter().flatten() {
            let is_memory = matches!(stopped, PoolError::Alloc(_) | PoolError::Restore(HvoError::NoMemory { .. }));
            assert!(is_memory, "{stopped:?}");
            failures += 1;
        }
        let Counts { total, surplus, free, .. } = pool.counts();
        assert!(free == total && surplus <= 1, "the page that could not be dissolved stays, one too many");
        assert_eq!(pool.resize(&mut small.env(), 0).stopped, None);
        while pool.counts().total > 0 {
            // A surplus page that somebody takes and gives back is dissolved.
            let pfn = pool.take(None, false).expect("a free page");
            pool.put(&mut small.env(), pfn).expect("a page that was taken");
        }
        let tables = u64::from(is_split::<F>(&small));
        assert_eq!(small.pages.free_frames(), at_boot - tables, "after request {limit} failed");
        if grown.stopped.is_none() && shrunk.stopped.is_none() {
            break;
        }
    }
    assert!(failures > 10, "{failures} requests failed");
}

fn is_split<F: Machine>(small: &Small<'_, F>) -> bool {
    let steps = kernmem_pgtable::steps::<F, _>(small.descriptors.mem, small.descriptors.root, F::vmemmap().base);
    steps.last().expect("a step").expect("a table in memory").level == kernmem_base::Level::Pte
}

#[test]
fn no_request_that_fails_loses_a_frame_on_x86_64() {
    loses_nothing::<X86Level4>();
}

#[test]
fn no_request_that_fails_loses_a_frame_on_arm64() {
    loses_nothing::<Arm64Granule4K>();
}

/// Facts: kernel-space 5.3, kept one page.
#[test]
fn savings_are_those_of_the_table() {
    let (k4, k16, k64) = (4 << 10, 16 << 10, 64 << 10);
    let rows = [
        (k4, 4, None), // 64K
        (k4, 9, Some(7)),
        (k4, 13, Some(127)),
        (k4, 18, Some(4095)),
        (k16, 7, None), // 2M
        (k16, 11, Some(7)),
        (k16, 16, Some(255)),
        (k64, 5, None), // 2M
        (k64, 13, Some(7)),
        (k64, 18, Some(255)),
    ];
    for (granule, order, saved) in rows {
        assert_eq!(hvo::saving(granule, 64, Order(order)), saved, "{granule} {order}");
    }
    assert_eq!(hvo::saving(k4, 56, Order(9)), None, "descriptors must have a power of two bytes");
}

#[test]
fn promised_pages_are_not_given_to_others() {
    let mem = memory();
    let mut small = Small::<X86Level4>::boot(&mem);
    let mut pool = Small::<X86Level4>::pool();
    pool.resize(&mut small.env(), 3);
    pool.reserve(2).unwrap();
    assert_eq!(pool.reserve(2), Err(PoolError::Empty));
    let first = pool.take(None, false).unwrap();
    assert_eq!(pool.take(None, false), Err(PoolError::Empty));
    let second = pool.take(None, true).unwrap();
    assert_ne!(first, second);
    assert_eq!(pool.counts(), Counts { total: 3, free: 1, reserved: 1, surplus: 0 });
    // Two are taken and one is promised: the pool cannot be smaller, so all become surplus.
    assert_eq!(pool.resize(&mut small.env(), 0).pages, 0);
    assert_eq!(pool.counts(), Counts { total: 3, free: 1, reserved: 1, surplus: 3 });
    pool.put(&mut small.env(), first).unwrap();
    assert_eq!(pool.put(&mut small.env(), first), Err(PoolError::NotTaken { pfn: first }));
    assert_eq!(pool.counts(), Counts { total: 2, free: 1, reserved: 1, surplus: 2 });
}

#[test]
fn a_page_comes_in_whole_and_once() {
    let mem = memory();
    let mut small = Small::<X86Level4>::boot(&mem);
    let mut pool = Small::<X86Level4>::pool();
    assert_eq!(pool.resize(&mut small.env(), 1).pages, 1);
    let pfn = pool.pages()[0].pfn;
    assert_eq!(pool.take_in(&mut small.env(), pfn, 0, false), Err(PoolError::Present { pfn }));
    let inside = Pfn(pfn.0 + 8);
    assert_eq!(pool.take_in(&mut small.env(), inside, 0, false), Err(PoolError::Misaligned { pfn: inside }));
    assert_eq!(pool.counts(), Counts { total: 1, free: 1, ..Counts::default() });
}

/// A page that nobody can take back stays, and is one too many as it was before.
#[test]
fn a_page_that_is_refused_stays_as_surplus() {
    let mem = memory();
    let mut small = Small::<X86Level4>::boot(&mem);
    let mut pool = Small::<X86Level4>::pool();
    let of_boot = Pfn(512);
    pool.take_in(&mut small.env(), of_boot, 0, false).unwrap();
    assert_eq!(pool.take(None, false), Ok(of_boot));
    assert_eq!(pool.resize(&mut small.env(), 0).pages, 0);
    assert!(matches!(pool.put(&mut small.env(), of_boot), Err(PoolError::Free(_))));
    assert_eq!(pool.counts(), Counts { total: 1, free: 1, reserved: 0, surplus: 1 });
}

/// A source whose frames are all of one node.
struct Node(FramePool, u32);

impl PageSource for Node {
    fn alloc_on(&mut self, nid: Option<u32>, gfp: Gfp, order: Order) -> Result<Pfn, AllocError> {
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

    fn nid_of(&self, _pfn: Pfn) -> Option<u32> {
        Some(self.1)
    }

    fn free_frames(&self) -> u64 {
        self.0.free_frames()
    }
}

impl FrameSource for Node {
    fn take(&mut self, level: Level) -> Result<Frame, NoFrame> {
        self.0.take(level)
    }

    fn give_back(&mut self, frame: PhysAddr) {
        self.0.give_back(frame);
    }
}

#[test]
fn a_page_is_of_the_node_of_its_frames() {
    let mem = memory();
    let Small { mut tables, pages, mut tlb, descriptors } = Small::<X86Level4>::boot(&mem);
    let mut pages = Node(pages, 3);
    let mut pool = Small::<X86Level4>::pool();
    let vmemmap = &descriptors.vmemmap;
    let mut env = Env { tables: &mut tables, pages: &mut pages, tlb: &mut tlb, vmemmap, descriptors: &descriptors };
    assert_eq!(pool.resize(&mut env, 1).pages, 1);
    assert_eq!(pool.take(Some(0), false), Err(PoolError::Empty));
    assert!(pool.take(Some(3), false).is_ok());
}
