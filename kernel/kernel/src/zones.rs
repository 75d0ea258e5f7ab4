//! Nodes and zones: their limits and spans, as the boot log tells them.
//!
//! Source: Linux 6.1 mm/page_alloc.c `free_area_init`, `init_unavailable_range`.

use alloc::vec::Vec;

use kernmem_base::{Era, Granule, Pfn, PhysAddr, PhysRange};
use kernmem_firmware::Machine;
use kernmem_memblock::{Memblock, PfnRange, RegionArray};
use kernmem_sparse::{Model, SectionNr, Sections, SparseArch, VecStore};

use crate::managed::Managed;
use crate::takers::page_counts::{self, FreePages};
use crate::{LogEntry, Witness};

/// The frames `[start, end)`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// First frame.
    pub start: Pfn,
    /// One past the last.
    pub end: Pfn,
}

impl Span {
    /// Whether there is no frame.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.start.0 >= self.end.0
    }

    /// The frames that both have.
    #[must_use]
    pub fn cut(&self, other: &Self) -> Self {
        Self { start: self.start.max(other.start), end: self.end.min(other.end) }
    }
}

/// A zone of the whole machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ZoneLimits {
    /// Linux's name.
    pub name: &'static str,
    /// Its frames, holes included.
    pub span: Span,
}

/// A zone of one node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Zone {
    /// Linux's name.
    pub name: &'static str,
    /// Frames from the first to the last, holes included.
    pub span: Span,
    /// Frames of memory in it.
    pub present: u64,
    /// Frames that the page allocator has, by moment.
    pub managed: Managed,
}

/// A node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Node {
    /// Its number.
    pub nid: u32,
    /// From its first to its last memory.
    pub span: Span,
    /// Its zones in order, empty ones included.
    pub zones: Vec<Zone>,
}

/// All nodes, and the zones' limits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Nodes {
    /// The page size.
    pub granule: Granule,
    /// The zones of the whole machine, in order.
    pub limits: Vec<ZoneLimits>,
    /// The nodes.
    pub nodes: Vec<Node>,
    /// Memory in whole frames with its node, ascending.
    pub memory: Vec<(u32, Span)>,
    /// Whole free frames of the boot allocator when the zones were made.
    pub free: FreePages,
}

/// Turns the upper ends of the zones (in order; a zone whose end is not above its predecessor's is empty) into limits.
#[must_use]
pub fn limits(start_of_dram: Pfn, ends: &[(&'static str, Pfn)]) -> Vec<ZoneLimits> {
    let mut from = start_of_dram;
    ends.iter()
        .map(|&(name, end)| {
            let span = Span { start: from, end: end.max(from) };
            from = span.end;
            ZoneLimits { name, span }
        })
        .collect()
}

/// Cuts the machine's zones out of its memory and tells the log.
pub fn free_area_init<A: RegionArray, W: Witness>(
    memblock: &mut Memblock<A, W>,
    sections: &mut Sections<VecStore>,
    limits: Vec<ZoneLimits>,
    movable: &[(u32, Pfn)],
) -> Nodes {
    let granule = memblock.limits().granule;
    // With nodes, memory that has none is never used: x86 leaves it so above what its tables can reach.
    let numa = memblock.limits().numa;
    let free = page_counts::free_pages(memblock, &limits);
    let ranges: Vec<PfnRange> = memblock.pfn_ranges(None).filter(|range| !numa || range.nid.is_some()).collect();
    let mapped = memblock.mapped_regions().map(|region| region.range()).collect();
    let log = memblock.observer();
    let zone_ranges = limits.iter().map(|zone| (zone.name, bytes(zone.span, granule)));
    log.log(LogEntry::ZoneRanges(zone_ranges.collect()));
    let address = |pfn: Pfn| pfn.to_phys(granule).unwrap_or(PhysAddr(u64::MAX));
    log.log(LogEntry::MovableStarts(movable.iter().map(|&(nid, pfn)| (nid, address(pfn))).collect()));
    let node_ranges = ranges.iter().filter_map(|range| {
        let span = bytes(Span { start: range.start, end: range.end }, granule)?;
        Some((range.nid.map_or(0, |nid| nid.0), span))
    });
    log.log(LogEntry::NodeRanges(node_ranges.collect()));
    for range in &ranges {
        sections.note_early_range(range.start, range.end);
    }
    let mut nids: Vec<u32> = ranges.iter().map(|range| range.nid.map_or(0, |nid| nid.0)).collect();
    nids.sort_unstable();
    nids.dedup();
    let nodes: Vec<Node> = nids.iter().map(|&nid| node(nid, &ranges, &limits, movable)).collect();
    for node in &nodes {
        if let Some(span) = bytes(node.span, granule) {
            log.log(LogEntry::InitmemSetup { nid: node.nid, span });
        }
    }
    let memory =
        ranges.iter().map(|range| (range.nid.map_or(0, |nid| nid.0), Span { start: range.start, end: range.end }));
    let nodes = Nodes { granule, limits, nodes, memory: memory.collect(), free };
    let described = Described::new(sections, mapped);
    unavailable(&nodes, &ranges, &described, log);
    nodes
}

fn bytes(span: Span, granule: Granule) -> Option<PhysRange> {
    if span.is_empty() {
        return None;
    }
    Some(PhysRange { start: span.start.to_phys(granule)?, end: span.end.to_phys(granule)? })
}

fn node(nid: u32, ranges: &[PfnRange], limits: &[ZoneLimits], movable: &[(u32, Pfn)]) -> Node {
    let own = || ranges.iter().filter(move |range| range.nid.map_or(0, |own| own.0) == nid);
    let span = Span {
        start: own().map(|range| range.start).min().unwrap_or_default(),
        end: own().map(|range| range.end).max().unwrap_or_default(),
    };
    let movable_start = movable.iter().find(|(node, _)| *node == nid).map(|(_, start)| *start);
    let present = |zone: &Span| -> u64 {
        own()
            .map(|range| zone.cut(&Span { start: range.start, end: range.end }))
            .filter(|cut| !cut.is_empty())
            .map(|cut| cut.end.0 - cut.start.0)
            .sum()
    };
    let mut zones: Vec<Zone> = limits
        .iter()
        .map(|limit| {
            let mut zone = limit.span.cut(&span);
            if let Some(start) = movable_start {
                zone.end = zone.end.min(start);
            }
            let zone = if zone.is_empty() { Span { start: Pfn(0), end: Pfn(0) } } else { zone };
            Zone { name: limit.name, span: zone, present: present(&zone), managed: Managed::default() }
        })
        .collect();
    if let Some(start) = movable_start {
        let zone = Span { start, end: span.end };
        zones.push(Zone { name: "Movable", span: zone, present: present(&zone), managed: Managed::default() });
    }
    Node { nid, span, zones }
}

impl Nodes {
    /// The node of a CPU: the one that firmware tells, or node 0 if it tells none or that has no memory.
    #[must_use]
    pub fn of_cpu(&self, machine: &Machine, cpu: u32) -> u32 {
        let told = machine.cpu_nodes.get(cpu as usize).copied().unwrap_or(0);
        if self.nodes.iter().any(|node| node.nid == told) { told } else { 0 }
    }

    /// Pageblocks of a zone as Linux counts them: from the zone's first frame, which need not start a pageblock, in
    /// steps of a pageblock; a step counts if its frame has a descriptor of that zone.
    ///
    /// | era | frames that have one |
    /// |---|---|
    /// | 4.14, 5.10 | all of a section with memory |
    /// | 6.1 and later | those of a subsection with memory; without a region of its own for the memory map, as before |
    ///
    /// Source: Linux 6.1 mm/vmstat.c `pagetypeinfo_showblockcount_print`.
    #[must_use]
    pub fn pageblocks(&self, era: Era, sections: &Sections<VecStore>, nid: u32, zone: &Zone) -> u64 {
        let mut blocks = 0;
        self.each_pageblock(era, sections, nid, zone, |_, count| blocks += count);
        blocks
    }

    /// Names the frames that pageblocks of a zone are counted by, as [`Nodes::pageblocks`] counts them: a first one, and how
    /// many there are in steps of a pageblock.
    pub fn each_pageblock(
        &self,
        era: Era,
        sections: &Sections<VecStore>,
        nid: u32,
        zone: &Zone,
        mut each: impl FnMut(Pfn, u64),
    ) {
        let geometry = sections.geometry();
        let pageblock = geometry.pages_per_section() / geometry.pageblocks_per_section();
        let has_subsections = geometry.model() == Model::Vmemmap;
        let are_described = |first: Pfn, last: Pfn| match era {
            Era::V6_1 | Era::V6_12 | Era::V7_2 if has_subsections => sections.subsections_in_use(first, last),
            Era::V4_14 | Era::V5_10 | Era::V6_1 | Era::V6_12 | Era::V7_2 => true,
        };
        let (mut at, mut alike) = (zone.span.start, (None, zone.span.start));
        while at < zone.span.end {
            let nr = geometry.section_of(at);
            if !sections.has_map(nr) {
                // Absent sections cost nothing: go on in the next present one, in step.
                let next = sections.next_present(nr).map_or(zone.span.end, |next| geometry.first_pfn(next));
                let steps = next.0.saturating_sub(at.0).div_ceil(pageblock).max(1);
                at = Pfn(at.0 + steps * pageblock);
                continue;
            }
            if at >= alike.1 {
                alike = self.zone_run(at);
            }
            let stop = geometry.first_pfn(SectionNr(nr.0 + 1)).min(zone.span.end).min(alike.1);
            let steps = (stop.0 - at.0).div_ceil(pageblock);
            let nth = |step: u64| Pfn(at.0 + step * pageblock);
            if alike.0 == Some((nid, zone.name)) {
                if are_described(at, nth(steps - 1)) {
                    each(at, steps);
                } else {
                    (0..steps).map(nth).filter(|&pfn| are_described(pfn, pfn)).for_each(|pfn| each(pfn, 1));
                }
            }
            at = nth(steps);
        }
    }

    /// The zone of a frame's descriptor: that of its memory; in a hole that of the memory behind it, or of the last
    /// memory.
    #[must_use]
    pub fn zone_of(&self, pfn: Pfn) -> Option<(u32, &'static str)> {
        self.zone_run(pfn).0
    }

    /// The same, and a frame behind this one up to which all have that zone.
    fn zone_run(&self, pfn: Pfn) -> (Option<(u32, &'static str)>, Pfn) {
        let behind = self.memory.iter().find(|(_, memory)| pfn < memory.end);
        let (nid, at, stop) = match (behind, self.memory.last()) {
            (Some((nid, memory)), _) => (*nid, pfn.max(memory.start), memory.end),
            (None, Some((nid, memory))) => (*nid, Pfn(memory.end.0 - 1), Pfn(u64::MAX)),
            (None, None) => return (None, Pfn(u64::MAX)),
        };
        let node = self.nodes.iter().find(|node| node.nid == nid);
        let zone = node.and_then(|node| node.zones.iter().find(|zone| zone.span.start <= at && at < zone.span.end));
        match zone {
            Some(zone) if behind.is_some() => (Some((nid, zone.name)), stop.min(zone.span.end)),
            Some(zone) => (Some((nid, zone.name)), stop),
            None => (None, Pfn(pfn.0 + 1)),
        }
    }
}

/// Which frames without memory have a descriptor that is set up.
///
/// | architecture, era | frames |
/// |---|---|
/// | arm64, 4.14 (UNVERIFIED), 5.10 | of a pageblock whose first frame is mapped memory |
/// | arm64 from 6.1 on, x86 | of a section that has descriptors |
///
/// Source: Linux 5.10 arch/arm64/mm/init.c `pfn_valid`; 5.10, 6.1 mm/page_alloc.c, 6.12, 7.2 mm/mm_init.c
/// `init_unavailable_range`.
enum Described<'s> {
    BySection(&'s Sections<VecStore>),
    ByPageblock { sections: &'s Sections<VecStore>, mapped: Vec<PhysRange> },
}

impl<'s> Described<'s> {
    fn new(sections: &'s Sections<VecStore>, mapped: Vec<PhysRange>) -> Self {
        let facts = sections.geometry().facts();
        match (facts.arch, facts.era) {
            (SparseArch::Arm64, Era::V4_14 | Era::V5_10) => Self::ByPageblock { sections, mapped },
            (SparseArch::Arm64, Era::V6_1 | Era::V6_12 | Era::V7_2)
            | (SparseArch::X86_64 | SparseArch::I386Pae | SparseArch::I386, _) => Self::BySection(sections),
        }
    }

    const fn sections(&self) -> &'s Sections<VecStore> {
        match self {
            Self::BySection(sections) | Self::ByPageblock { sections, .. } => sections,
        }
    }

    /// How many frames of a hole in memory have one.
    fn count(&self, from: Pfn, to: Pfn) -> u64 {
        match self {
            Self::BySection(sections) => in_sections(sections, from, to),
            Self::ByPageblock { sections, mapped } => {
                let facts = sections.geometry().facts();
                let pageblock = 1 << facts.pageblock_order;
                let head = Pfn(from.0 & !(pageblock - 1));
                let is_mapped = head.to_phys(facts.granule).is_some_and(|at| mapped.iter().any(|one| one.contains(at)));
                // Any other pageblock of a hole begins with no memory.
                if is_mapped { from.0.next_multiple_of(pageblock).min(to.0) - from.0 } else { 0 }
            }
        }
    }
}

/// Frames with a descriptor but without memory: each hole belongs to the zone behind it, the last one to the zone
/// before it.
fn unavailable(nodes: &Nodes, ranges: &[PfnRange], described: &Described<'_>, log: &mut impl Witness) {
    let per_section = described.sections().geometry().pages_per_section();
    let mut hole = Pfn(0);
    let mut last = None;
    // Linux goes node by node, zone by zone, memory range by memory range.
    for node in &nodes.nodes {
        for zone in &node.zones {
            for range in ranges.iter().filter(|range| range.nid.map_or(0, |nid| nid.0) == node.nid) {
                let part = zone.span.cut(&Span { start: range.start, end: range.end });
                if zone.span.is_empty() || part.is_empty() {
                    continue;
                }
                tell(described.count(hole, part.start), node.nid, zone.name, log);
                hole = part.end;
                last = Some((node.nid, zone.name));
            }
        }
    }
    if let Some((nid, zone)) = last {
        let end = Pfn(ranges.iter().map(|range| range.end.0).max().unwrap_or(0).next_multiple_of(per_section));
        tell(described.count(hole, end), nid, zone, log);
    }
}

fn tell(pages: u64, nid: u32, zone: &'static str, log: &mut impl Witness) {
    if pages > 0 {
        log.log(LogEntry::Unavailable { nid, zone, pages });
    }
}

/// The frames of a hole whose section has descriptors.
fn in_sections(sections: &Sections<VecStore>, from: Pfn, to: Pfn) -> u64 {
    let geometry = sections.geometry();
    let mut pages = 0;
    let mut at = from;
    while at < to {
        let nr = geometry.section_of(at);
        let end = geometry.first_pfn(kernmem_sparse::SectionNr(nr.0 + 1)).min(to);
        if sections.has_map(nr) {
            pages += end.0 - at.0;
            at = end;
        } else {
            // Absent sections cost nothing: go to the next present one.
            at = sections.next_present(nr).map_or(to, |next| geometry.first_pfn(next).max(end).min(to));
        }
    }
    pages
}
