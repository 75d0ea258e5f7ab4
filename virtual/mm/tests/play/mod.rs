//! Several processes beside a naive model: a map from page to rights and words for each, and a TLB that keeps every
//! translation until it is told to forget it.
//!
//! After each step, for every process:
//! 1. Each page reads as the model says, and no page lies outside of it.
//! 2. The regions are sorted, apart, and have the model's rights.
//! 3. A page's count is the number of entries that map it; an entry that may be written is alone.
//! 4. Pages in place and bytes of tables are what a walk counts.
//! 5. The frames in use are the kernel's, the roots, the tables and the pages: no more and no fewer.
//! 6. A table below the root translates addresses of some region: none is left behind.
//! 7. A TLB holds nothing that the tables do not allow.
#![allow(clippy::unwrap_used, dead_code, reason = "a test stops where an answer is missing; each uses a part")]

use core::sync::atomic::{AtomicU64, Ordering};
use std::collections::{BTreeMap, BTreeSet};

use kernmem_arch::arm64::Arm64Granule4K;
use kernmem_arch::x86::X86;
use kernmem_arch::x86::layout::Paging;
use kernmem_arch::{Entry, UserFormat, UserRights};
use kernmem_base::{
    Access, Asid, Era, Granule, Level, Pfn, PhysAddr, PhysMem, PhysRange, PhysRead, Privilege, Slot, Tlb, VirtAddr,
    VirtRange,
};
use kernmem_mm::{
    Env, Handled, KernelHalf, KernelSharing, LentCounts, Limits, PageCounts, Place, Region, Signal, Space, SpaceError,
};
use kernmem_page_alloc::PageSource;
use kernmem_page_alloc::pool::FramePool;
use kernmem_pgtable::heap::HeapMem;
use kernmem_pgtable::steps;

pub const PAGE: u64 = 4096;
/// The pages that operations name: on both sides of a boundary of page tables.
pub const WINDOW: u64 = 48;
pub const BASE: VirtAddr = VirtAddr(0x4000_0000 - 24 * PAGE);
const FIRST_FRAME: u64 = 0x100;

/// What the MMU of a format lets a program do with a valid entry.
pub trait Mmu: UserFormat {
    const VMALLOC: VirtRange;
    fn limits() -> Limits;
    fn permits(raw: u64, access: Access) -> bool;
}

impl Mmu for Arm64Granule4K {
    const VMALLOC: VirtRange =
        VirtRange { start: VirtAddr(0xffff_8000_0800_0000), last: VirtAddr(0xffff_fdff_bfff_ffff) };

    fn limits() -> Limits {
        Limits::arm64_48()
    }

    /// Valid, of user mode, accessed (no hardware sets the flag), not read only, not UXN.
    fn permits(raw: u64, access: Access) -> bool {
        let may = raw & 1 != 0 && raw & 1 << 6 != 0 && raw & 1 << 10 != 0;
        may && match access {
            Access::Read => true,
            Access::Write => raw & 1 << 7 == 0,
            Access::Execute => raw & 1 << 54 == 0,
        }
    }
}

impl<const LEVELS: usize> Mmu for X86<LEVELS> {
    const VMALLOC: VirtRange = match Self::PAGING {
        Paging::Level4 => VirtRange { start: VirtAddr(0xffff_c900_0000_0000), last: VirtAddr(0xffff_e8ff_ffff_ffff) },
        Paging::Level5 => VirtRange { start: VirtAddr(0xffa0_0000_0000_0000), last: VirtAddr(0xffd1_ffff_ffff_ffff) },
    };

    fn limits() -> Limits {
        Limits::x86_64()
    }

    /// Present, of user mode, writable, not NX. The CPU sets accessed and dirty by itself: neither decides.
    fn permits(raw: u64, access: Access) -> bool {
        let may = raw & 0b101 == 0b101;
        may && match access {
            Access::Read => true,
            Access::Write => raw & 0b10 != 0,
            Access::Execute => raw >> 63 == 0,
        }
    }
}

/// A TLB that forgets nothing by itself.
#[derive(Debug, Default)]
pub struct Keeping {
    pub held: BTreeMap<(Asid, VirtAddr), u64>,
    pub flushes: Vec<(Asid, Option<VirtRange>, bool)>,
}

impl Tlb for Keeping {
    fn flush(&mut self, range: VirtRange, _tables: bool) {
        self.held.retain(|(_, va), _| !range.contains(*va));
    }

    fn flush_space(&mut self, asid: Asid, range: Option<VirtRange>, tables: bool) {
        self.flushes.push((asid, range, tables));
        let range = range.unwrap_or(VirtRange::ALL);
        self.held.retain(|(own, va), _| *own != asid || !range.contains(*va));
    }
}

/// What the model knows of a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Page {
    pub rights: UserRights,
    pub words: [u64; 2],
}

pub struct Process<F: Mmu> {
    pub space: Space<F, Vec<Region>>,
    pub pages: BTreeMap<u64, Page>,
}

/// The machine with its processes.
pub struct World<F: Mmu> {
    pub mem: HeapMem,
    pub pool: FramePool,
    pub words: Vec<u32>,
    pub tlb: Keeping,
    pub kernel: KernelHalf<F, Vec<PhysAddr>>,
    pub processes: Vec<Process<F>>,
    pub zero_page: PhysAddr,
    pub era: Era,
    frames: u64,
    next_asid: u16,
}

/// One step; the numbers are cut to what exists.
#[derive(Clone, Copy, Debug)]
pub enum Op {
    Mmap { who: u8, how: u8, page: u8, pages: u8, rights: u8 },
    Munmap { who: u8, page: u8, pages: u8 },
    Mprotect { who: u8, page: u8, pages: u8, rights: u8 },
    Read { who: u8, page: u8, word: bool },
    Write { who: u8, page: u8, word: bool, value: u64 },
    Execute { who: u8, page: u8 },
    Fork { who: u8 },
    Exit { who: u8 },
}

impl Op {
    /// An operation out of any words.
    pub fn of_words([kind, who, page, pages, value]: [u16; 5]) -> Self {
        let (who, page, pages, rights) = (who as u8, page as u8, pages as u8, value as u8);
        let (word, value) = (value & 1 != 0, u64::from(value) | 1 << 40);
        match kind % 16 {
            0..2 => Self::Mmap { who, how: kind as u8 / 16, page, pages, rights },
            2..4 => Self::Munmap { who, page, pages },
            4..6 => Self::Mprotect { who, page, pages, rights },
            6..8 => Self::Read { who, page, word },
            8..12 => Self::Write { who, page, word, value },
            12 => Self::Execute { who, page },
            13..15 => Self::Fork { who },
            _ => Self::Exit { who },
        }
    }
}

pub fn rights(bits: u8) -> UserRights {
    match bits % 6 {
        0 => UserRights::NONE,
        1 => UserRights::READ,
        2 => UserRights::READ_EXECUTE,
        _ => UserRights::READ_WRITE,
    }
}

fn page_va(page: u8) -> VirtAddr {
    BASE + u64::from(page) % WINDOW * PAGE
}

macro_rules! env {
    ($world:expr, $counts:ident) => {{
        $counts = LentCounts::new(Pfn(FIRST_FRAME), &mut $world.words);
        Env {
            mem: &$world.mem,
            frames: &mut $world.pool,
            tlb: &mut $world.tlb,
            counts: &mut $counts,
            zero_page: $world.zero_page,
            era: $world.era,
        }
    }};
}

impl<F: Mmu> World<F> {
    pub fn new(era: Era, frames: u64) -> Self {
        let end = FIRST_FRAME + frames;
        let mem = HeapMem::new(PhysRange::new(PhysAddr(FIRST_FRAME * PAGE), PhysAddr(end * PAGE)));
        let mut pool = FramePool::new(Granule::K4, Pfn(FIRST_FRAME), Pfn(end));
        let zero_page = pool.take_frame().unwrap();
        let reference = pool.take_frame().unwrap();
        let kernel = KernelHalf::new(reference, KernelSharing::OnFault, era, F::VMALLOC, Vec::new());
        let mut world = Self {
            mem,
            pool,
            words: vec![0; frames as usize],
            tlb: Keeping::default(),
            kernel,
            processes: Vec::new(),
            zero_page,
            era,
            frames,
            next_asid: 0,
        };
        let root = world.kernel.new_root(&world.mem, &mut world.pool).unwrap();
        let mut space = Space::new(root, F::limits(), Vec::new());
        space.retag(world.take_asid());
        world.processes.push(Process { space, pages: BTreeMap::new() });
        world
    }

    fn take_asid(&mut self) -> Asid {
        self.next_asid += 1;
        Asid(self.next_asid)
    }

    /// Plays one operation; `Err` is memory that was short.
    pub fn step(&mut self, op: Op) -> Result<(), SpaceError> {
        if self.processes.is_empty() {
            return Ok(());
        }
        let whose = |who: u8, world: &Self| usize::from(who) % world.processes.len();
        match op {
            Op::Mmap { who, how, page, pages, rights: bits } => {
                self.mmap(whose(who, self), how, page, u64::from(pages) % 9, rights(bits))
            }
            Op::Munmap { who, page, pages } => self.munmap(whose(who, self), page, u64::from(pages) % 12),
            Op::Mprotect { who, page, pages, rights: bits } => {
                self.mprotect(whose(who, self), page, u64::from(pages) % 12, rights(bits))
            }
            Op::Read { who, page, word } => self.read(whose(who, self), page_va(page), word),
            Op::Write { who, page, word, value } => self.write(whose(who, self), page_va(page), word, value),
            Op::Execute { who, page } => self.execute(whose(who, self), page_va(page)),
            Op::Fork { who } if self.processes.len() < 4 => self.fork(whose(who, self)),
            Op::Exit { who } if self.processes.len() > 1 => {
                self.exit(whose(who, self));
                Ok(())
            }
            Op::Fork { .. } | Op::Exit { .. } => Ok(()),
        }
    }

    fn mmap(&mut self, who: usize, how: u8, page: u8, pages: u64, rights: UserRights) -> Result<(), SpaceError> {
        let va = page_va(page);
        let place = match how % 8 {
            0..4 => Place::Fixed(va),
            4 => Place::FixedNoReplace(va),
            5 => Place::Hint(va + 5),
            _ => Place::Anywhere,
        };
        let process = &mut self.processes[who];
        let is_free = |start: VirtAddr| (0..pages).all(|nr| !process.pages.contains_key(&(start.0 + nr * PAGE)));
        let expected = match place {
            _ if pages == 0 => Err(SpaceError::ZeroLength),
            Place::FixedNoReplace(_) if !is_free(va) => Err(SpaceError::Exists { va }),
            Place::Fixed(_) | Place::FixedNoReplace(_) => Ok(va),
            Place::Hint(_) if is_free(va) => Ok(va),
            Place::Hint(_) | Place::Anywhere => Ok(highest_gap(&process.pages, F::limits().mmap_base, pages)),
        };
        let mut counts;
        let mut env = env!(self, counts);
        let done = process.space.mmap(&mut env, place, pages * PAGE, rights);
        match (done, expected) {
            (Err(SpaceError::Exists { .. }), Err(SpaceError::Exists { .. })) => return Ok(()),
            (done, expected) => assert_eq!(done, expected, "{place:?}"),
        }
        if let Ok(start) = expected {
            for nr in 0..pages {
                process.pages.insert(start.0 + nr * PAGE, Page { rights, words: [0; 2] });
            }
        }
        Ok(())
    }

    fn munmap(&mut self, who: usize, page: u8, pages: u64) -> Result<(), SpaceError> {
        let (start, process) = (page_va(page), &mut self.processes[who]);
        let mut counts;
        let mut env = env!(self, counts);
        let done = process.space.munmap(&mut env, start, pages * PAGE);
        assert_eq!(done, if pages == 0 { Err(SpaceError::ZeroLength) } else { Ok(()) });
        process.pages.retain(|va, _| *va < start.0 || *va >= start.0 + pages * PAGE);
        Ok(())
    }

    fn mprotect(&mut self, who: usize, page: u8, pages: u64, rights: UserRights) -> Result<(), SpaceError> {
        let (start, process) = (page_va(page), &mut self.processes[who]);
        let mut counts;
        let mut env = env!(self, counts);
        let done = process.space.mprotect(&mut env, start, pages * PAGE, rights);
        for va in (0..pages).map(|nr| start + nr * PAGE) {
            match process.pages.get_mut(&va.0) {
                Some(page) => page.rights = rights,
                None => {
                    assert_eq!(done, Err(SpaceError::NotMapped { va }));
                    return Ok(());
                }
            }
        }
        assert_eq!(done, Ok(()));
        Ok(())
    }

    fn read(&mut self, who: usize, va: VirtAddr, word: bool) -> Result<(), SpaceError> {
        let page = self.processes[who].pages.get(&va.0).copied();
        match (self.reach(who, va, Access::Read), page) {
            (Err(signal), page) => refused(signal, page, |rights| rights.any()),
            (Ok(pa), Some(page)) => {
                assert!(page.rights.any());
                assert_eq!(word_at(&self.mem, pa, word).load(Ordering::Relaxed), page.words[usize::from(word)], "{va}");
                Ok(())
            }
            (Ok(_), None) => panic!("{va} is reached and not mapped"),
        }
    }

    fn write(&mut self, who: usize, va: VirtAddr, word: bool, value: u64) -> Result<(), SpaceError> {
        let page = self.processes[who].pages.get(&va.0).copied();
        match (self.reach(who, va, Access::Write), page) {
            (Err(signal), page) => refused(signal, page, |rights| rights.write),
            (Ok(pa), Some(page)) => {
                assert!(page.rights.write);
                word_at(&self.mem, pa, word).store(value, Ordering::Relaxed);
                self.processes[who].pages.get_mut(&va.0).unwrap().words[usize::from(word)] = value;
                Ok(())
            }
            (Ok(_), None) => panic!("{va} is written and not mapped"),
        }
    }

    fn execute(&mut self, who: usize, va: VirtAddr) -> Result<(), SpaceError> {
        let page = self.processes[who].pages.get(&va.0).copied();
        match self.reach(who, va, Access::Execute) {
            Err(signal) => refused(signal, page, |rights| rights.execute),
            Ok(_) => {
                assert!(page.unwrap().rights.execute);
                Ok(())
            }
        }
    }

    /// Makes an access as a CPU does: through the TLB, with a fault wherever it is refused.
    pub fn reach(&mut self, who: usize, va: VirtAddr, access: Access) -> Result<PhysAddr, Signal> {
        for _ in 0..4 {
            let space = &mut self.processes[who].space;
            let key = (space.asid(), va);
            let walked = steps::<F, _>(&self.mem, space.root(), va).last().unwrap().unwrap();
            let raw = *self.tlb.held.get(&key).unwrap_or(&walked.raw);
            if F::permits(raw, access) {
                self.tlb.held.insert(key, raw);
                let Entry::Leaf { base, .. } = F::decode(raw, Level::Pte) else { panic!("{raw:#x} is no page") };
                return Ok(base);
            }
            let mut counts;
            let mut env = env!(self, counts);
            space.fault(&mut env, va, access, Privilege::User)?;
        }
        panic!("four faults do not let the access to {va} through");
    }

    /// What one fault does.
    pub fn fault(&mut self, who: usize, va: VirtAddr, access: Access) -> Result<Handled, Signal> {
        let mut counts;
        let mut env = env!(self, counts);
        self.processes[who].space.fault(&mut env, va, access, Privilege::User)
    }

    pub fn fork(&mut self, who: usize) -> Result<(), SpaceError> {
        let Ok(root) = self.kernel.new_root(&self.mem, &mut self.pool) else {
            return Err(SpaceError::NoRoom { bytes: PAGE });
        };
        let asid = self.take_asid();
        let process = &mut self.processes[who];
        let mut counts;
        let mut env = env!(self, counts);
        match process.space.fork(&mut env, root, Vec::new()) {
            Ok(mut space) => {
                space.retag(asid);
                let pages = process.pages.clone();
                self.processes.push(Process { space, pages });
                Ok(())
            }
            Err(failed) => {
                self.kernel.free_root(&self.mem, &mut self.pool, failed.root).unwrap();
                Err(failed.error)
            }
        }
    }

    pub fn exit(&mut self, who: usize) {
        let process = self.processes.remove(who);
        let mut counts;
        let mut env = env!(self, counts);
        let (root, done) = process.space.exit(&mut env);
        assert_eq!(done, Ok(()));
        self.kernel.free_root(&self.mem, &mut self.pool, root).unwrap();
    }

    /// The pages in place of a process, by address, and the number of tables below its root.
    pub fn walk(&self, process: &Process<F>) -> (BTreeMap<VirtAddr, u64>, u64) {
        let (mut pages, mut tables) = (BTreeMap::new(), Vec::new());
        let user = F::KERNEL_SLOT.unwrap_or(512);
        self.walk_table(process.space.root(), 0, user, VirtAddr(0), &mut pages, &mut tables);
        for table in &tables {
            let is_needed = process.pages.keys().any(|va| table.contains(VirtAddr(*va)));
            assert!(is_needed, "a table for {table:?} is left behind");
        }
        (pages, tables.len() as u64)
    }

    fn walk_table(
        &self,
        table: PhysAddr,
        depth: usize,
        slots: usize,
        start: VirtAddr,
        pages: &mut BTreeMap<VirtAddr, u64>,
        tables: &mut Vec<VirtRange>,
    ) {
        let shape = F::shape().levels[depth];
        let lent = self.mem.table::<AtomicU64>(table, 512).unwrap();
        for (index, slot) in lent.iter().take(slots).enumerate() {
            let (va, raw) = (start + ((index as u64) << shape.shift), Slot::load(slot));
            match F::decode(raw, shape.level) {
                Entry::Table { next, .. } => {
                    tables.push(VirtRange::of_size(va, shape.bytes()).unwrap());
                    self.walk_table(next, depth + 1, 512, va, pages, tables);
                }
                _ if raw != 0 => {
                    pages.insert(va, raw);
                }
                _ => {}
            }
        }
        let used = lent.iter().filter(|slot| Slot::load(*slot) != 0).count();
        assert_eq!(usize::from(self.mem.note(table).unwrap().used()), used, "note of {table}");
    }

    /// The invariants of the head.
    pub fn check(&mut self) {
        let (mut tables, mut mapped) = (0, BTreeMap::<Pfn, u32>::new());
        let mut writable = Vec::new();
        for process in &self.processes {
            check_regions(process);
            let (pages, own_tables) = self.walk(process);
            tables += own_tables;
            assert_eq!(process.space.table_bytes(), own_tables * PAGE);
            let mut own = 0;
            for (va, raw) in &pages {
                let (base, attrs) = F::page(self.era, *raw).unwrap();
                assert!(process.pages.contains_key(&va.0), "{va} is mapped and in no region");
                if F::is_special(attrs) {
                    assert_eq!((base, F::is_writable(attrs)), (self.zero_page, false));
                    continue;
                }
                own += 1;
                *mapped.entry(base.pfn(Granule::K4)).or_default() += 1;
                if F::is_writable(attrs) {
                    writable.push(base.pfn(Granule::K4));
                }
            }
            assert_eq!(process.space.anon_pages(), own);
            self.check_words(process, &pages);
            self.check_tlb(process, &pages);
        }
        let mut counts = LentCounts::new(Pfn(FIRST_FRAME), &mut self.words);
        for frame in FIRST_FRAME..FIRST_FRAME + self.frames {
            let expected = mapped.get(&Pfn(frame)).copied().unwrap_or(0);
            assert_eq!(counts.count(Pfn(frame)).unwrap(), expected, "count of {frame:#x}");
        }
        assert!(writable.iter().all(|pfn| mapped[pfn] == 1), "a page of two entries may be written");
        let used = 2 + self.processes.len() as u64 + tables + mapped.len() as u64;
        assert_eq!(self.frames - self.pool.free_frames(), used, "frames in use");
    }

    fn check_words(&self, process: &Process<F>, pages: &BTreeMap<VirtAddr, u64>) {
        for (va, page) in &process.pages {
            let words = match pages.get(&VirtAddr(*va)) {
                Some(raw) => {
                    let base = F::page(self.era, *raw).unwrap().0;
                    [false, true].map(|word| word_at(&self.mem, base, word).load(Ordering::Relaxed))
                }
                None => [0; 2],
            };
            assert_eq!(words, page.words, "{va:#x}");
        }
    }

    fn check_tlb(&self, process: &Process<F>, pages: &BTreeMap<VirtAddr, u64>) {
        let asid = process.space.asid();
        for ((_, va), held) in self.tlb.held.iter().filter(|((own, _), _)| *own == asid) {
            let now = pages.get(va).unwrap_or_else(|| panic!("the TLB holds {va}, which is not mapped"));
            let base = |raw: u64| F::page(self.era, raw).map(|(base, _)| base);
            assert_eq!(base(*held), base(*now), "{va}");
            for access in [Access::Read, Access::Write, Access::Execute] {
                // An accessed flag that was taken off is no right that was taken.
                let young = F::page(self.era, *now).map(|(base, attrs)| F::page_raw(base, F::make_young(attrs)));
                assert!(!F::permits(*held, access) || F::permits(young.unwrap(), access), "{va} {access:?}");
            }
        }
    }
}

/// An access was refused: rightly, or memory was short.
fn refused(signal: Signal, page: Option<Page>, may: impl Fn(UserRights) -> bool) -> Result<(), SpaceError> {
    match (signal, page) {
        (Signal::MapErr, None) => Ok(()),
        (Signal::AccErr, Some(page)) if !may(page.rights) => Ok(()),
        (Signal::OutOfMemory, Some(page)) if may(page.rights) => Err(SpaceError::NoRoom { bytes: PAGE }),
        (signal, page) => panic!("{signal} with {page:?}"),
    }
}

fn check_regions<F: Mmu>(process: &Process<F>) {
    let mut end = VirtAddr(0);
    let mut covered = BTreeSet::new();
    for region in process.space.regions() {
        assert!(end <= region.start && region.start < region.end, "{region:?}");
        end = region.end;
        for va in (region.start.0..region.end.0).step_by(PAGE as usize) {
            assert_eq!(process.pages.get(&va).map(|page| page.rights), Some(region.rights), "{va:#x}");
            covered.insert(va);
        }
    }
    assert_eq!(covered.len(), process.pages.len());
}

/// Where `pages` pages end that lie as high as they can below `top`.
fn highest_gap(taken: &BTreeMap<u64, Page>, top: VirtAddr, pages: u64) -> VirtAddr {
    let mut start = top.0 - pages * PAGE;
    while (0..pages).any(|nr| taken.contains_key(&(start + nr * PAGE))) {
        start -= PAGE;
    }
    VirtAddr(start)
}

fn word_at(mem: &HeapMem, page: PhysAddr, word: bool) -> &AtomicU64 {
    &mem.table::<AtomicU64>(page, 512).unwrap()[if word { 511 } else { 0 }]
}

/// Regions and pages to begin with: data on both sides of the tables' boundary, half of it written.
pub fn beginning() -> impl Iterator<Item = Op> {
    let regions = [2, 10, 20, 28].map(|page| Op::Mmap { who: 0, how: 0, page, pages: 8, rights: 3 });
    let writes = (20..28).map(|page| Op::Write { who: 0, page, word: false, value: 7 + u64::from(page) });
    regions.into_iter().chain(writes)
}

/// Plays operations on a fresh machine, checks each step, and ends every process: all frames come back.
pub fn play<F: Mmu>(era: Era, frames: u64, ops: impl IntoIterator<Item = Op>) {
    let mut world = World::<F>::new(era, frames);
    for op in beginning().chain(ops) {
        let _short = world.step(op);
        world.check();
    }
    while !world.processes.is_empty() {
        world.exit(0);
        world.check();
    }
}
