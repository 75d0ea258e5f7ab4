//! From the zones to the hand-over: what the rest of the boot takes, in order.
//!
//! Source: Linux 6.1 arch/arm64/kernel/setup.c `request_standard_resources`; init/main.c `start_kernel`, `mm_init`;
//! drivers/base/arch_numa.c `setup_per_cpu_areas`; arch/arm64/mm/init.c `mem_init`.

use alloc::vec::Vec;

use kernmem_arch::hugetlb::HugeArch;
use kernmem_base::PhysAddr;
use kernmem_memblock::{Memblock, Nid, RegionArray};

use super::later::Shared;
use crate::takers::auto_init::auto_init;
use crate::takers::gigantic::{GiganticPool, allocate_gigantic};
use crate::takers::hash_tables::{self, HashFacts};
use crate::takers::page_counts::{self, PageCountFacts};
use crate::takers::percpu::{PercpuFacts, first_chunk};
use crate::takers::{self, log_buffer, swiotlb};
use crate::zones::Nodes;
use crate::{BootError, Image, LogEntry, Witness, zonelists};

/// What the steps after the hand-over need to know of these.
pub(super) struct Prepared {
    pub hashes: HashFacts,
    pub gigantic: Vec<GiganticPool>,
}

/// Takes all that is taken between the zones and the hand-over.
pub(super) fn take<A: RegionArray, W: Witness>(
    shared: &Shared<'_>,
    image: &Image<'_>,
    memblock: &mut Memblock<A, W>,
    nodes: &Nodes,
) -> Result<Prepared, BootError> {
    let Shared { machine, config, state, .. } = *shared;
    let granule = state.granule();
    takers::standard_resources(config, memblock)?;
    takers::command_lines(config, memblock)?;
    let built = config.kconfig.number("NR_CPUS").unwrap_or(1) as u32;
    let cpus = config.possible_cpus.min(config.cmdline.nr_cpus(built)).max(1);
    let cpu_nodes: Vec<u32> = (0..cpus).map(|cpu| nodes.of_cpu(machine, cpu)).collect();
    setup_percpu(shared, image, memblock, &cpu_nodes)?;
    let facts = PageCountFacts {
        era: config.era,
        granule,
        page_bytes: config.sizes.get("sizeof_page").unwrap_or(64),
        sparse: true,
        dma_reserve: 0,
    };
    let counts = page_counts::page_counts(&facts, nodes);
    zonelists::build(config, nodes, counts, memblock.observer());
    let gigantic =
        allocate_gigantic(config, memblock, HugeArch::Arm64.sizes(granule), granule.bytes() << (granule.shift() - 3));
    takers::unknown_parameters(config, memblock)?;
    log_buffer::setup(config, memblock, cpus, true)?;
    let hashes = HashFacts {
        granule,
        counts,
        nodes: nodes.nodes.len() as u64,
        huge_vmalloc: hash_tables::huge_vmalloc(config, true),
    };
    hash_tables::early(config, &hashes, memblock)?;
    memblock.observer().log(LogEntry::AutoInit(auto_init(config)));
    let dma_end = nodes.limits.first().and_then(|zone| zone.span.end.to_phys(granule));
    let needed = dma_end.is_some_and(|dma_end| swiotlb::arm64_needs(memblock.end_of_dram(), dma_end));
    if let Some(pool) = swiotlb::init(config, memblock, needed, cpus)? {
        memblock.observer().log(LogEntry::SwiotlbMapped(pool));
    }
    Ok(Prepared { hashes, gigantic })
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
        modules_within: false,
        atom: shared.state.granule().bytes(),
        page: shared.state.granule().bytes(),
        from: PhysAddr(shared.state.memstart),
        nodes: &nodes,
    };
    first_chunk(memblock, &facts).map(drop)
}
