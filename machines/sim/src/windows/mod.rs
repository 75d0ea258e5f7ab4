//! Windows: host memory that stands for a kernel's virtual regions and behaves as a TLB over its own tables.
//!
//! A window is a reserved slice of the host's address space, as large as its region. Nothing is mapped there at first.
//! An access faults; the handler walks the kernel's tables from the window's root and maps the frames of the memory
//! file that they name, with the rights that they give, for the longest run around the address. From then on the
//! access needs no help until the run is flushed or evicted: a window is stale until it is flushed, as a TLB is.
//! What the tables do not permit is a real fault: one line on standard error, and the process dies by the signal.
//!
//! * [`Windows`]: the windows of one machine; opens them and flushes them all ([`kernmem_base::Tlb`]).
//! * [`Window`]: one region: pointers, atomic slices, reads and writes that touch memory, [`Window::probe`].
//! * [`LinearWindow`]: the linear map as [`kernmem_base::LinearMem`].
//! * [`WindowFault`]: the kernel's view of a refused access, and the line that the handler prints.
//!
//! ```
//! use core::sync::atomic::AtomicU64;
//!
//! use kernmem_arch::Format;
//! use kernmem_base::{Access, PhysAddr, PhysMem, PhysRange, Slot, VirtAddr, VirtRange};
//! use kernmem_sim::{Memory, Windows};
//!
//! let memory = Memory::new([PhysRange::new(PhysAddr(0), PhysAddr(1 << 20))])?;
//! // x86-64: four tables map the first page of the upper half, writable, to the frame at 0x8000.
//! for (table, index, entry) in
//!     [(0x1000, 256, 0x2003), (0x2000, 0, 0x3003), (0x3000, 0, 0x4003), (0x4000, 0, 0x8003)]
//! {
//!     memory.table_mut::<AtomicU64>(PhysAddr(table), 512)?[index].publish(entry);
//! }
//! let windows = Windows::new(&memory)?;
//! let start = VirtAddr(0xffff_8000_0000_0000);
//! let region = VirtRange::of_size(start, 1 << 30).ok_or("empty")?;
//! let window = windows.open(region, PhysAddr(0x1000), Format::X86Level4)?;
//!
//! window.write(start + 16, &42_u64.to_le_bytes())?; // a store of this CPU, through the kernel's tables
//! assert_eq!(Slot::load(&memory.table_mut::<AtomicU64>(PhysAddr(0x8010), 1)?[0]), 42);
//! let fault = window.probe(start + 4096, Access::Write).unwrap_err(); // a real access would end the process
//! let text = "kernmem-window-fault va=0xffff800000001000 access=write kind=translation level=pte";
//! assert_eq!(fault.to_string(), text);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Not here: what the tables should say, the software MMU, who flushes when. Access and dirty marks are not written.
//!
//! # How a fault is judged without asking the CPU
//! The signal tells the address, but portably not whether it was a read or a write. The verdict does not need that:
//! 1. No fill holds the address: the tables are walked under the window's lock. They permit reading: the run is
//!    mapped with all rights that they give, and the access runs again. They do not: no access is permitted.
//! 2. A fill holds the address and the tables now give more than it: the fill is replaced, the access runs again.
//! 3. A fill holds the address and the tables give no more: either another thread made the fill after this access had
//!    faulted, or the fill forbids the access. The handler notes the pair of address and fill for this thread and
//!    lets the access run again. Fills have numbers that are never used twice, and a fill's rights never change: if
//!    the same thread comes back with the same pair, the fill was in place during the whole second try and refused
//!    it. A fill always permits reading, and one that also permits writing refuses nothing but execution. So the
//!    access was a write, and the fault is one of permission.
//!
//! Only the word `read` or `write` of a fault under 1 comes from the host CPU's own report, where it makes one;
//! otherwise the line says `unknown`.
//!
//! # Limits
//! A region is reserved whole, as one mapping that gives no access: that costs nothing, keeps the distance of any two
//! addresses, and makes a pointer one addition. The host gives programs less address space than kernels have (128 TiB
//! on most x86-64 hosts): what does not fit is refused, and the machine runs without that window or with one over
//! the part that it uses. The host also gives a process 65,530 mappings: windows share what is left of them.
//!
//! # Invariants
//! 1. A window's host addresses hold either nothing or frames of its machine's memory file, never executable, and
//!    belong to the window from its opening to its end.
//! 2. What is mapped is the sum of the window's fills; a fill appears and goes as a whole.
//! 3. Tables are read and fills change only under the window's lock: a flush that returned was either before a walk,
//!    which then sees the new entries, or has removed what the walk had mapped.
//! 4. The handler allocates nothing, and takes no lock whose holder touches a window.
//! 5. A [`LinearWindow`] never maps a frame at any other place than its own.
//!
//! Locks: `Windows::open` (outer), the window's spin lock (inner); see `LOCKS.md`.

mod cause;
mod control;
mod error;
mod fault;
mod fills;
mod handler;
mod host;
mod linear;
mod region;
mod registry;
mod set;
mod spin;
mod walk;
mod window;

pub use error::{AccessError, WindowError};
pub use fault::{WindowFault, WindowFaultKind};
pub use linear::LinearWindow;
pub use set::Windows;
pub use window::{Window, WindowCounters};
