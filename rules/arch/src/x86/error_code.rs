//! The error code of a page fault.
//!
//! Source: Intel SDM volume 3, 4.7 "Page-fault exceptions"; Linux 6.12 arch/x86/include/asm/trap_pf.h.

use kernmem_base::{Access, Privilege};

use crate::FaultKind;

/// What the CPU pushes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ErrorCode(pub u32);

impl ErrorCode {
    /// The page is present: a violation of rights or a reserved bit.
    pub const PROTECTION: u32 = 1 << 0;
    /// A write.
    pub const WRITE: u32 = 1 << 1;
    /// From user mode.
    pub const USER: u32 = 1 << 2;
    /// An entry has a reserved bit.
    pub const RESERVED: u32 = 1 << 3;
    /// An instruction fetch.
    pub const FETCH: u32 = 1 << 4;
    /// A protection key refuses.
    pub const KEY: u32 = 1 << 5;
    /// A shadow-stack access.
    pub const SHADOW_STACK: u32 = 1 << 6;
    /// Enclaves refuse.
    pub const SGX: u32 = 1 << 15;
    /// The reverse map of SEV-SNP refuses.
    pub const RMP: u32 = 1 << 31;

    /// The code of a fault; `None` if it is no page fault. Fetches are told only where `tells_fetch`: the CPU has
    /// pages that are not executable, or SMEP.
    #[must_use]
    pub const fn of(kind: FaultKind, access: Access, privilege: Privilege, tells_fetch: bool) -> Option<Self> {
        let why = match kind {
            FaultKind::Translation => 0,
            FaultKind::ReservedBit => Self::PROTECTION | Self::RESERVED,
            FaultKind::Permission => Self::PROTECTION,
            FaultKind::NonCanonical
            | FaultKind::AddressSize
            | FaultKind::AccessFlag
            | FaultKind::External
            | FaultKind::TlbConflict => return None,
        };
        let what = match access {
            Access::Read => 0,
            Access::Write => Self::WRITE,
            Access::Execute if tells_fetch => Self::FETCH,
            Access::Execute => 0,
        };
        let who = match privilege {
            Privilege::User => Self::USER,
            Privilege::Kernel => 0,
        };
        Some(Self(why | what | who))
    }

    /// Whether all of `bits` are set.
    #[must_use]
    pub const fn has(self, bits: u32) -> bool {
        self.0 & bits == bits
    }

    /// Why.
    #[must_use]
    pub const fn kind(self) -> FaultKind {
        if !self.has(Self::PROTECTION) {
            FaultKind::Translation
        } else if self.has(Self::RESERVED) {
            FaultKind::ReservedBit
        } else {
            FaultKind::Permission
        }
    }

    /// What was to be done.
    #[must_use]
    pub const fn access(self) -> Access {
        if self.has(Self::FETCH) {
            Access::Execute
        } else if self.has(Self::WRITE) {
            Access::Write
        } else {
            Access::Read
        }
    }

    /// By whom.
    #[must_use]
    pub const fn privilege(self) -> Privilege {
        if self.has(Self::USER) { Privilege::User } else { Privilege::Kernel }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Facts 13.2: P 1, W 2, U 4, RSVD 8, I 16.
    #[test]
    fn codes_computed_by_hand_go_both_ways() {
        use Access::{Execute, Read, Write};
        use Privilege::{Kernel, User};
        let table = [
            (FaultKind::Translation, Read, Kernel, 0x00),
            (FaultKind::Translation, Write, Kernel, 0x02),
            (FaultKind::Translation, Write, User, 0x06),
            (FaultKind::Translation, Execute, User, 0x14),
            (FaultKind::Translation, Execute, Kernel, 0x10),
            (FaultKind::Permission, Write, User, 0x07),
            (FaultKind::Permission, Write, Kernel, 0x03),
            (FaultKind::Permission, Execute, Kernel, 0x11),
            (FaultKind::Permission, Read, User, 0x05),
            (FaultKind::ReservedBit, Read, Kernel, 0x09),
            (FaultKind::ReservedBit, Write, User, 0x0f),
            (FaultKind::ReservedBit, Execute, User, 0x1d),
        ];
        for (kind, access, privilege, code) in table {
            let told = ErrorCode::of(kind, access, privilege, true).unwrap();
            assert_eq!(told.0, code, "{kind:?} {access:?} {privilege:?}");
            assert_eq!((told.kind(), told.access(), told.privilege()), (kind, access, privilege));
        }
        assert_eq!(ErrorCode::of(FaultKind::Translation, Execute, User, false), Some(ErrorCode(4)));
        assert_eq!(ErrorCode::of(FaultKind::NonCanonical, Read, User, true), None);
    }
}
