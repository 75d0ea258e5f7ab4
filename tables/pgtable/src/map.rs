//! Mapping a run: the largest allowed leaves, filled by runs of entries.
//!
//! ```text
//! va ──┬─ 4K … up to a 64K boundary ─┬─ contiguous 64K groups ─┬─ 2M blocks ─┬─ … 1G … ─┬─ and down again ─┐
//! ```
//! Where a table is already in place, the run is mapped in it, by leaves of its size.
//!
//! Source: Linux 6.1 arch/arm64/mm/mmu.c `alloc_init_pud`, `alloc_init_cont_pmd`, `alloc_init_cont_pte`.

use core::fmt;

use kernmem_arch::{EncodeError, Entry, EntryFormat, LeafSize, LevelShape};
use kernmem_base::{BusError, Frame, FrameSource, Level, PhysAddr, PhysMem, Slot, TableNote, VirtAddr, VirtRange};

use crate::Sizes;
use crate::cursor::{Node, slots};
use crate::error::{MapError, Stopped};
use crate::span::block_around;

/// What a run is mapped to.
pub struct Mapping<F: EntryFormat> {
    /// The memory behind the first byte of the run.
    pub pa: PhysAddr,
    /// Attributes in the form of a base page.
    pub attrs: F::Attrs,
    /// Which leaf sizes may be used.
    pub sizes: Sizes,
    /// Attributes of the entries that link new tables.
    pub table_attrs: F::Attrs,
}

impl<F: EntryFormat> Mapping<F> {
    /// A mapping whose new tables are linked with the valid and table bits of `attrs` alone (bits 0 and 1).
    #[must_use]
    pub fn new(pa: PhysAddr, attrs: F::Attrs, sizes: Sizes) -> Self {
        Self { pa, attrs, sizes, table_attrs: F::attrs(0b11) }
    }

    /// The same mapping with other attributes on the entries that link new tables.
    #[must_use]
    pub fn with_table_attrs(mut self, table_attrs: F::Attrs) -> Self {
        self.table_attrs = table_attrs;
        self
    }
}

impl<F: EntryFormat> fmt::Debug for Mapping<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mapping")
            .field("pa", &self.pa)
            .field("attrs", &self.attrs)
            .field("sizes", &self.sizes)
            .field("table_attrs", &self.table_attrs)
            .finish()
    }
}

/// The most levels of any format.
const MAX_LEVELS: usize = 5;

/// The attribute bits of one level's leaves, of the sizes that the run can use: allowed, no larger than the run, and
/// equally far into their size on both sides. Proven encodable once per run.
#[derive(Clone, Copy, Default)]
struct LeafForm {
    single: Option<u64>,
    contiguous: Option<u64>,
}

/// A table, and whether nobody can reach it yet.
#[derive(Clone, Copy)]
struct Place {
    node: Node,
    is_fresh: bool,
}

/// One descent that maps a run.
pub(crate) struct Filler<'t, F: EntryFormat, M> {
    mem: &'t M,
    mapping: &'t Mapping<F>,
    run: VirtRange,
    forms: [LeafForm; MAX_LEVELS],
}

impl<'t, F: EntryFormat, M: PhysMem> Filler<'t, F, M> {
    /// Finds the leaf sizes that the run can use.
    pub(crate) fn new(mem: &'t M, mapping: &'t Mapping<F>, run: VirtRange) -> Result<Self, MapError> {
        let shape = F::shape();
        let mut forms = [LeafForm::default(); MAX_LEVELS];
        let (size, apart) = (run.size(), run.start.0 ^ mapping.pa.0);
        for leaf in mapping.sizes.leaves(shape).filter(|leaf| leaf.bytes <= size && apart & (leaf.bytes - 1) == 0) {
            let depth = shape.depth(leaf.level);
            let bits = leaf_bits::<F>(mapping, run, leaf, shape.levels[depth].bytes())?;
            let form = &mut forms[depth];
            *(if leaf.contiguous { &mut form.contiguous } else { &mut form.single }) = Some(bits);
        }
        Ok(Self { mem, mapping, run, forms })
    }

    /// Maps the run in the tree below `top`.
    pub(crate) fn fill(&self, top: Node, frames: &mut impl FrameSource) -> Result<(), Stopped> {
        let place = self.lowest_table(top).map_err(Stopped::at(self.run.start))?;
        self.fill_table(place, self.run, frames)
    }

    /// Whether the run begins with a leaf of the level `depth`, if nothing is in the way.
    pub(crate) fn starts_with_leaf(&self, depth: usize) -> bool {
        self.leaf_run(depth, &F::shape().levels[depth], self.run).is_some()
    }

    /// The lowest table in place that holds the whole run.
    fn lowest_table(&self, top: Node) -> Result<Place, BusError> {
        let mut node = top;
        for shape in &F::shape().levels[top.depth..] {
            let index = shape.index(self.run.start);
            if index != shape.index(self.run.last) {
                break;
            }
            let raw = self.mem.entry::<F::Slot>(node.table, index)?;
            let Entry::Table { next, .. } = F::decode(raw, shape.level) else { break };
            node = node.below(next);
        }
        Ok(Place { node, is_fresh: false })
    }

    fn pa(&self, va: VirtAddr) -> PhysAddr {
        self.mapping.pa + (va - self.run.start)
    }

    /// Maps `part` of the run in one table.
    fn fill_table(&self, place: Place, part: VirtRange, frames: &mut impl FrameSource) -> Result<(), Stopped> {
        let slots = slots::<F, M>(self.mem, place.node).map_err(Stopped::at(part.start))?;
        let mut rest = part;
        loop {
            let done = self.fill_some(place, slots, rest, frames)?;
            if done.last == part.last {
                return Ok(());
            }
            rest.start = done.last + 1;
        }
    }

    /// Maps a first piece of `part`, a run of leaves or what lies in one table below, and returns it.
    fn fill_some(
        &self,
        place: Place,
        slots: &[F::Slot],
        part: VirtRange,
        frames: &mut impl FrameSource,
    ) -> Result<VirtRange, Stopped> {
        let shape = &F::shape().levels[place.node.depth];
        if let Some((bits, run)) = self.leaf_run(place.node.depth, shape, part) {
            match first_used(place, slots, shape, run) {
                None => {
                    let note = self.mem.note(place.node.table).map_err(Stopped::at(run.start))?;
                    self.write_leaves(place, note, bits, run).map_err(Stopped::at(run.start))?;
                    return Ok(run);
                }
                // a shorter part may need smaller leaves; nothing is in its way
                Some(va) if va > part.start => {
                    return self.fill_some(place, slots, VirtRange { start: part.start, last: va - 1 }, frames);
                }
                Some(_) => {}
            }
        }
        if let Some(run) = self.fill_tables(place, slots, part, frames)? {
            return Ok(run);
        }
        let below = VirtRange { start: part.start, last: block_around(part.start, shape.bytes()).last.min(part.last) };
        self.descend(place, &slots[shape.index(part.start)], below, frames)?;
        Ok(below)
    }

    /// The longest run of leaves of this level at the start of `part`, with their attribute bits.
    #[inline]
    fn leaf_run(&self, depth: usize, shape: &LevelShape, part: VirtRange) -> Option<(u64, VirtRange)> {
        let form = self.forms[depth];
        if form.single.is_none() && form.contiguous.is_none() {
            return None;
        }
        let (va, size) = (part.start, part.size());
        let group = shape.bytes() << shape.contiguous_bits;
        if let Some(bits) = form.contiguous
            && va.is_aligned(group)
            && size >= group
        {
            return Some((bits, VirtRange::of_size(va, size & !(group - 1))?));
        }
        let bits = form.single.filter(|_| va.is_aligned(shape.bytes()))?;
        let whole = size & !(shape.bytes() - 1);
        let to_next_group = if form.contiguous.is_some() { group - (va.0 & (group - 1)) } else { whole };
        Some((bits, VirtRange::of_size(va, whole.min(to_next_group))?))
    }

    /// Writes a run of equal leaves into free slots of one table, and counts them in its note.
    #[inline]
    fn write_leaves(&self, place: Place, note: &TableNote, bits: u64, run: VirtRange) -> Result<(), BusError> {
        let shape = &F::shape().levels[place.node.depth];
        let (first, count) = (shape.index(run.start), (run.size() >> shape.shift) as usize);
        let base = self.pa(run.start);
        if place.is_fresh && is_even::<F>(base, bits, run.size() - shape.bytes()) {
            self.mem.fill::<F::Slot>(place.node.table, first, count, F::place(base) | bits, shape.bytes())?;
        } else {
            let slots = slots::<F, M>(self.mem, place.node)?;
            for (slot, number) in slots[first..first + count].iter().zip(0..) {
                slot.store(F::place(base + number * shape.bytes()) | bits);
            }
        }
        note.add_leaves(count as u16);
        Ok(())
    }

    /// Maps a first piece of `part` by tables that are full of like leaves, one after another in place of empty entries.
    /// Returns the piece; `None` if `part` does not begin with such a table, or if this level may have leaves itself.
    #[inline]
    fn fill_tables(
        &self,
        place: Place,
        slots: &[F::Slot],
        part: VirtRange,
        frames: &mut impl FrameSource,
    ) -> Result<Option<VirtRange>, Stopped> {
        let depth = place.node.depth + 1;
        let (shape, Some(below)) = (&F::shape().levels[depth - 1], F::shape().levels.get(depth)) else {
            return Ok(None);
        };
        let LeafForm { single: None, contiguous: None } = self.forms[depth - 1] else { return Ok(None) };
        let Some(bits) = self.forms[depth].contiguous.or(self.forms[depth].single) else { return Ok(None) };
        let whole = if part.start.is_aligned(shape.bytes()) { (part.size() >> shape.shift) as usize } else { 0 };
        let parent = self.mem.note(place.node.table).map_err(Stopped::at(part.start))?;
        let mut end = part.start;
        for slot in slots[shape.index(part.start)..].iter().take(whole) {
            let base = self.pa(end);
            let is_empty = matches!(F::decode(slot.load(), shape.level), Entry::Absent { sw: 0 });
            if !is_empty || !is_even::<F>(base, bits, shape.bytes() - below.bytes()) {
                break;
            }
            let frame = frames.take(below.level).map_err(Stopped::at(end))?;
            match self.full_table(frame.pa, shape.level, below, F::place(base) | bits) {
                Ok(link) => slot.publish(link),
                Err(error) => {
                    frames.give_back(frame.pa);
                    return Err(Stopped { va: end, error });
                }
            }
            parent.add(1);
            end = end.wrapping_add(shape.bytes());
        }
        Ok((end != part.start).then(|| VirtRange { start: part.start, last: end.wrapping_add(u64::MAX) }))
    }

    /// Makes `table` one of `shape` that is full of leaves, the first of which is `raw`. Returns the entry of `parent`
    /// that links it.
    #[inline]
    fn full_table(&self, table: PhysAddr, parent: Level, shape: &LevelShape, raw: u64) -> Result<u64, MapError> {
        let link = table_entry::<F>(table, self.mapping.table_attrs, parent)?;
        let note = self.mem.note(table)?;
        self.mem.fill::<F::Slot>(table, 0, shape.entries(), raw, shape.bytes())?;
        note.set_leaves(shape.entries() as u16);
        Ok(link)
    }

    /// Maps `part`, which `slot` of a table covers, in the table below.
    #[inline]
    fn descend(
        &self,
        place: Place,
        slot: &F::Slot,
        part: VirtRange,
        frames: &mut impl FrameSource,
    ) -> Result<(), Stopped> {
        let level = F::shape().levels[place.node.depth].level;
        match F::decode(slot.load(), level) {
            Entry::Table { next, .. } => {
                return self.fill_table(Place { node: place.node.below(next), is_fresh: false }, part, frames);
            }
            Entry::Absent { sw: 0 } => {}
            _ => return Err(Stopped { va: part.start, error: MapError::Occupied { va: part.start, level } }),
        }
        let shape = &F::shape().levels[place.node.depth + 1];
        let parent = self.mem.note(place.node.table).map_err(Stopped::at(part.start))?;
        let frame = frames.take(shape.level).map_err(Stopped::at(part.start))?;
        let fresh = place.node.below(frame.pa);
        let (note, link) = match self.prepare(frame, fresh.depth, part) {
            Ok(prepared) => prepared,
            Err(error) => {
                frames.give_back(frame.pa);
                return Err(Stopped { va: part.start, error });
            }
        };
        let done = self.fill_table(Place { node: fresh, is_fresh: true }, part, frames);
        if note.used() == 0 {
            frames.give_back(frame.pa);
        } else {
            slot.publish(link);
            parent.add(1);
        }
        done
    }

    /// Makes `frame` a table in which only the slots for `part` are still to be written, and none if one of them is
    /// to be a table. Returns its note and the entry that links it.
    #[inline]
    fn prepare(&self, frame: Frame, depth: usize, part: VirtRange) -> Result<(&'t TableNote, u64), MapError> {
        let parent = F::shape().levels[depth - 1].level;
        let link = table_entry::<F>(frame.pa, self.mapping.table_attrs, parent)?;
        let shape = &F::shape().levels[depth];
        let note = self.mem.note(frame.pa)?;
        note.set_leaves(0);
        if !frame.zeroed {
            let ends_aligned = part.start.is_aligned(shape.bytes()) && part.end().is_aligned(shape.bytes());
            let is_written_whole = self.forms[depth].single.is_some() && ends_aligned;
            let (first, end) =
                if is_written_whole { (shape.index(part.start), shape.index(part.last) + 1) } else { (0, 0) };
            for (from, count) in [(0, first), (end, shape.entries() - end)] {
                if count != 0 {
                    self.mem.fill::<F::Slot>(frame.pa, from, count, 0, 0)?;
                }
            }
        }
        Ok((note, link))
    }
}

/// Whether leaves from `base` on up to `base + last` differ by the bytes between them: a carry may leave the bits of the
/// address, which need not lie together.
#[inline]
fn is_even<F: EntryFormat>(base: PhysAddr, bits: u64, last: u64) -> bool {
    F::place(base + last) | bits == (F::place(base) | bits).wrapping_add(last)
}

/// The address of the first slot of `run` that holds anything.
fn first_used(place: Place, slots: &[impl Slot], shape: &LevelShape, run: VirtRange) -> Option<VirtAddr> {
    if place.is_fresh {
        return None;
    }
    let slots = &slots[shape.index(run.start)..=shape.index(run.last)];
    let used = slots.iter().position(|slot| slot.load() != 0)?;
    Some(run.start + ((used as u64) << shape.shift))
}

/// The raw form of an entry of `level` that links the table at `next`.
#[inline]
pub(crate) fn table_entry<F: EntryFormat>(next: PhysAddr, attrs: F::Attrs, level: Level) -> Result<u64, EncodeError> {
    F::encode(Entry::Table { next, attrs: F::table_attrs(attrs, level) }, level)
}

/// The attribute bits of a leaf of this size, whose entry maps `bytes`: proven to exist for the first and the last
/// address of the run.
fn leaf_bits<F: EntryFormat>(
    mapping: &Mapping<F>,
    run: VirtRange,
    leaf: &LeafSize,
    bytes: u64,
) -> Result<u64, EncodeError> {
    let attrs = F::leaf_attrs(mapping.attrs, leaf.level, leaf.contiguous);
    let first = mapping.pa.align_down(bytes);
    let last = (mapping.pa + (run.size() - 1)).align_down(bytes);
    F::encode(Entry::Leaf { base: first, attrs }, leaf.level)?;
    if last != first {
        F::encode(Entry::Leaf { base: last, attrs }, leaf.level)?;
    }
    Ok(F::bits(attrs))
}
