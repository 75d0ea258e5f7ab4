//! The CPU a kernel boots on: identification registers of arm64 models, flags of x86 ones.
//!
//! Here: the registers as tables and as decoded facts. Not here: what a kernel decides from them, but for the list of
//! arm64 models that need no page-table isolation.

mod arm64;
mod x86;

pub use arm64::{Arm64Cpu, KptiFacts};
pub use x86::X86Cpu;

/// A CPU of either architecture.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Cpu {
    /// An arm64 CPU.
    Arm64(Arm64Cpu),
    /// An x86 CPU.
    X86(X86Cpu),
}

impl Cpu {
    /// The arm64 CPU, if it is one.
    #[must_use]
    pub const fn arm64(&self) -> Option<&Arm64Cpu> {
        match self {
            Self::Arm64(cpu) => Some(cpu),
            Self::X86(_) => None,
        }
    }

    /// The x86 CPU, if it is one.
    #[must_use]
    pub const fn x86(&self) -> Option<&X86Cpu> {
        match self {
            Self::Arm64(_) => None,
            Self::X86(cpu) => Some(cpu),
        }
    }
}
