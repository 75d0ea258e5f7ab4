//! The kernel's half of every space: one tree below the roots, and roots that must agree on its top.
//!
//! On arm64 the kernel has a root of its own (TTBR1), so that a process's root is an empty table and nothing is ever
//! copied. On x86-64 the upper half of each process's root is a copy of the reference root's: below it all share the
//! same tables, and only a new entry of the root itself must reach everybody ([`KernelSharing`]).
//!
//! Here: roots, their list, the three ways to follow the reference, and the ways in which it once went wrong.
//! Not here: the second root of page-table isolation, the LDT's slot, i386 (`kernel_pmds`).
//!
//! # Invariants
//! 1. Every root that [`KernelHalf::new_root`] made and [`KernelHalf::free_root`] did not free is on the list, newest
//!    last; the reference is not.
//! 2. An entry of the kernel's half in a process's root is empty or links the table that the reference links.
//!
//! Source: Linux 6.1 arch/x86/mm/pgtable.c `pgd_alloc`, `pgd_ctor`; arch/x86/mm/init_64.c `sync_global_pgds`,
//! `preallocate_vmalloc_pages`; arch/arm64/mm/pgd.c.

use core::fmt;
use core::marker::PhantomData;

use kernmem_arch::x86::layout::Paging;
use kernmem_arch::x86::prealloc::synchronised_level;
use kernmem_arch::{EncodeError, Entry, UserFormat};
use kernmem_base::{
    BusError, Era, FrameSource, NoFrame, PhysAddr, PhysMem, PhysRange, Slot, TableNote, VirtAddr, VirtRange,
};
use kernmem_pgtable::{MapError, Tables, Walk, WalkError, translate};

use crate::{History, KernelSharing, SharingCounts, Store, UserRoot};

/// The kernel's tables, and the roots that share them; the list lies in `S`.
pub struct KernelHalf<F, S> {
    reference: PhysAddr,
    sharing: KernelSharing,
    history: History,
    era: Era,
    vmalloc: VirtRange,
    roots: S,
    counts: SharingCounts,
    format: PhantomData<F>,
}

impl<F, S> fmt::Debug for KernelHalf<F, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KernelHalf")
            .field("reference", &self.reference)
            .field("sharing", &self.sharing)
            .field("history", &self.history)
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}

/// What a fault of the kernel in vmalloc's range did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KernelHandled {
    /// Copied the entry that the root lacked.
    Copied,
    /// Found the root up to date: the TLB was behind.
    Spurious,
}

impl<F: UserFormat, S: Store<PhysAddr>> KernelHalf<F, S> {
    /// The kernel's half under the root at `reference`; `roots` is empty. A format whose kernel has a root of its own
    /// is [`KernelSharing::OwnRoot`], whatever was asked.
    #[must_use]
    pub fn new(reference: PhysAddr, sharing: KernelSharing, era: Era, vmalloc: VirtRange, roots: S) -> Self {
        let sharing = if F::KERNEL_SLOT.is_some() { sharing } else { KernelSharing::OwnRoot };
        let counts = SharingCounts::default();
        Self { reference, sharing, history: History::Right, era, vmalloc, roots, counts, format: PhantomData }
    }

    /// The same with a mistake of the past.
    #[must_use]
    pub fn with_history(mut self, history: History) -> Self {
        self.history = history;
        self
    }

    /// The kernel's own root.
    #[must_use]
    pub const fn reference(&self) -> PhysAddr {
        self.reference
    }

    /// How roots follow it.
    #[must_use]
    pub const fn sharing(&self) -> KernelSharing {
        self.sharing
    }

    /// What that has cost.
    #[must_use]
    pub const fn counts(&self) -> SharingCounts {
        self.counts
    }

    /// The roots of all processes, newest first.
    pub fn roots(&self) -> impl Iterator<Item = PhysAddr> {
        self.roots.items().iter().rev().copied()
    }

    /// Makes the root of a new process: empty below, a copy of the reference above where the halves share a root.
    ///
    /// # Errors
    /// Nothing was taken.
    pub fn new_root<M: PhysMem>(&mut self, mem: &M, frames: &mut impl FrameSource) -> Result<UserRoot, RootError> {
        let at = self.roots.items().len();
        if self.roots.room() == 0 {
            return Err(RootError::ListFull);
        }
        let frame = frames.take(F::shape().levels[0].level)?;
        match self.fill_root(mem, frame.pa).map_err(RootError::Bus) {
            Ok(()) => {}
            Err(error) => {
                frames.give_back(frame.pa);
                return Err(error);
            }
        }
        if self.roots.insert(at, frame.pa).is_err() {
            frames.give_back(frame.pa);
            return Err(RootError::ListFull);
        }
        Ok(UserRoot::new(frame.pa))
    }

    fn fill_root<M: PhysMem>(&self, mem: &M, root: PhysAddr) -> Result<(), BusError> {
        let shape = F::shape();
        mem.zero(PhysRange::new(root, root + shape.granule.bytes()))?;
        mem.note(root)?.set_used(0);
        let Some(first) = F::KERNEL_SLOT else { return Ok(()) };
        let mut tables = Tables::<F, M>::new(mem, root);
        for index in first..shape.levels[0].entries() {
            let raw = mem.entry::<F::Slot>(self.reference, index)?;
            if raw != 0 {
                tables.set_entry(root, 0, index, raw)?;
            }
        }
        Ok(())
    }

    /// Takes a root off the list and gives its frame back; its lower half is empty, as [`crate::Space::exit`] left it.
    ///
    /// # Errors
    /// Its memory does not answer; it is off the list and given back all the same.
    pub fn free_root<M: PhysMem>(
        &mut self,
        mem: &M,
        frames: &mut impl FrameSource,
        root: UserRoot,
    ) -> Result<(), BusError> {
        if let Some(at) = self.roots.items().iter().position(|other| *other == root.pa()) {
            self.roots.take(at);
        }
        let note = mem.note(root.pa()).map(|note| note.set_used(0));
        frames.give_back(root.pa());
        note
    }

    /// Makes the tables below the root for every slot of vmalloc's range: at boot, before the first process. Returns
    /// how many were made. Does nothing where the roots follow in another way.
    ///
    /// # Errors
    /// What was made stays. With [`History::DereferencesAbsent`] the address in an empty entry may be no memory.
    pub fn preallocate<M: PhysMem>(&mut self, mem: &M, frames: &mut impl FrameSource) -> Result<u64, SyncError> {
        if self.sharing != KernelSharing::Preallocated || self.history == History::NoWay {
            return Ok(0);
        }
        let before = self.counts.tables_preallocated;
        let below = F::shape().levels[1].level;
        for index in self.slots(self.vmalloc) {
            let va = self.slot_start(index);
            if self.passes_over(mem, index, va)? {
                continue;
            }
            let used = mem.note(self.reference)?.used();
            Tables::<F, M>::new(mem, self.reference).make_table(va, below, F::table(self.era), frames)?;
            self.counts.tables_preallocated += u64::from(mem.note(self.reference)?.used() - used);
        }
        Ok(self.counts.tables_preallocated - before)
    }

    /// Whether the preallocation of the past takes slot `index` for made: it reads the entry for `va` in the table
    /// that the slot links, or seems to.
    fn passes_over<M: PhysMem>(&self, mem: &M, index: usize, va: VirtAddr) -> Result<bool, SyncError> {
        const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
        if self.history != History::DereferencesAbsent {
            return Ok(false);
        }
        let raw = mem.entry::<F::Slot>(self.reference, index)?;
        let table = PhysAddr(raw & ADDRESS);
        let entry = mem.entry::<F::Slot>(table, F::shape().levels[1].index(va));
        Ok(entry.map_err(|error| SyncError::Dereferenced { slot: index, error })? != 0)
    }

    /// Changes the kernel's tables in `range` by `change`, and lets the roots follow if its root was changed: also
    /// when `change` failed half-way. Returns what `change` did beside how the roots followed.
    ///
    /// # Errors
    /// The second value says that the roots do not agree: the change has been made, and the roots before the one that
    /// is named follow it.
    pub fn change<M: PhysMem, R>(
        &mut self,
        mem: &M,
        range: VirtRange,
        change: impl FnOnce(&mut Tables<'_, F, M>) -> R,
    ) -> (R, Result<(), SyncError>) {
        let before = mem.note(self.reference).map(TableNote::used);
        let done = change(&mut Tables::new(mem, self.reference));
        let behind = mem.note(self.reference).map(TableNote::used);
        let followed = match (before, behind) {
            (Ok(before), Ok(behind)) if before != behind && self.follows_changes() => self.sync_global_pgds(mem, range),
            (Ok(_), Ok(_)) => Ok(()),
            (Err(error), _) | (_, Err(error)) => Err(error.into()),
        };
        (done, followed)
    }

    /// Lets the roots follow a change of the reference's top in `range` that was made without [`KernelHalf::change`].
    ///
    /// # Errors
    /// As [`KernelHalf::sync_global_pgds`].
    pub fn follow<M: PhysMem>(&mut self, mem: &M, range: VirtRange) -> Result<(), SyncError> {
        if self.follows_changes() { self.sync_global_pgds(mem, range) } else { Ok(()) }
    }

    /// Whether a new entry of the reference is copied at once. Where tables are made at boot, this is for growth
    /// outside of vmalloc's range, from 6.1 on; the kernel with the mistake had no such copying yet, which would mend it.
    fn follows_changes(&self) -> bool {
        let paging = if F::shape().levels.len() == 5 { Paging::Level5 } else { Paging::Level4 };
        match (self.history, self.sharing) {
            (History::NoWay, _) | (_, KernelSharing::OwnRoot | KernelSharing::OnFault) => false,
            (History::DereferencesAbsent, KernelSharing::Preallocated) => false,
            (_, KernelSharing::AtMapping) => true,
            (_, KernelSharing::Preallocated) => synchronised_level(self.era, paging).is_some(),
        }
    }

    /// Copies every entry of the reference's top in `range` into each root that lacks it, newest root first.
    ///
    /// # Errors
    /// A root links another table there: the first one is named, and the copies made before it stay.
    pub fn sync_global_pgds<M: PhysMem>(&mut self, mem: &M, range: VirtRange) -> Result<(), SyncError> {
        for index in self.slots(range) {
            let raw = mem.entry::<F::Slot>(self.reference, index)?;
            if raw == 0 {
                continue;
            }
            self.counts.list_walks += 1;
            for root in self.roots.items().iter().rev() {
                self.counts.roots_visited += 1;
                let copied = follow::<F, M>(mem, *root, index, raw)?;
                self.counts.entries_copied += u64::from(copied);
            }
        }
        Ok(())
    }

    /// Deals with an access of the kernel to `va` under `root` that the MMU refused because nothing is mapped.
    ///
    /// # Errors
    /// It is a real fault; nothing has changed.
    pub fn fault<M: PhysMem>(&mut self, mem: &M, root: PhysAddr, va: VirtAddr) -> Result<KernelHandled, KernelFault> {
        let has_rule = self.sharing == KernelSharing::OnFault && self.history != History::NoWay;
        if !has_rule || !self.vmalloc.contains(va) {
            return Err(KernelFault::NoRule { va });
        }
        match translate::<F, M>(mem, self.reference, va) {
            Ok(Walk::Mapped { .. }) => {}
            Ok(Walk::Hole { .. }) => return Err(KernelFault::NotMapped { va }),
            Err(error) => return Err(KernelFault::Walk(error)),
        }
        let index = F::shape().levels[0].index(va);
        let bus = |error| KernelFault::Walk(WalkError::Bus(error));
        let raw = mem.entry::<F::Slot>(self.reference, index).map_err(bus)?;
        let copied = follow::<F, M>(mem, root, index, raw).map_err(KernelFault::Sync)?;
        self.counts.faults += 1;
        self.counts.entries_copied += u64::from(copied);
        Ok(if copied { KernelHandled::Copied } else { KernelHandled::Spurious })
    }

    /// The slots of a root that translate `range` and belong to the kernel.
    fn slots(&self, range: VirtRange) -> core::ops::RangeInclusive<usize> {
        let top = &F::shape().levels[0];
        match F::KERNEL_SLOT {
            Some(first) => top.index(range.start).max(first)..=top.index(range.last),
            None => core::ops::RangeInclusive::new(1, 0),
        }
    }

    /// The first address of a slot of the kernel's half.
    fn slot_start(&self, index: usize) -> VirtAddr {
        F::shape().root_range(index, true).start
    }
}

/// Copies the reference's entry `raw` into slot `index` of `root` if that is empty; returns whether it did.
fn follow<F: UserFormat, M: PhysMem>(mem: &M, root: PhysAddr, index: usize, raw: u64) -> Result<bool, SyncError> {
    let top = &F::shape().levels[0];
    let own = mem.table_mut::<F::Slot>(root, top.entries())?[index].load();
    if own == 0 {
        Tables::<F, M>::new(mem, root).set_entry(root, 0, index, raw)?;
        return Ok(true);
    }
    match (F::decode(own, top.level), F::decode(raw, top.level)) {
        (Entry::Table { next: own, .. }, Entry::Table { next, .. }) if own == next => Ok(false),
        _ => Err(SyncError::Differs { root, slot: index }),
    }
}

/// Why no root was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum RootError {
    /// The list of roots has no room.
    ListFull,
    /// The lender had no frame.
    NoFrame(NoFrame),
    /// The lender's frame cannot be linked: the format does not reach so far.
    Link(EncodeError),
    /// Memory does not answer.
    Bus(BusError),
}

impl fmt::Display for RootError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ListFull => f.write_str("the list of roots is full"),
            Self::NoFrame(error) => error.fmt(f),
            Self::Link(error) => error.fmt(f),
            Self::Bus(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for RootError {}

impl From<BusError> for RootError {
    fn from(error: BusError) -> Self {
        Self::Bus(error)
    }
}

impl From<NoFrame> for RootError {
    fn from(error: NoFrame) -> Self {
        Self::NoFrame(error)
    }
}

/// Why the roots do not follow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum SyncError {
    /// A root links another table than the reference.
    Differs {
        /// The root.
        root: PhysAddr,
        /// The slot.
        slot: usize,
    },
    /// The address in an empty entry was taken for a table, and is no memory: the mistake of the past.
    Dereferenced {
        /// The slot of the empty entry.
        slot: usize,
        /// What the read met.
        error: BusError,
    },
    /// A table could not be made.
    Map(MapError),
    /// Memory does not answer.
    Bus(BusError),
}

impl fmt::Display for SyncError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Differs { root, slot } => write!(f, "slot {slot} of the root at {root} links another table"),
            Self::Dereferenced { slot, error } => write!(f, "the empty slot {slot} was taken for a table: {error}"),
            Self::Map(error) => error.fmt(f),
            Self::Bus(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for SyncError {}

impl From<BusError> for SyncError {
    fn from(error: BusError) -> Self {
        Self::Bus(error)
    }
}

impl From<MapError> for SyncError {
    fn from(error: MapError) -> Self {
        Self::Map(error)
    }
}

/// A fault of the kernel that no rule mends: what Linux ends in an oops for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum KernelFault {
    /// This kernel has no rule for such a fault: whoever waits for one waits for good.
    NoRule {
        /// The address.
        va: VirtAddr,
    },
    /// The reference maps nothing there either.
    NotMapped {
        /// The address.
        va: VirtAddr,
    },
    /// The root and the reference do not agree.
    Sync(SyncError),
    /// The reference's tables cannot be read.
    Walk(WalkError),
}

impl fmt::Display for KernelFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRule { va } => write!(f, "nothing is mapped at {va}, and no rule says how it could be"),
            Self::NotMapped { va } => write!(f, "the kernel maps nothing at {va}"),
            Self::Sync(error) => error.fmt(f),
            Self::Walk(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for KernelFault {}
