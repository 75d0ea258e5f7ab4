//! The verb `info`: files of `/proc` and sysfs about memory, held against what the recorded kernels printed where a
//! boot settles it.
#![allow(clippy::unwrap_used, reason = "functions that tests share fail as tests do")]

use crate::common::{json, kernmem, recording};

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

/// Sizes, watermarks, reserves and limits of CPU lists follow from the machine; how many pages are free does not.
#[test]
fn zones_have_the_figures_of_the_recorded_kernels() {
    for (set, name) in BOOTS {
        let ours = kernmem(&["info", &recording(set, name), "--zoneinfo"]).good();
        let theirs = recorded(set, name, "zoneinfo");
        let words =
            ["boost", "min", "low", "high", "spanned", "present", "managed", "cma", "protection", "batch", "vm "];
        assert_eq!(figures(&ours, &words), figures(&theirs, &words), "{set}/{name}");
    }
}

/// The text with each number, and the blanks before it, as one sign.
fn skeleton(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for line in text.lines() {
        let (mut out, mut blanks, mut in_number) = (String::new(), 0, false);
        for sign in line.chars() {
            match sign {
                ' ' => (blanks, in_number) = (blanks + 1, false),
                '0'..='9' => {
                    if !in_number {
                        out.push('#');
                    }
                    (blanks, in_number) = (0, true);
                }
                other => {
                    out.extend(core::iter::repeat_n(' ', blanks));
                    out.push(other);
                    (blanks, in_number) = (0, false);
                }
            }
        }
        out.extend(core::iter::repeat_n(' ', blanks));
        lines.push(out);
    }
    lines
}

#[test]
fn every_line_looks_as_that_of_the_recorded_kernel() {
    for (set, name) in BOOTS {
        let source = recording(set, name);
        for file in ["zoneinfo", "meminfo", "buddyinfo", "pagetypeinfo"] {
            let ours = kernmem(&["info", &source, &format!("--{file}")]).good();
            let theirs = recorded(set, name, file);
            assert_eq!(skeleton(&ours), skeleton(&theirs), "{set}/{name} {file}");
            let widths = |text: &str| text.lines().map(str::len).collect::<Vec<_>>();
            if file != "zoneinfo" {
                assert_eq!(widths(&ours), widths(&theirs), "{set}/{name} {file}");
            }
        }
    }
}

/// A number of meminfo.
fn kib(meminfo: &str, name: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn free_blocks_and_zones_agree() {
    for (set, name) in BOOTS {
        let said = kernmem(&["info", &recording(set, name), "--buddyinfo", "--zoneinfo", "--meminfo"]).good();
        let (buddy, rest) = said.split_once("\n==> zoneinfo <==\n").unwrap();
        let (zoneinfo, meminfo) = rest.split_once("\n==> meminfo <==\n").unwrap();
        let buddy = buddy.strip_prefix("==> buddyinfo <==\n").unwrap();
        let pages = |line: &str| -> u64 {
            let counts = line.split_whitespace().skip(4).map(|word| word.parse::<u64>().unwrap());
            counts.enumerate().map(|(order, count)| count << order).sum()
        };
        let free: Vec<u64> = buddy.lines().map(pages).collect();
        assert_eq!(kib(meminfo, "MemFree"), free.iter().sum::<u64>() * 4);
        let numbers = |word: &str| -> Vec<u64> {
            let last = |line: &String| line.split_whitespace().last().unwrap().parse().unwrap();
            figures(zoneinfo, &[word]).iter().flat_map(|(_, lines)| lines.iter().map(last)).collect()
        };
        assert_eq!(numbers("pages free").into_iter().filter(|pages| *pages != 0).collect::<Vec<_>>(), free);
        assert_eq!(kib(meminfo, "MemTotal"), numbers("managed").iter().sum::<u64>() * 4);
    }
}

/// What the reserves of zones take off the free pages: `MemAvailable` without what caches can give back.
fn kept(meminfo: &str, zoneinfo: &str) -> u64 {
    let low = figures(zoneinfo, &["low"]).iter().map(|(_, lines)| lines[0][3..].trim().parse::<u64>().unwrap()).sum();
    let pages = |name| kib(meminfo, name) / 4;
    let reclaimable = pages("KReclaimable");
    pages("MemFree") + reclaimable - (reclaimable / 2).min(low) - pages("MemAvailable")
}

#[test]
fn what_meminfo_settles_is_that_of_the_recorded_kernels() {
    let settled = [
        "MemTotal",
        "CommitLimit",
        "VmallocTotal",
        "Percpu",
        "HugePages_",
        "Hugepagesize",
        "Hugetlb",
        "DirectMap",
        "SwapTotal",
        "Active",
        "AnonPages",
        "Cached",
    ];
    for (set, name) in BOOTS.into_iter().chain([
        ("arm64", "a-hugepages"),
        ("arm64", "a-hvo-gigantic"),
        ("arm64", "a-smp8"),
        ("x86", "x-hvo"),
        ("x86", "x-1G"),
    ]) {
        let said = kernmem(&["info", &recording(set, name), "--zoneinfo", "--meminfo"]).good();
        let (zoneinfo, ours) = said.split_once("\n==> meminfo <==\n").unwrap();
        let theirs = recorded(set, name, "meminfo");
        let own = |text: &str| {
            let is_settled = |line: &&str| settled.iter().any(|word| line.starts_with(word));
            text.lines().filter(is_settled).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(own(ours), own(&theirs), "{set}/{name}");
        assert_eq!(kept(ours, zoneinfo), kept(&theirs, &recorded(set, name, "zoneinfo")), "{set}/{name}");
    }
}

/// Caches of sizes come in the recorded order and shape; no object is in use.
#[test]
fn object_caches_are_those_of_the_recorded_kernels() {
    for (set, name) in BOOTS {
        let ours = kernmem(&["info", &recording(set, name), "--slabinfo"]).good();
        let theirs = recorded(set, name, "slabinfo");
        assert_eq!(ours.lines().take(2).collect::<Vec<_>>(), theirs.lines().take(2).collect::<Vec<_>>());
        let shape = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            (words[0].to_owned(), words[3..13].join(" "), line.len())
        };
        let rows = |text: &str| {
            let is_class = |line: &&str| line.split_whitespace().next().is_some_and(|word| word.contains("kmalloc-"));
            text.lines().filter(is_class).map(shape).collect::<Vec<_>>()
        };
        assert_eq!(rows(&ours), rows(&theirs), "{set}/{name}");
        assert_eq!(ours.lines().count(), 2 + rows(&ours).len(), "{set}/{name}");
        let is_idle = |line: &str| line.split_whitespace().skip(1).take(2).all(|count| count == "0");
        assert!(ours.lines().skip(2).all(is_idle), "{ours}");
    }
}

/// The line without what follows a caller's name: where in its function it stands.
fn without_offset(line: &str) -> String {
    let words = line.split(' ').map(|word| word.split_once("+0x").map_or(word, |(name, _)| name));
    words.collect::<Vec<_>>().join(" ")
}

/// The image's areas and the first interrupt stack are where the recorded kernel had them.
#[test]
fn areas_of_boot_are_lines_of_the_recorded_kernel() {
    let ours = kernmem(&["info", &recording("arm64", "a-ptrs"), "--vmallocinfo"]).good();
    let theirs: Vec<String> = recorded("arm64", "a-ptrs", "vmallocinfo").lines().map(without_offset).collect();
    assert_eq!(ours.lines().count(), 6);
    assert!(ours.lines().all(|line| theirs.iter().any(|other| other == line)), "{ours}");
    let ours = kernmem(&["info", &recording("x86", "x-4G"), "--vmallocinfo"]).good();
    let theirs = without_offset(recorded("x86", "x-4G", "vmallocinfo").lines().next().unwrap());
    let behind_addresses = |line: &str| line.split_once(' ').unwrap().1.to_owned();
    assert_eq!(ours.lines().map(behind_addresses).collect::<Vec<_>>(), [behind_addresses(&theirs)]);
}

/// Every block has a type; on which blocks boot took pages differs, how many blocks there are does not.
#[test]
fn zones_have_as_many_pageblocks_as_the_recorded_kernels() {
    for (set, name) in BOOTS {
        let blocks = |text: &str| -> Vec<u64> {
            let rows = text.lines().filter(|line| line.starts_with("Node ") && !line.contains("type"));
            rows.map(|line| line.split_whitespace().skip(4).map(|count| count.parse::<u64>().unwrap()).sum()).collect()
        };
        let ours = kernmem(&["info", &recording(set, name), "--pagetypeinfo"]).good();
        assert_eq!(blocks(&ours), blocks(&recorded(set, name, "pagetypeinfo")), "{set}/{name}");
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
fn no_file_is_no_answer() {
    let line = kernmem(&["info", "x86-4g"]).refused(2);
    assert!(line.contains("--buddyinfo") && line.contains("--slabinfo"), "{line}");
}

#[test]
fn answers_for_programs_have_a_list_of_lines_for_each_file() {
    let answer = json(&["info", &recording("x86", "x-4G"), "--iomem", "--hugepages", "--json"], "info");
    assert_eq!(answer["iomem"][0], "00000000-00000fff : Reserved");
    let rows = answer["hugepages"].as_array().unwrap();
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[1]["given_back_bytes"]["6.1"], 28 << 10);
}
