//! Answers: the listing, our own forms, walks, comparisons, explanations.
#![allow(clippy::unwrap_used, reason = "functions that tests share fail as tests do")]

use crate::common::{json, kernmem, kernmem_fed, recording};
use kernmem::Boot;
use kernmem_report::ptdump;
use kernmem_sim::Memory;
use kernmem_source::Source;
use kernmem_view::RootKind;

/// The listing by the library.
fn listing(source: &str) -> String {
    let source = Source::open(source).unwrap();
    let boot = Boot::new(&source.machine, &source.config);
    let memory = Memory::new(kernmem::memory_ranges(&boot)).unwrap();
    let kernel = kernmem_live::boot(&memory, &boot, ()).unwrap();
    let mut text = String::new();
    ptdump::linux(&kernel, RootKind::Kernel, &mut text).unwrap();
    text
}

#[test]
fn the_listing_is_the_librarys() {
    for source in ["arm64-4g", "x86-4g"] {
        assert_eq!(kernmem(&["ptdump", source]).good(), listing(source));
    }
}

#[test]
fn a_range_of_the_listing_has_whole_lines_of_it() {
    let whole = listing("arm64-4g");
    let part = kernmem(&["ptdump", "--region", "fixmap"]).good();
    assert!(part.lines().all(|line| whole.lines().any(|own| own == line)));
    assert!(part.contains("---[ Fixmap start ]---") && !part.contains("---[ Linear Mapping start ]---"));
    let one = kernmem(&["ptdump", "--range", "0xffff000000000000-0xffff000000000001"]).good();
    assert_eq!(one.lines().count(), 2, "{one}");
}

#[test]
fn no_verb_boots_the_small_arm64_machine() {
    let report = kernmem(&[]).good();
    assert_eq!(report, kernmem(&["boot", "arm64-4g"]).good());
    for word in
        ["Linux 6.1", "cortex-a72", "console=ttyAMA0 rodata=off", "Zone ranges:", "1G PUD", "64M", "page tables"]
    {
        assert!(report.contains(word), "{word} is not in\n{report}");
    }
}

/// The log of the recorded machine, less what the program cannot know, is compared in `verify`; here only that it is
/// the same text alone and in the report.
#[test]
fn the_log_alone_is_the_one_of_the_report() {
    let log = kernmem(&["boot", "--log"]).good();
    let report = kernmem(&["boot"]).good();
    assert!(log.lines().all(|line| report.contains(&format!("  {line}\n"))), "{log}");
    let answer = json(&["boot", "--log", "--json"], "kernmem.boot-log");
    let lines: Vec<&str> = answer["lines"].as_array().unwrap().iter().filter_map(|line| line.as_str()).collect();
    assert_eq!(lines, log.lines().collect::<Vec<_>>());
}

/// 4 GiB from 1 GiB on: the first GiB holds the image and is split, three GiB are whole. The memory map has 64 bytes
/// a page of 4K: a 64th.
#[test]
fn the_report_counts_what_the_machine_has() {
    let answer = json(&["boot", "--json"], "kernmem.boot");
    let regions = answer["regions"].as_array().unwrap();
    let of = |key: &str| regions.iter().find(|region| region["region"] == key).unwrap();
    assert_eq!(of("linear")["mapped"].as_u64(), Some(4 << 30));
    assert_eq!(of("vmemmap")["mapped"].as_u64(), Some(64 << 20));
    let leaves = of("linear")["leaves"].as_array().unwrap();
    let bytes: u64 = leaves.iter().map(|leaf| leaf["bytes"].as_u64().unwrap()).sum();
    assert_eq!(bytes, 4 << 30);
    let gib = leaves.iter().find(|leaf| leaf["size"] == 1u64 << 30).unwrap();
    assert_eq!((gib["entries"].as_u64(), gib["tlb_entries"].as_u64()), (Some(3), Some(3)));
    for leaf in leaves {
        let (size, bytes) = (leaf["size"].as_u64().unwrap(), leaf["bytes"].as_u64().unwrap());
        assert_eq!((bytes % size, leaf["tlb_entries"].as_u64()), (0, Some(bytes / size)), "{leaf}");
    }
}

#[test]
fn rows_are_the_same_in_every_form() {
    for source in ["arm64-4g", "x86-4g"] {
        let answer = json(&["ptdump", source, "--json"], "kernmem.ptdump");
        let rows = answer["rows"].as_array().unwrap();
        let csv = kernmem(&["ptdump", source, "--format", "csv"]).good();
        let table = kernmem(&["ptdump", source, "--format", "table"]).good();
        assert!(csv.lines().all(|line| line.matches(',').count() == 10));
        assert_eq!((csv.lines().count(), table.lines().count()), (rows.len() + 1, rows.len() + 1));
        let csv_rows = csv.lines().skip(1).zip(table.lines().skip(1));
        for (row, (csv, table)) in rows.iter().zip(csv_rows) {
            let raw = row["first_entry"].as_str().unwrap();
            assert!(csv.contains(&format!(",{raw},")), "{csv}");
            let padded = format!("{:#018x}", u64::from_str_radix(&raw[2..], 16).unwrap());
            assert!(table.contains(&padded), "{table}");
        }
    }
}

/// The bytes of the rows' leaves are the mapped bytes of the census: two ways to count.
#[test]
fn rows_cover_what_the_report_counts() {
    let rows = json(&["ptdump", "--json", "--region", "linear"], "kernmem.ptdump");
    let rows = rows["rows"].as_array().unwrap();
    let bytes = |row: &serde_json::Value| row["entry_size"].as_u64().unwrap() * row["entries"].as_u64().unwrap();
    let leaves: u64 = rows.iter().filter(|row| row["kind"] == "leaf").map(bytes).sum();
    assert_eq!(leaves, 4 << 30);
}

#[test]
fn folded_tables_are_fewer_lines_with_the_same_leaves() {
    let fold = kernmem(&["ptdump", "--format", "fold", "--cmdline", "rodata=full"]).good();
    let table = kernmem(&["ptdump", "--format", "table", "--cmdline", "rodata=full"]).good();
    assert!(fold.lines().count() * 10 < table.lines().count(), "{} {}", fold.lines().count(), table.lines().count());
    // Three whole gigabytes behind the first: each a table of 512 tables of 512 pages.
    assert!(fold.contains("[1-3] 0xffff000040000000  3 × 1G PUD table"), "{fold}");
    assert!(fold.contains("[0-511] 0xffff000040000000  512 × 2M PMD table"), "{fold}");
    assert!(fold.contains("[0-511] 0xffff000040000000  512 × 4K PTE -> 0x80000000"), "{fold}");
}

/// Four levels of tables for a page, and the data itself: five references. A block of 2M saves one, of 1G two.
#[test]
fn a_walk_costs_a_reference_a_level() {
    let count = |address: &str| {
        let answer = json(&["walk", address, "--json"], "kernmem.walk");
        let steps = answer["steps"].as_array().unwrap().len() as u64;
        assert_eq!(answer["table_references"].as_u64(), Some(steps));
        (answer["references"].as_u64().unwrap(), answer["physical"].as_str().unwrap_or("").to_owned())
    };
    // Memory starts at 0x40000000; the image at 0x40200000 is mapped by pages.
    assert_eq!(count("0xffff000000210123"), (5, "0x40210123".into()));
    assert_eq!(count("0xffff000012345678"), (4, "0x52345678".into()));
    assert_eq!(count("0xffff000080001234"), (3, "0xc0001234".into()));
    assert_eq!(count("0xffff700000000000"), (1, String::new()));
    let text = kernmem(&["walk", "0xffff000000210123"]).good();
    for word in ["bit 55 is 1: TTBR1", "PGD", "PUD", "PMD", "PTE", "UXN", "physical 0x40210123", ": 5 without a TLB"] {
        assert!(text.contains(word), "{word} is not in\n{text}");
    }
    assert!(kernmem(&["walk", "0x1000"]).good().contains("bit 55 is 0: TTBR0"));
    assert!(kernmem(&["walk", "0x00ff000000000000"]).good().contains("faults at once"));
    let text = kernmem(&["walk", "0xffffffff81000000", "x86-4g"]).good();
    assert!(text.contains("CR3") && text.contains("physical 0x1000000"), "{text}");
}

#[test]
fn a_comparison_tells_lines_tables_and_reach() {
    let same = kernmem(&["diff", "arm64-4g", "arm64-4g"]);
    assert_eq!(same.status, 0, "{same:?}");
    let said = kernmem(&["diff", "arm64-4g", "--cmdline-b", "rodata=full"]);
    assert_eq!((said.status, said.err.as_str()), (1, ""));
    // 3 GiB of 1G leaves are gone; every page of 4 GiB needs a TLB entry of its own.
    let gone = "-0xffff000040000000-0xffff000100000000           3G PUD";
    assert!(said.out.lines().any(|line| line.starts_with(gone)), "{}", said.out);
    assert!(said.out.contains("page tables: ") && said.out.contains("1048576 (4K each)"), "{}", said.out);
    let answer = json(&["diff", "arm64-4g", "--cmdline-b", "rodata=full", "--json"], "kernmem.diff");
    assert_eq!(answer["b"]["linear_map_tlb_entries"].as_u64(), Some(1 << 20));
    assert_eq!(answer["differs"].as_bool(), Some(true));
}

/// The unified lines applied to the first listing make the second.
#[test]
fn a_comparison_is_a_patch() {
    let (first, second) = ("arm64-4g", recording("arm64", "a-4G-rodata-full"));
    let said = kernmem(&["diff", first, &second]);
    let (old, mut at, mut new) = (listing(first), 0, String::new());
    let old: Vec<&str> = old.lines().collect();
    for line in said.out.lines().skip(2).take_while(|line| !line.is_empty()) {
        if let Some(hunk) = line.strip_prefix("@@ -") {
            let start: usize = hunk.split(',').next().unwrap().parse().unwrap();
            while at + 1 < start {
                new.push_str(&format!("{}\n", old[at]));
                at += 1;
            }
            continue;
        }
        let (sign, text) = line.split_at(1);
        if sign != "+" {
            assert_eq!(old[at], text);
            at += 1;
        }
        if sign != "-" {
            new.push_str(&format!("{text}\n"));
        }
    }
    old[at..].iter().for_each(|line| new.push_str(&format!("{line}\n")));
    assert_eq!(new, listing(&second));
}

#[test]
fn an_explanation_names_aliases_and_reasons() {
    let text = kernmem(&["explain", "0xffff000000212345"]).good();
    for word in ["linear map", "0x40212345", "0xffff800008012345", "0xfffffc0000008480", "Why it is no larger"] {
        assert!(text.contains(word), "{word} is not in\n{text}");
    }
    // The same memory by its frame: the linear map begins with frame 0x40000.
    let by_frame = kernmem(&["explain", "pfn:0x40212"]).good();
    assert!(by_frame.starts_with("0xffff000000212000  linear map"), "{by_frame}");
    assert_eq!(kernmem(&["explain", "phys:0x40212000"]).good(), by_frame);
    assert_eq!(kernmem(&["explain", "0xffff000000212000"]).good(), by_frame);
    let symbol = kernmem(&["explain", "init_task"]).good();
    assert!(symbol.contains("init_task+0x0") && symbol.contains("kernel image"), "{symbol}");
}

#[test]
fn an_explanation_says_what_the_era_makes_of_a_word() {
    let zero = kernmem(&["explain", "0xffff000000212345", "--cmdline", "rodata=0"]).good();
    assert!(zero.contains("rodata=0") && zero.contains("invalid") && zero.contains("5.10"), "{zero}");
    let report = kernmem(&["boot", "--cmdline", "rodata=0"]).good();
    assert!(report.contains("`rodata=0` is an invalid option string") && report.contains("stays in force"), "{report}");
}

#[test]
fn every_verb_answers_in_json() {
    for (args, schema) in [
        (&["boot"][..], "kernmem.boot"),
        (&["boot", "x86-4g"], "kernmem.boot"),
        (&["ptdump", "--format", "json"], "kernmem.ptdump"),
        (&["layout"], "kernmem.layout"),
        (&["layout", "--arch", "x86-64"], "kernmem.layout"),
        (&["walk", "0x0"], "kernmem.walk"),
        (&["explain", "0xffff000000212345"], "kernmem.explain"),
        (&["explain", "0xffff900000000000"], "kernmem.explain"),
        (&["explain", "phys:0x1000000", "x86-4g"], "kernmem.explain"),
        (&["diff", "arm64-4g", "x86-4g"], "kernmem.diff"),
    ] {
        let json_option: &[&str] = if args.contains(&"--format") { &[] } else { &["--json"] };
        json(&[args, json_option].concat(), schema);
    }
    json(&["verify", &recording("arm64", "a-1G-rodata-off"), "--json"], "kernmem.verify");
}

#[test]
fn recordings_are_verified_one_by_one_or_as_a_set() {
    let one = kernmem(&["verify", &recording("arm64", "a-1G-rodata-off")]).good();
    assert!(one.ends_with("1 of 1 recordings equal\n"), "{one}");
    let two = kernmem(&["verify", &recording("arm64", "a-1G-rodata-off"), &recording("x86", "x-1G")]).good();
    assert!(two.ends_with("2 of 2 recordings equal\n"), "{two}");
}

#[test]
fn standard_input_is_a_source() {
    let text = b"arch = \"arm64\"\ncmdline = \"rodata=off\"\n[[memory]]\nstart = \"1G\"\nsize = \"1G\"\n";
    let said = kernmem_fed(&["boot", "-", "--json"], text);
    let answer: serde_json::Value = serde_json::from_str(&said.good()).unwrap();
    assert_eq!(answer["memory"][0]["size"].as_u64(), Some(1 << 30));
    assert_eq!(answer["cmdline"], "rodata=off");
}

#[test]
fn help_version_and_completions_are_answers() {
    assert!(kernmem(&["--help"]).good().contains("ptdump"));
    assert!(kernmem(&["ptdump", "--help"]).good().contains("--range"));
    assert!(kernmem(&["--version"]).good().starts_with("kernmem "));
    for shell in ["bash", "zsh", "fish"] {
        assert!(kernmem(&["completions", shell]).good().contains("kernmem"), "{shell}");
    }
}
