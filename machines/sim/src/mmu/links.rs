//! The walk cache: tables that walks passed, so that the next walk nearby begins below the root.

use kernmem_arch::Shape;
use kernmem_base::{Asid, VirtAddr, VirtRange};

use super::walk::Start;

#[derive(Clone, Copy, Debug)]
struct Link {
    range: VirtRange,
    asid: Asid,
    start: Start,
    last_use: u64,
}

/// Table pointers with the space to which they belong, replaced by least recent use.
#[derive(Debug)]
pub(super) struct Links {
    links: Vec<Link>,
    most: usize,
    clock: u64,
}

impl Links {
    pub(super) const fn new(most: usize) -> Self {
        Self { links: Vec::new(), most, clock: 0 }
    }

    pub(super) const fn is_off(&self) -> bool {
        self.most == 0
    }

    /// The lowest table known for `va`.
    pub(super) fn find(&mut self, va: VirtAddr, asid: Asid) -> Option<Start> {
        let fitting = self.links.iter_mut().filter(|link| link.asid == asid && link.range.contains(va));
        let lowest = fitting.max_by_key(|link| link.start.depth)?;
        self.clock += 1;
        lowest.last_use = self.clock;
        Some(lowest.start)
    }

    /// Remembers the table that a walk for `va` passed.
    pub(super) fn learn(&mut self, shape: &Shape, va: VirtAddr, asid: Asid, start: Start) {
        let bytes = shape.levels[start.depth - 1].bytes();
        let first = va.align_down(bytes);
        let range = VirtRange { start: first, last: VirtAddr(first.0 | (bytes - 1)) };
        self.links.retain(|link| !(link.asid == asid && link.range == range));
        if self.links.len() == self.most {
            let oldest = self.links.iter().enumerate().min_by_key(|(_, link)| link.last_use).map(|(at, _)| at);
            oldest.map(|at| self.links.swap_remove(at));
        }
        self.clock += 1;
        self.links.push(Link { range, asid, start, last_use: self.clock });
    }

    /// Forgets the tables that map a part of `range`; of one space or of all.
    pub(super) fn forget(&mut self, range: VirtRange, asid: Option<Asid>) {
        self.links.retain(|link| !link.range.overlaps(&range) || asid.is_some_and(|asid| link.asid != asid));
    }
}
