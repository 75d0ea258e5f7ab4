//! Runs of entries: by vectors as far as whole strides go, the rest word by word.

use core::sync::atomic::{AtomicU32, AtomicU64};

use kernmem_base::{BusError, PhysAddr, Slot, Words, bulk};

// What watches each access of a program sees none of assembly's.
#[cfg(not(all(target_arch = "x86_64", not(miri), not(tsan))))]
#[path = "words.rs"]
mod width;
#[cfg(all(target_arch = "x86_64", not(miri), not(tsan)))]
#[path = "x86.rs"]
mod width;

use width::Width;

/// The vectors that the host has for runs of entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Vectors(Width);

/// Below so many entries a call of a loop by vectors costs what it saves.
const SHORT: usize = 32;

impl Vectors {
    /// What every CPU of the host's architecture has: the same on each machine.
    pub const BASELINE: Self = Self(Width::BASELINE);

    /// The widest that this CPU has.
    #[must_use]
    pub fn widest() -> Self {
        Self(Width::widest())
    }

    /// What `PhysMem::fill` asks for: `count` entries from entry `from` of a table in `memory`.
    ///
    /// # Errors
    /// The memory lends no such entries; nothing was written then.
    #[inline]
    pub fn fill<S: Slot>(
        self,
        memory: &impl Words,
        table: PhysAddr,
        (from, count): (usize, usize),
        (first, step): (u64, u64),
    ) -> Result<(), BusError> {
        let start = table + from as u64 * S::BYTES;
        if count < SHORT {
            bulk::fill(S::lend(memory, start, count)?, first, step);
        } else if S::BYTES == 8 {
            self.fill_wide(memory.wide(start, count)?, first, step);
        } else {
            self.fill_narrow(memory.narrow(start, count)?, first, step);
        }
        Ok(())
    }

    /// What `PhysMem::any` asks for: the bits that any of `count` entries from entry `from` of a table in `memory` has.
    ///
    /// # Errors
    /// The memory lends no such entries.
    #[inline]
    pub fn any<S: Slot>(
        self,
        memory: &impl Words,
        table: PhysAddr,
        (from, count): (usize, usize),
    ) -> Result<u64, BusError> {
        let start = table + from as u64 * S::BYTES;
        let empty = if count < SHORT {
            0
        } else if S::BYTES == 8 {
            self.0.empty_wide(memory.wide(start, count)?, ())
        } else {
            self.0.empty_narrow(memory.narrow(start, count)?, ())
        };
        Ok(bulk::any(&S::lend(memory, start, count)?[empty..]))
    }

    /// What `PhysMem::rewrite` asks for: `count` entries at most from entry `from` of a table in `memory`.
    ///
    /// Nothing tears an entry on the CPUs that are known; on paper x86 promises it for 16 aligned bytes at most. Where
    /// somebody walks the table meanwhile, that may not be enough.
    ///
    /// # Errors
    /// The memory lends no such entries; nothing was written then.
    #[inline]
    pub fn rewrite<S: Slot>(
        self,
        memory: &impl Words,
        table: PhysAddr,
        (from, count): (usize, usize),
        ignored: u64,
        change: (u64, u64),
    ) -> Result<usize, BusError> {
        let start = table + from as u64 * S::BYTES;
        Ok(if count < SHORT {
            bulk::rewrite(S::lend(memory, start, count)?, ignored, change.0, change.1)
        } else if S::BYTES == 8 {
            self.rewrite_wide(memory.wide(start, count)?, ignored, change)
        } else {
            self.rewrite_narrow(memory.narrow(start, count)?, ignored, change)
        })
    }

    #[inline]
    fn fill_wide(self, slots: &[AtomicU64], first: u64, step: u64) {
        let done = self.0.fill_wide(slots, (first, step));
        bulk::fill(&slots[done..], first.wrapping_add(step.wrapping_mul(done as u64)), step);
    }

    #[inline]
    fn fill_narrow(self, slots: &[AtomicU32], first: u64, step: u64) {
        let done = self.0.fill_narrow(slots, (first as u32, step as u32));
        bulk::fill(&slots[done..], first.wrapping_add(step.wrapping_mul(done as u64)), step);
    }

    #[inline]
    fn rewrite_wide(self, slots: &[AtomicU64], ignored: u64, change: (u64, u64)) -> usize {
        let first = slots.first().map_or(0, Slot::peek);
        let done = match change {
            (0, new) => self.0.replace_wide(slots, (ignored, new)),
            (keep, set) => self.0.rewrite_wide(slots, (ignored, keep, set)),
        };
        done + rest(&slots[done..], first, ignored, change)
    }

    #[inline]
    fn rewrite_narrow(self, slots: &[AtomicU32], ignored: u64, change: (u64, u64)) -> usize {
        let first = slots.first().map_or(0, Slot::peek);
        let ignored_here = ignored as u32;
        let done = match (change.0 as u32, change.1 as u32) {
            (0, new) => self.0.replace_narrow(slots, (ignored_here, new)),
            (keep, set) => self.0.rewrite_narrow(slots, (ignored_here, keep, set)),
        };
        done + rest(&slots[done..], first, ignored, change)
    }
}

/// Goes on behind whole strides whose entries were like `first`: who is like one of them is like all.
#[inline]
fn rest<S: Slot>(slots: &[S], first: u64, ignored: u64, (keep, set): (u64, u64)) -> usize {
    match slots.first() {
        Some(next) if (next.peek() ^ first) & !ignored == 0 => bulk::rewrite(slots, ignored, keep, set),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Long enough for some strides of either width, and a rest.
    const COUNT: usize = 150;

    const RUNS: [(usize, usize); 9] =
        [(0, COUNT), (1, 31), (1, 32), (3, 33), (2, 64), (5, 80), (7, 127), (9, 141), (149, 1)];

    /// Memory of either width.
    struct Both {
        wide: [AtomicU64; COUNT],
        narrow: [AtomicU32; COUNT],
    }

    impl Words for Both {
        fn wide(&self, pa: PhysAddr, count: usize) -> Result<&[AtomicU64], BusError> {
            Ok(&self.wide[pa.0 as usize / 8..][..count])
        }

        fn narrow(&self, pa: PhysAddr, count: usize) -> Result<&[AtomicU32], BusError> {
            Ok(&self.narrow[pa.0 as usize / 4..][..count])
        }
    }

    fn of(raw: impl Fn(usize) -> u64) -> Both {
        Both {
            wide: core::array::from_fn(|at| AtomicU64::new(raw(at))),
            narrow: core::array::from_fn(|at| AtomicU32::new(raw(at) as u32)),
        }
    }

    /// Both widths of slots, by each width of vectors and by the loops of base.
    fn check(raw: impl Fn(usize) -> u64, by: impl Fn(&Both, Vectors, bool), by_words: impl Fn(&Both)) {
        let expected = of(&raw);
        by_words(&expected);
        for vectors in [Vectors::BASELINE, Vectors::widest()] {
            let found = of(&raw);
            by(&found, vectors, true);
            by(&found, vectors, false);
            let told = |both: &Both| (both.wide.each_ref().map(Slot::load), both.narrow.each_ref().map(Slot::load));
            assert_eq!(told(&found), told(&expected), "{vectors:?}");
        }
    }

    #[test]
    fn runs_are_filled_as_word_by_word_and_nothing_beside_them() {
        let step = 0x1_0000_2000;
        for (from, count) in RUNS {
            check(
                |at| at as u64 * 7,
                |found, vectors, wide| {
                    let done = if wide {
                        vectors.fill::<AtomicU64>(found, PhysAddr(0), (from, count), (0x7003, step))
                    } else {
                        vectors.fill::<AtomicU32>(found, PhysAddr(0), (from, count), (0x7003, step))
                    };
                    assert_eq!(done, Ok(()));
                },
                |expected| {
                    bulk::fill(&expected.wide[from..][..count], 0x7003, step);
                    bulk::fill(&expected.narrow[from..][..count], 0x7003, step);
                },
            );
        }
    }

    #[test]
    fn bits_of_any_entry_are_found_wherever_it_stands() {
        for (from, count) in RUNS {
            let told = |both: &Both, vectors: Vectors| {
                let run = (from, count);
                let wide = vectors.any::<AtomicU64>(both, PhysAddr(0), run).unwrap();
                (wide, vectors.any::<AtomicU32>(both, PhysAddr(0), run).unwrap())
            };
            for vectors in [Vectors::BASELINE, Vectors::widest()] {
                for odd in from..from + count {
                    let both = of(|at| if at == odd { 0x8000_0011 } else { 0 });
                    assert_eq!(told(&both, vectors), (0x8000_0011, 0x8000_0011), "{odd} in {count} from {from}");
                }
                let beside = of(|at| u64::from(!(from..from + count).contains(&at)));
                assert_eq!(told(&beside, vectors), (0, 0), "{count} from {from}");
            }
        }
    }

    #[test]
    fn runs_are_rewritten_up_to_the_first_that_is_not_alike() {
        let ignored = 0xffff_f000;
        let odds = (0..=COUNT).step_by(3).chain([31, 32, 47, 63]);
        for (odd, change) in odds.flat_map(|odd| [(odd, (!0x0f00, 0x8)), (odd, (0, 0x30))]) {
            for (from, count) in RUNS {
                let raw = |at: usize| ((at as u64) << 12) | if at == odd { 0x701 } else { 0x703 };
                let end = if (from + 1..from + count).contains(&odd) { odd } else { from + count };
                let end = if odd == from { from + 1 } else { end };
                check(
                    raw,
                    |found, vectors, wide| {
                        let done = if wide {
                            vectors.rewrite::<AtomicU64>(found, PhysAddr(0), (from, count), ignored, change)
                        } else {
                            vectors.rewrite::<AtomicU32>(found, PhysAddr(0), (from, count), ignored, change)
                        };
                        assert_eq!(done, Ok(end - from), "{odd} in {count} from {from}");
                    },
                    |expected| {
                        for at in from..end {
                            let new = raw(at) & change.0 | change.1;
                            Slot::store(&expected.wide[at], new);
                            Slot::store(&expected.narrow[at], new);
                        }
                    },
                );
            }
        }
    }
}
