//! One walk, as the architecture does it: each entry read once, checked, and at the end marked as used.
//!
//! Nothing is written before every check has passed; marks are then set root first, each only over the entry that was
//! read. Where somebody changed an entry meanwhile, the walk begins anew.

use kernmem_arch::{Entry, FaultKind, LeafSize, LevelShape, MmuFormat, Refusal};
use kernmem_base::{Access, Level, PhysAddr, PhysMem, Privilege, Slot, VirtAddr};

/// Where a walk begins: the root, or a table that the walk cache remembers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Start {
    pub(super) table: PhysAddr,
    /// Levels below the root.
    pub(super) depth: usize,
    /// What the tables above take from leaves.
    pub(super) above: u64,
}

/// An entry that is to be marked.
#[derive(Clone, Copy, Debug)]
struct Mark {
    level: Level,
    table: PhysAddr,
    index: usize,
    raw: u64,
    marked: u64,
}

/// The way of the last walk: room that is used again by the next.
#[derive(Debug, Default)]
pub(super) struct Trail {
    marks: Vec<Mark>,
    links: Vec<Start>,
}

impl Trail {
    fn clear(&mut self) {
        self.marks.clear();
        self.links.clear();
    }

    /// The tables that were passed below the start, upper ones first.
    pub(super) fn links(&self) -> impl Iterator<Item = Start> {
        self.links.iter().copied()
    }
}

/// A leaf that may be used.
pub(super) struct Found<F: MmuFormat> {
    /// What one TLB entry holds of it: the leaf, or its contiguous group.
    pub(super) leaf: LeafSize,
    /// Memory behind the first byte of `leaf`.
    pub(super) base: PhysAddr,
    /// The leaf's attributes, less what the tables above take.
    pub(super) attrs: F::Attrs,
}

/// One walk in `mem` for one access.
pub(super) struct Walk<'w, F: MmuFormat, M> {
    pub(super) mem: &'w M,
    pub(super) control: &'w F::Control,
    /// The address without ignored bits.
    pub(super) va: VirtAddr,
    pub(super) access: Access,
    pub(super) privilege: Privilege,
    /// Whether one TLB entry may hold a contiguous group.
    pub(super) takes_groups: bool,
    pub(super) trail: &'w mut Trail,
    /// Entries read so far.
    pub(super) references: u64,
    /// Entries marked so far.
    pub(super) marks: u64,
}

impl<F: MmuFormat, M: PhysMem> Walk<'_, F, M> {
    /// Walks from `start` to a leaf that allows the access.
    pub(super) fn run(&mut self, start: Start) -> Result<Found<F>, Refusal> {
        loop {
            let found = self.descend(start)?;
            if self.mark()? {
                return Ok(found);
            }
        }
    }

    /// Reads and checks; writes nothing.
    fn descend(&mut self, start: Start) -> Result<Found<F>, Refusal> {
        self.trail.clear();
        let mut here = start;
        for shape in &F::shape().levels[start.depth..] {
            let at = |kind| Refusal { kind, level: Some(shape.level) };
            let index = shape.index(self.va);
            let raw = self.mem.entry::<F::Slot>(here.table, index).map_err(|_| at(FaultKind::External))?;
            self.references += 1;
            let entry = F::read(self.control, raw, shape.level).map_err(at)?;
            let is_leaf = matches!(entry, Entry::Leaf { .. });
            let marked = F::mark(self.control, raw, shape.level, is_leaf, self.access).map_err(at)?;
            if marked != raw {
                self.trail.marks.push(Mark { level: shape.level, table: here.table, index, raw, marked });
            }
            match entry {
                Entry::Table { next, attrs } => {
                    here = Start { table: next, depth: here.depth + 1, above: F::inherit(here.above, attrs) };
                    self.trail.links.push(here);
                }
                Entry::Leaf { base, .. } => return self.leaf(shape, base, marked, here.above),
                Entry::Absent { .. } | Entry::Reserved { .. } => return Err(at(FaultKind::Translation)),
            }
        }
        unreachable!("the last level of a format holds no tables")
    }

    /// The leaf, if its rights suffice.
    fn leaf(&self, shape: &LevelShape, base: PhysAddr, marked: u64, above: u64) -> Result<Found<F>, Refusal> {
        let Entry::Leaf { attrs, .. } = F::decode(marked, shape.level) else {
            unreachable!("a mark leaves a leaf a leaf");
        };
        let leaf = self.extent(shape, base, attrs);
        let attrs = F::narrow(attrs, above);
        if !F::rights(self.control, attrs).allow(self.access, self.privilege) {
            return Err(Refusal { kind: FaultKind::Permission, level: Some(shape.level) });
        }
        Ok(Found { leaf, base: base.align_down(leaf.bytes), attrs })
    }

    /// What one TLB entry holds: the contiguous group of a leaf that is marked so and lies where a group can.
    fn extent(&self, shape: &LevelShape, base: PhysAddr, attrs: F::Attrs) -> LeafSize {
        let single = LeafSize { bytes: shape.bytes(), level: shape.level, contiguous: false };
        let group = LeafSize { bytes: shape.bytes() << shape.contiguous_bits, contiguous: true, ..single };
        let apart = (base.0 ^ self.va.0) & (group.bytes - 1) & !(single.bytes - 1);
        let is_group = self.takes_groups && shape.contiguous_bits > 0 && F::is_contiguous(attrs) && apart == 0;
        if is_group { group } else { single }
    }

    /// Sets what is to be set; `false` if an entry is no longer what was read.
    fn mark(&mut self) -> Result<bool, Refusal> {
        for mark in &self.trail.marks {
            let gone = |_| Refusal { kind: FaultKind::External, level: Some(mark.level) };
            let table = self.mem.table_mut::<F::Slot>(mark.table, mark.index + 1).map_err(gone)?;
            if table[mark.index].exchange(mark.raw, mark.marked).is_err() {
                return Ok(false);
            }
            self.marks += 1;
        }
        Ok(true)
    }
}
