//! Every bit of an entry has a name: in every era and form, and those that Linux's own listing prints the right one.

use kernmem_arch::arm64::{self, MemoryType, Output};
use kernmem_arch::i386::layout::Paging;
use kernmem_arch::{Entry, Field, i386, named, x86};
use kernmem_base::{Era, Granule, Level, PhysAddr};

const FORMS: [Output; 3] = [Output::Plain, Output::Lpa, Output::Lpa2];

/// One entry of each kind that has bits.
fn kinds() -> [Entry<u64>; 4] {
    let nowhere = PhysAddr(0);
    [
        Entry::Table { next: nowhere, attrs: 0 },
        Entry::Leaf { base: nowhere, attrs: 0 },
        Entry::Absent { sw: 1 },
        Entry::Reserved { raw: 1 },
    ]
}

/// The union of the masks, which share no bit.
#[track_caller]
fn cover(fields: &[Field], what: &str) -> u64 {
    fields.iter().fold(0, |seen, field| {
        assert_eq!(seen & field.mask(), 0, "{what}: {} shares a bit", field.name);
        assert!(!field.name.is_empty() && !field.meaning.is_empty());
        seen | field.mask()
    })
}

/// Bits that hold the address of a page in place.
fn low_bits(form: Output, granule: Granule) -> u64 {
    let top = if form == Output::Lpa2 { 50 } else { 48 };
    ((1 << top) - 1) & !(granule.bytes() - 1)
}

#[test]
fn every_bit_of_an_arm64_descriptor_has_one_name() {
    for (era, form) in Era::ALL.into_iter().flat_map(|era| FORMS.map(|form| (era, form))) {
        // The least page size that has the form: its address takes the most bits.
        let granule = if form == Output::Lpa { Granule::K64 } else { Granule::K4 };
        for (level, kind) in Level::ALL.into_iter().flat_map(|level| kinds().map(|kind| (level, kind))) {
            let what = format!("{era} {form:?} {level} {kind:?}");
            let seen = cover(arm64::fields(era, form, level, &kind), &what);
            assert_eq!(
                seen | low_bits(form, granule),
                !0,
                "{what}: {:#x} has no name",
                !(seen | low_bits(form, granule))
            );
            assert_eq!(seen & form.high_mask(), form.high_mask(), "{what}");
        }
    }
}

#[test]
fn every_bit_of_an_x86_entry_has_one_name() {
    for (era, level) in Era::ALL.into_iter().flat_map(|era| Level::ALL.map(|level| (era, level))) {
        for kind in kinds() {
            let what = format!("{era} {level} {kind:?}");
            let seen = cover(x86::fields(era, level, &kind), &what);
            assert_eq!(seen | x86::bit::FRAME, !0, "{what}: {:#x} has no name", !(seen | x86::bit::FRAME));
        }
    }
}

#[test]
fn every_bit_of_an_i386_entry_has_one_name() {
    for (era, level) in Era::ALL.into_iter().flat_map(|era| Level::ALL.map(|level| (era, level))) {
        for kind in kinds() {
            let of =
                |paging| cover(i386::fields(era, paging, level, &kind), &format!("{era} {paging:?} {level} {kind:?}"));
            assert_eq!(of(Paging::Pae) | x86::bit::FRAME, !0, "{era} {level} {kind:?}");
            assert_eq!((of(Paging::Level2) | x86::bit::FRAME) as u32, u32::MAX, "{era} {level} {kind:?}");
            assert_eq!(of(Paging::Level2) >> 32, 0);
        }
    }
    let root = i386::fields(Era::V6_12, Paging::Pae, Level::Pgd, &Entry::Table { next: PhysAddr(0), attrs: 0 });
    assert_eq!(
        [1, 2, 10, 63].map(|nr| name(root, nr)),
        [Some("RES0[2:1]"), Some("RES0[2:1]"), Some("NOPTISHADOW"), Some("RES0[63:52]")]
    );
}

/// The name of bit `nr` in `fields`.
fn name(fields: &'static [Field], nr: u32) -> Option<&'static str> {
    fields.iter().find(|field| field.mask() >> nr & 1 == 1).map(|field| field.name)
}

/// Facts: the columns of `kernel_page_tables` and the bits they look at, 0x0074_0000_0000_0fdf in all (4.14 without
/// bit 50).
#[test]
fn every_bit_that_the_arm64_listing_prints_has_the_name_of_its_column() {
    let columns = [
        (0, "VALID"),
        (1, "TABLE"),
        (2, "AttrIndx"),
        (3, "AttrIndx"),
        (4, "AttrIndx"),
        (6, "AP[1]"),
        (7, "AP[2]"),
        (8, "SH"),
        (9, "SH"),
        (10, "AF"),
        (11, "nG"),
        (50, "GP"),
        (52, "CONT"),
        (53, "PXN"),
        (54, "UXN"),
    ];
    assert_eq!(columns.iter().fold(0_u64, |mask, (nr, _)| mask | 1 << nr), 0x0074_0000_0000_0fdf);
    let leaf = Entry::Leaf { base: PhysAddr(0), attrs: 0 };
    for (era, form) in Era::ALL.into_iter().flat_map(|era| FORMS.map(|form| (era, form))) {
        let fields = arm64::fields(era, form, Level::Pte, &leaf);
        for (nr, expected) in columns {
            let is_address = form == Output::Lpa2 && (nr == 8 || nr == 9);
            let expected = if is_address { "OA[51:50]" } else { expected };
            assert_eq!(name(fields, nr), Some(expected), "{era} {form:?} bit {nr}");
        }
    }
}

/// Every memory type of an era is the value of the same name.
#[test]
fn memory_types_decode_to_their_names() {
    let leaf = Entry::Leaf { base: PhysAddr(0), attrs: 0 };
    for era in Era::ALL {
        let fields = arm64::fields(era, Output::Plain, Level::Pte, &leaf);
        let kinds = fields.iter().find(|field| field.name == "AttrIndx").expect("memory types");
        for kind in MemoryType::ALL {
            let Some(index) = kind.index(era) else { continue };
            assert_eq!(kinds.value_name(index << 2), Some(kind.name().trim_start_matches("DEVICE_")), "{era}");
        }
    }
}

/// Facts: the columns of `page_tables/kernel`; every other bit but the frame decides where a line ends.
#[test]
fn every_bit_that_the_x86_listing_prints_has_the_name_of_its_column() {
    let leaf = Entry::Leaf { base: PhysAddr(0), attrs: 0 };
    for era in Era::ALL {
        for (level, seventh, twelfth) in
            [(Level::Pte, "PAT", None), (Level::Pmd, "PS", Some("PAT")), (Level::Pud, "PS", Some("PAT"))]
        {
            let fields = x86::fields(era, level, &leaf);
            for (nr, expected) in [
                (0, Some("P")),
                (1, Some("RW")),
                (2, Some("US")),
                (3, Some("PWT")),
                (4, Some("PCD")),
                (7, Some(seventh)),
                (8, Some("G")),
                (12, twelfth),
                (63, Some("XD")),
            ] {
                assert_eq!(name(fields, nr), expected, "{era} {level} bit {nr}");
            }
        }
    }
}

/// The words for a raw entry, flags by name and values by name.
fn words(fields: &[Field], raw: u64) -> Vec<String> {
    named(fields, raw)
        .map(|field| match (field.value_name(raw), field.width) {
            (Some(value), _) => format!("{}={value}", field.name),
            (None, 1) => field.name.to_owned(),
            (None, _) => format!("{}={}", field.name, field.value(raw)),
        })
        .collect()
}

/// By hand, of values in the facts: kernel data of 6.1, the same page in LPA2 with the upper address bits 51:50 = 2,
/// and a page that debugging made invalid in 7.2 (nG there says "present").
#[test]
fn entries_read_as_the_manual_has_them() {
    let leaf = Entry::Leaf { base: PhysAddr(0), attrs: 0 };
    let data = arm64::fields(Era::V6_1, Output::Plain, Level::Pte, &leaf);
    let plain = ["VALID", "TABLE", "AttrIndx=NORMAL", "SH=inner", "AF", "DBM", "PXN", "UXN", "DIRTY"];
    assert_eq!(words(data, 0x00e8_0000_0000_0703), plain);
    let lpa2 = arm64::fields(Era::V6_12, Output::Lpa2, Level::Pte, &leaf);
    let wide = ["VALID", "TABLE", "AttrIndx=NORMAL", "OA[51:50]=2", "AF", "DBM", "PXN", "UXN", "DIRTY"];
    assert_eq!(words(lpa2, 0x00e8_0000_0000_0603), wide);
    let absent = arm64::fields(Era::V7_2, Output::Plain, Level::Pte, &Entry::Absent { sw: 1 });
    let invalid =
        ["TABLE", "AttrIndx=NORMAL_TAGGED", "SH=inner", "AF", "PRESENT_INVALID", "DBM", "PXN", "UXN", "DIRTY"];
    assert_eq!(words(absent, 0x00e8_0000_0000_0f06), invalid);
    let none = arm64::fields(Era::V6_1, Output::Plain, Level::Pte, &Entry::Absent { sw: 1 });
    assert!(words(none, 0x0460_0000_0000_0f82).contains(&"PROT_NONE".to_owned()));
}

/// Facts: 58 is the dirty mark of a write-protected page from 6.12 on, "not mirrored" in a root; 57 device memory in
/// 6.12 alone; 11 keeps kernel pages small in 7.2.
#[test]
fn software_bits_of_x86_change_their_meaning_with_the_era() {
    let leaf = Entry::Leaf { base: PhysAddr(0), attrs: 0 };
    let table = Entry::Table { next: PhysAddr(0), attrs: 0 };
    let of = |era, level, entry| x86::fields(era, level, entry);
    for (era, expected) in [
        (Era::V5_10, ["AVL[57:52]", "SOFTW4"]),
        (Era::V6_1, ["AVL[57:52]", "SOFTW4"]),
        (Era::V6_12, ["SOFTW4", "SAVED_DIRTY"]),
        (Era::V7_2, ["SOFTW4", "SAVED_DIRTY"]),
    ] {
        let fields = of(era, Level::Pte, &leaf);
        assert_eq!([57, 58].map(|nr| name(fields, nr)), expected.map(Some), "{era}");
    }
    assert_eq!(name(of(Era::V7_2, Level::Pgd, &table), 58), Some("NOPTISHADOW"));
    assert_eq!(name(of(Era::V7_2, Level::Pud, &table), 58), Some("SOFTW5"));
    let meaning = |era| of(era, Level::Pte, &leaf).iter().find(|field| field.shift == 11).map(|field| field.meaning);
    assert_ne!(meaning(Era::V6_12), meaning(Era::V7_2));
}
