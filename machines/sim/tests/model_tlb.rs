//! Drawn changes, accesses, flushes and switches, beside two naive models.
//!
//! # Invariants
//! 1. A hit is a translation that was in the space's tables at some time since the last flush that covered the page.
//! 2. A miss is what the tables say now.
//! 3. A refused access is refused by the tables now, or by a translation that invariant 1 allows.
//! 4. With pages alone, hits are exactly those of a list of the last used pages as long as the TLB.
//! 5. Table reads of the CPU are those that the memory counted.
#![allow(clippy::unwrap_used, reason = "a test stops where an answer is missing")]

mod common;

use std::collections::BTreeMap;

use common::*;
use kernmem_arch::MmuFormat;
use kernmem_arch::arm64::{Arm64Granule4K, bit};
use kernmem_arch::x86::{X86Level4, bit as x86_bit};
use kernmem_base::{Access, Asid, Half, Level, PhysAddr, PhysMem, Privilege, Slot, Tlb, VirtAddr, VirtRange};
use kernmem_sim::{Memory, Mmu, TlbShape};
use proptest::prelude::*;

/// Pages looked at: the first eight of two neighbouring blocks.
const PAGES: u64 = 16;
const SPACES: u64 = 3;

/// How a format writes what the model draws.
struct Bits {
    link: u64,
    page: u64,
    read_only: fn(u64) -> u64,
    not_global: fn(u64) -> u64,
}

const ARM64: Bits = Bits {
    link: 0b11,
    page: 0x00e8_0000_0000_0703,
    read_only: |raw| raw | bit::RDONLY,
    not_global: |raw| raw | bit::NG,
};

const X86: Bits = Bits {
    link: 0x67,
    page: 0x8000_0000_0000_0163,
    read_only: |raw| raw & !x86_bit::RW,
    not_global: |raw| raw & !x86_bit::GLOBAL,
};

fn va(page: u64) -> VirtAddr {
    VirtAddr(0xffff_8000_0000_0000 + ((page / 8) << 21) + ((page % 8) << 12))
}

/// Even pages are global: the same in every space.
fn is_global(page: u64) -> bool {
    page.is_multiple_of(2)
}

/// What a page is mapped to: frame and whether it is writable.
type Target = Option<(u64, bool)>;

struct World<F: MmuFormat> {
    mem: Memory,
    mmu: Mmu<F>,
    bits: Bits,
    /// Of each space: what blocks and pages map now.
    blocks: [[Target; 2]; SPACES as usize],
    pages: [[Target; PAGES as usize]; SPACES as usize],
    /// Translations that may be used, by space and page.
    legal: BTreeMap<(u64, u64), Vec<(u64, bool)>>,
    space: u64,
    /// Then a table that is no longer linked is flushed at once: a walk may begin in it until then.
    has_walk_cache: bool,
}

impl<F: MmuFormat> World<F> {
    fn new(bits: Bits, shape: &TlbShape) -> Self {
        let (mem, mut mmu) = (memory(), Mmu::new(shape));
        for space in 0..SPACES {
            Self::write(&mem, Self::table(space, 0), va(0), Level::Pgd, Self::table(space, 1).0 | bits.link);
            Self::write(&mem, Self::table(space, 1), va(0), Level::Pud, Self::table(space, 2).0 | bits.link);
        }
        mmu.load_root(Half::Both, Self::table(0, 0), Asid(1));
        let mut world = Self {
            mem,
            mmu,
            bits,
            blocks: Default::default(),
            pages: Default::default(),
            legal: BTreeMap::new(),
            space: 0,
            has_walk_cache: shape.walks > 0,
        };
        (0..SPACES).for_each(|space| (0..2).for_each(|block| world.set_block(space, block, None)));
        world
    }

    /// Of each space: root, second table, block table, and a last table for each block.
    fn table(space: u64, number: u64) -> PhysAddr {
        PhysAddr(0x1_0000 * (space + 1) + number * 0x1000)
    }

    fn write(mem: &Memory, table: PhysAddr, va: VirtAddr, level: Level, raw: u64) {
        let index = F::shape().level(level).index(va);
        mem.table_mut::<F::Slot>(table, 512).unwrap()[index].publish(raw);
    }

    fn raw(&self, target: Target, page: u64, level: Level) -> u64 {
        let Some((frame, is_writable)) = target else { return 0 };
        let bits = if is_writable { self.bits.page } else { (self.bits.read_only)(self.bits.page) };
        let bits = if is_global(page) { bits } else { (self.bits.not_global)(bits) };
        frame << 12 | F::bits(F::leaf_attrs(F::attrs(bits), level, false))
    }

    /// What the tables say of a page now. A block is not global.
    fn now(&self, space: u64, page: u64) -> Target {
        let (space, block) = (space as usize, page as usize / 8);
        match self.blocks[space][block] {
            Some((frame, is_writable)) => Some((frame + page % 8, is_writable)),
            None => self.pages[space][page as usize],
        }
    }

    /// Allows what the tables say now, beside what was allowed before.
    fn allow_now(&mut self, space: u64) {
        for page in 0..PAGES {
            if let Some(target) = self.now(space, page) {
                self.legal.entry((space, page)).or_default().push(target);
            }
        }
    }

    fn set_block(&mut self, space: u64, block: u64, target: Target) {
        self.blocks[space as usize][block as usize] = target;
        let raw = match target {
            Some(_) => self.raw(target, 1, Level::Pmd),
            None => Self::table(space, 3 + block).0 | self.bits.link,
        };
        Self::write(&self.mem, Self::table(space, 2), va(block * 8), Level::Pmd, raw);
        self.allow_now(space);
    }

    fn set_page(&mut self, space: u64, page: u64, target: Target) {
        let spaces = if is_global(page) { 0..SPACES } else { space..space + 1 };
        for space in spaces {
            self.pages[space as usize][page as usize] = target;
            let raw = self.raw(target, page, Level::Pte);
            Self::write(&self.mem, Self::table(space, 3 + page / 8), va(page), Level::Pte, raw);
            self.allow_now(space);
        }
    }

    /// After a flush of `pages` in `spaces`, only what the tables say now may be used there.
    fn forget(&mut self, spaces: core::ops::Range<u64>, pages: core::ops::Range<u64>) {
        for space in spaces {
            for page in pages.clone() {
                let now = self.now(space, page);
                self.legal.insert((space, page), now.into_iter().collect());
            }
        }
    }

    /// What a translation of the current space may be; globals may come from any space.
    fn is_legal(&self, page: u64, target: (u64, bool)) -> bool {
        let of = |space| self.legal.get(&(space, page)).is_some_and(|legal| legal.contains(&target));
        of(self.space) || is_global(page) && (0..SPACES).any(of)
    }

    fn access(&mut self, page: u64, access: Access) {
        let got = self.mmu.access(&self.mem, va(page), access, Privilege::Kernel);
        let now = self.now(self.space, page);
        match got {
            Ok(to) if to.hit => {
                let frame = to.pa.0 >> 12;
                let is_allowed = |is_writable| self.is_legal(page, (frame, is_writable));
                let is_read = access == Access::Read;
                assert!(is_allowed(true) || is_read && is_allowed(false), "a hit that never was: {page} {to:?}");
            }
            Ok(to) => {
                assert_eq!(Some(to.pa.0 >> 12), now.map(|(frame, _)| frame), "a miss is what the tables say");
                assert!(access == Access::Read || now.is_some_and(|(_, is_writable)| is_writable));
            }
            Err(_) => {
                let by_tables = now.is_none_or(|(_, is_writable)| access == Access::Write && !is_writable);
                let stale = self.legal.iter().any(|(&(_, at), legal)| at == page && legal.iter().any(|&(_, w)| !w));
                assert!(by_tables || access == Access::Write && stale, "refused without a reason: {page} {now:?}");
            }
        }
        assert_eq!(self.mmu.counters().references, self.mem.references());
    }

    fn play(&mut self, words: &[[u8; 3]]) {
        for &[what, which, how] in words {
            let (page, space) = (u64::from(which) % PAGES, u64::from(how) % SPACES);
            let frame = 0x100 + u64::from(how) * 8;
            let is_writable = how & 0x80 != 0;
            match what % 16 {
                0..=5 => self.access(page, Access::Read),
                6 | 7 => self.access(page, Access::Write),
                8 | 9 => self.set_page(space, page, Some((frame + page % 8, is_writable))),
                10 => self.set_page(space, page, None),
                11 => {
                    self.set_block(space, page / 8, (how & 1 == 0).then_some((frame << 6 & !0x1ff, is_writable)));
                    if self.has_walk_cache {
                        self.mmu.flush(VirtRange::of_size(va(page / 8 * 8), 1 << 21).unwrap(), true);
                        self.forget(0..SPACES, page / 8 * 8..page / 8 * 8 + 8);
                    }
                }
                12 => self.switch(space),
                13 => {
                    let pages = page..PAGES.min(page + 1 + u64::from(how) % 3);
                    for page in pages.clone() {
                        self.mmu.flush(VirtRange::of_size(va(page), 4096).unwrap(), how & 1 == 0);
                    }
                    self.forget(0..SPACES, pages);
                }
                14 => {
                    self.mmu.flush_space(Asid(space as u16 + 1), None, false);
                    // Global entries stay, whichever space brought them in.
                    (0..PAGES)
                        .filter(|&page| !is_global(page))
                        .for_each(|page| self.forget(space..space + 1, page..page + 1));
                }
                _ => {
                    self.mmu.flush(VirtRange::ALL, true);
                    self.forget(0..SPACES, 0..PAGES);
                }
            }
        }
    }

    fn switch(&mut self, space: u64) {
        self.space = space;
        self.mmu.load_root(Half::Both, Self::table(space, 0), Asid(space as u16 + 1));
    }
}

fn shape(entries: usize, ways: usize, walks: usize) -> TlbShape {
    TlbShape { entries, ways, walks, ..TlbShape::default() }
}

/// Invariant 4: the pages used last, latest first, as pairs of space and page.
fn exact<F: MmuFormat>(bits: Bits, entries: usize, words: &[[u8; 3]]) {
    let mut world = World::<F>::new(bits, &shape(entries, entries, 0));
    for space in 0..SPACES {
        for page in 0..PAGES {
            world.set_page(space, page, Some((0x100 + page, true)));
        }
    }
    let mut used: Vec<(Option<u64>, u64)> = Vec::new();
    for &[what, which, how] in words {
        let (page, space) = (u64::from(which) % PAGES, u64::from(how) % SPACES);
        match what % 8 {
            0..=5 => {
                let key = ((!is_global(page)).then_some(world.space), page);
                let known = used.iter().position(|&old| old == key);
                let to = world.mmu.access(&world.mem, va(page), Access::Read, Privilege::Kernel).unwrap();
                assert_eq!((to.hit, to.references), if known.is_some() { (true, 0) } else { (false, 4) });
                known.map(|at| used.remove(at));
                used.insert(0, key);
                used.truncate(entries);
            }
            6 => world.switch(space),
            _ if how & 1 == 0 => {
                world.mmu.flush(VirtRange::of_size(va(page), 1).unwrap(), false);
                used.retain(|&(_, old)| old != page);
            }
            _ => {
                world.mmu.flush_space(Asid(space as u16 + 1), None, false);
                used.retain(|&(old, _)| old != Some(space));
            }
        }
        assert_eq!(world.mmu.held(), used.len());
    }
}

fn words() -> impl Strategy<Value = Vec<[u8; 3]>> {
    prop::collection::vec(any::<[u8; 3]>(), 1..200)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arm64_hits_were_in_the_tables(entries in 1_usize..20, words in words()) {
        World::<Arm64Granule4K>::new(ARM64, &shape(entries, entries, 0)).play(&words);
    }

    #[test]
    fn x86_hits_were_in_the_tables(entries in 1_usize..20, words in words()) {
        World::<X86Level4>::new(X86, &shape(entries, entries, 0)).play(&words);
    }

    #[test]
    fn sets_change_nothing_but_room(ways in 1_usize..4, words in words()) {
        World::<Arm64Granule4K>::new(ARM64, &shape(ways * 4, ways, 0)).play(&words);
        World::<X86Level4>::new(X86, &shape(ways * 4, ways, 0)).play(&words);
    }

    #[test]
    fn short_walks_end_where_long_ones_do(walks in 1_usize..8, words in words()) {
        World::<Arm64Granule4K>::new(ARM64, &shape(4, 4, walks)).play(&words);
        World::<X86Level4>::new(X86, &shape(4, 4, walks)).play(&words);
    }

    #[test]
    fn arm64_hits_are_the_pages_used_last(entries in 1_usize..12, words in words()) {
        exact::<Arm64Granule4K>(ARM64, entries, &words);
    }

    #[test]
    fn x86_hits_are_the_pages_used_last(entries in 1_usize..12, words in words()) {
        exact::<X86Level4>(X86, entries, &words);
    }
}
