//! One walk, as the architecture does it: each entry read once, checked, and at the end marked as used.
//!
//! Nothing is written before every check has passed; marks are then set root first, each only over the entry that was
//! read. Where somebody changed an entry meanwhile, the walk begins anew.

use core::marker::PhantomData;

use kernmem_arch::{Entry, FaultKind, LeafSize, LevelShape, MmuFormat, Refusal, Rights};
use kernmem_base::{Access, PhysAddr, PhysMem, Privilege, Slot, VirtAddr};

/// The most levels of any format.
pub(super) const MAX_LEVELS: usize = 5;

/// Where a walk begins: the root, or a table that the walk cache remembers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Start {
    pub(super) table: PhysAddr,
    /// Levels below the root.
    pub(super) depth: usize,
    /// What the tables above take from leaves.
    pub(super) above: u64,
}

/// A table entry on the way, and where it leads.
#[derive(Clone, Copy)]
struct Step {
    table: PhysAddr,
    index: usize,
    raw: u64,
    marked: u64,
    leads_to: Option<Start>,
}

/// A leaf that may be used, and the way to it.
pub(super) struct Found<F: MmuFormat> {
    /// What one TLB entry holds of it: the leaf, or its contiguous group.
    pub(super) leaf: LeafSize,
    /// Memory behind the first byte of `leaf`.
    pub(super) base: PhysAddr,
    /// The leaf's attributes, less what the tables above take.
    pub(super) attrs: F::Attrs,
    pub(super) rights: Rights,
    steps: [Option<Step>; MAX_LEVELS],
}

impl<F: MmuFormat> Found<F> {
    /// The tables that were passed below the start, upper ones first.
    pub(super) fn links(&self) -> impl Iterator<Item = Start> {
        self.steps.iter().flatten().filter_map(|step| step.leads_to)
    }
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
    /// Entries read so far.
    pub(super) references: u64,
    /// Entries marked so far.
    pub(super) marks: u64,
    pub(super) format: PhantomData<F>,
}

impl<F: MmuFormat, M: PhysMem> Walk<'_, F, M> {
    /// Walks from `start` to a leaf that allows the access.
    pub(super) fn run(&mut self, start: Start) -> Result<Found<F>, Refusal> {
        loop {
            let found = self.descend(start)?;
            if self.mark(&found.steps) {
                return Ok(found);
            }
        }
    }

    /// Reads and checks; writes nothing.
    fn descend(&mut self, start: Start) -> Result<Found<F>, Refusal> {
        let mut steps = [None; MAX_LEVELS];
        let mut here = start;
        for shape in &F::shape().levels[start.depth..] {
            let at = |kind| Refusal { kind, level: Some(shape.level) };
            let index = shape.index(self.va);
            let raw = self.mem.entry::<F::Slot>(here.table, index).map_err(|_| at(FaultKind::External))?;
            self.references += 1;
            let entry = F::read(self.control, raw, shape.level).map_err(at)?;
            let is_leaf = matches!(entry, Entry::Leaf { .. });
            let marked = F::mark(self.control, raw, is_leaf, self.access).map_err(at)?;
            let step = Step { table: here.table, index, raw, marked, leads_to: None };
            match entry {
                Entry::Table { next, attrs } => {
                    let next = Start { table: next, depth: here.depth + 1, above: F::inherit(here.above, attrs) };
                    steps[here.depth] = Some(Step { leads_to: Some(next), ..step });
                    here = next;
                }
                Entry::Leaf { base, .. } => {
                    steps[here.depth] = Some(step);
                    return self.leaf(shape, base, marked, here.above, steps);
                }
                Entry::Absent { .. } | Entry::Reserved { .. } => return Err(at(FaultKind::Translation)),
            }
        }
        unreachable!("the last level of a format holds no tables")
    }

    /// The leaf with its rights, if they suffice.
    fn leaf(
        &self,
        shape: &LevelShape,
        base: PhysAddr,
        marked: u64,
        above: u64,
        steps: [Option<Step>; MAX_LEVELS],
    ) -> Result<Found<F>, Refusal> {
        let refuse = |kind| Refusal { kind, level: Some(shape.level) };
        let Entry::Leaf { attrs, .. } = F::decode(marked, shape.level) else {
            unreachable!("a mark leaves a leaf a leaf");
        };
        let leaf = self.extent(shape, base, attrs);
        let attrs = F::narrow(attrs, above);
        let rights = F::rights(self.control, attrs);
        if !rights.allow(self.access, self.privilege) {
            return Err(refuse(FaultKind::Permission));
        }
        Ok(Found { leaf, base: base.align_down(leaf.bytes), attrs, rights, steps })
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
    fn mark(&mut self, steps: &[Option<Step>; MAX_LEVELS]) -> bool {
        for step in steps.iter().flatten().filter(|step| step.marked != step.raw) {
            // The table was read a moment ago; if it is gone now, the walk begins anew and says so.
            let Ok(table) = self.mem.table_mut::<F::Slot>(step.table, step.index + 1) else { return false };
            if table[step.index].exchange(step.raw, step.marked).is_err() {
                return false;
            }
            self.marks += 1;
        }
        true
    }
}
