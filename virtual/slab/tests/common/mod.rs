//! A machine for tests: a pool of frames, an arena for their memory, an array for their records.
#![allow(dead_code, clippy::unwrap_used, reason = "each test uses a part; a test stops where an answer is missing")]

use core::ptr::NonNull;

use kernmem_base::{CpuId, Era, Granule, HeapArena, Lent, LinearMem, Pfn};
use kernmem_page_alloc::PageSource;
use kernmem_page_alloc::pool::FramePool;
use kernmem_slab::{CacheFlags, Classes, CpuSlabs, Env, KmallocArch, LentPages, Record, Slab, SlabRules};

pub const FIRST: Pfn = Pfn(0x100);
pub const CACHES: usize = 64;

pub type TestSlab = Slab<CACHES>;
pub type TestCpu = CpuSlabs<CACHES>;
pub type TestEnv<'e> = Env<'e, FramePool, HeapArena, LentPages<'e>>;

pub struct Machine {
    pub pool: FramePool,
    pub arena: HeapArena,
    pub records: Vec<Record>,
}

impl Machine {
    pub fn new(frames: u64) -> Self {
        let start = FIRST.to_phys(Granule::K4).unwrap();
        Self {
            pool: FramePool::new(Granule::K4, FIRST, Pfn(FIRST.0 + frames)),
            arena: HeapArena::new(start, frames * 4096),
            records: (0..frames).map(|_| Record::default()).collect(),
        }
    }

    pub fn free_frames(&self) -> u64 {
        self.pool.free_frames()
    }
}

/// Runs `f` with the machine's environment.
pub fn with<T>(machine: &mut Machine, f: impl FnOnce(&mut TestEnv<'_>) -> T) -> T {
    let records = LentPages::new(FIRST, &machine.records);
    // The records live as long as the environment: both are made here.
    f(&mut Env { pages: &mut machine.pool, mem: &machine.arena, records: &records })
}

pub fn x86(era: Era) -> SlabRules {
    SlabRules::new(Classes::new(era, Granule::K4, KmallocArch::X86), 2)
}

pub fn checked(era: Era) -> SlabRules {
    SlabRules { flags: CacheFlags::CHECKED, ..x86(era) }
}

pub fn booted(rules: SlabRules) -> (TestSlab, TestCpu) {
    let mut slab = TestSlab::new(rules);
    slab.create_kmalloc_caches().unwrap();
    let cpu = slab.cpu(CpuId(0), 0).unwrap();
    (slab, cpu)
}

/// The memory behind a pointer.
pub fn lent(arena: &HeapArena, ptr: NonNull<u8>, bytes: u64) -> Lent<'_> {
    Lent::new(arena, arena.pa(ptr).unwrap(), bytes).unwrap()
}

/// A pointer `bytes` further, which may not be an object.
pub fn moved(arena: &HeapArena, ptr: NonNull<u8>, bytes: i64) -> NonNull<u8> {
    let pa = arena.pa(ptr).unwrap();
    arena.ptr(kernmem_base::PhysAddr(pa.0.checked_add_signed(bytes).unwrap()), 1).unwrap()
}
