//! Huge pages that the page allocator cannot give: boot sets them aside.
//!
//! Not here: pools of smaller huge pages, which come from the page allocator.
//!
//! Source: Linux 6.1 mm/hugetlb.c `hugetlb_hstate_alloc_pages`, `__alloc_bootmem_huge_page`,
//! `gather_bootmem_prealloc`.

use alloc::vec::Vec;

use kernmem_base::{Era, PhysAddr};
use kernmem_config::Config;
use kernmem_memblock::{Memblock, Nid, RegionArray, Request};

use super::{Taker, tell};
use crate::Witness;
use crate::orders::Orders;

/// A pool of gigantic pages.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GiganticPool {
    /// Bytes of a page.
    pub size: u64,
    /// The pages.
    pub pages: Vec<PhysAddr>,
}

/// Takes the gigantic pages that the command line asks for, by turns from each node; `sizes` are all sizes of huge
/// pages, `default` is the default one. Without room a pool stays smaller.
pub fn allocate_gigantic<A: RegionArray, W: Witness>(
    config: &Config,
    memblock: &mut Memblock<A, W>,
    sizes: &[u64],
    default: u64,
) -> Vec<GiganticPool> {
    let granule = memblock.limits().granule;
    let largest_block = Orders::of(config, granule).largest_pages() * granule.bytes();
    if !config.kconfig.is_set("HUGETLB_PAGE") {
        return Vec::new();
    }
    let mut nodes: Vec<Nid> = memblock.memory().regions().iter().filter_map(|region| region.nid).collect();
    nodes.sort_unstable();
    nodes.dedup();
    let wanted = config.cmdline.huge_pages(config.era, sizes, default).value;
    let gigantic = wanted.pools.iter().filter(|pool| pool.size > largest_block);
    let mut pools = Vec::new();
    for pool in gigantic {
        let turns: Vec<Option<Nid>> = if pool.by_node.is_empty() {
            let node = |page: u64| nodes.get((page % nodes.len().max(1) as u64) as usize).copied();
            // More pages than memory has cannot be found: the list ends with the first that is not.
            (0..pool.pages.min(memblock.phys_mem_size() / pool.size + 1)).map(node).collect()
        } else {
            let most = memblock.phys_mem_size() / pool.size + 1;
            let counts = pool.by_node.iter();
            counts.flat_map(|(node, pages)| (0..(*pages).min(most)).map(|_| Some(Nid(*node)))).collect()
        };
        let mut pages = Vec::new();
        for node in turns {
            let request = Request::new(pool.size, pool.size).on(node);
            let Ok(page) = memblock.alloc_try_nid_raw(request) else { break };
            tell(memblock, Taker::GiganticPages, page, pool.size);
            leave_descriptors(memblock, page, pool.size);
            pages.push(page);
        }
        pools.push(GiganticPool { size: pool.size, pages });
    }
    pools
}

/// From 6.12 on all but the first page of descriptors of a gigantic page is left to its pool. Without room for the mark
/// it is missing, as in Linux.
///
/// | era | marked |
/// |---|---|
/// | 4.14–6.1 | nothing |
/// | 6.12, 7.2 | all of the page but its first base page |
///
/// Source: Linux 6.12, 7.2 mm/hugetlb.c `__alloc_bootmem_huge_page`.
fn leave_descriptors<A: RegionArray, W: Witness>(memblock: &mut Memblock<A, W>, page: PhysAddr, size: u64) {
    let granule = memblock.limits().granule.bytes();
    match memblock.era() {
        Era::V4_14 | Era::V5_10 | Era::V6_1 => {}
        Era::V6_12 | Era::V7_2 => drop(memblock.reserved_mark_noinit(page + granule, size - granule)),
    }
}
