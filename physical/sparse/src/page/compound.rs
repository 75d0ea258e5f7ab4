//! Descriptors of compound pages: a head, and tails that lead to it.
//!
//! ```text
//! word   0 flags   1 link or list   2 list; of the first tail also its kind and order   3 mapping
//!        4 index   5 private        6 mapcount (low half), references (high half)       7 group
//! ```
//!
//! # Invariants
//! 1. [`resolve`] of any descriptor that [`compose`] wrote names the head, also where all tails share one frame of
//!    descriptors with the head.
//!
//! Source: Linux 5.10–7.2 include/linux/mm_types.h, mm/page_alloc.c `prep_compound_page`,
//! include/linux/page-flags.h `page_fixed_fake_head`, `_compound_head`.

use core::sync::atomic::{AtomicU64, Ordering};

use kernmem_base::{Era, VirtAddr};

use super::flags::PageFlag;

/// Words by what they hold.
const FLAGS: usize = 0;
const LINK: usize = 1;
const SECOND: usize = 2;
const MAPPING: usize = 3;
const PRIVATE: usize = 5;
const COUNTS: usize = 6;

/// No mapping, no references: `-1` below, nothing above.
const UNMAPPED: u64 = 0xffff_ffff;
const ONE_REFERENCE: u64 = 1 << 32;

/// What stands in the mapping of a tail, with the offset that makes stray pointers fault on 64-bit kernels.
const TAIL_MAPPING: u64 = 0xdead_0000_0000_0000 + 0x400;

/// What a compound page is for: the number in its first tail up to 6.1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CompoundKind {
    /// Any block that was asked for as one page.
    Plain,
    /// A huge page of a pool.
    HugeTlb,
}

/// How a tail leads to its head.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Link {
    /// The head's address.
    Pointer(VirtAddr),
    /// A mask of the tail's own address: all tails of one order are equal.
    Mask(u64),
}

impl Link {
    /// How the tails of an era's compound pages lead to their head.
    ///
    /// | era | link |
    /// |---|---|
    /// | up to 6.12 | pointer to the head |
    /// | 7.2 with the optimisation of huge pages' descriptors built in | mask, as descriptors have a power of two bytes |
    /// | 7.2 without | pointer |
    ///
    /// Source: Linux 5.10–7.2 include/linux/page-flags.h `set_compound_head`.
    #[must_use]
    pub const fn of(era: Era, head: VirtAddr, order: u8, descriptor_bytes: u64, optimisable: bool) -> Self {
        match era {
            Era::V4_14 | Era::V5_10 | Era::V6_1 | Era::V6_12 => Self::Pointer(head),
            Era::V7_2 if optimisable && descriptor_bytes.is_power_of_two() => {
                Self::Mask(!0 << (order as u32 + descriptor_bytes.trailing_zeros()))
            }
            Era::V7_2 => Self::Pointer(head),
        }
    }

    const fn word(self) -> u64 {
        match self {
            Self::Pointer(head) => head.0 | 1,
            Self::Mask(mask) => mask | 1,
        }
    }
}

/// Writes a descriptor that nobody has used yet; `flags` as [`super::FlagsLayout::fresh`] gives them.
///
/// Relaxed: the words belong to whoever brings the frame up, and are published with the section.
pub fn fresh(words: &[AtomicU64], flags: u64, page: VirtAddr) {
    let list = page.0 + 8;
    let values = [flags, list, list, 0, 0, 0, UNMAPPED | ONE_REFERENCE, 0];
    for (word, value) in words.iter().zip(values) {
        word.store(value, Ordering::Relaxed);
    }
}

/// Makes the descriptor `index` of a block one of a compound page of `2^order` frames whose head is at `head`.
///
/// Counters of mappings in the first tails are not kept.
/// Relaxed: the block belongs to the caller.
pub fn compose(words: &[AtomicU64], era: Era, index: u64, link: Link, order: u8, kind: CompoundKind) {
    let or = |at: usize, bits: u64| {
        if let Some(word) = words.get(at) {
            word.fetch_or(bits, Ordering::Relaxed);
        }
    };
    let set = |at: usize, value: u64| {
        if let Some(word) = words.get(at) {
            word.store(value, Ordering::Relaxed);
        }
    };
    if index == 0 {
        or(FLAGS, PageFlag::Head.mask(era));
        return;
    }
    set(LINK, link.word());
    set(SECOND, 0);
    set(MAPPING, TAIL_MAPPING);
    set(COUNTS, UNMAPPED);
    if index == 1 {
        match era {
            Era::V4_14 | Era::V5_10 | Era::V6_1 => {
                let kind = match kind {
                    CompoundKind::Plain => 1,
                    CompoundKind::HugeTlb => 2,
                };
                set(SECOND, u64::from(order) << 8 | kind);
            }
            Era::V6_12 | Era::V7_2 => or(FLAGS, u64::from(order)),
        }
    }
}

/// Makes the descriptor `index` of a compound page one of a plain block again: no link, one reference on the head.
pub fn dissolve(words: &[AtomicU64], era: Era, index: u64) {
    let flags = words.first();
    if index == 0 {
        if let Some(flags) = flags {
            flags.fetch_and(!PageFlag::Head.mask(era), Ordering::Relaxed);
        }
        return;
    }
    if let Some(flags) = flags.filter(|_| index == 1) {
        match era {
            Era::V4_14 | Era::V5_10 | Era::V6_1 => {}
            Era::V6_12 | Era::V7_2 => {
                flags.fetch_and(!0xff, Ordering::Relaxed);
            }
        }
    }
    for (at, value) in [(LINK, 0), (SECOND, 0), (MAPPING, 0), (PRIVATE, 0), (COUNTS, UNMAPPED)] {
        if let Some(word) = words.get(at) {
            word.store(value, Ordering::Relaxed);
        }
    }
}

/// What a descriptor belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resolved {
    /// No compound page, or its head.
    Own,
    /// The compound page whose head is there.
    Tail(VirtAddr),
}

/// Finds the head of the compound page that the descriptor at `page` belongs to; `words` are its own words, and
/// `next` those of the descriptor behind it, if it can be read.
///
/// Up to 6.12 a descriptor that starts a page of descriptors may show the head's words because its frame was given
/// back: the one behind it tells then.
#[must_use]
pub fn resolve(
    words: &[AtomicU64],
    next: Option<&[AtomicU64]>,
    era: Era,
    page: VirtAddr,
    granule_bytes: u64,
) -> Resolved {
    let load = |words: &[AtomicU64], at: usize| words.get(at).map_or(0, |word| word.load(Ordering::Relaxed));
    let link = load(words, LINK);
    let lead = |link: u64| match era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 | Era::V6_12 => VirtAddr(link - 1),
        // A mask has its upper bits set and leaves the offset below; a pointer is the head itself.
        Era::V7_2 if (link & !1).leading_ones() + (link & !1).trailing_zeros() == 64 => VirtAddr(page.0 & link & !1),
        Era::V7_2 => VirtAddr(link - 1),
    };
    if link & 1 == 1 {
        return Resolved::Tail(lead(link));
    }
    let looks_like_head = load(words, FLAGS) & PageFlag::Head.mask(era) != 0;
    if looks_like_head && page.is_aligned(granule_bytes) {
        let behind = next.map_or(0, |next| load(next, LINK));
        if behind & 1 == 1 && lead(behind) != page {
            return Resolved::Tail(lead(behind));
        }
    }
    Resolved::Own
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: u64 = 0xffff_ea00_0400_0000;

    fn descriptor() -> [AtomicU64; 8] {
        [const { AtomicU64::new(0) }; 8]
    }

    fn at(index: u64) -> VirtAddr {
        VirtAddr(BASE + index * 64)
    }

    fn block(era: Era, optimisable: bool) -> alloc::vec::Vec<[AtomicU64; 8]> {
        let pages: alloc::vec::Vec<_> = (0..512).map(|_| descriptor()).collect();
        for (index, words) in (0..).zip(&pages) {
            fresh(words, 0, at(index));
            compose(words, era, index, Link::of(era, at(0), 9, 64, optimisable), 9, CompoundKind::HugeTlb);
        }
        pages
    }

    #[test]
    fn every_tail_leads_to_the_head_in_every_era() {
        for era in Era::ALL {
            let pages = block(era, true);
            assert_eq!(resolve(&pages[0], Some(&pages[1]), era, at(0), 4096), Resolved::Own);
            for index in 1..512 {
                let next = pages.get(index as usize + 1).map(|words| &words[..]);
                assert_eq!(resolve(&pages[index as usize], next, era, at(index), 4096), Resolved::Tail(at(0)));
            }
        }
    }

    /// After the optimisation of 6.1 every page of descriptors shows the head's page: the words of descriptor 64 are
    /// those of descriptor 0.
    #[test]
    fn a_fake_head_leads_to_the_real_one() {
        let pages = block(Era::V6_1, true);
        let shown = |index: u64| &pages[(index % 64) as usize];
        for fake in (64..512).step_by(64) {
            assert_eq!(
                resolve(shown(fake), Some(shown(fake + 1)), Era::V6_1, at(fake), 4096),
                Resolved::Tail(at(0)),
                "{fake}"
            );
        }
    }

    #[test]
    fn the_first_tail_tells_kind_and_order_until_6_1_and_order_in_its_flags_later() {
        let old = block(Era::V6_1, false);
        assert_eq!(old[1][SECOND].load(Ordering::Relaxed), 9 << 8 | 2);
        let new = block(Era::V6_12, false);
        assert_eq!(new[1][FLAGS].load(Ordering::Relaxed), 9);
    }

    #[test]
    fn a_dissolved_page_is_a_plain_block() {
        for era in Era::ALL {
            let pages = block(era, false);
            for (index, words) in (0..).zip(&pages) {
                dissolve(words, era, index);
                assert_eq!(resolve(words, None, era, at(index), 4096), Resolved::Own);
                assert_eq!(words[FLAGS].load(Ordering::Relaxed), 0);
            }
        }
    }
}
