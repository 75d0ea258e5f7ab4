//! Many entries of one table at once: the loops that map, change and remove runs.
//!
//! Each works on slots of a table that the caller holds exclusively: nobody else writes them but an MMU that sets its
//! marks, so there is no exchange. All loads and stores are Relaxed and as wide as an entry: an MMU that walks the table
//! meanwhile sees the old entry or the new one. They go by eights, without a branch for an entry.
//!
//! Not here: what the bits mean, counting in notes, publishing a table.

use crate::Slot;

/// How many entries go through a loop together.
const STRIDE: usize = 8;

/// Writes `first`, `first + step`, … modulo 2^64.
#[inline]
pub fn fill<S: Slot>(slots: &[S], first: u64, step: u64) {
    let (strides, rest) = slots.as_chunks::<STRIDE>();
    let mut raw = first;
    for stride in strides {
        for (slot, number) in stride.iter().zip(0..) {
            slot.store(raw.wrapping_add(step.wrapping_mul(number)));
        }
        raw = raw.wrapping_add(step.wrapping_mul(STRIDE as u64));
    }
    for slot in rest {
        slot.store(raw);
        raw = raw.wrapping_add(step);
    }
}

/// The bits that any entry has: zero if all are empty.
#[inline]
#[must_use]
pub fn any<S: Slot>(slots: &[S]) -> u64 {
    let (strides, rest) = slots.as_chunks::<STRIDE>();
    let (mut even, mut odd) = (0, 0);
    for stride in strides {
        for pair in stride.as_chunks::<2>().0 {
            even |= pair[0].peek();
            odd |= pair[1].peek();
        }
    }
    rest.iter().fold(even | odd, |any, slot| any | slot.peek())
}

/// How many entries from the first on are equal to it, leaving the bits of `ignored` aside.
#[inline]
#[must_use]
pub fn alike<S: Slot>(slots: &[S], ignored: u64) -> usize {
    each_alike(slots, ignored, |_| {})
}

/// Makes the entries that are equal to the first, leaving the bits of `ignored` aside, `entry & keep | set`, from the
/// first on up to one that is not. Returns how many.
#[inline]
pub fn rewrite<S: Slot>(slots: &[S], ignored: u64, keep: u64, set: u64) -> usize {
    if keep == 0 {
        return each_alike(slots, ignored, |slot| slot.store(set));
    }
    each_alike(slots, ignored, |slot| slot.store(slot.peek() & keep | set))
}

/// Calls `each` for the first slots whose entries are equal, leaving the bits of `ignored` aside. Returns how many.
#[inline]
fn each_alike<S: Slot>(slots: &[S], ignored: u64, each: impl Fn(&S)) -> usize {
    let Some(first) = slots.first().map(Slot::peek) else { return 0 };
    let (strides, _) = slots.as_chunks::<STRIDE>();
    let differs = |slot: &S| (slot.peek() ^ first) & !ignored != 0;
    let mut done = 0;
    for stride in strides {
        if stride.iter().fold(0, |bits, slot| bits | (slot.peek() ^ first)) & !ignored != 0 {
            break;
        }
        stride.iter().for_each(&each);
        done += STRIDE;
    }
    let rest = &slots[done..];
    let more = rest.iter().position(differs).unwrap_or(rest.len());
    rest[..more].iter().for_each(each);
    done + more
}

#[cfg(all(test, not(loom)))]
mod tests {
    use core::sync::atomic::{AtomicU32, AtomicU64};

    use super::*;

    /// Every count from none to a few strides, so that each loop and its rest is met.
    fn each_count<S: Slot>(check: impl Fn(&[S; 27], usize)) {
        for count in 0..=27 {
            check(&core::array::from_fn(|number| S::new(number as u64 * 0x1000 + 0xff)), count);
        }
    }

    fn raws<S: Slot>(slots: &[S]) -> [u64; 27] {
        core::array::from_fn(|number| slots[number].load())
    }

    fn filled<S: Slot>() {
        each_count::<S>(|slots, count| {
            fill(&slots[..count], 0x7003, 0x2000);
            let expected = |number: usize| {
                if number < count { 0x7003 + number as u64 * 0x2000 } else { number as u64 * 0x1000 + 0xff }
            };
            assert_eq!(raws(slots), core::array::from_fn(expected));
        });
    }

    fn summed<S: Slot>() {
        each_count::<S>(|slots, count| {
            let all = (0..count as u64).fold(0, |all, number| all | (number * 0x1000 + 0xff));
            assert_eq!(any(&slots[..count]), all);
        });
    }

    fn compared<S: Slot>() {
        each_count::<S>(|slots, count| {
            let same = &slots[..count];
            assert_eq!((alike(same, !0xfff), alike(same, 0)), (count, count.min(1)));
            for (odd, slot) in same.iter().enumerate() {
                let raw = slot.swap(0xfe);
                let expected = if odd == 0 { 1 } else { odd };
                assert_eq!(alike(same, !0xfff), expected.min(count), "{odd} of {count}");
                slot.store(raw);
            }
        });
    }

    fn rewritten<S: Slot>() {
        each_count::<S>(|slots, count| {
            assert_eq!(rewrite(&slots[..count], !0xff, !0x0f, 0x100), count);
            let raw = |number: usize| number as u64 * 0x1000 + 0xff;
            let expected = |number: usize| if number < count { (raw(number) & !0xf) | 0x100 } else { raw(number) };
            assert_eq!(raws(slots), core::array::from_fn(expected));
        });
        each_count::<S>(|slots, odd| {
            if let Some(slot) = slots.get(odd) {
                slot.store(0xfe);
            }
            let like = if odd == 0 { 1 } else { odd };
            assert_eq!(rewrite(slots, !0xfff, 0, 0), like);
            assert_eq!(slots.iter().take_while(|slot| slot.load() == 0).count(), like, "what is not alike stays");
        });
    }

    #[test]
    fn runs_of_every_length_and_width_are_written_and_read_whole() {
        filled::<AtomicU64>();
        filled::<AtomicU32>();
        summed::<AtomicU64>();
        summed::<AtomicU32>();
        rewritten::<AtomicU64>();
        rewritten::<AtomicU32>();
        compared::<AtomicU64>();
        compared::<AtomicU32>();
    }
}
