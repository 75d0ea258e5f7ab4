//! A refused access as the kernel would see it, and the line that tells it.
//!
//! ```text
//! kernmem-window-fault va=0xffff000040001000 access=write kind=permission level=pte
//! ```
//!
//! # Invariants
//! 1. Printing allocates nothing and is one write of one line.

use core::fmt;

use kernmem_arch::FaultKind;
use kernmem_base::{Access, Level, VirtAddr};

/// What is wrong with an access.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum WindowFaultKind {
    /// What the MMU of the kernel's machine would say.
    Mmu(FaultKind),
    /// In a linear map: the entries name another frame than the address stands for.
    NotLinear,
    /// The host would not map the frame.
    Host {
        /// Its reason.
        errno: i32,
    },
}

impl fmt::Display for WindowFaultKind {
    /// One word.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mmu(FaultKind::NonCanonical) => "non-canonical",
            Self::Mmu(FaultKind::Translation) => "translation",
            Self::Mmu(FaultKind::ReservedBit) => "reserved-bit",
            Self::Mmu(FaultKind::AddressSize) => "address-size",
            Self::Mmu(FaultKind::AccessFlag) => "access-flag",
            Self::Mmu(FaultKind::Permission) => "permission",
            Self::Mmu(FaultKind::External) => "external",
            Self::Mmu(FaultKind::TlbConflict) => "tlb-conflict",
            Self::NotLinear => "not-linear",
            Self::Host { errno } => return write!(f, "host-{errno}"),
        })
    }
}

/// An access that a window's tables do not permit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WindowFault {
    /// The address in the kernel's own address space.
    pub va: VirtAddr,
    /// What was tried; `None` if the host's CPU does not tell and the tables forbid either.
    pub access: Option<Access>,
    /// What is wrong with it.
    pub kind: WindowFaultKind,
    /// The level of the entry that says so; for a table that cannot be read, the table's level; `None` where the
    /// tables are not to blame.
    pub level: Option<Level>,
}

impl fmt::Display for WindowFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let access = match self.access {
            Some(Access::Read) => "read",
            Some(Access::Write) => "write",
            Some(Access::Execute) => "execute",
            None => "unknown",
        };
        let level = match self.level {
            Some(Level::Pgd) => "pgd",
            Some(Level::P4d) => "p4d",
            Some(Level::Pud) => "pud",
            Some(Level::Pmd) => "pmd",
            Some(Level::Pte) => "pte",
            None => "none",
        };
        let (va, kind) = (self.va.0, self.kind);
        write!(f, "kernmem-window-fault va={va:#018x} access={access} kind={kind} level={level}")
    }
}

impl core::error::Error for WindowFault {}

/// A line of bounded length, for printing without allocation.
#[derive(Debug)]
pub(crate) struct Line {
    bytes: [u8; 160],
    used: usize,
}

impl Line {
    /// The line of `fault`, with its end.
    pub(crate) fn of(fault: &WindowFault) -> Self {
        let mut line = Self { bytes: [0; 160], used: 0 };
        // A longer text would be cut: `write_str` never fails.
        let _ = fmt::write(&mut line, format_args!("{fault}\n"));
        line
    }

    /// Its bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.used).unwrap_or_default()
    }
}

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for (to, from) in self.bytes.iter_mut().skip(self.used).zip(text.bytes()) {
            *to = from;
            self.used += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_names_address_access_kind_and_level() {
        let fault = WindowFault {
            va: VirtAddr(0xffff_0000_4000_1000),
            access: Some(Access::Write),
            kind: WindowFaultKind::Mmu(FaultKind::Permission),
            level: Some(Level::Pte),
        };
        let expected = b"kernmem-window-fault va=0xffff000040001000 access=write kind=permission level=pte\n";
        assert_eq!(Line::of(&fault).bytes(), expected);
        let kind = WindowFaultKind::Host { errno: 12 };
        let low = WindowFault { va: VirtAddr(0x40_0000), access: None, kind, level: None };
        let expected = b"kernmem-window-fault va=0x0000000000400000 access=unknown kind=host-12 level=none\n";
        assert_eq!(Line::of(&low).bytes(), expected);
    }
}
