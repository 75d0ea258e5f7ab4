//! Concurrent cursors in every order that the memory model allows, on tables of two entries.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p kernmem-pgtable --test loom --release -- --nocapture --test-threads 1`
//!
//! Each model says how many executions it went through. At most `preemptions` switches away from a thread that could go
//! on are tried; what values a load may see is not bounded.
#![cfg(loom)]
#![allow(clippy::unwrap_used, reason = "a test stops where an answer is missing")]

mod tiny;

use core::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc as Counted;

use kernmem_base::NoTlb;
use kernmem_pgtable::{Change, CpuSlot, CpuTables, MapError, SharedTables, Sizes, Tables};
use loom::thread;
use tiny::{MARK, Pool, Tiny, TinyMem, census, found, mapping, pages, table_attrs};

type F = Tiny<1>;
type Cpu = CpuTables<'static, 'static, F, TinyMem>;

/// Frames of each thread.
const OWN: usize = 4;

/// What one thread works with.
struct Task {
    cpu: Cpu,
    frames: Pool<'static>,
    /// Frames that the thread may not take.
    kept: usize,
}

impl Task {
    fn keep_all_but(&mut self, frames: usize) {
        self.kept = self.frames.free.len() - frames;
        self.frames.free.truncate(frames);
    }

    fn map(&mut self, first: u64, last: u64) -> Result<(), MapError> {
        let range = pages(first, last);
        let done = self.cpu.cursor(range).unwrap().map(&mut self.frames, &mapping(range, 0, Sizes::PAGES));
        self.settle(done)
    }

    fn unmap(&mut self, first: u64, last: u64) -> Result<(), MapError> {
        let done = self.cpu.cursor(pages(first, last)).unwrap().unmap();
        self.settle(done)
    }

    fn settle(&mut self, done: Result<kernmem_pgtable::Stale, kernmem_pgtable::Failed>) -> Result<(), MapError> {
        let (stale, done) = match done {
            Ok(stale) => (stale, Ok(())),
            Err(failed) => (failed.stale, Err(failed.error)),
        };
        self.cpu.pay(stale, &mut NoTlb, &mut self.frames);
        self.cpu.collect(&mut self.frames);
        done
    }

    fn look(&mut self, page: u64) -> Option<u64> {
        let va = pages(page, page).start;
        found(page, self.cpu.translate(va))
    }
}

/// Runs `tasks` at once on a tree in which `before` has mapped something, in every order; then `after` looks at which
/// pages are mapped and how many tables there are.
fn model<const N: usize>(
    name: &str,
    preemptions: usize,
    before: impl Fn(&mut Task) + Send + Sync + 'static,
    tasks: [fn(&mut Task); N],
    after: impl Fn([Option<u64>; 8], usize) + Send + Sync + 'static,
) {
    let executions = Counted::new(AtomicUsize::new(0));
    let counter = Counted::clone(&executions);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 20_000;
    builder.check(move || {
        counter.fetch_add(1, Ordering::Relaxed);
        run(&before, tasks, &after);
    });
    println!("\n{name}: {} executions, {preemptions} preemptions", executions.load(Ordering::Relaxed));
}

fn run<const N: usize>(
    before: &impl Fn(&mut Task),
    tasks: [fn(&mut Task); N],
    after: &impl Fn([Option<u64>; 8], usize),
) {
    let total = 1 + (N + 1) * OWN;
    let mem: &'static TinyMem = Box::leak(Box::new(TinyMem::new(1, total)));
    let slots: &'static mut [CpuSlot] = Box::leak((0..=N).map(|_| CpuSlot::default()).collect());
    let shared: &'static SharedTables<'static, F, TinyMem> =
        Box::leak(Box::new(SharedTables::new(Tables::new(mem, TinyMem::ROOT), slots).unwrap()));
    let task = |number| Task { cpu: shared.cpu(number).unwrap(), frames: mem.frames(1 + number * OWN, OWN), kept: 0 };
    let mut own = task(0);
    before(&mut own);
    let threads = core::array::from_fn::<_, N, _>(|number| {
        let mut task = task(number + 1);
        let work = tasks[number];
        thread::spawn(move || {
            work(&mut task);
            task
        })
    });
    let done = threads.map(|thread| thread.join().unwrap());
    let free: usize = done.iter().map(|task| task.frames.free.len() + task.kept).sum();
    let mapped = core::array::from_fn(|page| own.look(page as u64));
    let tables = census::<F>(mem, false).len();
    // The checker may take a store for older than an exchange that came before it, so a walk that is over may seem to
    // go on: what waits for it is not lost.
    assert_eq!(tables + free + own.frames.free.len() + mem.dead(), total, "a frame is lost");
    after(mapped, tables);
}

const ON: Option<u64> = Some(0);
const MARKED: Option<u64> = Some(MARK);

/// Two CPUs map what lies in two tables, and both need the table above, which is not there.
#[test]
fn disjoint_maps_under_a_common_new_parent() {
    model(
        "disjoint maps under a common new parent",
        2,
        |_| {},
        [|task| task.map(0, 1).unwrap(), |task| task.map(2, 3).unwrap()],
        |mapped, tables| {
            assert_eq!(mapped, [ON, ON, ON, ON, None, None, None, None]);
            assert_eq!(tables, 4);
        },
    );
}

/// Two CPUs map pages of one table that is not there.
#[test]
fn disjoint_maps_in_one_new_table() {
    model(
        "disjoint maps in one new table",
        2,
        |_| {},
        [|task| task.map(0, 0).unwrap(), |task| task.map(1, 1).unwrap()],
        |mapped, tables| {
            assert_eq!(mapped, [ON, ON, None, None, None, None, None, None]);
            assert_eq!(tables, 3);
        },
    );
}

/// A map and an unmap of one range: one comes first.
#[test]
fn a_map_against_an_unmap_of_the_same() {
    model(
        "a map against an unmap of the same",
        2,
        |_| {},
        [|task| task.map(0, 1).unwrap(), |task| task.unmap(0, 1).unwrap()],
        |mapped, tables| {
            let both = [mapped[0], mapped[1]];
            assert!(both == [ON, ON] && tables == 3 || both == [None, None] && tables == 1, "{mapped:?} {tables}");
        },
    );
}

/// Two maps that overlap: whoever comes second stops where the other began.
#[test]
fn two_maps_that_overlap() {
    model(
        "two maps that overlap",
        2,
        |_| {},
        [|task| _ = task.map(0, 1), |task| _ = task.map(1, 2)],
        |mapped, _| {
            assert!(mapped[..3] == [ON, ON, None] || mapped[..3] == [ON, ON, ON], "{mapped:?}");
        },
    );
}

/// A walk goes through tables that are unlinked and given back meanwhile.
#[test]
fn an_unmap_that_drops_a_subtree_against_walks_in_it() {
    model(
        "an unmap that drops a subtree against walks in it",
        6,
        |own| own.map(0, 3).unwrap(),
        [
            |task| task.unmap(0, 3).unwrap(),
            |task| {
                let first = task.look(1);
                assert!(first.is_some() || task.look(1).is_none(), "what is gone does not come back");
            },
        ],
        |mapped, tables| assert_eq!((mapped, tables), ([None; 8], 1)),
    );
}

/// A walk goes through tables whose frames are given back and used for other tables.
#[test]
fn frames_that_are_used_anew_against_walks() {
    model(
        "frames that are used anew against walks",
        6,
        |own| own.map(0, 1).unwrap(),
        [
            |task| {
                task.keep_all_but(0);
                task.unmap(0, 1).unwrap();
                let done = task.map(4, 5); // with the frames that came back, if no walk keeps them
                assert!(matches!(done, Ok(()) | Err(MapError::NoFrame(_))));
            },
            |task| _ = task.look(1),
        ],
        |mapped, _| assert_eq!(mapped[..4], [None; 4]),
    );
}

/// A split and a change of the block's rights: both are there in the end.
#[test]
fn a_split_against_a_protect() {
    model(
        "a split against a protect",
        4,
        |own| {
            let range = pages(0, 1);
            let done = own.cpu.cursor(range).unwrap().map(&mut own.frames, &mapping(range, 0, Sizes::ALL));
            own.settle(done).unwrap();
        },
        [
            |task| {
                let mut cursor = task.cpu.cursor(pages(0, 0)).unwrap();
                let (bytes, stale) = cursor.split(&mut task.frames, &mut NoTlb, table_attrs::<F>()).unwrap();
                assert_eq!(bytes, 4096);
                drop(cursor);
                task.cpu.pay(stale, &mut NoTlb, &mut task.frames);
            },
            |task| {
                let done = task.cpu.cursor(pages(0, 1)).unwrap().protect(Change { set: MARK, clear: 0 });
                task.settle(done).unwrap();
            },
        ],
        |mapped, tables| {
            assert_eq!(mapped[..3], [MARKED, MARKED, None]);
            assert_eq!(tables, 3);
        },
    );
}

/// Two CPUs take the last two pages of a table: whoever is second unlinks it, and the table above.
#[test]
fn two_unmaps_that_empty_one_table() {
    model(
        "two unmaps that empty one table",
        4,
        |own| own.map(0, 1).unwrap(),
        [|task| task.unmap(0, 0).unwrap(), |task| task.unmap(1, 1).unwrap()],
        |mapped, tables| assert_eq!((mapped, tables), ([None; 8], 1)),
    );
}

/// One CPU empties a table and wants the one above; another has that one and wants the first.
#[test]
fn who_climbs_against_who_comes_down() {
    model(
        "who climbs against who comes down",
        2,
        |own| own.map(1, 2).unwrap(),
        [|task| task.unmap(0, 1).unwrap(), |task| task.unmap(1, 2).unwrap()],
        |mapped, tables| assert_eq!((mapped, tables), ([None; 8], 1)),
    );
}

/// Tables are unlinked by two who climb to one table, while a third maps under it.
#[test]
fn two_who_climb_and_one_who_maps() {
    model(
        "two who climb and one who maps",
        1,
        |own| own.map(0, 2).unwrap(),
        [|task| task.unmap(0, 1).unwrap(), |task| task.unmap(2, 3).unwrap(), |task| task.map(3, 3).unwrap()],
        |mapped, tables| {
            assert_eq!(mapped[..3], [None; 3]);
            assert_eq!(tables, if mapped[3].is_some() { 3 } else { 1 });
        },
    );
}

/// A map that finds no frame half-way leaves nothing, whoever waits for the tables that it made.
#[test]
fn a_map_without_frames_against_one_with() {
    model(
        "a map without frames against one with",
        2,
        |_| {},
        [
            |task| {
                task.keep_all_but(1);
                _ = task.map(0, 0);
            },
            |task| task.map(1, 1).unwrap(),
        ],
        |mapped, tables| {
            assert_eq!((mapped[1], tables), (ON, 3));
        },
    );
}
