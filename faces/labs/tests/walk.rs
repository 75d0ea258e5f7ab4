//! Lab `walk`: reads counted in the simulated memory, by leaf size, on both architectures.

use crate::common::{lab, options, recording, with_cmdline};
use kernmem_base::Era;

/// Document 002: four tables and the datum. A 2M block leaves out one table, a 1G block two.
#[test]
fn larger_leaves_take_fewer_reads() {
    let found = lab("walk", &options(None, false));
    assert_eq!(found.numbers("002.1", ["reads_page", "reads_pmd", "reads_pud"]), [5, 4, 3]);
    assert_eq!(found.numbers("002.1", ["levels", "most"]), [4, 5]);
    assert_eq!(found.holds("002.1", Era::V6_1), "only if");
}

#[test]
fn where_all_leaves_are_pages_every_walk_takes_five() {
    let found = lab("walk", &options(None, true));
    assert_eq!(found.number("002.1", "reads_page"), 5);
    let verdict = found.verdict("002.1", Era::V6_1);
    assert_eq!((verdict.number("reads_pmd"), verdict.number("reads_pud")), (None, None));
    assert_eq!(found.holds("002.1", Era::V6_1), "yes");
}

/// The indices of ffff0000c0000128, in the last gigabyte of the second machine: entry 0 of the root, and entry 63 of
/// 64 of the table below it.
#[test]
fn a_machine_of_64_gib_has_its_last_leaf_in_entry_63() {
    let found = lab("walk", &options(Some(recording("arm64/a-64G-rodata-off")), false));
    assert_eq!(found.numbers("002.1", ["reads_page", "reads_pmd", "reads_pud"]), [5, 4, 3]);
    assert_eq!(found.number("002.1", "va_pud"), 0xffff_0000_0000_0000 + (63 << 30) + 0x128);
    assert!(found.told.contains("PUD table") && found.told.contains("entry  63"), "{}", found.told);
}

/// x86-64 with 1G leaves and without: the same numbers by the same count.
#[test]
fn x86_64_takes_the_same_reads() {
    let found = lab("walk", &options(Some(recording("x86/x-16G-1g")), false));
    assert_eq!(found.numbers("002.1", ["reads_page", "reads_pmd", "reads_pud"]), [5, 4, 3]);
    let found = lab("walk", &options(Some(recording("x86/x-16G-1g")), true));
    assert_eq!(found.numbers("002.1", ["reads_page", "reads_pmd"]), [5, 4]);
    assert_eq!(found.verdict("002.1", Era::V6_1).number("reads_pud"), None, "nogbpages");
}

#[test]
fn a_command_line_is_taken_as_it_is() {
    let found = lab("walk", &with_cmdline(None, "console=ttyAMA0"));
    assert_eq!(found.verdict("002.1", Era::V6_1).number("reads_pud"), None, "full protection is the default");
}
