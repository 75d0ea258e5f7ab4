//! Finding the lowest hole, and cutting an area out of it.
//!
//! The length that steers the descent may be larger than the area, and the fit of a visited node is tested with the
//! area's own size: so a hole that is large enough is skipped where its whole sub-tree looks too small, and taken where
//! it lies on the way back up. Neither "lowest that fits" nor "lowest of that length" gives Linux's addresses.
//!
//! Source: Linux 6.1 mm/vmalloc.c `find_vmap_lowest_match`, `is_within_this_va`, `classify_va_fit_type`.

use kernmem_base::Era;

use crate::store::Node;
use crate::tree::{Id, LEFT, Link, RIGHT, Tree, max_of};

/// What is looked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Wanted {
    /// Bytes, with the guard page.
    pub size: u64,
    /// Alignment in bytes, a power of two.
    pub align: u64,
    /// Lowest address.
    pub start: u64,
    /// One past the highest address.
    pub end: u64,
}

/// The length by which sub-trees are judged; `None` if it exceeds every address.
///
/// | era | length |
/// |---|---|
/// | 4.14 | size + align - 1 (UNVERIFIED: that era searches a list) |
/// | 5.10 | size + align - 1 |
/// | 6.1 and later | size if the alignment is at most a page or the range is as long as the area; else size + align - 1 |
///
/// Source: Linux 5.10 mm/vmalloc.c `find_vmap_lowest_match`; 6.1–7.2 `__alloc_vmap_area`.
fn search_length(era: Era, page: u64, wanted: &Wanted) -> Option<u64> {
    let adjusted = wanted.size.checked_add(wanted.align - 1);
    match era {
        Era::V4_14 | Era::V5_10 => adjusted,
        Era::V6_1 | Era::V6_12 | Era::V7_2 => {
            let is_exact = wanted.align <= page || wanted.end - wanted.start == wanted.size;
            if is_exact { Some(wanted.size) } else { adjusted }
        }
    }
}

/// Where a sub-tree to the right of an ancestor makes the search start anew.
///
/// | era | lowest address from then on |
/// |---|---|
/// | 4.14, 5.10 | as before (4.14 UNVERIFIED) |
/// | 6.1 and later | behind the ancestor's start, so that no sub-tree is entered twice |
///
/// Source: Linux 5.10, 6.1 mm/vmalloc.c `find_vmap_lowest_match`.
const fn restart(era: Era, start: u64, ancestor: u64) -> u64 {
    match era {
        Era::V4_14 | Era::V5_10 => start,
        Era::V6_1 | Era::V6_12 | Era::V7_2 => ancestor + 1,
    }
}

/// The address in the hole at which an area of this size and alignment would start.
fn place_in(hole: &Node, size: u64, align: u64, start: u64) -> Option<u64> {
    let at = hole.start.max(start).checked_add(align - 1)? & !(align - 1);
    let end = at.checked_add(size)?;
    (end <= hole.end).then_some(at)
}

/// The hole to cut `wanted` from and the address in it; `None` if there is none below the limit.
pub(crate) fn lowest_match(tree: &Tree, nodes: &[Node], era: Era, page: u64, wanted: &Wanted) -> Option<(Id, u64)> {
    let length = search_length(era, page, wanted)?;
    let mut start = wanted.start;
    let mut at = tree.root?;
    loop {
        if max_of(nodes, nodes[at].child[LEFT]) >= length
            && start < nodes[at].start
            && let Some(left) = nodes[at].child[LEFT]
        {
            at = left;
            continue;
        }
        if place_in(&nodes[at], wanted.size, wanted.align, start).is_some() {
            break;
        }
        match nodes[at].child[RIGHT] {
            Some(right) if nodes[right].max >= length => at = right,
            _ => match climb(nodes, at, era, length, wanted, &mut start)? {
                Climbed::Fits(id) => {
                    at = id;
                    break;
                }
                Climbed::Below(id) => at = id,
            },
        }
    }
    let found = place_in(&nodes[at], wanted.size, wanted.align, wanted.start)?;
    (found.checked_add(wanted.size)? <= wanted.end).then_some((at, found))
}

enum Climbed {
    /// This ancestor fits.
    Fits(Id),
    /// The search goes on in this sub-tree.
    Below(Id),
}

/// Up from a node under which nothing was found: to an ancestor that fits, or into a sub-tree right of one.
fn climb(nodes: &[Node], from: Id, era: Era, length: u64, wanted: &Wanted, start: &mut u64) -> Option<Climbed> {
    let mut link: Link = nodes[from].parent;
    while let Some(id) = link {
        let node = &nodes[id];
        if place_in(node, wanted.size, wanted.align, *start).is_some() {
            return Some(Climbed::Fits(id));
        }
        if let Some(right) = node.child[RIGHT]
            && nodes[right].max >= length
            && *start <= node.start
        {
            *start = restart(era, *start, node.start);
            return Some(Climbed::Below(right));
        }
        link = node.parent;
    }
    None
}

/// How an area lies in its hole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fit {
    /// It is the hole.
    Full,
    /// It begins the hole.
    LeftEdge,
    /// It ends the hole.
    RightEdge,
    /// It touches neither edge.
    NoEdge,
}

/// How `[at, end)` lies in `hole`, which holds it.
pub(crate) const fn classify(hole: &Node, at: u64, end: u64) -> Fit {
    match (hole.start == at, hole.end == end) {
        (true, true) => Fit::Full,
        (true, false) => Fit::LeftEdge,
        (false, true) => Fit::RightEdge,
        (false, false) => Fit::NoEdge,
    }
}
