//! What the host's CPU does best for memory that lies in this program.
//!
//! [`Vectors`] writes and changes runs of table entries by the widest vectors that the host has, which is asked once, at
//! run time. It is for memories of the host: the simulator's, or an array. A kernel keeps its vector registers for
//! programs, and goes by the loops of `kernmem_base::bulk`, which do the same word by word.
//!
//! Not here: where memory comes from, what entries mean.
//!
//! # Invariants
//! 1. A [`Vectors`] names what the CPU that runs this program was found to have.
//! 2. What a loop does to a slot is a Relaxed load or store of the whole slot. No slice of slots is seen as plain memory,
//!    so a caller who breaks a promise of `PhysMem` reads odd entries and nothing worse.
#![deny(unsafe_code)]

mod vectors;

pub use vectors::Vectors;
