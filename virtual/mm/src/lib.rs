//! Address spaces of processes: regions, faults, fork and exit, and the kernel half that all share.
//!
//! * [`Space`]: one process: its root, its [`Region`]s, `mmap`, `munmap`, `mprotect`, [`Space::fault`],
//!   [`Space::fork`], [`Space::exit`].
//! * [`KernelHalf`]: the roots of all processes and how they follow the kernel's ([`KernelSharing`]).
//! * [`AsidAllocator`], [`PcidSlots`]: the numbers under which TLBs keep spaces apart; [`switch_to`].
//! * [`PageCounts`], [`Store`]: what the caller lends: a word a frame, and ordered lists.
//!
//! Here: private anonymous memory in base pages. Not here: files, shared memory, huge pages, swap, pinned pages,
//! page-table isolation's second root.
//!
//! # Example: a fork, and the write that parts the two
//!
//! ```
//! use kernmem_arch::{UserRights, x86::X86Level4};
//! use kernmem_base::{Access, Era, Granule, NoTlb, Pfn, PhysAddr, PhysRange, Privilege, VirtAddr, VirtRange};
//! use kernmem_mm::{Env, Handled, KernelHalf, KernelSharing, Lent, LentCounts, Limits, Place, Region, Space};
//! use kernmem_page_alloc::pool::FramePool;
//! use kernmem_pgtable::heap::HeapMem;
//!
//! let mem = HeapMem::new(PhysRange::new(PhysAddr(0), PhysAddr(64 << 12)));
//! let mut pool = FramePool::new(Granule::K4, Pfn(2), Pfn(64)); // frame 0: zeros, frame 1: the kernel's root
//! let vmalloc = VirtRange { start: VirtAddr(0xffff_c900_0000_0000), last: VirtAddr(0xffff_e8ff_ffff_ffff) };
//! let (mut roots, mut counts) = ([PhysAddr(0); 8], [0; 64]);
//! let way = KernelSharing::of_x86_64(Era::V6_1);
//! let mut kernel = KernelHalf::<X86Level4, _>::new(PhysAddr(0x1000), way, Era::V6_1, vmalloc, Lent::new(&mut roots));
//! let (one, two) = (kernel.new_root(&mem, &mut pool)?, kernel.new_root(&mem, &mut pool)?);
//!
//! let mut counts = LentCounts::new(Pfn(0), &mut counts);
//! let mut env = Env {
//!     mem: &mem,
//!     frames: &mut pool,
//!     tlb: &mut NoTlb,
//!     counts: &mut counts,
//!     zero_page: PhysAddr(0),
//!     era: Era::V6_1,
//! };
//! let (mut mine, mut its) = ([Region::default(); 4], [Region::default(); 4]);
//! let mut parent = Space::<X86Level4, _>::new(one, Limits::x86_64(), Lent::new(&mut mine));
//! let va = parent.mmap(&mut env, Place::Anywhere, 0x3000, UserRights::READ_WRITE)?;
//! assert_eq!(parent.fault(&mut env, va, Access::Write, Privilege::User), Ok(Handled::NewPage));
//!
//! let mut child = parent.fork(&mut env, two, Lent::new(&mut its)).map_err(|failed| failed.error)?;
//! assert_eq!(child.fault(&mut env, va, Access::Write, Privilege::User), Ok(Handled::Copied));
//! assert_eq!(parent.fault(&mut env, va, Access::Write, Privilege::User), Ok(Handled::Reused));
//! # let (root, done) = child.exit(&mut env);
//! # done?;
//! # kernel.free_root(&mem, &mut pool, root)?;
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```
//!
//! Source: Linux 6.1 mm/memory.c, mm/mmap.c; arch/x86/mm/pgtable.c, arch/x86/mm/fault.c.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "alloc")]
extern crate alloc;

mod asid;
mod counts;
mod env;
mod error;
mod fault;
mod fork;
mod gather;
mod kernel_half;
mod kernel_pmds;
mod limits;
mod pages;
pub mod pcid;
mod protect;
mod region;
mod regions;
mod root;
mod sharing;
mod space;
mod store;
mod switch;

pub use asid::{AsidAllocator, AsidCpu, AsidError, AsidSwitch, ContextId};
pub use counts::{CountError, LentCounts, PageCounts};
pub use env::Env;
pub use error::{Broken, Errno, SpaceError};
pub use fault::{Handled, Signal, may_reuse};
pub use fork::ForkFailed;
pub use kernel_half::{KernelFault, KernelHalf, KernelHandled, RootError, SyncError};
pub use kernel_pmds::KernelPmds;
pub use limits::{Limits, StackGap};
pub use pcid::PcidSlots;
pub use region::{Anon, Region};
pub use regions::Regions;
pub use root::UserRoot;
pub use sharing::{History, KernelSharing, SharingCounts, shared_kernel_pmd};
pub use space::{Place, Space};
pub use store::{Full, Lent, Store};
pub use switch::{Forget, Switch, switch_to, to_kernel_thread};
