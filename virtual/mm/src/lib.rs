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
pub use limits::{Limits, StackGap};
pub use pcid::PcidSlots;
pub use region::{Anon, Region};
pub use regions::Regions;
pub use root::UserRoot;
pub use sharing::{History, KernelSharing, SharingCounts};
pub use space::{Place, Space};
pub use store::{Full, Lent, Store};
pub use switch::{Forget, Switch, switch_to, to_kernel_thread};
