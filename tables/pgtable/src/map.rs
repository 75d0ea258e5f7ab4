//! Mapping a run: the largest allowed leaves, filled by runs of entries.
//!
//! ```text
//! va ──┬─ 4K … up to a 64K boundary ─┬─ contiguous 64K groups ─┬─ 2M blocks ─┬─ … 1G … ─┬─ and down again ─┐
//! ```
//! Source: Linux 6.1 arch/arm64/mm/mmu.c `alloc_init_pud`, `alloc_init_cont_pmd`, `alloc_init_cont_pte`.

use core::fmt;

use kernmem_arch::{EncodeError, Entry, EntryFormat, LevelShape};
use kernmem_base::{BusError, FrameSource, Level, NoFrame, PhysAddr, PhysMem, Slot, VirtAddr, VirtRange};

use crate::cursor::is_used;
use crate::{Sizes, Stale, Tables};

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

/// Why a cursor stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum MapError {
    /// `va`, `pa` or the end of the run is no multiple of the granule, or the run leaves the address space.
    Misaligned {
        /// Start of the run.
        va: VirtAddr,
        /// Memory behind it.
        pa: PhysAddr,
    },
    /// Something is already there.
    Occupied {
        /// Its address.
        va: VirtAddr,
        /// Its level.
        level: Level,
    },
    /// A leaf reaches over an edge of the range.
    Inside {
        /// The address in question.
        va: VirtAddr,
        /// The leaf's level.
        level: Level,
    },
    /// No leaf is there.
    Hole {
        /// The address.
        va: VirtAddr,
        /// Level of the empty entry.
        level: Level,
    },
    /// The entry is live and the change needs break-before-make.
    Live {
        /// Its address.
        va: VirtAddr,
        /// Its level.
        level: Level,
    },
    /// The entries of a table do not together say what one larger leaf says.
    Unequal {
        /// The first that does not fit.
        va: VirtAddr,
    },
    /// The cursor stands behind its range.
    PastEnd,
    /// The lender had no frame.
    NoFrame(NoFrame),
    /// A table lies where no memory answers.
    Bus(BusError),
    /// The attributes do not exist at this level.
    Encode(EncodeError),
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Misaligned { va, pa } => write!(f, "run {va} -> {pa} is misaligned"),
            Self::Occupied { va, level } => write!(f, "{va} is already mapped at {level}"),
            Self::Inside { va, level } => write!(f, "a {level} leaf reaches over the edge at {va}"),
            Self::Hole { va, level } => write!(f, "nothing is mapped at {va} ({level})"),
            Self::Live { va, level } => write!(f, "live {level} entry at {va} needs break-before-make"),
            Self::Unequal { va } => write!(f, "the entry at {va} does not fit into one leaf"),
            Self::PastEnd => f.write_str("the cursor stands behind its range"),
            Self::NoFrame(error) => error.fmt(f),
            Self::Bus(error) => error.fmt(f),
            Self::Encode(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for MapError {}

impl From<BusError> for MapError {
    fn from(error: BusError) -> Self {
        Self::Bus(error)
    }
}

impl From<EncodeError> for MapError {
    fn from(error: EncodeError) -> Self {
        Self::Encode(error)
    }
}

/// An operation that stopped half-way: why, and the debt of what it had done.
#[derive(Debug)]
pub struct Failed {
    /// Why.
    pub error: MapError,
    /// What TLBs may still hold of the part that was done.
    pub stale: Stale,
}

impl From<MapError> for Failed {
    fn from(error: MapError) -> Self {
        Self { error, stale: Stale::NONE }
    }
}

impl From<BusError> for Failed {
    fn from(error: BusError) -> Self {
        MapError::Bus(error).into()
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl core::error::Error for Failed {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// The most levels of any format.
const MAX_LEVELS: usize = 5;

/// What a leaf of one level looks like, proven encodable once per run.
#[derive(Clone, Copy)]
struct LeafForm {
    single: bool,
    contiguous: bool,
    single_bits: u64,
    contiguous_bits: u64,
}

/// One descent that maps a run.
pub(crate) struct Filler<'t, 'm, F: EntryFormat, M> {
    tables: &'t Tables<'m, F, M>,
    mapping: &'t Mapping<F>,
    run: VirtRange,
    forms: [Option<LeafForm>; MAX_LEVELS],
}

/// Where a descent stopped.
type Stopped = (VirtAddr, MapError);

impl<'t, 'm, F: EntryFormat, M: PhysMem> Filler<'t, 'm, F, M> {
    pub(crate) fn new(tables: &'t Tables<'m, F, M>, mapping: &'t Mapping<F>, run: VirtRange) -> Result<Self, MapError> {
        let shape = F::shape();
        let mut forms = [None; MAX_LEVELS];
        for (form, level) in forms.iter_mut().zip(shape.levels) {
            let allowed = |contiguous| {
                shape.leaves.iter().any(|leaf| {
                    leaf.level == level.level && leaf.contiguous == contiguous && mapping.sizes.allow(shape, leaf)
                })
            };
            if level.leaf && (allowed(false) || allowed(true)) {
                *form = Some(LeafForm {
                    single: allowed(false),
                    contiguous: allowed(true),
                    single_bits: leaf_bits::<F>(mapping, run, level, false)?,
                    contiguous_bits: leaf_bits::<F>(mapping, run, level, true)?,
                });
            }
        }
        F::encode(Entry::Table { next: PhysAddr(0), attrs: mapping.table_attrs }, shape.levels[0].level)?;
        Ok(Self { tables, mapping, run, forms })
    }

    pub(crate) fn fill(&mut self, frames: &mut impl FrameSource) -> Result<(), Stopped> {
        self.table(self.tables.root(), 0, self.run, false, frames)
    }

    fn pa(&self, va: VirtAddr) -> PhysAddr {
        self.mapping.pa + (va - self.run.start)
    }

    /// Maps `part` of the run in one table. `fresh` tables are not linked yet.
    fn table(
        &mut self,
        table: PhysAddr,
        depth: usize,
        part: VirtRange,
        fresh: bool,
        frames: &mut impl FrameSource,
    ) -> Result<(), Stopped> {
        let shape = F::shape().levels[depth];
        let mut at = Some(part.start);
        while let Some(va) = at {
            let chunk = match self.leaf_run(depth, &shape, VirtRange { start: va, last: part.last }) {
                Some((bits, chunk)) => {
                    self.leaves(table, depth, bits, chunk, fresh)?;
                    chunk
                }
                None => {
                    let chunk = VirtRange { start: va, last: VirtAddr(va.0 | (shape.bytes() - 1)).min(part.last) };
                    self.descend(table, depth, chunk, fresh, frames)?;
                    chunk
                }
            };
            at = (chunk.last < part.last).then(|| chunk.last + 1);
        }
        Ok(())
    }

    /// The longest run of leaves of this level at the start of `part`, with their bits.
    fn leaf_run(&self, depth: usize, shape: &LevelShape, part: VirtRange) -> Option<(u64, VirtRange)> {
        let form = self.forms[depth]?;
        let (va, pa) = (part.start, self.pa(part.start));
        if (va.0 | pa.0) & (shape.bytes() - 1) != 0 || part.size() < shape.bytes() {
            return None;
        }
        let whole = part.size() & !(shape.bytes() - 1);
        let group = shape.bytes() << shape.contiguous_bits;
        let groups = form.contiguous && (va.0 ^ pa.0) & (group - 1) == 0;
        let (bits, bytes) = if !groups {
            (form.single_bits, whole)
        } else if va.0 & (group - 1) == 0 && whole >= group {
            (form.contiguous_bits, whole & !(group - 1))
        } else {
            (form.single_bits, whole.min(group - (va.0 & (group - 1))))
        };
        if bits == form.single_bits && !form.single {
            return None;
        }
        Some((bits, VirtRange::of_size(va, bytes)?))
    }

    /// Writes a run of equal leaves into one table.
    fn leaves(&self, table: PhysAddr, depth: usize, bits: u64, run: VirtRange, fresh: bool) -> Result<(), Stopped> {
        let shape = F::shape().levels[depth];
        let (first, count) = (shape.index(run.start), (run.size() >> shape.shift) as usize);
        let raw = self.pa(run.start).0 | bits;
        let stop = |error: BusError| (run.start, MapError::Bus(error));
        let mem = self.tables.mem();
        if fresh {
            mem.fill::<F::Slot>(table, first, count, raw, shape.bytes()).map_err(stop)?;
        } else {
            let slots = mem.table_mut::<F::Slot>(table, first + count).map_err(stop)?;
            let slots = &slots[first..];
            if let Some(offender) = slots.iter().position(is_used) {
                return Err(self.stop_at(table, run, depth, slots, offender));
            }
            let mut raw = raw;
            for slot in slots {
                slot.store(raw);
                raw += shape.bytes();
            }
        }
        mem.note(table).map_err(stop)?.add(count as u16);
        Ok(())
    }

    /// Maps a run up to the used slot `index`, as single leaves, and names the offender.
    #[cold]
    fn stop_at(&self, table: PhysAddr, run: VirtRange, depth: usize, slots: &[F::Slot], index: usize) -> Stopped {
        let shape = F::shape().levels[depth];
        let va = run.start + ((index as u64) << shape.shift);
        if let Some(form) = self.forms[depth].filter(|form| form.single) {
            for (slot, step) in slots[..index].iter().zip(0u64..) {
                slot.store((self.pa(run.start).0 | form.single_bits) + step * shape.bytes());
            }
            if let Ok(note) = self.tables.mem().note(table) {
                note.add(index as u16);
            }
            return (va, MapError::Occupied { va, level: shape.level });
        }
        (run.start, MapError::Occupied { va, level: shape.level })
    }

    /// Maps `part`, which one entry of `table` covers, in the table below that entry.
    fn descend(
        &mut self,
        table: PhysAddr,
        depth: usize,
        part: VirtRange,
        fresh: bool,
        frames: &mut impl FrameSource,
    ) -> Result<(), Stopped> {
        let shape = F::shape().levels[depth];
        let stop = |error: BusError| (part.start, MapError::Bus(error));
        let mem = self.tables.mem();
        let slots = mem.table_mut::<F::Slot>(table, shape.entries()).map_err(stop)?;
        let slot = &slots[shape.index(part.start)];
        match F::decode(slot.load(), shape.level) {
            Entry::Table { next, .. } => return self.table(next, depth + 1, part, fresh, frames),
            Entry::Absent { sw: 0 } => {}
            _ => return Err((part.start, MapError::Occupied { va: part.start, level: shape.level })),
        }
        let below = F::shape().levels[depth + 1];
        let frame = frames.take(below.level).map_err(|error| (part.start, MapError::NoFrame(error)))?;
        let note = mem.note(frame.pa).map_err(stop)?;
        note.set_used(0);
        if !frame.zeroed {
            self.clear_around(frame.pa, depth + 1, part).map_err(stop)?;
        }
        let done = self.table(frame.pa, depth + 1, part, true, frames);
        if note.used() == 0 {
            frames.give_back(frame.pa);
        } else {
            slot.publish(frame.pa.0 | F::bits(self.mapping.table_attrs));
            mem.note(table).map_err(stop)?.add(1);
        }
        done
    }

    /// Clears the slots of a fresh table that `part` leaves empty; all of them if any is to be a table.
    fn clear_around(&self, table: PhysAddr, depth: usize, part: VirtRange) -> Result<(), BusError> {
        let shape = F::shape().levels[depth];
        let whole = self.leaf_run(depth, &shape, part).filter(|(_, run)| *run == part);
        let (first, count) = match whole {
            Some((_, run)) => (shape.index(run.start), (run.size() >> shape.shift) as usize),
            None => (0, 0),
        };
        let slots = self.tables.mem().table_mut::<F::Slot>(table, shape.entries())?;
        for slot in slots[..first].iter().chain(&slots[first + count..]) {
            slot.store(0);
        }
        Ok(())
    }
}

/// The bits of a leaf of this level, proven to exist for the first and the last address of the run.
fn leaf_bits<F: EntryFormat>(
    mapping: &Mapping<F>,
    run: VirtRange,
    shape: &LevelShape,
    contiguous: bool,
) -> Result<u64, EncodeError> {
    let attrs = F::leaf_attrs(mapping.attrs, shape.level, contiguous);
    for pa in [mapping.pa, mapping.pa + (run.size() - 1)] {
        let base = pa.align_down(shape.bytes());
        F::encode(Entry::Leaf { base, attrs }, shape.level)?;
    }
    Ok(F::bits(attrs))
}
