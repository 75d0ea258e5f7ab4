//! `/proc/zoneinfo`.
//!
//! Source: Linux 5.10–7.2 mm/vmstat.c `zoneinfo_show_print`.

use core::fmt;

use kernmem_base::Era;
use kernmem_view::proc::{CounterKind, Counters, Pageset, PopulatedZone, ZoneInfo, ZoneText};

/// `/proc/zoneinfo`.
///
/// | era | zone's sizes | a CPU's lists | at the end |
/// |---|---|---|---|
/// | 4.14 (UNVERIFIED), 5.10 | | count, high, batch | |
/// | 6.1 | boost, cma | same | |
/// | 6.12 | boost, promo, cma | same | |
/// | 7.2 | boost, promo, cma | also the limits of high, in wider columns | pages kept for urgent requests |
///
/// # Errors
/// The writer failed.
///
/// Source: Linux 5.10–7.2 mm/vmstat.c `zoneinfo_show_print`.
pub fn zoneinfo(era: Era, info: &ZoneInfo, out: &mut impl fmt::Write) -> fmt::Result {
    info.zones.iter().try_for_each(|zone| print_zone(era, zone, out))
}

/// Which of the lines that came later an era has.
struct Has {
    boost_and_cma: bool,
    promo: bool,
    limits: bool,
}

const fn has(era: Era) -> Has {
    match era {
        Era::V4_14 | Era::V5_10 => Has { boost_and_cma: false, promo: false, limits: false },
        Era::V6_1 => Has { boost_and_cma: true, promo: false, limits: false },
        Era::V6_12 => Has { boost_and_cma: true, promo: true, limits: false },
        Era::V7_2 => Has { boost_and_cma: true, promo: true, limits: true },
    }
}

fn print_zone(era: Era, zone: &ZoneText, out: &mut impl fmt::Write) -> fmt::Result {
    let has = has(era);
    writeln!(out, "Node {}, zone {:>8}", zone.node, zone.kind)?;
    if let Some(counters) = &zone.node_counters {
        writeln!(out, "  per-node stats")?;
        print_counters(counters, out)?;
    }
    writeln!(out, "  pages free     {}", zone.free)?;
    let sizes = [
        ("boost", zone.boost, has.boost_and_cma),
        ("min", zone.min, true),
        ("low", zone.low, true),
        ("high", zone.high, true),
        ("promo", zone.promo, has.promo),
        ("spanned", zone.spanned, true),
        ("present", zone.present, true),
        ("managed", zone.managed, true),
        ("cma", zone.cma, has.boost_and_cma),
    ];
    for (name, value, _) in sizes.iter().filter(|(_, _, is_printed)| *is_printed) {
        writeln!(out, "        {name:<8} {value}")?;
    }
    write!(out, "        protection: (")?;
    for (at, pages) in zone.protection.iter().enumerate() {
        write!(out, "{}{pages}", if at == 0 { "" } else { ", " })?;
    }
    writeln!(out, ")")?;
    match &zone.populated {
        Some(own) => print_populated(&has, own, out),
        None => Ok(()),
    }
}

fn print_populated(has: &Has, own: &PopulatedZone, out: &mut impl fmt::Write) -> fmt::Result {
    print_counters(&own.counters, out)?;
    print_counters(&own.numa, out)?;
    writeln!(out, "  pagesets")?;
    for set in &own.pagesets {
        print_pageset(has, set, out)?;
    }
    writeln!(out, "  node_unreclaimable:  {}", own.unreclaimable)?;
    writeln!(out, "  start_pfn:           {}", own.start_pfn.0)?;
    if has.limits {
        writeln!(out, "  reserved_highatomic: {}", own.reserved_highatomic)?;
        writeln!(out, "  free_highatomic:     {}", own.free_highatomic)?;
    }
    Ok(())
}

fn print_pageset(has: &Has, set: &Pageset, out: &mut impl fmt::Write) -> fmt::Result {
    writeln!(out, "    cpu: {}", set.cpu)?;
    let figures = [
        ("count:", set.count, true),
        ("high:", set.high, true),
        ("batch:", set.batch, true),
        ("high_min:", set.high_min, has.limits),
        ("high_max:", set.high_max, has.limits),
    ];
    let width = if has.limits { 9 } else { 6 };
    for (name, value, _) in figures.iter().filter(|(_, _, is_printed)| *is_printed) {
        writeln!(out, "              {name:<width$} {value}")?;
    }
    match set.threshold {
        Some(threshold) => writeln!(out, "  vm stats threshold: {threshold}"),
        None => Ok(()),
    }
}

fn print_counters<K: CounterKind>(counters: &Counters<K>, out: &mut impl fmt::Write) -> fmt::Result {
    counters.values.iter().try_for_each(|(kind, value)| writeln!(out, "      {:<12} {value}", kind.name()))
}
