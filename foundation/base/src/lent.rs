//! Memory lent to a subsystem: frames that this program reaches by pointer.
//!
//! Here: the promise of a linear map ([`LinearMem`]), what may be done with a block of it ([`Lent`]), words of the
//! caller's that stand for a physical range ([`WordArena`]). Not here: page tables, which MMUs write too (`mem`).
//!
//! # Invariants
//! 1. The bytes behind an answer of [`LinearMem::ptr`] stay readable and writable while the [`LinearMem`] is borrowed.
//! 2. A [`Lent`] never reaches past the bytes that it was made for: every access checks its bounds.
//! 3. Words are accessed atomically (Relaxed): who owns a frame decides what may be read from it, and no order
//!    between CPUs is made here.
#![allow(unsafe_code)]

#[cfg(feature = "heap")]
mod heap;

use core::fmt;
use core::marker::PhantomData;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::{PhysAddr, PhysRange};

#[cfg(feature = "heap")]
pub use heap::HeapArena;

/// Up to here a pointer and its physical address agree: both are the same modulo this many bytes.
pub const LINEAR_ALIGN: u64 = 64 << 10;

/// Physical memory that this program reaches by pointer: a kernel's linear map.
///
/// # Safety
/// For every answer of `ptr` the `bytes` bytes behind the pointer are readable and writable memory, backed by the
/// frames at `pa`, while `self` is borrowed, and no reference of the implementor's forbids writing through it.
/// Equal addresses give equal pointers, and consecutive addresses of one answer consecutive pointers; a pointer and
/// its address are the same modulo [`LINEAR_ALIGN`]; `pa` undoes `ptr`.
pub unsafe trait LinearMem {
    /// Where this program sees the `bytes` bytes at `pa`; `None` if not all of them are memory.
    fn ptr(&self, pa: PhysAddr, bytes: u64) -> Option<NonNull<u8>>;

    /// The physical address behind a pointer that [`LinearMem::ptr`] gave, or that points into such memory.
    fn pa(&self, ptr: NonNull<u8>) -> Option<PhysAddr>;
}

// SAFETY:
// 1. Every answer is one of the borrowed map, which keeps the promise.
unsafe impl<M: LinearMem + ?Sized> LinearMem for &M {
    fn ptr(&self, pa: PhysAddr, bytes: u64) -> Option<NonNull<u8>> {
        (**self).ptr(pa, bytes)
    }

    fn pa(&self, ptr: NonNull<u8>) -> Option<PhysAddr> {
        (**self).pa(ptr)
    }
}

/// A block of lent memory: what a subsystem may do with frames without a pointer of its own.
///
/// Whose the bytes are is the caller's business: writing into memory that somebody else uses destroys that user's
/// data, as with every physical address.
#[derive(Clone, Copy)]
pub struct Lent<'m> {
    base: NonNull<u8>,
    bytes: usize,
    life: PhantomData<&'m ()>,
}

impl<'m> Lent<'m> {
    /// The `bytes` bytes at `pa`, a multiple of 8; `None` if not all of them are memory.
    #[must_use]
    pub fn new<M: LinearMem + ?Sized>(mem: &'m M, pa: PhysAddr, bytes: u64) -> Option<Self> {
        if !pa.is_aligned(8) {
            return None;
        }
        let base = mem.ptr(pa, bytes)?;
        Some(Self { base, bytes: usize::try_from(bytes).ok()?, life: PhantomData })
    }

    /// Bytes of the block.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Where the block begins in this program.
    #[must_use]
    pub const fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Where byte `at` lies in this program; `None` behind the end.
    #[must_use]
    pub fn ptr(&self, at: usize) -> Option<NonNull<u8>> {
        self.span(at, 1)
    }

    /// The word at `at`, a multiple of 8; `None` if it does not lie in the block.
    #[must_use]
    pub fn word(&self, at: usize) -> Option<u64> {
        Some(self.cell(at)?.load(Ordering::Relaxed))
    }

    /// Writes the word at `at`; `None` if it does not lie in the block.
    pub fn set_word(&self, at: usize, value: u64) -> Option<()> {
        self.cell(at)?.store(value, Ordering::Relaxed);
        Some(())
    }

    /// The byte at `at`.
    #[must_use]
    pub fn byte(&self, at: usize) -> Option<u8> {
        let ptr = self.span(at, 1)?;
        // SAFETY:
        // 1. `span` checked that the byte lies in the block, which is readable memory (invariant 1).
        Some(unsafe { ptr.read() })
    }

    /// Fills `len` bytes from `at`; `None` if they do not lie in the block: nothing was written then.
    pub fn fill(&self, at: usize, len: usize, byte: u8) -> Option<()> {
        let ptr = self.span(at, len)?;
        // SAFETY:
        // 1. `span` checked that all `len` bytes lie in the block, which is writable memory (invariant 1).
        unsafe { ptr.write_bytes(byte, len) };
        Some(())
    }

    /// Writes `data` from `at`; `None` if it does not fit: nothing was written then.
    pub fn write(&self, at: usize, data: &[u8]) -> Option<()> {
        let ptr = self.span(at, data.len())?;
        let from = NonNull::from(data).cast::<u8>();
        // SAFETY:
        // 1. `span` checked the destination (invariant 1), and `data` is readable for its length.
        // 2. The two may overlap: `copy_from` bears it.
        unsafe { ptr.copy_from(from, data.len()) };
        Some(())
    }

    /// Copies `len` bytes from the start of `from` to the start of this block; `None` if one of them is shorter.
    pub fn copy_from(&self, from: Lent<'_>, len: usize) -> Option<()> {
        let (to, from) = (self.span(0, len)?, from.span(0, len)?);
        // SAFETY:
        // 1. `span` checked both sides (invariant 1).
        // 2. The two may overlap: `copy_from` bears it.
        unsafe { to.copy_from(from, len) };
        Some(())
    }

    /// The first of `len` bytes from `at` that is not `byte`: its place in the block and its value.
    /// Bytes behind the end of the block are not looked at.
    #[must_use]
    pub fn first_other(&self, at: usize, len: usize, byte: u8) -> Option<(usize, u8)> {
        let end = at.saturating_add(len).min(self.bytes);
        (at..end).find_map(|at| self.byte(at).filter(|&found| found != byte).map(|found| (at, found)))
    }

    fn span(&self, at: usize, len: usize) -> Option<NonNull<u8>> {
        if at.checked_add(len)? > self.bytes {
            return None;
        }
        // SAFETY:
        // 1. `at` is not behind the end of the block, which is one piece of memory (invariants 1 and 2).
        Some(unsafe { self.base.add(at) })
    }

    fn cell(&self, at: usize) -> Option<&AtomicU64> {
        if !at.is_multiple_of(8) {
            return None;
        }
        let ptr = self.span(at, 8)?.as_ptr().cast::<u64>();
        // SAFETY:
        // 1. `span` checked that the 8 bytes lie in the block, which is memory while `'m` lasts (invariant 1).
        // 2. Aligned: the block begins at a multiple of 8 (`new`; a pointer agrees with its address) and so does `at`.
        // 3. Whoever else accesses the word owns it or does so atomically (invariant 3).
        Some(unsafe { AtomicU64::from_ptr(ptr) })
    }
}

impl fmt::Debug for Lent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lent").field("base", &self.base).field("bytes", &self.bytes).finish()
    }
}

/// Words of the caller's that stand for a physical range: a static of an image, or an array in a test.
#[derive(Clone, Copy, Debug)]
pub struct WordArena<'w> {
    words: &'w [AtomicU64],
    start: PhysAddr,
}

impl<'w> WordArena<'w> {
    /// `words` stand for the memory at `start`; `None` if the two do not agree modulo [`LINEAR_ALIGN`], or the range
    /// would end past the last address.
    #[must_use]
    pub fn new(words: &'w [AtomicU64], start: PhysAddr) -> Option<Self> {
        start.checked_add(words.len() as u64 * 8)?;
        let agree = (words.as_ptr().addr() as u64 ^ start.0).is_multiple_of(LINEAR_ALIGN);
        agree.then_some(Self { words, start })
    }

    /// The range that the words stand for.
    #[must_use]
    pub fn range(&self) -> PhysRange {
        PhysRange { start: self.start, end: self.start + self.words.len() as u64 * 8 }
    }
}

// SAFETY:
// 1. An answer lies inside the words, checked, which are borrowed for longer than `self`.
// 2. The words are atomics: writing through a pointer made of a shared borrow is allowed.
// 3. One offset leads both ways, and `new` checked that the two agree modulo `LINEAR_ALIGN`.
unsafe impl LinearMem for WordArena<'_> {
    fn ptr(&self, pa: PhysAddr, bytes: u64) -> Option<NonNull<u8>> {
        let range = self.range();
        if pa < range.start || pa.checked_add(bytes)? > range.end {
            return None;
        }
        let base = NonNull::from(self.words).cast::<u8>();
        // SAFETY:
        // 1. The offset is not behind the end of the words, checked above.
        Some(unsafe { base.add((pa - self.start) as usize) })
    }

    fn pa(&self, ptr: NonNull<u8>) -> Option<PhysAddr> {
        let offset = (ptr.addr().get() as u64).checked_sub(self.words.as_ptr().addr() as u64)?;
        (offset < self.words.len() as u64 * 8).then(|| self.start + offset)
    }
}

#[cfg(all(test, feature = "heap"))]
mod tests {
    use super::*;

    #[test]
    fn an_access_past_the_end_of_a_block_is_refused() {
        let arena = HeapArena::new(PhysAddr(0x4000_0000), 0x2000);
        let lent = Lent::new(&arena, PhysAddr(0x4000_1000), 0x100).unwrap();
        assert_eq!(lent.set_word(0xf8, 7).and(lent.word(0xf8)), Some(7));
        assert_eq!((lent.word(0x100), lent.word(0xfc), lent.set_word(usize::MAX - 7, 0)), (None, None, None));
        assert_eq!((lent.fill(0xff, 2, 1), lent.byte(0xff), lent.ptr(0x100)), (None, Some(0), None));
        assert_eq!(lent.fill(0, 16, 0x6b).and(lent.first_other(0, 0x200, 0x6b)), Some((16, 0)));
    }

    #[test]
    fn an_arena_answers_for_its_own_range_and_both_ways() {
        let arena = HeapArena::new(PhysAddr(0x4000_0000), 0x2000);
        let ptr = arena.ptr(PhysAddr(0x4000_1fff), 1).unwrap();
        assert_eq!(arena.pa(ptr), Some(PhysAddr(0x4000_1fff)));
        assert_eq!(arena.ptr(PhysAddr(0x4000_0000), 0x2000).unwrap().addr().get() as u64 % LINEAR_ALIGN, 0);
        assert_eq!(arena.ptr(PhysAddr(0x4000_1fff), 2), None);
        assert_eq!(arena.ptr(PhysAddr(0x3fff_ffff), 1), None);
        assert_eq!(arena.pa(NonNull::dangling()), None);
    }
}
