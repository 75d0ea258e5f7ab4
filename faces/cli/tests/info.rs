//! The verb `info`: files of `/proc` and sysfs about memory, held against what the recorded kernels printed where a
//! boot settles it.
#![allow(clippy::unwrap_used, reason = "functions that tests share fail as tests do")]

mod common;

use common::{json, kernmem, recording};

const BOOTS: [(&str, &str); 4] = [("x86", "x-4G"), ("x86", "x-2node"), ("arm64", "a-4G"), ("arm64", "a-movable")];

fn recorded(set: &str, name: &str, file: &str) -> String {
    std::fs::read_to_string(format!("{}/{file}", recording(set, name))).unwrap()
}

/// `Node N, zone NAME` with the values of its lines that begin with one of `words`.
fn figures(zoneinfo: &str, words: &[&str]) -> Vec<(String, Vec<String>)> {
    let mut zones: Vec<(String, Vec<String>)> = Vec::new();
    for line in zoneinfo.lines() {
        if line.starts_with("Node") {
            zones.push((line.to_owned(), Vec::new()));
        } else if words.iter().any(|word| line.trim_start().starts_with(word)) {
            zones.last_mut().unwrap().1.push(line.trim().to_owned());
        }
    }
    zones
}

#[test]
fn zones_have_the_sizes_and_counters_of_the_recorded_kernels() {
    for (set, name) in BOOTS {
        let ours = kernmem(&["info", &recording(set, name), "--zoneinfo"]).good();
        let theirs = recorded(set, name, "zoneinfo");
        for words in [["spanned", "present", "start_pfn"].as_slice(), &["batch"], &["cpu:"], &["cma"]] {
            assert_eq!(figures(&ours, words), figures(&theirs, words), "{set}/{name}");
        }
        assert_eq!(ours.lines().count(), theirs.lines().count(), "{set}/{name}");
    }
}

#[test]
fn free_blocks_and_zones_agree() {
    for (set, name) in BOOTS {
        let source = recording(set, name);
        let said = kernmem(&["info", &source, "--buddyinfo", "--meminfo"]).good();
        let (buddy, meminfo) = said.split_once("\n==> meminfo <==\n").unwrap();
        let buddy = buddy.strip_prefix("==> buddyinfo <==\n").unwrap();
        let pages = |line: &str| -> u64 {
            let counts = line.split_whitespace().skip(4).map(|word| word.parse::<u64>().unwrap());
            counts.enumerate().map(|(order, count)| count << order).sum()
        };
        let free: Vec<u64> = buddy.lines().map(pages).collect();
        let total = format!("MemTotal:       {:8} kB", free.iter().sum::<u64>() * 4);
        assert_eq!(meminfo.lines().next(), Some(total.as_str()));
        let rows: Vec<&str> = buddy.lines().map(|line| &line[..21]).collect();
        let theirs = recorded(set, name, "buddyinfo");
        assert_eq!(rows, theirs.lines().map(|line| &line[..21]).collect::<Vec<_>>(), "{set}/{name}");
        let zoneinfo = kernmem(&["info", &source, "--zoneinfo"]).good();
        let managed: Vec<u64> = figures(&zoneinfo, &["managed"])
            .iter()
            .map(|(_, lines)| lines[0].split_whitespace().nth(1).unwrap().parse().unwrap())
            .filter(|pages| *pages != 0)
            .collect();
        assert_eq!(managed, free, "{set}/{name}");
    }
}

#[test]
fn the_lines_of_meminfo_are_those_of_the_recorded_kernels() {
    for (set, name) in BOOTS {
        let ours = kernmem(&["info", &recording(set, name), "--meminfo"]).good();
        let theirs = recorded(set, name, "meminfo");
        let names =
            |text: &str| text.lines().map(|line| line.split(':').next().unwrap().to_owned()).collect::<Vec<_>>();
        assert_eq!(names(&ours), names(&theirs), "{set}/{name}");
        let settled = |text: &str| {
            let is_settled = |line: &&str| line.starts_with("DirectMap") || line.starts_with("Hugepagesize");
            text.lines().filter(is_settled).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(settled(&ours), settled(&theirs), "{set}/{name}");
    }
}

#[test]
fn resources_of_memory_and_image_are_those_of_the_recorded_kernels() {
    let names = ["System RAM", "Reserved", "Kernel code", "Kernel rodata", "Kernel data", "Kernel bss", "Crash kernel"];
    for (set, name) in [("x86", "x-4G"), ("x86", "x-crash"), ("x86", "x-memmap-hole"), ("arm64", "kexec-crash-at")] {
        let ours = kernmem(&["info", &recording(set, name), "--iomem"]).good();
        let theirs = recorded(set, name, "iomem");
        let own = |text: &str| {
            let is_own = |line: &&str| names.iter().any(|name| line.ends_with(&format!(" : {name}")));
            text.lines().filter(is_own).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(own(&ours), own(&theirs), "{set}/{name}");
    }
}

#[test]
fn memory_blocks_are_named_by_their_first_address() {
    let said = kernmem(&["info", &recording("x86", "x-4G"), "--sections"]).good();
    assert!(said.starts_with("block_size_bytes:8000000\nauto_online_blocks:"), "{said}");
    // 4 GiB in blocks of 128 MiB: 24 below the hole for devices, 8 above 4 GiB.
    assert_eq!(said.lines().filter(|line| line.ends_with("/state:online")).count(), 32);
    assert!(said.contains("memory32/phys_index:00000020\n") && said.contains("memory32/valid_zones:Normal\n"));
    // The first block holds all of DMA and a part of DMA32.
    assert!(said.contains("memory0/valid_zones:none\n"));
}

#[test]
fn what_comes_after_a_boot_is_beyond_it() {
    let line = kernmem(&["info", "no/such/file", "--iomem", "--slabinfo"]).refused(3);
    assert!(line.contains("--slabinfo"), "{line}");
    let line = kernmem(&["info", "x86-4g"]).refused(2);
    assert!(line.contains("--buddyinfo"), "{line}");
}

#[test]
fn answers_for_programs_have_a_list_of_lines_for_each_file() {
    let answer = json(&["info", &recording("x86", "x-4G"), "--iomem", "--hugepages", "--json"], "info");
    assert_eq!(answer["iomem"][0], "00000000-00000fff : Reserved");
    let rows = answer["hugepages"].as_array().unwrap();
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[1]["given_back_bytes"]["6.1"], 28 << 10);
}
