//! Comparators over recordings of real kernels that only tests need.
//!
//! * [`causal`]: reasons are causes: flip the options that leaves name, and just those leaves change.
//! * [`raw_check`]: table pages and frame numbers against a memory dump.
//! * [`trim`]: a dump with nothing but page tables in it.
//!
//! The recordings are in `recordings/`, constants out of the kernels' headers in `golden/`. Not here: the verification
//! that users run (`kernmem-verify`).
#![forbid(unsafe_code)]

mod causal;
mod raw;
mod roots;
mod trim;

pub use causal::{CausalTally, causal};
pub use raw::{Difference, Event, RawTally, raw_check};
pub use roots::without_mark;
pub use trim::trim;
