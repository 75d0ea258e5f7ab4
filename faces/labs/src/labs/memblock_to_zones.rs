//! Document 002: how the boot allocator's memory becomes nodes, zones and free pages.

use std::collections::BTreeMap;

use kernmem::LogEntry;
use kernmem_base::{CpuId, FrameOrigin, Granule, Order};
use kernmem_live::{Live, LiveError};
use kernmem_page_alloc::{Gfp, PageSource};
use kernmem_view::{BootRecord, Told};

use crate::bench::{Bench, Own};
use crate::notebook::Notebook;
use crate::texts::Text;
use crate::{ClaimId, Holds, Lab, LabError, LabOptions, Value};

const STEPS: ClaimId = ClaimId::new(2, 5);
const NODES: ClaimId = ClaimId::new(2, 6);
const MANAGED: ClaimId = ClaimId::new(2, 9);

pub(crate) const LAB: Lab = Lab {
    name: "memblock-to-zones",
    title: Text::ToZonesTitle,
    reverse: Text::ToZonesReverse,
    claims: &[STEPS, NODES, MANAGED],
    run,
};

/// 4 GiB in two nodes, with a CPU each.
const MACHINE: &str = r#"
arch = "arm64"
model = "two nodes"
cmdline = "rodata=off"
cpus = 2

[[memory]]
start = "1G"
size = "1536M"
node = 0

[[memory]]
start = "0xa0000000"
size = "2560M"
node = 1

[given]
text_phys = "0x40200000"
"#;

const PAGE: u64 = Granule::K4.bytes();

/// Takers below it are told as one.
const LARGE: u64 = 1 << 20;

fn run(options: &LabOptions, book: &mut Notebook<'_>) -> Result<(), LabError> {
    let mut bench = Bench::open(options, Own::Described(MACHINE))?;
    if options.source.is_none() {
        bench.source.machine.cpu_nodes = vec![0, 1];
    }
    let bench = match (options.reverse, options.parts.cmdline.is_some()) {
        (true, false) => bench.with_word("numa", Some("numa=off")),
        _ => bench,
    };
    bench.live(|live| {
        steps(&bench, live, book)?;
        nodes(&bench, live, book)?;
        managed(&bench, live, book)
    })
}

/// Whole pages of the boot allocator's memory.
fn memory_pages(live: &Live<'_>) -> u64 {
    let regions = live.running.kernel.memblock.memory().regions();
    regions.iter().map(|region| (region.end().0 / PAGE).saturating_sub(region.base.0.div_ceil(PAGE))).sum()
}

/// Pages of all zones: memory, and what the hand-over gave.
fn zone_pages(live: &Live<'_>) -> (u64, u64) {
    let zones = live.running.kernel.nodes.nodes.iter().flat_map(|node| node.zones.iter());
    zones.fold((0, 0), |(present, given), zone| (present + zone.present, given + zone.managed.handed_over))
}

/// Changes of the boot allocator's lists before the zones have limits, from there to the hand-over, and after it.
fn changes(record: &BootRecord) -> [u64; 3] {
    let mut counts = [0; 3];
    let mut step = 0;
    for told in &record.told {
        match told {
            Told::Log(LogEntry::ZoneRanges(_)) => step = 1,
            Told::Log(LogEntry::HandOver { .. }) => step = 2,
            Told::Memblock(_) => counts[step] += 1,
            Told::Log(_) => {}
        }
    }
    counts
}

fn steps(bench: &Bench, live: &Live<'_>, book: &mut Notebook<'_>) -> Result<(), LabError> {
    book.claim(STEPS, Text::StepsClaim)?;
    let kernel = &live.running.kernel;
    let record = kernel.witness();
    let regions = kernel.memblock.memory().regions();
    let (memory, (present, given)) = (memory_pages(live), zone_pages(live));
    let [before, between, after] = changes(record);
    let tables = |origin| Value::Count(record.tables.iter().filter(|table| table.origin == origin).count() as u64);
    book.say(
        Text::StepMemblock,
        &[
            ("regions", Value::Count(regions.len() as u64)),
            ("memory", Value::Bytes(memory * PAGE)),
            ("before", Value::Count(before)),
        ],
    )?;
    book.say(
        Text::StepTables,
        &[("tables", tables(FrameOrigin::Memblock)), ("image_tables", tables(FrameOrigin::Image))],
    )?;
    book.say(Text::StepZones, &[("present", Value::Bytes(present * PAGE)), ("between", Value::Count(between))])?;
    for limit in &kernel.nodes.limits {
        let bytes = limit.span.end.0.saturating_sub(limit.span.start.0) * PAGE;
        book.show(
            Text::ZoneLimit,
            &[
                ("zone", Value::Name(format!("{:7}", limit.name))),
                ("start", Value::Address(limit.span.start.0 * PAGE)),
                ("bytes", Value::Bytes(bytes)),
            ],
        )?;
    }
    book.say(Text::StepHandOver, &[("given", Value::Bytes(given * PAGE)), ("after", Value::Count(after))])?;
    let holds = if present == memory { Holds::OnlyIf(Text::PagesAtHandOver) } else { Holds::No(Text::ZonesDiffer) };
    book.conclude(bench.era(), holds)
}

fn nodes(bench: &Bench, live: &mut Live<'_>, book: &mut Notebook<'_>) -> Result<(), LabError> {
    book.claim(NODES, Text::NodesClaim)?;
    let regions = live.running.kernel.memblock.memory().regions();
    let without = regions.iter().filter(|region| region.nid.is_none()).count() as u64;
    let mut of_nodes = 0;
    for node in &live.running.kernel.nodes.nodes {
        let own = regions.iter().filter(|region| region.nid.is_some_and(|nid| nid.0 == node.nid));
        let bytes: u64 = own.map(|region| region.size).sum();
        of_nodes += bytes;
        let zones: Vec<&str> = node.zones.iter().filter(|zone| zone.present > 0).map(|zone| zone.name).collect();
        let order: Vec<String> =
            live.running.kernel.pages.allocator.fallback_order(node.nid).map(|nid| nid.to_string()).collect();
        let row = [
            ("nid", Value::Count(u64::from(node.nid))),
            ("bytes", Value::Bytes(bytes)),
            ("zones", Value::Name(zones.join(", "))),
            ("order", Value::Name(order.join(", "))),
        ];
        book.show(Text::NodeRow, &row)?;
    }
    let count = live.running.kernel.nodes.nodes.len() as u64;
    book.say(Text::NodesInAll, &[("nodes", Value::Count(count)), ("of_nodes", Value::Bytes(of_nodes))])?;
    let cpus = live.running.cpu_count();
    let mut local = 0;
    for cpu in (0..cpus).map(CpuId) {
        local += u64::from(is_local(live, cpu, book)?);
    }
    book.say(Text::LocalPages, &[("local", Value::Count(local)), ("cpus", Value::Count(u64::from(cpus)))])?;
    let holds = if without == 0 && local == u64::from(cpus) { Holds::Yes } else { Holds::No(Text::NotLocal) };
    book.conclude(bench.era(), holds)
}

/// Whether a CPU that asks for a page gets it from its own node.
fn is_local(live: &mut Live<'_>, cpu: CpuId, book: &mut Notebook<'_>) -> Result<bool, LabError> {
    let mut pages = live.running.pages(cpu).ok_or(LabError::Missing("CPU"))?;
    let pfn = pages.alloc(Gfp::KERNEL, Order(0)).map_err(LiveError::from)?;
    pages.free(pfn, Order(0)).map_err(LiveError::from)?;
    let (own, from) = (live.running.facts.node_of(cpu.0), live.running.node_of(pfn));
    let row = [
        ("cpu", Value::Count(u64::from(cpu.0))),
        ("own", Value::Count(u64::from(own))),
        ("from", Value::Count(u64::from(from))),
        ("pa", Value::Address(pfn.0 * PAGE)),
    ];
    book.show(Text::CpuRow, &row)?;
    Ok(own == from)
}

fn managed(bench: &Bench, live: &Live<'_>, book: &mut Notebook<'_>) -> Result<(), LabError> {
    book.claim(MANAGED, Text::ManagedClaim)?;
    let kernel = &live.running.kernel;
    let record = kernel.witness();
    let free = record.log().find_map(|entry| match entry {
        LogEntry::HandOver { free_pages } => Some(free_pages.0),
        _ => None,
    });
    let free = free.ok_or(LabError::Missing("hand-over"))?;
    let (memory, (_, handed_over)) = (memory_pages(live), zone_pages(live));
    let allocator = &kernel.pages.allocator;
    let cached: u64 = live.running.cpu_lists().map(|cpu| cpu.total()).sum();
    book.say(
        Text::LeftFree,
        &[
            ("memory", Value::Bytes(memory * PAGE)),
            ("free", Value::Bytes(free * PAGE)),
            ("reserved", Value::Bytes((memory - free) * PAGE)),
        ],
    )?;
    takers(record, book)?;
    for node in &kernel.nodes.nodes {
        for zone in node.zones.iter().filter(|zone| zone.present > 0) {
            let row = [
                ("nid", Value::Count(u64::from(node.nid))),
                ("zone", Value::Name(format!("{:7}", zone.name))),
                ("present", Value::Count(zone.present)),
                ("handed", Value::Count(zone.managed.handed_over)),
                ("at_end", Value::Count(zone.managed.at_end)),
            ];
            book.show(Text::ZoneRow, &row)?;
        }
    }
    let (managed, now) = (allocator.managed(), allocator.free_frames() + cached);
    book.say(
        Text::ManagedNow,
        &[
            ("handed_over", Value::Count(handed_over)),
            ("late", Value::Count(managed - handed_over)),
            ("managed", Value::Count(managed)),
            ("now", Value::Count(now)),
            ("used", Value::Count(managed - now)),
        ],
    )?;
    let at_end: u64 =
        kernel.nodes.nodes.iter().flat_map(|node| node.zones.iter()).map(|zone| zone.managed.at_end).sum();
    let adds_up = handed_over == free && managed == at_end;
    book.conclude(bench.era(), if adds_up { Holds::OnlyIf(Text::WhatIsLeft) } else { Holds::No(Text::DoesNotAddUp) })
}

/// Who took the most before there was a page allocator.
fn takers(record: &BootRecord, book: &mut Notebook<'_>) -> Result<(), LabError> {
    let mut by_taker: BTreeMap<&str, u64> = BTreeMap::new();
    for taken in &record.taken {
        *by_taker.entry(taken.taker.caller()).or_default() += taken.range.size();
    }
    let mut rows: Vec<(&str, u64)> = by_taker.into_iter().filter(|(_, bytes)| *bytes >= LARGE).collect();
    rows.sort_unstable_by_key(|&(name, bytes)| (core::cmp::Reverse(bytes), name));
    for (name, bytes) in rows {
        book.show(Text::TakerRow, &[("taker", Value::Name(name.to_owned())), ("bytes", Value::Bytes(bytes))])?;
    }
    Ok(())
}
