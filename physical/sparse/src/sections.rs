//! Which sections exist: presence at boot, iteration, groups by node.
//!
//! Here: [`Sections`], the table of a kernel's sections over a [`Store`].
//! Not here: conversions between frames and descriptors (`memmap`), activation of parts (`subsections`),
//! migrate types (`pageblocks`); they extend [`Sections`] in their own files.
//!
//! # Invariants
//! 1. A descriptor's word is 0 exactly while its section is absent.
//! 2. No present section lies above `highest`.
//! 3. A section keeps the node that first claimed it.
//!
//! Source: Linux 5.10–7.2 mm/sparse.c `memory_present`, `next_present_section_nr`, `sparse_init`.

use kernmem_base::Pfn;

use crate::lookup::{ByArray, ByRoots, Lookup, Tables};
use crate::shape::Shifts;
use crate::store::{NewRoot, Root, Section, Store, StoreFull};
use crate::word::{HAS_MAP, ONLINE, PRESENT};
use crate::{Geometry, Nid, SectionNr, Word};

/// The sections of one kernel.
#[derive(Clone, Debug)]
pub struct Sections<S> {
    pub(crate) geometry: Geometry,
    pub(crate) store: S,
    highest: Option<SectionNr>,
    present: u64,
}

/// What [`Sections::memory_present`] did with a range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Presence {
    /// Frames that were used: the range with its start rounded down to a section, clipped to what can be described.
    pub start: Pfn,
    /// One past the last of them.
    pub end: Pfn,
    /// The range began beyond the last describable frame.
    pub start_clipped: bool,
    /// The range ended beyond the last describable frame.
    pub end_clipped: bool,
    /// Sections that were absent before.
    pub new_sections: u64,
    /// Roots that were made.
    pub new_roots: u64,
}

/// Present sections that are brought up together: neighbours in the order of sections, all of one node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Group {
    /// Their node.
    pub nid: Nid,
    /// The first present section.
    pub first: SectionNr,
    /// One past the last section, present or not: where the next group begins.
    pub end: SectionNr,
    /// Present sections in the group.
    pub map_count: u64,
}

impl<S: Store> Sections<S> {
    /// A table without sections.
    #[must_use]
    pub const fn new(geometry: Geometry, store: S) -> Self {
        Self { geometry, store, highest: None, present: 0 }
    }

    /// The sizes of this kernel.
    #[must_use]
    pub const fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// The memory of the table.
    #[must_use]
    pub const fn store(&self) -> &S {
        &self.store
    }

    /// Marks the sections of the frames `[start, end)` as present on `nid`.
    ///
    /// The start is rounded down to a section; frames that cannot be described are left out and reported; a section
    /// that another range claimed keeps its node. `on_root` hears of each root before it is made, in order: a boot
    /// allocates and logs it there.
    ///
    /// # Errors
    /// [`StoreFull`]: sections before the missing root are present already.
    pub fn memory_present(
        &mut self,
        nid: Nid,
        start: Pfn,
        end: Pfn,
        mut on_root: impl FnMut(NewRoot),
    ) -> Result<Presence, StoreFull> {
        let max = self.geometry.max_pfn();
        let aligned = Pfn(start.0 & !(self.geometry.pages_per_section() - 1));
        let mut done = Presence {
            start: aligned.min(max),
            end: end.min(max),
            start_clipped: aligned > max,
            end_clipped: end > max,
            new_sections: 0,
            new_roots: 0,
        };
        done.end = done.end.max(done.start);
        let past = done.end.0.div_ceil(self.geometry.pages_per_section());
        for nr in self.geometry.section_of(done.start).0..past {
            let nr = SectionNr(nr);
            done.new_roots += u64::from(self.make_root(nr, nid, &mut on_root)?);
            done.new_sections += u64::from(self.mark_present(nr, nid));
        }
        Ok(done)
    }

    /// Makes the root of `nr` if it is missing; says whether it was. A static array has no roots to make: it is there.
    pub(crate) fn make_root(
        &mut self,
        nr: SectionNr,
        nid: Nid,
        on_root: &mut impl FnMut(NewRoot),
    ) -> Result<bool, StoreFull> {
        let (root, index) = self.geometry.root_of(nr);
        let per_root = self.geometry.sections_per_root() as usize;
        if self.geometry.is_array() {
            self.store.extend(nr.0 as usize - index + per_root, per_root)?;
            return Ok(false);
        }
        if self.store.roots().get(root as usize).is_some_and(|&made| made != Root::NONE) {
            return Ok(false);
        }
        let new = NewRoot { root, nid, bytes: self.geometry.root_bytes() };
        on_root(new);
        self.store.add_root(new, per_root)?;
        Ok(true)
    }

    fn mark_present(&mut self, nr: SectionNr, nid: Nid) -> bool {
        let word = self.geometry.word_format().early_word(nid);
        match self.section_mut(nr) {
            Some(section) if section.word == 0 => section.word = word,
            _ => return false,
        }
        self.note_present(nr);
        true
    }

    /// Counts `nr`, whose word just stopped being 0.
    pub(crate) fn note_present(&mut self, nr: SectionNr) {
        self.highest = self.highest.max(Some(nr));
        self.present += 1;
    }

    /// Counts a section whose word just became 0. The highest section stays: it only bounds iteration.
    pub(crate) fn note_absent(&mut self) {
        self.present -= 1;
    }

    /// The words that conversions read.
    #[must_use]
    pub fn tables(&self) -> Tables<'_> {
        Tables { roots: self.store.roots(), sections: self.store.sections() }
    }

    /// Where the descriptor of a section lies in the store: beyond all of them if its root does not exist.
    fn descriptor_place(&self, nr: SectionNr) -> Option<usize> {
        if nr.0 >= self.geometry.nr_mem_sections() {
            return None;
        }
        Some(if self.geometry.is_array() {
            ByArray { words: self.tables() }.place(nr)
        } else {
            ByRoots { words: self.tables(), shape: Shifts::<false>::of(&self.geometry) }.place(nr)
        })
    }

    /// The descriptor of a section; `None` if its root does not exist or its number is too large.
    #[must_use]
    pub fn section(&self, nr: SectionNr) -> Option<&Section> {
        self.store.sections().get(self.descriptor_place(nr)?)
    }

    /// The descriptor of a section, to change it.
    pub(crate) fn section_mut(&mut self, nr: SectionNr) -> Option<&mut Section> {
        let place = self.descriptor_place(nr)?;
        self.store.sections_mut().get_mut(place)
    }

    /// What the word of a section says; [`Word::Absent`] also where there is no descriptor.
    #[must_use]
    pub fn word(&self, nr: SectionNr) -> Word {
        self.section(nr).map_or(Word::Absent, |section| self.geometry.word_format().decode(section.word))
    }

    /// Whether a section has memory.
    #[must_use]
    pub fn is_present(&self, nr: SectionNr) -> bool {
        self.section(nr).is_some_and(|section| section.word & PRESENT != 0)
    }

    /// The highest section that was ever present: iteration stops there.
    #[must_use]
    pub const fn highest_present(&self) -> Option<SectionNr> {
        self.highest
    }

    /// Number of present sections.
    #[must_use]
    pub const fn present_count(&self) -> u64 {
        self.present
    }

    /// The first present section at or after `from`.
    #[must_use]
    pub fn next_present(&self, from: SectionNr) -> Option<SectionNr> {
        let last = self.highest?.0;
        let mut nr = from.0;
        while nr <= last {
            let rest = self.rest_of_root(SectionNr(nr));
            if let Some(offset) = rest.iter().position(|section| section.word & PRESENT != 0) {
                return Some(SectionNr(nr + offset as u64));
            }
            nr = (nr | (self.geometry.sections_per_root() - 1)) + 1;
        }
        None
    }

    /// The descriptors from `nr` to the end of its root; none if the root does not exist.
    fn rest_of_root(&self, nr: SectionNr) -> &[Section] {
        let (_, index) = self.geometry.root_of(nr);
        let rest = self.geometry.sections_per_root() as usize - index;
        let sections = self.descriptor_place(nr).and_then(|place| self.store.sections().get(place..place + rest));
        sections.unwrap_or_default()
    }

    /// Whether a section has page descriptors (`valid_section`).
    #[must_use]
    pub fn has_map(&self, nr: SectionNr) -> bool {
        self.section(nr).is_some_and(|section| section.word & HAS_MAP != 0)
    }

    /// Whether a section was present at boot and has page descriptors since (`early_section`).
    #[must_use]
    pub fn is_early(&self, nr: SectionNr) -> bool {
        let early = self.geometry.word_format().early();
        self.has_map(nr) && self.section(nr).is_some_and(|section| section.word & early != 0)
    }

    /// Whether the page allocator may use a section's pages.
    #[must_use]
    pub fn is_online(&self, nr: SectionNr) -> bool {
        self.section(nr).is_some_and(|section| section.word & ONLINE != 0)
    }

    /// Marks the sections that have page descriptors among those of `[start, end)` as in use, or as not in use.
    pub fn set_online(&mut self, start: Pfn, end: Pfn, online: bool) {
        let past = end.0.div_ceil(self.geometry.pages_per_section());
        for nr in (self.geometry.section_of(start).0..past).map(SectionNr) {
            if !self.has_map(nr) {
                continue;
            }
            if let Some(section) = self.section_mut(nr) {
                let others = section.word & !ONLINE;
                section.word = if online { others | ONLINE } else { others };
            }
        }
    }

    /// The present sections, lowest first.
    pub fn present(&self) -> impl Iterator<Item = SectionNr> + '_ {
        let mut from = SectionNr(0);
        core::iter::from_fn(move || {
            let nr = self.next_present(from)?;
            from = SectionNr(nr.0 + 1);
            Some(nr)
        })
    }

    /// The node of a present section that has no map yet.
    #[must_use]
    pub fn early_nid(&self, nr: SectionNr) -> Option<Nid> {
        match self.word(nr) {
            Word::Early { nid, .. } => Some(nid),
            Word::Absent | Word::Mapped { .. } | Word::Odd { .. } => None,
        }
    }

    /// The groups in which boot brings up the sections: runs of present sections without a map and of one node.
    ///
    /// A node whose memory has another node's in between appears twice.
    pub fn groups(&self) -> impl Iterator<Item = Group> + '_ {
        let early = |nr| self.early_nid(nr).map(|nid| (nr, nid));
        let mut sections = self.present().filter_map(early).peekable();
        core::iter::from_fn(move || {
            let (first, nid) = sections.next()?;
            let mut group = Group { nid, first, end: SectionNr(first.0 + 1), map_count: 1 };
            while let Some((nr, _)) = sections.next_if(|&(_, other)| other == nid) {
                group.end = SectionNr(nr.0 + 1);
                group.map_count += 1;
            }
            if let Some(&(next, _)) = sections.peek() {
                group.end = next;
            }
            Some(group)
        })
    }
}
