//! How a range of low memory is cut into pieces of one leaf size, and what each leaf becomes.
//!
//! Source: Linux 5.10–7.2 arch/x86/mm/init.c `split_mem_range`, `adjust_range_page_size_mask`; arch/x86/mm/init_32.c
//! `kernel_physical_mapping_init`.

use kernmem_base::{PhysAddr, PhysRange, VirtAddr, VirtRange};

use super::layout::Paging;
use crate::x86::direct_map::{MapRanges, PageSizes, widened};
use crate::x86::prot::Prot;

const PAGE: u64 = 1 << 12;

/// Cuts a range of memory into pieces by the largest leaf that each may use.
///
/// | piece | up to | leaves |
/// |---|---|---|
/// | 1 head | the first boundary of a large leaf; from address 0 the second | base pages |
/// | 2 | the last boundary | large |
/// | 3 tail | the end | base pages |
///
/// Then a piece of base pages is widened to large leaves if those around it lie inside one region of memory, which
/// `one_region` tells, and below `low_end`.
#[must_use]
pub fn split(
    range: PhysRange,
    paging: Paging,
    large_allowed: bool,
    low_end: PhysAddr,
    one_region: impl Fn(PhysRange) -> bool,
) -> MapRanges {
    let size = paging.large();
    let (base, large) = (PageSizes::default(), PageSizes { m2: large_allowed, g1: false });
    let limit = range.end.align_down(PAGE).0;
    let mut at = range.start.align_down(PAGE).0;
    let mut pieces = MapRanges::EMPTY;
    let head = if at == 0 { size } else { at.next_multiple_of(size) };
    at = pieces.push(at, head.min(limit), base).unwrap_or(at);
    at = pieces.push(at.next_multiple_of(size), limit & !(size - 1), large).unwrap_or(at);
    pieces.push(at, limit, base);
    for piece in pieces.as_mut_slice() {
        let fits = |whole: &PhysRange| whole.end <= low_end && one_region(*whole);
        piece.sizes.m2 |= large_allowed && widened(piece.range, size).is_some_and(|whole| fits(&whole));
    }
    pieces.merge();
    pieces
}

/// The protection of a leaf of low memory: the image up to the end of its init memory is executable, and so is a large
/// leaf whose first or last byte lies there.
///
/// | leaf | in the image | elsewhere |
/// |---|---|---|
/// | base page | executable | data |
/// | large | executable | data |
#[must_use]
pub fn prot(leaf: VirtRange, is_large: bool, text: VirtAddr, init_end: VirtAddr) -> Prot {
    let in_image = |va: VirtAddr| text <= va && va <= init_end;
    match (in_image(leaf.start) || is_large && in_image(leaf.last), is_large) {
        (true, false) => Prot::KernelExec,
        (true, true) => Prot::KernelLargeExec,
        (false, false) => Prot::Kernel,
        (false, true) => Prot::KernelLarge,
    }
}
