//! `diff --minimal`: which options turn one kernel's page tables into others. Expected sets are the words with which
//! the recordings were made, and what an engineer knows to do the same.
#![allow(clippy::unwrap_used, reason = "functions that tests share fail as tests do")]

use crate::common::{file, kernmem, recording};

/// The sets that are found, each as its changes, sorted.
#[track_caller]
fn sets(a: &str, b: &str, options: &[&str]) -> Vec<Vec<String>> {
    let args = [&["diff", "--minimal", "--json", a, b], options].concat();
    let said = kernmem(&args);
    assert_eq!(said.err, "", "{said:?}");
    let answer: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(answer["schema"], "kernmem.diff-minimal");
    let text = |change: &serde_json::Value| change["change"].as_str().unwrap().to_owned();
    let set = |set: &serde_json::Value| set.as_array().unwrap().iter().map(text).collect::<Vec<_>>();
    let mut sets: Vec<Vec<String>> = answer["sets"].as_array().unwrap().iter().map(set).collect();
    sets.iter_mut().for_each(|set| set.sort());
    sets.sort();
    assert_eq!((said.status, answer["found"].as_bool()), (i32::from(sets.is_empty()), Some(!sets.is_empty())));
    sets
}

/// The listing that a recording's kernel printed.
fn listing(set: &str, name: &str) -> String {
    let file = if set == "arm64" { "kernel_page_tables" } else { "page_tables_kernel" };
    format!("{}/{file}", recording(set, name))
}

#[test]
fn rodata_off_is_the_one_word_between_two_recordings() {
    let (default, off) = (recording("arm64", "a-4G"), recording("arm64", "a-4G-rodata-off"));
    let word = [["rodata=off on the command line"]];
    assert_eq!(sets(&default, &listing("arm64", "a-4G-rodata-off"), &[]), word);
    assert_eq!(sets(&default, &off, &[]), word);
    // Back: without the word, or with the one that names the default of this configuration.
    let back = [["no rodata on the command line"], ["rodata=full on the command line"]];
    assert_eq!(sets(&off, &listing("arm64", "a-4G"), &[]), back);
    assert_eq!(sets(&default, &listing("arm64", "a-4G"), &[]), [Vec::<String>::new()]);
}

#[test]
fn large_pages_are_refused_by_a_word_a_configuration_or_a_cpu() {
    let found = sets(&recording("x86", "x-4G-1g"), &listing("x86", "x-4G-nogbpages"), &[]);
    assert_eq!(found, [["CONFIG_X86_DIRECT_GBPAGES=n"], ["a CPU without pdpe1gb"], ["nogbpages on the command line"]]);
}

#[test]
fn isolation_is_turned_off_by_a_word_a_configuration_or_a_cpu_that_does_not_leak() {
    let found = sets(&recording("x86", "x-4G"), &listing("x86", "x-4G-nopti"), &[]);
    let expected = [
        ["CONFIG_PAGE_TABLE_ISOLATION=n"],
        ["a CPU without bug:cpu_meltdown"],
        ["mitigations=off on the command line"],
        ["nopti on the command line"],
    ];
    assert_eq!(found, expected);
    // Where the line says pti=on, the CPU and mitigations= are not asked.
    let found = sets(&recording("x86", "x-4G-pti"), &listing("x86", "x-4G-nopti"), &[]);
    assert_eq!(found, [["CONFIG_PAGE_TABLE_ISOLATION=n"], ["nopti on the command line"]]);
}

#[test]
fn a_crash_kernel_is_found_though_its_size_leaves_no_trace() {
    let none = recording("arm64", "kexec-no-crash");
    let expected = [["crashkernel=256M on the command line"], ["crashkernel=512M on the command line"]];
    assert_eq!(sets(&none, &listing("arm64", "kexec-crash-rodata-off"), &[]), expected);
    // A source has words of its own, which are tried too.
    let high = ["--cmdline-b", "console=ttyAMA0 rodata=off crashkernel=512M,high rec=none"];
    let found = sets(&none, &none, &high);
    assert!(found.contains(&vec!["crashkernel=512M,high on the command line".to_owned()]), "{found:?}");
}

#[test]
fn free_pages_that_are_unmapped_show_in_a_listing_alone() {
    let found = sets(&recording("x86", "x-1G"), &listing("x86", "x-dpa"), &["--up-to", "1"]);
    assert_eq!(found, [["CONFIG_DEBUG_PAGEALLOC_ENABLE_DEFAULT=y"], ["debug_pagealloc=on on the command line"]]);
}

#[test]
fn two_words_are_found_together_and_neither_alone() {
    let (from, to) = (recording("x86", "x-4G-1g"), listing("x86", "x-4G-nopti"));
    assert!(sets(&from, &to, &["--up-to", "1"]).is_empty());
    let words = sets(&from, &to, &["--only", "word"]);
    let expected = [
        ["mitigations=off on the command line", "nogbpages on the command line"],
        ["nogbpages on the command line", "nopti on the command line"],
    ];
    assert_eq!(words, expected);
    let cpus = sets(&from, &to, &["--only", "cpu"]);
    assert_eq!(cpus, [["a CPU without bug:cpu_meltdown", "a CPU without pdpe1gb"]]);
}

#[test]
fn memory_is_cut_to_what_a_listing_maps() {
    let found = sets(&recording("arm64", "a-4G-rodata-off"), &listing("arm64", "a-mem-3000M-rodata-off"), &[]);
    assert_eq!(found, [["mem=3072000K on the command line"]]);
}

#[test]
fn of_many_words_those_that_matter_are_left() {
    let args = ["--cmdline", "console=ttyAMA0", "--cmdline-b", "quiet rodata=off console=x kpti=off nr_cpus=2"];
    assert_eq!(sets("arm64-4g", "arm64-4g", &args), [["rodata=off on the command line"]]);
}

#[test]
fn another_machine_has_no_answer() {
    let said = kernmem(&["diff", "--minimal", "arm64-4g", &listing("arm64", "a-8G-rodata-off"), "--up-to", "1"]);
    assert_eq!((said.status, said.err.as_str()), (1, ""));
    assert!(said.out.contains("no set of up to 1 of the options"), "{}", said.out);
    assert!(sets("arm64-4g", &listing("arm64", "a-8G-rodata-off"), &["--only", "word,config"]).is_empty());
}

#[test]
fn the_page_names_both_sides_and_the_effort() {
    let listing = listing("arm64", "a-4G-rodata-off");
    let text = kernmem(&["diff", "--minimal", &recording("arm64", "a-4G"), &listing]).good();
    assert!(text.contains("(console=ttyAMA0 rec=none)") && text.contains(&listing), "{text}");
    assert!(text.contains("one change does it") && text.contains("  - rodata=off on the command line\n"), "{text}");
}

#[test]
fn bad_input_is_one_line() {
    let refused = |args: &[&str], words: &[&str]| {
        let line = kernmem(args).refused(2);
        for word in words {
            assert!(line.contains(word), "{args:?}: {line:?} lacks {word:?}");
        }
    };
    refused(&["diff", "--minimal"], &["<A>"]);
    refused(&["diff", "--minimal", "arm64-4g", "no/such"], &["no/such"]);
    refused(&["diff", "--minimal", "no/such", "arm64-4g"], &["no/such"]);
    refused(&["diff", "--minimal", "arm64-4g", "x86-4g"], &["x86-4g", "architecture"]);
    refused(&["diff", "--minimal", "arm64-4g", "--up-to", "9"], &["9", "0..=4"]);
    refused(&["diff", "arm64-4g", "--up-to", "1"], &["--minimal"]);
    refused(&["diff", "--minimal", "arm64-4g", "--only", "colour"], &["colour"]);
    let prose = file("prose-for-minimal", b"this is no listing\n");
    refused(&["diff", "--minimal", "arm64-4g", &prose], &[&prose]);
    refused(&["diff", "--minimal", "-", "-"], &["standard input"]);
}
