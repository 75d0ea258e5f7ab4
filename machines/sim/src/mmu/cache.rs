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

/// What an entry is compared by.
#[derive(Clone, Copy, Debug)]
struct Tag {
    start: u64,
    /// Bytes less one; all ones in an entry that is free.
    mask: u64,
    /// The space in the lower half; all ones above it in a global entry, where the space is not compared.
    space: u32,
}

impl Tag {
    const FREE: Self = Self { start: 1, mask: u64::MAX, space: 0 };
    const GLOBAL: u32 = 0xffff_0000;

    #[inline]
    const fn translates(&self, va: VirtAddr, asid: Asid) -> bool {
        va.0 & !self.mask == self.start && (self.space ^ asid.0 as u32) & !(self.space >> 16) & 0xffff == 0
    }

    const fn is_live(&self) -> bool {
        self.mask != u64::MAX
    }
}

/// What a translation gives.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cached<A> {
    base: PhysAddr,
    pub(super) attrs: A,
    pub(super) leaf: LeafSize,
    /// What the leaf allows.
    pub(super) rights: Rights,
    /// What it allows without a mark in the tables.
    pub(super) ready: Rights,
}

impl<A> Cached<A> {
    /// The translation of a leaf; its rights are judged later.
    pub(super) const fn new(base: PhysAddr, leaf: LeafSize, attrs: A) -> Self {
        Self { base, attrs, leaf, rights: Rights::NONE, ready: Rights::NONE }
    }

    /// Where `va`, one of its addresses, lies.
    #[inline]
    pub(super) const fn pa(&self, va: VirtAddr) -> PhysAddr {
        PhysAddr(self.base.0 + (va.0 & (self.leaf.bytes - 1)))
    }
}

/// Which entries a flush means.
#[derive(Clone, Copy)]
pub(super) struct Meant {
    /// Entries that translate a part of it.
    pub(super) range: VirtRange,
    /// Entries of this space; of every space if there is none.
    pub(super) asid: Option<Asid>,
    /// Global entries, too.
    pub(super) globals: bool,
}

impl Meant {
    const fn is(&self, tag: &Tag) -> bool {
        let range = VirtRange { start: VirtAddr(tag.start), last: VirtAddr(tag.start | tag.mask) };
        let is_space = match self.asid {
            _ if tag.space & Tag::GLOBAL != 0 => self.globals,
            Some(asid) => tag.space == asid.0 as u32,
            None => true,
        };
        is_space && range.overlaps(&self.range)
    }
}

/// Two entries translate the address.
pub(super) struct Clash;

const HINTS: usize = 256;

/// The entries, each in three arrays under one index: what is compared, what is given, when it was used.
#[derive(Debug)]
pub(super) struct Cache<A> {
    tags: Vec<Tag>,
    cached: Vec<Option<Cached<A>>>,
    last_use: Vec<u64>,
    ways: usize,
    is_strict: bool,
    sizes: &'static [LeafSize],
    hints: Box<[u16; HINTS]>,
    clock: u64,
}

impl<A: Copy> Cache<A> {
    pub(super) fn new(of: &TlbShape, format: &'static Shape) -> Self {
        let most = of.entries.clamp(1, usize::from(u16::MAX));
        let ways = of.ways.clamp(1, most);
        let entries = most - most % ways;
        Self {
            tags: vec![Tag::FREE; entries],
            cached: vec![None; entries],
            last_use: vec![0; entries],
            ways,
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
        match self.tags.len() / self.ways {
            1 => 0,
            sets => (va.0 >> bytes.trailing_zeros()) as usize % sets * self.ways,
        }
    }

    fn touch(&mut self, at: usize) {
        self.clock += 1;
        self.last_use[at] = self.clock;
    }

    /// The entry that translates `va` in space `asid`, now the one used last.
    #[inline]
    pub(super) fn find(&mut self, va: VirtAddr, asid: Asid) -> Result<Option<usize>, Clash> {
        let guess = usize::from(self.hints[Self::hint(va)]);
        if !self.is_strict && self.tags[guess].translates(va, asid) {
            self.touch(guess);
            return Ok(Some(guess));
        }
        self.search(va, asid)
    }

    fn search(&mut self, va: VirtAddr, asid: Asid) -> Result<Option<usize>, Clash> {
        if self.is_strict && self.tags.iter().filter(|tag| tag.translates(va, asid)).count() > 1 {
            return Err(Clash);
        }
        let found = if self.ways == self.tags.len() {
            self.tags.iter().position(|tag| tag.translates(va, asid))
        } else {
            self.sizes.iter().find_map(|size| self.search_set(self.set(va, size.bytes), va, asid))
        };
        if let Some(at) = found {
            self.hints[Self::hint(va)] = at as u16;
            self.touch(at);
        }
        Ok(found)
    }

    fn search_set(&self, first: usize, va: VirtAddr, asid: Asid) -> Option<usize> {
        let set = &self.tags[first..first + self.ways];
        set.iter().position(|tag| tag.translates(va, asid)).map(|at| first + at)
    }

    /// What the entry `at`, which was just found, gives.
    #[inline]
    pub(super) fn get(&self, at: usize) -> Option<&Cached<A>> {
        self.cached[at].as_ref()
    }

    /// Forgets the entry `at`.
    pub(super) fn retire(&mut self, at: usize) {
        (self.tags[at], self.cached[at], self.last_use[at]) = (Tag::FREE, None, 0);
    }

    /// Takes a translation of `va` in, of space `asid` or global; whether a live one made room.
    pub(super) fn insert(&mut self, va: VirtAddr, asid: Asid, is_global: bool, new: Cached<A>) -> bool {
        let first = self.set(va, new.leaf.bytes);
        let set = &self.last_use[first..first + self.ways];
        let oldest = set.iter().enumerate().min_by_key(|&(_, used)| used).map_or(0, |(at, _)| at);
        let at = first + oldest;
        let evicts = self.tags[at].is_live();
        let mask = new.leaf.bytes - 1;
        let space = if is_global { Tag::GLOBAL } else { u32::from(asid.0) };
        self.tags[at] = Tag { start: va.0 & !mask, mask, space };
        self.cached[at] = Some(new);
        self.hints[Self::hint(va)] = at as u16;
        self.touch(at);
        evicts
    }

    /// Forgets the entries that are meant; how many.
    pub(super) fn forget(&mut self, meant: &Meant) -> u64 {
        let mut dropped = 0;
        for at in 0..self.tags.len() {
            if self.tags[at].is_live() && meant.is(&self.tags[at]) {
                self.retire(at);
                dropped += 1;
            }
        }
        dropped
    }

    /// The live entries.
    pub(super) fn live(&self) -> impl Iterator<Item = &Cached<A>> {
        self.cached.iter().flatten()
    }

    /// The live entries, to judge their rights anew.
    pub(super) fn live_mut(&mut self) -> impl Iterator<Item = &mut Cached<A>> {
        self.cached.iter_mut().flatten()
    }
}
