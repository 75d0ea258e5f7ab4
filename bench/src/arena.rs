//! Frames for page tables: one prefaulted region, and a stack of its free frames for each thread.
//!
//! A frame's physical address is its address in this program, so every contender's way from one to the other is the
//! identity. The region begins at [`START`], low enough for tables with 32-bit entries. Frames are handed out last in,
//! first out, and are not zeroed: warm, as a kernel's are.
//!
//! Here: who has which frame. Not here: what is written into frames (each contender), how ours see them
//! ([`crate::ours::memory`]).
//!
//! # Invariants
//! 1. After [`reset`] the calling thread has every frame; [`share`] parts what it has, so that no frame is in two stacks.
//! 2. One row runs at a time: a reset in one thread makes what others took before it meaningless.

use core::cell::Cell;
use core::sync::atomic::Ordering;
use std::sync::OnceLock;

use crate::host::Region;

/// Frames of 4 KiB in the arena: 160 MiB, enough for 64 GiB of 4 KiB leaves.
pub const FRAMES: usize = 40_960;

/// Bytes of all frames.
pub const BYTES: usize = FRAMES << 12;

/// Where the region begins: half a gigabyte up, where neither a program nor valgrind puts anything of its own.
pub const START: usize = 0x2000_0000;

static REGION: OnceLock<Region> = OnceLock::new();

/// A thread's free frames.
struct Stack {
    base: Cell<u64>,
    /// log2 of a frame's bytes.
    shift: Cell<u32>,
    len: Cell<usize>,
    free: [Cell<u32>; FRAMES],
}

thread_local! {
    static STACK: Stack = const {
        Stack { base: Cell::new(0), shift: Cell::new(12), len: Cell::new(0), free: [const { Cell::new(0) }; FRAMES] }
    };
}

/// The memory behind the frames, every frame touched once.
///
/// It asks the host for large pages, since the host's page size matters in rows that miss caches, unless the
/// environment says `KERNMEM_BENCH_4K`.
///
/// # Panics
/// The host has no 160 MiB of addresses there.
pub(crate) fn region() -> &'static Region {
    REGION.get_or_init(|| {
        let large = std::env::var_os("KERNMEM_BENCH_4K").is_none();
        let region = Region::at(START, BYTES, large).expect("memory for the arena");
        for frame in 0..FRAMES as u64 {
            let first = region.wide(frame << 12, 1).expect("a frame of the arena");
            // Relaxed: no other thread has seen the region.
            first[0].store(0, Ordering::Relaxed);
        }
        region
    })
}

/// Puts every frame back and makes frames of `1 << shift` bytes; the first is handed out first.
pub(crate) fn reset(shift: u32) {
    let base = region().base().addr().get() as u64;
    let frames = (FRAMES << 12) >> shift;
    STACK.with(|stack| stack.set(base, shift, (0..frames as u32).rev()));
}

/// Takes one frame, which is not zeroed; its address is physical and virtual.
#[inline]
#[must_use]
pub fn take() -> Option<u64> {
    STACK.with(|stack| {
        let len = stack.len.get().checked_sub(1)?;
        let frame = stack.free.get(len)?.get();
        stack.len.set(len);
        Some(stack.base.get() + (u64::from(frame) << stack.shift.get()))
    })
}

/// Takes a frame back.
///
/// # Safety
/// The calling thread took it, and nobody reaches it any more: others trust that it is theirs.
///
/// # Panics
/// More frames come back than there are.
#[allow(unsafe_code)]
#[inline]
pub unsafe fn give_back(pa: u64) {
    STACK.with(|stack| {
        let len = stack.len.get();
        stack.free[len].set(((pa - stack.base.get()) >> stack.shift.get()) as u32);
        stack.len.set(len + 1);
    });
}

/// Takes many frames back, in this order.
///
/// # Panics
/// More frames come back than there are.
pub(crate) fn give_back_all(pas: impl ExactSizeIterator<Item = u64>) {
    STACK.with(|stack| {
        let (len, base, shift) = (stack.len.get(), stack.base.get(), stack.shift.get());
        stack.len.set(len + pas.len());
        for (place, pa) in stack.free[len..][..pas.len()].iter().zip(pas) {
            place.set(((pa - base) >> shift) as u32);
        }
    });
}

/// Frames that the calling thread has not got.
#[must_use]
pub(crate) fn in_use() -> usize {
    STACK.with(|stack| ((FRAMES << 12) >> stack.shift.get()) - stack.len.get())
}

/// Writes to every line of the `count` frames that the calling thread takes next: they are warm then.
///
/// # Panics
/// It has fewer.
pub(crate) fn warm(count: usize) {
    STACK.with(|stack| {
        let next = &stack.free[stack.len.get() - count..stack.len.get()];
        for frame in next {
            let words = region().wide(u64::from(frame.get()) << stack.shift.get(), 1 << (stack.shift.get() - 3));
            for word in words.expect("a frame of the arena").iter().step_by(8) {
                // Relaxed: the frame is this thread's alone.
                word.store(0, Ordering::Relaxed);
            }
        }
    });
}

/// Frames for another thread.
#[derive(Debug)]
pub(crate) struct Share {
    base: u64,
    shift: u32,
    frames: Vec<u32>,
}

/// Parts what the calling thread has into `parts` equal shares; it keeps none of them.
#[must_use]
pub(crate) fn share(parts: usize) -> Vec<Share> {
    STACK.with(|stack| {
        let each = stack.len.get() / parts;
        let all: Vec<u32> = stack.free[..each * parts].iter().map(Cell::get).collect();
        stack.len.set(0);
        let of = |frames: &[u32]| Share { base: stack.base.get(), shift: stack.shift.get(), frames: frames.to_vec() };
        all.chunks_exact(each.max(1)).map(of).collect()
    })
}

impl Share {
    /// Makes the share the calling thread's stack.
    pub(crate) fn enter(self) {
        STACK.with(|stack| stack.set(self.base, self.shift, self.frames.into_iter()));
    }
}

impl Stack {
    fn set(&self, base: u64, shift: u32, frames: impl Iterator<Item = u32>) {
        self.base.set(base);
        self.shift.set(shift);
        self.len.set(0);
        for (place, frame) in self.free.iter().zip(frames) {
            place.set(frame);
            self.len.set(self.len.get() + 1);
        }
    }
}

#[cfg(test)]
#[allow(unsafe_code)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_last_in_first_out() {
        reset(12);
        let (a, b) = (take().unwrap(), take().unwrap());
        assert_eq!((b - a, in_use()), (4096, 2));
        // SAFETY:
        // 1. It was just taken, and nothing was made of it.
        unsafe { give_back(a) };
        assert_eq!((take(), in_use()), (Some(a), 2));
    }

    #[test]
    fn frames_of_64k_lie_64k_apart_and_end() {
        reset(16);
        let all: Vec<u64> = core::iter::from_fn(take).collect();
        assert_eq!((all.len(), all[1] - all[0], all[0] % (64 << 10)), (FRAMES / 16, 64 << 10, 0));
    }

    #[test]
    fn shares_have_every_frame_once() {
        reset(12);
        let first = take().unwrap();
        let mut seen = vec![first];
        for share in share(3) {
            share.enter();
            seen.extend(core::iter::from_fn(take));
        }
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 1 + (FRAMES - 1) / 3 * 3);
    }
}
