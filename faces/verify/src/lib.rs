//! Verification: a recording's machine booted from its inputs alone, and held against what its kernel wrote.
//!
//! [`verify`] compares every file that it can: listings, the boot log's memory lines, the log of `memblock=debug`,
//! the DirectMap counters, the section size, zones with their figures, the boot allocator's lists. What cannot follow from
//! the inputs is left out by an [`Exclusion`]: a predicate on region and event, never on a recording's name or an address; how many lines each took is in the
//! [`Tally`]. `testing` shows that recordings fail without them; the two that no recording in the tree needs (freed
//! objects of KFENCE, foreign lines) have tests of their own.
//!
//! A recording may lack files: the rest is compared, and the [`Verdict`] names what it lacks.
//!
//! [`minimal`] turns the comparison round: which options turn one kernel's page tables into given ones.
//!
//! Not here: what Linux does (`kernmem`), what it prints (`kernmem-report`), which files are inputs (`kernmem-source`).
#![forbid(unsafe_code)]

mod change;
mod console;
mod exclude;
mod listing;
mod minimal;
mod missing;
mod tally;
mod verify;
mod zones;

pub use change::{Change, Kind};
pub use exclude::Exclusion;
pub use listing::{Line, Listing};
pub use minimal::{Found, Goal, Search, minimal};
pub use missing::Missing;
pub use tally::{FileTally, Tally};
pub use verify::{Verdict, VerifyError, listing_of, verify, verify_without};
