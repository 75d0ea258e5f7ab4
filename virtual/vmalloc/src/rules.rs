//! What the kernel's configuration decides about areas: pure functions.
//!
//! Source: Linux 5.10–7.2 mm/vmalloc.c; eras in each function.

use kernmem_base::{Era, Granule, VirtAddr};

/// Which blocks may be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Huge {
    /// Blocks of the upper level exist for such mappings.
    pub pud: bool,
    /// Blocks of the middle level exist for such mappings.
    pub pmd: bool,
    /// The architecture has huge vmalloc and `nohugevmalloc` is absent.
    pub vmalloc: bool,
    /// `nohugeiomap` is absent.
    pub io: bool,
}

/// The configuration of the allocator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rules {
    /// Whose rules.
    pub era: Era,
    /// Page size.
    pub granule: Granule,
    /// VMALLOC_START.
    pub start: VirtAddr,
    /// VMALLOC_END, exclusive.
    pub end: VirtAddr,
    /// CPUs online.
    pub online_cpus: u32,
    /// Nodes online.
    pub online_nodes: u32,
    /// IOREMAP_MAX_ORDER: log2 of the largest alignment of a window.
    pub ioremap_max_order: u32,
    /// The largest block of the page allocator (MAX_PAGE_ORDER).
    pub max_page_order: u8,
    /// Blocks.
    pub huge: Huge,
}

/// Pages that may wait for a purge: 32 MiB for each doubling of the CPUs online.
///
/// Source: Linux 5.10–7.2 mm/vmalloc.c `lazy_max_pages`.
#[must_use]
pub const fn lazy_max_pages(online_cpus: u32, granule: Granule) -> u64 {
    let doublings = u32::BITS - online_cpus.leading_zeros();
    doublings as u64 * ((32 << 20) / granule.bytes())
}

/// Alignment of a window of `size` bytes, without the guard page: the next power of two, at least a page and at most
/// `2^max_order`.
///
/// Source: Linux 5.10–7.2 mm/vmalloc.c `__get_vm_area_node`.
#[must_use]
pub const fn ioremap_align(size: u64, granule: Granule, max_order: u32) -> u64 {
    let mut order = u64::BITS - size.saturating_sub(1).leading_zeros();
    if order < granule.shift() {
        order = granule.shift();
    }
    if order > max_order {
        order = max_order;
    }
    1 << order
}

/// log2 of the blocks by which a request that allows huge mappings is first tried.
///
/// | era | blocks of the middle level for |
/// |---|---|
/// | 4.14, 5.10 | nothing (4.14 UNVERIFIED) |
/// | 6.1, 6.12 | a block on each node: `size` divided by the nodes online where no node is wished for |
/// | 7.2 | a block |
///
/// Contiguous groups of pages (7.2, arm64) are not among the answers.
///
/// Source: Linux 6.1, 7.2 mm/vmalloc.c `__vmalloc_node_range`.
#[must_use]
pub fn vmalloc_shift(rules: &Rules, pmd_shift: Option<u32>, size: u64, nid: Option<u32>) -> u32 {
    let page = rules.granule.shift();
    let Some(pmd) = pmd_shift.filter(|_| rules.huge.vmalloc && rules.huge.pmd) else { return page };
    let compared = match rules.era {
        Era::V4_14 | Era::V5_10 => return page,
        Era::V6_1 | Era::V6_12 if nid.is_none() => size / u64::from(rules.online_nodes.max(1)),
        Era::V6_1 | Era::V6_12 | Era::V7_2 => size,
    };
    if compared >> pmd != 0 { pmd } else { page }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(era: Era, nodes: u32) -> Rules {
        Rules {
            era,
            granule: Granule::K4,
            start: VirtAddr(0xffff_8000_0800_0000),
            end: VirtAddr(0xffff_fbff_f000_0000),
            online_cpus: 2,
            online_nodes: nodes,
            ioremap_max_order: 30,
            max_page_order: 10,
            huge: Huge { pud: true, pmd: true, vmalloc: true, io: true },
        }
    }

    #[test]
    fn thirty_two_mib_for_each_doubling_of_cpus() {
        let of = |cpus| (lazy_max_pages(cpus, Granule::K4), lazy_max_pages(cpus, Granule::K64));
        assert_eq!(
            [1, 2, 3, 4, 8, 16, 64, 127].map(of),
            [
                (8192, 512),
                (16384, 1024),
                (16384, 1024),
                (24576, 1536),
                (32768, 2048),
                (40960, 2560),
                (57344, 3584),
                (57344, 3584),
            ]
        );
    }

    #[test]
    fn a_window_is_aligned_to_its_size_class() {
        let of = |size| ioremap_align(size, Granule::K4, 30);
        assert_eq!([0x1000, 0x1_0000, 0x1_1000, 0xf6_0000].map(of), [0x1000, 0x1_0000, 0x2_0000, 0x100_0000]);
        assert_eq!((of(4 << 30), ioremap_align(1, Granule::K16, 25)), (1 << 30, 1 << 14));
    }

    #[test]
    fn huge_vmalloc_counts_nodes_until_6_12() {
        let shift = |era, nodes, size, nid| vmalloc_shift(&rules(era, nodes), Some(21), size, nid);
        assert_eq!(shift(Era::V5_10, 1, 4 << 20, None), 12);
        assert_eq!(shift(Era::V6_1, 1, 2 << 20, None), 21);
        assert_eq!(shift(Era::V6_1, 1, (2 << 20) - 1, None), 12);
        assert_eq!(shift(Era::V6_12, 2, 2 << 20, None), 12);
        assert_eq!(shift(Era::V6_12, 2, 2 << 20, Some(0)), 21);
        assert_eq!(shift(Era::V7_2, 2, 2 << 20, None), 21);
        assert_eq!(vmalloc_shift(&rules(Era::V6_1, 1), None, 1 << 30, None), 12);
    }
}
