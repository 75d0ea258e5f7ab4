//! The CPU a kernel boots on: identification registers of arm64 models, flags of x86 ones.
//!
//! Here: the registers as tables and as decoded facts. Not here: what a kernel decides from them, but for the list of
//! arm64 models that need no page-table isolation.

mod arm64;

pub use arm64::{Arm64Cpu, KptiFacts};

/// A CPU of either architecture.
#[derive(Clone, PartialEq, Debug)]
pub enum Cpu {
    /// An arm64 CPU.
    Arm64(Arm64Cpu),
}

impl Cpu {
    /// The arm64 CPU, if it is one.
    #[must_use]
    pub const fn arm64(&self) -> Option<&Arm64Cpu> {
        match self {
            Self::Arm64(cpu) => Some(cpu),
        }
    }
}
