//! `floor`: nobody's page tables, but the straight loop that does nothing except the loads and stores that a row cannot
//! do without. It shows how near this machine comes to the arithmetic of the limits.
//!
//! x86-64's entries, one owner, no checks.
//!
//! # Invariants
//! 1. Every table below the root was taken from [`arena`] by this tree, which alone has it until it is given back.
#![allow(unsafe_code)]

use core::sync::atomic::{Ordering, fence};

use crate::arena;
use crate::tables::{Leaf, Tables};

const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
const PRESENT: u64 = 1;
const LINK: u64 = 0b11;
const WRITABLE: u64 = 0b10;
const LARGE: u64 = 0x80;

type Table = [u64; 512];

/// The tree.
#[derive(Debug)]
pub struct Floor {
    root: u64,
}

/// The table at `pa`.
#[inline]
fn table<'t>(pa: u64) -> &'t mut Table {
    // SAFETY:
    // 1. `pa` is a frame of the arena that this tree has alone (invariant 1): 4096 bytes, aligned, mapped for good.
    // 2. A caller keeps one borrow of a table at a time, and none over a call that takes or frees tables.
    unsafe { &mut *(pa as *mut Table) }
}

fn frame() -> u64 {
    arena::take().expect("a frame for a table")
}

fn zeroed() -> u64 {
    let pa = frame();
    table(pa).fill(0);
    pa
}

const fn index(va: u64, level: u32) -> usize {
    (va >> (12 + 9 * level) & 511) as usize
}

const fn level_of(leaf: Leaf) -> u32 {
    match leaf {
        Leaf::Page => 0,
        Leaf::M2 => 1,
        Leaf::G1 => 2,
    }
}

impl Floor {
    /// The table of level `stop` that holds `va`.
    #[inline]
    fn find(&self, va: u64, stop: u32) -> u64 {
        let mut pa = self.root;
        for level in (stop + 1..4).rev() {
            pa = table(pa)[index(va, level)] & ADDRESS;
        }
        pa
    }

    /// The same, made on the way; one that `is_filled` by the caller is not zeroed.
    #[inline]
    fn make(&self, va: u64, stop: u32, is_filled: bool) -> u64 {
        let mut pa = self.root;
        for level in (stop + 1..4).rev() {
            let at = index(va, level);
            if table(pa)[at] == 0 {
                let new = if level == stop + 1 && is_filled { frame() } else { zeroed() };
                table(pa)[at] = new | LINK;
            }
            pa = table(pa)[at] & ADDRESS;
        }
        pa
    }
}

/// Calls `run` with the address of each piece that one table of the leaf's level holds, and the entries in it.
#[inline]
fn by_table(va: u64, len: u64, leaf: Leaf, mut run: impl FnMut(u64, core::ops::Range<usize>)) {
    let (mut at, end, bytes) = (va, va + len, leaf.bytes(12));
    while at < end {
        let first = index(at, level_of(leaf));
        let count = (512 - first).min(((end - at) / bytes) as usize);
        run(at, first..first + count);
        at += count as u64 * bytes;
    }
}

impl Tables for Floor {
    const NAME: &'static str = "floor";
    const HAS_SPLIT: bool = true;
    const UNMAP_FREES: bool = true;

    fn new() -> Self {
        Self { root: zeroed() }
    }

    fn map(&mut self, va: u64, pa: u64, len: u64, leaf: Leaf) {
        let mut entry = pa | LINK | if leaf == Leaf::Page { 0 } else { LARGE };
        by_table(va, len, leaf, |at, run| {
            let pa = self.make(at, level_of(leaf), run.len() == 512);
            for slot in &mut table(pa)[run] {
                *slot = entry;
                entry += leaf.bytes(12);
            }
        });
    }

    fn protect(&mut self, va: u64, len: u64, leaf: Leaf) {
        by_table(va, len, leaf, |at, run| {
            for slot in &mut table(self.find(at, level_of(leaf)))[run] {
                *slot &= !WRITABLE;
            }
        });
    }

    /// Whole tables are dropped by their parent's entry; nothing below is read.
    fn unmap(&mut self, va: u64, len: u64, leaf: Leaf) {
        let level = level_of(leaf);
        by_table(va, len, leaf, |at, run| {
            if run.len() < 512 {
                table(self.find(at, level))[run].fill(0);
                return;
            }
            let slot = &mut table(self.find(at, level + 1))[index(at, level + 1)];
            // SAFETY:
            // 1. The table was taken for this tree, and its entry is made empty below.
            unsafe { arena::give_back(*slot & ADDRESS) };
            *slot = 0;
        });
    }

    #[inline]
    fn map_one(&mut self, va: u64, pa: u64) {
        table(self.make(va, 0, false))[index(va, 0)] = pa | LINK;
    }

    #[inline]
    fn unmap_one(&mut self, va: u64) {
        table(self.find(va, 0))[index(va, 0)] = 0;
    }

    fn map_run(&mut self, va: u64, pas: &[u64]) {
        for (slot, &pa) in table(self.make(va, 0, false)).iter_mut().zip(pas) {
            *slot = pa | LINK;
        }
    }

    fn unmap_run(&mut self, va: u64, n: usize) {
        table(self.find(va, 0))[..n].fill(0);
    }

    fn split(&mut self, va: u64) {
        let up = self.find(va, 1);
        let mut entry = table(up)[index(va, 1)] & !LARGE;
        let below = frame();
        for slot in table(below) {
            *slot = entry;
            entry += 4096;
        }
        // Release: the entries before the link, as a walker on another CPU needs it.
        fence(Ordering::Release);
        table(up)[index(va, 1)] = below | LINK;
    }

    #[inline]
    fn translate(&self, va: u64) -> Option<u64> {
        let mut pa = self.root;
        for level in (1..4).rev() {
            let entry = table(pa)[index(va, level)];
            // Both bits by one test: taking the lower one away borrows only where it is clear.
            if entry.wrapping_sub(PRESENT) & (PRESENT | LARGE) != 0 {
                return above(entry, level, va);
            }
            pa = entry & ADDRESS;
        }
        let entry = table(pa)[index(va, 0)];
        if entry & PRESENT != 0 { Some(entry & ADDRESS | va & 0xfff) } else { None }
    }
}

/// Where `va` leads by an entry above the last level that links no table.
#[cold]
#[inline(never)]
fn above(entry: u64, level: u32, va: u64) -> Option<u64> {
    let inside = (1 << (12 + 9 * level)) - 1;
    if entry & PRESENT != 0 { Some(entry & ADDRESS & !inside | va & inside) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_of_each_size_lead_where_they_were_mapped() {
        arena::reset(12);
        let mut tree = Floor::new();
        tree.map(0x4000_0000, 0x20_0000, 4 << 20, Leaf::M2);
        tree.map(0x8000_0000, 0x5000, 8 << 12, Leaf::Page);
        assert_eq!(tree.translate(0x4020_1234), Some(0x40_1234));
        tree.split(0x4020_0000);
        assert_eq!(tree.translate(0x4020_1234), Some(0x40_1234));
        assert_eq!(tree.translate(0x8000_7010), Some(0xc010));
        tree.unmap(0x8000_0000, 8 << 12, Leaf::Page);
        assert_eq!((tree.translate(0x8000_7010), tree.translate(0x4020_1234)), (None, Some(0x40_1234)));
    }
}
