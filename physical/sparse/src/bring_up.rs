//! Bring-up: each group of present sections gets usage maps and page descriptors.
//!
//! The caller allocates the descriptors (from a buffer, page by page, with their page tables) and says where each
//! section's are; the words are written here.
//!
//! Source: Linux 5.10–7.2 mm/sparse.c `sparse_init_nid`, `sparse_init_one_section`, `subsection_map_init`.

use core::fmt;

use kernmem_base::{Pfn, VirtAddr};

use crate::sections::Group;
use crate::store::{Store, StoreFull};
use crate::word::{MapMisaligned, PRESENT};
use crate::{SectionNr, Sections};

/// What became of a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BroughtUp {
    /// Sections that have descriptors now.
    pub sections: u64,
    /// Bytes of usage maps that Linux allocates for the group, in one piece.
    pub usage_bytes: u64,
    /// The section for which there were no descriptors: it and the group's later ones are absent now.
    pub lost_from: Option<SectionNr>,
}

/// Why a group could not be brought up; its sections are absent now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BringUpError {
    /// No memory for usage maps.
    Usage(StoreFull),
    /// The caller's descriptors lie at an impossible address.
    Map(MapMisaligned),
}

impl fmt::Display for BringUpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(_) => f.write_str("usage maps of a group of sections"),
            Self::Map(_) => f.write_str("page descriptors of a section"),
        }
    }
}

impl core::error::Error for BringUpError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Usage(full) => Some(full),
            Self::Map(misaligned) => Some(misaligned),
        }
    }
}

impl<S: Store> Sections<S> {
    /// Gives each section of `group` a usage map and the descriptors that `map` has for it.
    ///
    /// `map` is asked in the order of sections and answers with the address of the first descriptor, or `None` if
    /// there is no memory: the rest of the group is lost then, as in Linux.
    ///
    /// # Errors
    /// [`BringUpError`]; the sections that have no descriptors by then are absent.
    pub fn bring_up(
        &mut self,
        group: Group,
        mut map: impl FnMut(SectionNr) -> Option<VirtAddr>,
    ) -> Result<BroughtUp, BringUpError> {
        let words = self.geometry.usage_words();
        let mut usage = match self.store.take_usage(group.map_count, words) {
            Ok(usage) => usage.of_boot(),
            Err(full) => {
                self.lose(group.first, group.end);
                return Err(BringUpError::Usage(full));
            }
        };
        let mut done =
            BroughtUp { sections: 0, usage_bytes: self.geometry.usage_bytes() * group.map_count, lost_from: None };
        let flags = self.geometry.word_format().early();
        let mut from = group.first;
        while let Some(nr) = self.next_early(from, group.end) {
            let Some(at) = map(nr) else {
                self.lose(nr, group.end);
                done.lost_from = Some(nr);
                break;
            };
            if let Err(misaligned) = self.write_map(nr, at, flags) {
                self.lose(nr, group.end);
                return Err(BringUpError::Map(misaligned));
            }
            if let Some(section) = self.section_mut(nr) {
                section.usage = usage;
            }
            usage = usage.further(words);
            done.sections += 1;
            from = SectionNr(nr.0 + 1);
        }
        Ok(done)
    }

    /// Stores where the descriptors of `nr` are; keeps the low bits of its word and adds `flags`.
    pub(crate) fn write_map(&mut self, nr: SectionNr, map: VirtAddr, flags: u64) -> Result<(), MapMisaligned> {
        let geometry = self.geometry;
        let first = geometry.first_pfn(nr);
        if let Some(section) = self.section_mut(nr) {
            let format = geometry.word_format();
            let word = format.mapped_word(section.word, map, first, geometry.page_bytes(), flags | PRESENT)?;
            section.word = word & geometry.address_mask();
        }
        Ok(())
    }

    /// The first section at or after `from` and below `end` that is present and has no map yet.
    fn next_early(&self, mut from: SectionNr, end: SectionNr) -> Option<SectionNr> {
        loop {
            let nr = self.next_present(from).filter(|&nr| nr < end)?;
            if self.early_nid(nr).is_some() {
                return Some(nr);
            }
            from = SectionNr(nr.0 + 1);
        }
    }

    fn lose(&mut self, from: SectionNr, end: SectionNr) {
        while let Some(nr) = self.next_early(from, end) {
            if let Some(section) = self.section_mut(nr) {
                section.word = 0;
            }
            self.note_absent();
        }
    }

    /// Marks the subsections that memory `[start, end)` touches as in use, rounding outward: boot does it for each
    /// range while it tells of early memory nodes. Does nothing in a model without subsections.
    pub fn note_early_range(&mut self, start: Pfn, end: Pfn) {
        if self.geometry.subsection_words() == 0 || end <= start {
            return;
        }
        let (first, last) = (self.geometry.section_of(start), self.geometry.section_of(Pfn(end.0 - 1)));
        let mut next = self.next_present(first);
        while let Some(nr) = next.filter(|&nr| nr <= last) {
            let from = start.max(self.geometry.first_pfn(nr));
            let past = end.min(self.geometry.first_pfn(SectionNr(nr.0 + 1)));
            let mask = self.subsection_mask(from, Pfn(past.0 - 1));
            if let Some(bits) = self.subsection_bits_mut(nr) {
                mask.set(bits);
            }
            next = self.next_present(SectionNr(nr.0 + 1));
        }
    }
}
