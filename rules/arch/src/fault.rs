//! What an MMU says of an access that it refuses.

use core::fmt;

use kernmem_base::{Access, Level, Privilege, VirtAddr};

/// Why an access is refused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum FaultKind {
    /// x86: the upper bits of the address disagree; no page fault but a general protection fault.
    NonCanonical,
    /// No entry maps the address.
    Translation,
    /// x86: an entry has a bit that must be zero.
    ReservedBit,
    /// arm64: an entry or a root points beyond the physical address size.
    AddressSize,
    /// arm64: the leaf was never accessed, and the hardware does not mark it.
    AccessFlag,
    /// The rights do not suffice.
    Permission,
    /// No memory answers: at the level of a table, or without a level for the data.
    External,
    /// arm64: two entries of the TLB translate the address.
    TlbConflict,
}

/// A refusal before it is known who asked for what.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// Why.
    pub kind: FaultKind,
    /// Where in the tables; `None` where no table was to be read.
    pub level: Option<Level>,
}

/// What the CPU's registers say of a fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Syndrome {
    /// arm64: an abort with this ESR_EL1.
    Arm64 {
        /// The register.
        esr: u64,
    },
    /// x86: a page fault with this error code.
    X86PageFault {
        /// What the CPU pushes.
        code: u32,
    },
    /// x86: a general protection fault with error code 0; CR2 stays.
    X86GeneralProtection,
    /// x86: a machine check.
    X86MachineCheck,
}

/// An access that the MMU refused; nothing was read or written for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    /// The address as the instruction named it: what FAR_EL1 or CR2 holds.
    pub va: VirtAddr,
    /// What was to be done.
    pub access: Access,
    /// By whom.
    pub privilege: Privilege,
    /// Why it was refused.
    pub kind: FaultKind,
    /// Where in the tables; `None` where no table was to be read.
    pub level: Option<Level>,
    /// What the registers say.
    pub syndrome: Syndrome,
}

impl Fault {
    /// ESR_EL1 of an arm64 CPU.
    #[must_use]
    pub const fn esr(&self) -> Option<u64> {
        match self.syndrome {
            Syndrome::Arm64 { esr } => Some(esr),
            Syndrome::X86PageFault { .. } | Syndrome::X86GeneralProtection | Syndrome::X86MachineCheck => None,
        }
    }

    /// The error code of an x86 page fault.
    #[must_use]
    pub const fn error_code(&self) -> Option<u32> {
        match self.syndrome {
            Syndrome::X86PageFault { code } => Some(code),
            Syndrome::Arm64 { .. } | Syndrome::X86GeneralProtection | Syndrome::X86MachineCheck => None,
        }
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::NonCanonical => "non-canonical address",
            Self::Translation => "translation fault",
            Self::ReservedBit => "reserved bit",
            Self::AddressSize => "address size fault",
            Self::AccessFlag => "access flag fault",
            Self::Permission => "permission fault",
            Self::External => "external abort",
            Self::TlbConflict => "conflict in the TLB",
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = match self.privilege {
            Privilege::User => "user",
            Privilege::Kernel => "kernel",
        };
        let what = match self.access {
            Access::Read => "read",
            Access::Write => "write",
            Access::Execute => "fetch",
        };
        write!(f, "{who} {what} at {:#018x}: {}", self.va, self.kind)?;
        match self.level {
            Some(level) => write!(f, " at {level}"),
            None => Ok(()),
        }
    }
}

impl core::error::Error for Fault {}
