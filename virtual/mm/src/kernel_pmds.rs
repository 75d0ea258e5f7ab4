//! The kernel's part of every space on i386: roots that must agree on the kernel's PMD entries.
//!
//! ```text
//! two levels              root of a process | user … | kernel's PMD entries, copied |
//! PAE, PMDs of their own  root | user | user | user | o-> | kernel's PMD entries, copied |   a page a process
//! PAE, shared PMDs        root | user | user | user | o-> the reference's page                nothing to follow
//! ```
//!
//! An area of vmalloc that makes a table of the last level writes a PMD entry, so on i386 far more changes must reach all
//! processes than on x86-64, where only an entry of the root must ([`crate::KernelHalf`]). Since 5.8 who makes or takes
//! away an entry carries it to every root; the fault that copied it before came back, for a CPU that reads an area between
//! the two steps.
//!
//! Here: roots, their list, both ways to follow the reference. Not here: page-table isolation's user tables, changes of
//! rights, which walk the list as well.
//!
//! # Invariants
//! 1. Every root that [`KernelPmds::new_root`] made and [`KernelPmds::free_root`] did not free is on the list, newest last,
//!    unless PMDs are shared: then the list stays empty. The reference is not on it.
//! 2. A PMD entry of the kernel in a process's tables is what the reference has, or what it had before a change that has
//!    not been followed yet.
//!
//! Source: Linux 6.1 arch/x86/mm/pgtable.c `pgd_alloc`, `pgd_prepopulate_pmd`, `pgd_ctor`; arch/x86/mm/fault.c
//! `vmalloc_sync_one`, `arch_sync_kernel_mappings`, `vmalloc_fault`.

use core::fmt;
use core::marker::PhantomData;

use kernmem_arch::{Entry, UserFormat};
use kernmem_base::{BusError, FrameSource, Level, PhysAddr, PhysMem, PhysRange, VirtAddr, VirtRange};
use kernmem_pgtable::{Tables, Walk, WalkError, translate};

use crate::{History, KernelFault, KernelHandled, KernelSharing, RootError, SharingCounts, Store, SyncError, UserRoot};

/// The kernel's tables of i386, and the roots that follow their PMD entries; the list lies in `S`.
pub struct KernelPmds<F, S> {
    reference: PhysAddr,
    is_shared: bool,
    sharing: KernelSharing,
    history: History,
    vmalloc: VirtRange,
    roots: S,
    counts: SharingCounts,
    format: PhantomData<F>,
}

impl<F, S> fmt::Debug for KernelPmds<F, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KernelPmds")
            .field("reference", &self.reference)
            .field("is_shared", &self.is_shared)
            .field("sharing", &self.sharing)
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}

/// Where a PMD entry stands.
#[derive(Clone, Copy)]
struct Place {
    table: PhysAddr,
    depth: usize,
    index: usize,
}

impl<F: UserFormat, S: Store<PhysAddr>> KernelPmds<F, S> {
    /// The kernel's tables under the root at `reference`, whose PMD tables exist since boot; `roots` is empty.
    ///
    /// With two levels the root holds the PMD entries itself, so it is never shared, whatever `is_shared` says.
    /// `sharing` is [`KernelSharing::OnFault`] or [`KernelSharing::AtMapping`]; the latter knows the fault too.
    #[must_use]
    pub fn new(reference: PhysAddr, is_shared: bool, sharing: KernelSharing, vmalloc: VirtRange, roots: S) -> Self {
        let is_shared = is_shared && F::shape().depth(Level::Pmd) > 0;
        let counts = SharingCounts::default();
        Self { reference, is_shared, sharing, history: History::Right, vmalloc, roots, counts, format: PhantomData }
    }

    /// The same with a mistake of the past: [`History::NoWay`] follows nothing.
    #[must_use]
    pub fn with_history(mut self, history: History) -> Self {
        self.history = history;
        self
    }

    /// Whether all roots link the reference's PMD tables (`SHARED_KERNEL_PMD`).
    #[must_use]
    pub const fn is_shared(&self) -> bool {
        self.is_shared
    }

    /// What following has cost.
    #[must_use]
    pub const fn counts(&self) -> SharingCounts {
        self.counts
    }

    /// The roots on the list, newest first.
    pub fn roots(&self) -> impl Iterator<Item = PhysAddr> {
        self.roots.items().iter().rev().copied()
    }

    /// Makes the root of a new process: empty below, above a copy of the reference's PMD entries, or a link to them.
    ///
    /// # Errors
    /// Nothing was taken.
    pub fn new_root<M: PhysMem>(&mut self, mem: &M, frames: &mut impl FrameSource) -> Result<UserRoot, RootError> {
        if self.roots.room() == 0 && !self.is_shared {
            return Err(RootError::ListFull);
        }
        let frame = frames.take(F::shape().levels[0].level)?;
        if let Err(error) = self.fill(mem, frames, frame.pa) {
            free_tables::<F, M>(mem, frames, frame.pa, self.owns_tables());
            frames.give_back(frame.pa);
            return Err(error);
        }
        let at = self.roots.items().len();
        if !self.is_shared && self.roots.insert(at, frame.pa).is_err() {
            free_tables::<F, M>(mem, frames, frame.pa, self.owns_tables());
            frames.give_back(frame.pa);
            return Err(RootError::ListFull);
        }
        Ok(UserRoot::new(frame.pa))
    }

    /// Whether each root has PMD tables of its own below it.
    fn owns_tables(&self) -> bool {
        !self.is_shared && F::shape().depth(Level::Pmd) > 0
    }

    fn fill<M: PhysMem>(&self, mem: &M, frames: &mut impl FrameSource, root: PhysAddr) -> Result<(), RootError> {
        clear::<F, M>(mem, root)?;
        for index in kernel_slots::<F>() {
            let raw = mem.entry::<F::Slot>(self.reference, index)?;
            let own = if self.owns_tables() { own_table::<F, M>(mem, frames, raw)? } else { raw };
            if own != 0 {
                Tables::<F, M>::new(mem, root).set_entry(root, 0, index, own)?;
            }
        }
        Ok(())
    }

    /// Takes a root off the list and gives its frame and its PMD tables of the kernel back.
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
        free_tables::<F, M>(mem, frames, root.pa(), self.owns_tables());
        let note = mem.note(root.pa()).map(|note| note.set_used(0));
        frames.give_back(root.pa());
        note
    }

    /// Lets the roots follow a change of the reference's PMD entries for `range`: the owner of the change calls it when
    /// entries of that level were written (`ARCH_PAGE_TABLE_SYNC_MASK`). Does nothing where PMDs are shared, or where
    /// only faults copy.
    ///
    /// # Errors
    /// As [`KernelPmds::arch_sync_kernel_mappings`].
    pub fn follow<M: PhysMem>(&mut self, mem: &M, range: VirtRange) -> Result<(), SyncError> {
        let follows = self.sharing == KernelSharing::AtMapping && self.history != History::NoWay && !self.is_shared;
        if follows { self.arch_sync_kernel_mappings(mem, range) } else { Ok(()) }
    }

    /// Gives every root the reference's PMD entries for the part of `range` that is vmalloc's, newest root first: an entry
    /// that the reference has and a root has not is copied, one that the reference has no more is cleared.
    ///
    /// # Errors
    /// A root has something else there: the first one is named, and what was copied before stays.
    pub fn arch_sync_kernel_mappings<M: PhysMem>(&mut self, mem: &M, range: VirtRange) -> Result<(), SyncError> {
        let step = 1 << F::shape().level(Level::Pmd).shift;
        let last = range.last.min(self.vmalloc.last);
        let mut va = VirtAddr(range.start.max(self.vmalloc.start).0 & !(step - 1));
        while va <= last {
            let Some(place) = pmd_place::<F, M>(mem, self.reference, va)? else { return Ok(()) };
            let raw = mem.entry::<F::Slot>(place.table, place.index)?;
            self.counts.list_walks += 1;
            for root in self.roots.items().iter().rev() {
                self.counts.roots_visited += 1;
                let copied = vmalloc_sync_one::<F, M>(mem, *root, va, raw)?;
                self.counts.entries_copied += u64::from(copied);
            }
            let Some(next) = va.0.checked_add(step) else { break };
            va = VirtAddr(next);
        }
        Ok(())
    }

    /// Deals with an access of the kernel to `va` under `root` that the MMU refused because nothing is mapped.
    ///
    /// # Errors
    /// It is a real fault; nothing has changed.
    pub fn vmalloc_fault<M: PhysMem>(
        &mut self,
        mem: &M,
        root: PhysAddr,
        va: VirtAddr,
    ) -> Result<KernelHandled, KernelFault> {
        if self.history == History::NoWay || !self.vmalloc.contains(va) {
            return Err(KernelFault::NoRule { va });
        }
        match translate::<F, M>(mem, self.reference, va) {
            Ok(Walk::Mapped { .. }) => {}
            Ok(Walk::Hole { .. }) => return Err(KernelFault::NotMapped { va }),
            Err(error) => return Err(KernelFault::Walk(error)),
        }
        let bus = |error| KernelFault::Walk(WalkError::Bus(error));
        let Some(place) = pmd_place::<F, M>(mem, self.reference, va).map_err(bus)? else {
            return Err(KernelFault::NotMapped { va });
        };
        let raw = mem.entry::<F::Slot>(place.table, place.index).map_err(bus)?;
        let copied = vmalloc_sync_one::<F, M>(mem, root, va, raw).map_err(KernelFault::Sync)?;
        self.counts.faults += 1;
        self.counts.entries_copied += u64::from(copied);
        Ok(if copied { KernelHandled::Copied } else { KernelHandled::Spurious })
    }
}

/// The slots of a root that belong to the kernel.
fn kernel_slots<F: UserFormat>() -> core::ops::Range<usize> {
    let entries = F::shape().levels[0].entries();
    F::KERNEL_SLOT.unwrap_or(entries)..entries
}

fn clear<F: UserFormat, M: PhysMem>(mem: &M, table: PhysAddr) -> Result<(), BusError> {
    mem.zero(PhysRange::new(table, table + F::shape().granule.bytes()))?;
    mem.note(table)?.set_used(0);
    Ok(())
}

/// An entry like the reference's `raw` of the root, for a PMD table that is a copy of the one it links.
fn own_table<F: UserFormat, M: PhysMem>(mem: &M, frames: &mut impl FrameSource, raw: u64) -> Result<u64, RootError> {
    let level = F::shape().levels[0].level;
    let Entry::Table { next, attrs } = F::decode(raw, level) else { return Ok(raw) };
    let frame = frames.take(Level::Pmd)?;
    let copied = copy_table::<F, M>(mem, next, frame.pa).map_err(RootError::Bus);
    let link = copied.and_then(|()| F::encode(Entry::Table { next: frame.pa, attrs }, level).map_err(RootError::Link));
    link.inspect_err(|_| frames.give_back(frame.pa))
}

fn copy_table<F: UserFormat, M: PhysMem>(mem: &M, from: PhysAddr, to: PhysAddr) -> Result<(), BusError> {
    clear::<F, M>(mem, to)?;
    let depth = F::shape().depth(Level::Pmd);
    for index in 0..F::shape().levels[depth].entries() {
        let raw = mem.entry::<F::Slot>(from, index)?;
        if raw != 0 {
            Tables::<F, M>::new(mem, to).set_entry(to, depth, index, raw)?;
        }
    }
    Ok(())
}

/// Gives back the PMD tables that the kernel's slots of `root` link, if they are its own.
fn free_tables<F: UserFormat, M: PhysMem>(mem: &M, frames: &mut impl FrameSource, root: PhysAddr, owned: bool) {
    let top = &F::shape().levels[0];
    for index in kernel_slots::<F>().filter(|_| owned) {
        let Ok(raw) = mem.entry::<F::Slot>(root, index) else { return };
        if let Entry::Table { next, .. } = F::decode(raw, top.level) {
            if let Ok(note) = mem.note(next) {
                note.set_used(0);
            }
            frames.give_back(next);
        }
    }
}

/// Where the PMD entry for `va` stands under `root`; `None` if no table of PMDs is linked there.
fn pmd_place<F: UserFormat, M: PhysMem>(mem: &M, root: PhysAddr, va: VirtAddr) -> Result<Option<Place>, BusError> {
    let depth = F::shape().depth(Level::Pmd);
    let mut table = root;
    for shape in &F::shape().levels[..depth] {
        let raw = mem.entry::<F::Slot>(table, shape.index(va))?;
        let Entry::Table { next, .. } = F::decode(raw, shape.level) else { return Ok(None) };
        table = next;
    }
    Ok(Some(Place { table, depth, index: F::shape().levels[depth].index(va) }))
}

/// Gives `root` the reference's PMD entry `raw` for `va`, if one of them is empty; returns whether it wrote.
fn vmalloc_sync_one<F: UserFormat, M: PhysMem>(
    mem: &M,
    root: PhysAddr,
    va: VirtAddr,
    raw: u64,
) -> Result<bool, SyncError> {
    let Some(place) = pmd_place::<F, M>(mem, root, va)? else { return Ok(false) };
    let own = mem.entry::<F::Slot>(place.table, place.index)?;
    if (own == 0) != (raw == 0) {
        Tables::<F, M>::new(mem, place.table).set_entry(place.table, place.depth, place.index, raw)?;
        return Ok(true);
    }
    match (F::decode(own, Level::Pmd), F::decode(raw, Level::Pmd)) {
        (Entry::Absent { .. }, Entry::Absent { .. }) => Ok(false),
        (Entry::Table { next: own, .. }, Entry::Table { next, .. }) if own == next => Ok(false),
        (Entry::Leaf { base: own, .. }, Entry::Leaf { base, .. }) if own == base => Ok(false),
        _ => Err(SyncError::Differs { root, slot: place.index }),
    }
}
