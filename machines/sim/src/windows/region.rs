//! One window's state, and the verdict on a fault in it.
//!
//! # Invariants
//! 1. The host has mapped in the reservation what `fills` lists, with its rights, whenever the lock is free.
//! 2. Tables are read for a fill under the lock.
//!
//! Locks: the spin lock of `state` is innermost; nothing is taken under it.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use kernmem_arch::FaultKind;
use kernmem_base::{Access, PhysAddr, PhysRange, VirtAddr, VirtRange};
use rustix::io::Errno;

use super::fault::{WindowFault, WindowFaultKind};
use super::fills::{Fill, Fills};
use super::host::Reservation;
use super::spin::Spin;
use super::walk::{Leaf, Refusal, Space, leaf_in_memory, run};
use crate::Memory;

/// Numbers of fills, never used twice in the process.
static NEXT_FILL: AtomicU64 = AtomicU64::new(1);

/// Fills of all windows of the process: they share the host's limit of mappings.
static LIVE: AtomicUsize = AtomicUsize::new(0);

/// How many fills there may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Limits {
    /// In this window, whatever the others have.
    pub least: usize,
    /// In this window at most.
    pub window: usize,
    /// In all windows of the process, besides the least of each.
    pub process: usize,
}

/// A window's state.
#[derive(Debug)]
pub(crate) struct Region<'m> {
    memory: &'m Memory,
    range: VirtRange,
    place: Reservation,
    state: Spin<State>,
    limits: Limits,
    fills_made: AtomicU64,
    evictions: AtomicU64,
}

#[derive(Debug)]
struct State {
    space: Space,
    fills: Fills,
}

/// What a region counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Counts {
    pub fills_made: u64,
    pub evictions: u64,
    pub fills: usize,
    pub bytes: u64,
}

impl<'m> Region<'m> {
    /// Reserves the place of `range`, whole pages that one root translates.
    pub(crate) fn new(memory: &'m Memory, range: VirtRange, space: Space, limits: Limits) -> Result<Self, Errno> {
        let bytes = usize::try_from(range.size()).map_err(|_| Errno::NOMEM)?;
        Ok(Self {
            memory,
            range,
            place: Reservation::new(bytes)?,
            state: Spin::new(State { space, fills: Fills::new(limits.window) }),
            limits,
            fills_made: AtomicU64::new(0),
            evictions: AtomicU64::new(0),
        })
    }

    pub(crate) const fn range(&self) -> VirtRange {
        self.range
    }

    /// First host address and bytes.
    pub(crate) fn host(&self) -> (usize, usize) {
        (self.place.base().as_ptr().addr(), self.place.bytes())
    }

    /// Where the host sees the `bytes` bytes from `va`.
    pub(crate) fn ptr(&self, va: VirtAddr, bytes: u64) -> Option<NonNull<u8>> {
        let offset = va.0.checked_sub(self.range.start.0)?;
        self.place.at(usize::try_from(offset).ok()?, usize::try_from(bytes).ok()?)
    }

    /// The kernel's address of a host address.
    pub(crate) fn va(&self, host: usize) -> Option<VirtAddr> {
        Some(VirtAddr(self.range.start.0 + self.place.offset(host)? as u64))
    }

    /// The bank of memory around `pa`.
    pub(crate) fn bank(&self, pa: PhysAddr) -> Option<PhysRange> {
        self.memory.bank_at(pa)
    }

    pub(crate) fn counts(&self) -> Counts {
        let state = self.state.lock();
        // Relaxed: statistics; what a caller's own accesses caused was counted in its own thread.
        let (fills_made, evictions) = (self.fills_made.load(Ordering::Relaxed), self.evictions.load(Ordering::Relaxed));
        Counts { fills_made, evictions, fills: state.fills.len(), bytes: state.fills.bytes() }
    }

    /// Judges an access that faulted at `host`: `Ok` with the number of the fill that now holds the address if it
    /// shall run again. `noted` is the fill that this thread was told at its last fault, if that was at `host`.
    pub(crate) fn serve(&self, host: usize, noted: Option<u64>, said: Option<Access>) -> Result<u64, WindowFault> {
        let Some(va) = self.va(host) else {
            let refusal = Refusal { kind: WindowFaultKind::Mmu(FaultKind::Translation), level: None };
            return Err(refused(VirtAddr(0), said, refusal));
        };
        let mut state = self.state.lock();
        if let Some(fill) = state.fills.at(va) {
            let now = leaf_in_memory(self.memory, &state.space, va);
            let gives_more = !fill.write && now.is_ok_and(|(leaf, _)| leaf.write);
            if !gives_more && noted != Some(fill.id) {
                return Ok(fill.id);
            }
            if !gives_more {
                return Err(forbidden(va, fill, now.map(|(leaf, _)| leaf), said));
            }
            self.drop_fills(&mut state, fill.range).map_err(|refusal| refused(va, said, refusal))?;
        }
        self.fill(&mut state, va).map_err(|refusal| refused(va, said, refusal))
    }

    /// Maps the run around `va`, which no fill holds.
    fn fill(&self, state: &mut State, va: VirtAddr) -> Result<u64, Refusal> {
        // Relaxed: a bound with room to spare; other windows may fill at the same time.
        let is_spent = || LIVE.load(Ordering::Relaxed) >= self.limits.process;
        let must_evict = state.fills.is_full() || state.fills.len() >= self.limits.least && is_spent();
        if must_evict && let Some(oldest) = state.fills.oldest() {
            let gone = self.drop_fills(state, oldest.range)?;
            // Relaxed: a statistic.
            self.evictions.fetch_add(gone as u64, Ordering::Relaxed);
        }
        let run = run(self.memory, &state.space, va, state.fills.gap(va, self.range))?;
        let (offset, bytes) = (run.range.start - self.range.start, run.range.size());
        self.place.fill(offset as usize, bytes as usize, self.memory.file(), run.pa.0, run.write).map_err(host)?;
        // Relaxed: the numbers must differ, nothing is published by them.
        let id = NEXT_FILL.fetch_add(1, Ordering::Relaxed);
        let is_listed = state.fills.insert(Fill { range: run.range, write: run.write, id });
        debug_assert!(is_listed, "a place was made above");
        // Relaxed: a bound and a statistic.
        LIVE.fetch_add(1, Ordering::Relaxed);
        self.fills_made.fetch_add(1, Ordering::Relaxed);
        Ok(id)
    }

    /// Empties every fill that shares a byte with `range`; returns how many.
    fn drop_fills(&self, state: &mut State, range: VirtRange) -> Result<usize, Refusal> {
        let Some(hull) = state.fills.hull(range) else { return Ok(0) };
        let offset = hull.start - self.range.start;
        self.place.empty(offset as usize, hull.size() as usize).map_err(host)?;
        let gone = state.fills.remove(range);
        // Relaxed: as in `fill`.
        LIVE.fetch_sub(gone, Ordering::Relaxed);
        Ok(gone)
    }

    /// Forgets every fill that shares a byte with `range`.
    ///
    /// # Panics
    /// The host refuses to replace mappings by one: the process has more of others than windows leave it.
    pub(crate) fn flush(&self, range: VirtRange) {
        let mut state = self.state.lock();
        let dropped = self.drop_fills(&mut state, range);
        drop(state);
        assert!(dropped.is_ok(), "the host replaces mappings of our own by one");
    }

    /// Translates with the tables at `root` from now on; every fill is forgotten.
    ///
    /// # Panics
    /// As [`Region::flush`].
    pub(crate) fn set_root(&self, root: PhysAddr) {
        let mut state = self.state.lock();
        state.space.root = root;
        let dropped = self.drop_fills(&mut state, VirtRange::ALL);
        drop(state);
        assert!(dropped.is_ok(), "the host replaces mappings of our own by one");
    }

    /// What the tables say to an access at `va`, whatever is mapped in the window.
    pub(crate) fn probe(&self, va: VirtAddr, access: Access) -> Result<(), WindowFault> {
        let space = self.state.lock().space;
        let said = Some(access);
        let (leaf, _) = leaf_in_memory(self.memory, &space, va).map_err(|refusal| refused(va, said, refusal))?;
        let is_permitted = match access {
            Access::Read => true,
            Access::Write => leaf.write,
            Access::Execute => false,
        };
        if is_permitted {
            return Ok(());
        }
        Err(refused(va, said, Refusal { kind: WindowFaultKind::Mmu(FaultKind::Permission), level: Some(leaf.level) }))
    }
}

impl Drop for Region<'_> {
    fn drop(&mut self) {
        // Relaxed: as in `fill`.
        LIVE.fetch_sub(self.state.lock().fills.len(), Ordering::Relaxed);
    }
}

const fn host(errno: Errno) -> Refusal {
    Refusal { kind: WindowFaultKind::Host { errno: errno.raw_os_error() }, level: None }
}

const fn refused(va: VirtAddr, access: Option<Access>, refusal: Refusal) -> WindowFault {
    WindowFault { va, access, kind: refusal.kind, level: refusal.level }
}

/// The fault of an access that `fill` has refused: it permits reading, so the access was a write, and one that also
/// permits writing refuses execution alone.
fn forbidden(va: VirtAddr, fill: Fill, now: Result<Leaf, Refusal>, said: Option<Access>) -> WindowFault {
    let access = if fill.write || said == Some(Access::Execute) { Access::Execute } else { Access::Write };
    let level = now.map_or_else(|refusal| refusal.level, |leaf| Some(leaf.level));
    WindowFault { va, access: Some(access), kind: WindowFaultKind::Mmu(FaultKind::Permission), level }
}
