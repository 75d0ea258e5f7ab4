//! What the last search from the top has proven, so that the next one does not begin at the top again.
//!
//! A search that found `place` has seen that no higher place below its bound fits its size and alignment. As long as
//! memory is only taken or trimmed, that holds for every later search on the same node with the same flags that asks
//! for no less: it may begin at `place`. Giving memory back, adding it or changing it makes the proof void.

use kernmem_base::PhysAddr;

use crate::{Flags, Nid};

/// What a search wants, with its bound resolved.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Search {
    pub(crate) size: u64,
    pub(crate) align: u64,
    pub(crate) end: PhysAddr,
    pub(crate) nid: Option<Nid>,
    pub(crate) flags: Flags,
}

/// No place at or above `place` and below the search's bound fits it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hint {
    search: Search,
    place: PhysAddr,
}

impl Hint {
    /// The proof of a search whose place is being taken; one for no bytes proves nothing.
    pub(crate) fn new(search: Search, place: PhysAddr) -> Option<Self> {
        (search.size != 0).then_some(Self { search, place })
    }

    /// Where `next` may begin: at its own bound, or lower if the proof covers it.
    pub(crate) fn begin(&self, next: &Search) -> PhysAddr {
        let old = &self.search;
        let same = (old.nid, old.flags) == (next.nid, next.flags);
        if same && next.size >= old.size && next.align >= old.align && next.end <= old.end {
            next.end.min(self.place)
        } else {
            next.end
        }
    }
}
