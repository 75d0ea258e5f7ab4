//! Changing what is mapped: rights, splits, collapses.

use kernmem_arch::{EncodeError, Entry, EntryFormat, LevelShape};
use kernmem_base::{FrameSource, Level, PhysAddr, PhysMem, Slot, Tlb, VirtAddr, VirtRange};

use crate::Stale;
use crate::cursor::{Node, Under, slots};
use crate::error::{Failed, MapError, Stopped};
use crate::map::table_entry;
use crate::span::{Runs, block_around, covers, leaf_around, over};

/// A change of attribute bits: `clear` goes first, then `set`. Address bits, the leaf's size and its contiguous mark
/// are not touched if the masks leave them alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Change {
    /// Bits to set.
    pub set: u64,
    /// Bits to clear.
    pub clear: u64,
}

impl Change {
    const fn apply(self, raw: u64) -> u64 {
        raw & !self.clear | self.set
    }

    /// Whether one store may make the change on the live leaf `raw` at `va`.
    fn check<F: EntryFormat>(
        self,
        raw: u64,
        (base, attrs): (PhysAddr, F::Attrs),
        va: VirtAddr,
        level: Level,
    ) -> Result<(), MapError> {
        let new = self.apply(raw);
        match F::decode(new, level) {
            Entry::Absent { .. } => return Ok(()),
            Entry::Leaf { base: same, .. } if same == base => {}
            _ => return Err(EncodeError { level, raw: new }.into()),
        }
        // A group whose every member changes alike keeps its mark: compare without it.
        let mark = if F::is_contiguous(attrs) { mark_bits::<F>(attrs, level) } else { 0 };
        let is_safe = new == raw || (new ^ raw) & mark == 0 && F::change_is_safe(raw & !mark, new & !mark);
        if is_safe { Ok(()) } else { Err(MapError::Live { va, level }) }
    }
}

/// The bits by which a leaf says that it is one of a contiguous group.
fn mark_bits<F: EntryFormat>(attrs: F::Attrs, level: Level) -> u64 {
    let page = F::page_attrs(attrs, level);
    F::bits(F::leaf_attrs(page, level, true)) ^ F::bits(F::leaf_attrs(page, level, false))
}

/// Changes the leaves of `range` below one table; `stale` takes the debt, also of an operation that stops half-way.
pub(crate) fn protect<F: EntryFormat, M: PhysMem>(
    mem: &M,
    node: Node,
    range: VirtRange,
    change: Change,
    stale: &mut Stale,
) -> Result<(), Stopped> {
    Protector::<F, M> { mem, change, stale, proven: None }.below(node, range)
}

/// One descent that changes leaves.
struct Protector<'p, F: EntryFormat, M> {
    mem: &'p M,
    change: Change,
    stale: &'p mut Stale,
    proven: Option<Proven<F::Attrs>>,
}

/// What was proven of a leaf, and holds for its equals.
#[derive(Clone, Copy)]
struct Proven<A> {
    level: Level,
    attrs: A,
    /// The bits that change.
    flips: u64,
    /// Whether it stays where it is, so that many may change at once.
    stays: bool,
}

impl<A: PartialEq> Proven<A> {
    #[inline]
    fn holds_for(&self, level: Level, attrs: A, flips: u64) -> bool {
        self.level == level && self.attrs == attrs && self.flips == flips
    }
}

impl<F: EntryFormat, M: PhysMem> Protector<'_, F, M> {
    fn below(&mut self, node: Node, range: VirtRange) -> Result<(), Stopped> {
        let shape = &F::shape().levels[node.depth];
        let slots = slots::<F, M>(self.mem, node).map_err(Stopped::at(range.start))?;
        let mut runs = Runs::new(slots, shape, range);
        while let Some((raw, part)) = runs.peek() {
            match F::decode(raw, shape.level) {
                Entry::Table { next, .. } => {
                    let is_whole = part.size() == shape.bytes();
                    let left = if is_whole { self.whole(node.below(next), part)? } else { Some(part) };
                    if let Some(left) = left {
                        self.below(node.below(next), left)?;
                    }
                    runs.skip(1);
                }
                Entry::Absent { .. } | Entry::Reserved { .. } => runs.skip_alike(0, usize::MAX),
                Entry::Leaf { base, attrs } => self.run(node, &mut runs, shape, raw, (base, attrs))?,
            }
        }
        Ok(())
    }

    /// Changes the first leaves of a table, which maps `part` and nothing else, if they were proven to change. Returns
    /// what is left of `part`.
    #[inline]
    fn whole(&mut self, node: Node, part: VirtRange) -> Result<Option<VirtRange>, Stopped> {
        let (Some(proven), shape) = (self.proven, &F::shape().levels[node.depth]) else { return Ok(Some(part)) };
        let raw = self.mem.slot::<F::Slot>(node.table, 0).map_err(Stopped::at(part.start))?.peek();
        let Entry::Leaf { attrs, .. } = F::decode(raw, shape.level) else { return Ok(Some(part)) };
        let flips = self.change.apply(raw) ^ raw;
        // Not a contiguous group, which must not be entered in its middle afterwards.
        let is_plain = flips != 0 && proven.stays && !F::is_contiguous(attrs);
        if !is_plain || !proven.holds_for(shape.level, attrs, flips) {
            return Ok(Some(part));
        }
        let (all, bits) = ((0, shape.entries()), (!self.change.clear, self.change.set));
        let done = self.mem.rewrite::<F::Slot>(node.table, all, F::address_bits(shape.level), bits);
        let done = (done.map_err(Stopped::at(part.start))? as u64) << shape.shift;
        if done == part.size() {
            self.stale.owe(part);
            return Ok(None);
        }
        let left = part.start.wrapping_add(done);
        self.stale.owe(VirtRange { start: part.start, last: left.wrapping_add(u64::MAX) });
        Ok(Some(VirtRange { start: left, last: part.last }))
    }

    /// Changes the next leaves of a table: `raw`, which says `leaf`, and those behind it that are like it.
    #[inline]
    fn run(
        &mut self,
        node: Node,
        runs: &mut Runs<'_, F::Slot>,
        shape: &LevelShape,
        raw: u64,
        (base, attrs): (PhysAddr, F::Attrs),
    ) -> Result<(), Stopped> {
        let (change, level, va) = (self.change, shape.level, runs.va());
        let covered = runs.covered(if F::is_contiguous(attrs) { shape.contiguous_bits } else { 0 });
        if covered == 0 {
            return Err(Stopped { va, error: MapError::Inside { va, level } });
        }
        let (new, address) = (change.apply(raw), F::address_bits(level));
        let flips = new ^ raw;
        let proven = match self.proven.filter(|proven| proven.holds_for(level, attrs, flips)) {
            Some(proven) => proven,
            None => {
                change.check::<F>(raw, (base, attrs), va, level).map_err(Stopped::at(va))?;
                let stays = (change.set | change.clear) & address == 0 && new & !address != 0;
                *self.proven.insert(Proven { level, attrs, flips, stays })
            }
        };
        if flips == 0 {
            runs.skip_alike(address, covered);
            return Ok(());
        }
        // One that moves or vanishes does so alone.
        let most = if proven.stays { covered } else { 1 };
        if new == 0 {
            self.mem.note(node.table).map_err(Stopped::at(va))?.take(1);
        }
        let (_, part) = runs.rewrite(self.mem, node.table, most, address, (!change.clear, change.set))?;
        self.stale.owe(part);
        Ok(())
    }
}

/// Puts `raw` in the place of the live entry for `block`: by break-before-make where the architecture asks for it,
/// else by one store that leaves a debt.
fn replace<F: EntryFormat>(slot: &F::Slot, raw: u64, block: VirtRange, tlb: &mut impl Tlb, frees_table: bool) -> Stale {
    if !F::BREAK_BEFORE_MAKE {
        slot.publish(raw);
        return Stale::range_only(block);
    }
    slot.swap(0);
    tlb.flush(block, frees_table);
    slot.publish(raw);
    Stale::NONE
}

/// Splits the leaf `under` that maps `va`; returns the size of the leaves that are there now. `leaves` are their
/// attributes if they are not those of the leaf.
pub(crate) fn split<F: EntryFormat, M: PhysMem>(
    mem: &M,
    under: &Under<F::Attrs>,
    va: VirtAddr,
    frames: &mut impl FrameSource,
    tlb: &mut impl Tlb,
    table_attrs: F::Attrs,
    leaves: Option<F::Attrs>,
) -> Result<(u64, Stale), Failed> {
    let shape = &F::shape().levels[under.node.depth];
    let Entry::Leaf { base, attrs } = under.entry else {
        return Err(MapError::Hole { va, level: shape.level }.into());
    };
    let slots = slots::<F, M>(mem, under.node)?;
    if F::is_contiguous(attrs) {
        return Ok((shape.bytes(), unmark_group::<F>(slots, shape, va, tlb)));
    }
    let Some(below) = F::shape().levels.get(under.node.depth + 1) else {
        return Ok((shape.bytes(), Stale::NONE));
    };
    let parent = mem.note(under.node.table)?;
    let frame = frames.take(below.level)?;
    let leaves = leaves.unwrap_or_else(|| F::leaf_attrs(F::page_attrs(attrs, shape.level), below.level, false));
    let link = table_entry::<F>(frame.pa, table_attrs, shape.level)
        .map_err(MapError::from)
        .and_then(|link| fill_smaller::<F, M>(mem, frame.pa, below, base, leaves).map(|()| link));
    match link {
        Ok(link) => {
            parent.set_may_link();
            let block = block_around(va, shape.bytes());
            Ok((below.bytes(), replace::<F>(&slots[under.index], link, block, tlb, false)))
        }
        Err(error) => {
            frames.give_back(frame.pa);
            Err(error.into())
        }
    }
}

/// Fills a new table with leaves for the memory from `base`; `attrs` are in the form of its level.
fn fill_smaller<F: EntryFormat, M: PhysMem>(
    mem: &M,
    table: PhysAddr,
    shape: &LevelShape,
    base: PhysAddr,
    attrs: F::Attrs,
) -> Result<(), MapError> {
    let first = F::encode(Entry::Leaf { base, attrs }, shape.level)?;
    let note = mem.note(table)?;
    mem.fill::<F::Slot>(table, 0, shape.entries(), first, shape.bytes())?;
    note.set_leaves(shape.entries() as u16);
    Ok(())
}

/// The most entries of a contiguous group (arm64, 16K granule, pages).
const MAX_GROUP: usize = 128;

/// Takes the contiguous mark off the group around `va`, which lies in one table.
fn unmark_group<F: EntryFormat>(slots: &[F::Slot], shape: &LevelShape, va: VirtAddr, tlb: &mut impl Tlb) -> Stale {
    let group = leaf_around(va, shape, true);
    let slots = &slots[shape.index(group.start)..=shape.index(group.last)];
    let mut old = [0; MAX_GROUP];
    for (old, slot) in old.iter_mut().zip(slots) {
        *old = if F::BREAK_BEFORE_MAKE { slot.swap(0) } else { slot.load() };
    }
    if F::BREAK_BEFORE_MAKE {
        tlb.flush(group, false);
    }
    for (raw, slot) in old.iter().zip(slots) {
        slot.publish(match F::decode(*raw, shape.level) {
            Entry::Leaf { base, attrs } => {
                F::place(base) | F::bits(F::leaf_attrs(F::page_attrs(attrs, shape.level), shape.level, false))
            }
            _ => *raw,
        });
    }
    if F::BREAK_BEFORE_MAKE { Stale::NONE } else { Stale::range_only(group) }
}

/// Replaces the table that the entry of `level` for `va` links by one leaf; the leaf must lie in `range`.
pub(crate) fn collapse<F: EntryFormat, M: PhysMem>(
    mem: &M,
    top: Node,
    range: VirtRange,
    va: VirtAddr,
    level: Level,
    tlb: &mut impl Tlb,
) -> Result<Stale, Failed> {
    let Some(depth) = F::shape().levels.iter().position(|shape| shape.level == level && shape.leaf) else {
        return Err(EncodeError { level, raw: 0 }.into());
    };
    let shape = &F::shape().levels[depth];
    let block = block_around(va, shape.bytes());
    if !covers(range, block) {
        return Err(MapError::Inside { va, level }.into());
    }
    let under = Under::find::<F, M>(mem, top, va, depth)?;
    let next = match under.entry {
        Entry::Table { next, .. } => next,
        Entry::Leaf { .. } => return Err(MapError::Unequal { va: block.start }.into()),
        _ => return Err(MapError::Hole { va, level: F::shape().levels[under.node.depth].level }.into()),
    };
    let (base, page) = equal_leaves::<F, M>(mem, under.node.below(next), block)?;
    let raw = F::encode(Entry::Leaf { base, attrs: F::leaf_attrs(page, level, false) }, level)?;
    let slots = slots::<F, M>(mem, under.node)?;
    let mut stale = replace::<F>(&slots[under.index], raw, block, tlb, true);
    stale.bury::<F, M>(mem, under.node.below(next));
    Ok(stale)
}

/// What the leaves of a full table say together: first byte and page attributes.
fn equal_leaves<F: EntryFormat, M: PhysMem>(
    mem: &M,
    node: Node,
    block: VirtRange,
) -> Result<(PhysAddr, F::Attrs), MapError> {
    let Some(shape) = F::shape().levels.get(node.depth) else { return Err(MapError::Unequal { va: block.start }) };
    let mut first = None;
    for (slot, part) in over(slots::<F, M>(mem, node)?, shape, block) {
        let Entry::Leaf { base, attrs } = F::decode(slot.load(), shape.level) else {
            return Err(MapError::Unequal { va: part.start });
        };
        let page = F::page_attrs(attrs, shape.level);
        let (start, same) = *first.get_or_insert((base, page));
        let follows = base == start + (part.start - block.start);
        if !follows || page != same || !start.is_aligned(block.size()) {
            return Err(MapError::Unequal { va: part.start });
        }
    }
    first.ok_or(MapError::Unequal { va: block.start })
}
