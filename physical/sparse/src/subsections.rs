//! Subsections: memory that comes and goes in pieces of 2 MiB within a section.
//!
//! # Invariants
//! 1. A section with a map that was not there at boot has at least one subsection in use.
//! 2. A failed activation leaves the section as it was.
//!
//! Source: Linux 5.10–7.2 mm/sparse.c `section_activate`, `section_deactivate`, `fill_subsection_map`,
//! `sparse_add_section`.

use core::fmt;

use kernmem_base::{Pfn, VirtAddr};

use crate::store::{NewRoot, Store, StoreFull, Usage};
use crate::word::{HAS_MAP, MapMisaligned};
use crate::{Model, Nid, SectionNr, Sections};

/// Bits `first..=last` of a section's subsection bitmap.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SubsectionMask {
    first: usize,
    last: usize,
}

impl SubsectionMask {
    /// Each word of the bitmap that the mask touches, with its bits there.
    fn words(self) -> impl Iterator<Item = (usize, u64)> {
        (self.first / 64..=self.last / 64).map(move |word| {
            let from = if word == self.first / 64 { self.first % 64 } else { 0 };
            let to = if word == self.last / 64 { self.last % 64 } else { 63 };
            (word, (!0 << from) & (!0 >> (63 - to)))
        })
    }

    fn all_in(self, bits: &[u64]) -> bool {
        self.words().all(|(word, mask)| bits.get(word).is_some_and(|bits| bits & mask == mask))
    }

    fn none_in(self, bits: &[u64]) -> bool {
        self.words().all(|(word, mask)| bits.get(word).is_some_and(|bits| bits & mask == 0))
    }

    pub(crate) fn set(self, bits: &mut [u64]) {
        for (word, mask) in self.words() {
            if let Some(bits) = bits.get_mut(word) {
                *bits |= mask;
            }
        }
    }

    fn clear(self, bits: &mut [u64]) {
        for (word, mask) in self.words() {
            if let Some(bits) = bits.get_mut(word) {
                *bits &= !mask;
            }
        }
    }
}

/// What an activation did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Activated {
    /// The section.
    pub section: SectionNr,
    /// A usage map was made for it.
    pub new_usage: bool,
    /// The descriptors of boot serve again: nothing was populated.
    pub boot_map: bool,
}

/// Why frames could not be activated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ActivateError {
    /// The frames are none, or no whole subsections (sections, in a model without subsections).
    Misaligned {
        /// First frame.
        start: Pfn,
        /// Frames.
        frames: u64,
    },
    /// The frames do not lie in one section that can be described.
    NotOneSection {
        /// First frame.
        start: Pfn,
        /// Frames.
        frames: u64,
    },
    /// Some of the frames are in use already.
    InUse {
        /// The section.
        section: SectionNr,
    },
    /// Some of the frames are not in use: there is nothing to take away.
    NotInUse {
        /// The section.
        section: SectionNr,
    },
    /// Boot found the section and has not brought it up yet.
    NotBroughtUp {
        /// The section.
        section: SectionNr,
    },
    /// No memory for the descriptors.
    NoMap {
        /// The section.
        section: SectionNr,
    },
    /// The descriptors lie at an impossible address; the `source()`.
    Map(MapMisaligned),
    /// No memory for a root or a usage map; the `source()`.
    Store(StoreFull),
}

impl fmt::Display for ActivateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Misaligned { start, frames } => {
                write!(f, "{frames:#x} frames from {:#x} are no whole subsections", start.0)
            }
            Self::NotOneSection { start, frames } => {
                write!(f, "{frames:#x} frames from {:#x} do not lie in one section", start.0)
            }
            Self::InUse { section } => write!(f, "a part of section {} is in use already", section.0),
            Self::NotInUse { section } => write!(f, "a part of section {} is not in use", section.0),
            Self::NotBroughtUp { section } => write!(f, "section {} is not brought up yet", section.0),
            Self::NoMap { section } => write!(f, "no memory for the page descriptors of section {}", section.0),
            Self::Map(_) => f.write_str("page descriptors of a section"),
            Self::Store(_) => f.write_str("memory for a section"),
        }
    }
}

impl core::error::Error for ActivateError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Map(misaligned) => Some(misaligned),
            Self::Store(full) => Some(full),
            _ => None,
        }
    }
}

/// What happens to page descriptors when their frames go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MapFate {
    /// They stay: boot's, and other parts of the section still use them.
    Stays,
    /// The descriptors of these frames go, with the pages and tables that nothing else uses.
    Depopulate {
        /// First frame.
        start: Pfn,
        /// Frames.
        frames: u64,
    },
    /// The section's whole map, which boot allocated, goes.
    FreeBoot {
        /// Where it starts.
        map: VirtAddr,
    },
}

/// What a deactivation did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Deactivated {
    /// Nothing of the section is in use any more: it is absent.
    pub emptied: bool,
    /// Its usage map was given back; boot's stays for the next time.
    pub usage_freed: bool,
    /// What the caller has to do about the descriptors.
    pub map: MapFate,
}

impl<S: Store> Sections<S> {
    pub(crate) fn subsection_mask(&self, first: Pfn, last: Pfn) -> SubsectionMask {
        let bit = |pfn| self.geometry.subsection_of(pfn) as usize;
        SubsectionMask { first: bit(first), last: bit(last) }
    }

    /// The subsection bitmap of a section; `None` without a usage map, empty in a model without subsections.
    #[must_use]
    pub fn subsection_bits(&self, nr: SectionNr) -> Option<&[u64]> {
        let usage = self.section(nr)?.usage;
        let words = self.store.usage(usage, self.geometry.usage_words())?;
        words.get(..self.geometry.subsection_words() as usize)
    }

    pub(crate) fn subsection_bits_mut(&mut self, nr: SectionNr) -> Option<&mut [u64]> {
        let usage = self.section(nr)?.usage;
        let (all, mine) = (self.geometry.usage_words(), self.geometry.subsection_words() as usize);
        self.store.usage_mut(usage, all)?.get_mut(..mine)
    }

    /// Whether the subsection of a frame is marked as in use.
    #[must_use]
    pub fn subsection_in_use(&self, pfn: Pfn) -> bool {
        self.subsections_in_use(pfn, pfn)
    }

    /// Whether all subsections from that of `first` to that of `last`, a frame of the same section, are marked as in use.
    #[must_use]
    pub fn subsections_in_use(&self, first: Pfn, last: Pfn) -> bool {
        let mask = self.subsection_mask(first, last);
        self.subsection_bits(self.geometry.section_of(first)).is_some_and(|bits| mask.all_in(bits))
    }

    fn check_piece(&self, start: Pfn, frames: u64) -> Result<(SectionNr, Pfn), ActivateError> {
        let unit = match self.geometry.model() {
            Model::Vmemmap if self.geometry.subsection_words() != 0 => self.geometry.pages_per_subsection(),
            _ => self.geometry.pages_per_section(),
        };
        if frames == 0 || !start.0.is_multiple_of(unit) || !frames.is_multiple_of(unit) {
            return Err(ActivateError::Misaligned { start, frames });
        }
        let nr = self.geometry.section_of(start);
        let last = start.0.checked_add(frames - 1).map(Pfn);
        match last.filter(|&last| self.geometry.section_of(last) == nr && nr.0 < self.geometry.nr_mem_sections()) {
            Some(last) => Ok((nr, last)),
            None => Err(ActivateError::NotOneSection { start, frames }),
        }
    }

    /// Adds `frames` from `start`, all in one section, which need not have been present.
    ///
    /// `populate` allocates and maps the descriptors of these frames and answers with the address of the descriptor
    /// of `start`; it is not called when less than a section comes back to one that boot mapped whole.
    ///
    /// # Errors
    /// [`ActivateError`]; the section is then as it was (a root made for it stays).
    pub fn activate(
        &mut self,
        nid: Nid,
        start: Pfn,
        frames: u64,
        mut on_root: impl FnMut(NewRoot),
        populate: impl FnOnce(Pfn, u64) -> Option<VirtAddr>,
    ) -> Result<Activated, ActivateError> {
        let (nr, last) = self.check_piece(start, frames)?;
        self.make_root(nr, nid, &mut on_root).map_err(ActivateError::Store)?;
        if self.early_nid(nr).is_some() {
            return Err(ActivateError::NotBroughtUp { section: nr });
        }
        let mask = self.subsection_mask(start, last);
        let has_subsections = self.geometry.subsection_words() != 0;
        let taken = match self.subsection_bits(nr) {
            Some(bits) if has_subsections => !mask.none_in(bits),
            _ => self.has_map(nr) && !has_subsections,
        };
        if taken {
            return Err(ActivateError::InUse { section: nr });
        }
        let boot_map = self.is_early(nr) && frames < self.geometry.pages_per_section();
        let new_usage = self.ensure_usage(nr)?;
        if !boot_map && let Err(error) = self.add_map(nr, start, frames, populate) {
            if new_usage {
                self.drop_usage(nr);
            }
            return Err(error);
        }
        if let Some(bits) = self.subsection_bits_mut(nr).filter(|_| has_subsections) {
            mask.set(bits);
        }
        Ok(Activated { section: nr, new_usage, boot_map })
    }

    /// Has the descriptors of new frames populated and stores where the section's first one is.
    fn add_map(
        &mut self,
        nr: SectionNr,
        start: Pfn,
        frames: u64,
        populate: impl FnOnce(Pfn, u64) -> Option<VirtAddr>,
    ) -> Result<(), ActivateError> {
        let at = populate(start, frames).ok_or(ActivateError::NoMap { section: nr })?;
        let before = (start.0 - self.geometry.first_pfn(nr).0) * self.geometry.page_bytes();
        let was_absent = self.section(nr).is_some_and(|section| section.word == 0);
        self.write_map(nr, VirtAddr(at.0.wrapping_sub(before)), 0).map_err(ActivateError::Map)?;
        if was_absent {
            self.note_present(nr);
        }
        Ok(())
    }

    fn ensure_usage(&mut self, nr: SectionNr) -> Result<bool, ActivateError> {
        if self.section(nr).is_some_and(|section| section.usage != Usage::NONE) {
            return Ok(false);
        }
        let usage = self.store.take_usage(1, self.geometry.usage_words()).map_err(ActivateError::Store)?;
        if let Some(section) = self.section_mut(nr) {
            section.usage = usage;
        }
        Ok(true)
    }

    fn drop_usage(&mut self, nr: SectionNr) {
        let words = self.geometry.usage_words();
        if let Some(section) = self.section_mut(nr) {
            let usage = core::mem::take(&mut section.usage);
            self.store.give_usage(usage, words);
        }
    }

    /// Takes `frames` from `start` away again, all in one section.
    ///
    /// # Errors
    /// [`ActivateError`]; nothing changed then.
    pub fn deactivate(&mut self, start: Pfn, frames: u64) -> Result<Deactivated, ActivateError> {
        let (nr, last) = self.check_piece(start, frames)?;
        let mask = self.subsection_mask(start, last);
        let has_subsections = self.geometry.subsection_words() != 0;
        let in_use = match self.subsection_bits(nr) {
            Some(bits) if has_subsections => mask.all_in(bits),
            _ => self.has_map(nr),
        };
        let section = self.section(nr).copied().filter(|_| in_use).ok_or(ActivateError::NotInUse { section: nr })?;
        let is_early = self.is_early(nr);
        let mut emptied = true;
        if let Some(bits) = self.subsection_bits_mut(nr).filter(|_| has_subsections) {
            mask.clear(bits);
            emptied = bits.iter().all(|&word| word == 0);
        }
        let map = if !is_early {
            MapFate::Depopulate { start, frames }
        } else if emptied {
            MapFate::FreeBoot { map: self.map_of(nr).unwrap_or_default() }
        } else {
            MapFate::Stays
        };
        let usage_freed = emptied && !section.usage.is_boot();
        if emptied {
            self.forget(nr, usage_freed);
        }
        Ok(Deactivated { emptied, usage_freed, map })
    }

    /// Makes `nr` absent; first of all its map disappears, so that nobody finds frames valid without their usage map.
    fn forget(&mut self, nr: SectionNr, with_usage: bool) {
        if let Some(section) = self.section_mut(nr) {
            section.word &= !HAS_MAP;
        }
        if with_usage {
            self.drop_usage(nr);
        }
        if let Some(section) = self.section_mut(nr) {
            section.word = 0;
        }
        self.note_absent();
    }
}
