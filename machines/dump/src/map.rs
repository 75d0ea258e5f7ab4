//! Which physical addresses a dump holds, and why the others are missing.
//!
//! # Invariants
//! 1. Extents are sorted, not empty, and do not overlap.
//! 2. Where segments overlap, one that has the data wins over one that only names the memory; among equals the
//!    earlier in the file (they describe the same memory: a kernel's image lies in RAM that is described again).

use std::collections::BTreeMap;

use kernmem_base::{BusError, BusFault, PhysAddr, PhysRange};

use crate::header::Segment;

/// Where the memory of an extent is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// In the file, from this byte.
    File(u64),
    /// Named by the file, but not in it.
    Missing(BusFault),
}

/// A run of physical addresses of one kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extent {
    /// The addresses.
    pub range: PhysRange,
    /// Where the memory is.
    pub place: Place,
}

/// What a dump knows about each physical address.
#[derive(Clone, Debug, Default)]
pub struct Map {
    extents: Vec<Extent>,
}

impl Map {
    /// The map of `segments` in a file of `file_bytes`; `cut` is the fault of data that should follow the file's end.
    pub(crate) fn new(segments: &[Segment], file_bytes: u64, cut: BusFault) -> Self {
        let mut gaps = Builder::default();
        let memory = || segments.iter().filter(|segment| segment.has_memory());
        let in_file = |segment: &Segment| segment.file_bytes.min(file_bytes.saturating_sub(segment.offset));
        for segment in memory() {
            gaps.add(segment.pa, in_file(segment), Place::File(segment.offset));
        }
        for segment in memory() {
            let there = in_file(segment);
            gaps.add(segment.pa + there, segment.file_bytes - there, Place::Missing(cut));
        }
        for segment in memory() {
            let left_out = segment.memory_bytes.saturating_sub(segment.file_bytes);
            gaps.add(segment.pa + segment.file_bytes, left_out, Place::Missing(BusFault::Excluded));
        }
        Self { extents: gaps.finish() }
    }

    /// All extents, lowest first.
    #[must_use]
    pub fn extents(&self) -> &[Extent] {
        &self.extents
    }

    /// The extent that holds `pa`.
    #[must_use]
    pub fn at(&self, pa: PhysAddr) -> Option<&Extent> {
        let above = self.extents.partition_point(|extent| extent.range.start <= pa);
        self.extents.get(above.checked_sub(1)?).filter(|extent| extent.range.contains(pa))
    }

    /// The byte of the file where the memory at `pa` begins, and how many bytes go on from there.
    ///
    /// # Errors
    /// [`BusError`] says why the memory is missing.
    pub fn locate(&self, pa: PhysAddr) -> Result<(u64, u64), BusError> {
        let extent = self.at(pa).ok_or(BusError { pa, fault: BusFault::Hole })?;
        match extent.place {
            Place::File(offset) => {
                let within = pa - extent.range.start;
                Ok((offset + within, extent.range.size() - within))
            }
            Place::Missing(fault) => Err(BusError { pa, fault }),
        }
    }
}

/// Extents in the making: what is added later fills only the gaps.
#[derive(Default)]
struct Builder {
    by_start: BTreeMap<u64, (u64, Place)>,
}

impl Builder {
    fn add(&mut self, start: u64, bytes: u64, place: Place) {
        let end = start.saturating_add(bytes);
        let before = self.by_start.range(..=start).next_back().map_or(0, |(_, &(end, _))| end);
        let mut from = start.max(before);
        let mut gaps = Vec::new();
        if from < end {
            for (&next, &(next_end, _)) in self.by_start.range(from..end) {
                gaps.push((from, next));
                from = next_end;
            }
            gaps.push((from, end));
        }
        for (from, to) in gaps.into_iter().filter(|(from, to)| from < to) {
            let place = match place {
                Place::File(offset) => Place::File(offset + (from - start)),
                Place::Missing(fault) => Place::Missing(fault),
            };
            self.by_start.insert(from, (to, place));
        }
    }

    fn finish(self) -> Vec<Extent> {
        let extent = |(start, (end, place))| Extent { range: PhysRange::new(PhysAddr(start), PhysAddr(end)), place };
        self.by_start.into_iter().map(extent).collect()
    }
}
