//! A small memory with one chain of tables, laid out by hand.
#![allow(dead_code, reason = "each test program uses a part")]

use core::sync::atomic::{AtomicU64, Ordering};

use kernmem_arch::{EntryFormat, MmuFormat};
use kernmem_base::{Asid, Half, Level, PhysAddr, PhysMem, PhysRange, PhysRead, VirtAddr};
use kernmem_sim::{Memory, Mmu, TlbShape};

/// Bytes of the memory.
pub const BYTES: u64 = 1 << 24;

/// The root of the chain; the tables below follow page by page.
pub const ROOT: u64 = 0x1000;

/// An address whose last 30 bits are its place in memory, whatever the size of the leaf.
pub const PLACE: u64 = 0x20_1238;

/// An address of the kernel's half that ends so, valid on both architectures.
pub const VA: VirtAddr = VirtAddr(0xffff_8040_4000_0000 | PLACE);

pub fn memory() -> Memory {
    Memory::new([PhysRange::new(PhysAddr(0), PhysAddr(BYTES))]).unwrap()
}

/// The table of `level` in the chain of `F`.
pub fn table<F: EntryFormat>(level: Level) -> PhysAddr {
    PhysAddr(ROOT + 0x1000 * F::shape().depth(level) as u64)
}

/// Writes the entry of `level` for `va`.
pub fn put<F: EntryFormat>(mem: &Memory, va: VirtAddr, level: Level, raw: u64) {
    let slots = mem.table_mut::<AtomicU64>(table::<F>(level), 512).unwrap();
    slots[F::shape().level(level).index(va)].store(raw, Ordering::Release);
}

/// The entry of `level` for `va`, uncounted.
pub fn get<F: EntryFormat>(mem: &Memory, va: VirtAddr, level: Level) -> u64 {
    let slots = mem.table::<AtomicU64>(table::<F>(level), 512).unwrap();
    slots[F::shape().level(level).index(va)].load(Ordering::Acquire)
}

/// A chain of tables with `links` as attributes down to a leaf of `level` around [`VA`] with `attrs`, as a base page
/// has them; what the leaf maps is the memory from 0 on.
pub fn chain<F: EntryFormat>(mem: &Memory, links: u64, level: Level, attrs: u64) {
    chain_at::<F>(mem, VA, links, level, attrs);
}

pub fn chain_at<F: EntryFormat>(mem: &Memory, va: VirtAddr, links: u64, level: Level, attrs: u64) {
    let depth = F::shape().depth(level);
    for pair in F::shape().levels[..=depth].windows(2) {
        put::<F>(mem, va, pair[0].level, table::<F>(pair[1].level).0 | links);
    }
    let shape = F::shape().level(level);
    let base = (va.0 & 0x3fff_ffff) & !(shape.bytes() - 1);
    put::<F>(mem, va, level, base | F::bits(F::leaf_attrs(F::attrs(attrs), level, false)));
}

/// An MMU whose roots are the chain's.
pub fn mmu<F: MmuFormat>() -> Mmu<F> {
    mmu_of(&TlbShape::default())
}

pub fn mmu_of<F: MmuFormat>(shape: &TlbShape) -> Mmu<F> {
    let mut mmu = Mmu::new(shape);
    mmu.load_root(Half::Both, PhysAddr(ROOT), Asid(1));
    mmu
}
