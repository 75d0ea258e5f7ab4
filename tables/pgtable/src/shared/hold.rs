//! What a cursor holds: the lowest table in place that contains its range, and every table below it that the range
//! touches.
//!
//! Here: how the tables are found, locked, given back, and how the hold grows upward by one table or shrinks to one
//! below. The rules and the argument that nobody waits for ever are in the head of `shared`.

use core::fmt;
use core::marker::PhantomData;

use kernmem_arch::{Entry, EntryFormat};
use kernmem_base::{BusError, Claim, PhysAddr, PhysMem, Slot, TableNote, VirtAddr, VirtRange};

use crate::cursor::Node;
use crate::span::over;

/// The most levels of any format.
const MAX_LEVELS: usize = 5;

/// What a CPU does between two looks at a lock that somebody has: the number of looks so far comes with it.
pub(super) type Wait = fn(u32);

/// Locked tables: `path[depth]`, and all below it that `range` touches.
pub(super) struct Hold<'m, F, M> {
    mem: &'m M,
    range: VirtRange,
    /// The tables from the root down to the topmost that is held, at `depth`.
    path: [PhysAddr; MAX_LEVELS],
    depth: usize,
    /// The note of that table.
    note: &'m TableNote,
    wait: Wait,
    format: PhantomData<fn() -> F>,
}

impl<F, M> fmt::Debug for Hold<'_, F, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hold").field("range", &self.range).field("top", &self.top()).finish_non_exhaustive()
    }
}

/// Why an attempt to lock tables below the topmost is given up: the holder of this one waits for one that is held.
struct GiveWay<'m>(&'m TableNote);

impl<F, M> Hold<'_, F, M> {
    /// The topmost table that is held.
    pub(super) const fn top(&self) -> Node {
        Node { table: self.path[self.depth], depth: self.depth }
    }

    pub(super) const fn range(&self) -> VirtRange {
        self.range
    }
}

impl<'m, F: EntryFormat, M: PhysMem> Hold<'m, F, M> {
    /// Locks the tables for `range`, which lies in one root table. The caller is in an epoch.
    ///
    /// # Errors
    /// The root lies outside memory.
    #[inline]
    pub(super) fn acquire(mem: &'m M, root: PhysAddr, range: VirtRange, wait: Wait) -> Result<Self, BusError> {
        let note = mem.note(root)?;
        loop {
            let mut hold = Self { mem, range, path: [root; MAX_LEVELS], depth: 0, note, wait, format: PhantomData };
            while let Some((next, note)) = hold.below() {
                hold.push(next, note);
            }
            if !hold.lock(hold.note) {
                continue; // died meanwhile: what links it is gone
            }
            match hold.descend().and_then(|()| hold.lock_below()) {
                Ok(()) => return Ok(hold),
                Err(GiveWay(climber)) => hold.outwait(climber),
            }
        }
    }

    #[inline]
    fn push(&mut self, next: PhysAddr, note: &'m TableNote) {
        self.depth += 1;
        self.path[self.depth] = next;
        self.note = note;
    }

    /// The table under the topmost one that contains the whole range, if there is one whose note can be reached.
    #[inline]
    fn below(&self) -> Option<(PhysAddr, &'m TableNote)> {
        let Entry::Table { next, .. } = self.entry()? else { return None };
        self.mem.note(next).ok().map(|note| (next, note))
    }

    /// The entry of the topmost table for the range, if it lies in one.
    #[inline]
    fn entry(&self) -> Option<Entry<F::Attrs>> {
        let shape = &F::shape().levels[self.depth];
        let index = shape.index(self.range.start);
        if index != shape.index(self.range.last) {
            return None;
        }
        let raw = self.mem.entry::<F::Slot>(self.top().table, index).ok()?;
        Some(F::decode(raw, shape.level))
    }

    /// The start of the range, if it lies in one entry of the topmost table and nothing is there.
    #[inline]
    pub(super) fn missing_below(&self) -> Option<VirtAddr> {
        matches!(self.entry()?, Entry::Absent { sw: 0 }).then_some(self.range.start)
    }

    /// Whether the range is all that the topmost table translates, and there is one above.
    #[inline]
    pub(super) fn is_whole(&self) -> bool {
        self.depth > 0 && self.range.size() == F::shape().levels[self.depth - 1].bytes()
    }

    /// Looks until `look` has an answer.
    #[inline]
    fn until<T>(&self, look: impl Fn() -> Option<T>) -> T {
        let mut turn = 0_u32;
        loop {
            if let Some(answer) = look() {
                return answer;
            }
            (self.wait)(turn);
            turn = turn.saturating_add(1);
        }
    }

    /// Waits for a table that no held one links. Returns whether it is locked; it is dead otherwise.
    #[inline]
    fn lock(&self, note: &TableNote) -> bool {
        self.until(|| match note.try_lock() {
            Claim::Taken => Some(true),
            Claim::Dead => Some(false),
            Claim::Held | Claim::Climbing => None,
        })
    }

    /// Waits for a table that a held one links. It cannot die meanwhile; its holder may want the held one.
    fn lock_child(&self, note: &'m TableNote) -> Result<(), GiveWay<'m>> {
        self.until(|| match note.try_lock() {
            Claim::Taken => Some(Ok(())),
            Claim::Climbing => Some(Err(GiveWay(note))),
            Claim::Held | Claim::Dead => None,
        })
    }

    /// Waits, with nothing held, until the holder of a table has stopped climbing.
    fn outwait(&self, climber: &TableNote) {
        self.until(|| (!climber.is_climbing()).then_some(()));
    }

    /// Goes down to the lowest table that contains the range: others may have made some since the topmost was found.
    #[inline]
    fn descend(&mut self) -> Result<(), GiveWay<'m>> {
        while let Some((next, note)) = self.below() {
            let locked = self.lock_child(note);
            self.note.unlock();
            locked?;
            self.push(next, note);
        }
        Ok(())
    }

    /// Locks every table below the topmost one that the range touches; gives everything back if one is refused.
    #[inline]
    fn lock_below(&self) -> Result<(), GiveWay<'m>> {
        self.lock_children(self.top(), self.note, self.range).inspect_err(|_| self.note.unlock())
    }

    #[inline]
    fn lock_children(&self, node: Node, above: &TableNote, range: VirtRange) -> Result<(), GiveWay<'m>> {
        if !above.may_link() {
            return Ok(());
        }
        self.each_child(node, range, |child, note, part| {
            self.lock_child(note)
                .and_then(|()| self.lock_children(child, note, part).inspect_err(|_| note.unlock()))
                .inspect_err(|_| self.unlock_children_before(node, above, range, part))
        })
    }

    fn unlock_children_before(&self, node: Node, note: &TableNote, range: VirtRange, part: VirtRange) {
        if range.start < part.start {
            self.unlock_children(node, note, VirtRange { start: range.start, last: part.start - 1 });
        }
    }

    /// Unlocks the tables below `node` that `range` touches, which are all held, lower ones first.
    #[inline]
    fn unlock_children(&self, node: Node, note: &TableNote, range: VirtRange) {
        if !note.may_link() {
            return;
        }
        let done: Result<(), GiveWay<'m>> = self.each_child(node, range, |child, note, part| {
            self.unlock_children(child, note, part);
            note.unlock();
            Ok(())
        });
        debug_assert!(done.is_ok(), "nothing is waited for");
    }

    /// Calls `each` for every table that the held table `node` links for a part of `range`. Tables outside memory are
    /// left out: no cursor works in them.
    #[inline]
    fn each_child(
        &self,
        node: Node,
        range: VirtRange,
        mut each: impl FnMut(Node, &'m TableNote, VirtRange) -> Result<(), GiveWay<'m>>,
    ) -> Result<(), GiveWay<'m>> {
        let shape = &F::shape().levels[node.depth];
        let Ok(slots) = self.mem.table::<F::Slot>(node.table, shape.index(range.last) + 1) else { return Ok(()) };
        for (slot, part) in over(&slots, shape, range) {
            if let Entry::Table { next, .. } = F::decode(slot.load(), shape.level)
                && let Ok(note) = self.mem.note(next)
            {
                each(node.below(next), note, part)?;
            }
        }
        Ok(())
    }

    /// Marks the tables of a list of unlinked ones as dead, with all below them, which were held: their locks end.
    #[inline]
    pub(super) fn kill_list(&self, first: Option<PhysAddr>) {
        let mut next = first;
        while let Some(table) = next {
            let Ok(note) = self.mem.note(table) else { return };
            let grave = note.grave();
            next = grave.next.and_then(|pfn| pfn.to_phys(F::shape().granule));
            self.kill(Node { table, depth: grave.depth }, note);
        }
    }

    fn kill(&self, node: Node, note: &TableNote) {
        if note.may_link()
            && let Ok(slots) = self.mem.table::<F::Slot>(node.table, F::shape().levels[node.depth].entries())
        {
            for slot in slots.iter() {
                if let Entry::Table { next, .. } = F::decode(slot.load(), F::shape().levels[node.depth].level)
                    && let Ok(note) = self.mem.note(next)
                {
                    self.kill(node.below(next), note);
                }
            }
        }
        note.kill();
    }

    /// Entries in use in the topmost table.
    pub(super) fn used(&self) -> u16 {
        self.note.used()
    }

    /// Locks the table above the topmost one, which there must be, and makes it the topmost.
    #[inline]
    pub(super) fn climb(&mut self) {
        let Ok(above) = self.mem.note(self.path[self.depth - 1]) else { return };
        if above.try_lock() != Claim::Taken {
            self.note.set_climbing(true);
            self.lock(above);
            self.note.set_climbing(false);
        }
        self.depth -= 1;
        self.note = above;
    }

    /// Gives the topmost table back and makes `next`, which it links, is locked and contains the range, the topmost.
    pub(super) fn shrink_to(&mut self, next: PhysAddr) {
        let Ok(note) = self.mem.note(next) else { return };
        self.note.unlock();
        self.push(next, note);
    }

    /// Gives everything back.
    #[inline]
    pub(super) fn release(&self) {
        self.unlock_children(self.top(), self.note, self.range);
        self.note.unlock();
    }
}

/// Whether every table is linked once and none is held: locks all and gives all back. Nobody else reaches them.
pub(super) fn check<F: EntryFormat, M: PhysMem>(mem: &M, root: Node) -> Result<(), PhysAddr> {
    let mut seen = 0;
    let met_twice = mark::<F, M>(mem, root, &mut seen).err();
    unmark::<F, M>(mem, root, &mut seen);
    met_twice.map_or(Ok(()), Err)
}

/// Locks tables in pre-order and counts them, up to the first that is locked already.
fn mark<F: EntryFormat, M: PhysMem>(mem: &M, node: Node, seen: &mut usize) -> Result<(), PhysAddr> {
    let Ok(note) = mem.note(node.table) else { return Ok(()) };
    if note.try_lock() != Claim::Taken {
        return Err(node.table);
    }
    *seen += 1;
    let shape = &F::shape().levels[node.depth];
    let slots = mem.table::<F::Slot>(node.table, shape.entries());
    let (true, Ok(slots)) = (note.may_link(), slots) else { return Ok(()) };
    slots.iter().try_for_each(|slot| match F::decode(slot.load(), shape.level) {
        Entry::Table { next, .. } => mark::<F, M>(mem, node.below(next), seen),
        _ => Ok(()),
    })
}

/// Unlocks the first `left` tables in pre-order.
fn unmark<F: EntryFormat, M: PhysMem>(mem: &M, node: Node, left: &mut usize) {
    let (Ok(note), 1..) = (mem.note(node.table), *left) else { return };
    note.unlock();
    *left -= 1;
    let shape = &F::shape().levels[node.depth];
    let slots = mem.table::<F::Slot>(node.table, shape.entries());
    let (true, Ok(slots)) = (note.may_link(), slots) else { return };
    for slot in slots.iter() {
        if let Entry::Table { next, .. } = F::decode(slot.load(), shape.level) {
            unmark::<F, M>(mem, node.below(next), left);
        }
    }
}
