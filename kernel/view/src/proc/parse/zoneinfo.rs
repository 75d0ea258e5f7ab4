//! Reads `/proc/zoneinfo`.
//!
//! Source: Linux 5.10–7.2 mm/vmstat.c `zoneinfo_show_print`.

use alloc::vec::Vec;

use kernmem_base::Pfn;

use super::super::{
    CounterKind, Counters, NodeCounter, NumaCounter, Pageset, PopulatedZone, ZoneCounter, ZoneInfo, ZoneText,
};
use super::{Line, Lines, ParseError};

/// Reads `/proc/zoneinfo`; what an era does not print is 0.
///
/// # Errors
/// The first line that does not stand in such a file, or not there.
pub fn zoneinfo(text: &str) -> Result<ZoneInfo, ParseError> {
    let mut zones: Vec<ZoneText> = Vec::new();
    let mut place = Place::Node;
    for line in Lines::new(text) {
        if line.text.starts_with("Node") {
            zones.push(empty(&line)?);
            place = Place::Node;
            continue;
        }
        let zone = zones.last_mut().ok_or_else(|| line.wrong("`Node N, zone NAME`"))?;
        place = read(&line, zone, place)?;
    }
    Ok(ZoneInfo { zones })
}

/// Whose counters a line may name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The node's: before the zone's sizes.
    Node,
    /// The zone's: behind them.
    Zone,
}

fn empty(line: &Line<'_>) -> Result<ZoneText, ParseError> {
    let (node, kind, _) = line.node_and_zone()?;
    Ok(ZoneText {
        node,
        kind,
        node_counters: None,
        free: 0,
        boost: 0,
        min: 0,
        low: 0,
        high: 0,
        promo: 0,
        spanned: 0,
        present: 0,
        managed: 0,
        cma: 0,
        protection: Vec::new(),
        populated: None,
    })
}

fn read(line: &Line<'_>, zone: &mut ZoneText, place: Place) -> Result<Place, ParseError> {
    let mut words = line.text.split_whitespace();
    let first = words.next().ok_or_else(|| line.wrong("a figure of a zone"))?;
    let last = words.next_back().unwrap_or_default();
    match (first, place) {
        ("per-node", _) => zone.node_counters = Some(Counters::none()),
        ("pages", _) => {
            zone.free = line.number(last)?;
            return Ok(Place::Zone);
        }
        ("protection:", _) => zone.protection = protection(line)?,
        (name, Place::Node) => {
            let counters = zone.node_counters.as_mut().ok_or_else(|| line.wrong("`per-node stats`"))?;
            count::<NodeCounter>(line, counters, name, last)?;
        }
        (name, Place::Zone) => match size(zone, name) {
            Some(slot) => *slot = line.number(last)?,
            None => populated(line, zone, name, last)?,
        },
    }
    Ok(place)
}

fn size<'z>(zone: &'z mut ZoneText, name: &str) -> Option<&'z mut u64> {
    Some(match name {
        "boost" => &mut zone.boost,
        "min" => &mut zone.min,
        "low" => &mut zone.low,
        "high" => &mut zone.high,
        "promo" => &mut zone.promo,
        "spanned" => &mut zone.spanned,
        "present" => &mut zone.present,
        "managed" => &mut zone.managed,
        "cma" => &mut zone.cma,
        _ => return None,
    })
}

/// `protection: (a, b, c)`.
fn protection(line: &Line<'_>) -> Result<Vec<u64>, ParseError> {
    let list = line.text.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    let list = list.ok_or_else(|| line.wrong("a list in parentheses"))?;
    list.split(", ").map(|word| line.number(word)).collect()
}

fn count<K: CounterKind>(line: &Line<'_>, to: &mut Counters<K>, name: &str, value: &str) -> Result<(), ParseError> {
    let kind = K::of_name(name).ok_or_else(|| line.wrong("a known counter"))?;
    to.values.push((kind, line.number(value)?));
    Ok(())
}

/// A line that only a populated zone has.
fn populated(line: &Line<'_>, zone: &mut ZoneText, name: &str, value: &str) -> Result<(), ParseError> {
    let own = zone.populated.get_or_insert_with(|| PopulatedZone {
        counters: Counters::none(),
        numa: Counters::none(),
        pagesets: Vec::new(),
        unreclaimable: 0,
        start_pfn: Pfn(0),
        reserved_highatomic: 0,
        free_highatomic: 0,
    });
    match name {
        "pagesets" => {}
        "cpu:" => own.pagesets.push(Pageset { cpu: line.small(value)?, ..Pageset::default() }),
        "count:" | "high:" | "batch:" | "high_min:" | "high_max:" | "vm" => {
            let set = own.pagesets.last_mut().ok_or_else(|| line.wrong("`cpu:`"))?;
            let value = line.number(value)?;
            match name {
                "count:" => set.count = value,
                "high:" => set.high = value,
                "batch:" => set.batch = value,
                "high_min:" => set.high_min = value,
                "high_max:" => set.high_max = value,
                _ => set.threshold = Some(value),
            }
        }
        "node_unreclaimable:" => own.unreclaimable = line.number(value)?,
        "start_pfn:" => own.start_pfn = Pfn(line.number(value)?),
        "reserved_highatomic:" => own.reserved_highatomic = line.number(value)?,
        "free_highatomic:" => own.free_highatomic = line.number(value)?,
        name if NumaCounter::of_name(name).is_some() => count(line, &mut own.numa, name, value)?,
        name => count::<ZoneCounter>(line, &mut own.counters, name, value)?,
    }
    Ok(())
}
