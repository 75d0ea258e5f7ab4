//! How often each frame of user memory is mapped: four bytes a frame, lent.
//!
//! ```text
//! bit 31      exclusive: one space alone may write it without asking
//! bits 30:0   entries that map the frame
//! ```
//!
//! Source: Linux 6.1 include/linux/page-flags.h `PG_anon_exclusive`; mm/rmap.c.

use core::fmt;

use kernmem_base::Pfn;

const EXCLUSIVE: u32 = 1 << 31;

/// The counts of frames.
pub trait PageCounts {
    /// The word of `pfn`.
    ///
    /// # Errors
    /// The frame has none.
    fn word(&mut self, pfn: Pfn) -> Result<&mut u32, CountError>;

    /// Entries that map the frame.
    ///
    /// # Errors
    /// The frame has no count.
    fn count(&mut self, pfn: Pfn) -> Result<u32, CountError> {
        Ok(*self.word(pfn)? & !EXCLUSIVE)
    }

    /// Whether one space alone may write the frame without asking.
    ///
    /// # Errors
    /// The frame has no count.
    fn is_exclusive(&mut self, pfn: Pfn) -> Result<bool, CountError> {
        Ok(*self.word(pfn)? & EXCLUSIVE != 0)
    }

    /// Starts a frame that was just taken: one entry, exclusive.
    ///
    /// # Errors
    /// The frame has no count.
    fn start(&mut self, pfn: Pfn) -> Result<(), CountError> {
        *self.word(pfn)? = EXCLUSIVE | 1;
        Ok(())
    }

    /// Makes the frame exclusive again.
    ///
    /// # Errors
    /// The frame has no count.
    fn make_exclusive(&mut self, pfn: Pfn) -> Result<(), CountError> {
        *self.word(pfn)? |= EXCLUSIVE;
        Ok(())
    }

    /// Counts one entry more; the frame is shared then.
    ///
    /// # Errors
    /// The frame has no count, or the count is at its end; nothing has changed.
    fn share(&mut self, pfn: Pfn) -> Result<(), CountError> {
        let word = self.word(pfn)?;
        let count = *word & !EXCLUSIVE;
        if count == !EXCLUSIVE {
            return Err(CountError::TooMany { pfn });
        }
        *word = count + 1;
        Ok(())
    }

    /// Counts one entry less and returns what is left.
    ///
    /// # Errors
    /// The frame has no count, or nothing maps it; nothing has changed.
    fn put(&mut self, pfn: Pfn) -> Result<u32, CountError> {
        let word = self.word(pfn)?;
        let left = (*word & !EXCLUSIVE).checked_sub(1).ok_or(CountError::Unmapped { pfn })?;
        *word = if left == 0 { 0 } else { *word & EXCLUSIVE | left };
        Ok(left)
    }
}

/// Counts of the frames from `first` on, in words that the caller lends.
#[derive(Debug)]
pub struct LentCounts<'a> {
    first: Pfn,
    words: &'a mut [u32],
}

impl<'a> LentCounts<'a> {
    /// One word a frame, all 0 at the beginning.
    #[must_use]
    pub const fn new(first: Pfn, words: &'a mut [u32]) -> Self {
        Self { first, words }
    }
}

impl PageCounts for LentCounts<'_> {
    fn word(&mut self, pfn: Pfn) -> Result<&mut u32, CountError> {
        let index = pfn.0.checked_sub(self.first.0).ok_or(CountError::NoCount { pfn })?;
        self.words.get_mut(index as usize).ok_or(CountError::NoCount { pfn })
    }
}

/// A count that cannot be right.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum CountError {
    /// The frame is not among those that are counted.
    NoCount {
        /// The frame.
        pfn: Pfn,
    },
    /// Nothing maps the frame.
    Unmapped {
        /// The frame.
        pfn: Pfn,
    },
    /// No more entries can be counted.
    TooMany {
        /// The frame.
        pfn: Pfn,
    },
}

impl fmt::Display for CountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCount { pfn } => write!(f, "frame {:#x} has no count", pfn.0),
            Self::Unmapped { pfn } => write!(f, "frame {:#x} is not mapped", pfn.0),
            Self::TooMany { pfn } => write!(f, "frame {:#x} is mapped too often", pfn.0),
        }
    }
}

impl core::error::Error for CountError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_goes_up_and_down_and_not_past_its_ends() {
        let mut words = [0; 2];
        let mut counts = LentCounts::new(Pfn(8), &mut words);
        let pfn = Pfn(9);
        assert_eq!(counts.put(pfn), Err(CountError::Unmapped { pfn }));
        assert_eq!((counts.start(pfn), counts.is_exclusive(pfn)), (Ok(()), Ok(true)));
        assert_eq!((counts.share(pfn), counts.is_exclusive(pfn), counts.count(pfn)), (Ok(()), Ok(false), Ok(2)));
        assert_eq!((counts.put(pfn), counts.put(pfn)), (Ok(1), Ok(0)));
        assert_eq!(counts.count(Pfn(10)), Err(CountError::NoCount { pfn: Pfn(10) }));
        *counts.word(pfn).unwrap_or(&mut 0) = !EXCLUSIVE;
        assert_eq!(counts.share(pfn), Err(CountError::TooMany { pfn }));
    }
}
