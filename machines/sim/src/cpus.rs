//! All CPUs of one machine, and how a flush reaches each of them.
//!
//! A CPU belongs to the thread that uses its handle, and is locked for one operation at a time: a flush by another CPU
//! comes between two operations, as an interrupt or a broadcast comes between two instructions.
//!
//! # Invariants
//! 1. No operation holds the lock of more than one CPU, so that CPUs which flush each other wait for no cycle.
//! 2. When a flush returns, every operation that begins later on any CPU translates without what was flushed.
//!
//! Locks: one for each CPU, a leaf; see `LOCKS.md`.

use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use kernmem_arch::{Fault, Format};
use kernmem_base::{Access, Asid, Cpu, CpuId, Half, PhysAddr, PhysMem, Privilege, Tlb, VirtAddr, VirtRange};

use crate::mmu::{Counters, Interrupted, TlbShape, Translated, Vcpu};

/// The CPUs of a machine.
#[derive(Debug)]
pub struct Cpus {
    cpus: Vec<Mutex<Vcpu>>,
    format: Format,
    broadcasts: AtomicU64,
    messages: AtomicU64,
    acknowledgements: AtomicU64,
}

/// How flushes reached other CPUs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ShootDowns {
    /// Flushes that one instruction carried to all CPUs (arm64).
    pub broadcasts: u64,
    /// Messages to single CPUs (x86).
    pub messages: u64,
    /// Messages that were answered, after the flush on that CPU.
    pub acknowledgements: u64,
}

/// What is to be forgotten.
#[derive(Clone, Copy)]
struct Request {
    asid: Option<Asid>,
    range: Option<VirtRange>,
    tables: bool,
}

impl Cpus {
    /// `count` CPUs with default registers and empty TLBs.
    #[must_use]
    pub fn new(count: u32, format: Format, shape: &TlbShape) -> Self {
        let cpus = (0..count).map(|id| Mutex::new(Vcpu::new(CpuId(id), format, shape))).collect();
        let zero = || AtomicU64::new(0);
        Self { cpus, format, broadcasts: zero(), messages: zero(), acknowledgements: zero() }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.cpus.len() as u32
    }

    /// The handle of one CPU; `None` if there is no such CPU.
    #[must_use]
    pub fn cpu(&self, id: CpuId) -> Option<CpuHandle<'_>> {
        (id.0 < self.count()).then_some(CpuHandle { cpus: self, id })
    }

    /// The handles of all CPUs, in order.
    pub fn handles(&self) -> impl Iterator<Item = CpuHandle<'_>> {
        (0..self.count()).map(|id| CpuHandle { cpus: self, id: CpuId(id) })
    }

    /// The CPUs themselves, without locks: one for each part of a program that runs without flushes in between.
    pub fn split(&mut self) -> impl Iterator<Item = &mut Vcpu> {
        self.cpus.iter_mut().map(|cpu| cpu.get_mut().unwrap_or_else(PoisonError::into_inner))
    }

    /// How flushes reached other CPUs so far.
    #[must_use]
    pub fn shoot_downs(&self) -> ShootDowns {
        // Relaxed: statistics; who compares readings makes them in one thread, or after joining the others.
        ShootDowns {
            broadcasts: self.broadcasts.load(Ordering::Relaxed),
            messages: self.messages.load(Ordering::Relaxed),
            acknowledgements: self.acknowledgements.load(Ordering::Relaxed),
        }
    }

    /// Locks one CPU for one operation. A panic of another thread leaves a CPU usable: each operation is whole.
    fn lock(&self, id: CpuId) -> MutexGuard<'_, Vcpu> {
        self.cpus[id.0 as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, id: CpuId, request: Request) {
        let mut cpu = self.lock(id);
        match request.asid {
            Some(asid) => cpu.flush_space(asid, request.range, request.tables),
            None => cpu.flush(request.range.unwrap_or(VirtRange::ALL), request.tables),
        }
    }

    /// Asks CPU `to` by a message, and waits for its answer.
    fn ask(&self, to: CpuId, request: Request) {
        // Relaxed, here and below: statistics, see `shoot_downs`; the lock of the CPU orders the flush itself.
        self.messages.fetch_add(1, Ordering::Relaxed);
        self.serve(to, request);
        self.acknowledgements.fetch_add(1, Ordering::Relaxed);
    }

    fn flush_all(&self, from: CpuId, request: Request) {
        let broadcasts = self.format.broadcasts_flushes();
        if broadcasts {
            self.broadcasts.fetch_add(1, Ordering::Relaxed);
        }
        for to in (0..self.count()).map(CpuId) {
            match broadcasts || to == from {
                true => self.serve(to, request),
                false => self.ask(to, request),
            }
        }
    }
}

/// One CPU as its thread uses it; a flush through it reaches every CPU.
#[derive(Clone, Copy, Debug)]
pub struct CpuHandle<'c> {
    cpus: &'c Cpus,
    id: CpuId,
}

impl<'c> CpuHandle<'c> {
    /// The machine's CPUs.
    #[must_use]
    pub const fn cpus(&self) -> &'c Cpus {
        self.cpus
    }

    /// The format of its tables.
    #[must_use]
    pub const fn format(&self) -> Format {
        self.cpus.format
    }

    /// Runs `then` on the CPU, locked: for registers and the like. It may not use another CPU meanwhile.
    pub fn with<R>(&self, then: impl FnOnce(&mut Vcpu) -> R) -> R {
        then(&mut self.cpus.lock(self.id))
    }

    /// As [`Vcpu::access`].
    ///
    /// # Errors
    /// The access is refused; the TLB has no new translation.
    pub fn access<M: PhysMem>(
        &self,
        mem: &M,
        va: VirtAddr,
        access: Access,
        privilege: Privilege,
    ) -> Result<Translated, Fault> {
        self.with(|cpu| cpu.access(mem, va, access, privilege))
    }

    /// As [`Vcpu::read`]: one operation, though it crosses pages.
    ///
    /// # Errors
    /// A page refuses: the bytes before it are read.
    pub fn read<M: PhysMem>(
        &self,
        mem: &M,
        va: VirtAddr,
        out: &mut [u8],
        privilege: Privilege,
    ) -> Result<(), Interrupted> {
        self.with(|cpu| cpu.read(mem, va, out, privilege))
    }

    /// As [`Vcpu::write`]: one operation, though it crosses pages.
    ///
    /// # Errors
    /// A page refuses: the bytes before it are written.
    pub fn write<M: PhysMem>(
        &self,
        mem: &M,
        va: VirtAddr,
        bytes: &[u8],
        privilege: Privilege,
    ) -> Result<(), Interrupted> {
        self.with(|cpu| cpu.write(mem, va, bytes, privilege))
    }

    /// As [`Vcpu::read_u64`].
    ///
    /// # Errors
    /// A page refuses.
    pub fn read_u64<M: PhysMem>(&self, mem: &M, va: VirtAddr, privilege: Privilege) -> Result<u64, Interrupted> {
        self.with(|cpu| cpu.read_u64(mem, va, privilege))
    }

    /// As [`Vcpu::write_u64`].
    ///
    /// # Errors
    /// A page refuses: the bytes before it are written.
    pub fn write_u64<M: PhysMem>(
        &self,
        mem: &M,
        va: VirtAddr,
        word: u64,
        privilege: Privilege,
    ) -> Result<(), Interrupted> {
        self.with(|cpu| cpu.write_u64(mem, va, word, privilege))
    }

    /// What the CPU counted so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.with(|cpu| cpu.counters())
    }

    /// Flushes on the CPU itself and nowhere else.
    pub fn flush_here(&self, asid: Option<Asid>, range: Option<VirtRange>, tables: bool) {
        self.cpus.serve(self.id, Request { asid, range, tables });
    }

    /// Flushes on the CPUs `to`, each but this one asked by a message, whatever the architecture: for a kernel that
    /// keeps account of who needs it. CPUs that do not exist are left out.
    pub fn flush_on(
        &self,
        to: impl IntoIterator<Item = CpuId>,
        asid: Option<Asid>,
        range: Option<VirtRange>,
        tables: bool,
    ) {
        let request = Request { asid, range, tables };
        for to in to.into_iter().filter(|to| to.0 < self.cpus.count()) {
            match to == self.id {
                true => self.cpus.serve(to, request),
                false => self.cpus.ask(to, request),
            }
        }
    }
}

impl Tlb for CpuHandle<'_> {
    fn flush(&mut self, range: VirtRange, tables: bool) {
        self.cpus.flush_all(self.id, Request { asid: None, range: Some(range), tables });
    }

    fn flush_space(&mut self, asid: Asid, range: Option<VirtRange>, tables: bool) {
        self.cpus.flush_all(self.id, Request { asid: Some(asid), range, tables });
    }
}

impl Cpu for CpuHandle<'_> {
    fn id(&self) -> CpuId {
        self.id
    }

    fn load_root(&mut self, half: Half, root: PhysAddr, asid: Asid) {
        self.with(|cpu| cpu.load_root(half, root, asid));
    }

    fn flush_local(&mut self, va: VirtAddr) {
        self.with(|cpu| cpu.flush_local(va));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arm64_broadcasts_once_and_x86_asks_every_other_cpu() {
        let shape = TlbShape::default();
        let arm64 = Cpus::new(4, Format::ARM64_4K_48, &shape);
        arm64.cpu(CpuId(2)).unwrap().flush(VirtRange::ALL, false);
        assert_eq!(arm64.shoot_downs(), ShootDowns { broadcasts: 1, messages: 0, acknowledgements: 0 });
        let x86 = Cpus::new(4, Format::X86Level4, &shape);
        x86.cpu(CpuId(2)).unwrap().flush_space(Asid(1), None, true);
        assert_eq!(x86.shoot_downs(), ShootDowns { broadcasts: 0, messages: 3, acknowledgements: 3 });
        for cpus in [&arm64, &x86] {
            assert!(cpus.handles().all(|cpu| cpu.counters().flushes == 1), "every CPU flushed once");
        }
    }

    #[test]
    fn a_chosen_flush_reaches_the_chosen() {
        let cpus = Cpus::new(3, Format::X86Level4, &TlbShape::default());
        let cpu = cpus.cpu(CpuId(0)).unwrap();
        cpu.flush_on([CpuId(0), CpuId(2), CpuId(9)], None, None, false);
        cpu.flush_here(None, None, false);
        let flushes: Vec<u64> = cpus.handles().map(|cpu| cpu.counters().flushes).collect();
        assert_eq!((flushes, cpus.shoot_downs().messages), (vec![2, 0, 1], 1));
        assert!(cpus.cpu(CpuId(3)).is_none());
    }
}
