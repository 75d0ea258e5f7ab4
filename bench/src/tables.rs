//! Rows P1 to P7: page tables.
//!
//! Set-up lies outside [`roi`]; the same seed gives every contender the same operations. A workload is not changed to
//! suit an implementation: another need is another row.

use core::hint::black_box;
use std::sync::{Barrier, Mutex, PoisonError};
use std::time::Instant;

use crate::arena::{self, Share};
use crate::rng::Rng;
use crate::time::{cpu_ns, roi};

/// The leaf that a range is mapped with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Leaf {
    /// The contender's base page.
    Page,
    /// 2 MiB.
    M2,
    /// 1 GiB.
    G1,
}

impl Leaf {
    /// Its bytes, with base pages of `1 << page_shift`.
    #[must_use]
    pub const fn bytes(self, page_shift: u32) -> u64 {
        match self {
            Self::Page => 1 << page_shift,
            Self::M2 => 2 << 20,
            Self::G1 => 1 << 30,
        }
    }
}

/// One tree of page tables. Its tables come from [`arena`]; what a fresh table must be cleared of is the contender's
/// business. In rows P1 to P7 pages have 4 KiB and addresses lie below 2^47.
pub trait Tables: Sized + Send {
    /// Name in the tables of results.
    const NAME: &'static str;
    /// log2 of the bytes of a base page, and of a table's frame.
    const PAGE_SHIFT: u32 = 12;
    /// First address of every range but those of 1 GiB leaves.
    const BASE: u64 = BASE;
    /// Whether [`Tables::split`] does anything; the row is left out otherwise.
    const HAS_SPLIT: bool = false;
    /// Whether `unmap` gives emptied tables back.
    const UNMAP_FREES: bool = false;

    /// An empty tree.
    fn new() -> Self;
    /// Maps `[va, va + len)` to `[pa, pa + len)` for reading and writing, with exactly this leaf size.
    fn map(&mut self, va: u64, pa: u64, len: u64, leaf: Leaf);
    /// Makes the range read-only.
    fn protect(&mut self, va: u64, len: u64, leaf: Leaf);
    /// Unmaps the range.
    fn unmap(&mut self, va: u64, len: u64, leaf: Leaf);
    /// Maps one base page.
    fn map_one(&mut self, va: u64, pa: u64);
    /// Unmaps one base page.
    fn unmap_one(&mut self, va: u64);
    /// Maps consecutive base pages to unrelated frames, through the contender's cursor if it has one.
    fn map_run(&mut self, va: u64, pas: &[u64]) {
        for (page, &pa) in pas.iter().enumerate() {
            self.map_one(va + ((page as u64) << Self::PAGE_SHIFT), pa);
        }
    }
    /// Unmaps `n` consecutive base pages, through the contender's cursor if it has one.
    fn unmap_run(&mut self, va: u64, n: usize) {
        for page in 0..n as u64 {
            self.unmap_one(va + (page << Self::PAGE_SHIFT));
        }
    }
    /// Splits the 2 MiB block at `va` into 512 pages of the same attributes.
    fn split(&mut self, _va: u64) {}
    /// Where `va` leads.
    fn translate(&self, va: u64) -> Option<u64>;
}

/// First address of the ranges: 64 GiB.
pub const BASE: u64 = 0x10_0000_0000;

/// First physical address behind them.
pub const PA: u64 = 0x20_0000_0000;

/// What P1 to P3 map.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// With which leaves.
    pub leaf: Leaf,
    /// How many of them.
    pub leaves: u64,
}

/// 1 GiB of pages of 4 KiB, or as many pages of another size.
pub const PAGES: Span = Span { leaf: Leaf::Page, leaves: 1 << 18 };

/// 64 GiB of 2 MiB blocks.
pub const BLOCKS_2M: Span = Span { leaf: Leaf::M2, leaves: 1 << 15 };

/// 1 TiB of 1 GiB blocks.
pub const BLOCKS_1G: Span = Span { leaf: Leaf::G1, leaves: 1 << 10 };

impl Span {
    const fn bytes<T: Tables>(self) -> u64 {
        self.leaves * self.leaf.bytes(T::PAGE_SHIFT)
    }

    fn va<T: Tables>(self) -> u64 {
        if self.leaf == Leaf::G1 { 1 << 40 } else { T::BASE }
    }

    /// For 2 MiB leaves off the grid of 1 GiB, so that nobody may use a larger leaf.
    const fn pa<T: Tables>(self) -> u64 {
        match self.leaf {
            Leaf::M2 => PA + (2 << 20),
            Leaf::G1 => PA,
            Leaf::Page if T::BASE < BASE => T::BASE,
            Leaf::Page => PA,
        }
    }

    fn map<T: Tables>(self, tables: &mut T) {
        tables.map(self.va::<T>(), self.pa::<T>(), self.bytes::<T>(), self.leaf);
    }
}

fn fresh<T: Tables>() -> T {
    arena::reset(T::PAGE_SHIFT);
    T::new()
}

/// P1: maps a range in an empty tree; taking and clearing tables is inside the time. ns an entry.
pub fn map<T: Tables>(span: Span) -> f64 {
    let mut tables: T = fresh();
    let ns = roi(span.leaves, || span.map(&mut tables));
    let last = span.bytes::<T>() - 4096;
    assert_eq!(tables.translate(span.va::<T>() + last), Some(span.pa::<T>() + last), "{}", T::NAME);
    ns
}

/// P2: makes the range read-only. ns an entry.
pub fn protect<T: Tables>(span: Span) -> f64 {
    let mut tables: T = fresh();
    span.map(&mut tables);
    roi(span.leaves, || tables.protect(span.va::<T>(), span.bytes::<T>(), span.leaf))
}

/// P3: unmaps the range; who can free tables does it inside the time. ns an entry.
pub fn unmap<T: Tables>(span: Span) -> f64 {
    let mut tables: T = fresh();
    span.map(&mut tables);
    let full = arena::in_use();
    let ns = roi(span.leaves, || tables.unmap(span.va::<T>(), span.bytes::<T>(), span.leaf));
    assert_eq!(tables.translate(span.va::<T>()), None, "{}", T::NAME);
    assert_eq!(arena::in_use() < full, T::UNMAP_FREES, "{}: {full} -> {}", T::NAME, arena::in_use());
    ns
}

/// How often P3 by leaf table is done in a round: one region is short, and what disturbs it only adds.
const REPEATS: usize = 8;

/// P3 by leaf table: unmaps 512 tables of `entries` pages each from between two neighbours, so that every one is a store
/// into a parent that stays and a frame given back. Caches are cold. ns a table, the least of some times.
pub fn unmap_tables<T: Tables>(entries: u64) -> f64 {
    let mut tables: T = fresh();
    let (count, bytes) = (512, entries << T::PAGE_SHIFT);
    let all = Span { leaf: Leaf::Page, leaves: (count + 2) * entries };
    all.map(&mut tables);
    let (va, pa) = (T::BASE + bytes, all.pa::<T>() + bytes);
    let mut once = || {
        // The larger tables are, the more they push out of caches while they are filled: here everything is pushed out.
        arena::warm((64 << 20) >> T::PAGE_SHIFT);
        let full = arena::in_use();
        let ns = roi(count, || tables.unmap(va, count * bytes, Leaf::Page));
        assert_eq!(full - arena::in_use(), count as usize, "{}", T::NAME);
        tables.map(va, pa, count * bytes, Leaf::Page);
        ns
    };
    (0..REPEATS).map(|_| once()).fold(f64::INFINITY, f64::min)
}

/// P4a: one page mapped and unmapped again, at a random place of a 16 MiB window whose tables stay, since each has a
/// neighbour mapped. ns for half a pair.
pub fn one_page<T: Tables>() -> f64 {
    let mut tables: T = fresh();
    for table in 0..8 {
        tables.map_one(BASE + table * (2 << 20) + (511 << 12), PA);
    }
    let mut rng = Rng::new(3);
    let place = |page: u64| BASE + (if page % 512 == 511 { page - 1 } else { page }) * 4096;
    let vas: Vec<u64> = (0..4096).map(|_| place(rng.below(4096) as u64)).collect();
    let rounds = 20;
    roi(2 * rounds * vas.len() as u64, || {
        for _ in 0..rounds {
            for &va in &vas {
                tables.map_one(va, va);
                tables.unmap_one(va);
            }
        }
    })
}

/// P4b: 511 consecutive pages mapped to unrelated frames and unmapped. ns a page and operation.
pub fn unrelated_pages<T: Tables>() -> f64 {
    let mut tables: T = fresh();
    tables.map_one(BASE + (511 << 12), PA);
    let mut rng = Rng::new(4);
    let pas: Vec<u64> = (0..511).map(|_| (rng.below(1 << 24) as u64) << 12).collect();
    let rounds = 200;
    roi(2 * rounds * 511, || {
        for _ in 0..rounds {
            tables.map_run(BASE, &pas);
            tables.unmap_run(BASE, 511);
        }
    })
}

/// P5: 2 MiB blocks split into 512 pages each, the table's frame taken inside the time. ns a split.
pub fn split<T: Tables>() -> f64 {
    let mut tables: T = fresh();
    let blocks = 512;
    tables.map(BASE, PA, blocks << 21, Leaf::M2);
    let ns = roi(blocks, || {
        for block in 0..blocks {
            tables.split(BASE + (block << 21));
        }
    });
    assert_eq!(tables.translate(BASE + 0x3000), Some(PA + 0x3000), "{}", T::NAME);
    ns
}

/// P6: translations of random addresses.
#[derive(Clone, Copy, Debug)]
pub struct Translations {
    /// Mapped base pages.
    pub pages: u64,
    /// log2 of the addresses that are drawn.
    pub drawn: u32,
    /// How often each is asked for.
    pub rounds: u64,
}

/// 64 MiB of pages of 4 KiB, or as many pages of another size.
pub const HOT: Translations = Translations { pages: 1 << 14, drawn: 14, rounds: 40 };

/// 64 GiB of pages of 4 KiB: 128 MiB of leaf tables.
pub const COLD: Translations = Translations { pages: 1 << 24, drawn: 18, rounds: 1 };

impl Translations {
    fn prepare<T: Tables>(self) -> (T, Vec<u64>) {
        let mut tables: T = fresh();
        Span { leaf: Leaf::Page, leaves: self.pages }.map(&mut tables);
        let mut rng = Rng::new(11);
        let page = |n: usize| T::BASE + ((n as u64) << T::PAGE_SHIFT | 0x123);
        let vas = (0..1 << self.drawn).map(|_| page(rng.below(self.pages as usize))).collect();
        (tables, vas)
    }
}

/// P6: translations that do not wait for each other. ns each.
pub fn translate<T: Tables>(kind: Translations) -> f64 {
    translate_by::<T>(kind, |tables, va| tables.translate(va))
}

/// [`translate`] by another way of the contender.
pub fn translate_by<T: Tables>(kind: Translations, one: impl Fn(&mut T, u64) -> Option<u64>) -> f64 {
    let (mut tables, vas) = kind.prepare::<T>();
    roi(kind.rounds * vas.len() as u64, || {
        let mut sum = 0u64;
        for _ in 0..kind.rounds {
            for &va in &vas {
                sum = sum.wrapping_add(one(&mut tables, black_box(va)).unwrap_or(0));
            }
        }
        sum
    })
}

/// P6: as [`translate`], all addresses of a round in one call of the contender, which gets them as it needs them.
pub fn translate_batch<T: Tables, A>(kind: Translations, of: impl Fn(u64) -> A, all: impl Fn(&T, &[A]) -> u64) -> f64 {
    let (tables, vas) = kind.prepare::<T>();
    let vas: Vec<A> = vas.into_iter().map(of).collect();
    let sum = || (0..kind.rounds).fold(0, |sum: u64, _| sum.wrapping_add(all(&tables, black_box(&vas))));
    roi(kind.rounds * vas.len() as u64, sum)
}

/// P6: each address needs the last result. ns each.
pub fn translate_dependent<T: Tables>() -> f64 {
    translate_dependent_by::<T>(|tables, va| tables.translate(va))
}

/// [`translate_dependent`] by another way of the contender.
pub fn translate_dependent_by<T: Tables>(one: impl Fn(&mut T, u64) -> Option<u64>) -> f64 {
    let (mut tables, vas) = HOT.prepare::<T>();
    roi(HOT.rounds * vas.len() as u64, || {
        let mut last = 0u64;
        for _ in 0..HOT.rounds {
            for &va in &vas {
                // Bits of the result that are the same in all of them pick the page: a true chain of loads.
                last = one(&mut tables, va ^ ((last & 0xff0) << 12)).unwrap_or(0);
            }
        }
        last
    })
}

/// Calls of 2 MiB that each thread of P7 makes.
pub const CALLS: u64 = 128;

/// What one thread of P7 changes the tree by.
pub trait Worker {
    /// Maps the 2 MiB at `va` by base pages.
    fn map(&mut self, va: u64);
    /// Unmaps them.
    fn unmap(&mut self, va: u64);
}

/// A tree behind one lock.
struct Locked<'t, T>(&'t Mutex<T>);

impl<T: Tables> Worker for Locked<'_, T> {
    fn map(&mut self, va: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).map(va, PA, 2 << 20, Leaf::Page);
    }

    fn unmap(&mut self, va: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).unmap(va, 2 << 20, Leaf::Page);
    }
}

/// How many threads work at P7, and how often each does all its calls.
#[derive(Clone, Copy, Debug)]
pub struct Crew {
    /// The threads.
    pub threads: usize,
    /// Repetitions.
    pub rounds: u64,
}

/// P7 behind one lock.
pub fn threads<T: Tables>(crew: Crew) -> Spent {
    let tables = Mutex::new(fresh::<T>());
    in_threads(crew, |_| Locked(&tables))
}

/// Time that an entry and operation took.
#[derive(Clone, Copy, Debug)]
pub struct Spent {
    /// CPU ns of all threads: waiting shows as the spinning and switching that it costs.
    pub cpu_ns: f64,
    /// ns by the wall clock, from when the first thread began to when the last one ended.
    pub wall_ns: f64,
}

/// What P7 does: each thread maps and then unmaps 256 MiB of pages in calls of 2 MiB, all in one tree, with frames of
/// its own that are warm. `start` makes a thread's worker, in that thread.
///
/// # Panics
/// A worker does.
pub fn in_threads<W: Worker>(crew: Crew, start: impl Fn(usize) -> W + Sync) -> Spent {
    let barrier = Barrier::new(crew.threads);
    let work = |thread: usize, share: Share| {
        share.enter();
        // Its leaf tables and those above them.
        arena::warm(CALLS as usize + 4);
        let (mut worker, base) = (start(thread), BASE + ((thread as u64) << 30));
        barrier.wait();
        let (begun, cpu) = (Instant::now(), cpu_ns());
        for _ in 0..crew.rounds {
            (0..CALLS).for_each(|call| worker.map(base + (call << 21)));
            (0..CALLS).for_each(|call| worker.unmap(base + (call << 21)));
        }
        (begun, Instant::now(), cpu_ns() - cpu)
    };
    let spent: Vec<(Instant, Instant, u64)> = std::thread::scope(|scope| {
        let parts = arena::share(crew.threads).into_iter().enumerate();
        let work = &work;
        let running: Vec<_> = parts.map(|(thread, share)| scope.spawn(move || work(thread, share))).collect();
        running.into_iter().map(|one| one.join().expect("a worker that ends")).collect()
    });
    let entries = (crew.threads as u64 * crew.rounds * 2 * CALLS * 512) as f64;
    let wall = spent.iter().map(|one| one.1).max().zip(spent.iter().map(|one| one.0).min());
    let wall = wall.map_or(0, |(last, first)| (last - first).as_nanos());
    Spent { cpu_ns: spent.iter().map(|one| one.2).sum::<u64>() as f64 / entries, wall_ns: wall as f64 / entries }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Notes what it is asked for.
    struct Noting<'n> {
        mapped: &'n Mutex<BTreeSet<u64>>,
        frames: &'n Mutex<BTreeSet<u64>>,
    }

    impl Worker for Noting<'_> {
        fn map(&mut self, va: u64) {
            assert!(self.mapped.lock().unwrap().insert(va), "{va:#x} twice");
            assert!(self.frames.lock().unwrap().insert(arena::take().unwrap()), "a frame twice");
        }

        fn unmap(&mut self, va: u64) {
            assert!(self.mapped.lock().unwrap().remove(&va), "{va:#x} is not mapped");
        }
    }

    #[test]
    fn threads_map_and_unmap_each_its_own_addresses_with_frames_of_its_own() {
        arena::reset(12);
        let (mapped, frames) = (Mutex::new(BTreeSet::new()), Mutex::new(BTreeSet::new()));
        in_threads(Crew { threads: 3, rounds: 1 }, |_| Noting { mapped: &mapped, frames: &frames });
        assert!(mapped.lock().unwrap().is_empty());
        assert_eq!(frames.lock().unwrap().len() as u64, 3 * CALLS);
    }
}
