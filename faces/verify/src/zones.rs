//! Zones and memory lists after boot: what `zoneinfo`, `pagetypeinfo` and the boot allocator's files say of them.
//!
//! Of `zoneinfo` only what boot alone decides is compared here: where a zone lies and how much of it the page allocator
//! has. Of `pagetypeinfo` only the number of pageblocks: their types change while the system runs.

use std::path::Path;

use kernmem::takers::Taken;
use kernmem::zones::{Nodes, Zone};
use kernmem_base::Era;
use kernmem_memblock::Region;
use kernmem_report::memblock_log::{Style, debug_file};
use kernmem_view::BootRecord;

use crate::tally::FileTally;
use crate::verify::compare_lines;

/// The figures of a zone that are compared, by their names in `zoneinfo`.
const FIGURES: [&str; 4] = ["spanned", "present", "managed", "start_pfn:"];

/// Compares each zone's place and size.
pub(crate) fn zoneinfo(nodes: &Nodes, path: &Path) -> Option<FileTally> {
    let recorded = recorded_figures(&std::fs::read_to_string(path.join("zoneinfo")).ok()?);
    let mut ours = Vec::new();
    for node in &nodes.nodes {
        for zone in &node.zones {
            let (start, end) = (zone.span.start.0, zone.span.end.0);
            for (figure, value) in FIGURES.iter().zip([end - start, zone.present, zone.managed.at_end, start]) {
                ours.push(format!("Node {}, zone {}: {figure} {value}", node.nid, zone.name));
            }
        }
    }
    // Empty zones have no place, and ours need not list them.
    let recorded = without_empty_zones(recorded);
    Some(compare_lines("zoneinfo zones", &without_empty_zones(ours), &recorded))
}

fn recorded_figures(text: &str) -> Vec<String> {
    let (mut zone, mut lines) = (String::new(), Vec::new());
    for line in text.lines() {
        if let Some((node, name)) = line.strip_prefix("Node ").and_then(|rest| rest.split_once(", zone")) {
            zone = format!("Node {node}, zone {}", name.trim());
        }
        let mut words = line.split_ascii_whitespace();
        if let (Some(figure), Some(value), None) = (words.next(), words.next(), words.next())
            && FIGURES.contains(&figure)
        {
            lines.push(format!("{zone}: {figure} {value}"));
        }
    }
    lines
}

/// Drops the figures of zones that span nothing.
fn without_empty_zones(lines: Vec<String>) -> Vec<String> {
    let empty: Vec<String> =
        lines.iter().filter_map(|line| line.strip_suffix(" spanned 0")).map(|zone| format!("{zone} ")).collect();
    lines.into_iter().filter(|line| !empty.iter().any(|zone| line.starts_with(zone.as_str()))).collect()
}

/// Compares the number of pageblocks of each zone, all types together.
pub(crate) fn pagetypeinfo(nodes: &Nodes, blocks: impl Fn(u32, &Zone) -> u64, path: &Path) -> Option<FileTally> {
    let text = std::fs::read_to_string(path.join("pagetypeinfo")).ok()?;
    let total = |line: &str| {
        let (node, rest) = line.strip_prefix("Node ")?.split_once(", zone")?;
        let mut words = rest.split_ascii_whitespace();
        let name = words.next()?;
        let blocks: u64 = words.filter_map(|word| word.parse::<u64>().ok()).sum();
        Some(format!("Node {node}, zone {name}: {blocks} blocks"))
    };
    // Each node has its own table, with its own heading.
    let (mut inside, mut recorded) = (false, Vec::new());
    for line in text.lines() {
        if line.starts_with("Number of blocks type") {
            inside = true;
        } else if inside {
            let row = total(line);
            inside = row.is_some();
            recorded.extend(row);
        }
    }
    let mut ours = Vec::new();
    for node in &nodes.nodes {
        for zone in node.zones.iter().filter(|zone| zone.present > 0) {
            let blocks = blocks(node.nid, zone);
            ours.push(format!("Node {}, zone {}: {blocks} blocks", node.nid, zone.name));
        }
    }
    Some(compare_lines("pagetypeinfo blocks", &ours, &recorded))
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
    fn figures_are_read_by_zone_and_empty_zones_are_left_out() {
        let text = "Node 0, zone      DMA\n  pages free     768308\n        spanned  786432\n        present  786432\n\
                    \x20       managed  768676\n  start_pfn:           262144\nNode 0, zone    DMA32\n\
                    \x20       spanned  0\n        present  0\n        managed  0\n";
        let lines = without_empty_zones(recorded_figures(text));
        let expected = ["spanned 786432", "present 786432", "managed 768676", "start_pfn: 262144"]
            .map(|figure| format!("Node 0, zone DMA: {figure}"));
        assert_eq!(lines, expected);
    }
}
