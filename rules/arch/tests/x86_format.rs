//! The laws of x86-64's entry formats, and hand-made entries.

use kernmem_arch::x86::{X86Attrs, X86Level4, X86Level5, bit, listed_as_leaf};
use kernmem_arch::{Entry, EntryFormat};
use kernmem_base::{Era, Level, PhysAddr};

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

fn laws_hold<F: EntryFormat<Attrs = X86Attrs>>(raw: u64, level: Level) {
    let entry = F::decode(raw, level);
    assert_eq!(F::encode(entry, level), Ok(raw), "{raw:#x} at {level}");
    if let Entry::Leaf { base, attrs } = entry {
        assert_eq!(base.0 & F::bits(attrs), 0, "{raw:#x} at {level}");
        let page = F::page_attrs(attrs, level);
        assert_eq!(F::leaf_attrs(page, level, false), attrs, "{raw:#x} at {level}");
        for size in F::shape().leaves {
            let large = F::leaf_attrs(page, size.level, size.contiguous);
            assert_eq!(F::page_attrs(large, size.level), page, "{raw:#x} at {level}");
        }
    }
    assert_eq!(matches!(entry, Entry::Absent { .. }), raw & bit::PRESENT == 0);
}

#[test]
fn laws_hold_for_every_class_of_bits_and_for_random_raws() {
    // the low 14 bits and the top bits decide the meaning; the frame in between is sampled
    let frames = [0, 0x1000, 0x2000, 0x1f_f000, 0x20_0000, 0x4000_0000, 0x000f_ffff_ffff_f000, 0x000f_ffff_c000_0000];
    let tops = [0, bit::NX, 1 << 58, 1 << 57, bit::PKEY, !0 << 52];
    let mut checked = 0;
    for level in Level::ALL {
        for low in 0..1 << 14 {
            for frame in frames {
                for top in tops {
                    laws_hold::<X86Level4>(low | frame | top, level);
                    laws_hold::<X86Level5>(low | frame | top, level);
                    checked += 1;
                }
            }
        }
        for raw in Seeded(1).take(100_000) {
            laws_hold::<X86Level4>(raw, level);
            laws_hold::<X86Level5>(raw, level);
            checked += 1;
        }
        assert_eq!(X86Level4::decode(0, level), Entry::Absent { sw: 0 });
    }
    println!("x86 entries: {checked} raws");
}

#[test]
fn a_size_mark_makes_a_leaf_only_where_the_cpu_has_leaves() {
    let raw = 0x8000_0000_4000_01e3;
    let attrs = X86Attrs(0x8000_0000_0000_01e3);
    for level in [Level::Pud, Level::Pmd] {
        assert_eq!(X86Level4::decode(raw, level), Entry::Leaf { base: PhysAddr(0x4000_0000), attrs });
    }
    assert_eq!(X86Level4::decode(raw, Level::Pgd), Entry::Reserved { raw });
    assert_eq!(X86Level5::decode(raw, Level::P4d), Entry::Reserved { raw });
    // bit 7 of a page is its memory type
    assert_eq!(X86Level4::decode(raw, Level::Pte), Entry::Leaf { base: PhysAddr(0x4000_0000), attrs });
}

#[test]
fn address_bits_below_a_leafs_size_are_reserved() {
    let raw = 0x4020_00e3;
    assert_eq!(X86Level4::decode(raw, Level::Pud), Entry::Reserved { raw });
    assert!(matches!(X86Level4::decode(raw, Level::Pmd), Entry::Leaf { .. }));
    let raw = 0x4000_30e3; // bit 12 is the memory type, bit 13 nothing
    assert_eq!(X86Level4::decode(raw, Level::Pmd), Entry::Reserved { raw });
}

#[test]
fn the_memory_type_moves_with_the_size() {
    let write_through = X86Attrs(0x8000_0000_0000_01fb); // PWT, PCD, PAT
    let large = X86Level4::leaf_attrs(write_through, Level::Pmd, false);
    assert_eq!(large, X86Attrs(0x8000_0000_0000_11fb));
    assert_eq!(X86Level4::page_attrs(large, Level::Pmd), write_through);
    let data = X86Level4::leaf_attrs(X86Attrs(0x8000_0000_0000_0163), Level::Pud, false);
    assert_eq!(data, X86Attrs(0x8000_0000_0000_01e3));
}

#[test]
fn a_misaligned_leaf_cannot_be_encoded() {
    let leaf = Entry::Leaf { base: PhysAddr(0x20_1000), attrs: X86Attrs(0xe3) };
    assert!(X86Level4::encode(leaf, Level::Pmd).is_err());
    assert!(X86Level4::encode(leaf, Level::Pud).is_err());
    assert!(X86Level4::encode(Entry::Table { next: PhysAddr(0x1000), attrs: X86Attrs(0xe3) }, Level::Pud).is_err());
}

#[test]
fn shapes_have_the_text_form_of_their_levels() {
    assert_eq!(X86Level4::shape().to_string(), "x86_64:12,9,9,9,9");
    assert_eq!(X86Level5::shape().to_string(), "x86_64:12,9,9,9,9,9");
    assert_eq!((X86Level4::shape().va_bits(), X86Level5::shape().va_bits()), (48, 57));
    assert_eq!(X86Level4::shape().root_range(273, true).start.0, 0xffff_8880_0000_0000);
}

#[test]
fn a_listing_takes_an_absent_large_entry_for_a_leaf() {
    let absent_2m = 0x20_00e0;
    assert!(listed_as_leaf(Era::V6_1, absent_2m, Level::Pmd));
    assert!(!listed_as_leaf(Era::V6_1, absent_2m, Level::Pud));
    assert!(listed_as_leaf(Era::V6_12, absent_2m, Level::Pud));
    assert!(!listed_as_leaf(Era::V6_12, absent_2m | 1, Level::Pgd));
}
