//! What the entries on the way to a page permit to data accesses.
//!
//! # Invariants
//! 1. A right that one entry on the way takes away is not given back by an entry below it.

use kernmem_arch::{Format, arm64, x86};
use kernmem_base::Privilege;

/// In a table descriptor of arm64: user mode reaches nothing below.
const NO_USER_BELOW: u64 = 1 << 61;
/// In a table descriptor of arm64: nothing below is writable.
const RDONLY_BELOW: u64 = 1 << 62;

/// What is left of the rights on the way down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Rights {
    /// Who asks may read.
    pub read: bool,
    /// Who asks may write.
    pub write: bool,
}

/// The rules by which bits give rights: one set for all formats of an architecture.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Rules {
    /// AP bits of descriptors, APTable bits of tables; no access and dirty marks by hardware.
    Arm64,
    /// RW and US bits, which every level must grant; the kernel obeys them too (CR0.WP).
    X86,
}

impl Rules {
    /// The rules of `format`: a root for each half is what tells arm64's formats from x86's.
    pub(crate) fn of(format: Format) -> Self {
        if format.has_root_per_half() { Self::Arm64 } else { Self::X86 }
    }

    /// What the root gives.
    pub(crate) const ALL: Rights = Rights { read: true, write: true };

    /// What is left of `rights` below a table entry with the attribute bits `bits`.
    pub(crate) const fn below(self, rights: Rights, bits: u64, privilege: Privilege) -> Rights {
        let (user, write) = match self {
            Self::Arm64 => (bits & NO_USER_BELOW == 0, bits & RDONLY_BELOW == 0),
            Self::X86 => (bits & x86::bit::USER != 0, bits & x86::bit::RW != 0),
        };
        left(rights, user, write, privilege)
    }

    /// What is left of `rights` in a leaf with the attribute bits `bits`.
    pub(crate) const fn in_leaf(self, rights: Rights, bits: u64, privilege: Privilege) -> Rights {
        let (user, write) = match self {
            Self::Arm64 => (bits & arm64::bit::USER != 0, bits & arm64::bit::RDONLY == 0),
            Self::X86 => (bits & x86::bit::USER != 0, bits & x86::bit::RW != 0),
        };
        left(rights, user, write, privilege)
    }

    /// Whether an access to a leaf faults because it was not marked as accessed: arm64 without hardware marks.
    pub(crate) const fn lacks_access_flag(self, bits: u64) -> bool {
        match self {
            Self::Arm64 => bits & arm64::bit::AF == 0,
            Self::X86 => false,
        }
    }
}

const fn left(rights: Rights, user: bool, write: bool, privilege: Privilege) -> Rights {
    let is_reached = match privilege {
        Privilege::User => user,
        Privilege::Kernel => true,
    };
    Rights { read: rights.read && is_reached, write: rights.write && write && is_reached }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RW: Rights = Rights { read: true, write: true };
    const RO: Rights = Rights { read: true, write: false };
    const NONE: Rights = Rights { read: false, write: false };

    #[test]
    fn x86_asks_every_level_and_arm64_lets_tables_only_take_away() {
        let (k, u) = (Privilege::Kernel, Privilege::User);
        // x86: present, writable, user = 0x7; present and writable = 0x3; present alone = 0x1.
        assert_eq!(Rules::X86.in_leaf(Rules::X86.below(Rules::ALL, 0x1, k), 0x3, k), RO);
        assert_eq!(Rules::X86.in_leaf(Rules::X86.below(Rules::ALL, 0x3, u), 0x7, u), NONE);
        assert_eq!(Rules::X86.in_leaf(Rules::X86.below(Rules::ALL, 0x7, u), 0x7, u), RW);
        // arm64: AP[1] = bit 6 lets user mode in, AP[2] = bit 7 forbids writing; APTable = bits 61 and 62.
        assert_eq!(Rules::Arm64.in_leaf(Rules::Arm64.below(Rules::ALL, 0x3, k), 0x703, k), RW);
        assert_eq!(Rules::Arm64.in_leaf(Rules::ALL, 0x783, k), RO);
        assert_eq!(Rules::Arm64.in_leaf(Rules::Arm64.below(Rules::ALL, 1 << 62 | 3, k), 0x703, k), RO);
        assert_eq!(Rules::Arm64.in_leaf(Rules::ALL, 0x703, u), NONE);
        assert_eq!(Rules::Arm64.in_leaf(Rules::Arm64.below(Rules::ALL, 1 << 61 | 3, u), 0x743, u), NONE);
        assert!(Rules::Arm64.lacks_access_flag(0x303) && !Rules::Arm64.lacks_access_flag(0x703));
    }
}
