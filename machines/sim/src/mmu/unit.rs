//! One CPU's MMU for a known format: registers, roots, TLB, counters.

use kernmem_arch::{Fault, FaultKind, LeafSize, MmuFormat, Refusal};
use kernmem_base::{Access, Asid, Half, PhysAddr, PhysMem, Privilege, Tlb, VirtAddr, VirtRange};

use super::cache::{Cache, Cached, Clash, Meant};
use super::links::Links;
use super::walk::{Start, Trail, Walk};
use super::{Counters, TlbShape};

/// An address that reached memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Translated {
    /// The byte that it reaches.
    pub pa: PhysAddr,
    /// The leaf, or the contiguous group that the TLB holds as one.
    pub leaf: LeafSize,
    /// Whether the TLB knew it.
    pub hit: bool,
    /// Table entries that were read for it.
    pub references: u64,
}

/// The MMU of one CPU.
#[derive(Debug)]
pub struct Mmu<F: MmuFormat> {
    control: F::Control,
    lower: PhysAddr,
    upper: PhysAddr,
    asid: Asid,
    takes_groups: bool,
    cache: Cache<F::Attrs>,
    links: Links,
    trail: Trail,
    pub(super) counters: Counters,
}

impl<F: MmuFormat> Mmu<F> {
    /// An MMU with the registers of [`MmuFormat::registers`], roots at 0 and an empty TLB.
    #[must_use]
    pub fn new(shape: &TlbShape) -> Self {
        Self {
            control: F::registers(),
            lower: PhysAddr(0),
            upper: PhysAddr(0),
            asid: Asid(0),
            takes_groups: shape.groups,
            cache: Cache::new(shape, F::shape()),
            links: Links::new(shape.walks),
            trail: Trail::default(),
            counters: Counters::default(),
        }
    }

    /// The registers.
    #[must_use]
    pub const fn control(&self) -> &F::Control {
        &self.control
    }

    /// Sets the registers. What the TLB holds stays, and its rights are judged under the new ones from now on.
    pub fn set_control(&mut self, control: F::Control) {
        self.control = control;
        for entry in self.cache.live_mut() {
            judge::<F>(&control, entry);
        }
    }

    /// The current address space.
    #[must_use]
    pub const fn asid(&self) -> Asid {
        self.asid
    }

    /// The root that translates a half.
    #[must_use]
    pub const fn root(&self, half: Half) -> PhysAddr {
        match half {
            Half::Lower | Half::Both => self.lower,
            Half::Upper => self.upper,
        }
    }

    /// What was counted so far.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    /// What was counted so far; counts from 0 again.
    pub fn take_counters(&mut self) -> Counters {
        core::mem::take(&mut self.counters)
    }

    /// Bytes that the TLB translates without a walk; what two entries translate counts twice.
    #[must_use]
    pub fn reach(&self) -> u64 {
        self.cache.live().map(|entry| entry.leaf.bytes).sum()
    }

    /// Translations that the TLB holds.
    #[must_use]
    pub fn held(&self) -> usize {
        self.cache.live().count()
    }

    /// Translates `half` with the tables at `root` from now on, as space `asid`.
    ///
    /// Entries of all spaces stay if they carry its number; else only global ones do. Where one register holds the
    /// root of all addresses (x86), any half stands for it.
    pub fn load_root(&mut self, half: Half, root: PhysAddr, asid: Asid) {
        if half != Half::Upper || !F::HAS_HALVES {
            self.lower = root;
        }
        if half != Half::Lower || !F::HAS_HALVES {
            self.upper = root;
        }
        let has_spaces = F::has_spaces(&self.control);
        if F::names_space(&self.control, half) {
            self.asid = if has_spaces { asid } else { Asid(0) };
        }
        if !has_spaces {
            self.counters.flushes += 1;
            self.counters.dropped += self.cache.forget(&Meant { range: VirtRange::ALL, asid: None, globals: false });
            self.links.forget(VirtRange::ALL, None);
        }
    }

    /// Forgets the current space's translation of `va`, a global one too: as `invlpg`.
    pub fn flush_local(&mut self, va: VirtAddr) {
        self.counters.flushes += 1;
        self.forget_address(va);
    }

    fn forget_address(&mut self, va: VirtAddr) {
        let (asid, range) = (self.asid, VirtRange { start: va, last: va });
        self.counters.dropped += self.cache.forget(&Meant { range, asid: Some(asid), globals: true });
        let links = if F::FLUSH_DROPS_WALKS { VirtRange::ALL } else { range };
        self.links.forget(links, Some(asid));
    }

    /// Translates `va` for an access, from the TLB or by a walk in `mem`.
    ///
    /// # Errors
    /// The access is refused; the TLB has no new translation.
    #[inline]
    pub fn access<M: PhysMem>(
        &mut self,
        mem: &M,
        va: VirtAddr,
        access: Access,
        privilege: Privilege,
    ) -> Result<Translated, Fault> {
        self.translate(mem, va, access, privilege).map_err(|refusal| self.fault(va, access, privilege, refusal))
    }

    #[inline(always)]
    fn translate<M: PhysMem>(
        &mut self,
        mem: &M,
        va: VirtAddr,
        access: Access,
        privilege: Privilege,
    ) -> Result<Translated, Refusal> {
        if let Some(pa) = F::flat(&self.control, va)? {
            return Ok(Translated { pa, leaf: page::<F>(), hit: false, references: 0 });
        }
        let (half, va) = F::enter(&self.control, va, access, privilege)?;
        let found = self.cache.find(va, self.asid);
        if let Some(at) = found.map_err(|Clash| Refusal { kind: FaultKind::TlbConflict, level: None })? {
            if let Some(entry) = self.cache.get(at) {
                if entry.ready.allow(access, privilege) {
                    self.counters.hits += 1;
                    return Ok(Translated { pa: entry.pa(va), leaf: entry.leaf, hit: true, references: 0 });
                }
                if !entry.rights.allow(access, privilege) {
                    self.counters.hits += 1;
                    return Err(Refusal { kind: FaultKind::Permission, level: Some(entry.leaf.level) });
                }
            }
            self.cache.retire(at); // clean: the tables must be marked, and may say something else by now
        }
        self.miss(mem, half, va, access, privilege)
    }

    fn miss<M: PhysMem>(
        &mut self,
        mem: &M,
        half: Half,
        va: VirtAddr,
        access: Access,
        privilege: Privilege,
    ) -> Result<Translated, Refusal> {
        self.counters.misses += 1;
        let root = self.root(half);
        F::open(&self.control, half, root)?;
        let known = self.links.find(va, self.asid);
        self.counters.short_walks += u64::from(known.is_some());
        let start = known.unwrap_or(Start { table: root, depth: 0, above: F::OPEN });
        let mut walk = Walk::<F, M> {
            mem,
            control: &self.control,
            va,
            access,
            privilege,
            takes_groups: self.takes_groups,
            trail: &mut self.trail,
            references: 0,
            marks: 0,
        };
        let found = walk.run(start);
        let (references, marks) = (walk.references, walk.marks);
        self.counters.references += references;
        self.counters.marks += marks;
        let found = found?;
        if !self.links.is_off() {
            self.trail.links().for_each(|link| self.links.learn(F::shape(), va, self.asid, link));
        }
        let mut entry = Cached::new(found.base, found.leaf, found.attrs);
        judge::<F>(&self.control, &mut entry);
        let is_global = F::is_global(&self.control, found.attrs);
        self.counters.fills += 1;
        self.counters.evictions += u64::from(self.cache.insert(va, self.asid, is_global, entry));
        Ok(Translated { pa: entry.pa(va), leaf: found.leaf, hit: false, references })
    }

    /// What the CPU says of a refusal, and what it forgets because of it.
    pub(super) fn fault(&mut self, va: VirtAddr, access: Access, privilege: Privilege, refusal: Refusal) -> Fault {
        self.counters.faults += 1;
        if F::FAULT_FORGETS && refusal.level.is_some() {
            self.forget_address(va);
        }
        let syndrome = F::syndrome(&self.control, refusal, access, privilege);
        Fault { va, access, privilege, kind: refusal.kind, level: refusal.level, syndrome }
    }

    /// Forgets walks through tables of `range`, if tables were freed or the architecture always does.
    fn forget_links(&mut self, range: VirtRange, asid: Option<Asid>, tables: bool) {
        match (F::FLUSH_DROPS_WALKS, tables) {
            (true, _) => self.links.forget(VirtRange::ALL, asid),
            (false, true) => self.links.forget(range, asid),
            (false, false) => {}
        }
    }
}

impl<F: MmuFormat> Tlb for Mmu<F> {
    fn flush(&mut self, range: VirtRange, tables: bool) {
        self.counters.flushes += 1;
        self.counters.dropped += self.cache.forget(&Meant { range, asid: None, globals: true });
        self.forget_links(range, None, tables);
    }

    fn flush_space(&mut self, asid: Asid, range: Option<VirtRange>, tables: bool) {
        let asid = if F::has_spaces(&self.control) { asid } else { Asid(0) };
        let globals = range.is_some() && F::SPACE_FLUSH_TAKES_GLOBALS;
        let range = range.unwrap_or(VirtRange::ALL);
        self.counters.flushes += 1;
        self.counters.dropped += self.cache.forget(&Meant { range, asid: Some(asid), globals });
        self.forget_links(range, Some(asid), tables);
    }
}

/// The rights of an entry under these registers.
fn judge<F: MmuFormat>(control: &F::Control, entry: &mut Cached<F::Attrs>) {
    entry.rights = F::rights(control, entry.attrs);
    let marks_first = if F::is_clean(control, entry.attrs) { kernmem_arch::Rights::WRITES } else { Default::default() };
    entry.ready = entry.rights.without(marks_first);
}

/// A base page of the format.
fn page<F: MmuFormat>() -> LeafSize {
    let shape = F::shape();
    let level = shape.levels[shape.levels.len() - 1].level;
    LeafSize { bytes: shape.granule.bytes(), level, contiguous: false }
}
