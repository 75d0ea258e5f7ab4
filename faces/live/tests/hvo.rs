//! Page descriptors given back: on the machine of a recording as Linux lists them, and counted in the machine's memory.

use core::sync::atomic::Ordering;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::common::{entries_of, recording, run, source, tables_of};
use kernmem::running::Running;
use kernmem_base::{CpuId, Level, Order, Pfn, PhysAddr, PhysRange, Tlb, VirtAddr, VirtRange};
use kernmem_hugetlb::{HvoError, PoolError};
use kernmem_live::Live;
use kernmem_page_alloc::{Gfp, PageSource};
use kernmem_report::ptdump;
use kernmem_sim::Memory;
use kernmem_source::Source;
use kernmem_sparse::Descriptors;
use kernmem_sparse::page::{PageFlag, Resolved, resolve};
use kernmem_view::{BootRecord, RootKind};

const CPU: CpuId = CpuId(0);
const PAGE: u64 = 4096;
/// A page of 2M, and one of 1G.
const MEDIUM: Order = Order(9);
const LARGE: Order = Order(18);

/// A line of a listing: where it starts and ends, and itself.
fn lines(listing: &str) -> impl Iterator<Item = (u64, u64, &str)> {
    listing.lines().filter_map(|line| {
        let (start, rest) = line.strip_prefix("0x")?.split_once("-0x")?;
        let (end, _) = rest.split_once(' ')?;
        Some((u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?, line))
    })
}

/// What lies between the marker of the map of descriptors and the next.
fn vmemmap(listing: &str) -> &str {
    let (_, behind) = listing.split_once("---[ Vmemmap ]---\n").expect("a marker");
    behind.split_once("---[").expect("a marker behind it").0
}

/// The listing without the lines of vmalloc, where Linux had modules and stacks of its own.
fn without_vmalloc(listing: &str, vmalloc: VirtRange) -> Vec<&str> {
    let within: BTreeSet<&str> = lines(listing)
        .filter(|(start, end, _)| vmalloc.contains(VirtAddr(*start)) && vmalloc.contains(VirtAddr(*end - 1)))
        .map(|(_, _, line)| line)
        .collect();
    listing.lines().filter(|line| !within.contains(line)).collect()
}

/// The huge pages whose descriptors a listing shows as shared: seven pages of the map that cannot be written, behind
/// the one that holds the head.
fn shared(listing: &str, base: VirtAddr) -> Vec<Pfn> {
    let read_only =
        lines(vmemmap(listing)).filter(|(_, _, line)| line.split_ascii_whitespace().any(|word| word == "ro"));
    read_only
        .map(|(start, end, line)| {
            assert_eq!(end - start, 7 * PAGE, "{line}");
            let head = start - PAGE - base.0;
            assert_eq!(head % (8 * PAGE), 0, "{line}");
            Pfn(head / 64)
        })
        .collect()
}

fn listing(live: &Live<'_>) -> String {
    let mut text = String::new();
    ptdump::linux(&live.running.kernel, RootKind::Kernel, &mut text).expect("a listing");
    text
}

fn recorded(path: &Path, name: &str) -> String {
    fs::read_to_string(path.join(name)).expect("a listing of the recording")
}

/// Eight huge pages of the recording's run time, taken in by their frames: the map of descriptors is Linux's, byte for
/// byte, while they are in the pool and when they have left, and so is all the rest but vmalloc.
#[test]
fn the_descriptors_of_eight_pages_are_mapped_as_linux_mapped_them() {
    let (path, source) = recording("x86/x-hvo");
    run(&source, |live| {
        let vmalloc = live.running.facts.vmalloc_range();
        let filled = recorded(&path, "page_tables_kernel.hvo-8");
        let pages = shared(&filled, live.running.map.place().base);
        assert_eq!(pages.len(), 8, "{pages:x?}");
        assert_eq!(vmemmap(&listing(live)), vmemmap(&recorded(&path, "page_tables_kernel")));

        let index = live.running.pool_of(MEDIUM).expect("a pool of 2M pages");
        live.running.drain_all();
        for pfn in &pages {
            let lent = live.running.pages(CPU).expect("the first CPU");
            let end = Pfn(pfn.0 + (1 << MEDIUM.0));
            lent.allocator.alloc_contig_range(lent.cpu, Gfp::HIGHUSER_MOVABLE, *pfn, end).expect("free frames");
            live.on(CPU, |running, on| running.take_in(on, index, *pfn, 0, false)).0.expect("a page");
        }
        let ours = listing(live);
        for name in ["page_tables_kernel.hvo-8", "page_tables_current_kernel.hvo-8"] {
            assert_eq!(vmemmap(&ours), vmemmap(&recorded(&path, name)), "{name}");
        }
        assert_eq!(without_vmalloc(&ours, vmalloc), without_vmalloc(&filled, vmalloc));

        let left = live.on(CPU, |running, on| running.resize_pool(on, index, 0)).0.expect("a pool");
        assert_eq!((left.pages, left.stopped), (0, None));
        let ours = listing(live);
        for name in ["page_tables_kernel.hvo-0", "page_tables_current_kernel.hvo-0"] {
            assert_eq!(vmemmap(&ours), vmemmap(&recorded(&path, name)), "{name}");
        }
        let emptied = recorded(&path, "page_tables_kernel.hvo-0");
        assert_eq!(without_vmalloc(&ours, vmalloc), without_vmalloc(&emptied, vmalloc));
        // The frames are as free as any: each can be had as one block again.
        live.running.drain_all();
        for pfn in &pages {
            let lent = live.running.pages(CPU).expect("the first CPU");
            let end = Pfn(pfn.0 + (1 << MEDIUM.0));
            lent.allocator.alloc_contig_range(lent.cpu, Gfp::HIGHUSER_MOVABLE, *pfn, end).expect("free again");
        }
    });
}

/// What the descriptor at `pfn` says it is.
fn resolved(live: &Live<'_>, pfn: Pfn) -> Resolved {
    let map = &live.running.map;
    let own = map.words(pfn).expect("a descriptor");
    let next = map.words(Pfn(pfn.0 + 1)).ok();
    resolve(own, next, live.running.facts.era, map.page(pfn), PAGE)
}

/// Pages of 1G that boot set aside: the listing of a kernel that runs is Linux's, and every descriptor names its head,
/// through the first page of them or through the addresses that show that page again; when they leave the pool, their
/// frames are as free as any others.
#[test]
fn pages_that_boot_set_aside_are_huge_pages_with_shared_descriptors() {
    let (path, source) = recording("x86/x-hvo-gigantic");
    run(&source, |live| {
        let vmalloc = live.running.facts.vmalloc_range();
        let text = recorded(&path, "page_tables_kernel");
        let ours = listing(live);
        assert_eq!(vmemmap(&ours), vmemmap(&text));
        assert_eq!(without_vmalloc(&ours, vmalloc), without_vmalloc(&text, vmalloc));

        let index = live.running.pool_of(LARGE).expect("a pool of 1G pages");
        let pages: Vec<Pfn> = live.running.pools[index].pages().iter().map(|page| page.pfn).collect();
        assert_eq!(pages.len(), 2);
        for pfn in &pages {
            let head = live.running.map.page(*pfn);
            assert_eq!(resolved(live, *pfn), Resolved::Own, "{pfn:?}");
            let flags = live.running.map.words(*pfn).expect("a descriptor")[0].load(Ordering::Relaxed);
            assert_ne!(flags & PageFlag::Head.mask(live.running.facts.era), 0, "{pfn:?} is a head");
            for tail in [1, 2, 3, 63, 64, 65, 128, 1000, 262_079, 262_142] {
                assert_eq!(resolved(live, Pfn(pfn.0 + tail)), Resolved::Tail(head), "{pfn:?} + {tail}");
            }
        }

        let free = live.running.pages(CPU).expect("the first CPU").free_frames();
        resize(live, index, 0);
        let gained = live.running.pages(CPU).expect("the first CPU").free_frames() - free;
        assert_eq!(gained, 2 * ((1 << LARGE.0) - 4095));
        let mut frames: Vec<u64> = (0..8192)
            .map(|page| live.running.map.memory_of(Pfn(pages[0].0.min(pages[1].0) + page * 64)).expect("mapped").0)
            .collect();
        frames.sort_unstable();
        frames.dedup();
        assert_eq!(frames.len(), 8192, "each page of descriptors has a frame of its own");
    });
}

/// Linux gives no descriptors back on arm64: with the words that ask for it, the map is as it was.
#[test]
fn on_arm64_linux_leaves_the_map_of_descriptors_alone() {
    let (path, source) = recording("arm64/a-hvo");
    run(&source, |live| {
        let map = |listing: &str| {
            let (_, behind) = listing.split_once("---[ vmemmap start ]---\n").expect("a marker");
            behind.split_once("---[").expect("a marker behind it").0.to_owned()
        };
        let index = live.running.pool_of(MEDIUM).expect("a pool of 2M pages");
        for (pages, name) in [(8, "kernel_page_tables.hvo-8"), (0, "kernel_page_tables.hvo-0")] {
            resize(live, index, pages);
            assert_eq!(map(&listing(live)), map(&recorded(&path, name)), "{name}");
        }
    });
}

/// Frames of which the host surely holds nothing, so that each table that is made of them costs one page of the host.
fn untouched_frames(live: &mut Live<'_>, count: usize) -> BTreeSet<PhysAddr> {
    let mut pages = live.running.pages(CPU).expect("the first CPU");
    let frames: Vec<Pfn> = (0..count).map(|_| pages.alloc(Gfp::KERNEL, Order(0)).expect("a page")).collect();
    for pfn in &frames {
        let start = PhysAddr(pfn.0 * PAGE);
        live.memory.release(PhysRange::new(start, start + PAGE)).expect("memory that goes back");
    }
    let mut pages = live.running.pages(CPU).expect("the first CPU");
    frames.iter().for_each(|pfn| pages.free(*pfn, Order(0)).expect("a page that was taken"));
    frames.iter().map(|pfn| PhysAddr(pfn.0 * PAGE)).collect()
}

fn kernel_tables(live: &Live<'_>) -> BTreeSet<PhysAddr> {
    tables_of(live.running.facts.format, live.memory, live.running.kernel.roots.kernel)
}

fn resize(live: &mut Live<'_>, index: usize, pages: u64) {
    let resized = live.on(CPU, |running, on| running.resize_pool(on, index, pages)).0.expect("a pool");
    assert_eq!((resized.pages, resized.stopped), (pages, None));
}

/// The host's pages that a pool of `count` pages gives back: `each` for a page, less the tables for the blocks of the
/// map that are split, which the second time are there.
fn falls_by_exactly(source: &Source, order: Order, count: u64, each: u64) {
    run(source, |live| {
        let index = live.running.pool_of(order).expect("a pool");
        // Every descriptor of the pages is written, so the host holds the frames of all.
        live.running.optimize_new(false);
        resize(live, index, count);
        let plain: BTreeSet<Pfn> = live.running.pools[index].pages().iter().map(|page| page.pfn).collect();
        resize(live, index, 0);

        live.running.optimize_new(true);
        let (untouched, tables) = (untouched_frames(live, 16), kernel_tables(live));
        let before = live.memory.allocated_bytes();
        resize(live, index, count);
        let fallen = before - live.memory.allocated_bytes();
        assert_eq!(live.running.pools[index].pages().iter().map(|page| page.pfn).collect::<BTreeSet<_>>(), plain);
        assert!(live.running.pools[index].pages().iter().all(|page| page.optimized));
        let made: Vec<PhysAddr> = kernel_tables(live).difference(&tables).copied().collect();
        assert!(made.iter().all(|table| untouched.contains(table)), "{made:x?} of {untouched:x?}");
        // Blocks of the map under the descriptors: each is split by one table.
        let block = |pfn: u64| live.running.map.page(Pfn(pfn)).0 >> 21;
        let blocks = plain.iter().flat_map(|pfn| block(pfn.0)..=block(pfn.0 + (1 << order.0) - 1));
        let split = blocks.collect::<BTreeSet<_>>().len() as u64;
        assert_eq!(made.len() as u64, split);
        assert_eq!(fallen, (count * each - split) * PAGE, "with tables for {split} blocks");

        // Frames for the way back are taken where the others went; then no block is left to split.
        resize(live, index, 0);
        let before = live.memory.allocated_bytes();
        resize(live, index, count);
        assert_eq!(before - live.memory.allocated_bytes(), count * each * PAGE);
    });
}

#[test]
fn the_hosts_memory_falls_by_seven_pages_for_each_2m_page_of_x86() {
    falls_by_exactly(&source("x86-4g", None, None), MEDIUM, 5, 7);
}

#[test]
fn the_hosts_memory_falls_by_seven_pages_for_each_2m_page_of_arm64() {
    falls_by_exactly(&source("arm64-4g", None, None), MEDIUM, 5, 7);
}

#[test]
fn the_hosts_memory_falls_by_4095_pages_for_a_1g_page_of_x86() {
    falls_by_exactly(&recording("x86/x-4G-1g").1, LARGE, 1, 4095);
}

#[test]
fn the_hosts_memory_falls_by_4095_pages_for_a_1g_page_of_arm64() {
    falls_by_exactly(&source("arm64-4g", None, None), LARGE, 1, 4095);
}

/// A TLB that looks at the entries of a range at every flush.
///
/// An entry that is another than at the last look must have been absent at one of the looks between: that is
/// break-before-make, for blocks that become tables as for pages that change their frame.
struct Watch<'m> {
    memory: &'m Memory,
    format: kernmem_arch::Format,
    root: PhysAddr,
    range: VirtRange,
    /// The level-2 entries and the last ones of the range, with their bits, as they were last seen.
    seen: Vec<(Level, PhysAddr, u64)>,
    changes: u64,
}

impl<'m> Watch<'m> {
    fn new(live: &Live<'m>, range: VirtRange) -> Self {
        let (format, root) = (live.running.facts.format, live.running.kernel.roots.kernel);
        let mut watch = Self { memory: live.memory, format, root, range, seen: Vec::new(), changes: 0 };
        watch.seen = watch.look();
        watch
    }

    fn look(&self) -> Vec<(Level, PhysAddr, u64)> {
        let mut entries: Vec<_> = (self.range.start.0..=self.range.last.0)
            .step_by(PAGE as usize)
            .flat_map(|va| entries_of(self.format, self.memory, self.root, VirtAddr(va)))
            .filter(|(level, ..)| matches!(level, Level::Pmd | Level::Pte))
            .collect();
        entries.sort_unstable();
        entries.dedup();
        entries
    }

    /// Compares with the last look; entries of tables that are new have nothing to break.
    fn check(&mut self) {
        let now = self.look();
        for (level, at, raw) in &now {
            let Some((.., was)) = self.seen.iter().find(|(old_level, old, _)| (old_level, old) == (level, at)) else {
                continue;
            };
            if was == raw {
                continue;
            }
            self.changes += 1;
            assert!(was & 1 == 0 || raw & 1 == 0, "{level:?} entry at {at:?}: {was:#x} became {raw:#x} in one step");
        }
        self.seen = now;
    }
}

impl Tlb for Watch<'_> {
    fn flush(&mut self, range: VirtRange, _tables: bool) {
        self.check();
        // What is flushed is on its way from one entry to another: nothing may be there.
        for va in (range.start.0..=range.last.0).step_by(PAGE as usize) {
            let entries = entries_of(self.format, self.memory, self.root, VirtAddr(va));
            let (level, at, raw) = entries.last().expect("an entry");
            assert_eq!(raw & 1, 0, "{level:?} entry at {at:?} is live while it is flushed");
        }
    }
}

#[test]
fn on_arm64_no_live_entry_of_the_map_becomes_another_without_being_absent_between() {
    run(&source("arm64-4g", None, None), |live| {
        let index = live.running.pool_of(MEDIUM).expect("a pool");
        // Where the first page will be, and the block of the map around its descriptors.
        live.running.optimize_new(false);
        resize(live, index, 1);
        let pfn = live.running.pools[index].pages()[0].pfn;
        resize(live, index, 0);
        live.running.optimize_new(true);
        let start = live.running.map.page(pfn).align_down(2 << 20);
        let range = VirtRange::of_size(start, 2 << 20).expect("a block");
        let mut watch = Watch::new(live, range);
        let block = watch.seen.len();
        assert_eq!(block, 1, "one block");
        for pages in [1, 0] {
            let mut on = kernmem::running::On::new(CPU, &mut watch);
            let resized = live.running.resize_pool(&mut on, index, pages).expect("a pool");
            assert_eq!((resized.pages, resized.stopped), (pages, None));
            watch.check();
        }
        // The block goes and its table comes, with seven entries that are absent when they are first seen; these become
        // the alias, go, and come back with frames of their own.
        assert_eq!(watch.changes, 2 + 3 * 7);
    });
}

/// Takes every page that the first CPU can have; the last ones that were taken are the last of the list.
fn exhaust(running: &mut Running<'_, Memory, BootRecord>) -> Vec<Pfn> {
    running.drain_all();
    crate::common::without_marks(&running.kernel.pages.allocator);
    let mut pages = running.pages(CPU).expect("the first CPU");
    let mut taken = Vec::new();
    while let Ok(pfn) = pages.alloc(Gfp::KERNEL, Order(0)) {
        taken.push(pfn);
    }
    taken
}

/// Fewer frames than the restoring needs: the page stays whole in its pool, its descriptors stay shared, and no frame
/// is missing; with one more it goes.
#[test]
fn a_page_whose_descriptors_find_no_memory_stays_whole() {
    for preset in crate::common::PRESETS {
        run(&source(preset, None, Some(256 << 20)), |live| {
            let index = live.running.pool_of(MEDIUM).expect("a pool");
            live.running.optimize_new(true);
            resize(live, index, 1);
            let page = live.running.pools[index].pages()[0];
            let mut hoard = exhaust(&mut live.running);
            let shown = listing(live);
            for free in 0..7 {
                let before = live.running.pages(CPU).expect("the first CPU").free_frames();
                let stopped = live.on(CPU, |running, on| running.resize_pool(on, index, 0)).0.expect("a pool").stopped;
                let expected = PoolError::Restore(HvoError::NoMemory { wanted: 7, got: free });
                assert_eq!(stopped, Some(expected), "{preset}");
                assert_eq!(live.running.pools[index].pages(), [page], "{preset} with {free} frames");
                assert_eq!(listing(live), shown, "{preset} with {free} frames");
                live.running.drain_all();
                let mut pages = live.running.pages(CPU).expect("the first CPU");
                assert_eq!(pages.free_frames(), before, "{preset} with {free} frames");
                pages.free(hoard.pop().expect("a page"), Order(0)).expect("a page that was taken");
                // The page is one too many now; wanting it makes it an ordinary one again.
                assert_eq!(live.running.pools[index].counts().surplus, 1);
                resize(live, index, 1);
            }
            resize(live, index, 0);
            assert!(live.running.pools[index].pages().is_empty());
        });
    }
}
