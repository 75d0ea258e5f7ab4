//! The performance rows, defined once, with our own contenders.
//!
//! A contender is what implements [`tables::Tables`] or [`frames::Frames`]; the workloads are generic over the trait. Other
//! people's crates are contenders in the workspace `bench/peers`, so that this one builds without them.
//!
//! * [`tables`], [`frames`]: the rows' workloads.
//! * `ours`: our contenders; [`floor`], [`linux_model`], [`densest`]: those that are nobody's product.
//! * [`arena`], [`host`]: the memory that page tables lie in; [`time`], [`rng`].
#![deny(unsafe_code)]

pub mod aims;
pub mod arena;
pub mod counts;
pub mod densest;
pub mod floor;
pub mod frames;
pub mod host;
pub mod linux_model;
mod ours;
pub mod recorded;
pub mod report;
pub mod rng;
pub mod rows;
pub mod run;
pub mod stats;
pub mod tables;
pub mod time;
pub mod verdict;
