//! Where section descriptors and usage maps are kept: memory that the caller lends.
//!
//! ```text
//! roots      | 0 | – | 512 | 256 | …        where each root begins; none in a static array
//!              |        \     |
//! sections   | root 0 … | root 3 … | root 2 … |     all descriptors in one piece, roots in the order of their making
//! ```
//!
//! Here: [`Section`] (one descriptor), [`Root`] (where a root begins), [`Store`] (what the model needs of its memory),
//! [`LentStore`] (slices, for a kernel without a heap) and, with the feature `alloc`, `VecStore` (roots made when they
//! are first needed).
//! Not here: what the words mean (`word`), which sections exist (`sections`), how they are looked up (`lookup`).
//!
//! # Invariants
//! 1. A root, once made, stays, and holds exactly as many descriptors as a root of the geometry.
//! 2. A usage map belongs to one section; its words are zero when it is handed out.
//! 3. A descriptor that nobody has written is all zeros.

use core::fmt;

use kernmem_base::Pfn;

use crate::{Geometry, Nid};

#[cfg(feature = "alloc")]
mod vec;
#[cfg(feature = "alloc")]
pub use vec::VecStore;

/// A section's descriptor (`struct mem_section`), without page extensions.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Section {
    /// The coded word (`section_mem_map`); see [`crate::WordFormat`].
    pub word: u64,
    /// The usage map, if the section has one.
    pub usage: Usage,
}

/// The place of a usage map in its store; 0 stands for none, so that zeroed memory is a valid descriptor.
///
/// ```text
/// bit  63    the map is boot memory: it is kept when its section goes
/// bits 62:0  index of its first word, plus one
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage(u64);

const BOOT: u64 = 1 << 63;

impl Usage {
    /// No usage map.
    pub const NONE: Self = Self(0);

    /// The map at word `index` of the store.
    #[must_use]
    pub const fn at(index: usize) -> Self {
        Self(index as u64 + 1)
    }

    /// The word where the map starts.
    #[must_use]
    pub const fn index(self) -> Option<usize> {
        match self.0 & !BOOT {
            0 => None,
            n => Some((n - 1) as usize),
        }
    }

    /// The map `words` further on, of a group's.
    pub(crate) const fn further(self, words: usize) -> Self {
        Self(self.0 + words as u64)
    }

    /// The same map, marked as boot memory.
    pub(crate) const fn of_boot(self) -> Self {
        Self(self.0 | BOOT)
    }

    /// Whether the map is boot memory.
    #[must_use]
    pub const fn is_boot(self) -> bool {
        self.0 & BOOT != 0
    }
}

/// Where the descriptors of a root begin among all of a store.
///
/// Half as large as Linux's pointer, so that the array of a machine with many roots takes half the lines. No root is a
/// place beyond every array, so that a look-up needs one comparison, not two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Root(u32);

impl Root {
    /// A root that was never made: a descriptor of it lies beyond every array.
    pub const NONE: Self = Self(1 << 31);

    /// The root whose descriptors begin at `place`; `None` where no store can have so many.
    #[must_use]
    pub const fn at(place: usize) -> Option<Self> {
        if place < Self::NONE.0 as usize { Some(Self(place as u32)) } else { None }
    }

    /// The place of the root's descriptor `index`, which is smaller than the largest root of any geometry.
    #[must_use]
    pub const fn place(self, index: usize) -> usize {
        (self.0 as usize).wrapping_add(index)
    }
}

impl Default for Root {
    fn default() -> Self {
        Self::NONE
    }
}

/// A root that must be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NewRoot {
    /// Its number.
    pub root: u64,
    /// Node of the first section that needs it: Linux allocates it there.
    pub nid: Nid,
    /// Bytes that Linux allocates for it.
    pub bytes: u64,
}

/// The store cannot hold more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StoreFull {
    /// No memory for a root.
    Root {
        /// The root.
        root: u64,
    },
    /// No memory for the usage maps of a group.
    Usage {
        /// Sections that needed one.
        sections: u64,
    },
}

impl fmt::Display for StoreFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root { root } => write!(f, "no memory for section root {root}"),
            Self::Usage { sections } => write!(f, "no memory for the usage maps of {sections} sections"),
        }
    }
}

impl core::error::Error for StoreFull {}

/// Memory for section descriptors and usage maps.
pub trait Store {
    /// The descriptors of all roots, one root behind the other; of a static array up to the highest that was asked for.
    fn sections(&self) -> &[Section];

    /// The descriptors of all roots, to change them.
    fn sections_mut(&mut self) -> &mut [Section];

    /// Where each root begins, up to the highest that was made.
    fn roots(&self) -> &[Root];

    /// Makes the root `new.root` with `sections` descriptors of zeros behind all others; it does not exist yet.
    ///
    /// # Errors
    /// [`StoreFull::Root`]; nothing changed then.
    fn add_root(&mut self, new: NewRoot, sections: usize) -> Result<(), StoreFull>;

    /// Has descriptors of zeros follow until there are `sections` of them: a static array is there as far as it is used.
    ///
    /// # Errors
    /// [`StoreFull::Root`] with the number of the first root that is missing, of `per_root` descriptors; nothing changed
    /// then.
    fn extend(&mut self, sections: usize, per_root: usize) -> Result<(), StoreFull>;

    /// Takes `sections` zeroed usage maps of `words` words each, one behind the other, for a group of sections.
    ///
    /// # Errors
    /// [`StoreFull::Usage`]; nothing changed then.
    fn take_usage(&mut self, sections: u64, words: usize) -> Result<Usage, StoreFull>;

    /// Takes back one usage map of `words` words.
    fn give_usage(&mut self, usage: Usage, words: usize);

    /// The words of a usage map.
    fn usage(&self, usage: Usage, words: usize) -> Option<&[u64]>;

    /// The words of a usage map, to change them.
    fn usage_mut(&mut self, usage: Usage, words: usize) -> Option<&mut [u64]>;
}

/// A store over slices: for a kernel that took the memory from its boot allocator.
///
/// [`Needs`] says how large they must be for a list of memory ranges.
#[derive(Debug)]
pub struct LentStore<'m> {
    roots: &'m mut [Root],
    sections: &'m mut [Section],
    /// Descriptors of roots that were made: they come first.
    made: usize,
    usage: &'m mut [u64],
    used: usize,
    free: Usage,
}

impl<'m> LentStore<'m> {
    /// A store without roots: `roots` holds their places, `sections` their descriptors, `usage` the usage maps.
    #[must_use]
    pub fn new(roots: &'m mut [Root], sections: &'m mut [Section], usage: &'m mut [u64]) -> Self {
        roots.fill(Root::NONE);
        Self { roots, sections, made: 0, usage, used: 0, free: Usage::NONE }
    }

    /// Zeroes the next `sections` descriptors; says where they begin, or `None` if there are not so many.
    fn make(&mut self, sections: usize) -> Option<usize> {
        let start = self.made;
        let end = start.checked_add(sections)?;
        self.sections.get_mut(start..end)?.fill(Section::default());
        self.made = end;
        Some(start)
    }

    fn take_freed(&mut self, words: usize) -> Option<Usage> {
        let taken = self.free;
        let map = self.usage_mut(taken, words)?;
        let next = *map.first()?;
        map.fill(0);
        self.free = Usage(next);
        Some(taken)
    }
}

/// A number as an index: beyond every slice where the host has no such index.
#[inline]
pub(crate) fn slot(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

impl Store for LentStore<'_> {
    fn sections(&self) -> &[Section] {
        self.sections.get(..self.made).unwrap_or_default()
    }

    fn sections_mut(&mut self) -> &mut [Section] {
        self.sections.get_mut(..self.made).unwrap_or_default()
    }

    fn roots(&self) -> &[Root] {
        self.roots
    }

    fn add_root(&mut self, new: NewRoot, sections: usize) -> Result<(), StoreFull> {
        let full = StoreFull::Root { root: new.root };
        if slot(new.root) >= self.roots.len() {
            return Err(full);
        }
        let root = self.make(sections).and_then(Root::at).ok_or(full)?;
        if let Some(place) = self.roots.get_mut(slot(new.root)) {
            *place = root;
        }
        Ok(())
    }

    fn extend(&mut self, sections: usize, per_root: usize) -> Result<(), StoreFull> {
        let full = StoreFull::Root { root: (self.made / per_root.max(1)) as u64 };
        self.make(sections.saturating_sub(self.made)).map(|_| ()).ok_or(full)
    }

    fn take_usage(&mut self, sections: u64, words: usize) -> Result<Usage, StoreFull> {
        if sections == 1
            && let Some(usage) = self.take_freed(words)
        {
            return Ok(usage);
        }
        let full = StoreFull::Usage { sections };
        let len = usize::try_from(sections).ok().and_then(|n| n.checked_mul(words)).ok_or(full)?;
        let end = self.used.checked_add(len).ok_or(full)?;
        self.usage.get_mut(self.used..end).ok_or(full)?.fill(0);
        let usage = Usage::at(self.used);
        self.used = end;
        Ok(usage)
    }

    fn give_usage(&mut self, usage: Usage, words: usize) {
        let next = self.free.0;
        if let Some(first) = self.usage_mut(usage, words).and_then(<[u64]>::first_mut) {
            *first = next;
            self.free = usage;
        }
    }

    fn usage(&self, usage: Usage, words: usize) -> Option<&[u64]> {
        let start = usage.index()?;
        self.usage.get(start..start.checked_add(words)?)
    }

    fn usage_mut(&mut self, usage: Usage, words: usize) -> Option<&mut [u64]> {
        let start = usage.index()?;
        self.usage.get_mut(start..start.checked_add(words)?)
    }
}

/// How much memory a [`LentStore`] needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Needs {
    /// Places for roots: all that the geometry has up to the highest section; none for a static array.
    pub roots: u64,
    /// Section descriptors: a root full for each root in use, in a static array for each up to the highest.
    pub sections: u64,
    /// Words of usage maps.
    pub usage_words: u64,
}

impl Needs {
    /// What the frames `[start, end)` of `ranges`, in ascending order, need on `geometry`.
    #[must_use]
    pub fn of(geometry: &Geometry, ranges: impl IntoIterator<Item = (Pfn, Pfn)>) -> Self {
        let mut needs = Self::default();
        let (mut next_section, mut next_root) = (0, 0);
        for (start, end) in ranges {
            if end <= start {
                continue;
            }
            let first = geometry.section_of(start).0.max(next_section);
            let past = geometry.section_of(Pfn(end.0 - 1)).0.min(geometry.nr_mem_sections() - 1) + 1;
            if past <= first {
                continue;
            }
            let per_root = geometry.sections_per_root();
            let first_root = (first / per_root).max(next_root);
            let past_root = (past - 1) / per_root + 1;
            needs.usage_words += (past - first) * geometry.usage_words() as u64;
            if geometry.is_array() {
                needs.sections = past_root * per_root;
            } else {
                needs.sections += past_root.saturating_sub(first_root) * per_root;
                needs.roots = past_root;
            }
            (next_section, next_root) = (past, past_root);
        }
        needs
    }
}
