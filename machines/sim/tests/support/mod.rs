//! A small kernel for tests of windows: memory, one tree of tables, frames for it.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "a test stops where an answer is missing")]

mod child;

use core::sync::atomic::{AtomicU64, Ordering};

use kernmem_arch::arm64::{Arm64Attrs, Arm64Granule4K};
use kernmem_arch::x86::X86Attrs;
use kernmem_arch::x86::layout::Paging;
use kernmem_arch::{EntryFormat, Format};
use kernmem_base::{
    Frame, FrameOrigin, FrameSource, Level, NoFrame, PhysAddr, PhysMem, PhysRange, PhysRead, VirtAddr, VirtRange,
};
use kernmem_pgtable::{Change, Mapping, Sizes, Stale, Tables};
use kernmem_sim::Memory;

#[allow(unused_imports, reason = "each test file uses its part")]
pub use child::{Death, is_child, run_child};

/// First byte of memory; its first 2 MiB hold the tables.
pub const RAM: u64 = 0x4000_0000;
/// Memory behind the tables.
pub const DATA: u64 = RAM + (2 << 20);
/// Bytes of memory of an ordinary machine.
pub const BYTES: u64 = 64 << 20;
pub const PAGE: u64 = 4096;

/// A format with the attributes that the tests use, each as the headers of Linux make it.
pub trait Kind {
    type F: EntryFormat;
    const FORMAT: Format;
    /// Start of some range of the upper half.
    const BASE: VirtAddr;
    fn data() -> <Self::F as EntryFormat>::Attrs;
    fn read_only() -> <Self::F as EntryFormat>::Attrs;
    fn user_data() -> <Self::F as EntryFormat>::Attrs;
    fn table() -> <Self::F as EntryFormat>::Attrs;
    /// Turns a writable page into one that is read only, and back.
    fn seal() -> Change;
    fn unseal() -> Change;
}

pub enum Arm64 {}

impl Kind for Arm64 {
    type F = Arm64Granule4K;
    const FORMAT: Format = Format::ARM64_4K_48;
    const BASE: VirtAddr = VirtAddr(0xffff_8000_1000_0000);
    fn data() -> Arm64Attrs {
        Arm64Attrs(0x00e8_0000_0000_0703)
    }
    fn read_only() -> Arm64Attrs {
        Arm64Attrs(0x00e0_0000_0000_0783)
    }
    fn user_data() -> Arm64Attrs {
        Arm64Attrs(0x00e8_0000_0000_0f43)
    }
    fn table() -> Arm64Attrs {
        Arm64Attrs(3)
    }
    fn seal() -> Change {
        Change { set: 1 << 7, clear: 1 << 51 }
    }
    fn unseal() -> Change {
        Change { set: 1 << 51, clear: 1 << 7 }
    }
}

/// x86-64 with `LEVELS` levels.
pub enum X86Of<const LEVELS: usize> {}

pub type X86 = X86Of<4>;
pub type X86Of5 = X86Of<5>;

impl<const LEVELS: usize> Kind for X86Of<LEVELS> {
    type F = kernmem_arch::x86::X86<LEVELS>;
    const FORMAT: Format = Format::x86(kernmem_arch::x86::X86::<LEVELS>::PAGING);
    const BASE: VirtAddr = match kernmem_arch::x86::X86::<LEVELS>::PAGING {
        Paging::Level4 => VirtAddr(0xffff_c900_0000_0000),
        Paging::Level5 => VirtAddr(0xffa0_0000_0000_0000),
    };
    fn data() -> X86Attrs {
        X86Attrs(0x8000_0000_0000_0163)
    }
    fn read_only() -> X86Attrs {
        X86Attrs(0x8000_0000_0000_0161)
    }
    fn user_data() -> X86Attrs {
        X86Attrs(0x8000_0000_0000_0067)
    }
    fn table() -> X86Attrs {
        X86Attrs(0x67)
    }
    fn seal() -> Change {
        Change { set: 0, clear: 2 }
    }
    fn unseal() -> Change {
        Change { set: 2, clear: 0 }
    }
}

/// Frames for tables, lowest first.
#[derive(Debug)]
pub struct Frames {
    next: u64,
    free: Vec<PhysAddr>,
}

impl FrameSource for Frames {
    fn take(&mut self, level: Level) -> Result<Frame, NoFrame> {
        let origin = FrameOrigin::Memblock;
        if let Some(pa) = self.free.pop() {
            return Ok(Frame { pa, origin, zeroed: false });
        }
        if self.next == DATA {
            return Err(NoFrame { level });
        }
        self.next += PAGE;
        Ok(Frame { pa: PhysAddr(self.next - PAGE), origin, zeroed: true })
    }

    fn give_back(&mut self, frame: PhysAddr) {
        self.free.push(frame);
    }
}

/// Memory of `bytes` bytes from [`RAM`].
pub fn memory_of(bytes: u64) -> Memory {
    Memory::new([PhysRange::of_size(PhysAddr(RAM), bytes).unwrap()]).unwrap()
}

pub fn memory() -> Memory {
    memory_of(BYTES)
}

/// One tree of tables.
pub struct Kernel<'m, K: Kind> {
    pub tables: Tables<'m, K::F, Memory>,
    pub frames: Frames,
}

impl<'m, K: Kind> Kernel<'m, K> {
    pub fn new(memory: &'m Memory) -> Self {
        Self::with_root(memory, RAM)
    }

    /// A tree whose root and tables stand from `root` on.
    pub fn with_root(memory: &'m Memory, root: u64) -> Self {
        let frames = Frames { next: root + PAGE, free: Vec::new() };
        Self { tables: Tables::new(memory, PhysAddr(root)), frames }
    }

    pub fn root(&self) -> PhysAddr {
        self.tables.root()
    }

    pub fn map(&mut self, run: VirtRange, pa: u64, attrs: <K::F as EntryFormat>::Attrs, sizes: Sizes) {
        let mapping = Mapping::<K::F>::new(PhysAddr(pa), attrs, sizes).with_table_attrs(K::table());
        let stale = self.tables.cursor(run).map(&mut self.frames, &mapping).unwrap();
        assert_eq!(stale, Stale::default());
    }

    /// Maps pages one by one to the frames named.
    pub fn map_frames(&mut self, va: VirtAddr, frames: &[u64], attrs: <K::F as EntryFormat>::Attrs) {
        for (index, pa) in frames.iter().enumerate() {
            self.map(pages(va + index as u64 * PAGE, 1), *pa, attrs, Sizes::PAGES);
        }
    }

    /// Unmaps, keeps the tables and tells no TLB.
    pub fn unmap_without_flush(&mut self, run: VirtRange) {
        let stale = self.tables.cursor(run).clear().unwrap();
        stale.forgive("the test flushes or wants the stale translation");
    }

    pub fn protect_without_flush(&mut self, run: VirtRange, change: Change) {
        let stale = self.tables.cursor(run).protect(change).unwrap();
        stale.forgive("the test flushes or wants the stale translation");
    }
}

pub fn pages(va: VirtAddr, count: u64) -> VirtRange {
    VirtRange::of_size(va, count * PAGE).unwrap()
}

/// Fills the frame at `pa` with words that tell frame and place, through the physical window.
pub fn mark(memory: &Memory, pa: u64) {
    for (index, word) in memory.table_mut::<AtomicU64>(PhysAddr(pa), 512).unwrap().iter().enumerate() {
        word.store(pa + index as u64 * 8, Ordering::Relaxed);
    }
}

pub fn mark_all(memory: &Memory, frames: &[u64]) {
    frames.iter().for_each(|pa| mark(memory, *pa));
}

/// The word at `pa`, through the physical window.
pub fn phys_word(memory: &Memory, pa: u64) -> u64 {
    memory.table::<AtomicU64>(PhysAddr(pa), 1).unwrap()[0].load(Ordering::Relaxed)
}
