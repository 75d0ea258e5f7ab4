//! Lists of slabs, threaded through their records.
//!
//! # Invariants
//! 1. A slab is on at most one list; `len` is the number of slabs on it.

use kernmem_base::Pfn;

use crate::SlabError;
use crate::record::{self, Record, SlabPages};

/// A doubly linked list of slabs by first frame.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SlabList {
    first: Option<Pfn>,
    last: Option<Pfn>,
    len: u64,
}

/// The record of a frame that must have one.
pub(crate) fn record_of<R: SlabPages + ?Sized>(pages: &R, pfn: Pfn) -> Result<&Record, SlabError> {
    pages.record(pfn).ok_or(SlabError::NoRecord { pfn })
}

impl SlabList {
    pub(crate) const EMPTY: Self = Self { first: None, last: None, len: 0 };

    pub(crate) const fn len(&self) -> u64 {
        self.len
    }

    pub(crate) const fn first(&self) -> Option<Pfn> {
        self.first
    }

    /// Appends a slab.
    pub(crate) fn push<R: SlabPages + ?Sized>(&mut self, pages: &R, pfn: Pfn) -> Result<(), SlabError> {
        let record = record_of(pages, pfn)?;
        if let Some(last) = self.last {
            record::set_next(record_of(pages, last)?, Some(pfn));
        }
        record::set_prev(record, self.last);
        record::set_next(record, None);
        self.first = self.first.or(Some(pfn));
        self.last = Some(pfn);
        self.len += 1;
        Ok(())
    }

    /// Takes a slab off the list that it is on.
    pub(crate) fn remove<R: SlabPages + ?Sized>(&mut self, pages: &R, pfn: Pfn) -> Result<(), SlabError> {
        let record = record_of(pages, pfn)?;
        let (before, behind) = (record::prev(record), record::next(record));
        match before {
            Some(before) => record::set_next(record_of(pages, before)?, behind),
            None => self.first = behind,
        }
        match behind {
            Some(behind) => record::set_prev(record_of(pages, behind)?, before),
            None => self.last = before,
        }
        record::set_next(record, None);
        record::set_prev(record, None);
        self.len -= 1;
        Ok(())
    }
}
