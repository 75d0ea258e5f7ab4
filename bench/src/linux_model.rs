//! A model of Linux's page allocator for rows F1 to F9, written from its documented behaviour.
//!
//! One zone; a 64-byte record for each frame; free lists by order under one zone lock; lists of each CPU, of orders 0 to
//! 3 and 9, under a lock of the CPU, with batch 63 and high 378; an atomic reference count; flags of every page of a
//! freed block cleared; a type of 4 bits for each 2 MiB: the shape of 6.12 and 7.2 with the page checks off, their
//! default. Left out: other zones, the slow path, control groups, statistics beyond two counters, zeroing, debugging.
//!
//! # Invariants
//! 1. Every index in a list, and every head, is less than `frames + heads`: the length of the records.
//! 2. Lists of the zone are touched under its lock, lists of a CPU under the CPU's; a record outside lists belongs to
//!    who holds the frame. So all accesses but the locks' and the reference count's are Relaxed.
#![allow(unsafe_code)]

use core::array;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};

use crate::frames::Frames;
use crate::host::Region;

/// One frame's record: flags, next, previous, mapping, index, private, counts, owner.
#[repr(C, align(64))]
#[derive(Debug)]
struct Page {
    flags: AtomicU64,
    next: AtomicU64,
    prev: AtomicU64,
    mapping: AtomicU64,
    index: AtomicU64,
    private: AtomicU64,
    refs: AtomicU64,
    owner: AtomicU64,
}

const BUDDY: u64 = 1 << 40;
const MAX: usize = 10;
const BATCH: usize = 63;
const HIGH: usize = 378;
/// Lists of a CPU: orders 0 to 3, and 9.
const LISTS: usize = 5;

const fn list_of(order: u32) -> Option<usize> {
    match order {
        0..=3 => Some(order as usize),
        9 => Some(4),
        _ => None,
    }
}

const fn order_of(list: usize) -> u32 {
    if list == 4 { 9 } else { list as u32 }
}

/// A spin lock.
#[derive(Debug, Default)]
struct Lock(AtomicBool);

impl Lock {
    #[inline]
    fn lock(&self) {
        // Acquire: pairs with `unlock`.
        while self.0.compare_exchange_weak(false, true, Acquire, Relaxed).is_err() {
            while self.0.load(Relaxed) {
                core::hint::spin_loop();
            }
        }
    }

    #[inline]
    fn unlock(&self) {
        // Release: pairs with `lock`.
        self.0.store(false, Release);
    }
}

/// The lists of one CPU.
#[repr(align(128))]
#[derive(Debug)]
struct CpuLists {
    lock: Lock,
    count: AtomicU64,
    head: [u64; LISTS],
    events: [AtomicU64; 2],
}

/// What the zone lock guards.
#[repr(align(128))]
#[derive(Debug, Default)]
struct Zone {
    lock: Lock,
    nr: [AtomicU64; MAX + 1],
    free_pages: AtomicU64,
}

/// The model.
#[derive(Debug)]
pub struct LinuxModel {
    pages: NonNull<Page>,
    memory: Region,
    frames: usize,
    kinds: Vec<u64>,
    zone: Zone,
    cpus: Vec<CpuLists>,
}

// SAFETY:
// 1. `pages` points into `memory`, which the value owns; records are made of atomics.
unsafe impl Send for LinuxModel {}

// SAFETY:
// 1. As for `Send`.
unsafe impl Sync for LinuxModel {}

/// A store and load of a counter that one lock holder, or one CPU, changes.
#[inline]
fn change(counter: &AtomicU64, by: impl FnOnce(u64) -> u64) {
    counter.store(by(counter.load(Relaxed)), Relaxed);
}

impl LinuxModel {
    #[inline]
    fn page(&self, index: u64) -> &Page {
        // SAFETY:
        // 1. `index` is a frame or a head (invariant 1), so its record lies in `memory`.
        let page = unsafe { self.pages.add(index as usize) };
        // SAFETY:
        // 1. `memory` lives as long as `self`, and every pattern is valid atomics.
        unsafe { page.as_ref() }
    }

    /// The head of the zone's list of `order`.
    #[inline]
    const fn head(&self, order: usize) -> u64 {
        (self.frames + order) as u64
    }

    #[inline]
    fn insert_after(&self, at: u64, index: u64) {
        let next = self.page(at).next.load(Relaxed);
        self.page(index).next.store(next, Relaxed);
        self.page(index).prev.store(at, Relaxed);
        self.page(next).prev.store(index, Relaxed);
        self.page(at).next.store(index, Relaxed);
    }

    #[inline]
    fn remove(&self, index: u64) {
        let page = self.page(index);
        let (next, prev) = (page.next.load(Relaxed), page.prev.load(Relaxed));
        self.page(next).prev.store(prev, Relaxed);
        self.page(prev).next.store(next, Relaxed);
        page.next.store(0xdead_0100, Relaxed);
        page.prev.store(0xdead_0122, Relaxed);
    }

    /// Puts a free block on its list. The zone lock is held.
    fn list(&self, index: u64, order: usize) {
        change(&self.page(index).flags, |flags| flags | BUDDY);
        self.page(index).private.store(order as u64, Relaxed);
        self.insert_after(self.head(order), index);
        change(&self.zone.nr[order], |nr| nr + 1);
    }

    /// Takes a free block off its list. The zone lock is held.
    fn unlist(&self, index: u64, order: usize) {
        self.remove(index);
        change(&self.page(index).flags, |flags| flags & !BUDDY);
        change(&self.zone.nr[order], |nr| nr - 1);
    }

    /// One block from the zone's lists. The zone lock is held.
    fn take(&self, order: usize) -> Option<u64> {
        let next = |order: usize| self.page(self.head(order)).next.load(Relaxed);
        let found = (order..=MAX).find(|&larger| next(larger) != self.head(larger))?;
        let index = next(found);
        self.unlist(index, found);
        (order..found).rev().for_each(|smaller| self.list(index + (1 << smaller), smaller));
        self.zone.free_pages.fetch_sub(1 << order, Relaxed);
        Some(index)
    }

    /// One block back, merged. The zone lock is held.
    fn give(&self, index: u64, order: usize) {
        let (mut index, mut merged) = (index, order);
        while merged < MAX {
            let buddy = index ^ 1 << merged;
            if buddy as usize >= self.frames {
                break;
            }
            let page = self.page(buddy);
            let is_free = page.flags.load(Relaxed) & BUDDY != 0 && page.private.load(Relaxed) == merged as u64;
            if !is_free {
                break;
            }
            self.unlist(buddy, merged);
            index &= buddy;
            merged += 1;
        }
        self.list(index, merged);
        self.zone.free_pages.fetch_add(1 << order, Relaxed);
    }

    #[inline]
    fn kind(&self, index: u64) -> u64 {
        self.kinds[(index >> 13) as usize] >> ((index >> 9 & 15) * 4) & 15
    }

    /// A batch from the zone to a CPU's list, in ascending order. The CPU's lock is held.
    fn refill(&self, cpu: &CpuLists, list: usize) {
        let order = order_of(list);
        self.zone.lock.lock();
        for _ in 0..(BATCH >> order).max(1) {
            let Some(index) = self.take(order as usize) else { break };
            self.insert_after(self.page(cpu.head[list]).prev.load(Relaxed), index);
            change(&cpu.count, |count| count + (1 << order));
        }
        self.zone.lock.unlock();
    }

    fn take_cached(&self, cpu: &CpuLists, list: usize) -> Option<u64> {
        let head = cpu.head[list];
        cpu.lock.lock();
        if self.page(head).next.load(Relaxed) == head {
            self.refill(cpu, list);
        }
        let index = self.page(head).next.load(Relaxed);
        if index != head {
            self.remove(index);
            change(&cpu.count, |count| count - (1 << order_of(list)));
            change(&cpu.events[0], |n| n + 1);
        }
        cpu.lock.unlock();
        (index != head).then_some(index)
    }

    fn keep(&self, cpu: &CpuLists, list: usize, index: u64) {
        cpu.lock.lock();
        change(&cpu.events[1], |n| n + 1);
        self.insert_after(cpu.head[list], index);
        change(&cpu.count, |count| count + (1 << order_of(list)));
        let high = if list == 4 { HIGH.max(1 << 10) } else { HIGH };
        if cpu.count.load(Relaxed) >= high as u64 {
            self.flush(cpu, list);
        }
        cpu.lock.unlock();
    }

    /// A batch from the tails of a CPU's lists to the zone, from `list` on. The CPU's lock is held.
    fn flush(&self, cpu: &CpuLists, list: usize) {
        let mut left = if list == 4 { 512 } else { BATCH };
        let mut at = list;
        self.zone.lock.lock();
        while left > 0 && cpu.count.load(Relaxed) > 0 {
            let tail = self.page(cpu.head[at]).prev.load(Relaxed);
            if tail == cpu.head[at] {
                at = (at + 1) % LISTS;
                continue;
            }
            let order = order_of(at);
            self.remove(tail);
            change(&cpu.count, |count| count - (1 << order));
            left = left.saturating_sub(1 << order);
            self.give(tail, order as usize);
        }
        self.zone.lock.unlock();
    }

    /// The records of `frames` frames and of all heads, each a list of itself.
    fn empty(frames: usize, cpus: usize) -> Self {
        let records = frames + MAX + 1 + cpus * LISTS;
        let memory = Region::new(records * size_of::<Page>(), false).expect("memory for records");
        let lists = |cpu: usize| CpuLists {
            lock: Lock::default(),
            count: AtomicU64::new(0),
            head: array::from_fn(|list| (frames + MAX + 1 + cpu * LISTS + list) as u64),
            events: [const { AtomicU64::new(0) }; 2],
        };
        let model = Self {
            pages: memory.base().cast(),
            memory,
            frames,
            kinds: vec![0x1111_1111_1111_1111; (frames >> 13) + 1],
            zone: Zone::default(),
            cpus: (0..cpus).map(lists).collect(),
        };
        for index in 0..records as u64 {
            model.init(index);
        }
        model
    }

    /// Writes a whole record, as boot does for each.
    fn init(&self, index: u64) {
        let page = self.page(index);
        for word in [&page.flags, &page.mapping, &page.index, &page.private, &page.refs, &page.owner] {
            word.store(0, Relaxed);
        }
        page.next.store(index, Relaxed);
        page.prev.store(index, Relaxed);
    }
}

impl Frames for LinuxModel {
    const NAME: &'static str = "linux-model";
    /// The CPU's number: its lists lie in the zone's per-CPU sets.
    type Cpu = usize;
    type Pfn = u64;

    fn new(frames: usize, cpus: usize) -> (Self, Vec<usize>) {
        let model = Self::empty(frames, cpus);
        for block in (0..frames >> MAX).rev() {
            model.give((block << MAX) as u64, MAX);
        }
        (model, (0..cpus).collect())
    }

    #[inline]
    fn alloc(&self, &mut cpu: &mut usize, order: u32) -> Option<u64> {
        let index = match list_of(order) {
            Some(list) => self.take_cached(&self.cpus[cpu], list)?,
            None => {
                self.zone.lock.lock();
                let taken = self.take(order as usize);
                self.zone.lock.unlock();
                taken?
            }
        };
        let page = self.page(index);
        page.private.store(0, Relaxed);
        page.refs.store(1, Relaxed);
        Some(index)
    }

    #[inline]
    fn free(&self, &mut cpu: &mut usize, pfn: u64, order: u32) {
        let page = self.page(pfn);
        // AcqRel: who drops the last reference sees what the other holders wrote.
        if page.refs.fetch_sub(1, AcqRel) != 1 {
            return;
        }
        for frame in 0..1 << order {
            change(&self.page(pfn + frame).flags, |flags| flags & BUDDY);
        }
        page.private.store(0, Relaxed);
        match list_of(order) {
            Some(list) if self.kind(pfn) == 1 => self.keep(&self.cpus[cpu], list, pfn),
            _ => {
                self.zone.lock.lock();
                self.give(pfn, order as usize);
                self.zone.lock.unlock();
            }
        }
    }

    fn number(pfn: u64) -> u64 {
        pfn
    }

    fn metadata_bytes(&self) -> usize {
        self.memory.bytes() + self.kinds.len() * 8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn freed_blocks_merge_to_what_was_there() {
        let (model, mut cpus) = LinuxModel::new(1 << 12, 1);
        let count = |order: usize| model.zone.nr[order].load(Relaxed);
        assert_eq!((count(10), model.zone.free_pages.load(Relaxed)), (4, 4096));
        let pfn = model.alloc(&mut cpus[0], 6).unwrap();
        assert_eq!((count(10), count(9), count(6)), (3, 1, 1));
        model.free(&mut cpus[0], pfn, 6);
        assert_eq!((count(10), count(9), count(6)), (4, 0, 0));
    }

    #[test]
    fn every_frame_is_given_once() {
        let (model, mut cpus) = LinuxModel::new(1 << 12, 1);
        let mut held: Vec<u64> = core::iter::from_fn(|| model.alloc(&mut cpus[0], 0)).collect();
        held.sort_unstable();
        assert_eq!(held, (0..1 << 12).collect::<Vec<u64>>());
        held.iter().for_each(|&pfn| model.free(&mut cpus[0], pfn, 0));
        let cached = model.cpus[0].count.load(Relaxed);
        assert_eq!(model.zone.free_pages.load(Relaxed) + cached, 1 << 12);
        assert!(cached < 378);
    }
}
