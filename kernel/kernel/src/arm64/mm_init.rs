//! From the zones to the hand-over: what the rest of the boot takes, in order.
//!
//! Source: Linux 5.10, 6.1 init/main.c `start_kernel`, `mm_init`; 6.12, 7.2 mm/mm_init.c `mm_core_init`;
//! drivers/base/arch_numa.c `setup_per_cpu_areas`; arch/arm64/mm/init.c `mem_init`.

use alloc::vec::Vec;

use kernmem_base::{Era, PhysAddr};
use kernmem_config::Config;
use kernmem_memblock::{Memblock, Nid, RegionArray};

use super::kasan::init_tags;
use super::later::{Shared, gigantic_pages};
use crate::takers::auto_init::auto_init;
use crate::takers::gigantic::GiganticPool;
use crate::takers::hash_tables::{self, HashFacts};
use crate::takers::page_counts::{self, PageCountFacts};
use crate::takers::percpu::{ModulesRoom, PercpuFacts, first_chunk, room_factor};
use crate::takers::{self, log_buffer, stack_depot, swiotlb};
use crate::zones::Nodes;
use crate::{BootError, Image, LogEntry, Witness, zonelists};

/// What the steps after the hand-over need to know of these.
pub(super) struct Prepared {
    pub hashes: HashFacts,
    pub gigantic: Vec<GiganticPool>,
}

/// Takes all that is taken between the zones and the hand-over; `gigantic` are pages that were taken before.
///
/// | era | zonelists | gigantic pages | bounce buffers |
/// |---|---|---|---|
/// | 4.14 (UNVERIFIED), 5.10, 6.1 | before the command line is parsed | as it is parsed | last |
/// | 6.12 | behind the hash tables | as it is parsed | last |
/// | 7.2 | behind the bounce buffers | before the zones | behind the hash tables |
pub(super) fn take<A: RegionArray, W: Witness>(
    shared: &Shared<'_>,
    image: &Image<'_>,
    memblock: &mut Memblock<A, W>,
    nodes: &Nodes,
    gigantic: Vec<GiganticPool>,
) -> Result<Prepared, BootError> {
    let Shared { machine, config, state, .. } = *shared;
    let granule = state.granule();
    takers::command_lines(config, memblock)?;
    let built = config.kconfig.number("NR_CPUS").unwrap_or(1) as u32;
    let cpus = config.possible_cpus.min(config.cmdline.nr_cpus(built)).max(1);
    let cpu_nodes: Vec<u32> = (0..cpus).map(|cpu| nodes.of_cpu(machine, cpu)).collect();
    setup_percpu(shared, image, memblock, &cpu_nodes)?;
    init_tags(config, memblock);
    let facts = PageCountFacts {
        era: config.era,
        granule,
        page_bytes: config.sizes.get("sizeof_page").unwrap_or(64),
        sparse: true,
        dma_reserve: 0,
    };
    let counts = page_counts::page_counts(&facts, nodes);
    match config.era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 => zonelists::build(config, nodes, counts, memblock.observer()),
        Era::V6_12 | Era::V7_2 => {}
    }
    let gigantic = match config.era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 | Era::V6_12 => gigantic_pages(config, memblock),
        Era::V7_2 => gigantic,
    };
    takers::unknown_parameters(config, memblock)?;
    log_buffer::setup(config, memblock, cpus, true)?;
    let hashes = HashFacts {
        granule,
        counts,
        nodes: nodes.nodes.len() as u64,
        huge_vmalloc: hash_tables::huge_vmalloc(config, true),
    };
    hash_tables::early(config, &hashes, memblock)?;
    let init = LogEntry::AutoInit(auto_init(config));
    match config.era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 => {
            memblock.observer().log(init);
            stack_depot::early(config, &hashes, memblock)?;
            bounce_buffers(config, memblock, nodes, cpus)?;
        }
        Era::V6_12 => {
            zonelists::build(config, nodes, counts, memblock.observer());
            memblock.observer().log(init);
            stack_depot::early(config, &hashes, memblock)?;
            bounce_buffers(config, memblock, nodes, cpus)?;
        }
        Era::V7_2 => {
            bounce_buffers(config, memblock, nodes, cpus)?;
            zonelists::build(config, nodes, counts, memblock.observer());
            memblock.observer().log(init);
            stack_depot::early(config, &hashes, memblock)?;
        }
    }
    Ok(Prepared { hashes, gigantic })
}

/// A pool of bounce buffers, if some device cannot reach all memory; from 6.12 on else a small one.
fn bounce_buffers<A: RegionArray, W: Witness>(
    config: &Config,
    memblock: &mut Memblock<A, W>,
    nodes: &Nodes,
    cpus: u32,
) -> Result<(), BootError> {
    let dma_end = nodes.limits.first().and_then(|zone| zone.span.end.to_phys(nodes.granule));
    let needed = dma_end.is_some_and(|dma_end| swiotlb::arm64_needs(memblock.end_of_dram(), dma_end));
    let small = swiotlb::small_pool(config, memblock.phys_mem_size()).filter(|_| !needed);
    let pool = match small {
        Some(bytes) => swiotlb::init_small(config, memblock, bytes, cpus)?,
        None => swiotlb::init(config, memblock, needed, cpus)?,
    };
    if let Some(pool) = pool {
        memblock.observer().log(LogEntry::SwiotlbMapped(pool));
    }
    Ok(())
}

/// Units of near CPUs in whole pages; without per-CPU symbols there is nothing to place.
fn setup_percpu<A: RegionArray, W: Witness>(
    shared: &Shared<'_>,
    image: &Image<'_>,
    memblock: &mut Memblock<A, W>,
    cpu_nodes: &[u32],
) -> Result<(), BootError> {
    let symbols = image.symbols();
    let bounds = symbols.address("__per_cpu_start").zip(symbols.address("__per_cpu_end"));
    let Some((start, end)) = bounds.filter(|(start, end)| start <= end) else { return Ok(()) };
    let nodes: Vec<Nid> = cpu_nodes.iter().map(|nid| Nid(*nid)).collect();
    let facts = PercpuFacts {
        static_bytes: end - start,
        modules: shared.config.kconfig.is_set("MODULES"),
        room: ModulesRoom::Beside,
        factor: room_factor(shared.config, shared.state.granule().bytes()),
        atom: shared.state.granule().bytes(),
        page: shared.state.granule().bytes(),
        from: PhysAddr(shared.state.memstart),
        nodes: &nodes,
    };
    first_chunk(memblock, &facts).map(drop)
}
