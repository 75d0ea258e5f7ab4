//! The experiments of the documents, each with its claim, run and verdict.
//!
//! A *claim* is a sentence of one of the documents that `docs/claims.md` numbers. A [`Lab`] states the claims of one
//! subject, runs them on the simulated machine, shows the numbers, and judges each: true, true under a condition, or
//! false on this era with what is true instead.
//!
//! * [`LABS`], [`find`], [`run`]: the labs and the way in.
//! * [`LabOptions`]: another machine, another command line, the other way round.
//! * [`Verdict`], [`Holds`], [`Value`]: the answer, numbers apart from texts.
//! * [`texts`]: every sentence by its key, one file a language.
//!
//! Not here: rules of Linux (the layers above), arguments and output (`faces/cli`).
//!
//! # Invariants
//! 1. A number in a text comes from the run, and stands in the verdict under the same name.
//! 2. A sentence stands in `texts` and nowhere else.
//!
//! # Example
//!
//! ```
//! use kernmem_labs::{LabOptions, find, run};
//!
//! let mut told = String::new();
//! let verdicts = run(find("ttbr").unwrap(), &LabOptions::default(), &mut told).unwrap();
//! assert_eq!(verdicts[0].claim.to_string(), "001.4");
//! ```
#![forbid(unsafe_code)]

mod bench;
mod claim;
mod error;
mod lab;
mod labs;
mod notebook;
mod options;
mod tables;
pub mod texts;

pub use claim::ClaimId;
pub use error::LabError;
pub use lab::{LABS, Lab, find, run};
pub use notebook::{Holds, Number, Value, Verdict};
pub use options::{LabOptions, Language};
