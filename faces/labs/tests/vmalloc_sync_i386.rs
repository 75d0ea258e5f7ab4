//! `vmalloc-sync-i386`: a thousand processes and eight areas on the tables of booted kernels, with two levels and with PAE.

use crate::common::{Found, lab, options, recording, with_cmdline};
use kernmem_base::Era;

fn two_levels(reverse: bool) -> Found {
    lab("vmalloc-sync-i386", &options(Some(recording("x86/i386-2G")), reverse))
}

/// By hand: every tenth of 1,000 old processes and 24 young ones read 8 areas: 992 reads. Whoever maps carries 8 new entries
/// to 1,000 roots; on fault 100 readers pay for 8 entries each, and without a rule these 800 reads are lost. The young have
/// all entries from birth.
#[track_caller]
fn check_costs(found: &Found) {
    assert_eq!(found.numbers("004.6", ["old", "areas", "young", "reads"]), [1000, 8, 24, 992]);
    assert_eq!(found.numbers("004.6", ["walks", "visited", "copied", "lost"]), [8, 8000, 8000, 0]);
    assert_eq!(found.numbers("004.6", ["faults", "fault_copied", "fault_lost", "none_lost"]), [800, 800, 0, 800]);
}

#[test]
fn both_formats_pay_alike_where_entries_are_copied() {
    check_costs(&two_levels(false));
    check_costs(&lab("vmalloc-sync-i386", &options(None, false)));
    check_costs(&lab("vmalloc-sync-i386", &options(Some(recording("x86/pae-2G")), false)));
}

/// PAE alone has a PMD table that can be shared: no root is on the list then, and nothing is copied.
#[test]
fn shared_tables_need_no_list() {
    let found = lab("vmalloc-sync-i386", &options(None, false));
    let names = ["listed", "shared_walks", "shared_copied", "shared_lost"];
    assert_eq!(found.numbers("004.6", names), [0; 4]);
    let two = two_levels(false);
    assert!(two.verdict("004.6", Era::V6_1).number("listed").is_none());
}

/// By hand: the one entry is written before there is any root, so one walk visits nobody.
#[test]
fn below_an_entry_that_all_have_nothing_is_copied() {
    let found = two_levels(true);
    assert_eq!(found.numbers("004.6", ["walks", "visited", "copied", "lost"]), [1, 0, 0, 0]);
    assert_eq!(found.numbers("004.6", ["reads", "faults", "none_lost"]), [992, 0, 0]);
    assert_eq!(found.holds("004.6", Era::V6_1), "only if");
}

/// Facts: on fault alone up to 5.7; with PAE and without isolation PMD tables are shared up to 6.12.
#[test]
fn each_era_and_configuration_is_told_its_way() {
    let words = |found: &Found| Era::ALL.map(|era| found.holds("004.6", era));
    assert_eq!(words(&two_levels(false)), ["no", "yes", "yes", "yes", "yes"]);
    let isolated = lab("vmalloc-sync-i386", &with_cmdline(None, "pti=on"));
    assert_eq!(words(&isolated), ["no", "yes", "yes", "yes", "yes"]);
    let shared = lab("vmalloc-sync-i386", &with_cmdline(None, "nopti"));
    assert_eq!(words(&shared), ["no", "only if", "only if", "only if", "yes"]);
}
