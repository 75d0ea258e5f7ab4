//! The memory map of a running kernel: descriptors reached through the kernel's own tables, and written when the first
//! of their section is asked for.
//!
//! Linux writes every descriptor at boot; here a section's are written at its first use, so that a machine of any size
//! costs what is touched. What a reader sees is the same.
//!
//! # Invariants
//! 1. A descriptor is written before its words are lent.
//! 2. A descriptor is found by a walk of the tables each time, so a map that was changed meanwhile is seen as it is.
//!
//! Source: Linux 6.1 mm/page_alloc.c `memmap_init_range`, `init_unavailable_range`, `reserve_bootmem_region`.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use kernmem_arch::{EntryFormat, Format, WithFormat};
use kernmem_base::{BusError, BusFault, Era, Pfn, PhysAddr, PhysMem, VirtAddr};
use kernmem_config::Config;
use kernmem_pgtable::{Walk, translate};
use kernmem_sparse::page::{FlagOptions, FlagsFacts, FlagsLayout, PageFlag, fresh, nr_pageflags};
use kernmem_sparse::{DESCRIPTOR_WORDS, Descriptors, Geometry, SectionNr};

use crate::zones::{Nodes, Span};

/// Where a kernel's descriptors are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// The format of the tables that map them.
    pub format: Format,
    /// The kernel's root table.
    pub root: PhysAddr,
    /// Where the descriptor of frame 0 would be, modulo 2^64.
    pub base: VirtAddr,
}

/// A zone as descriptors name it.
#[derive(Clone, Copy, Debug)]
struct ZoneOf {
    span: Span,
    node: u64,
    zone: u64,
}

const UNWRITTEN: u8 = 0;
const BUSY: u8 = 1;
const WRITTEN: u8 = 2;

/// The descriptors of a kernel as memory.
#[derive(Debug)]
pub struct LiveMap<'m, M> {
    mem: &'m M,
    place: Place,
    era: Era,
    geometry: Geometry,
    layout: FlagsLayout,
    zones: Vec<ZoneOf>,
    /// Frames that boot gave to the page allocator, at the hand-over and later, in order; all others are reserved.
    given: Vec<Span>,
    /// By section: whether its descriptors are written.
    state: Box<[AtomicU8]>,
}

impl<'m, M: PhysMem> LiveMap<'m, M> {
    /// The map at `place` of the memory that `nodes` describes; boot gave the frames `given` to the page allocator.
    #[must_use]
    pub fn new(mem: &'m M, place: Place, config: &Config, geometry: Geometry, nodes: &Nodes, given: Vec<Span>) -> Self {
        let zones = nodes.nodes.iter().flat_map(|node| {
            let of = |(zone, found): (usize, &crate::zones::Zone)| ZoneOf {
                span: found.span,
                node: u64::from(node.nid),
                zone: zone as u64,
            };
            node.zones.iter().enumerate().map(of)
        });
        let zones: Vec<ZoneOf> = zones.collect();
        let end = nodes.nodes.iter().map(|node| node.span.end).max().unwrap_or_default();
        let sections = if end.0 == 0 { 0 } else { geometry.section_of(Pfn(end.0 - 1)).0 + 1 };
        let zone_count = nodes.nodes.first().map_or(1, |node| node.zones.len() as u32);
        Self {
            mem,
            place,
            era: config.era,
            geometry,
            layout: FlagsLayout::new(&flags_facts(config, zone_count)),
            zones,
            given,
            state: (0..sections).map(|_| AtomicU8::new(UNWRITTEN)).collect(),
        }
    }

    /// Where the descriptors are.
    #[must_use]
    pub const fn place(&self) -> Place {
        self.place
    }

    /// The fields of the flags word.
    #[must_use]
    pub const fn layout(&self) -> &FlagsLayout {
        &self.layout
    }

    /// The address of the descriptor of `pfn`.
    #[must_use]
    pub const fn page(&self, pfn: Pfn) -> VirtAddr {
        self.place.base.wrapping_add(pfn.0.wrapping_mul(self.geometry.page_bytes()))
    }

    /// The memory that holds the descriptor of `pfn` now.
    ///
    /// # Errors
    /// Nothing is mapped there, or a table does not answer.
    pub fn memory_of(&self, pfn: Pfn) -> Result<PhysAddr, BusError> {
        self.memory_at(self.page(pfn))
    }

    fn memory_at(&self, va: VirtAddr) -> Result<PhysAddr, BusError> {
        self.place.format.with(Translate { mem: self.mem, root: self.place.root, va })
    }

    /// The section's state, if it is one of the map's.
    fn state_of(&self, pfn: Pfn) -> Option<(SectionNr, &AtomicU8)> {
        let nr = self.geometry.section_of(pfn);
        Some((nr, self.state.get(nr.0 as usize)?))
    }

    /// Writes the descriptors of the section of `pfn` if nobody has.
    fn bring_up(&self, pfn: Pfn) -> Result<(), BusError> {
        let hole = BusError { pa: PhysAddr(self.page(pfn).0), fault: BusFault::Hole };
        let (nr, state) = self.state_of(pfn).ok_or(hole)?;
        loop {
            // Acquire pairs with the Release below: who sees WRITTEN sees the words.
            match state.compare_exchange(UNWRITTEN, BUSY, Ordering::Acquire, Ordering::Acquire) {
                Ok(_) => break,
                Err(WRITTEN) => return Ok(()),
                Err(_) => core::hint::spin_loop(),
            }
        }
        let written = self.write_section(nr);
        state.store(if written.is_ok() { WRITTEN } else { UNWRITTEN }, Ordering::Release);
        written
    }

    fn write_section(&self, nr: SectionNr) -> Result<(), BusError> {
        let first = self.geometry.first_pfn(nr);
        let page_bytes = self.geometry.granule().bytes();
        let mut words: &[AtomicU64] = &[];
        let mut page = None;
        let mut before =
            self.memory_at(self.page(first).align_down(page_bytes).wrapping_add(page_bytes.wrapping_neg())).ok();
        for pfn in first.0..first.0 + self.geometry.pages_per_section() {
            let va = self.page(Pfn(pfn));
            // One walk a page of descriptors.
            if page != Some(va.align_down(page_bytes)) {
                let pa = self.memory_of(Pfn(pfn))?;
                let left = (page_bytes - (va.0 & (page_bytes - 1))) / 8;
                let start = pa.align_down(page_bytes);
                // A page that shows the one before it again has no descriptors of its own: boot gave its frame back.
                let is_shared = before.replace(start) == Some(start);
                words = if is_shared { &[] } else { self.mem.table_mut::<AtomicU64>(pa, left as usize)? };
                page = Some(va.align_down(page_bytes));
            }
            if words.is_empty() {
                continue;
            }
            let (own, rest) = words.split_at(DESCRIPTOR_WORDS.min(words.len()));
            fresh(own, self.flags(Pfn(pfn)), va);
            words = rest;
        }
        Ok(())
    }

    /// The flags word of a frame that nobody has used.
    fn flags(&self, pfn: Pfn) -> u64 {
        // A hole belongs to the zone above it, the last one to the zone below.
        let inside = |zone: &&ZoneOf| zone.span.start <= pfn && pfn < zone.span.end;
        let above = || self.zones.iter().find(|zone| !zone.span.is_empty() && pfn < zone.span.start);
        let below = || self.zones.iter().rfind(|zone| !zone.span.is_empty());
        let zone = self.zones.iter().find(inside).or_else(above).or_else(below);
        let (node, zone) = zone.map_or((0, 0), |zone| (zone.node, zone.zone));
        let at = self.given.partition_point(|span| span.end <= pfn);
        let is_given = self.given.get(at).is_some_and(|span| span.start <= pfn);
        let reserved = if is_given { 0 } else { PageFlag::Reserved.mask(self.era) };
        self.layout.fresh(0, node, zone) | reserved
    }
}

impl<M: PhysMem> Descriptors for LiveMap<'_, M> {
    fn words(&self, pfn: Pfn) -> Result<&[AtomicU64], BusError> {
        self.bring_up(pfn)?;
        self.mem.table_mut::<AtomicU64>(self.memory_of(pfn)?, DESCRIPTOR_WORDS)
    }
}

fn flags_facts(config: &Config, zones: u32) -> FlagsFacts {
    let set = |name| config.kconfig.is_set(name);
    let options = FlagOptions {
        is_64bit: true,
        uncached: set("ARCH_USES_PG_UNCACHED"),
        hwpoison: set("MEMORY_FAILURE"),
        idle: set("PAGE_IDLE_FLAG"),
        arch_flags: set("ARM64_MTE"),
    };
    let cpus = config.kconfig.number("NR_CPUS").unwrap_or(1);
    FlagsFacts {
        era: config.era,
        word_bits: 64,
        section_bits: 0,
        nodes_shift: config.kconfig.number("NODES_SHIFT").unwrap_or(0) as u32,
        zones: zones + u32::from(set("ZONE_DEVICE")),
        balancing_cpu_bits: set("NUMA_BALANCING").then(|| cpus.next_power_of_two().ilog2()),
        tag_bits: 0,
        lru_gen: set("LRU_GEN"),
        nr_pageflags: nr_pageflags(config.era, options),
    }
}

struct Translate<'a, M> {
    mem: &'a M,
    root: PhysAddr,
    va: VirtAddr,
}

impl<M: PhysMem> WithFormat for Translate<'_, M> {
    type Output = Result<PhysAddr, BusError>;

    fn run<F: EntryFormat>(self) -> Self::Output {
        let hole = BusError { pa: PhysAddr(self.va.0), fault: BusFault::Hole };
        match translate::<F, M>(self.mem, self.root, self.va) {
            Ok(Walk::Mapped { pa, .. }) => Ok(pa),
            _ => Err(hole),
        }
    }
}
