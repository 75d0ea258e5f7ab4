//! The first areas of per-CPU variables: one unit a CPU, units of near CPUs together; and the books about them.
//!
//! Here: sizes of units and books, and the order in which they are taken and given back.
//! Not here: the variables; areas of later chunks.
//!
//! Source: Linux 6.1 mm/percpu.c `pcpu_embed_first_chunk`, `pcpu_build_alloc_info`, `pcpu_setup_first_chunk`,
//! `pcpu_alloc_first_chunk`.

use alloc::format;
use alloc::vec::Vec;

use kernmem_base::{Era, Granule, PhysAddr};
use kernmem_config::Config;
use kernmem_memblock::{Memblock, Nid, RegionArray, Request};

use super::{Taker, allocate, allocate_lines};
use crate::{BootError, LogEntry, Witness};

/// Room for variables of modules, and for those that are asked for later.
const MODULE_BYTES: u64 = 8 << 10;
const DYNAMIC_BYTES: u64 = 28 << 10;
const NARROW_DYNAMIC_BYTES: u64 = 20 << 10;
const MIN_UNIT: u64 = 32 << 10;
/// Variables start at multiples of this; the books have a bit for each.
const MIN_ALLOC: u64 = 4;
/// No kernel has so many variables: symbols that say so are wrong.
const MOST_STATIC_BYTES: u64 = 256 << 20;
/// Bytes of the books about one page of a chunk.
const BLOCK_BOOK: u64 = 32;

/// What the first areas follow from.
#[derive(Clone, Copy, Debug)]
pub struct PercpuFacts<'a> {
    /// Bytes of the variables that are linked in.
    pub static_bytes: u64,
    /// Whether there may be modules.
    pub modules: bool,
    /// Where the variables of modules have their room.
    pub room: ModulesRoom,
    /// How many times the usual room for later variables there is: [`room_factor`].
    pub factor: u64,
    /// The units of a group are one piece of memory that starts at a multiple of this and is one.
    pub atom: u64,
    /// Bytes of a page.
    pub page: u64,
    /// Memory below is left free if possible.
    pub from: PhysAddr,
    /// The node of each possible CPU.
    pub nodes: &'a [Nid],
}

/// Where the variables of modules have their room in a unit.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ModulesRoom {
    /// A room of their own beside that for later variables (arm64, x86-64).
    Beside,
    /// None of their own: the room for later variables, which is smaller, grows by it (i386).
    Shared,
}

/// How many times the usual room for later variables there is.
///
/// | era | times |
/// |---|---|
/// | 4.14–6.1 | 1 |
/// | 6.12, 7.2 | with caches drawn at random 4, or 8 with a lock checker and pages above 4K; else 1 |
///
/// Source: Linux 6.12, 7.2 include/linux/percpu.h `PERCPU_DYNAMIC_SIZE_SHIFT`.
#[must_use]
pub fn room_factor(config: &Config, page: u64) -> u64 {
    let set = |name| config.kconfig.is_set(name);
    match config.era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 => 1,
        Era::V6_12 | Era::V7_2 if !set("RANDOM_KMALLOC_CACHES") => 1,
        Era::V6_12 | Era::V7_2 if set("LOCKDEP") && page > Granule::K4.bytes() => 8,
        Era::V6_12 | Era::V7_2 => 4,
    }
}

/// Sizes of a unit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnitSizes {
    /// Linked variables.
    pub static_bytes: u64,
    /// Variables of modules.
    pub reserved: u64,
    /// Variables that are asked for later, with what rounding adds.
    pub dynamic: u64,
    /// A whole unit.
    pub unit: u64,
    /// Units of one piece of memory.
    pub per_piece: u64,
    /// Bytes of a page.
    pub page: u64,
}

impl UnitSizes {
    /// Pages of a unit that are used.
    #[must_use]
    pub const fn pages(&self) -> u64 {
        self.used() / self.page
    }

    /// Bytes of a unit that are used: whole pages.
    #[must_use]
    pub const fn used(&self) -> u64 {
        self.static_bytes + self.reserved + self.dynamic
    }
}

/// The sizes for CPUs in `groups` of these numbers.
///
/// | era | least dynamic room |
/// |---|---|
/// | 4.14–6.1 | 12 KiB |
/// | 6.12, 7.2 | 20 KiB |
#[must_use]
pub fn unit_sizes(era: Era, facts: &PercpuFacts<'_>, groups: &[u64]) -> UnitSizes {
    let early = match era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 => 12 << 10,
        Era::V6_12 | Era::V7_2 => (20 << 10) * facts.factor,
    };
    let page = facts.page;
    let modules = if facts.modules { MODULE_BYTES } else { 0 };
    let (reserved, dynamic) = match facts.room {
        ModulesRoom::Beside => (modules, DYNAMIC_BYTES * facts.factor),
        ModulesRoom::Shared => (0, NARROW_DYNAMIC_BYTES * facts.factor + modules),
    };
    let used = (facts.static_bytes + reserved + dynamic.max(early)).next_multiple_of(page);
    let (unit, per_piece) = layout(used.max(MIN_UNIT), facts.atom, page, groups, facts.nodes.len() as u64);
    let dynamic = used - facts.static_bytes - reserved;
    UnitSizes { static_bytes: facts.static_bytes, reserved, dynamic, unit, per_piece, page }
}

/// Takes the units of all possible CPUs, gives back what they do not need, and takes the books. The answer is the first
/// byte of each CPU's unit.
///
/// # Errors
/// The boot allocator has no memory: what was taken before stays taken. Symbols name more variables than can be.
pub fn first_chunk<A: RegionArray, W: Witness>(
    memblock: &mut Memblock<A, W>,
    facts: &PercpuFacts<'_>,
) -> Result<Vec<PhysAddr>, BootError> {
    if facts.static_bytes > MOST_STATIC_BYTES {
        return Err(BootError::Input(format!("symbols: {} bytes of per-CPU variables", facts.static_bytes)));
    }
    let (era, page) = (memblock.era(), facts.page);
    let groups = groups(facts.nodes);
    let counts: Vec<u64> = groups.iter().map(|group| group.len() as u64).collect();
    let sizes = unit_sizes(era, facts, &counts);
    let padded: Vec<u64> = counts.iter().map(|count| count.next_multiple_of(sizes.per_piece)).collect();
    let plan_bytes = plan_bytes(&padded, page);
    let plan = allocate(memblock, Taker::PercpuPlan, Request::new(plan_bytes, page))?;
    let areas_bytes = (counts.len() as u64 * 8).next_multiple_of(page);
    let areas = allocate_lines(memblock, Taker::PercpuPlan, areas_bytes)?;
    let mut pieces = Vec::with_capacity(groups.len());
    for (group, count) in groups.iter().zip(&padded) {
        let node = group.first().and_then(|cpu| facts.nodes.get(*cpu)).copied();
        let request = Request::new(count * sizes.unit, facts.atom).from(facts.from).on(node);
        pieces.push((allocate(memblock, Taker::PercpuUnits, request)?, *count));
    }
    let mut units = alloc::vec![PhysAddr(0); facts.nodes.len()];
    for (group, (base, count)) in groups.iter().zip(pieces) {
        for index in 0..count {
            let start = base + index * sizes.unit;
            match group.get(index as usize).and_then(|cpu| units.get_mut(*cpu)) {
                Some(unit) => {
                    *unit = start;
                    memblock.phys_free(start + sizes.used(), sizes.unit - sizes.used())?;
                }
                None => memblock.phys_free(start, sizes.unit)?,
            }
        }
    }
    memblock.observer().log(LogEntry::Percpu(sizes));
    for bytes in books(era, &sizes, page, counts.len() as u64, facts.nodes.len() as u64) {
        allocate_lines(memblock, Taker::PercpuBooks, bytes)?;
    }
    memblock.phys_free(plan, plan_bytes)?;
    memblock.phys_free(areas, areas_bytes)?;
    Ok(units)
}

/// CPUs by node, in the order in which nodes first appear.
fn groups(nodes: &[Nid]) -> Vec<Vec<usize>> {
    let mut groups: Vec<(Nid, Vec<usize>)> = Vec::new();
    for (cpu, node) in nodes.iter().enumerate() {
        match groups.iter_mut().find(|(nid, _)| nid == node) {
            Some((_, cpus)) => cpus.push(cpu),
            None => groups.push((*node, Vec::from([cpu]))),
        }
    }
    groups.into_iter().map(|(_, cpus)| cpus).collect()
}

/// Whole pages for the plan: its head, each group, the CPU of each unit.
fn plan_bytes(units: &[u64], page: u64) -> u64 {
    const HEAD: u64 = 64;
    const GROUP: u64 = 24;
    const CPU: u64 = 4;
    let bytes = HEAD + GROUP * units.len() as u64 + CPU * units.iter().sum::<u64>();
    bytes.next_multiple_of(page)
}

/// Bytes of a unit, and units of one piece: as many as waste no more than a third of all CPUs.
fn layout(needed: u64, atom: u64, page: u64, groups: &[u64], cpus: u64) -> (u64, u64) {
    let piece = needed.next_multiple_of(atom);
    let fits = |units: &u64| piece.is_multiple_of(*units) && (piece / units).is_multiple_of(page);
    let (mut best, mut fewest) = (1, u64::MAX);
    for units in (1..=piece / needed).rev().filter(fits) {
        let pieces: u64 = groups.iter().map(|group| group.div_ceil(units)).sum();
        let wasted: u64 = groups.iter().map(|group| group.next_multiple_of(units) - group).sum();
        if wasted > cpus / 3 {
            continue;
        }
        if pieces > fewest {
            break;
        }
        (best, fewest) = (units, pieces);
    }
    (piece / best, best)
}

/// Bytes of each book in the order in which they are taken: groups, CPUs, lists of chunks by free size, then the first
/// chunk and, if modules have a room, their chunk before it.
///
/// | era | lists beyond those by size | a chunk of at most 64 pages |
/// |---|---|---|
/// | 4.14, 5.10 | 2 | 128 bytes |
/// | 6.1 | 4 | 128 bytes |
/// | 6.12, 7.2 | 4 | 136 bytes |
fn books(era: Era, sizes: &UnitSizes, page: u64, groups: u64, cpus: u64) -> Vec<u64> {
    let (lists, chunk) = match era {
        Era::V4_14 | Era::V5_10 => (2, 120),
        Era::V6_1 => (4, 120),
        Era::V6_12 | Era::V7_2 => (4, 128),
    };
    const LIST: u64 = 16;
    let class = u64::from(sizes.unit.ilog2() + 1).saturating_sub(3).max(1);
    let mut books = Vec::from([8 * groups, 8 * groups, 4 * cpus, 8 * cpus, LIST * (class + lists)]);
    let static_end = sizes.static_bytes.next_multiple_of(MIN_ALLOC);
    let dynamic = sizes.dynamic - (static_end - sizes.static_bytes);
    let reserved = Some((static_end, sizes.reserved)).filter(|_| sizes.reserved > 0);
    for (start, bytes) in reserved.into_iter().chain([(static_end + sizes.reserved, dynamic)]) {
        let region = (start % page + bytes).next_multiple_of(page);
        let (pages, bits) = (region / page, region / MIN_ALLOC);
        let words = |bits: u64| 8 * bits.div_ceil(64);
        books.extend([chunk + words(pages), words(bits), words(bits + 1), BLOCK_BOOK * pages]);
    }
    books
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEEDED: u64 = 41 << 12;
    const LARGE: u64 = 2 << 20;

    #[test]
    fn units_of_near_cpus_share_a_large_leaf() {
        assert_eq!(layout(NEEDED, LARGE, 4096, &[2], 2), (1 << 20, 2));
        assert_eq!(layout(NEEDED, LARGE, 4096, &[8], 8), (256 << 10, 8));
        assert_eq!(layout(NEEDED, LARGE, 4096, &[1, 1], 2), (2 << 20, 1));
        assert_eq!(layout(NEEDED, LARGE, 4096, &[1], 1), (2 << 20, 1));
    }

    /// Row 20 of a recorded boot of arm64: 26080 static bytes, no modules, two CPUs, units of 57344 bytes.
    #[test]
    fn the_books_of_a_recorded_boot() {
        let nodes = [Nid(0); 2];
        let facts = PercpuFacts {
            static_bytes: 26_080,
            modules: false,
            room: ModulesRoom::Beside,
            factor: 1,
            atom: 4096,
            page: 4096,
            from: PhysAddr(0),
            nodes: &nodes,
        };
        let sizes = unit_sizes(Era::V6_1, &facts, &[2]);
        assert_eq!((sizes.used(), sizes.dynamic, sizes.unit, sizes.per_piece), (57_344, 31_264, 57_344, 1));
        assert_eq!(books(Era::V6_1, &sizes, 4096, 1, 2), [8, 8, 8, 16, 272, 128, 1024, 1032, 256]);
    }

    /// 6.12 with caches drawn at random: 26080 + 8192 + 4 * 28672 bytes are 37 pages.
    #[test]
    fn random_caches_take_four_times_the_room() {
        let nodes = [Nid(0)];
        let (room, from) = (ModulesRoom::Beside, PhysAddr(0));
        let of = |factor| {
            let facts = PercpuFacts {
                static_bytes: 26_080,
                modules: true,
                room,
                factor,
                atom: 4096,
                page: 4096,
                from,
                nodes: &nodes,
            };
            unit_sizes(Era::V6_12, &facts, &[1]).pages()
        };
        assert_eq!((of(1), of(4)), (16, 37));
    }

    /// With modules their chunk comes first: 8 KiB from byte 26080 on touch three pages.
    #[test]
    fn room_for_modules_has_books_of_its_own() {
        let nodes = [Nid(0)];
        let facts = PercpuFacts {
            static_bytes: 26_080,
            modules: true,
            room: ModulesRoom::Beside,
            factor: 1,
            atom: LARGE,
            page: 4096,
            from: PhysAddr(0),
            nodes: &nodes,
        };
        let sizes = unit_sizes(Era::V6_1, &facts, &[1]);
        assert_eq!((sizes.reserved, sizes.used()), (8 << 10, 65_536)); // 26080 + 8192 + 28672, in whole pages
        let books = books(Era::V6_1, &sizes, 4096, 1, 1);
        assert_eq!(books[5..9], [128, 384, 392, 96]);
        assert_eq!(books.len(), 13);
    }
}
