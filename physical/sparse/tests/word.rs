//! The word of a section descriptor, by era.
#![allow(clippy::unwrap_used, reason = "a test stops where an answer is missing")]

use kernmem_base::{Era, Pfn, VirtAddr};
use kernmem_sparse::{HAS_MAP, Nid, ONLINE, PRESENT, Word, WordFormat};
use proptest::prelude::*;
use proptest::test_runner::Config;

/// Mask, node shift, and the flags for early, device, prepared.
#[track_caller]
fn check(era: Era, zone_device: bool, preinit: bool, mask: u64, nid_shift: u32, flags: [u64; 3]) {
    let format = WordFormat::new(era, zone_device, preinit);
    assert_eq!((format.mask(), format.nid_shift()), (mask, nid_shift));
    assert_eq!([format.early(), format.device(), format.preinit()], flags);
}

#[test]
fn flags_are_where_each_era_has_them() {
    assert_eq!((PRESENT, HAS_MAP, ONLINE), (1, 2, 4));
    check(Era::V4_14, true, false, !0x7, 3, [0, 0, 0]);
    check(Era::V5_10, true, false, !0xf, 3, [8, 0, 0]);
    check(Era::V6_1, true, false, !0x1f, 5, [8, 16, 0]);
    check(Era::V6_1, false, false, !0xf, 4, [8, 0, 0]);
    check(Era::V6_12, true, false, !0x1f, 5, [8, 16, 0]);
    check(Era::V6_12, true, true, !0x1f, 5, [8, 16, 0]);
    check(Era::V7_2, true, true, !0x3f, 6, [8, 16, 32]);
    check(Era::V7_2, true, false, !0x1f, 5, [8, 16, 0]);
    check(Era::V7_2, false, true, !0x1f, 5, [8, 0, 16]);
    check(Era::V7_2, false, false, !0xf, 4, [8, 0, 0]);
}

#[test]
fn a_section_of_the_second_gigabyte_is_coded_as_documented() {
    let format = WordFormat::new(Era::V6_1, true, false);
    let early = format.early_word(Nid(3));
    assert_eq!(early, 3 << 5 | 0b101);
    // Map of section 8: frames 0x40000 on, 64 bytes each.
    let map = VirtAddr(0xffff_fc00_0000_0000);
    let word = format.mapped_word(early, map, Pfn(0x4_0000), 64, format.early()).unwrap();
    assert_eq!(word, 0xffff_fbff_ff00_0000 | 0b1111);
    let coded = VirtAddr(0xffff_fbff_ff00_0000);
    assert_eq!(format.decode(word), Word::Mapped { coded, flags: 0b1111 });
}

#[test]
fn on_5_10_an_odd_node_shares_its_bit_with_the_early_flag() {
    let format = WordFormat::new(Era::V5_10, true, false);
    assert_eq!(format.early_word(Nid(1)), 0b1101);
    assert_eq!(format.decode(0b1101), Word::Early { nid: Nid(1), flags: 0b101 });
    let word = format.mapped_word(0b1101, VirtAddr(1 << 40), Pfn(0), 64, format.early()).unwrap();
    assert_eq!(word, 1 << 40 | 0b1111);
}

#[test]
fn a_map_that_would_cover_the_flags_is_refused() {
    let format = WordFormat::new(Era::V6_1, true, false);
    assert!(format.mapped_word(1, VirtAddr(0x1010), Pfn(0), 64, 0).is_err());
}

fn formats() -> impl Strategy<Value = WordFormat> {
    (prop::sample::select(Era::ALL.to_vec()), any::<bool>(), any::<bool>())
        .prop_map(|(era, zone_device, preinit)| WordFormat::new(era, zone_device, preinit))
}

proptest! {
    #![proptest_config(Config { failure_persistence: None, ..Config::default() })]

    #[test]
    fn encode_undoes_decode(format in formats(), raw: u64) {
        prop_assert_eq!(format.encode(format.decode(raw)), raw);
    }

    #[test]
    fn a_node_comes_back_from_its_early_word(format in formats(), nid: u32) {
        prop_assert_eq!(format.early_nid(format.early_word(Nid(nid))), Nid(nid));
    }

    #[test]
    fn a_map_comes_back_from_its_word(format in formats(), map in 0_u64..1 << 58, section in 0_u64..1 << 25) {
        let (map, first) = (VirtAddr(map << 6), Pfn(section << 15));
        let word = format.mapped_word(0, map, first, 64, PRESENT).unwrap();
        let Word::Mapped { coded, flags } = format.decode(word) else { panic!("{word:#x} has no map") };
        prop_assert_eq!(coded.wrapping_add(first.0 * 64), map);
        prop_assert_eq!(flags, PRESENT | HAS_MAP);
    }
}
