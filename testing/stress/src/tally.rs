//! What was done, by sort and outcome.

use core::fmt;
use std::collections::BTreeMap;

use crate::op::Sort;

/// How an operation ended; none of these is a fault.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Outcome {
    /// It did what was asked.
    Done,
    /// Part of it.
    Partly,
    /// There was nothing to do it with.
    Nothing,
    /// No memory.
    NoMemory,
    /// Something was in the way.
    Busy,
    /// It was wrong, and was refused.
    Refused,
}

impl Outcome {
    const ALL: [Self; 6] = [Self::Done, Self::Partly, Self::Nothing, Self::NoMemory, Self::Busy, Self::Refused];

    const fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Partly => "partly",
            Self::Nothing => "nothing",
            Self::NoMemory => "no memory",
            Self::Busy => "busy",
            Self::Refused => "refused",
        }
    }
}

/// Operations by sort and outcome.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    counts: BTreeMap<(Sort, Outcome), u64>,
    /// Pauses in which everything was accounted for.
    pub pauses: u64,
    /// Frames that were taken.
    pub frames: u64,
}

impl Tally {
    pub(crate) fn count(&mut self, sort: Sort, outcome: Outcome) {
        *self.counts.entry((sort, outcome)).or_default() += 1;
    }

    /// Adds another tally to this one.
    pub fn add(&mut self, other: &Self) {
        for (&key, count) in &other.counts {
            *self.counts.entry(key).or_default() += count;
        }
        self.pauses += other.pauses;
        self.frames += other.frames;
    }

    /// How often a sort ended so.
    #[must_use]
    pub fn of(&self, sort: Sort, outcome: Outcome) -> u64 {
        self.counts.get(&(sort, outcome)).copied().unwrap_or(0)
    }

    /// All operations.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.counts.values().sum()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:18}", "operation")?;
        Outcome::ALL.iter().try_for_each(|outcome| write!(f, " {:>12}", outcome.name()))?;
        for sort in Sort::ALL {
            write!(f, "\n{:18}", sort.name())?;
            Outcome::ALL.iter().try_for_each(|&outcome| write!(f, " {:>12}", self.of(sort, outcome)))?;
        }
        write!(f, "\n{} operations, {} frames taken, {} pauses", self.operations(), self.frames, self.pauses)
    }
}
