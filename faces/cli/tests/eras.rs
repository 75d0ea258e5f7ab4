//! `explain --era all`, `boot --era all`: one mapping, and the linear map, in every era. What is expected of an era is
//! what facts say of it; an era that does not boot yet must say why, and say nothing else.
#![allow(clippy::unwrap_used, reason = "functions that tests share fail as tests do")]

use crate::common::{json, kernmem, recording};
use serde_json::Value;

const ERAS: [&str; 4] = ["5.10", "6.1", "6.12", "7.2"];

/// The rows, each with its era; one that is not modelled has a reason and nothing that looks like an answer.
#[track_caller]
fn rows(args: &[&str], schema: &str) -> Vec<Value> {
    let answer = json(&[args, &["--era", "all", "--json"]].concat(), schema);
    let rows = answer["eras"].as_array().unwrap().clone();
    assert_eq!(rows.iter().map(|row| row["era"].as_str().unwrap()).collect::<Vec<_>>(), ERAS);
    let has_own = args.iter().any(|arg| ["arm64-4g", "x86-4g"].contains(arg));
    let whose = if has_own {
        "each era has its own, built-in kernel"
    } else {
        "image are those of the given kernel (Linux 6.1)"
    };
    assert!(answer["image"].as_str().unwrap().contains(whose));
    for row in &rows {
        let keys: Vec<&str> = row.as_object().unwrap().keys().map(String::as_str).collect();
        match row["modelled"].as_bool().unwrap() {
            true => assert!(keys.contains(&"cost") && !keys.contains(&"why_not"), "{row}"),
            false => assert_eq!(keys, ["era", "modelled", "why_not"], "{row}"),
        }
        assert!(row["modelled"] == true || !row["why_not"].as_str().unwrap().is_empty());
    }
    assert_eq!(rows[1]["modelled"], true, "the given kernel's own era");
    rows
}

#[track_caller]
fn explained(args: &[&str]) -> Vec<Value> {
    rows(&[&["explain"], args].concat(), "kernmem.explain-eras")
}

/// The rows that are modelled, by era.
fn modelled(rows: &[Value]) -> impl Iterator<Item = (&str, &Value)> {
    rows.iter().filter(|row| row["modelled"] == true).map(|row| (row["era"].as_str().unwrap(), row))
}

#[test]
fn the_direct_map_of_x86_has_the_same_leaves_in_every_era() {
    let rows = explained(&["0xffff888040000000", &recording("x86", "x-4G-1g")]);
    assert_eq!(modelled(&rows).count(), 4, "x86-64 boots in all of them");
    for (era, row) in modelled(&rows) {
        assert_eq!((row["size"].as_u64(), row["level"].as_str()), (Some(1 << 30), Some("PUD")), "{era}");
        let leaves = row["cost"]["leaves"].as_object().unwrap();
        let mapped: u64 = leaves.values().map(|bytes| bytes.as_u64().unwrap()).sum();
        let (tlb, reach) = (row["cost"]["tlb_entries"].as_u64().unwrap(), &row["cost"]["bytes_of_tlb_entry"]);
        assert_eq!(reach.as_u64(), Some(mapped / tlb), "{era}");
    }
}

#[test]
fn a_row_says_what_that_era_alone_says() {
    for (what, source) in [
        ("phys:0x1200000", "x86-4g"),
        ("_text", "x86-4g"),
        ("0xffffea0000000000", "x86-4g"),
        ("_stext", "arm64-4g"),
        ("phys:0x40000000", "arm64-4g"),
    ] {
        for (era, row) in modelled(&explained(&[what, source])) {
            let alone = json(&["explain", "--json", "--era", era, what, source], "kernmem.explain");
            for key in ["address", "region", "size", "level", "size_reasons"] {
                assert_eq!(row[key], alone[key], "{what} in {era}: {key}");
            }
        }
    }
}

#[test]
fn a_crash_kernel_splits_arm64s_linear_map_until_6_1() {
    let source = recording("arm64", "kexec-crash-rodata-off");
    for (era, row) in modelled(&explained(&["phys:0x80000000", &source])) {
        let by_pages = matches!(era, "5.10" | "6.1");
        assert_eq!(row["size"] == 4096, by_pages, "{era}: {row}");
        let reasons = row["size_reasons"].to_string();
        assert_eq!(reasons.contains("a crash kernel is reserved only after the map is built"), by_pages, "{era}");
    }
    for (era, row) in modelled(&rows(&["boot", &source], "kernmem.boot-eras")) {
        let tables = row["cost"]["table_bytes"].as_u64().unwrap();
        // 4 GiB in pages need a table of 4K for each 2 MiB.
        assert_eq!(tables > 8 << 20, matches!(era, "5.10" | "6.1"), "{era}");
    }
}

#[test]
fn the_image_is_found_where_each_era_links_it() {
    for (era, row) in modelled(&explained(&["_stext", "arm64-4g"])) {
        let linked = match era {
            // As the System.map of each era's built-in kernel says.
            "5.10" => "0xffff800010000800",
            "6.1" => "0xffff800008010000",
            _ => "0xffff800080010000",
        };
        assert_eq!((row["address"].as_str(), row["mapped"].as_bool()), (Some(linked), Some(true)), "{era}");
    }
}

#[test]
fn page_descriptors_are_found_by_their_frame() {
    // Memory at 0x4000_0000 of the preset is 0x4_0000 frames, of 64 bytes each, behind that of frame 0.
    let at = json(&["explain", "--json", "phys:0x40000000", "arm64-4g"], "kernmem.explain")["descriptor"].clone();
    for (era, row) in modelled(&explained(&[at.as_str().unwrap(), "arm64-4g"])) {
        let alone = json(&["explain", "--json", "--era", era, "phys:0x40000000", "arm64-4g"], "kernmem.explain");
        assert_eq!(row["address"], alone["descriptor"], "{era}");
    }
}

#[test]
fn the_page_has_a_row_for_each_era_and_the_reasons_under_it() {
    let text = kernmem(&["explain", "--era", "all", "0xffff000000210000"]).good();
    for era in ERAS {
        let mark = if era == "6.1" { "6.1*" } else { era };
        let row = text.lines().find(|line| line.trim_start().starts_with(mark)).unwrap();
        // The recordings of these kernels have leaves of 2M there but for 6.1, whose text begins 64K further on.
        assert!(row.contains(if era == "6.1" { "4K PTE" } else { "2M PMD" }), "{row}");
    }
    let own = text.split("\nLinux 6.1: ").nth(1).unwrap();
    assert!(own.contains("the window over the kernel's text and read-only data begins or ends"), "{own}");
    // 4 GiB by 802 entries: 3 of 1G, 31 of 32M, and those around the image.
    assert!(own.contains("one TLB entry reaches 5.1M on average"), "{own}");
    let text = kernmem(&["boot", "--era", "all", "x86-4g"]).good();
    assert!(text.contains("The linear map of x86-4g in every era") && text.contains("  6.1* "), "{text}");
}
