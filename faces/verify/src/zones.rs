//! Zones and memory lists after boot: what `zoneinfo`, `buddyinfo`, `pagetypeinfo` and the boot allocator's files say of
//! them.
//!
//! The first three are printed from the booted kernel's page allocator, and held against the recording but for what goes on
//! changing while a system runs: counters, free pages, what CPUs keep, how many free blocks there are, types of pageblocks.

use core::fmt;
use std::path::Path;

use kernmem::figures::online_cpus;
use kernmem::takers::Taken;
use kernmem::{Boot, Kernel, Witness};
use kernmem_base::{Era, Pfn};
use kernmem_memblock::Region;
use kernmem_report::memblock_log::{Style, debug_file};
use kernmem_report::proc;
use kernmem_view::BootRecord;
use kernmem_view::proc::{LiveZones, TextConfig, ZoneKind};

use crate::tally::FileTally;
use crate::verify::compare_lines;

/// The files about zones of a kernel that has just booted, beside what its recording has of them.
pub(crate) fn files<M, W: Witness>(kernel: &Kernel<'_, M, W>, boot: &Boot<'_>, path: &Path) -> Vec<FileTally> {
    let others = kernel.pages.other_cpus(&online_cpus(boot, &kernel.nodes), 0);
    let cpus: Vec<_> = core::iter::once(&kernel.pages.cpu).chain(&others).collect();
    let texts = TextConfig::of(&boot.config.kconfig, true, false);
    let live = LiveZones { allocator: &kernel.pages.allocator, cpus: &cpus, texts: &texts };
    let pageblocks = |nid, kind: ZoneKind, each: &mut dyn FnMut(Pfn, u64)| {
        let node = kernel.nodes.nodes.iter().find(|node| node.nid == nid);
        let zone = node.and_then(|node| node.zones.iter().find(|zone| zone.name == kind.name()));
        if let Some(zone) = zone {
            kernel.nodes.each_pageblock(kernel.era, &kernel.sections, nid, zone, each);
        }
    };
    let text = |print: &dyn Fn(&mut String) -> fmt::Result| {
        let mut out = String::new();
        print(&mut out).map(|()| out).unwrap_or_default()
    };
    let compare = |file: &str, settled: &dyn Fn(&str) -> Vec<String>, ours: String| {
        let recorded = std::fs::read_to_string(path.join(file)).ok()?;
        Some(compare_lines(file, &settled(&ours), &settled(&recorded)))
    };
    let zoneinfo = text(&|out| proc::zoneinfo(kernel.era, &live.zoneinfo(), out));
    let buddyinfo = text(&|out| proc::buddyinfo(&live.buddyinfo(), out));
    let pagetypeinfo = text(&|out| proc::pagetypeinfo(&live.pagetypeinfo(pageblocks), out));
    let tallies = [
        compare("zoneinfo", &|text| settled_zoneinfo(kernel.era, text), zoneinfo),
        compare("buddyinfo", &settled_rows, buddyinfo),
        compare("pagetypeinfo", &settled_rows, pagetypeinfo),
    ];
    tallies.into_iter().flatten().collect()
}

/// Fields of `zoneinfo` whose numbers go on changing.
const MOVING: [&str; 3] = ["pages free", "count:", "node_unreclaimable:"];

/// The lines of `zoneinfo` with their zones: whole where boot settles their numbers, else without them. Counters are the
/// lines that are indented by six. From 6.12 on how many pages a CPU keeps goes up and down too.
fn settled_zoneinfo(era: Era, text: &str) -> Vec<String> {
    let adapts = match era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 => false,
        Era::V6_12 | Era::V7_2 => true,
    };
    let (mut zone, mut lines) = ("", Vec::new());
    for line in text.lines() {
        if line.starts_with("Node") {
            zone = line;
        }
        let field = line.trim_start();
        let moves = line.len() - field.len() == 6
            || MOVING.iter().any(|name| field.starts_with(name))
            || adapts && field.starts_with("high:");
        let shown = if moves { line.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end() } else { line };
        lines.push(format!("{zone}: {shown}"));
    }
    lines
}

/// The lines of `buddyinfo` and `pagetypeinfo`: of rows with free blocks the head and how many columns there are, of
/// rows with pageblocks the head and their sum, since types change while the system runs.
fn settled_rows(text: &str) -> Vec<String> {
    let mut counts_pageblocks = false;
    let mut settled = Vec::new();
    for line in text.lines() {
        counts_pageblocks = match line {
            _ if line.starts_with("Number of blocks type") => true,
            _ if line.starts_with("Node") => counts_pageblocks,
            _ => false,
        };
        if !line.starts_with("Node") {
            settled.push(line.to_owned());
            continue;
        }
        let end = line.rfind(|c: char| c.is_alphabetic()).map_or(0, |at| at + 1);
        let (head, numbers) = line.split_at(end);
        let numbers: Vec<u64> =
            numbers.split_whitespace().filter_map(|number| number.trim_start_matches('>').parse().ok()).collect();
        settled.push(match counts_pageblocks {
            true => format!("{head}: {} pageblocks", numbers.iter().sum::<u64>()),
            false => format!("{head}: {} columns", numbers.len()),
        });
    }
    settled
}

/// Compares one of the boot allocator's lists; a difference names who took our region.
pub(crate) fn memblock_list(
    file: &str,
    regions: &[Region],
    record: &BootRecord,
    era: Era,
    path: &Path,
) -> Option<FileTally> {
    let recorded = std::fs::read_to_string(path.join(file)).ok()?;
    let ours = debug_file(Style::new(era), regions).to_string();
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let mut tally = compare_lines(file, &lines(&ours), &lines(&recorded));
    if let Some((line, text, _)) = &mut tally.difference
        && let Some(Taken { taker, .. }) = regions.get(*line).and_then(|region| record.taker(region.base))
    {
        text.push_str(&format!(" ({taker:?}, {})", taker.caller()));
    }
    Some(tally)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_move_are_left_out_and_settled_ones_name_their_zone() {
        let text = "Node 0, zone      DMA\n  per-node stats\n      nr_mapped    7\n  pages free     768308\n\
                    \x20       min      5632\n        protection: (0, 12)\n    cpu: 0\n              count: 3\n\
                    \x20             high:  44\n  start_pfn:           262144\n";
        let expected = [
            "Node 0, zone      DMA",
            "  per-node stats",
            "      nr_mapped",
            "  pages free",
            "        min      5632",
            "        protection: (0, 12)",
            "    cpu: 0",
            "              count:",
            "              high:  44",
            "  start_pfn:           262144",
        ];
        let with_zone = |line| format!("Node 0, zone      DMA: {line}");
        assert_eq!(settled_zoneinfo(Era::V6_1, text), expected.map(with_zone));
        let later = expected.map(|line| if line.contains("high:") { "              high:" } else { line });
        assert_eq!(settled_zoneinfo(Era::V6_12, text), later.map(with_zone));
    }

    #[test]
    fn rows_keep_their_heads_and_pageblocks_their_sum() {
        let text = "Pages per block:  512\nNode    0, zone   Normal, type  Reclaimable      1 >100000 \n\n\
                    Number of blocks type     Unmovable      Movable \nNode 0, zone   Normal            4          506 \n\
                    Page block order: 9\nNode    1, zone   Normal, type      Movable      1      0 \n";
        let expected = [
            "Pages per block:  512",
            "Node    0, zone   Normal, type  Reclaimable: 2 columns",
            "",
            "Number of blocks type     Unmovable      Movable ",
            "Node 0, zone   Normal: 510 pageblocks",
            "Page block order: 9",
            "Node    1, zone   Normal, type      Movable: 2 columns",
        ];
        assert_eq!(settled_rows(text), expected);
    }
}
