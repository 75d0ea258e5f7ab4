//! The boot allocator's state: both lists, its switches, and who listens.
//!
//! Here: construction, switches, and the way to the lists.
//! Not here: the operations, which are in a file each (`edit`, `mark`, `trim`, `grow`, `query`, `iter`, `alloc`).

use kernmem_base::{Era, PhysAddr};

use crate::hint::Hint;
use crate::{Dump, Event, Flags, Limits, List, ListKind, Nid, Observer, RegionArray};

/// The boot allocator. It lives until [`Memblock::hand_over`] consumes it.
#[derive(Clone, Debug)]
pub struct Memblock<A, O = ()> {
    pub(crate) era: Era,
    pub(crate) limits: Limits,
    pub(crate) memory: List<A>,
    pub(crate) reserved: List<A>,
    pub(crate) observer: O,
    pub(crate) current_limit: PhysAddr,
    pub(crate) can_resize: bool,
    pub(crate) has_mirror: bool,
    pub(crate) hint: Option<Hint>,
    bottom_up: bool,
    scratch_only: bool,
}

impl<A: RegionArray, O: Observer> Memblock<A, O> {
    /// An empty allocator: top-down, without a limit, with lists that may not grow yet.
    ///
    /// Source: Linux 5.10–7.2 mm/memblock.c `struct memblock memblock`.
    pub fn new(era: Era, limits: Limits, memory: A, reserved: A, observer: O) -> Self {
        Self {
            era,
            limits,
            memory: List::new(memory),
            reserved: List::new(reserved),
            observer,
            current_limit: PhysAddr(limits.address_max),
            can_resize: false,
            has_mirror: false,
            hint: None,
            bottom_up: false,
            scratch_only: false,
        }
    }

    /// The era whose rules apply.
    #[must_use]
    pub fn era(&self) -> Era {
        self.era
    }

    /// The constants of the machine.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Memory that exists.
    #[must_use]
    pub fn memory(&self) -> &List<A> {
        &self.memory
    }

    /// Memory that is taken.
    #[must_use]
    pub fn reserved(&self) -> &List<A> {
        &self.reserved
    }

    /// One of the lists.
    #[must_use]
    pub fn list(&self, kind: ListKind) -> &List<A> {
        match kind {
            ListKind::Memory => &self.memory,
            ListKind::Reserved => &self.reserved,
        }
    }

    pub(crate) fn list_mut(&mut self, kind: ListKind) -> &mut List<A> {
        match kind {
            ListKind::Memory => &mut self.memory,
            ListKind::Reserved => &mut self.reserved,
        }
    }

    /// Who listens.
    pub fn observer(&mut self) -> &mut O {
        &mut self.observer
    }

    /// The same allocator with another observer, which is made of the one so far.
    pub(crate) fn with_observer<P>(self, make: impl FnOnce(O) -> P) -> Memblock<A, P> {
        Memblock {
            era: self.era,
            limits: self.limits,
            memory: self.memory,
            reserved: self.reserved,
            observer: make(self.observer),
            current_limit: self.current_limit,
            can_resize: self.can_resize,
            has_mirror: self.has_mirror,
            hint: self.hint,
            bottom_up: self.bottom_up,
            scratch_only: self.scratch_only,
        }
    }

    pub(crate) fn tell(&mut self, event: Event<'_>) {
        self.observer.event(event);
    }

    /// Tells both lists as one event: what the kernel prints with `memblock=debug` after its set-up.
    pub fn dump_all(&mut self) {
        self.observer.event(Event::Dump(Dump {
            memory: self.memory.regions(),
            reserved: self.reserved.regions(),
            memory_size: self.memory.total_size(),
            reserved_size: self.reserved.total_size(),
        }));
    }

    /// Whether allocations start at the lowest address.
    #[must_use]
    pub fn bottom_up(&self) -> bool {
        self.bottom_up
    }

    /// Makes allocations start at the lowest (`true`) or at the highest address.
    pub fn set_bottom_up(&mut self, bottom_up: bool) {
        self.bottom_up = bottom_up;
    }

    /// The exclusive bound of memory that the kernel can reach.
    #[must_use]
    pub fn current_limit(&self) -> PhysAddr {
        self.current_limit
    }

    /// Sets the exclusive bound of memory that the kernel can reach.
    pub fn set_current_limit(&mut self, limit: PhysAddr) {
        self.current_limit = limit;
    }

    /// Lets the lists grow from now on.
    pub fn allow_resize(&mut self) {
        self.can_resize = true;
    }

    /// Says whether `movable_node` counts from now on (x86 learns it before it parses the SRAT).
    pub fn set_movable_node(&mut self, enabled: bool) {
        self.hint = None;
        self.limits.movable_node = enabled;
    }

    /// Restricts allocations to scratch memory of kexec handover (7.2), or lifts that.
    pub fn set_scratch_only(&mut self, enabled: bool) {
        self.scratch_only = enabled;
    }

    /// The flags that an allocation asks for.
    ///
    /// Source: Linux 5.10–7.2 mm/memblock.c `choose_memblock_flags`.
    pub(crate) fn wanted_flags(&self) -> Flags {
        match (self.scratch_only, self.has_mirror) {
            (true, _) => Flags::KHO_SCRATCH,
            (false, true) => Flags::MIRROR,
            (false, false) => Flags::NONE,
        }
    }

    /// `nid` if it names a node that this kernel can have. Up to 6.1 a number that is too large is a warning, from
    /// 6.12 on it is silently no node.
    pub(crate) fn valid_node(&self, nid: Option<Nid>) -> Option<Nid> {
        nid.filter(|nid| nid.0 < self.limits.max_nodes)
    }

    /// The node that a region records: none without NUMA.
    pub(crate) fn stored_node(&self, nid: Option<Nid>) -> Option<Nid> {
        self.valid_node(nid).filter(|_| self.limits.numa)
    }
}
