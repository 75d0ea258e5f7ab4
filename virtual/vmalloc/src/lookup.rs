//! From an address back to its frame, and an area's frames by node.
//!
//! Source: Linux 5.10, 6.1 mm/vmalloc.c `vmalloc_to_page`, `show_numa_info`.

use kernmem_arch::EntryFormat;
use kernmem_base::{Era, Level, Pfn, PhysAddr, PhysRead, VirtAddr};
use kernmem_pgtable::{Walk, WalkError, translate};

use crate::Area;

/// The frame behind `va`, by the tables from `root`.
///
/// | era | behind a block |
/// |---|---|
/// | 4.14, 5.10 | none (4.14 UNVERIFIED) |
/// | 6.1 and later | the frame in it |
///
/// # Errors
/// A table cannot be read, or an entry is malformed.
///
/// Source: Linux 5.10, 6.1 mm/vmalloc.c `vmalloc_to_page`.
pub fn vmalloc_to_pfn<F: EntryFormat, M: PhysRead>(
    era: Era,
    mem: &M,
    root: PhysAddr,
    va: VirtAddr,
) -> Result<Option<Pfn>, WalkError> {
    let Walk::Mapped { pa, level, .. } = translate::<F, M>(mem, root, va)? else { return Ok(None) };
    let is_seen = match era {
        Era::V4_14 | Era::V5_10 => level == Level::Pte,
        Era::V6_1 | Era::V6_12 | Era::V7_2 => true,
    };
    Ok(is_seen.then(|| pa.pfn(F::shape().granule)))
}

/// Adds the base pages that belong to an area to `counts`, by node (`N0=…`). The pages of a block count for the node of
/// its first one. A node beyond `counts` is not counted.
///
/// # Errors
/// A table cannot be read, or an entry is malformed; what came before is counted.
pub fn pages_on_nodes<F: EntryFormat, M: PhysRead>(
    mem: &M,
    root: PhysAddr,
    area: &Area,
    nid_of: impl Fn(Pfn) -> u32,
    counts: &mut [u64],
) -> Result<(), WalkError> {
    let block = 1 << area.page_order.0;
    let granule = F::shape().granule;
    for page in (0..area.nr_pages).step_by(block) {
        let va = area.start + (page << granule.shift());
        if let Walk::Mapped { pa, .. } = translate::<F, M>(mem, root, va)?
            && let Some(count) = counts.get_mut(nid_of(pa.pfn(granule)) as usize)
        {
            *count += block as u64;
        }
    }
    Ok(())
}
