//! Every built-in kernel boots on its preset and makes the tables that the real kernel made on the same machine; what
//! is not built in is refused in one line.
#![allow(clippy::unwrap_used, reason = "functions that tests share fail as tests do")]

use crate::common::{file, json, kernmem, recording};

/// One built-in kernel: the options that choose it, and a recording of it on the preset's machine.
struct Case {
    kernel: &'static str,
    preset: &'static str,
    options: &'static [&'static str],
    set: &'static str,
    recording: &'static str,
    /// Words that make up for what chance did: these CPUs draw a random seed themselves, and a moved kernel isolates
    /// page tables.
    words: &'static str,
}

const fn arm64(kernel: &'static str, options: &'static [&'static str], recording: &'static str) -> Case {
    Case { kernel, preset: "arm64-4g", options, set: "arm64-eras", recording, words: "" }
}

/// A recording with a CPU that has a source of random numbers.
const fn arm64_max(kernel: &'static str, options: &'static [&'static str], recording: &'static str) -> Case {
    Case { kernel, preset: "arm64-4g", options, set: "arm64", recording, words: " kpti=on" }
}

const fn x86(kernel: &'static str, options: &'static [&'static str], set: &'static str, name: &'static str) -> Case {
    let preset = if kernel.as_bytes()[0] == b'i' { "i386-2g" } else { "x86-4g" };
    Case { kernel, preset, options, set, recording: name, words: "" }
}

const CASES: [Case; 24] = [
    arm64("a510-4k39", &["--era", "5.10", "--va-bits", "39"], "5.10-4k39-4G-a72"),
    arm64("a510-4k48", &["--era", "5.10"], "5.10-4k48-4G-a72"),
    arm64("a510-64k52", &["--era", "5.10", "--page-size", "64K"], "5.10-64k52-4G-a72"),
    arm64_max("a61-4k39", &["--va-bits", "39", "--cpu", "max"], "4k39-4G"),
    Case { set: "arm64", ..arm64("a61-4k48", &[], "a-4G") },
    arm64_max("a61-16k36", &["--page-size", "16K", "--va-bits", "36", "--cpu", "max"], "16k36-4G"),
    arm64_max("a61-16k47", &["--page-size", "16K", "--va-bits", "47", "--cpu", "max"], "16k47-4G"),
    arm64_max("a61-16k48", &["--page-size", "16K", "--cpu", "max"], "16k48-4G-rodata-off"),
    arm64_max("a61-64k42", &["--page-size", "64K", "--va-bits", "42", "--cpu", "max"], "64k42-4G"),
    arm64_max("a61-64k52", &["--page-size", "64K", "--cpu", "max"], "64k52-4G-rodata-off"),
    arm64("a612-4k48", &["--era", "6.12"], "6.12-4k48-4G-a72"),
    arm64("a612-4k52", &["--era", "6.12", "--va-bits", "52"], "6.12-4k52-4G-a72"),
    Case {
        words: " kpti=on",
        ..arm64("a612-16k52", &["--era", "6.12", "--page-size", "16K", "--cpu", "max"], "6.12-16k52-4G-a72")
    },
    arm64("a612-64k52", &["--era", "6.12", "--page-size", "64K"], "6.12-64k52-4G-a72"),
    arm64("a72-4k48", &["--era", "7.2"], "7.2-4k48-4G-a72"),
    arm64("a72-4k52", &["--era", "7.2", "--va-bits", "52"], "7.2-4k52-4G-a72"),
    x86("x510-64", &["--era", "5.10"], "x86-eras", "5.10-4G"),
    x86("x61-64", &[], "x86", "x-4G"),
    x86("x612-64", &["--era", "6.12"], "x86-eras", "6.12-4G"),
    x86("x72-64", &["--era", "7.2"], "x86-eras", "7.2-4G"),
    x86("i510-pae", &["--era", "5.10"], "x86-eras", "5.10-pae-2G"),
    x86("i61-pae", &[], "x86", "pae-2G"),
    x86("i61-2l", &["--cpu=-pae"], "x86", "i386-2G"),
    x86("i612-2l", &["--era", "6.12"], "x86-eras", "6.12-i386-2G"),
];

/// The part of a listing that follows from the machine, the command line and the kernel alone: on arm64 the linear map,
/// on x86-64 all in front of vmalloc, on i386 everything.
fn what_follows(preset: &str, listing: &str) -> String {
    let last = match preset {
        "arm64-4g" => "---[ Linear Mapping end ]---",
        "x86-4g" => "---[ vmalloc() Area ]---",
        _ => return listing.to_owned(),
    };
    let (part, _) = listing.split_once(last).unwrap();
    part.to_owned()
}

#[test]
fn every_built_in_kernel_makes_the_tables_that_were_recorded() {
    for case in &CASES {
        let folder = recording(case.set, case.recording);
        let boot = std::fs::read_to_string(format!("{folder}/boot.json")).unwrap();
        let boot: serde_json::Value = serde_json::from_str(&boot).unwrap();
        assert_eq!(boot["kernel"], case.kernel);
        let line = format!("{}{}", boot["cmdline"].as_str().unwrap(), case.words);
        let options = [case.options, &["--cmdline", &line]].concat();
        let ours = kernmem(&[&["ptdump", case.preset], options.as_slice()].concat()).good();
        let name = if case.preset == "arm64-4g" { "kernel_page_tables" } else { "page_tables_kernel" };
        let real = std::fs::read_to_string(format!("{folder}/{name}")).unwrap();
        let (ours, real) = (what_follows(case.preset, &ours), what_follows(case.preset, &real));
        assert!(real.lines().count() >= 3, "{}", case.kernel);
        assert_eq!(ours, real, "{}", case.kernel);
        let told = kernmem(&[&["boot", case.preset], options.as_slice()].concat()).good();
        let kernel = format!("configuration and symbols from built-in kernel {}\n", case.kernel);
        assert!(told.contains(&kernel), "{}: {told}", case.kernel);
    }
}

#[test]
fn every_wish_boots_or_is_refused_by_what_is_built_in() {
    let mut booted = 0;
    for (preset, eras, pages, bits) in [
        ("arm64-4g", ["5.10", "6.1", "6.12", "7.2"], ["4K", "16K", "64K"], ["36", "39", "42", "47", "48", "52"]),
        ("x86-4g", ["5.10", "6.1", "6.12", "7.2"], ["4K", "16K", "64K"], ["32", "39", "47", "48", "52", "57"]),
        ("i386-2g", ["5.10", "6.1", "6.12", "7.2"], ["4K", "16K", "64K"], ["31", "32", "36", "39", "48", "57"]),
    ] {
        for (era, page) in eras.into_iter().flat_map(|era| pages.map(|page| (era, page))) {
            for bits in bits {
                let said = kernmem(&["walk", "0", preset, "--era", era, "--page-size", page, "--va-bits", bits]);
                if said.status == 2 {
                    let line = said.refused(2);
                    let wanted =
                        format!("{preset}: no built-in kernel has {page} pages and {bits} bits; built in for Linux ");
                    assert!(
                        line.starts_with(&wanted) && line.ends_with("another kernel: --kconfig and --symbols"),
                        "{line}"
                    );
                } else {
                    said.good();
                    booted += 1;
                }
            }
        }
    }
    // The rows of arm64; x86-64 twice, with either width; i386 once in an era, also where the image is another era's.
    assert_eq!(booted, 16 + 2 * 4 + 4);
}

#[test]
fn a_refusal_names_what_is_built_in_for_the_era() {
    let refused = |args: &[&str]| kernmem(args).refused(2);
    let other = "another kernel: --kconfig and --symbols";
    assert_eq!(
        refused(&["boot", "--era", "7.2", "--page-size", "64K"]),
        format!(
            "arm64-4g: no built-in kernel has 64K pages; built in for Linux 7.2 on arm64: 4K pages with 48 or 52 bits; {other}"
        )
    );
    assert_eq!(
        refused(&["ptdump", "x86-4g", "--page-size", "16K"]),
        format!(
            "x86-4g: no built-in kernel has 16K pages; built in for Linux 6.1 on x86_64: 4K pages with 48 or 57 bits; {other}"
        )
    );
    assert!(refused(&["boot", "i386-2g", "--era", "5.10", "--cpu=-pae"]).contains("a CPU without PAE"));
    let line = refused(&["boot", "--page-size", "16K", "--cpu", "cortex-a72"]);
    assert_eq!(line, "arm64-4g: CPU model `cortex-a72` has no 16K pages; leave --cpu out, or choose --cpu max");
}

#[test]
fn a_page_size_that_the_preset_s_cpu_lacks_takes_another_and_says_so() {
    let told = kernmem(&["boot", "--page-size", "16K"]).good();
    assert!(told.contains("CPU           2 × neoverse-n1  (the first model with 16K pages)"), "{told}");
    let told = kernmem(&["boot", "--page-size", "64K"]).good();
    assert!(told.contains("CPU           2 × cortex-a72  (preset arm64-4g)"), "{told}");
}

#[test]
fn the_bits_that_are_told_are_those_in_use() {
    // A72 has 48 bits; kernels built for 52 fall back.
    for options in [["--era", "6.12", "--page-size", "64K"], ["--era", "7.2", "--va-bits", "52"]] {
        let told = kernmem(&[&["boot"], options.as_slice()].concat()).good();
        assert!(told.lines().next().unwrap().contains(" 48 address bits "), "{told}");
        let told = kernmem(&[&["boot", "--cpu", "max"], options.as_slice()].concat()).good();
        assert!(told.lines().next().unwrap().contains(" 52 address bits "), "{told}");
    }
}

#[test]
fn a_machine_s_file_takes_its_kernel_by_the_same_rule() {
    let text = "arch = \"arm64\"\nera = \"6.12\"\n[[memory]]\nstart = \"1G\"\nsize = \"2G\"\n";
    let board = file("builtin-board.toml", text.as_bytes());
    let told = kernmem(&["boot", &board]).good();
    assert!(told.starts_with("Linux 6.12 ") && told.contains("from built-in kernel a612-4k48\n"), "{told}");
    let told = kernmem(&["boot", &board, "--era", "6.1", "--page-size", "64K"]).good();
    assert!(told.starts_with("Linux 6.1 ") && told.contains("from built-in kernel a61-64k52\n"), "{told}");
    kernmem(&["boot", &board, "--page-size", "4K", "--va-bits", "39"]).refused(2);
}

#[test]
fn the_caller_s_kernel_goes_before_a_built_in_one() {
    let kernel = format!("{}/../../kernels/a612-64k52", recording("arm64", "a-4G"));
    let (config, map) = (format!("{kernel}/config"), format!("{kernel}/System.map.zst"));
    let built_in = kernmem(&["ptdump", "--era", "6.12", "--page-size", "64K"]).good();
    let own = ["--era", "6.12", "--kconfig", &config, "--symbols", &map];
    assert_eq!(kernmem(&[&["ptdump"], own.as_slice()].concat()).good(), built_in);
    // A configuration alone chooses the symbols that belong to it.
    assert_eq!(kernmem(&["ptdump", "--era", "6.12", "--kconfig", &config]).good(), built_in);
    // Nothing with 64K pages is built in for 7.2: the caller's kernel does not need it.
    let told = kernmem(&["boot", "--era", "7.2", "--kconfig", &config, "--symbols", &map]).good();
    assert!(told.starts_with("Linux 7.2 on arm64, 64K pages, 48 address bits "), "{told}");
}

#[test]
fn both_sides_of_a_difference_and_all_eras_have_their_own_kernels() {
    let said = kernmem(&["diff", "i386-2g", "--era-b", "6.12", "--json"]);
    assert_eq!(said.status, 1, "three levels against two");
    let answer = json(&["boot", "x86-4g", "--era", "all", "--json"], "kernmem.boot-eras");
    let kernels: Vec<&str> =
        answer["eras"].as_array().unwrap().iter().filter_map(|row| row["kernel"].as_str()).collect();
    assert_eq!(kernels, ["x510-64", "x61-64", "x612-64", "x72-64"]);
    let image = answer["image"].as_str().unwrap();
    assert!(image.contains("its own, built-in kernel (x510-64, x61-64, x612-64, x72-64)"), "{image}");
}
