//! The layout of one slot: where the object, its free pointer, its red zones and its records lie.
//!
//! ```text
//! [left red zone][object][right red zone up to inuse][free pointer?][2 x track][request size?][padding][...]
//!                ^ offsets are counted from here                                                slot ends ^
//! ```
//!
//! # Invariants
//! 1. Offsets are counted from the object's first byte; the slot begins `left` bytes before it.
//! 2. The free pointer lies at a multiple of a word and inside the slot.
//!
//! Source: Linux 5.10–7.2 mm/slub.c `calculate_sizes`; mm/slab_common.c `calculate_alignment`.

use kernmem_base::Era;

use crate::CacheFlags;

/// Bytes of a word: of a free pointer and of the least red zone.
pub const WORD: u32 = 8;

/// What a layout follows from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SlotFacts {
    /// The branch.
    pub era: Era,
    /// Bytes that the user may have.
    pub object: u32,
    /// Alignment that was asked for, a power of two or 0.
    pub align: u32,
    /// Flags of the cache.
    pub flags: CacheFlags,
    /// Bytes of a cache line, for [`CacheFlags::HWCACHE_ALIGN`].
    pub cache_line: u32,
}

/// Where things lie in a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SlotLayout {
    /// Bytes that the user may have.
    pub object: u32,
    /// Where what belongs to the object ends: object and right red zone.
    pub inuse: u32,
    /// Where the free pointer lies.
    pub link: u32,
    /// Where the two records of users begin, if there are any.
    pub track: Option<u32>,
    /// Where the size that was asked for lies, if it is kept.
    pub request: Option<u32>,
    /// Where the padding begins.
    pub padding: u32,
    /// Bytes of the left red zone.
    pub left: u32,
    /// Bytes from one object to the next.
    pub slot: u32,
    /// Alignment of objects.
    pub align: u32,
}

/// Bytes of one record of a user.
///
/// | era | bytes |
/// |---|---|
/// | 4.14 | as 5.10 (UNVERIFIED) |
/// | 5.10 | 152: sixteen addresses |
/// | 6.1, 6.12, 7.2 | 32: a handle of the addresses |
///
/// Source: Linux 5.10–7.2 mm/slub.c `struct track`.
#[must_use]
pub const fn track_bytes(era: Era) -> u32 {
    match era {
        Era::V4_14 | Era::V5_10 => 152,
        Era::V6_1 | Era::V6_12 | Era::V7_2 => 32,
    }
}

/// Bytes of the remembered size of a request.
///
/// | era | bytes |
/// |---|---|
/// | 4.14, 5.10 | none |
/// | 6.1, 6.12 | 4 |
/// | 7.2 | 8 |
///
/// Source: Linux 6.1–7.2 mm/slub.c `slub_debug_orig_size`.
#[must_use]
pub const fn request_bytes(era: Era) -> u32 {
    match era {
        Era::V4_14 | Era::V5_10 => 0,
        Era::V6_1 | Era::V6_12 => 4,
        Era::V7_2 => 8,
    }
}

/// Whether the size of a request is kept in the slot.
const fn keeps_request(era: Era, flags: CacheFlags) -> bool {
    request_bytes(era) > 0 && flags.contains(CacheFlags::STORE_USER) && flags.contains(CacheFlags::KMALLOC)
}

/// Whether the free pointer stands behind the object, because a free object must keep its bytes.
///
/// | era | behind for |
/// |---|---|
/// | 4.14, 5.10, 6.1, 6.12 | RCU types, poison, a red zone around less than a word |
/// | 7.2 | the same, and a red zone where the size of the request is kept |
///
/// Source: Linux 5.10–7.2 mm/slub.c `calculate_sizes`.
const fn link_outside(facts: &SlotFacts) -> bool {
    let flags = facts.flags;
    if flags.intersects(CacheFlags::TYPESAFE_BY_RCU) || flags.intersects(CacheFlags::POISON) {
        return true;
    }
    let red = flags.contains(CacheFlags::RED_ZONE);
    match facts.era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 | Era::V6_12 => red && facts.object < WORD,
        Era::V7_2 => red && (facts.object < WORD || keeps_request(facts.era, flags)),
    }
}

/// The alignment of objects.
///
/// Source: Linux 5.10–7.2 mm/slab_common.c `calculate_alignment`.
#[must_use]
pub const fn slot_align(facts: &SlotFacts) -> u32 {
    let mut align = if facts.align > WORD { facts.align } else { WORD };
    if facts.flags.contains(CacheFlags::HWCACHE_ALIGN) {
        let mut line = facts.cache_line;
        while line > WORD && facts.object <= line / 2 {
            line /= 2;
        }
        align = if line > align { line } else { align };
    }
    align.next_multiple_of(WORD)
}

impl SlotLayout {
    /// The layout of a cache's slots; `None` if a slot would be larger than 2 GiB or is asked to hold nothing.
    #[must_use]
    pub const fn new(facts: &SlotFacts) -> Option<Self> {
        if facts.object == 0 || facts.object > 1 << 30 || facts.align > 1 << 28 {
            return None;
        }
        let (object, flags) = (facts.object, facts.flags);
        let red = flags.contains(CacheFlags::RED_ZONE);
        let align = slot_align(facts);
        let mut size = object.next_multiple_of(WORD);
        if red && size == object {
            size += WORD;
        }
        let inuse = size;
        let link = if link_outside(facts) {
            size += WORD;
            inuse
        } else {
            object / 2 / WORD * WORD
        };
        let mut track = None;
        let mut request = None;
        if flags.contains(CacheFlags::STORE_USER) {
            track = Some(size);
            size += 2 * track_bytes(facts.era);
            if keeps_request(facts.era, flags) {
                request = Some(size);
                size += request_bytes(facts.era);
            }
        }
        let padding = size;
        let mut left = 0;
        if red {
            left = WORD.next_multiple_of(align);
            size += WORD + left;
        }
        Some(Self { object, inuse, link, track, request, padding, left, slot: size.next_multiple_of(align), align })
    }

    /// Whether the free pointer stands behind the object.
    #[must_use]
    pub const fn link_outside(&self) -> bool {
        self.link >= self.inuse
    }

    /// Bytes that a user may use without harm.
    ///
    /// Source: Linux 5.10–7.2 mm/slab.h `slab_ksize`.
    #[must_use]
    pub const fn usable(&self, flags: CacheFlags) -> u32 {
        if flags.intersects(CacheFlags::RED_ZONE) || flags.intersects(CacheFlags::POISON) {
            return self.object;
        }
        if flags.intersects(CacheFlags::TYPESAFE_BY_RCU) || flags.intersects(CacheFlags::STORE_USER) {
            return self.inuse;
        }
        self.slot
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(era: Era, object: u32, flags: CacheFlags) -> SlotFacts {
        SlotFacts { era, object, align: 0, flags, cache_line: 64 }
    }

    fn layout(era: Era, object: u32, flags: CacheFlags) -> SlotLayout {
        SlotLayout::new(&facts(era, object, flags)).unwrap()
    }

    #[test]
    fn a_plain_object_has_its_free_pointer_in_the_middle() {
        let plain = layout(Era::V6_1, 100, CacheFlags::NONE);
        // 100 rounds to 104; the middle, 50, rounds down to 48.
        assert_eq!((plain.slot, plain.inuse, plain.link, plain.left), (104, 104, 48, 0));
        assert_eq!(layout(Era::V6_1, 8, CacheFlags::NONE).link, 0);
    }

    #[test]
    fn a_poisoned_object_has_its_free_pointer_behind_it() {
        let poisoned = layout(Era::V6_1, 64, CacheFlags::POISON);
        assert_eq!((poisoned.slot, poisoned.inuse, poisoned.link), (72, 64, 64));
        assert!(poisoned.link_outside());
    }

    #[test]
    fn a_red_zone_adds_a_word_on_each_side_and_one_of_padding() {
        let red = layout(Era::V6_1, 64, CacheFlags::RED_ZONE);
        // left 8, object 64, right 8, padding 8.
        assert_eq!((red.left, red.inuse, red.padding, red.slot, red.link), (8, 72, 72, 88, 32));
        // An object that leaves slack has its right red zone there.
        assert_eq!(layout(Era::V6_1, 60, CacheFlags::RED_ZONE).inuse, 64);
    }

    #[test]
    fn records_of_users_have_the_size_of_their_era() {
        let flags = CacheFlags::CHECKED | CacheFlags::KMALLOC;
        // 64 + 8 right + 8 link + 2 tracks (+ size) + 8 padding + 8 left, rounded to a word.
        assert_eq!(layout(Era::V5_10, 64, flags).slot, 64 + 8 + 8 + 304 + 16);
        assert_eq!(layout(Era::V6_1, 64, flags).slot, 64 + 8 + 8 + 64 + 8 + 16);
        assert_eq!(layout(Era::V7_2, 64, flags).slot, 64 + 8 + 8 + 64 + 8 + 16);
        assert_eq!(layout(Era::V6_1, 64, flags).request, Some(144));
        let red = CacheFlags::RED_ZONE | CacheFlags::STORE_USER | CacheFlags::KMALLOC;
        assert!(!layout(Era::V6_12, 32, red).link_outside() && layout(Era::V7_2, 32, red).link_outside());
    }

    #[test]
    fn alignment_doubles_the_slot_of_an_object_with_records() {
        let aligned = SlotFacts { align: 128, ..facts(Era::V6_1, 128, CacheFlags::POISON) };
        assert_eq!(SlotLayout::new(&aligned).map(|layout| layout.slot), Some(256));
    }

    #[test]
    fn cache_lines_are_halved_for_small_objects() {
        let align = |object| slot_align(&facts(Era::V6_1, object, CacheFlags::HWCACHE_ALIGN));
        assert_eq!([100, 33, 32, 16, 8, 1].map(align), [64, 64, 32, 16, 8, 8]);
    }
}
