//! Every entry of a tree with the format as a value: place, raw bits, meaning.
//!
//! Here: what a reader does with any [`Format`]. Not here: what is made of the entries
//! (`census`, the reports).

use alloc::vec::Vec;

use kernmem::kasan::ZeroShadow;
use kernmem_arch::{Entry, EntryFormat, Format, WithFormat};
use kernmem_base::{BusError, Level, PhysAddr, PhysRead, Slot, VirtAddr, VirtRange};
use kernmem_pgtable::{Visitor, steps, visit};

use crate::{KernelView, RootKind};

/// Where an entry stands, and its bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// The first address that it maps.
    pub va: VirtAddr,
    /// Bytes that it maps.
    pub bytes: u64,
    /// Its level.
    pub level: Level,
    /// The table that holds it.
    pub table: PhysAddr,
    /// Its number in the table.
    pub index: usize,
    /// Its address.
    pub at: PhysAddr,
    /// Its bits.
    pub raw: u64,
    /// Whether it is marked as one of a contiguous group.
    pub contiguous: bool,
}

/// Receives the entries of a tree in address order; attributes are raw bits in place.
pub trait EntryVisitor {
    /// A table entry, before the entries of its table. Returning `false` skips the table.
    fn table(&mut self, place: &Place, next: PhysAddr, attrs: u64) -> bool;

    /// A table entry whose table was handed out before: KASAN's shadow reaches a few tables through very many entries,
    /// and each of them is visited once.
    fn again(&mut self, _place: &Place, _next: PhysAddr, _attrs: u64) {}

    /// An entry that is no table.
    fn slot(&mut self, place: &Place, entry: Entry<u64>);

    /// A table that cannot be read; its entries are left out.
    fn unreadable(&mut self, va: VirtAddr, level: Level, error: BusError);
}

/// The addresses that one root translates, lower half first.
#[must_use]
pub fn root_ranges(format: Format, kind: RootKind) -> Vec<VirtRange> {
    let bits = format.shape().va_bits();
    let half = |start: u64, bits: u32| VirtRange { start: VirtAddr(start), last: VirtAddr(start | ((1 << bits) - 1)) };
    match (format.has_root_per_half(), kind) {
        (true, RootKind::User | RootKind::Idmap | RootKind::EarlyIdentity) => alloc::vec![half(0, bits)],
        (true, _) => alloc::vec![half(!0 << bits, bits)],
        (false, _) if !format.shape().has_halves() => alloc::vec![half(0, bits)],
        (false, _) => alloc::vec![half(0, bits - 1), half(!0 << (bits - 1), bits - 1)],
    }
}

/// Hands every entry of `root` whose addresses touch `range` to `visitor`.
pub fn entries<V: KernelView>(view: &V, root: PhysAddr, range: VirtRange, visitor: &mut impl EntryVisitor) {
    struct Visit<'a, M, V> {
        mem: &'a M,
        root: PhysAddr,
        range: VirtRange,
        zero: Option<ZeroShadow>,
        visitor: &'a mut V,
    }
    impl<M: PhysRead, V: EntryVisitor> WithFormat for Visit<'_, M, V> {
        type Output = ();
        fn run<F: EntryFormat>(self) {
            let tables = [self.root; Level::ALL.len()];
            let mut erased = Erased { tables, zero: self.zero, met: Vec::new(), visitor: self.visitor };
            visit::<F, M>(self.mem, self.root, self.range, &mut erased);
        }
    }
    let zero = view.zero_shadow().known();
    view.format().with(Visit { mem: view.mem(), root, range, zero, visitor });
}

/// Forgets the format, and remembers which table is read at each level.
struct Erased<'v, V> {
    tables: [PhysAddr; Level::ALL.len()],
    zero: Option<ZeroShadow>,
    /// Tables that are shared and were handed out.
    met: Vec<PhysAddr>,
    visitor: &'v mut V,
}

impl<V> Erased<'_, V> {
    fn place<F: EntryFormat>(&self, va: VirtAddr, level: Level, raw: u64) -> Place {
        let depth = F::shape().depth(level);
        let shape = &F::shape().levels[depth];
        let (table, index) = (self.tables[depth], shape.index(va));
        let contiguous = match F::decode(raw, level) {
            Entry::Leaf { attrs, .. } => F::is_contiguous(attrs),
            _ => false,
        };
        let at = PhysAddr(table.0.wrapping_add(index as u64 * F::Slot::BYTES));
        Place { va: va.align_down(shape.bytes()), bytes: shape.bytes(), level, table, index, at, raw, contiguous }
    }
}

impl<F: EntryFormat, V: EntryVisitor> Visitor<F> for Erased<'_, V> {
    fn table(&mut self, va: VirtAddr, level: Level, raw: u64, next: PhysAddr) -> bool {
        let place = self.place::<F>(va, level, raw);
        if self.zero.is_some_and(|zero| zero.is_shared(next)) {
            if self.met.contains(&next) {
                self.visitor.again(&place, next, raw & !F::place(next));
                return false;
            }
            self.met.push(next);
        }
        if let Some(below) = self.tables.get_mut(F::shape().depth(level) + 1) {
            *below = next;
        }
        self.visitor.table(&place, next, raw & !F::place(next))
    }

    fn slot(&mut self, va: VirtAddr, level: Level, raw: u64, entry: Entry<F::Attrs>) {
        let place = self.place::<F>(va, level, raw);
        self.visitor.slot(&place, erase::<F>(entry));
    }

    fn unreadable(&mut self, va: VirtAddr, level: Level, error: BusError) {
        self.visitor.unreadable(va, level, error);
    }
}

fn erase<F: EntryFormat>(entry: Entry<F::Attrs>) -> Entry<u64> {
    match entry {
        Entry::Absent { sw } => Entry::Absent { sw },
        Entry::Table { next, attrs } => Entry::Table { next, attrs: F::bits(attrs) },
        Entry::Leaf { base, attrs } => Entry::Leaf { base, attrs: F::bits(attrs) },
        Entry::Reserved { raw } => Entry::Reserved { raw },
    }
}

/// One level of a walk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WalkStep {
    /// The entry that was read.
    pub place: Place,
    /// Its meaning.
    pub entry: Entry<u64>,
}

/// The entries that the MMU reads for `va` from `root`, one memory reference each.
///
/// # Errors
/// A table cannot be read; what was read before it is lost to the caller, who can read it again.
pub fn walk<V: KernelView>(view: &V, root: PhysAddr, va: VirtAddr) -> Result<Vec<WalkStep>, BusError> {
    struct Steps<'a, M> {
        mem: &'a M,
        root: PhysAddr,
        va: VirtAddr,
    }
    impl<M: PhysRead> WithFormat for Steps<'_, M> {
        type Output = Result<Vec<WalkStep>, BusError>;
        fn run<F: EntryFormat>(self) -> Self::Output {
            typed_walk::<F, M>(self.mem, self.root, self.va)
        }
    }
    view.format().with(Steps { mem: view.mem(), root, va })
}

fn typed_walk<F: EntryFormat, M: PhysRead>(mem: &M, root: PhysAddr, va: VirtAddr) -> Result<Vec<WalkStep>, BusError> {
    steps::<F, M>(mem, root, va)
        .map(|step| {
            let step = step?;
            let bytes = F::shape().level(step.level).bytes();
            let place = Place {
                va: va.align_down(bytes),
                bytes,
                level: step.level,
                table: step.table,
                index: step.index,
                at: PhysAddr(step.table.0.wrapping_add(step.index as u64 * F::Slot::BYTES)),
                raw: step.raw,
                contiguous: matches!(step.entry, Entry::Leaf { attrs, .. } if F::is_contiguous(attrs)),
            };
            Ok(WalkStep { place, entry: erase::<F>(step.entry) })
        })
        .collect()
}
