//! Bad input and usage: the exit status, and one line that names the file, the place, and what to do.
#![allow(clippy::unwrap_used, reason = "functions that tests share fail as tests do")]

use crate::common::{file, kernmem, kernmem_fed, program, recording};
use std::io::Read;
use std::process::Stdio;

/// Runs, expects `status`, and expects each of `words` in the line.
#[track_caller]
fn refused(args: &[&str], status: i32, words: &[&str]) {
    let line = kernmem(args).refused(status);
    for word in words {
        assert!(line.contains(word), "{args:?}: {line:?} lacks {word:?}");
    }
}

#[test]
fn what_cannot_be_a_source_is_named_with_what_to_do() {
    refused(&["boot", "no/such/file.dtb"], 2, &["no/such/file.dtb", "no such file or preset", "arm64-4g"]);
    let empty = file("empty", b"");
    refused(&["boot", &empty], 2, &[&empty, "give one of them"]);
    let binary = file("binary", &[0xff, 0x00, 0xfe, 0x80, 0x7f].repeat(1000));
    refused(&["boot", &binary], 2, &[&binary]);
    let gzip = file("damaged.gz", &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 1, 2, 3, 4]);
    refused(&["boot", &gzip], 2, &[&gzip, "cannot be unpacked"]);
    let folder = env!("CARGO_TARGET_TMPDIR");
    refused(&["boot", folder], 2, &["boot.json"]);
    refused(&["boot", "/dev/null"], 2, &["/dev/null"]);
}

#[test]
fn a_huge_input_is_refused_before_it_fills_the_memory() {
    refused(&["boot", "/dev/zero"], 2, &["/dev/zero", "more than 256 MiB"]);
}

#[test]
fn a_truncated_devicetree_is_named() {
    let preset = concat!(env!("CARGO_MANIFEST_DIR"), "/../source/presets/arm64-4g/final.dtb.gz");
    let packed = std::fs::read(preset).unwrap();
    let mut blob = Vec::new();
    flate2::read::GzDecoder::new(packed.as_slice()).read_to_end(&mut blob).unwrap();
    assert_eq!(kernmem(&["boot", &file("whole.dtb", &blob)]).status, 0);
    for length in [4, 39, 40, 100, blob.len() / 2] {
        let cut = file(&format!("cut-{length}.dtb"), &blob[..length]);
        refused(&["boot", &cut], 2, &[&cut]);
    }
    let said = kernmem_fed(&["boot", "-"], &blob[..100]);
    assert!(said.refused(2).contains("standard input"));
}

#[test]
fn lines_of_a_firmware_map_that_make_no_memory_are_refused() {
    for (name, text) in [
        ("e820-backwards", "[    0.000000] BIOS-e820: [mem 0x0000000000100000-0x0000000000000fff] usable\n"),
        ("e820-words", "[    0.000000] BIOS-e820: [mem zzz-yyy] usable\n"),
        ("e820-reserved", "[    0.000000] BIOS-e820: [mem 0x0000000000000000-0x000000000009ffff] reserved\n"),
        ("prose", "this is no machine at all\n"),
    ] {
        let path = file(name, text.as_bytes());
        refused(&["boot", &path], 2, &[&path]);
    }
}

#[test]
fn a_wrong_description_is_named_by_line_or_key() {
    let unknown = file("unknown.toml", b"arch = \"arm64\"\ncolour = \"green\"\n");
    refused(&["boot", &unknown], 2, &[&unknown, "line 2", "colour"]);
    let syntax = file("syntax.toml", b"arch = \"arm64\"\n\n[[memory]\nstart = 0\n");
    refused(&["boot", &syntax], 2, &[&syntax, "line 3"]);
    let value = file("value.toml", b"arch = \"arm64\"\n[[memory]]\nstart = \"1Q\"\nsize = \"1G\"\n");
    refused(&["boot", &value], 2, &[&value, "memory", "number"]);
    let arch = file("arch.toml", b"arch = \"riscv\"\n");
    refused(&["boot", &arch], 2, &[&arch, "arch"]);
}

#[test]
fn wrong_options_are_one_line_each() {
    for size in ["12Q", "", "-1G", "1.5G", "99999999T", "G"] {
        refused(&["boot", &format!("--memory={size}")], 2, &["--memory", "4G"]);
    }
    refused(&["boot", "--memory", "0"], 2, &["arm64-4g"]);
    refused(&["boot", "--era", "5.15"], 2, &["5.15", "4.14, 5.10, 6.1, 6.12, 7.2"]);
    refused(&["ptdump", "--era", "all"], 2, &["--era all", "explain"]);
    refused(&["diff", "arm64-4g", "--era", "all"], 2, &["--era all"]);
    refused(&["boot", "--era", "all", "--log"], 2, &["--log"]);
    refused(&["explain", "--era", "all", "no_such_symbol"], 2, &["no_such_symbol"]);
    refused(&["explain", "--era", "all", "0xffff000000000000", "no/such"], 2, &["no/such"]);
    refused(&["explain", "--era", "all", "0xffffe90000000000", "x86-4g"], 2, &["no region"]);
    refused(&["layout", "--era", "0"], 2, &["6.1", "all"]);
    refused(&["boot", "--arch", "riscv"], 2, &["arm64, x86-64"]);
    refused(&["boot", "--page-size", "8K"], 2, &["4K, 16K, 64K"]);
    refused(&["boot", "--va-bits", "many"], 2, &["--va-bits"]);
    refused(&["boot", "--seed", "x"], 2, &["--seed"]);
    refused(&["boot", "--cpu", "z80"], 2, &["z80", "cortex-a72"]);
    refused(&["boot", "--kconfig", "no/config"], 2, &["no/config"]);
    refused(&["boot", "--symbols", "no/map"], 2, &["no/map"]);
    refused(&["boot", "x86-4g", "--arch", "arm64"], 2, &["x86-4g", "--arch"]);
    refused(&["ptdump", "--range", "1-"], 2, &["--range", "0xffff"]);
    refused(&["ptdump", "--range", "2000-1000"], 2, &["--range"]);
    refused(&["ptdump", "--region", "attic"], 2, &["attic", "linear, modules"]);
    refused(&["ptdump", "--format", "xml"], 2, &["xml", "linux"]);
    refused(&["ptdump", "--space", "user"], 2, &["arm64-4g"]);
    refused(&["layout", "--va-bits", "52"], 2, &["52", "39, 48"]);
}

#[test]
fn wrong_addresses_say_what_an_address_is() {
    for address in ["zz", "0x", "", "0x1ffff000000000000", "-1", "ffff 0000"] {
        refused(&["walk", "--", address], 2, &["hexadecimal"]);
    }
    refused(&["explain", "no_such_symbol"], 2, &["no_such_symbol", "symbol"]);
    refused(&["explain", "pfn:x"], 2, &["pfn:x", "number"]);
    refused(&["explain", "pfn:0xffffffffffffffff"], 2, &["frame"]);
    refused(&["explain", "phys:0x1"], 2, &["no memory there"]);
}

#[test]
fn wrong_usage_is_one_line_too() {
    refused(&["frobnicate"], 2, &["frobnicate", "--help"]);
    refused(&["ptdmup"], 2, &["ptdmup", "ptdump"]);
    refused(&["--frob"], 2, &["--frob"]);
    refused(&["walk"], 2, &["ADDR"]);
    refused(&["verify"], 2, &["RECORDING"]);
    refused(&["verify", "no/recording"], 2, &["no/recording"]);
    refused(&["verify", env!("CARGO_MANIFEST_DIR")], 2, &["boot.json"]);
    refused(&["diff"], 2, &["<A>"]);
    refused(&["diff", "-"], 2, &["standard input"]);
    refused(&["boot", "a", "b"], 2, &["b"]);
    refused(&["completions", "tcsh-of-old"], 2, &["bash"]);
}

#[test]
fn kernels_beyond_the_model_have_a_status_of_their_own() {
    for source in ["arm64-4g", "x86-4g"] {
        refused(&["boot", source, "--era", "4.14"], 3, &["beyond what is modelled", "4.14"]);
        refused(&["boot", source, "--cmdline", "percpu_alloc=page"], 3, &["beyond what is modelled", "page by page"]);
    }
    refused(&["walk", "0xffff000000000000", "--era", "4.14"], 3, &["4.14"]);
    refused(&["diff", "arm64-4g", "--era-b", "4.14"], 3, &["4.14"]);
    refused(&["diff", "--minimal", "arm64-4g", "--era", "4.14"], 3, &["4.14"]);
}

#[test]
fn a_reader_that_goes_away_ends_the_program_quietly() {
    for args in [&["ptdump", "--format", "table", "--cmdline", "rodata=full"][..], &["boot"], &["ptdump", "--json"]] {
        let mut child = program(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let mut err = String::new();
        child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        assert_eq!((child.wait().unwrap().code(), err.as_str()), (Some(0), ""), "{args:?}");
    }
}

#[test]
fn an_output_that_is_full_is_an_error_and_not_a_panic() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = program(&["ptdump"]).stdout(full).output().unwrap();
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), line.lines().count()), (Some(2), 1), "{line}");
    assert!(line.contains("standard output"), "{line}");
}

#[test]
fn a_damaged_recording_is_named_by_its_file() {
    let folder = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("sets/set/damaged");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("boot.json"), b"{\"arch\": \"arm64\", ").unwrap();
    refused(&["verify", folder.to_str().unwrap()], 2, &["boot.json", "line 1"]);
    std::fs::write(folder.join("boot.json"), b"{\"arch\": \"arm64\"}").unwrap();
    refused(&["boot", folder.to_str().unwrap()], 2, &["boot.json", "era"]);
}

#[test]
fn a_difference_to_a_recording_is_a_finding() {
    // A copy of a recording whose listing lacks a line.
    let root = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("finding");
    let (from, to) = (std::path::PathBuf::from(recording("arm64", "a-1G-rodata-off")), root.join("arm64/changed"));
    std::fs::create_dir_all(&to).unwrap();
    std::fs::create_dir_all(root.join("kernels")).unwrap();
    for entry in std::fs::read_dir(&from).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
    let kernels = root.join("kernels/a61-4k48");
    if !kernels.exists() {
        std::os::unix::fs::symlink(recording("kernels", "a61-4k48"), &kernels).unwrap();
    }
    let path = to.to_str().unwrap();
    let whole = kernmem(&["verify", path]);
    assert_eq!(whole.status, 0, "{whole:?}");
    let listing = std::fs::read_to_string(to.join("kernel_page_tables")).unwrap();
    let line = listing.lines().find(|line| line.contains(" MEM/NORMAL-TAGGED")).unwrap();
    std::fs::write(to.join("kernel_page_tables"), listing.replace(&format!("{line}\n"), "")).unwrap();
    let changed = kernmem(&["verify", path]);
    assert_eq!((changed.status, changed.err.as_str()), (1, ""));
    assert!(changed.out.contains("changed/kernel_page_tables line") && changed.out.contains(line.trim_end()));
    let answer = crate::common::json(&["verify", "--json", path], "kernmem.verify");
    assert_eq!((answer["recordings"].as_u64(), answer["equal"].as_u64()), (Some(1), Some(0)));
}

#[test]
fn a_lab_of_another_architecture_is_named_once() {
    for (lab, source, other) in [("linear-map", "x86-4g", "arm64"), ("preallocate", "arm64-4g", "x86_64")] {
        let line = kernmem(&["lab", lab, source]).refused(2);
        assert_eq!(line.matches(lab).count(), 1, "{line}");
        assert!(line.trim_end().ends_with(&format!("name a machine of {other}")), "{line}");
    }
}
