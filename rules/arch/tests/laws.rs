//! The laws of every entry format: meaning is total, nothing is lost, forms of leaves convert without loss.
//!
//! Checked over all low bits (types, rights, sizes), sampled addresses and top bits, and 200,000 seeded raws a level.

use kernmem_arch::arm64::Arm64;
use kernmem_arch::i386::{I386Level2, I386Pae};
use kernmem_arch::x86::{X86Level4, X86Level5};
use kernmem_arch::{Entry, EntryFormat, LevelShape};
use kernmem_base::{Level, PhysAddr, VirtAddr};

/// A small seeded generator (SplitMix64), so that a failure can be repeated.
struct Seeded(u64);

impl Iterator for Seeded {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        Some(z ^ z >> 31)
    }
}

/// Raws that together have every pattern of bits 12:0 and of the single bits above, and 200,000 drawn ones.
fn raws() -> impl Iterator<Item = u64> {
    let above = (12..64).map(|bit| 1 << bit);
    let masks = (12..64).flat_map(|bit| [!0 << bit, ((1 << bit) - 1) & !0xfff]);
    let high: Vec<u64> = [0].into_iter().chain(above).chain(masks).collect();
    let low = 0..1_u64 << 13;
    low.flat_map(move |low| high.clone().into_iter().map(move |high| high ^ low)).chain(Seeded(7).take(200_000))
}

fn check<F: EntryFormat>(name: &str) {
    let mut checked = 0;
    for level in Level::ALL {
        assert_eq!(F::decode(0, level), Entry::Absent { sw: 0 }, "{name} {level}");
        for raw in raws() {
            entry_keeps_every_bit::<F>(raw, level);
            kind_does_not_hang_on_the_address::<F>(raw, level);
            tables_are_linked_alike::<F>(raw, level);
            checked += 1;
        }
    }
    assert!(checked > 1_000_000, "{name}: {checked}");
    shape_is_consistent::<F>();
}

fn entry_keeps_every_bit<F: EntryFormat>(raw: u64, level: Level) {
    let entry = F::decode(raw, level);
    assert_eq!(F::encode(entry, level), Ok(raw), "{raw:#x} at {level}");
    match entry {
        Entry::Absent { sw } => assert_eq!(sw, raw),
        Entry::Reserved { raw: kept } => assert_eq!(kept, raw),
        Entry::Table { next, attrs } => {
            assert!(F::shape().levels.last().is_none_or(|last| last.level != level), "a table below the last level");
            parts_are_apart::<F>(raw, next, attrs);
        }
        Entry::Leaf { base, attrs } => {
            parts_are_apart::<F>(raw, base, attrs);
            if let Some(shape) = F::shape().levels.iter().find(|shape| shape.level == level) {
                assert!(shape.leaf, "a leaf where the shape has none: {raw:#x} at {level}");
                assert!(base.is_aligned(shape.bytes()), "{raw:#x} at {level}");
                leaf_forms_convert::<F>(attrs, shape);
            }
        }
    }
}

/// Whatever the bits of its address are, an entry is of one kind, with one set of attributes, and may change alike.
fn kind_does_not_hang_on_the_address<F: EntryFormat>(raw: u64, level: Level) {
    if !F::shape().levels.iter().any(|shape| shape.level == level && shape.leaf) {
        return;
    }
    let mask = F::address_bits(level);
    let others = [raw & !mask, raw | mask, raw ^ raw.wrapping_mul(0x9e37_79b9_7f4a_7c15) & mask];
    for other in others {
        match (F::decode(raw, level), F::decode(other, level)) {
            (Entry::Leaf { base, attrs }, Entry::Leaf { base: moved, attrs: same }) => {
                assert_eq!(same, attrs, "{raw:#x} and {other:#x} at {level}");
                assert_eq!((F::place(base), F::place(moved)), (raw & mask, other & mask));
            }
            (Entry::Table { .. }, Entry::Table { .. })
            | (Entry::Absent { .. }, Entry::Absent { .. })
            | (Entry::Reserved { .. }, Entry::Reserved { .. }) => {}
            (one, two) => panic!("{one:?} and {two:?} at {level}"),
        }
        for change in [1, 2, 1 << 7, 3 << 7, 1 << 11, 1 << 52, 1 << 54].map(|change| change & !mask) {
            let moved = F::change_is_safe(other, other ^ change);
            assert_eq!(moved, F::change_is_safe(raw, raw ^ change), "{raw:#x} and {other:#x} by {change:#x}");
        }
    }
}

/// An entry that links a table links any other whose address differs in the bits that both hold in the same places.
fn tables_are_linked_alike<F: EntryFormat>(raw: u64, level: Level) {
    let Entry::Table { next, attrs } = F::decode(raw, level) else { return };
    let bits = F::table_bits();
    for other in [raw & !bits, raw | bits, raw ^ raw.wrapping_mul(0x9e37_79b9_7f4a_7c15) & bits] {
        let moved = Entry::Table { next: PhysAddr(next.0 & !bits | other & bits), attrs };
        assert_eq!(F::decode(other, level), moved, "{raw:#x} and {other:#x} at {level}");
    }
}

/// The address and the attributes share no bit, and the attributes are their bits.
fn parts_are_apart<F: EntryFormat>(raw: u64, address: PhysAddr, attrs: F::Attrs) {
    assert_eq!(F::place(address) & F::bits(attrs), 0, "{raw:#x}");
    assert_eq!(F::place(address) | F::bits(attrs), raw);
    assert_eq!(F::attrs(F::bits(attrs)), attrs);
}

/// A leaf's attributes survive the way to a base page and back at every size; the mark of a group is all they lose.
fn leaf_forms_convert<F: EntryFormat>(attrs: F::Attrs, shape: &LevelShape) {
    let page = F::page_attrs(attrs, shape.level);
    assert!(!F::is_contiguous(page));
    assert_eq!(F::leaf_attrs(page, shape.level, F::is_contiguous(attrs)), attrs);
    for size in F::shape().leaves {
        let leaf = F::leaf_attrs(page, size.level, size.contiguous);
        assert_eq!(F::is_contiguous(leaf), size.contiguous);
        assert_eq!(F::page_attrs(leaf, size.level), page);
        // what is a leaf at one size is one at every size, at an address that each of them can name
        let base = PhysAddr(3 << 30);
        let raw = F::encode(Entry::Leaf { base, attrs: leaf }, size.level);
        let has_form = raw.is_ok_and(|raw| F::decode(raw, size.level) == Entry::Leaf { base, attrs: leaf });
        assert!(has_form || F::bits(page) & ADDRESS_BITS != 0, "{page:?} at {size:?}");
    }
    assert!(F::change_is_safe(F::bits(page), F::bits(page)));
    assert!(F::change_is_safe(F::bits(attrs), 0) && F::change_is_safe(0, F::bits(attrs)));
}

/// Bits that a larger leaf keeps as attributes, while a smaller one has address there: such a leaf has no small form.
const ADDRESS_BITS: u64 = 0x000f_ffff_ffff_f000;

/// The parts of a shape describe the same tables.
fn shape_is_consistent<F: EntryFormat>() {
    let shape = F::shape();
    for pair in shape.levels.windows(2) {
        assert_eq!(pair[0].shift, pair[1].shift + pair[1].index_bits, "a table maps what its entry does");
    }
    let last = shape.levels.last().expect("a format has levels");
    assert_eq!((last.bytes(), last.leaf), (shape.granule.bytes(), true));
    for pair in shape.leaves.windows(2) {
        assert!(pair[0].bytes > pair[1].bytes, "largest first");
    }
    for leaf in shape.leaves {
        let level = shape.level(leaf.level);
        let group = if leaf.contiguous { level.contiguous_bits } else { 0 };
        assert!(level.leaf && group < level.index_bits);
        assert_eq!(leaf.bytes, level.bytes() << group);
        assert_eq!(leaf.contiguous, group != 0);
    }
    for level in shape.levels {
        let va = VirtAddr(u64::MAX);
        assert_eq!((level.index(va), level.offset(va)), (level.entries() - 1, level.bytes() - 1));
        assert_eq!(level.leaf, shape.leaves.iter().any(|leaf| leaf.level == level.level && !leaf.contiguous));
    }
}

#[test]
fn laws_hold_for_arm64_with_4k_pages() {
    check::<Arm64<12, 39>>("arm64 4K 39");
    check::<Arm64<12, 48>>("arm64 4K 48");
    check::<Arm64<12, 52>>("arm64 4K 52");
}

#[test]
fn laws_hold_for_arm64_with_16k_pages() {
    check::<Arm64<14, 36>>("arm64 16K 36");
    check::<Arm64<14, 47>>("arm64 16K 47");
    check::<Arm64<14, 48>>("arm64 16K 48");
    check::<Arm64<14, 52>>("arm64 16K 52");
}

#[test]
fn laws_hold_for_arm64_with_64k_pages() {
    check::<Arm64<16, 42>>("arm64 64K 42");
    check::<Arm64<16, 48>>("arm64 64K 48");
    check::<Arm64<16, 52>>("arm64 64K 52");
}

#[test]
fn laws_hold_for_x86_with_four_levels() {
    check::<X86Level4>("x86 4");
}

#[test]
fn laws_hold_for_x86_with_five_levels() {
    check::<X86Level5>("x86 5");
}

#[test]
fn laws_hold_for_i386_with_64_bit_entries() {
    check::<I386Pae>("i386 PAE");
}

#[test]
fn laws_hold_for_i386_with_32_bit_entries() {
    check::<I386Level2>("i386");
}
