//! Concurrent cursors on real threads: against a model that holds one word a page, against the exclusive cursor, and
//! with a frame source that fails.
//!
//! Frames that come back are spoilt at once, and each page is only ever mapped to its own frame: a walk that met a table
//! after its time would find something that cannot be there.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, reason = "a test stops where an answer is missing")]

mod tiny;

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use kernmem_arch::arm64::Arm64Granule4K;
use kernmem_arch::x86::X86Level4;
use kernmem_arch::{Entry, EntryFormat};
use kernmem_base::{Level, NoTlb, PhysAddr, VirtAddr, VirtRange};
use kernmem_pgtable::{
    Change, CpuSlot, CpuTables, CursorMut, Failed, MapError, Mapping, SharedCursor, SharedTables, Sizes, Stale, Tables,
};
use tiny::{MARK, PAGE, Pool, Tiny, TinyMem, census, found, mapping, pages, table_attrs};

const THREADS: usize = 4;

/// A fixed sequence of numbers that look random.
struct Draw(u64);

impl Draw {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % end
    }
}

fn slots(count: usize) -> Vec<CpuSlot> {
    (0..count).map(|_| CpuSlot::default()).collect()
}

/// Lets another thread run now and then: there are more threads than CPUs.
fn wait(turn: u32) {
    if turn % 16 == 15 { thread::yield_now() } else { core::hint::spin_loop() }
}

/// Takes an answer apart: the debt, and what went wrong.
fn apart(done: Result<Stale, Failed>) -> (Stale, Option<MapError>) {
    match done {
        Ok(stale) => (stale, None),
        Err(failed) => (failed.stale, Some(failed.error)),
    }
}

// Overlapping operations against a model.

/// Four entries a table: 64 pages, 16 last tables.
type Small = Tiny<2>;
const PAGES: u64 = 64;

/// What the model says of a page.
const HOLE: u64 = 0;
const PLAIN: u64 = 1;
const MARKED: u64 = 2;

/// One word a page, which whoever has a cursor over the page reads and writes; and who that is.
struct Model {
    pages: Vec<AtomicU64>,
    owners: Vec<AtomicU64>,
}

impl Model {
    fn new() -> Self {
        let words = || (0..PAGES).map(|_| AtomicU64::new(0)).collect();
        Self { pages: words(), owners: words() }
    }

    /// `thread` has a cursor over the pages, and nobody else.
    fn enter(&self, thread: u64, first: u64, last: u64) {
        for owner in &self.owners[first as usize..=last as usize] {
            assert_eq!(owner.swap(thread, Ordering::Relaxed), 0, "two cursors over one page");
        }
    }

    fn leave(&self, thread: u64, first: u64, last: u64) {
        for owner in &self.owners[first as usize..=last as usize] {
            assert_eq!(owner.swap(0, Ordering::Relaxed), thread, "two cursors over one page");
        }
    }

    fn get(&self, page: u64) -> u64 {
        self.pages[page as usize].load(Ordering::Relaxed)
    }

    fn set(&self, pages: core::ops::Range<u64>, to: impl Fn(u64) -> u64) {
        for page in pages {
            self.pages[page as usize].store(to(self.get(page)), Ordering::Relaxed);
        }
    }

    /// What the cursor finds is what the model says.
    fn check(&self, cursor: &mut SharedCursor<'_, '_, Small, TinyMem>, first: u64, last: u64) {
        cursor.seek(VirtAddr(first * PAGE));
        let mut page = first;
        while let Some((range, _, entry)) = cursor.next_slot().unwrap() {
            let pages = range.size() / PAGE;
            for page in page..page + pages {
                let expected = match entry {
                    Entry::Leaf { attrs, .. } if attrs & MARK != 0 => MARKED,
                    Entry::Leaf { .. } => PLAIN,
                    _ => HOLE,
                };
                assert_eq!(self.get(page), expected, "page {page}");
            }
            page += pages;
        }
        assert_eq!(page, last + 1);
        cursor.seek(VirtAddr(first * PAGE));
    }
}

/// One thread's random operations.
fn operate(
    number: u64,
    steps: usize,
    cpu: &mut CpuTables<'_, '_, Small, TinyMem>,
    frames: &mut Pool<'_>,
    model: &Model,
) {
    let mut draw = Draw(0x9e37_79b9_7f4a_7c15 ^ (number << 7));
    for _ in 0..steps {
        // ranges of a page, of some pages, of whole tables, of whole tables of tables
        let unit = 1 << (2 * draw.below(3));
        let first = draw.below(PAGES / unit) * unit;
        let count = (1 + draw.below(5)) * unit;
        let last = (first + count).min(PAGES) - 1;
        let kind = draw.below(9);
        let mut cursor = cpu.cursor(pages(first, last)).unwrap();
        model.enter(number, first, last);
        if draw.below(16) == 0 {
            thread::yield_now(); // so that others come and wait, and one cursor is there for long
        }
        model.check(&mut cursor, first, last);
        let mut debts = vec![step(kind, &mut draw, &mut cursor, frames, model, first, last)];
        model.check(&mut cursor, first, last);
        if draw.below(4) == 0 {
            let kind = draw.below(9);
            debts.push(step(kind, &mut draw, &mut cursor, frames, model, first, last));
            thread::yield_now();
            model.check(&mut cursor, first, last);
        }
        model.leave(number, first, last);
        drop(cursor);
        for stale in debts {
            cpu.pay(stale, &mut NoTlb, frames);
        }
        if draw.below(8) == 0 {
            cpu.collect(frames);
        }
        let page = draw.below(PAGES);
        let _ = found(page, cpu.translate(VirtAddr(page * PAGE)));
    }
}

/// One operation, and what the model makes of it: what lies before the cursor's last place is done.
fn step(
    kind: u64,
    draw: &mut Draw,
    cursor: &mut SharedCursor<'_, '_, Small, TinyMem>,
    frames: &mut Pool<'_>,
    model: &Model,
    first: u64,
    last: u64,
) -> Stale {
    let sizes = if draw.below(2) == 0 { Sizes::ALL } else { Sizes::PAGES };
    let (done, to): (_, fn(u64) -> u64) = match kind {
        0..=2 => (cursor.map(frames, &mapping(pages(first, last), 0, sizes)), |_| PLAIN),
        3 => (cursor.unmap(), |_| HOLE),
        4 => (cursor.clear(), |_| HOLE),
        5 => (cursor.unmap_covered(), |_| HOLE),
        6 => (cursor.protect(Change { set: MARK, clear: 0 }), |old| if old == HOLE { HOLE } else { MARKED }),
        7 => {
            let attrs = table_attrs::<Small>();
            return match cursor.split(frames, &mut NoTlb, attrs) {
                Ok((_, stale)) | Err(Failed { stale, .. }) => stale,
            };
        }
        _ => return apart(cursor.collapse(Level::Pmd, &mut NoTlb)).0,
    };
    let (stale, error) = apart(done);
    let end = match (error, cursor.position()) {
        (None, at) => {
            assert_eq!(at, None);
            last + 1
        }
        (Some(MapError::Occupied { .. } | MapError::Inside { .. } | MapError::NoFrame(_)), Some(at)) => at.0 / PAGE,
        other => panic!("{other:?}"),
    };
    model.set(first..end, to);
    stale
}

#[test]
fn overlapping_operations_are_those_of_a_model_and_lose_no_table() {
    const OWN: usize = 12;
    const STEPS: usize = 20_000;
    let mem = TinyMem::new(2, 1 + THREADS * OWN);
    let mut slots = slots(THREADS + 1);
    let tables = Tables::<Small, _>::new(&mem, TinyMem::ROOT);
    let shared = SharedTables::new(tables, &mut slots).unwrap().with_wait(wait);
    let (model, stop) = (Model::new(), AtomicBool::new(false));
    let mut frames = mem.frames(1, 0);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (shared, model, mem) = (&shared, &model, &mem);
                scope.spawn(move || {
                    let mut cpu = shared.cpu(thread).unwrap();
                    let mut frames = mem.frames(1 + thread * OWN, OWN);
                    operate(thread as u64 + 1, STEPS, &mut cpu, &mut frames, model);
                    frames.free
                })
            })
            .collect();
        // one more only walks
        let reader = scope.spawn(|| {
            let mut cpu = shared.cpu(THREADS).unwrap();
            let mut walks = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                let reading = cpu.read();
                for page in 0..PAGES {
                    walks += u64::from(found(page, reading.translate(VirtAddr(page * PAGE))).is_some());
                }
                drop(reading);
                thread::yield_now();
            }
            walks
        });
        for worker in workers {
            frames.free.extend(worker.join().unwrap());
        }
        stop.store(true, Ordering::Relaxed);
        assert!(reader.join().unwrap() > 0);
    });
    let mut tables = shared.into_tables(&mut frames);
    for page in 0..PAGES {
        let walk = kernmem_pgtable::translate::<Small, _>(&mem, TinyMem::ROOT, VirtAddr(page * PAGE));
        let expected = found(page, walk).map_or(HOLE, |mark| if mark == 0 { PLAIN } else { MARKED });
        assert_eq!(model.get(page), expected);
    }
    let in_tree = census::<Small>(&mem, true);
    assert_eq!(in_tree.len() + frames.free.len(), 1 + THREADS * OWN, "a frame is lost");
    assert!(frames.free.iter().all(|frame| !in_tree.contains(frame)));
    tables.cursor(pages(0, PAGES - 1)).unmap().unwrap().pay(&mut NoTlb, &mut tables, &mut frames);
    assert_eq!((census::<Small>(&mem, false).len(), frames.free.len()), (1, THREADS * OWN));
}

// Disjoint ranges against the exclusive cursor.

/// One operation on a thread's own pages, on either kind of cursor.
#[derive(Clone, Copy, Debug)]
enum Op {
    Map { huge: bool },
    Unmap,
    Clear,
    Protect(Change),
    Split,
}

#[derive(Clone, Copy, Debug)]
struct Call {
    op: Op,
    range: VirtRange,
}

/// Calls of one thread in its own part: parts begin and end inside last tables that their neighbours use too.
fn calls(thread: u64, start: u64, part: u64, changes: [Change; 2]) -> Vec<Call> {
    let mut draw = Draw(77 + thread);
    let base = start + thread * part;
    (0..60)
        .map(|_| {
            let huge = draw.below(3) == 0;
            let (from, size) = if huge {
                let block = 2 << 20;
                let from = (base + draw.below(part)).next_multiple_of(block);
                (from, block * (1 + draw.below(3)))
            } else {
                (base + draw.below(part / PAGE) * PAGE, (1 + draw.below(700)) * PAGE)
            };
            let end = (from + size).min(base + part);
            let from = from.min(end - PAGE);
            let op = match draw.below(8) {
                0..=3 => Op::Map { huge },
                4 => Op::Unmap,
                5 => Op::Clear,
                6 => Op::Protect(changes[draw.below(2) as usize]),
                _ => Op::Split,
            };
            Call { op, range: VirtRange { start: VirtAddr(from), last: VirtAddr(end - 1) } }
        })
        .collect()
}

fn run_of<F: EntryFormat>(range: VirtRange, attrs: u64, table: u64, huge: bool) -> Mapping<F> {
    let pa = PhysAddr(0x10_0000_0000 + (range.start.0 & 0xff_ffff_ffff));
    let sizes = if huge { Sizes::ALL } else { Sizes::PAGES };
    Mapping::new(pa, F::attrs(attrs), sizes).with_table_attrs(F::attrs(table))
}

macro_rules! call {
    ($cursor:expr, $frames:expr, $call:expr, $attrs:expr, $table:expr) => {{
        let Call { op, range } = $call;
        let done = match op {
            Op::Map { huge } => $cursor.map($frames, &run_of(range, $attrs, $table, huge)),
            Op::Unmap => $cursor.unmap(),
            Op::Clear => $cursor.clear(),
            Op::Protect(change) => $cursor.protect(change),
            Op::Split => $cursor.split($frames, &mut NoTlb, F::attrs($table)).map(|(_, stale)| stale),
        };
        apart(done)
    }};
}

fn call_exclusive<F: EntryFormat>(
    mut cursor: CursorMut<'_, '_, F, TinyMem>,
    frames: &mut Pool<'_>,
    call: Call,
    (attrs, table): (u64, u64),
) -> (Stale, Option<MapError>) {
    call!(cursor, frames, call, attrs, table)
}

fn call_shared<F: EntryFormat>(
    mut cursor: SharedCursor<'_, '_, F, TinyMem>,
    frames: &mut Pool<'_>,
    call: Call,
    (attrs, table): (u64, u64),
) -> (Stale, Option<MapError>) {
    call!(cursor, frames, call, attrs, table)
}

/// Why a call stopped. At which level a hole is found depends on what neighbours did in the same last table.
fn reason(error: Option<MapError>) -> Option<String> {
    error.map(|error| match error {
        MapError::Hole { va, .. } => format!("hole at {va}"),
        error => format!("{error:?}"),
    })
}

/// Every leaf of a range.
fn leaves<F: EntryFormat>(tables: &mut Tables<'_, F, TinyMem>, range: VirtRange) -> Vec<(VirtRange, u64)> {
    let mut cursor = tables.cursor(range);
    let mut slots = Vec::new();
    while let Some((range, level, entry)) = cursor.next_slot().unwrap() {
        if matches!(entry, Entry::Leaf { .. }) {
            slots.push((range, F::encode(entry, level).unwrap()));
        }
    }
    slots
}

fn disjoint<F: EntryFormat>(attrs: u64, table: u64, changes: [Change; 2]) {
    const OWN: usize = 40;
    // 9.5 MiB each, over the end of a gibibyte
    let (part, start) = (0x98_0000, (3 << 30) - 0xf1_2000);
    let total = 1 + THREADS * OWN;
    let range = VirtRange::of_size(VirtAddr(start), part * THREADS as u64).unwrap();

    let alone = TinyMem::new(9, total);
    let mut expected = Tables::<F, _>::new(&alone, TinyMem::ROOT);
    let mut frames = alone.frames(1, THREADS * OWN);
    let mut errors = Vec::new();
    for thread in 0..THREADS as u64 {
        for call in calls(thread, start, part, changes) {
            let (stale, error) = call_exclusive(expected.cursor(call.range), &mut frames, call, (attrs, table));
            stale.pay(&mut NoTlb, &mut expected, &mut frames);
            errors.push(reason(error));
        }
    }

    let mem = TinyMem::new(9, total);
    let mut slots = slots(THREADS);
    let shared = SharedTables::new(Tables::<F, _>::new(&mem, TinyMem::ROOT), &mut slots).unwrap().with_wait(wait);
    let mut found_errors = Vec::new();
    let mut back = mem.frames(1, 0);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (shared, mem) = (&shared, &mem);
                scope.spawn(move || {
                    let mut cpu = shared.cpu(thread).unwrap();
                    let mut frames = mem.frames(1 + thread * OWN, OWN);
                    let mut errors = Vec::new();
                    for call in calls(thread as u64, start, part, changes) {
                        let cursor = cpu.cursor(call.range).unwrap();
                        let (stale, error) = call_shared(cursor, &mut frames, call, (attrs, table));
                        cpu.pay(stale, &mut NoTlb, &mut frames);
                        cpu.collect(&mut frames);
                        errors.push(reason(error));
                    }
                    (errors, frames.free)
                })
            })
            .collect();
        for worker in workers {
            let (errors, free) = worker.join().unwrap();
            found_errors.extend(errors);
            back.free.extend(free);
        }
    });
    let mut tables = shared.into_tables(&mut back);
    assert_eq!(found_errors, errors);
    assert!(errors.iter().any(Option::is_some) && errors.iter().any(Option::is_none));
    assert_eq!(leaves(&mut tables, range), leaves(&mut expected, range));
    assert_eq!(census::<F>(&mem, true).len() + back.free.len(), total);
    // a table that two threads share, and that one has cleared, may be empty in one order and not in the other
    for tables in [&mut tables, &mut expected] {
        let mut own = tables.mem().frames(0, 0);
        tables.cursor(range).unmap().map_err(|failed| failed.error).unwrap().pay(&mut NoTlb, tables, &mut own);
    }
    assert_eq!(census::<F>(&mem, false), census::<F>(&alone, false));
}

#[test]
fn disjoint_threads_end_with_the_tables_of_the_exclusive_cursor() {
    let arm64 = [Change { set: 1 << 7, clear: 1 << 51 }, Change { set: 1 << 51, clear: 1 << 7 }];
    disjoint::<Arm64Granule4K>(0x00e8_0000_0000_0703, 3, arm64);
    let x86 = [Change { set: 0, clear: 2 }, Change { set: 2, clear: 0 }];
    disjoint::<X86Level4>(0x8000_0000_0000_0163, 0x63, x86);
}

/// Four threads map and unmap their own gibibytes, block after block.
fn gibibytes<F: EntryFormat>(attrs: u64, table: u64) {
    const OWN: usize = 140;
    let mem = TinyMem::new(9, 1 + THREADS * OWN);
    let mut slots = slots(THREADS);
    let shared = SharedTables::new(Tables::<F, _>::new(&mem, TinyMem::ROOT), &mut slots).unwrap().with_wait(wait);
    let mut back = mem.frames(1, 0);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (shared, mem) = (&shared, &mem);
                scope.spawn(move || {
                    let mut cpu = shared.cpu(thread).unwrap();
                    let mut frames = mem.frames(1 + thread * OWN, OWN);
                    let block =
                        |number: u64| VirtRange::of_size(VirtAddr((64 + thread as u64) << 30 | number << 21), 2 << 20);
                    for call in [Op::Map { huge: false }, Op::Unmap, Op::Map { huge: true }, Op::Unmap] {
                        for number in 0..32 {
                            let call = Call { op: call, range: block(number).unwrap() };
                            let cursor = cpu.cursor(call.range).unwrap();
                            let (stale, error) = call_shared::<F>(cursor, &mut frames, call, (attrs, table));
                            cpu.pay(stale, &mut NoTlb, &mut frames);
                            assert_eq!(error, None);
                        }
                    }
                    frames.free
                })
            })
            .collect();
        for worker in workers {
            back.free.extend(worker.join().unwrap());
        }
    });
    shared.into_tables(&mut back);
    assert_eq!((census::<F>(&mem, false).len(), back.free.len()), (1, THREADS * OWN));
}

#[test]
fn every_thread_in_its_own_gibibyte() {
    gibibytes::<Arm64Granule4K>(0x00e8_0000_0000_0703, 3);
    gibibytes::<X86Level4>(0x8000_0000_0000_0163, 0x63);
}

// A frame source that fails.

/// Maps with the nth frame missing, for each n: what is there then is a prefix, nothing is lost, the rest can follow.
#[test]
fn a_map_that_lacks_a_frame_leaves_a_prefix_and_no_table() {
    const FRAMES: usize = 30;
    let ranges = [pages(3, 40), pages(5, 6), pages(16, 31), pages(21, 21), pages(0, PAGES - 1)];
    for range in ranges {
        for nth in 0.. {
            let mem = TinyMem::new(2, 1 + FRAMES);
            let mut slots = slots(1);
            let shared = SharedTables::new(Tables::<Small, _>::new(&mem, TinyMem::ROOT), &mut slots).unwrap();
            let mut frames = mem.frames(1, FRAMES);
            frames.left = Some(nth);
            let mut cpu = shared.cpu(0).unwrap();
            let mut cursor = cpu.cursor(range).unwrap();
            let (stale, error) = apart(cursor.map(&mut frames, &mapping(range, 0, Sizes::PAGES)));
            let stop = cursor.position().unwrap_or(range.end());
            drop(cursor);
            cpu.pay(stale, &mut NoTlb, &mut frames);
            assert_eq!(cpu.collect(&mut frames), 0);
            assert_eq!(census::<Small>(&mem, false).len() + frames.free.len(), 1 + FRAMES, "nothing leaks");
            for page in range.start.0 / PAGE..=range.last.0 / PAGE {
                let va = VirtAddr(page * PAGE);
                assert_eq!(found(page, cpu.translate(va)), (va < stop).then_some(0));
            }
            if error.is_none() {
                assert!(nth >= 2, "the run takes tables");
                break;
            }
            assert!(matches!(error, Some(MapError::NoFrame(_))), "{error:?}");
            let rest = VirtRange { start: stop, last: range.last };
            cpu.cursor(rest).unwrap().map(&mut frames, &mapping(rest, 0, Sizes::PAGES)).unwrap().forgive("fresh");
            let stale = cpu.cursor(range).unwrap().unmap().unwrap();
            cpu.pay(stale, &mut NoTlb, &mut frames);
            assert_eq!(cpu.collect(&mut frames), 0);
            assert_eq!((census::<Small>(&mem, false).len(), frames.free.len()), (1, FRAMES));
        }
    }
}

#[test]
fn a_split_that_lacks_a_frame_changes_nothing_and_can_be_tried_again() {
    let mem = TinyMem::new(2, 8);
    let mut slots = slots(1);
    let shared = SharedTables::new(Tables::<Small, _>::new(&mem, TinyMem::ROOT), &mut slots).unwrap();
    let mut frames = mem.frames(1, 7);
    let mut cpu = shared.cpu(0).unwrap();
    let block = pages(4, 7);
    cpu.cursor(block).unwrap().map(&mut frames, &mapping(block, 0, Sizes::ALL)).unwrap().forgive("fresh");
    frames.left = Some(0);
    let mut cursor = cpu.cursor(pages(5, 5)).unwrap();
    let failed = cursor.split(&mut frames, &mut NoTlb, table_attrs::<Small>()).unwrap_err();
    assert!(matches!(failed.error, MapError::NoFrame(_)));
    let (bytes, stale) = cursor.split(&mut frames, &mut NoTlb, table_attrs::<Small>()).unwrap();
    assert_eq!((bytes, frames.free.len()), (PAGE, 5));
    stale.forgive("no CPU runs with these tables");
    cursor.unmap().unwrap().forgive("no CPU runs with these tables");
    drop(cursor);
    assert_eq!(census::<Small>(&mem, false).len(), 3);
    assert_eq!([4, 5, 6].map(|page| found(page, cpu.translate(VirtAddr(page * PAGE)))), [Some(0), None, Some(0)]);
}

// The handles.

#[test]
fn a_slot_has_one_handle_and_what_it_left_is_given_back_in_the_end() {
    let mem = TinyMem::new(2, 8);
    let mut slots = slots(2);
    let shared = SharedTables::new(Tables::<Small, _>::new(&mem, TinyMem::ROOT), &mut slots).unwrap();
    let mut frames = mem.frames(1, 7);
    let mut cpu = shared.cpu(0).unwrap();
    assert!(shared.cpu(0).is_none() && shared.cpu(2).is_none());
    let range = pages(0, 0);
    cpu.cursor(range).unwrap().map(&mut frames, &mapping(range, 0, Sizes::PAGES)).unwrap().forgive("fresh");
    let mut reader = shared.cpu(1).unwrap();
    let reading = reader.read();
    let stale = cpu.cursor(range).unwrap().unmap().unwrap();
    cpu.pay(stale, &mut NoTlb, &mut frames);
    assert_eq!(cpu.collect(&mut frames), 2, "a walk may be in both tables");
    assert_eq!((frames.free.len(), mem.dead()), (5, 2));
    assert_eq!(found(0, reading.translate(VirtAddr(0))), None);
    drop((reading, cpu));
    assert_eq!(shared.cpu(0).unwrap().collect(&mut frames), 0, "the next handle goes on");
    assert_eq!((frames.free.len(), mem.dead()), (7, 0));
    drop(reader);
    shared.into_tables(&mut frames);
}

#[test]
fn a_tree_with_a_table_that_is_linked_twice_is_not_shared() {
    let mem = TinyMem::new(2, 8);
    let mut frames = mem.frames(1, 7);
    let mut tables = Tables::<Small, _>::new(&mem, TinyMem::ROOT);
    let table = tables.make_table(VirtAddr(0), Level::Pmd, table_attrs::<Small>(), &mut frames).unwrap();
    tables.set_entry(TinyMem::ROOT, 0, 2, table_attrs::<Small>() | table.0).unwrap();
    let (mut lent, mut again) = (slots(1), slots(1));
    let entangled = SharedTables::new(tables, &mut lent).unwrap_err();
    assert_eq!(entangled.table, table);
    let mut tables = entangled.tables;
    tables.set_entry(TinyMem::ROOT, 0, 2, 0).unwrap();
    let shared = SharedTables::new(tables, &mut again).unwrap();
    shared.into_tables(&mut frames);
    assert_eq!(census::<Small>(&mem, true).len(), 2);
}

#[test]
fn a_range_of_two_roots_is_refused_and_nothing_stays_locked() {
    let mem = TinyMem::new(2, 1);
    let mut slots = slots(1);
    let shared = SharedTables::new(Tables::<Small, _>::new(&mem, TinyMem::ROOT), &mut slots).unwrap();
    let mut cpu = shared.cpu(0).unwrap();
    let range = pages(PAGES - 1, PAGES);
    assert!(matches!(cpu.cursor(range), Err(MapError::BeyondRoot { range: found }) if found == range));
    assert_eq!(census::<Small>(&mem, false).len(), 1);
}
