//! Page tables of any format: walks, range cursors, splits, and the flush debts that they leave.
//!
//! * [`translate`], [`steps`]: follow one address as the MMU would; [`Links`]: through tables that are linked alike.
//! * [`translate_many`]: many addresses at once, whose misses overlap; [`CachedTables`]: addresses and single pages
//!   of a tree that remembers its tables of pages.
//! * [`visit()`]: hand every entry of a range to a visitor, as listings need it.
//! * [`CursorMut`]: exclusive over one range; maps with the largest allowed leaves, unmaps with whole subtrees
//!   dropped, changes rights, splits and collapses. [`PageForm`]: pages one by one.
//! * [`SharedTables`]: the same by several CPUs at once, each with cursors of its own and no lock around the tree.
//! * [`Stale`]: what TLBs may still hold after a change, with the dead tables that may not be reused until it is paid.
//!
//! Not here: entry formats and shapes (`kernmem-arch`), where frames come from (the caller's `FrameSource`), what is
//! mapped and why (`kernmem`).
//!
//! # Invariants
//! 1. A table's note counts its entries that are not zero, and says so if one may link a table; a table below the root
//!    whose count falls to zero in an unmap is dead.
//! 2. A table is written before it is linked: its parent's entry is published after its own entries.
//! 3. A dead table's memory is given back only when its `Stale` is paid.
//!
//! # Example: map a gigabyte on the host
//!
//! ```
//! use kernmem_arch::arm64::{Arm64Attrs, Arm64Granule4K};
//! use kernmem_base::{NoTlb, PhysAddr, PhysRange, VirtAddr, VirtRange};
//! use kernmem_pgtable::{Mapping, Sizes, Tables, Walk, heap::HeapMem, translate};
//!
//! let mem = HeapMem::new(PhysRange::new(PhysAddr(0), PhysAddr(64 << 12))); // 64 frames of table memory
//! let mut frames = mem.frames();
//! let mut tables = Tables::<Arm64Granule4K, _>::new(&mem, mem.take_root());
//! let gib = VirtRange::of_size(VirtAddr(0xffff_0000_4000_0000), 1 << 30).unwrap();
//! let kernel_data = Arm64Attrs(0x00e8_0000_0000_0703);
//!
//! // 1 GiB at a 2 MiB boundary: 2M blocks and 32M contiguous groups, no 1G block.
//! let mapping = Mapping::new(PhysAddr(0x8020_0000), kernel_data, Sizes::ALL);
//! let stale = tables.cursor(gib).map(&mut frames, &mapping).unwrap();
//! stale.pay(&mut NoTlb, &mut tables, &mut frames);
//!
//! let walk = translate::<Arm64Granule4K, _>(&mem, tables.root(), VirtAddr(0xffff_0000_4000_1234)).unwrap();
//! assert!(matches!(walk, Walk::Mapped { pa: PhysAddr(0x8020_1234), .. }));
//! ```
//!
//! Source: the rules of arm64's mapper are those of Linux 6.1 arch/arm64/mm/mmu.c `__create_pgd_mapping`.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(any(test, feature = "heap"))]
extern crate alloc;

mod cache;
mod change;
mod cursor;
mod error;
#[cfg(any(test, feature = "heap"))]
pub mod heap;
mod links;
mod many;
mod map;
mod pages;
mod remap;
mod shared;
mod sizes;
mod span;
mod stale;
mod tables;
mod unmap;
mod visit;
mod walk;

pub use cache::CachedTables;
pub use change::Change;
pub use cursor::CursorMut;
pub use error::{Failed, MapError};
pub use links::Links;
pub use many::translate_many;
pub use map::Mapping;
pub use pages::PageForm;
pub use shared::{CpuSlot, CpuTables, Entangled, Reading, SharedCursor, SharedTables};
pub use sizes::Sizes;
pub use stale::Stale;
pub use tables::Tables;
pub use visit::{Visitor, visit};
pub use walk::{Step, Walk, WalkError, steps, translate};
