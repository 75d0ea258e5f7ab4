//! The vectors of x86-64: 16 bytes everywhere, 32 where the CPU has AVX2.
//!
//! Slots are read and written by assembly: to the compiler, Relaxed accesses of each slot. What happens in between is
//! arithmetic of registers.
//!
//! # Invariants
//! 1. [`Width::Bytes32`] exists only where AVX2 was found.
//! 2. A [`Stride`] is 128 bytes of slots, borrowed: whoever moves eight vectors of 16 or four of 32 touches nothing else.
//! 3. A vector moves each aligned word at once. AVX promises it for 16 aligned bytes; no CPU is known that parts a word
//!    inside a cache line.
#![allow(unsafe_code)]

use core::sync::atomic::{AtomicU32, AtomicU64};
use std::arch::is_x86_feature_detected;

/// How wide the vectors are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Width {
    Bytes16,
    Bytes32,
}

/// The slots of two cache lines, of either width.
trait Stride {}

impl Stride for [AtomicU64; 16] {}
impl Stride for [AtomicU32; 32] {}

/// One loop of [`Width`]: it deals with whole strides from the front, and returns how many entries these had.
macro_rules! loops {
    ($($name:ident($slot:ty, $args:ty);)+) => {
        impl Width {
            $(
                #[inline]
                pub(super) fn $name(self, slots: &[$slot], args: $args) -> usize {
                    match self {
                        // SAFETY:
                        // 1. Every CPU of x86-64 has SSE2.
                        Self::Bytes16 => unsafe { by_16::$name(slots, args) },
                        // SAFETY:
                        // 1. The CPU has AVX2 (invariant 1).
                        Self::Bytes32 => unsafe { by_32::$name(slots, args) },
                    }
                }
            )+
        }
    };
}

loops! {
    fill_wide(AtomicU64, (u64, u64));
    fill_narrow(AtomicU32, (u32, u32));
    rewrite_wide(AtomicU64, (u64, u64, u64));
    rewrite_narrow(AtomicU32, (u32, u32, u32));
    replace_wide(AtomicU64, (u64, u64));
    replace_narrow(AtomicU32, (u32, u32));
    empty_wide(AtomicU64, ());
    empty_narrow(AtomicU32, ());
}

impl Width {
    pub(super) const BASELINE: Self = Self::Bytes16;

    pub(super) fn widest() -> Self {
        if is_x86_feature_detected!("avx2") { Self::Bytes32 } else { Self::BASELINE }
    }
}

/// The loops by the vectors of the module around, which has `load`, `store` and what registers do; `$feature` is
/// what a CPU must have for it.
macro_rules! kernels {
    ($feature:literal) => {
        kernels!(@fill fill_wide, AtomicU64, u64, 16, from_u64, all_u64, add_u64, $feature);
        kernels!(@fill fill_narrow, AtomicU32, u32, 32, from_u32, all_u32, add_u32, $feature);
        kernels!(@rewrite rewrite_wide, AtomicU64, u64, 16, all_u64, $feature);
        kernels!(@rewrite rewrite_narrow, AtomicU32, u32, 32, all_u32, $feature);
        kernels!(@replace replace_wide, AtomicU64, u64, 16, all_u64, $feature);
        kernels!(@replace replace_narrow, AtomicU32, u32, 32, all_u32, $feature);
        kernels!(@empty empty_wide, AtomicU64, 16, $feature);
        kernels!(@empty empty_narrow, AtomicU32, 32, $feature);

        /// Whether all of `entries` are equal to `first`, leaving aside what is not in `looked_at`.
        #[inline]
        #[target_feature(enable = $feature)]
        fn are_like(entries: Entries, first: Vector, looked_at: Vector) -> bool {
            let mut apart = xor(entries[0], first);
            for some in &entries[1..] {
                apart = or(apart, xor(*some, first));
            }
            has_none(apart, looked_at)
        }
    };
    (@fill $name:ident, $slot:ty, $word:ty, $stride:literal, $from:ident, $all:ident, $add:ident, $feature:literal) => {
        /// Writes `first`, `first + step`, …
        #[target_feature(enable = $feature)]
        pub(super) fn $name(slots: &[$slot], (first, step): ($word, $word)) -> usize {
            let (strides, rest) = slots.as_chunks::<$stride>();
            let mut entries = [$from(first, step); _];
            let by = $all(step.wrapping_mul($stride / entries.len() as $word));
            for at in 1..entries.len() {
                entries[at] = $add(entries[at - 1], by);
            }
            let by = $all(step.wrapping_mul($stride));
            for stride in strides {
                store(stride, entries);
                for some in &mut entries {
                    *some = $add(*some, by);
                }
            }
            slots.len() - rest.len()
        }
    };
    (@rewrite $name:ident, $slot:ty, $word:ty, $stride:literal, $all:ident, $feature:literal) => {
        /// Makes entries `entry & keep | set` as long as all of a stride are equal to the first entry of all, leaving
        /// the bits of `ignored` aside.
        #[target_feature(enable = $feature)]
        pub(super) fn $name(slots: &[$slot], (ignored, keep, set): ($word, $word, $word)) -> usize {
            let (strides, rest) = slots.as_chunks::<$stride>();
            let Some([first, ..]) = strides.first() else { return 0 };
            // Relaxed: the caller holds the table.
            let first = $all(first.load(Ordering::Relaxed));
            let (looked_at, keep, set) = ($all(!ignored), $all(keep), $all(set));
            for (done, stride) in strides.iter().enumerate() {
                let mut entries = load(stride);
                if !are_like(entries, first, looked_at) {
                    return done * $stride;
                }
                for some in &mut entries {
                    *some = or(and(*some, keep), set);
                }
                store(stride, entries);
            }
            slots.len() - rest.len()
        }
    };
    (@empty $name:ident, $slot:ty, $stride:literal, $feature:literal) => {
        /// Goes on as long as all of a stride are empty.
        #[target_feature(enable = $feature)]
        pub(super) fn $name(slots: &[$slot], (): ()) -> usize {
            let (strides, rest) = slots.as_chunks::<$stride>();
            for (done, stride) in strides.iter().enumerate() {
                let entries = load(stride);
                let any = entries[1..].iter().fold(entries[0], |any, some| or(any, *some));
                if !has_none(any, any) {
                    return done * $stride;
                }
            }
            slots.len() - rest.len()
        }
    };
    (@replace $name:ident, $slot:ty, $word:ty, $stride:literal, $all:ident, $feature:literal) => {
        /// Makes entries `new` as long as all of a stride are equal to the first entry of all, leaving the bits of
        /// `ignored` aside.
        #[target_feature(enable = $feature)]
        pub(super) fn $name(slots: &[$slot], (ignored, new): ($word, $word)) -> usize {
            let (strides, rest) = slots.as_chunks::<$stride>();
            let Some([first, ..]) = strides.first() else { return 0 };
            // Relaxed: the caller holds the table.
            let first = $all(first.load(Ordering::Relaxed));
            let (looked_at, new) = ($all(!ignored), [$all(new); _]);
            for (done, stride) in strides.iter().enumerate() {
                if !are_like(load(stride), first, looked_at) {
                    return done * $stride;
                }
                store(stride, new);
            }
            slots.len() - rest.len()
        }
    };
}

/// Vectors of 16 bytes.
mod by_16 {
    use core::arch::asm;
    use core::arch::x86_64::{
        __m128i, _mm_add_epi32 as add_u32, _mm_add_epi64 as add_u64, _mm_and_si128 as and, _mm_cmpeq_epi8,
        _mm_movemask_epi8, _mm_or_si128 as or, _mm_set_epi32, _mm_set_epi64x, _mm_set1_epi32, _mm_set1_epi64x,
        _mm_setzero_si128, _mm_xor_si128 as xor,
    };
    use core::ptr;
    use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

    use super::Stride;

    type Vector = __m128i;

    /// The entries of a stride.
    type Entries = [Vector; 8];

    /// The slots of a stride.
    #[inline]
    #[target_feature(enable = "sse2")]
    fn load(stride: &impl Stride) -> Entries {
        let a: Vector;
        let b: Vector;
        let c: Vector;
        let d: Vector;
        let e: Vector;
        let f: Vector;
        let g: Vector;
        let h: Vector;
        // SAFETY:
        // 1. Reads the stride and nothing else (invariant 2), each slot at once (invariant 3).
        unsafe {
            asm!(
                "movdqu {a}, [{from} + 0]",
                "movdqu {b}, [{from} + 16]",
                "movdqu {c}, [{from} + 32]",
                "movdqu {d}, [{from} + 48]",
                "movdqu {e}, [{from} + 64]",
                "movdqu {f}, [{from} + 80]",
                "movdqu {g}, [{from} + 96]",
                "movdqu {h}, [{from} + 112]",
                from = in(reg) ptr::from_ref(stride),
                a = out(xmm_reg) a,
                b = out(xmm_reg) b,
                c = out(xmm_reg) c,
                d = out(xmm_reg) d,
                e = out(xmm_reg) e,
                f = out(xmm_reg) f,
                g = out(xmm_reg) g,
                h = out(xmm_reg) h,
                options(readonly, nostack, preserves_flags),
            );
        }
        [a, b, c, d, e, f, g, h]
    }

    /// Writes the slots of a stride.
    #[inline]
    #[target_feature(enable = "sse2")]
    fn store(stride: &impl Stride, entries: Entries) {
        let [a, b, c, d, e, f, g, h] = entries;
        // SAFETY:
        // 1. Writes the stride and nothing else (invariant 2), each slot at once (invariant 3); slots are atomics, which a
        //    shared borrow lets anybody write.
        unsafe {
            asm!(
                "movdqu [{to} + 0], {a}",
                "movdqu [{to} + 16], {b}",
                "movdqu [{to} + 32], {c}",
                "movdqu [{to} + 48], {d}",
                "movdqu [{to} + 64], {e}",
                "movdqu [{to} + 80], {f}",
                "movdqu [{to} + 96], {g}",
                "movdqu [{to} + 112], {h}",
                to = in(reg) ptr::from_ref(stride),
                a = in(xmm_reg) a,
                b = in(xmm_reg) b,
                c = in(xmm_reg) c,
                d = in(xmm_reg) d,
                e = in(xmm_reg) e,
                f = in(xmm_reg) f,
                g = in(xmm_reg) g,
                h = in(xmm_reg) h,
                options(nostack, preserves_flags),
            );
        }
    }

    /// `first`, `first + step`, …
    #[inline]
    #[target_feature(enable = "sse2")]
    fn from_u64(first: u64, step: u64) -> Vector {
        let at = |lane: u64| first.wrapping_add(step.wrapping_mul(lane)).cast_signed();
        _mm_set_epi64x(at(1), at(0))
    }

    /// `first`, `first + step`, …
    #[inline]
    #[target_feature(enable = "sse2")]
    fn from_u32(first: u32, step: u32) -> Vector {
        let at = |lane: u32| first.wrapping_add(step.wrapping_mul(lane)).cast_signed();
        _mm_set_epi32(at(3), at(2), at(1), at(0))
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn all_u64(word: u64) -> Vector {
        _mm_set1_epi64x(word.cast_signed())
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn all_u32(word: u32) -> Vector {
        _mm_set1_epi32(word.cast_signed())
    }

    /// Whether `a` has none of the bits of `b`.
    #[inline]
    #[target_feature(enable = "sse2")]
    fn has_none(a: Vector, b: Vector) -> bool {
        _mm_movemask_epi8(_mm_cmpeq_epi8(and(a, b), _mm_setzero_si128())) == 0xffff
    }

    kernels!("sse2");
}

/// Vectors of 32 bytes.
mod by_32 {
    use core::arch::asm;
    use core::arch::x86_64::{
        __m256i, _mm256_add_epi32 as add_u32, _mm256_add_epi64 as add_u64, _mm256_and_si256 as and,
        _mm256_or_si256 as or, _mm256_set_epi32, _mm256_set_epi64x, _mm256_set1_epi32, _mm256_set1_epi64x,
        _mm256_testz_si256, _mm256_xor_si256 as xor,
    };
    use core::ptr;
    use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

    use super::Stride;

    type Vector = __m256i;

    /// The entries of a stride.
    type Entries = [Vector; 4];

    /// The slots of a stride.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn load(stride: &impl Stride) -> Entries {
        let a: Vector;
        let b: Vector;
        let c: Vector;
        let d: Vector;
        // SAFETY:
        // 1. Reads the stride and nothing else (invariant 2), each slot at once (invariant 3).
        unsafe {
            asm!(
                "vmovdqu {a}, [{from} + 0]",
                "vmovdqu {b}, [{from} + 32]",
                "vmovdqu {c}, [{from} + 64]",
                "vmovdqu {d}, [{from} + 96]",
                from = in(reg) ptr::from_ref(stride),
                a = out(ymm_reg) a,
                b = out(ymm_reg) b,
                c = out(ymm_reg) c,
                d = out(ymm_reg) d,
                options(readonly, nostack, preserves_flags),
            );
        }
        [a, b, c, d]
    }

    /// Writes the slots of a stride.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn store(stride: &impl Stride, entries: Entries) {
        let [a, b, c, d] = entries;
        // SAFETY:
        // 1. Writes the stride and nothing else (invariant 2), each slot at once (invariant 3); slots are atomics, which a
        //    shared borrow lets anybody write.
        unsafe {
            asm!(
                "vmovdqu [{to} + 0], {a}",
                "vmovdqu [{to} + 32], {b}",
                "vmovdqu [{to} + 64], {c}",
                "vmovdqu [{to} + 96], {d}",
                to = in(reg) ptr::from_ref(stride),
                a = in(ymm_reg) a,
                b = in(ymm_reg) b,
                c = in(ymm_reg) c,
                d = in(ymm_reg) d,
                options(nostack, preserves_flags),
            );
        }
    }

    /// `first`, `first + step`, …
    #[inline]
    #[target_feature(enable = "avx2")]
    fn from_u64(first: u64, step: u64) -> Vector {
        let at = |lane: u64| first.wrapping_add(step.wrapping_mul(lane)).cast_signed();
        _mm256_set_epi64x(at(3), at(2), at(1), at(0))
    }

    /// `first`, `first + step`, …
    #[inline]
    #[target_feature(enable = "avx2")]
    fn from_u32(first: u32, step: u32) -> Vector {
        let at = |lane: u32| first.wrapping_add(step.wrapping_mul(lane)).cast_signed();
        _mm256_set_epi32(at(7), at(6), at(5), at(4), at(3), at(2), at(1), at(0))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn all_u64(word: u64) -> Vector {
        _mm256_set1_epi64x(word.cast_signed())
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn all_u32(word: u32) -> Vector {
        _mm256_set1_epi32(word.cast_signed())
    }

    /// Whether `a` has none of the bits of `b`.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn has_none(a: Vector, b: Vector) -> bool {
        _mm256_testz_si256(a, b) != 0
    }

    kernels!("avx2");
}
