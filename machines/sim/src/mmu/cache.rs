//! What a TLB keeps: translations of pages, blocks and contiguous groups, replaced by least recent use.
//!
//! # Invariants
//! 1. An entry of `size` bytes stands in the set of its address divided by its size.
//! 2. A hint is only a guess: the entry that it names is compared as any other.

use kernmem_arch::{LeafSize, Rights, Shape};
use kernmem_base::{Asid, PhysAddr, VirtAddr, VirtRange};

/// What happens where two entries translate one address, because a live entry was replaced without break-before-make.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Conflict {
    /// Either of the two is used.
    #[default]
    Either,
    /// The access is refused, as arm64 may: slower, since every look-up compares all entries.
    Abort,
}

/// The size and habits of a TLB.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TlbShape {
    /// Translations that it holds; at least one.
    pub entries: usize,
    /// Entries of a set; as many as `entries` for a fully associative TLB.
    pub ways: usize,
    /// Whether a contiguous group takes one entry, as its leaves allow.
    pub groups: bool,
    /// Table pointers that the walk cache holds; 0 for none.
    pub walks: usize,
    /// What happens where entries contradict each other.
    pub conflict: Conflict,
}

impl Default for TlbShape {
    /// 48 entries, fully associative, with contiguous groups, without a walk cache: the first level of many cores.
    fn default() -> Self {
        Self { entries: 48, ways: 48, groups: true, walks: 0, conflict: Conflict::Either }
    }
}

/// One translation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cached<A> {
    start: u64,
    /// Bytes less one; all ones in an entry that is free.
    mask: u64,
    base: PhysAddr,
    pub(super) attrs: A,
    /// What the leaf allows.
    pub(super) rights: Rights,
    /// What it allows without a mark in the tables.
    pub(super) ready: Rights,
    pub(super) leaf: LeafSize,
    pub(super) asid: Asid,
    pub(super) is_global: bool,
    last_use: u64,
}

impl<A: Copy> Cached<A> {
    /// The translation of the leaf around `va`.
    pub(super) const fn new(va: VirtAddr, base: PhysAddr, leaf: LeafSize, attrs: A, rights: Rights) -> Self {
        let mask = leaf.bytes - 1;
        Self {
            start: va.0 & !mask,
            mask,
            base,
            attrs,
            rights,
            ready: rights,
            leaf,
            asid: Asid(0),
            is_global: false,
            last_use: 0,
        }
    }

    #[inline]
    const fn translates(&self, va: VirtAddr, asid: Asid) -> bool {
        va.0 & !self.mask == self.start && (self.is_global || self.asid.0 == asid.0)
    }

    const fn is_live(&self) -> bool {
        self.mask != u64::MAX
    }

    const fn retire(&mut self) {
        (self.mask, self.start, self.last_use) = (u64::MAX, 1, 0);
    }

    /// Where `va`, one of its addresses, lies.
    #[inline]
    pub(super) const fn pa(&self, va: VirtAddr) -> PhysAddr {
        PhysAddr(self.base.0 + (va.0 & self.mask))
    }

    /// The addresses that it translates.
    pub(super) const fn range(&self) -> VirtRange {
        VirtRange { start: VirtAddr(self.start), last: VirtAddr(self.start | self.mask) }
    }
}

/// Two entries translate the address.
pub(super) struct Clash;

const HINTS: usize = 256;

#[derive(Debug)]
pub(super) struct Cache<A> {
    entries: Vec<Cached<A>>,
    ways: usize,
    most: usize,
    is_strict: bool,
    sizes: &'static [LeafSize],
    hints: Box<[u16; HINTS]>,
    clock: u64,
}

impl<A: Copy> Cache<A> {
    pub(super) fn new(of: &TlbShape, format: &'static Shape) -> Self {
        let most = of.entries.clamp(1, usize::from(u16::MAX));
        let ways = of.ways.clamp(1, most);
        Self {
            entries: Vec::new(),
            ways,
            most: most - most % ways,
            is_strict: of.conflict == Conflict::Abort,
            sizes: format.leaves,
            hints: Box::new([0; HINTS]),
            clock: 0,
        }
    }

    const fn hint(va: VirtAddr) -> usize {
        (va.0 >> 12) as usize % HINTS
    }

    /// The first entry of the set for leaves of `bytes` around `va`.
    fn set(&self, va: VirtAddr, bytes: u64) -> usize {
        let sets = self.most / self.ways;
        (va.0 >> bytes.trailing_zeros()) as usize % sets * self.ways
    }

    /// The entry that translates `va` in space `asid`, now the one used last.
    #[inline]
    pub(super) fn find(&mut self, va: VirtAddr, asid: Asid) -> Result<Option<usize>, Clash> {
        let guess = usize::from(self.hints[Self::hint(va)]);
        let is_right = !self.is_strict && self.entries.get(guess).is_some_and(|entry| entry.translates(va, asid));
        let found = if is_right { Some(guess) } else { self.search(va, asid)? };
        if let Some(at) = found {
            self.clock += 1;
            self.entries[at].last_use = self.clock;
        }
        Ok(found)
    }

    fn search(&mut self, va: VirtAddr, asid: Asid) -> Result<Option<usize>, Clash> {
        if self.is_strict && self.entries.iter().filter(|entry| entry.translates(va, asid)).count() > 1 {
            return Err(Clash);
        }
        let found = if self.ways == self.most {
            self.entries.iter().position(|entry| entry.translates(va, asid))
        } else {
            self.sizes.iter().find_map(|size| self.search_set(self.set(va, size.bytes), va, asid))
        };
        if let Some(at) = found {
            self.hints[Self::hint(va)] = at as u16;
        }
        Ok(found)
    }

    fn search_set(&self, first: usize, va: VirtAddr, asid: Asid) -> Option<usize> {
        let set = self.entries.get(first..first + self.ways)?;
        set.iter().position(|entry| entry.translates(va, asid)).map(|at| first + at)
    }

    #[inline]
    pub(super) fn get(&self, at: usize) -> &Cached<A> {
        &self.entries[at]
    }

    /// Forgets the entry `at`.
    pub(super) fn retire(&mut self, at: usize) {
        self.entries[at].retire();
    }

    /// Takes a translation in; whether a live one made room.
    pub(super) fn insert(&mut self, va: VirtAddr, new: Cached<A>) -> bool {
        if self.entries.is_empty() {
            let mut free = new;
            free.retire();
            self.entries = vec![free; self.most];
        }
        let first = self.set(va, new.leaf.bytes);
        let set = &self.entries[first..first + self.ways];
        let oldest = set.iter().enumerate().min_by_key(|(_, entry)| entry.last_use).map_or(0, |(at, _)| at);
        let at = first + oldest;
        self.clock += 1;
        let evicts = self.entries[at].is_live();
        self.entries[at] = Cached { last_use: self.clock, ..new };
        self.hints[Self::hint(va)] = at as u16;
        evicts
    }

    /// Forgets every entry for which `is_stale` holds; how many.
    pub(super) fn forget(&mut self, is_stale: impl Fn(&Cached<A>) -> bool) -> u64 {
        let mut dropped = 0;
        for entry in self.entries.iter_mut().filter(|entry| entry.is_live() && is_stale(entry)) {
            entry.retire();
            dropped += 1;
        }
        dropped
    }

    /// The live entries.
    pub(super) fn live(&self) -> impl Iterator<Item = &Cached<A>> {
        self.entries.iter().filter(|entry| entry.is_live())
    }

    /// The live entries, to judge their rights anew.
    pub(super) fn live_mut(&mut self) -> impl Iterator<Item = &mut Cached<A>> {
        self.entries.iter_mut().filter(|entry| entry.is_live())
    }
}
