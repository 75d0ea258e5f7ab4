//! What an MMU does with the entries of a format: one small trait, whose implementations are rules about bits.
//!
//! Here: the order in which an address, a root, an entry and an access are checked.
//! Not here: reading tables, TLBs and counters (`kernmem-sim`).
//!
//! A walk asks in this order: [`MmuFormat::flat`], [`MmuFormat::enter`], [`MmuFormat::open`]; for each entry
//! [`MmuFormat::read`], then [`MmuFormat::inherit`] for a table; for the leaf [`MmuFormat::mark`],
//! [`MmuFormat::narrow`] and [`MmuFormat::rights`]. Whatever refuses first is the fault.

use core::fmt;

use kernmem_base::{Access, Half, Level, PhysAddr, Privilege, VirtAddr};

use crate::{Entry, EntryFormat, FaultKind, Refusal, Rights, Syndrome};

/// The MMU of a format.
pub trait MmuFormat: EntryFormat {
    /// The registers that decide, as values.
    type Control: Copy + PartialEq + fmt::Debug + Default + Send + Sync;

    /// Whether the halves of the address space have a root register each; else one register has the root of both.
    const HAS_HALVES: bool;

    /// What tables take from leaves before any table was read.
    const OPEN: u64;

    /// Whether a page fault makes the CPU forget its translation of the address.
    const FAULT_FORGETS: bool;

    /// Whether a flush of one space's addresses takes global entries there too.
    const SPACE_FLUSH_TAKES_GLOBALS: bool;

    /// Whether every flush drops the whole walk cache, and not only one after which tables are freed.
    const FLUSH_DROPS_WALKS: bool;

    /// The registers of a CPU that runs with these tables and has nothing else of note.
    #[must_use]
    fn registers() -> Self::Control {
        Self::Control::default()
    }

    /// The address behind `va` where the MMU is off; `None` where it is on.
    ///
    /// # Errors
    /// The address is no physical address of this CPU.
    fn flat(control: &Self::Control, va: VirtAddr) -> Result<Option<PhysAddr>, Refusal> {
        let _ = (control, va);
        Ok(None)
    }

    /// Which root translates `va`, and the address without ignored bits, as TLB entries hold it.
    ///
    /// # Errors
    /// No root does, or this mode may not use it.
    fn enter(
        control: &Self::Control,
        va: VirtAddr,
        access: Access,
        privilege: Privilege,
    ) -> Result<(Half, VirtAddr), Refusal>;

    /// Whether a walk from `root` may begin.
    ///
    /// # Errors
    /// Walks of the half are off, or the root lies beyond the physical addresses.
    fn open(control: &Self::Control, half: Half, root: PhysAddr) -> Result<(), Refusal>;

    /// A table or leaf of `level` that the MMU may use: never absent or reserved.
    ///
    /// # Errors
    /// The kind of the fault at this level.
    fn read(control: &Self::Control, raw: u64, level: Level) -> Result<Entry<Self::Attrs>, FaultKind>;

    /// What tables take from leaves, after one more table entry.
    fn inherit(above: u64, table: Self::Attrs) -> u64;

    /// A leaf's attributes less what the tables above it take.
    fn narrow(leaf: Self::Attrs, above: u64) -> Self::Attrs;

    /// The entry of `level` as the hardware leaves it behind an access that it allows.
    ///
    /// # Errors
    /// [`FaultKind::AccessFlag`] where software has to mark the entry.
    fn mark(control: &Self::Control, raw: u64, level: Level, is_leaf: bool, access: Access) -> Result<u64, FaultKind>;

    /// Who may do what with a leaf, with the attributes as [`MmuFormat::narrow`] gives them.
    fn rights(control: &Self::Control, attrs: Self::Attrs) -> Rights;

    /// Whether a write, though allowed, has to mark the leaf first.
    fn is_clean(control: &Self::Control, attrs: Self::Attrs) -> bool;

    /// Whether the translation belongs to every address space.
    fn is_global(control: &Self::Control, attrs: Self::Attrs) -> bool;

    /// Whether TLB entries carry the number of their space; else a new root makes the CPU forget all but the globals.
    fn has_spaces(control: &Self::Control) -> bool;

    /// Whether the number that comes with a root of `half` is the current space from then on.
    fn names_space(control: &Self::Control, half: Half) -> bool;

    /// What the registers say of a refused access.
    fn syndrome(control: &Self::Control, refusal: Refusal, access: Access, privilege: Privilege) -> Syndrome;
}
