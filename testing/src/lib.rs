//! Recordings of real kernels, and the comparators that read them.
//!
//! [`verify`] boots a recording's machine from its inputs alone and compares every file that it can: listings, the
//! boot log's memory lines, the log of `memblock=debug`, the DirectMap counters, the section size. What cannot follow
//! from the inputs is left out by an [`Exclusion`]: a predicate on region and event, never on a recording's name or
//! an address; how many lines each took is in the tally, and without it the comparison fails.
//!
//! Not here: what Linux does (`kernmem`), what it prints (`kernmem-report`).
#![forbid(unsafe_code)]

mod causal;
mod console;
mod exclude;
mod listing;
mod raw;
mod tally;
mod verify;

pub use causal::{CausalTally, causal};
pub use exclude::Exclusion;
pub use listing::{Line, Listing};
pub use raw::{Difference, Event, RawTally, raw_check};
pub use tally::{FileTally, Tally};
pub use verify::{Verdict, VerifyError, listing_of, verify, verify_without};
