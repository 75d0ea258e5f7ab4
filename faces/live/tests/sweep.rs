//! Memory runs out at every request of every operation: a typed error, and nothing is lost.
//!
//! The page allocator is drained, block by block, until it refuses; then one frame after the other is given back, each
//! beside the one before, until the operation succeeds. Whatever fails in between must leave the books as they were.
//! Then everything is given back, and the operation succeeds again.

use crate::books::{Books, Hoard};
use crate::common::{PRESETS, recording, run, source};
use kernmem::Boot;
use kernmem::running::{Pid, ProcessError, Running};
use kernmem_arch::UserRights;
use kernmem_base::{Access, CpuId, NoTlb, Order, PhysAddr, Privilege, VirtAddr};
use kernmem_hugetlb::{HugePage, HvoError, PoolError};
use kernmem_live::{Live, Options, Program};
use kernmem_mm::{History, KernelSharing, Place, RootError, Signal, SpaceError, SyncError};
use kernmem_page_alloc::{Gfp, PageSource};
use kernmem_pgtable::MapError;
use kernmem_slab::{CacheId, CacheSpec, SlabError};
use kernmem_vmalloc::{Request, VmallocError};

const CPU: CpuId = CpuId(0);
const PAGE: u64 = 4096;
const MEDIUM: Order = Order(9);

/// An error that says that memory is short.
trait Short: core::fmt::Debug {
    fn is_short(&self) -> bool;
}

impl Short for VmallocError {
    fn is_short(&self) -> bool {
        matches!(self, Self::NoPages { .. } | Self::Map(MapError::NoFrame(_)))
    }
}

impl Short for SlabError {
    fn is_short(&self) -> bool {
        matches!(self, Self::NoPages(_))
    }
}

impl Short for PoolError {
    fn is_short(&self) -> bool {
        matches!(self, Self::Alloc(_) | Self::Restore(HvoError::NoMemory { .. }))
    }
}

impl Short for ProcessError {
    fn is_short(&self) -> bool {
        matches!(
            self,
            Self::NoZeroPage
                | Self::Root(RootError::NoFrame(_))
                | Self::Space(SpaceError::NoMemory(_) | SpaceError::NoFrame(_))
        )
    }
}

impl Short for Signal {
    fn is_short(&self) -> bool {
        matches!(self, Self::OutOfMemory)
    }
}

impl Short for SyncError {
    fn is_short(&self) -> bool {
        matches!(self, Self::Map(MapError::NoFrame(_)))
    }
}

/// Sweeps one operation: `attempt` makes it, `undo` takes back what it gave. Returns how often it failed.
fn sweep<T, E: Short>(
    what: &str,
    live: &mut Live<'_>,
    mut attempt: impl FnMut(&mut Live<'_>) -> Result<T, E>,
    mut undo: impl FnMut(&mut Live<'_>, T),
) -> u64 {
    let at_first = Books::of(live);
    let mut hoard = Hoard::take(live);
    let mut failures = 0;
    loop {
        let before = Books::of(live);
        match attempt(live) {
            Ok(done) => {
                undo(live, done);
                assert_eq!(Books::of(live), before, "{what}: made behind {failures} failures and taken back");
                break;
            }
            Err(error) => {
                assert!(error.is_short(), "{what} behind {failures} failures: {error:?}");
                assert_eq!(Books::of(live), before, "{what} behind {failures} failures: {error:?}");
                failures += 1;
                assert!(hoard.lend(live, 1), "{what} needs more than all that was lent");
            }
        }
    }
    hoard.free(live);
    assert_eq!(Books::of(live), at_first, "{what}: when all frames are back");
    let done = attempt(live).unwrap_or_else(|error| panic!("{what} with all memory: {error:?}"));
    undo(live, done);
    assert_eq!(Books::of(live), at_first, "{what}: made with all memory and taken back");
    failures
}

/// Runs `work` with a small machine of each preset.
fn on_each(work: impl Fn(&str, &mut Live<'_>)) {
    for preset in PRESETS {
        run(&source(preset, None, Some(160 << 20)), |live| work(preset, live));
    }
}

fn vfree(live: &mut Live<'_>, va: VirtAddr) {
    live.on(CPU, |running, on| running.vfree(on, va)).0.expect("an area");
    live.on(CPU, |running, on| running.purge(on));
}

#[test]
fn areas_of_pages() {
    on_each(|preset, live| {
        let what = format!("{preset}: 20 pages");
        let failures = sweep(&what, live, |live| live.on(CPU, |running, on| running.vmalloc(on, 20 * PAGE)).0, vfree);
        assert!(failures >= 20, "{what}: {failures}");

        // The pointers of 513 pages fill more than a page, so that their array is an area itself.
        if !live.running.facts.vmalloc.huge.vmalloc {
            let what = format!("{preset}: 513 pages");
            let attempt = |live: &mut Live<'_>| live.on(CPU, |running, on| running.vmalloc(on, 513 * PAGE)).0;
            let failures = sweep(&what, live, attempt, vfree);
            assert!(failures >= 515, "{what}: {failures}");
        } else {
            let what = format!("{preset}: blocks");
            let attempt = |live: &mut Live<'_>| live.on(CPU, |running, on| running.vmalloc_huge(on, 2 << 20)).0;
            let failures = sweep(&what, live, attempt, vfree);
            assert!(failures >= 512, "{what}: {failures}");
        }
    });
}

/// Far from everything that is mapped, tables of every level are missing.
#[test]
fn an_area_whose_tables_are_all_missing() {
    on_each(|preset, live| {
        let range = live.running.facts.vmalloc_range();
        let middle = VirtAddr(range.start.0 + (range.last.0 - range.start.0) / 2).align_down(1 << 39);
        let request = Request { start: middle, ..live.running.areas.request(3 * PAGE, kernmem_vmalloc::Caller(0)) };
        let attempt = |live: &mut Live<'_>| live.on(CPU, |running, on| running.vmalloc_request(on, request)).0;
        let failures = sweep(preset, live, attempt, vfree);
        assert!(failures >= 4, "{preset}: {failures}");
    });
}

#[test]
fn pages_and_devices_that_are_mapped() {
    on_each(|preset, live| {
        let mut pages = live.running.pages(CPU).expect("the first CPU");
        let first = pages.alloc(Gfp::KERNEL, Order(0)).expect("a page");
        let frames = vec![first; 1100];
        let what = format!("{preset}: frames");
        let attempt = |live: &mut Live<'_>| live.on(CPU, |running, on| running.vmap(on, &frames)).0;
        let failures = sweep(&what, live, attempt, |live, va| {
            live.on(CPU, |running, on| running.vunmap(on, va)).0.expect("an area");
            live.on(CPU, |running, on| running.purge(on));
        });
        assert!(failures >= 2, "{what}: {failures}");

        // One page off: no block fits, and a window of 31M lies where most tables are missing.
        let what = format!("{preset}: device");
        let device = PhysAddr((1 << 38) + PAGE);
        let attempt = |live: &mut Live<'_>| live.on(CPU, |running, on| running.ioremap(on, device, 31 << 20)).0;
        let failures = sweep(&what, live, attempt, |live, va| {
            live.on(CPU, |running, on| running.iounmap(on, va)).0.expect("a window");
            live.on(CPU, |running, on| running.purge(on));
        });
        assert!(failures >= 10, "{what}: {failures}");
    });
}

/// Gives the slabs back that only an object of the sweep was in.
fn shrink(live: &mut Live<'_>, cache: CacheId) {
    let shrunk = live.with_linear(|running, linear| running.shrink_cache(linear, CPU, cache)).expect("pointers");
    shrunk.expect("records");
}

#[test]
fn objects_of_every_size() {
    on_each(|preset, live| {
        for bytes in [8, 200, 1024, 4096, 8192, 9000, 100_000, 1 << 20] {
            let what = format!("{preset}: {bytes} bytes");
            let attempt = |live: &mut Live<'_>| {
                let made = live.with_linear(|running, linear| running.kmalloc(linear, CPU, bytes, Gfp::KERNEL));
                made.expect("pointers")
            };
            let failures = sweep(&what, live, attempt, |live, object| {
                live.kfree(CPU, object).expect("an object");
                let Some(cache) = live.running.kmalloc_cache(bytes) else { return };
                shrink(live, cache);
            });
            assert!(failures >= 1, "{what}: {failures}");
        }
        let cache = live.running.create_cache(&CacheSpec::new("swept", 700)).expect("a cache");
        let failures = sweep(
            &format!("{preset}: a cache of its own"),
            live,
            |live| live.with_linear(|running, linear| running.cache_alloc(linear, CPU, cache)).expect("pointers"),
            |live, object| {
                live.kfree(CPU, object).expect("an object");
                shrink(live, cache);
            },
        );
        assert!(failures >= 1, "{preset}: {failures}");
    });
}

/// The pool of 2M pages.
fn pool(live: &Live<'_>) -> usize {
    live.running.pool_of(MEDIUM).expect("a pool of 2M pages")
}

fn resize(live: &mut Live<'_>, pages: u64) -> Result<(), PoolError> {
    let index = pool(live);
    let resized = live.on(CPU, |running, on| running.resize_pool(on, index, pages)).0.expect("a pool");
    resized.stopped.map_or(Ok(()), Err)
}

/// Makes a page that could not leave the pool an ordinary one again.
fn regain(live: &mut Live<'_>) {
    resize(live, 1).expect("a page that is there already");
}

#[test]
fn huge_pages_come() {
    on_each(|preset, live| {
        for optimize in [false, true] {
            live.running.optimize_new(optimize);
            let what = format!("{preset}: a huge page, optimized: {optimize}");
            let failures = sweep(&what, live, |live| resize(live, 1), |live, ()| resize(live, 0).expect("emptied"));
            assert!(failures >= 512, "{what}: {failures}");
        }
    });
}

/// A page that its caller has comes in at once, whatever memory there is: then its descriptors are not shared.
#[test]
fn a_page_is_taken_in_without_any_memory() {
    on_each(|preset, live| {
        live.running.optimize_new(true);
        let mut pages = live.running.pages(CPU).expect("the first CPU");
        let pfn = pages.alloc(Gfp::HIGHUSER_MOVABLE | Gfp::COMP, MEDIUM).expect("a block");
        let (index, mut hoard) = (pool(live), Hoard::take(live));
        let before = Books::of(live);
        let taken = live.on(CPU, |running, on| running.take_in(on, index, pfn, 0, false)).0;
        assert_eq!(taken, Ok(()), "{preset}");
        assert!(!live.running.pools[index].pages()[0].optimized, "{preset}: no table for the block of the map");
        assert_eq!(Books::of(live).frames, before.frames, "{preset}");
        hoard.lend(live, 1);
        resize(live, 0).expect("nothing is to be restored");
        hoard.free(live);
    });
}

/// The way out of a pool needs memory: a page that cannot go stays, and goes when it can.
#[test]
fn huge_pages_go() {
    on_each(|preset, live| {
        live.running.optimize_new(true);
        resize(live, 1).expect("a page");
        let what = format!("{preset}: out of the pool");
        let attempt = |live: &mut Live<'_>| resize(live, 0).inspect_err(|_| regain(live));
        let failures = sweep(&what, live, attempt, |live, ()| resize(live, 1).expect("a page"));
        assert_eq!(failures, 7, "{what}");

        // The same for a page that was taken, became one too many, and is given back.
        let what = format!("{preset}: given back");
        let index = pool(live);
        let attempt = |live: &mut Live<'_>| {
            let pfn = live.running.take_huge(index, None, false).expect("a page");
            resize(live, 0).expect("a page that somebody has stays as surplus");
            let put = live.on(CPU, |running, on| running.put_huge(on, index, pfn)).0;
            put.inspect_err(|_| regain(live))
        };
        let failures = sweep(&what, live, attempt, |live, ()| resize(live, 1).expect("a page"));
        assert_eq!(failures, 7, "{what}");
    });
}

/// Pages of 32M, larger than any block: they come in one piece, and 127 frames of descriptors have to be found again.
#[test]
fn gigantic_pages_of_arm64() {
    run(&source("arm64-4g", None, Some(160 << 20)), |live| {
        live.running.optimize_new(true);
        let index = live.running.pool_of(Order(13)).expect("a pool of 32M pages");
        let resize = |live: &mut Live<'_>, pages| {
            let resized = live.on(CPU, |running, on| running.resize_pool(on, index, pages)).0.expect("a pool");
            resized.stopped.map_or(Ok(()), Err)
        };
        assert!(live.running.pools[index].is_gigantic());
        resize(live, 1).expect("a page");
        let attempt = |live: &mut Live<'_>| {
            resize(live, 0).inspect_err(|_| resize(live, 1).expect("a page that is there already"))
        };
        let failures = sweep("out of the pool", live, attempt, |live, ()| {
            resize(live, 1).expect("32M are free");
        });
        assert_eq!(failures, 127);
    });
}

fn spawn(live: &mut Live<'_>) -> Result<Pid, ProcessError> {
    live.on(CPU, |running, on| running.spawn(on)).0
}

fn exit(live: &mut Live<'_>, pid: Pid) {
    live.on(CPU, |running, on| running.exit(on, pid)).0.expect("a program");
}

fn touch(live: &mut Live<'_>, pid: Pid, va: VirtAddr, access: Access) -> Result<(), Signal> {
    let handled = live.on(CPU, |running, on| running.fault(on, pid, va, access, Privilege::User)).0;
    handled.expect("a program").map(|_| ())
}

fn region(live: &mut Live<'_>, pid: Pid, place: Place, pages: u64) -> Result<VirtAddr, ProcessError> {
    live.on(CPU, |running, on| running.mmap(on, pid, place, pages * PAGE, UserRights::READ_WRITE)).0
}

/// Regions that share no table but the root.
const APART: [VirtAddr; 3] = [VirtAddr(0x1234_5000), VirtAddr(0x80_4567_8000), VirtAddr(0x1234_5678_9000)];

/// A program with two pages written in each of its regions.
fn program(live: &mut Live<'_>) -> Pid {
    let pid = spawn(live).expect("a program");
    for at in APART {
        region(live, pid, Place::Fixed(at), 4).expect("a region");
        touch(live, pid, at, Access::Write).expect("a page");
        touch(live, pid, at + 2 * PAGE, Access::Write).expect("a page");
        touch(live, pid, at + 3 * PAGE, Access::Read).expect("the page of zeros");
    }
    pid
}

/// The first program brings the page of zeros along, which stays: all else is as for any other.
#[test]
fn the_first_program_and_others() {
    on_each(|preset, live| {
        let mut hoard = Hoard::take(live);
        let before = Books::of(live).frames;
        assert_eq!(spawn(live), Err(ProcessError::NoZeroPage), "{preset}");
        assert_eq!(Books::of(live).frames, before, "{preset}");
        hoard.lend(live, 1);
        let before = Books::of(live).frames;
        assert!(matches!(spawn(live), Err(ProcessError::Root(RootError::NoFrame(_)))), "{preset}");
        assert_eq!(Books::of(live).frames, before - 1, "{preset}: the page of zeros stays");
        hoard.free(live);
        let failures = sweep(&format!("{preset}: spawn"), live, spawn, exit);
        assert_eq!(failures, 1, "{preset}");
    });
}

/// The first page of a region far away, and a page in the place of the page of zeros.
#[test]
fn pages_of_programs() {
    on_each(|preset, live| {
        let pid = program(live);
        let far = VirtAddr(0x2345_6789_a000);
        region(live, pid, Place::Fixed(far), 4).expect("a region");
        let unmap = |live: &mut Live<'_>, ()| {
            live.on(CPU, |running, on| running.munmap(on, pid, far, 4 * PAGE)).0.expect("mapped");
            region(live, pid, Place::Fixed(far), 4).expect("a region");
        };
        for (access, frames) in [(Access::Write, 4), (Access::Read, 3)] {
            let attempt = |live: &mut Live<'_>| touch(live, pid, far, access);
            let failures = sweep(&format!("{preset}: first {access:?}"), live, attempt, unmap);
            assert!((1..=frames).contains(&failures), "{preset}: {failures}");
        }
        // A page in the place of the page of zeros.
        let zero = APART[0] + 3 * PAGE;
        let attempt = |live: &mut Live<'_>| touch(live, pid, zero, Access::Write);
        let failures = sweep(&format!("{preset}: from zeros"), live, attempt, |live, ()| {
            live.on(CPU, |running, on| running.munmap(on, pid, zero, PAGE)).0.expect("mapped");
            region(live, pid, Place::Fixed(zero), 1).expect("a region");
            touch(live, pid, zero, Access::Read).expect("the page of zeros");
        });
        assert_eq!(failures, 1, "{preset}");
    });
}

/// Why a child did not come to its copy.
#[derive(Debug)]
enum Failure {
    Fork(ProcessError),
    Copy(Signal),
}

impl Short for Failure {
    fn is_short(&self) -> bool {
        match self {
            Self::Fork(error) => error.is_short(),
            Self::Copy(signal) => signal.is_short(),
        }
    }
}

#[test]
fn children_and_their_copies() {
    on_each(|preset, live| {
        let parent = program(live);
        let attempt = |live: &mut Live<'_>| {
            let child = live.on(CPU, |running, on| running.fork(on, parent)).0.map_err(Failure::Fork)?;
            match touch(live, child, APART[1], Access::Write) {
                Ok(()) => Ok(child),
                Err(signal) => {
                    exit(live, child);
                    Err(Failure::Copy(signal))
                }
            }
        };
        let failures = sweep(&format!("{preset}: copy on write"), live, attempt, exit);
        // A root, with five levels one table below it for all regions, three tables for each region, the copy.
        let shared = live.running.facts.format.shape().levels.len() as u64 - 4;
        assert_eq!(failures, 1 + shared + 3 * 3 + 1, "{preset}");
        // Failed forks left the parent's pages write protected at most: it goes on in them, alone.
        let mut runs = Program::run_on(live, CPU, parent).expect("a program");
        for at in APART {
            runs.write(live, at + 8, at.0).expect("writable");
            assert_eq!(runs.read(live, at + 8).expect("readable"), at.0, "{preset}");
        }
        assert_eq!((runs.tally.copies, runs.tally.new_pages), (0, 0), "{preset}: {:?}", runs.tally);
    });
}

/// What needs no memory succeeds without any.
#[test]
fn what_gives_back_needs_no_memory() {
    on_each(|preset, live| {
        let pid = program(live);
        let child = live.on(CPU, |running, on| running.fork(on, pid)).0.expect("a child");
        let area = live.on(CPU, |running, on| running.vmalloc(on, 700 * PAGE)).0.expect("an area");
        let object = live.kmalloc(CPU, 200).expect("an object");
        let large = live.kmalloc(CPU, 1 << 20).expect("a large one");
        let hoard = Hoard::take(live);
        live.kfree(CPU, object).expect("an object");
        live.kfree(CPU, large).expect("a large one");
        vfree(live, area);
        region(live, pid, Place::Anywhere, 100).expect("a region");
        let rights = UserRights::READ;
        live.on(CPU, |running, on| running.mprotect(on, pid, APART[0], 4 * PAGE, rights)).0.expect("mapped");
        live.on(CPU, |running, on| running.munmap(on, pid, APART[1] + PAGE, PAGE)).0.expect("mapped");
        exit(live, child);
        exit(live, pid);
        assert_eq!(live.running.processes.pids(), [], "{preset}");
        hoard.free(live);
    });
}

/// Boot asks for more huge pages than there is memory: the pool stays smaller, and all of it can go again.
#[test]
fn a_pool_that_took_all_memory_can_be_emptied() {
    for preset in PRESETS {
        for hvo in ["on", "off"] {
            let cmdline = format!("hugepages=1000 hugetlb_free_vmemmap={hvo}");
            run(&source(preset, Some(&cmdline), Some(160 << 20)), |live| {
                let index = pool(live);
                let counts = live.running.pools[index].counts();
                assert!(counts.total > 50 && counts.total < 80, "{preset}: {counts:?} of 80 blocks");
                let full = Books::of(live).frames;
                let optimized = live.running.pools[index].pages().iter().filter(|page| page.optimized).count() as u64;
                assert_eq!(optimized > 0, hvo == "on" && live.running.facts.hvo_built, "{preset}: {optimized}");
                let pages: Vec<HugePage> = live.running.pools[index].pages().to_vec();
                let blocks = pages.len() as u64;
                assert_eq!(blocks, counts.total);
                resize(live, 0).expect("every page goes");
                assert_eq!(Books::of(live).frames, full + blocks * 512 - optimized * 7, "{preset}: hvo {hvo}");
            });
        }
    }
}

/// Two nodes, page tables apart for user mode, memory for devices, a zone of movable pages: one operation of each part.
#[test]
fn larger_machines_lose_nothing_either() {
    for name in ["x86/x-2node", "x86/x-4G-pti", "arm64/a-2node-rodata-off", "arm64/a-cma", "arm64/a-movable"] {
        run(&recording(name).1, |live| {
            let attempt = |live: &mut Live<'_>| live.on(CPU, |running, on| running.vmalloc(on, 5 * PAGE)).0;
            sweep(&format!("{name}: area"), live, attempt, vfree);
            let attempt = |live: &mut Live<'_>| {
                let made = live.with_linear(|running, linear| running.kmalloc(linear, CPU, 500, Gfp::KERNEL));
                made.expect("pointers")
            };
            sweep(&format!("{name}: object"), live, attempt, |live, object| {
                live.kfree(CPU, object).expect("an object");
                let cache = live.running.kmalloc_cache(500).expect("a cache");
                shrink(live, cache);
            });
            live.running.optimize_new(true);
            resize(live, 1).expect("a page");
            let attempt = |live: &mut Live<'_>| resize(live, 0).inspect_err(|_| regain(live));
            let failures =
                sweep(&format!("{name}: huge page"), live, attempt, |live, ()| resize(live, 1).expect("a page"));
            assert_eq!(failures, 7, "{name}");
            let parent = program(live);
            let fork = |live: &mut Live<'_>| live.on(CPU, |running, on| running.fork(on, parent)).0;
            let failures = sweep(&format!("{name}: fork"), live, fork, exit);
            assert_eq!(failures, 1 + 3 * 3, "{name}");
            let zero = APART[0] + 3 * PAGE;
            let attempt = |live: &mut Live<'_>| touch(live, parent, zero, Access::Write);
            let failures = sweep(&format!("{name}: page"), live, attempt, |live, ()| {
                live.on(CPU, |running, on| running.munmap(on, parent, zero, PAGE)).0.expect("mapped");
                region(live, parent, Place::Fixed(zero), 1).expect("a region");
                touch(live, parent, zero, Access::Read).expect("the page of zeros");
            });
            assert_eq!(failures, 1, "{name}");
        });
    }
}

/// The tables that make all of vmalloc visible to every program: 64 entries of the root, of which the first area's has
/// its table.
#[test]
fn tables_that_are_made_before_the_first_program() {
    let source = source("x86-4g", None, Some(160 << 20));
    let memory = Live::memory(&source).expect("memory of the host");
    let options = Options { preallocates: false, ..Options::default() };
    let mut live = Live::start(&memory, &source, options).expect("a kernel that runs");
    let share = |live: &mut Live<'_>| {
        let shared = live.on(CPU, |running, on| running.share(on, KernelSharing::Preallocated, History::Right)).0;
        shared.map(|made| made.expect("there is no program"))
    };
    assert_eq!(sweep("tables of vmalloc", &mut live, share, |_, _| ()), 63);
}

/// A kernel whose memory is all taken when it begins to run: it runs, its pools are empty, and no frame is missing.
#[test]
fn a_kernel_begins_to_run_without_any_memory() {
    for preset in PRESETS {
        let source = source(preset, Some("hugepages=4"), Some(160 << 20));
        let memory = Live::memory(&source).expect("memory of the host");
        let boot = Boot::new(&source.machine, &source.config);
        let mut kernel = kernmem_live::boot(&memory, &boot, ()).expect("a kernel");
        crate::common::without_marks(&kernel.pages.allocator);
        let before = kernel.pages.free_frames();
        let mut taken = 0;
        for gfp in [Gfp::HIGHUSER_MOVABLE, Gfp::KERNEL] {
            while kernel.pages.alloc(gfp, Order(0)).is_ok() {
                taken += 1;
            }
        }
        assert_eq!((taken, kernel.pages.free_frames()), (before, 0), "{preset}");
        let mut running = Running::start(kernel, &boot, &mut NoTlb).expect("a kernel that runs");
        assert!(running.pools.iter().all(|pool| pool.pages().is_empty()), "{preset}");
        assert_eq!(running.pages(CPU).expect("the first CPU").free_frames(), 0, "{preset}");
    }
}
