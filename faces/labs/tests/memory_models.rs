//! Lab `memory-models` on a PC, on arm64 and on i386, with memory together and apart.

use crate::common::{Found, lab, options, recording};
use kernmem_base::Era;
use kernmem_labs::{LabError, LabOptions, find, run};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

fn on(machine: &str, apart: bool) -> Found {
    lab("memory-models", &options(Some(machine.to_owned()), apart))
}

/// An array by number is one load, roots are two; back the flags come first. Additions load nothing.
#[track_caller]
fn check_loads(found: &Found, sections: u64) {
    for era in Era::ALL {
        let numbers = |names: [&str; 4]| names.map(|name| found.number_on("003.5", era, name));
        assert_eq!(numbers(["flat_loads", "static_loads", "extreme_loads", "vmemmap_loads"]), [0, 1, 2, 0], "{era}");
        assert_eq!(numbers(["flat_back", "static_back", "extreme_back", "vmemmap_back"]), [0, 2, 3, 0], "{era}");
        assert_eq!(numbers(["flat_agree", "static_agree", "extreme_agree", "vmemmap_agree"]), [sections; 4], "{era}");
    }
}

/// Descriptors, tables and usage maps of one model on 6.1.
#[track_caller]
fn check_space(found: &Found, model: &str, expected: [u64; 3]) {
    let own = ["memmap", "tables", "usage"].map(|part| found.number("003.8", &format!("{model}_{part}")));
    assert_eq!(own, expected, "{model}");
}

/// Facts 2.1: x86-64 can be built without a vmemmap up to 6.12, arm64 up to 5.10.
#[test]
fn slower_is_who_can_choose_sections_alone() {
    let holds = |found: &Found| Era::ALL.map(|era| found.holds("003.5", era));
    let pc = lab("memory-models", &options(None, false));
    assert_eq!(holds(&pc), ["only if", "only if", "only if", "only if", "no"]);
    assert_eq!(holds(&on("arm64-4g", false)), ["only if", "only if", "no", "no", "no"]);
    assert_eq!(holds(&on("i386-2g", false)), ["only if"; 5]);
}

/// 0 to 3 GiB and 4 to 5 GiB: 32 sections of 128M with 2M of descriptors each, 1 root of 256. Flat: 5 GiB / 4K * 64.
/// Roots: 2^19 / 256 pointers and one page; the static array 2^19 * 16. A vmemmap has a PUD and a PMD table more.
/// Usage maps: 16 + 32 bytes, 8 more with subsections; flat: 2560 pageblocks of 4 bits.
#[test]
fn a_pc_with_its_hole() {
    let found = lab("memory-models", &options(None, false));
    check_loads(&found, 32);
    check_space(&found, "flat", [80 * MIB, 0, 1280]);
    check_space(&found, "static", [64 * MIB, 8 * MIB, 32 * 48]);
    check_space(&found, "extreme", [64 * MIB, 16 * KIB + 4 * KIB, 32 * 48]);
    check_space(&found, "vmemmap", [64 * MIB, 20 * KIB + 8 * KIB, 32 * 56]);
    assert_eq!(found.number("003.8", "more"), 8 * KIB + 32 * 8);
    // 4.14 has no subsections.
    assert_eq!(found.number_on("003.8", Era::V4_14, "more"), 8 * KIB);
    // Four levels, a leaf in the third.
    assert_eq!(found.numbers("003.5", ["vmemmap_walk", "vmemmap_leaf"]), [3, 2 * MIB]);
}

/// The gigabyte at 4 GiB moves to 516 GiB: section 4128, another root; descriptors 8.06 GiB into the vmemmap, another
/// PMD table. The flat array spans 517 GiB of 16M of descriptors each.
#[test]
fn memory_far_apart_makes_a_flat_array_large() {
    let found = lab("memory-models", &options(None, true));
    check_loads(&found, 32);
    check_space(&found, "flat", [517 * 16 * MIB, 0, 517 * 512 / 2]);
    check_space(&found, "extreme", [64 * MIB, 16 * KIB + 8 * KIB, 32 * 48]);
    check_space(&found, "vmemmap", [64 * MIB, 24 * KIB + 12 * KIB, 32 * 56]);
}

/// 4 GiB from 1 GiB, 48 bits: 2^21 sections, 8192 roots.
#[test]
fn arm64_has_more_roots() {
    let found = on("arm64-4g", false);
    check_loads(&found, 32);
    check_space(&found, "flat", [64 * MIB, 0, 1024]);
    check_space(&found, "static", [64 * MIB, 32 * MIB, 32 * 48]);
    check_space(&found, "extreme", [64 * MIB, 64 * KIB + 4 * KIB, 32 * 48]);
    check_space(&found, "vmemmap", [64 * MIB, 68 * KIB + 8 * KIB, 32 * 56]);
    // Sections of 1 GiB: 2^18 of them, 1024 roots; four usage maps of 16 + 256 bytes, 64 more with subsections.
    let old = |name| found.number_on("003.8", Era::V5_10, name);
    assert_eq!([old("extreme_tables"), old("extreme_usage")], [8 * KIB + 4 * KIB, 4 * 272]);
    assert_eq!([old("vmemmap_tables"), old("vmemmap_usage")], [12 * KIB + 8 * KIB, 4 * 336]);
}

/// PAE: 2 GiB are four sections of 512M, each with 4M of descriptors of 32 bytes; 128 words of 8 bytes; no vmemmap.
#[test]
fn i386_has_an_array_of_sections_or_a_flat_one() {
    let found = on("i386-2g", false);
    assert_eq!(found.numbers("003.5", ["flat_loads", "static_loads", "flat_back", "static_back"]), [0, 1, 0, 2]);
    assert_eq!(found.numbers("003.5", ["flat_agree", "static_agree"]), [4, 4]);
    check_space(&found, "flat", [16 * MIB, 0, 512]);
    check_space(&found, "static", [16 * MIB, KIB, 4 * 136]);
    assert!(found.verdict("003.5", Era::V6_1).number("extreme_loads").is_none());
    assert_eq!(found.holds("003.8", Era::V6_1), "no");
}

/// A kernel moved by KASLR reads its base from a variable; the loads of tables are the same.
#[test]
fn a_moved_kernel_loads_no_table_either() {
    let found = on(&recording("x86/x-4G-kaslr"), false);
    assert_eq!(found.numbers("003.5", ["vmemmap_loads", "vmemmap_back"]), [0, 0]);
    assert!(found.told.contains(
        "vmemmap: loads that wait for each other: 0 for pfn_to_page, 0 for page_to_pfn; variables of the kernel: 1"
    ));
    let fixed = lab("memory-models", &options(None, false));
    assert!(fixed.told.contains("0 for page_to_pfn; variables of the kernel: 0"), "{}", fixed.told);
}

/// What is measured differs each time: only that it is told, and with which words.
#[test]
fn measuring_adds_sentences_and_changes_no_verdict() {
    let counted = lab("memory-models", &options(None, false));
    let measured = lab("memory-models", &LabOptions { measure: true, ..LabOptions::default() });
    // One section, 64 GiB, 16 TiB; there and back, apart and chained.
    let lines = measured.told.lines().filter(|line| line.contains(" ns; by the flat one's time")).count();
    assert_eq!(lines, 3 * 4, "{}", measured.told);
    assert!(!counted.told.contains("by the flat one's time"));
    for (one, other) in counted.verdicts.iter().zip(&measured.verdicts) {
        assert_eq!((one.claim, one.era, one.holds), (other.claim, other.era, other.holds));
    }
}

#[test]
fn a_lab_that_only_counts_refuses_to_measure() {
    let options = LabOptions { measure: true, ..LabOptions::default() };
    let error = run(find("flip").unwrap(), &options, &mut String::new()).unwrap_err();
    assert!(matches!(error, LabError::NothingToMeasure { lab: "flip" }), "{error}");
}
