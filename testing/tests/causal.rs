//! Reasons are causes: see `kernmem_testing::causal`.

use std::collections::BTreeSet;
use std::path::Path;

use kernmem_arch::Opt;
use kernmem_testing::causal;

/// Runs the causal test on recordings of one set; `expected` are options that must have been flipped somewhere.
fn check(set: &str, names: &[&str], expected: &[Opt]) {
    let mut flipped = BTreeSet::new();
    for name in names {
        let tally = causal(&Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings").join(set).join(name));
        println!(
            "{name}: {} leaves, {} flips, {} changed, {} stayed",
            tally.leaves,
            tally.flips.len(),
            tally.changed,
            tally.stayed
        );
        assert!(tally.failures.is_empty(), "{name}:\n{}", tally.failures.join("\n"));
        flipped.extend(tally.flips.into_iter().flatten());
    }
    for option in expected {
        assert!(flipped.contains(option), "no leaf of {names:?} names {option:?}");
    }
}

#[test]
fn arm64_leaves_change_with_the_options_they_name() {
    let names = [
        "a-4G",
        "a-4G-rodata-off",
        "a-dpa",
        "a-kaslr2-full",
        "a-max",
        "a-mem-3000M-rodata-off",
        "a-nomap-rodata-off",
        "kexec-crash-rodata-off",
        "kfence-2G",
    ];
    let expected = [Opt::Rodata, Opt::DebugPagealloc, Opt::Kaslr, Opt::Mem, Opt::Crashkernel, Opt::KfenceInterval];
    check("arm64", &names, &expected);
}

#[test]
fn x86_leaves_change_with_the_options_they_name() {
    let names = ["x-4G", "x-4G-pti", "x-rodata-off", "x-4G-nogbpages", "x-dpa", "x-mem", "x-memmap-hole", "x-4G-kaslr"];
    check("x86", &names, &[Opt::Rodata, Opt::Pti, Opt::Gbpages, Opt::DebugPagealloc, Opt::Mem, Opt::Memmap]);
}

/// One boot of every page size and depth of arm64.
#[test]
fn leaves_of_every_arm64_geometry_change_with_the_options_they_name() {
    let names = [
        "16k36-4G-rodata-off",
        "16k47-4G-rodata-off",
        "16k48-odd-kaslr",
        "4k39-4G-rodata-off",
        "64k42-4G-rodata-off",
        "64k52-odd-kaslr",
    ];
    check("arm64", &names, &[Opt::Rodata]);
}

/// Five levels, and i386 with two and three.
#[test]
fn leaves_of_every_depth_of_x86_change_with_the_options_they_name() {
    check("x86", &["x-4G-la57-kaslr", "i386-2G", "i386-dpa", "pae-odd"], &[Opt::Rodata, Opt::DebugPagealloc, Opt::Pti]);
}

/// Kernels of 5.10, 6.12 and 7.2.
#[test]
fn leaves_of_every_era_change_with_the_options_they_name() {
    let names = ["a510-4k48", "a612-4k52", "a72-4k48", "x510-64", "x612-64", "x72-64"];
    check("dumps", &names, &[Opt::Rodata, Opt::Kaslr]);
}

/// Every recording of a set.
fn check_all(set: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings").join(set);
    let entries = std::fs::read_dir(folder).expect("a folder of recordings");
    let names = entries.map(|entry| entry.expect("a readable folder").file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.collect();
    names.sort();
    check(set, &names.iter().map(String::as_str).collect::<Vec<_>>(), &[]);
}

#[test]
#[ignore = "a minute: run by `cargo test -p kernmem-testing causal -- --ignored`"]
fn leaves_of_every_recording_change_with_the_options_they_name() {
    for set in ["arm64", "arm64-eras", "x86", "x86-eras", "dumps"] {
        check_all(set);
    }
}
