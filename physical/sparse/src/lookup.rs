//! From a section's number to its word: what an array of descriptors needs, and what roots need.
//!
//! Here: [`Words`], the memory that is read, one load a call; [`ByArray`] and [`ByRoots`], which words are read, and in
//! which order. Not here: what the word means (`word`), what is computed from it (`convert`).
//!
//! | table | loads that follow each other |
//! |---|---|
//! | array by number | the word |
//! | roots | where the root begins; the word |
//!
//! # Invariants
//! 1. A load that is named here is one load of one datum, and nothing else is loaded on the way.
//! 2. What was never written reads as 0, which is the word of an absent section.
//!
//! Source: Linux 5.10–7.2 include/linux/mmzone.h `__nr_to_section`.

use crate::SectionNr;
use crate::shape::SectionShape;
use crate::store::{Root, Section, slot};

/// The words of the tables, as memory that answers one load at a time.
pub trait Words: Copy {
    /// Loads where root `root` begins; [`Root::NONE`] beyond the last.
    fn root(&self, root: usize) -> Root;

    /// Loads the word of the descriptor at `place`; 0 beyond the last.
    fn word(&self, place: usize) -> u64;
}

/// The tables of a store.
#[derive(Clone, Copy, Debug)]
pub struct Tables<'s> {
    pub(crate) roots: &'s [Root],
    pub(crate) sections: &'s [Section],
}

impl Words for Tables<'_> {
    #[inline]
    fn root(&self, root: usize) -> Root {
        match self.roots.get(root) {
            Some(&root) => root,
            None => Root::NONE,
        }
    }

    #[inline]
    fn word(&self, place: usize) -> u64 {
        match self.sections.get(place) {
            Some(section) => section.word,
            None => 0,
        }
    }
}

/// How the word of a section is found.
pub(crate) trait Lookup: Copy {
    /// Where the descriptor of section `nr` lies among all descriptors; beyond the last if there is none.
    fn place(&self, nr: SectionNr) -> usize;

    /// The word of section `nr`; 0 if there is none.
    fn word(&self, nr: SectionNr) -> u64;
}

/// Descriptors in one array by number (SPARSEMEM_STATIC).
#[derive(Clone, Copy, Debug)]
pub(crate) struct ByArray<W> {
    pub words: W,
}

impl<W: Words> Lookup for ByArray<W> {
    #[inline]
    fn place(&self, nr: SectionNr) -> usize {
        slot(nr.0)
    }

    #[inline]
    fn word(&self, nr: SectionNr) -> u64 {
        self.words.word(self.place(nr))
    }
}

/// Descriptors behind roots (SPARSEMEM_EXTREME).
#[derive(Clone, Copy, Debug)]
pub(crate) struct ByRoots<W, P> {
    pub words: W,
    pub shape: P,
}

impl<W: Words, P: SectionShape> Lookup for ByRoots<W, P> {
    #[inline]
    fn place(&self, nr: SectionNr) -> usize {
        let shift = self.shape.root_shift();
        self.words.root(slot(nr.0 >> shift)).place((nr.0 & ((1 << shift) - 1)) as usize)
    }

    #[inline]
    fn word(&self, nr: SectionNr) -> u64 {
        self.words.word(self.place(nr))
    }
}
