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
