//! ESR_EL1 of instruction and data aborts.
//!
//! Source: Arm ARM, D24 "ESR_EL1", ISS encodings of instruction and data aborts; Linux 5.10–7.2
//! arch/arm64/mm/fault.c `fault_info`.

use kernmem_base::{Access, Privilege};

const CLASS_SHIFT: u32 = 26;
const INSTRUCTION_FROM_USER: u64 = 0x20;
const INSTRUCTION: u64 = 0x21;
const DATA_FROM_USER: u64 = 0x24;
const DATA: u64 = 0x25;
/// IL: the instruction has 32 bits, and so has every abort without further words on the instruction.
const IL: u64 = 1 << 25;
/// WnR: a write.
const WRITE: u64 = 1 << 6;

/// The fault status code. Levels are the architecture's, -1 to 3.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    /// An address beyond the physical address size; level 0 also for the root.
    AddressSize(i8),
    /// No valid entry.
    Translation(i8),
    /// The access flag is clear; levels 0 to 3.
    AccessFlag(i8),
    /// Rights do not suffice; levels 0 to 3.
    Permission(i8),
    /// Synchronous external abort, not on a walk.
    External,
    /// Synchronous tag check fault.
    TagCheck,
    /// Synchronous external abort on a walk.
    ExternalOnWalk(i8),
    /// Parity or ECC error, not on a walk.
    Parity,
    /// Parity or ECC error on a walk.
    ParityOnWalk(i8),
    /// Alignment fault.
    Alignment,
    /// Two TLB entries translate the address.
    TlbConflict,
    /// Unsupported atomic hardware update.
    AtomicUpdate,
    /// Lockdown.
    Lockdown,
    /// Unsupported exclusive or atomic access.
    Exclusive,
    /// Section domain fault.
    SectionDomain,
    /// Page domain fault.
    PageDomain,
    /// No meaning is defined.
    Unknown(u8),
}

/// The code of a level: `minus_one` at level -1, else `zero` and up; levels past 3 count as 3.
const fn of_level(level: i8, minus_one: u8, zero: u8) -> u8 {
    match level {
        ..=-1 => minus_one,
        0..=3 => zero + level as u8,
        _ => zero + 3,
    }
}

const fn level(code: u8) -> i8 {
    (code & 3) as i8
}

impl Status {
    /// Bits 5:0 of the syndrome. A level that a kind does not have is taken for its nearest.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::AddressSize(level) => of_level(level, 0x29, 0x00),
            Self::Translation(level) => of_level(level, 0x2b, 0x04),
            Self::AccessFlag(level) => of_level(level, 0x08, 0x08),
            Self::Permission(level) => of_level(level, 0x0c, 0x0c),
            Self::External => 0x10,
            Self::TagCheck => 0x11,
            Self::ExternalOnWalk(level) => of_level(level, 0x13, 0x14),
            Self::Parity => 0x18,
            Self::ParityOnWalk(level) => of_level(level, 0x1b, 0x1c),
            Self::Alignment => 0x21,
            Self::TlbConflict => 0x30,
            Self::AtomicUpdate => 0x31,
            Self::Lockdown => 0x34,
            Self::Exclusive => 0x35,
            Self::SectionDomain => 0x3d,
            Self::PageDomain => 0x3e,
            Self::Unknown(code) => code & 0x3f,
        }
    }

    /// The meaning of bits 5:0; higher bits are ignored.
    #[must_use]
    pub const fn of_code(code: u8) -> Self {
        match code & 0x3f {
            0x00..=0x03 => Self::AddressSize(level(code)),
            0x04..=0x07 => Self::Translation(level(code)),
            0x08..=0x0b => Self::AccessFlag(level(code)),
            0x0c..=0x0f => Self::Permission(level(code)),
            0x10 => Self::External,
            0x11 => Self::TagCheck,
            0x13 => Self::ExternalOnWalk(-1),
            0x14..=0x17 => Self::ExternalOnWalk(level(code)),
            0x18 => Self::Parity,
            0x1b => Self::ParityOnWalk(-1),
            0x1c..=0x1f => Self::ParityOnWalk(level(code)),
            0x21 => Self::Alignment,
            0x29 => Self::AddressSize(-1),
            0x2b => Self::Translation(-1),
            0x30 => Self::TlbConflict,
            0x31 => Self::AtomicUpdate,
            0x34 => Self::Lockdown,
            0x35 => Self::Exclusive,
            0x3d => Self::SectionDomain,
            0x3e => Self::PageDomain,
            other => Self::Unknown(other),
        }
    }
}

/// An abort as ESR_EL1 tells it, without the optional words on the instruction (ISV).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Abort {
    /// A fetch is an instruction abort, a read or a write a data abort.
    pub access: Access,
    /// From EL0, or from EL1 itself.
    pub privilege: Privilege,
    /// Why.
    pub status: Status,
}

impl Abort {
    /// The register.
    #[must_use]
    pub const fn esr(self) -> u64 {
        let (class, write) = match (self.access, self.privilege) {
            (Access::Execute, Privilege::User) => (INSTRUCTION_FROM_USER, 0),
            (Access::Execute, Privilege::Kernel) => (INSTRUCTION, 0),
            (Access::Read, Privilege::User) => (DATA_FROM_USER, 0),
            (Access::Read, Privilege::Kernel) => (DATA, 0),
            (Access::Write, Privilege::User) => (DATA_FROM_USER, WRITE),
            (Access::Write, Privilege::Kernel) => (DATA, WRITE),
        };
        class << CLASS_SHIFT | IL | write | self.status.code() as u64
    }

    /// What the register tells; `None` if it tells of something else than an abort.
    #[must_use]
    pub const fn of_esr(esr: u64) -> Option<Self> {
        let data = if esr & WRITE != 0 { Access::Write } else { Access::Read };
        let (access, privilege) = match esr >> CLASS_SHIFT & 0x3f {
            INSTRUCTION_FROM_USER => (Access::Execute, Privilege::User),
            INSTRUCTION => (Access::Execute, Privilege::Kernel),
            DATA_FROM_USER => (data, Privilege::User),
            DATA => (data, Privilege::Kernel),
            _ => return None,
        };
        Some(Self { access, privilege, status: Status::of_code((esr & 0x3f) as u8) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn abort(access: Access, privilege: Privilege, status: Status) -> Abort {
        Abort { access, privilege, status }
    }

    #[test]
    fn every_status_code_has_a_meaning_and_comes_back() {
        for code in 0..64 {
            assert_eq!(Status::of_code(code).code(), code);
        }
        // Facts 13.1, the codes with a meaning.
        let known = (0..64).filter(|&code| !matches!(Status::of_code(code), Status::Unknown(_))).count();
        assert_eq!(known, 16 + 2 + 5 + 6 + 1 + 2 + 2 + 2 + 2);
    }

    #[test]
    fn registers_computed_by_hand() {
        use Access::{Execute, Read, Write};
        use Privilege::{Kernel, User};
        let table = [
            (Read, Kernel, Status::Translation(0), 0x9600_0004),
            (Write, Kernel, Status::Translation(3), 0x9600_0047),
            (Write, Kernel, Status::Permission(2), 0x9600_004e),
            (Read, User, Status::Translation(2), 0x9200_0006),
            (Write, User, Status::AccessFlag(3), 0x9200_004b),
            (Execute, Kernel, Status::Permission(3), 0x8600_000f),
            (Execute, User, Status::Translation(1), 0x8200_0005),
            (Read, Kernel, Status::AddressSize(1), 0x9600_0001),
            (Read, Kernel, Status::External, 0x9600_0010),
            (Read, Kernel, Status::ExternalOnWalk(3), 0x9600_0017),
            (Read, Kernel, Status::TlbConflict, 0x9600_0030),
            (Read, Kernel, Status::Translation(-1), 0x9600_002b),
        ];
        for (access, privilege, status, esr) in table {
            let told = abort(access, privilege, status);
            assert_eq!(told.esr(), esr, "{told:?}");
            assert_eq!(Abort::of_esr(esr), Some(told));
        }
        assert_eq!(Abort::of_esr(0x22 << 26 | 1 << 25), None, "PC alignment is no abort");
    }
}
