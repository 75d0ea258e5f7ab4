//! Who took memory before the page allocator, and what the page allocator has at which moment: held against every
//! recording in the tree.

use crate::common::{recordings, with_kernel};
use kernmem::zones::{Node, Zone};
use kernmem_base::{Era, PhysRange};

/// The parts of `range` that none of `parts` covers.
fn uncovered(range: PhysRange, parts: &[PhysRange]) -> Vec<PhysRange> {
    let mut rest = vec![range];
    for part in parts {
        rest = rest
            .into_iter()
            .flat_map(|piece| {
                let before = PhysRange::new(piece.start, piece.end.min(part.start.max(piece.start)));
                let behind = PhysRange::new(piece.start.max(part.end.min(piece.end)), piece.end);
                [before, behind]
            })
            .filter(|piece| !piece.is_empty())
            .collect();
    }
    rest
}

#[test]
fn every_byte_that_is_taken_has_a_taker() {
    let mut nobody = Vec::new();
    for path in recordings() {
        with_kernel(&path, |kernel, _| {
            let record = kernel.witness();
            let page = kernel.granule.bytes();
            let tables = record.tables.iter().map(|table| PhysRange::new(table.pa, table.pa + page));
            let parts: Vec<PhysRange> = record.taken.iter().map(|taken| taken.range).chain(tables).collect();
            for region in kernel.memblock.reserved().regions() {
                let rest = uncovered(region.range(), &parts);
                nobody.extend(rest.into_iter().map(|range| format!("{}: {range:x?}", path.display())));
            }
        });
    }
    assert!(nobody.is_empty(), "{}", nobody.join("\n"));
}

/// The zones of a kernel, and the ratio by which each keeps pages from requests that could use higher ones.
type Ratios = [(&'static str, u64); 4];

const ZONES: Ratios = [("DMA", 256), ("DMA32", 256), ("Normal", 32), ("Movable", 0)];

/// The same of a kernel with high memory.
const ZONES_WITH_HIGH: Ratios = [("DMA", 256), ("Normal", 32), ("HighMem", 0), ("Movable", 0)];

/// What each zone keeps from requests that could use higher zones: their managed pages at that moment by its ratio.
fn protection(node: &Node, zones: &Ratios) -> Vec<String> {
    let managed =
        |name: &str| node.zones.iter().find(|zone| zone.name == name).map_or(0, |zone| zone.managed.at_reserves);
    let line = |index: usize| {
        let kept = |to: usize| {
            let above: u64 = (index + 1..=to).map(|higher| managed(zones[higher].0)).sum();
            let (name, ratio) = zones[index];
            if managed(name) == 0 || ratio == 0 { 0 } else { above / ratio }
        };
        let kept: Vec<String> = (0..zones.len()).map(|to| kept(to).to_string()).collect();
        format!("({})", kept.join(", "))
    };
    (0..zones.len()).map(line).collect()
}

#[test]
fn reserves_of_lower_zones_follow_from_what_was_managed_then() {
    let mut checked = 0;
    for path in recordings() {
        let Ok(text) = std::fs::read_to_string(path.join("zoneinfo")) else { continue };
        let lines = text.lines().filter_map(|line| line.trim().strip_prefix("protection: "));
        let recorded: Vec<String> = lines.map(str::to_owned).collect();
        with_kernel(&path, |kernel, _| {
            let nodes = &kernel.nodes.nodes;
            let has_high = nodes.iter().any(|node| node.zones.iter().any(|zone| zone.name == "HighMem"));
            let zones = if has_high { ZONES_WITH_HIGH } else { ZONES };
            let ours: Vec<String> = nodes.iter().flat_map(|node| protection(node, &zones)).collect();
            assert_eq!(ours, recorded, "{}", path.display());
            checked += recorded.len();
        });
    }
    assert!(checked > 200, "{checked} zones");
}

/// The smallest watermark of each zone is its share of one sum, by the managed pages of that moment, rounded down: a sum
/// must exist from which all recorded ones follow. High memory has no
/// share, and from 6.12 on Movable neither.
#[test]
fn shares_of_the_watermarks_follow_from_what_was_managed_then() {
    let (mut checked, mut only_then) = (0, 0);
    for path in recordings() {
        let Ok(text) = std::fs::read_to_string(path.join("zoneinfo")) else { continue };
        let figures = |name: &str| -> Vec<u64> {
            let lines = text.lines().filter_map(|line| line.trim().strip_prefix(name));
            lines.filter_map(|rest| rest.trim().parse().ok()).collect()
        };
        let present: Vec<u64> = figures("present ");
        let is_populated = |index: usize| present.get(index).is_some_and(|pages| *pages > 0);
        let recorded: Vec<u64> = figures("min ")
            .into_iter()
            .enumerate()
            .filter(|(index, _)| is_populated(*index))
            .map(|(_, min)| min)
            .collect();
        with_kernel(&path, |kernel, _| {
            let has_share = |zone: &Zone| match kernel.era {
                Era::V4_14 | Era::V5_10 | Era::V6_1 => zone.name != "HighMem",
                Era::V6_12 | Era::V7_2 => zone.name != "HighMem" && zone.name != "Movable",
            };
            let present = kernel.nodes.nodes.iter().flat_map(|node| &node.zones).filter(|zone| zone.present > 0);
            let low = present.zip(&recorded).filter(|(zone, _)| has_share(zone));
            let (zones, recorded): (Vec<&Zone>, Vec<u64>) = low.unzip();
            let zones = || zones.iter();
            let follows = |managed: Vec<u64>| {
                let all: u64 = managed.iter().sum();
                let least: u64 = recorded.iter().sum();
                (least..=least + recorded.len() as u64)
                    .any(|sum| managed.iter().map(|pages| sum * pages / all).eq(recorded.iter().copied()))
            };
            let then = zones().map(|zone| zone.managed.at_watermarks).collect();
            assert!(follows(then), "{}: {recorded:?}", path.display());
            only_then += usize::from(!follows(zones().map(|zone| zone.managed.at_end).collect()));
            checked += 1;
        });
    }
    assert!(checked > 60, "{checked} recordings");
    assert!(only_then > 0, "the moment makes no difference");
}
