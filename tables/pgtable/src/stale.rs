//! The debt of a change: what TLBs may still hold, and the tables that wait for it.

use kernmem_arch::{Entry, EntryFormat};
use kernmem_base::{FrameSource, PhysAddr, PhysMem, Slot, TableNote, Tlb, VirtRange};

use crate::Tables;
use crate::cursor::Node;

/// What TLBs may still hold after a change: pay it, hand it on, or forgive it with a reason.
///
/// Dead tables hang on it as a list threaded through their notes: their memory may not be reused, and their virtual
/// range not be mapped anew, until the debt is paid.
#[must_use = "TLBs may still hold the old translation"]
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Stale {
    range: Option<VirtRange>,
    unlinked: Unlinked,
}

/// What an operation unlinked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Unlinked {
    /// No table.
    #[default]
    Nothing,
    /// Tables without notes, which came from no source.
    Foreign,
    /// The list of dead tables that begins with this one, and perhaps others without notes.
    Dead(PhysAddr),
}

impl Stale {
    /// No debt: nothing was mapped where the change was made.
    pub(crate) const NONE: Self = Self { range: None, unlinked: Unlinked::Nothing };

    pub(crate) const fn range_only(range: VirtRange) -> Self {
        Self { range: Some(range), unlinked: Unlinked::Nothing }
    }

    /// The addresses that must be flushed, if any.
    #[must_use]
    pub const fn range(&self) -> Option<VirtRange> {
        self.range
    }

    /// Whether tables wait for the flush.
    #[must_use]
    pub const fn frees_tables(&self) -> bool {
        self.first_dead().is_some()
    }

    /// Whether tables were unlinked: the flush is of walks, too.
    pub(crate) const fn unlinks(&self) -> bool {
        !matches!(self.unlinked, Unlinked::Nothing)
    }

    /// Widens the debt by `range`.
    pub(crate) fn owe(&mut self, range: VirtRange) {
        self.range = Some(match self.range {
            Some(old) => VirtRange { start: old.start.min(range.start), last: old.last.max(range.last) },
            None => range,
        });
    }

    /// Hangs a detached table, with everything below it, on the debt. One outside memory came from no source and is
    /// let go.
    #[inline]
    pub(crate) fn bury<F: EntryFormat, M: PhysMem>(&mut self, mem: &M, node: Node) {
        let granule = F::shape().granule;
        match mem.note(node.table) {
            Ok(note) => {
                note.bury(node.depth, self.first_dead().map(|pa| pa.pfn(granule)));
                self.unlinked = Unlinked::Dead(node.table);
            }
            Err(_) if self.unlinks() => {}
            Err(_) => self.unlinked = Unlinked::Foreign,
        }
    }

    /// Flushes the range once, then gives every dead table back to `frames`, with the tables below it. A debt without
    /// a range was flushed when it was made.
    #[inline]
    pub fn pay<F: EntryFormat, M: PhysMem>(
        self,
        tlb: &mut impl Tlb,
        tables: &mut Tables<'_, F, M>,
        frames: &mut impl FrameSource,
    ) {
        self.settle::<F, M>(tlb, tables.mem(), frames);
    }

    /// [`Stale::pay`] where the tables are reached by other means.
    #[inline]
    pub(crate) fn settle<F: EntryFormat, M: PhysMem>(self, tlb: &mut impl Tlb, mem: &M, frames: &mut impl FrameSource) {
        if let Some(first) = self.flush(tlb) {
            free_list::<F, M>(mem, first, frames);
        }
    }

    /// Flushes the range; the dead tables, of which the first is returned, go over to the caller.
    #[inline]
    pub(crate) fn flush(self, tlb: &mut impl Tlb) -> Option<PhysAddr> {
        if let Some(range) = self.range {
            tlb.flush(range, self.unlinks());
        }
        self.first_dead()
    }

    /// The first of the dead tables, which are linked by their notes.
    #[inline]
    pub(crate) const fn first_dead(&self) -> Option<PhysAddr> {
        match self.unlinked {
            Unlinked::Dead(first) => Some(first),
            Unlinked::Nothing | Unlinked::Foreign => None,
        }
    }

    /// Takes over the debt of an operation that went before.
    pub(crate) fn join<F: EntryFormat, M: PhysMem>(&mut self, mem: &M, other: Self) {
        if let Some(range) = other.range {
            self.owe(range);
        }
        match other.unlinked {
            Unlinked::Nothing => {}
            Unlinked::Foreign if self.unlinks() => {}
            Unlinked::Foreign => self.unlinked = Unlinked::Foreign,
            Unlinked::Dead(first) => {
                append::<F, M>(mem, first, self.first_dead());
                self.unlinked = Unlinked::Dead(first);
            }
        }
    }

    /// Drops a debt that cannot matter.
    ///
    /// `reason` is for the reader of the code: the MMU is off, the range was never live, the whole TLB is flushed
    /// anyway. Dead tables are lost to the frame source.
    pub fn forgive(self, reason: &'static str) {
        let _ = reason;
    }
}

/// Hangs `behind` on the end of the list of dead tables that begins with `first`; returns how many that list had.
pub(crate) fn append<F: EntryFormat, M: PhysMem>(mem: &M, first: PhysAddr, behind: Option<PhysAddr>) -> usize {
    let granule = F::shape().granule;
    let (mut last, mut count) = (first, 1);
    while let Some(next) = mem.note(last).ok().and_then(|note| note.grave().next?.to_phys(granule)) {
        last = next;
        count += 1;
    }
    if let (Some(behind), Ok(note)) = (behind, mem.note(last)) {
        note.bury(note.grave().depth, Some(behind.pfn(granule)));
    }
    count
}

/// Gives back the dead tables from `first` on, with those below them.
#[inline(never)]
pub(crate) fn free_list<F: EntryFormat, M: PhysMem>(mem: &M, first: PhysAddr, frames: &mut impl FrameSource) {
    let granule = F::shape().granule;
    let mut dead = Dead { frames, held: [PhysAddr(0); HELD], count: 0 };
    let mut next = Some(first);
    while let Some(table) = next {
        let Ok(note) = mem.note(table) else { break };
        let grave = note.grave();
        next = grave.next.and_then(|pfn| pfn.to_phys(granule));
        if grave.may_link {
            free_below::<F, M>(mem, Node { table, depth: grave.depth }, &mut dead);
        }
        note.clear();
        dead.add(table);
    }
    dead.flush();
}

/// Gives back the tables below one that may link some. What can link none is not read, nor what lies behind the last
/// entry in use.
fn free_below<F: EntryFormat, M: PhysMem>(mem: &M, node: Node, dead: &mut Dead<'_, impl FrameSource>) {
    let Some(shape) = F::shape().levels.get(node.depth) else { return };
    let Ok(slots) = mem.table::<F::Slot>(node.table, shape.entries()) else { return };
    let used = mem.note(node.table).map_or(0, TableNote::used);
    for slot in slots.iter().filter(|slot| slot.peek() != 0).take(usize::from(used)) {
        let Entry::Table { next, .. } = F::decode(slot.peek(), shape.level) else { continue };
        if let Ok(note) = mem.note(next) {
            if note.may_link() {
                free_below::<F, M>(mem, node.below(next), dead);
            }
            note.clear();
        }
        dead.add(next);
    }
}

/// How many frames go back together.
const HELD: usize = 64;

/// Frames of dead tables on their way back.
struct Dead<'f, S> {
    frames: &'f mut S,
    held: [PhysAddr; HELD],
    count: usize,
}

impl<S: FrameSource> Dead<'_, S> {
    #[inline]
    fn add(&mut self, frame: PhysAddr) {
        self.held[self.count % HELD] = frame;
        self.count += 1;
        if self.count == HELD {
            self.flush();
        }
    }

    fn flush(&mut self) {
        self.frames.give_back_all(&self.held[..self.count]);
        self.count = 0;
    }
}
