//! What the tests of this crate share: a small machine, rules, an environment.
#![allow(dead_code, reason = "no test uses all of it")]
#![allow(clippy::unwrap_used, reason = "a test stops where an answer is missing")]

use kernmem_arch::{Entry, EntryFormat};
use kernmem_base::{
    Era, Frame, FrameSource, Granule, Level, NoFrame, Order, Pfn, PhysAddr, PhysRange, PhysRead, Slot, Tlb, VirtAddr,
    VirtRange,
};
use kernmem_page_alloc::pool::FramePool;
use kernmem_page_alloc::{AllocError, FreeError, Gfp, PageSource};
use kernmem_pgtable::Tables;
use kernmem_pgtable::heap::HeapMem;
use kernmem_vmalloc::{Area, Caller, Early, Env, Huge, Rules, VecStore, VmFlags, Vmalloc};

pub const START: u64 = 0xffff_c900_0000_0000;
pub const CALLER: Caller = Caller(7);

/// Memory from 0, whose first frame is the root table and whose other frames are a pool.
pub struct Machine {
    pub mem: HeapMem,
    pub root: PhysAddr,
    pub source: Source,
    pub list: Vec<Pfn>,
    pub frames: u64,
}

impl Machine {
    pub fn new(frames: u64) -> Self {
        let mem = HeapMem::new(PhysRange::new(PhysAddr(0), PhysAddr(frames * 4096)));
        let root = mem.take_root();
        let pool = FramePool::new(Granule::K4, Pfn(1), Pfn(frames));
        Self { mem, root, source: Source { pool, left: None }, list: vec![Pfn(0); frames as usize], frames }
    }

    /// Frames that hold tables below the root.
    pub fn tables<F: EntryFormat>(&self) -> u64 {
        count_tables::<F>(&self.mem, self.root, 0) - 1
    }
}

fn count_tables<F: EntryFormat>(mem: &HeapMem, table: PhysAddr, depth: usize) -> u64 {
    let shape = &F::shape().levels[depth];
    let mut tables = 1;
    for slot in mem.table::<F::Slot>(table, shape.entries()).unwrap() {
        if let Entry::Table { next, .. } = F::decode(slot.load(), shape.level) {
            tables += count_tables::<F>(mem, next, depth + 1);
        }
    }
    tables
}

/// Runs `work` with an environment over the machine.
pub fn with<F: EntryFormat, T>(
    machine: &mut Machine,
    tlb: &mut Flushes,
    work: impl FnOnce(&mut Env<'_, '_, F, HeapMem, Source>) -> T,
) -> T {
    let mut tables = Tables::<F, _>::new(&machine.mem, machine.root);
    let mut env = Env {
        tables: &mut tables,
        pages: &mut machine.source,
        tlb,
        trace: &mut (),
        list: &mut machine.list,
        prot: prot::<F>(),
        table_attrs: F::attrs(if is_arm::<F>() { 0b11 } else { 0x63 }),
        total_pages: machine.frames,
        modified: Default::default(),
    };
    work(&mut env)
}

fn is_arm<F: EntryFormat>() -> bool {
    F::shape().arch == "aarch64"
}

/// Kernel data, writable and not executable.
pub fn prot<F: EntryFormat>() -> F::Attrs {
    F::attrs(if is_arm::<F>() { 0x00e8_0000_0000_0703 } else { 0x8000_0000_0000_0163 })
}

/// A pool whose nth request fails, once.
#[derive(Clone, Debug)]
pub struct Source {
    pub pool: FramePool,
    pub left: Option<u64>,
}

impl Source {
    fn fails(&mut self) -> bool {
        let fails = self.left == Some(0);
        self.left = self.left.and_then(|left| left.checked_sub(1));
        fails
    }
}

impl PageSource for Source {
    fn alloc_on(&mut self, nid: Option<u32>, gfp: Gfp, order: Order) -> Result<Pfn, AllocError> {
        if self.fails() { Err(AllocError::NoMemory { gfp, order }) } else { self.pool.alloc_on(nid, gfp, order) }
    }

    fn alloc_contig(&mut self, nid: Option<u32>, gfp: Gfp, frames: u64) -> Result<Pfn, AllocError> {
        self.pool.alloc_contig(nid, gfp, frames)
    }

    fn free(&mut self, pfn: Pfn, order: Order) -> Result<(), FreeError> {
        self.pool.free(pfn, order)
    }

    fn adopt(&mut self, pfn: Pfn) -> Result<(), FreeError> {
        self.pool.adopt(pfn)
    }

    fn free_frames(&self) -> u64 {
        self.pool.free_frames()
    }
}

impl FrameSource for Source {
    fn take(&mut self, level: Level) -> Result<Frame, NoFrame> {
        if self.fails() { Err(NoFrame { level }) } else { self.pool.take(level) }
    }

    fn give_back(&mut self, frame: PhysAddr) {
        self.pool.give_back(frame);
    }
}

/// Every flush that was made.
#[derive(Debug, Default)]
pub struct Flushes(pub Vec<VirtRange>);

impl Tlb for Flushes {
    fn flush(&mut self, range: VirtRange, _tables: bool) {
        self.0.push(range);
    }
}

/// One node, two CPUs, blocks allowed, `pages` pages of addresses.
pub fn rules(era: Era, pages: u64) -> Rules {
    Rules {
        era,
        granule: Granule::K4,
        start: VirtAddr(START),
        end: VirtAddr(START + pages * 4096),
        online_cpus: 2,
        online_nodes: 1,
        ioremap_max_order: 30,
        max_page_order: 10,
        huge: Huge { pud: true, pmd: true, vmalloc: true, io: true },
    }
}

/// An allocator with an early area that stands for a kernel image, `image` pages behind the start.
pub fn fresh(rules: Rules, image: u64) -> Vmalloc<VecStore> {
    let mut early = Early::new(VecStore::new(), rules).unwrap();
    let start = rules.start + image * rules.granule.bytes();
    early.add(Area::new(start, rules.granule.bytes(), VmFlags::MAP | VmFlags::NO_GUARD, CALLER)).unwrap();
    early.init().map_err(|(_, error)| error).unwrap()
}
