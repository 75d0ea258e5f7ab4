//! Migrate types: what each pageblock of a section is meant for, in its usage map.
//!
//! ```text
//! bits of a pageblock   7 6 5   4         3       2 1 0
//! 5.10 to 6.12                            skip    type
//! 7.2 with isolation    –       isolated  skip    type
//! ```
//!
//! # Invariants
//! 1. The bits of a pageblock never straddle a word.
//!
//! Source: Linux 5.10–7.2 include/linux/pageblock-flags.h, mm/page_alloc.c `get_pfnblock_flags_mask`.

use kernmem_base::Pfn;

use crate::store::Store;
use crate::{Geometry, SectionNr, Sections};

/// What a pageblock is meant for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum MigrateType {
    /// Pages that stay where they are.
    Unmovable,
    /// Pages that can be moved.
    Movable,
    /// Pages that can be given back.
    Reclaimable,
    /// Kept for urgent allocations.
    HighAtomic,
    /// Lent out until a device needs contiguous memory.
    Cma,
    /// Nobody may take pages from here.
    Isolate,
}

impl MigrateType {
    /// All types in the order of their numbers.
    pub const ALL: [Self; 6] =
        [Self::Unmovable, Self::Movable, Self::Reclaimable, Self::HighAtomic, Self::Cma, Self::Isolate];

    /// Linux's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unmovable => "Unmovable",
            Self::Movable => "Movable",
            Self::Reclaimable => "Reclaimable",
            Self::HighAtomic => "HighAtomic",
            Self::Cma => "CMA",
            Self::Isolate => "Isolate",
        }
    }

    /// The type's number in a kernel; `None` where it is not configured.
    #[must_use]
    pub const fn number(self, geometry: &Geometry) -> Option<u8> {
        let facts = geometry.facts();
        match self {
            Self::Unmovable => Some(0),
            Self::Movable => Some(1),
            Self::Reclaimable => Some(2),
            Self::HighAtomic => Some(3),
            Self::Cma if facts.cma => Some(4),
            Self::Isolate if facts.isolation => Some(4 + facts.cma as u8),
            Self::Cma | Self::Isolate => None,
        }
    }

    /// The type of a number in a kernel.
    #[must_use]
    pub fn of_number(number: u8, geometry: &Geometry) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number(geometry) == Some(number))
    }
}

const TYPE: u64 = 0b111;
const SKIP: u64 = 1 << 3;
const ISOLATED: u64 = 1 << 4;

/// The place of a pageblock's bits.
#[derive(Clone, Copy)]
struct Place {
    word: usize,
    shift: u32,
}

impl<S: Store> Sections<S> {
    fn place(&self, pfn: Pfn) -> Place {
        let geometry = &self.geometry;
        let in_section = pfn.0 & (geometry.pages_per_section() - 1);
        let bit = (in_section >> geometry.facts().pageblock_order) * u64::from(geometry.pageblock_bits());
        Place { word: (geometry.subsection_words() + bit / 64) as usize, shift: (bit % 64) as u32 }
    }

    /// All bits of the pageblock of a frame; `None` if its section has no usage map.
    #[must_use]
    pub fn pageblock(&self, pfn: Pfn) -> Option<u8> {
        let place = self.place(pfn);
        let usage = self.section(self.geometry.section_of(pfn))?.usage;
        let word = self.store.usage(usage, self.geometry.usage_words())?.get(place.word)?;
        Some((word >> place.shift & self.pageblock_mask()) as u8)
    }

    fn pageblock_mask(&self) -> u64 {
        !(!0 << self.geometry.pageblock_bits())
    }

    fn change_pageblock(&mut self, pfn: Pfn, clear: u64, set: u64) -> bool {
        let place = self.place(pfn);
        let words = self.geometry.usage_words();
        let Some(section) = self.section(self.geometry.section_of(pfn)) else { return false };
        let usage = section.usage;
        match self.store.usage_mut(usage, words).and_then(|map| map.get_mut(place.word)) {
            Some(word) => {
                *word = *word & !(clear << place.shift) | set << place.shift;
                true
            }
            None => false,
        }
    }

    fn has_isolate_bit(&self) -> bool {
        self.geometry.pageblock_bits() == 8
    }

    /// What the pageblock of a frame is meant for. An isolated one is [`MigrateType::Isolate`] in every era.
    #[must_use]
    pub fn migrate_type(&self, pfn: Pfn) -> Option<MigrateType> {
        let bits = u64::from(self.pageblock(pfn)?);
        if self.has_isolate_bit() && bits & ISOLATED != 0 {
            return Some(MigrateType::Isolate);
        }
        MigrateType::of_number((bits & TYPE) as u8, &self.geometry)
    }

    /// Says what the pageblock of a frame is meant for; false if nothing changed, because the kernel has no such type
    /// or the section no usage map.
    ///
    /// Up to 6.12 isolation replaces the type; in 7.2 it is a bit of its own, and the type below survives.
    pub fn set_migrate_type(&mut self, pfn: Pfn, kind: MigrateType) -> bool {
        match (kind, kind.number(&self.geometry)) {
            (_, None) => false,
            (MigrateType::Isolate, Some(_)) if self.has_isolate_bit() => self.change_pageblock(pfn, 0, ISOLATED),
            (_, Some(number)) if self.has_isolate_bit() => {
                self.change_pageblock(pfn, TYPE | ISOLATED, u64::from(number))
            }
            (_, Some(number)) => self.change_pageblock(pfn, TYPE, u64::from(number)),
        }
    }

    /// Ends the isolation of a pageblock where the type below survived it (7.2), and says what it is meant for.
    pub fn end_isolation(&mut self, pfn: Pfn) -> Option<MigrateType> {
        if !self.has_isolate_bit() || !self.change_pageblock(pfn, ISOLATED, 0) {
            return None;
        }
        self.migrate_type(pfn)
    }

    /// Says for all pageblocks that begin in `[start, end)` what they are meant for; whole sections at once.
    pub fn fill_migrate_type(&mut self, start: Pfn, end: Pfn, kind: MigrateType) {
        let Some(number) = kind.number(&self.geometry) else { return };
        let bits = self.geometry.pageblock_bits() as usize;
        let pattern = (0..64).step_by(bits).fold(0, |word, shift| word | u64::from(number) << shift);
        let block = 1 << self.geometry.facts().pageblock_order;
        let mut pfn = Pfn(start.0.next_multiple_of(block));
        while pfn < end {
            let nr = self.geometry.section_of(pfn);
            let past = self.geometry.first_pfn(SectionNr(nr.0 + 1));
            if pfn == self.geometry.first_pfn(nr) && past <= end {
                self.fill_section(nr, pattern);
                pfn = past;
            } else {
                self.set_migrate_type(pfn, kind);
                pfn = Pfn(pfn.0 + block);
            }
        }
    }

    fn fill_section(&mut self, nr: SectionNr, pattern: u64) {
        let words = self.geometry.usage_words();
        let used = self.geometry.pageblocks_per_section() * u64::from(self.geometry.pageblock_bits());
        let pattern = if used < 64 { pattern & !(!0 << used) } else { pattern };
        let from = self.geometry.subsection_words() as usize;
        let Some(usage) = self.section(nr).map(|section| section.usage) else { return };
        if let Some(flags) = self.store.usage_mut(usage, words).and_then(|map| map.get_mut(from..)) {
            flags.fill(pattern);
        }
    }

    /// Whether compaction skips the pageblock of a frame.
    #[must_use]
    pub fn compaction_skips(&self, pfn: Pfn) -> bool {
        self.pageblock(pfn).is_some_and(|bits| u64::from(bits) & SKIP != 0)
    }

    /// Tells compaction to skip the pageblock of a frame, or to look at it again.
    pub fn set_compaction_skip(&mut self, pfn: Pfn, skip: bool) -> bool {
        self.change_pageblock(pfn, SKIP, if skip { SKIP } else { 0 })
    }
}
