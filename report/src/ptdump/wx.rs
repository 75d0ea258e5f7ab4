//! The check for mappings that can be written and executed, as the kernel makes it when its read-only data is sealed.
//!
//! | architecture | a run of entries counts | the message's head |
//! |---|---|---|
//! | arm64 | neither read only nor never executed; apart, what user mode could execute | none |
//! | x86-64, i386 | writable through all levels and not never executed | `x86/mm: ` |
//!
//! Not here: when the kernel asks (with CONFIG_DEBUG_WX, unless `rodata=off`); the tables are those of a finished boot.
//!
//! Source: Linux 5.10–7.2 arch/arm64/mm/ptdump.c `ptdump_check_wx`; arch/x86/mm/dump_pagetables.c
//! `ptdump_walk_pgd_level_core`.

use core::fmt;

/// Base pages that the check found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Wx {
    /// Writable and executable.
    pub pages: u64,
    /// arm64: not barred from execution by user mode.
    pub non_uxn: u64,
    /// The check is x86's.
    pub is_x86: bool,
}

impl Wx {
    /// Whether nothing was found.
    #[must_use]
    pub const fn passed(&self) -> bool {
        self.pages == 0 && self.non_uxn == 0
    }
}

impl fmt::Display for Wx {
    /// The kernel's message.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (head, stop) = if self.is_x86 { ("x86/mm: ", ".") } else { ("", "") };
        write!(f, "{head}Checked W+X mappings: ")?;
        match (self.passed(), self.is_x86) {
            (true, _) => write!(f, "passed, no W+X pages found{stop}"),
            (false, true) => write!(f, "FAILED, {} W+X pages found{stop}", self.pages),
            (false, false) => {
                write!(f, "FAILED, {} W+X pages found, {} non-UXN pages found", self.pages, self.non_uxn)
            }
        }
    }
}

/// Takes a listing and keeps nothing of it.
pub(super) struct Nowhere;

impl fmt::Write for Nowhere {
    fn write_str(&mut self, _text: &str) -> fmt::Result {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    /// The texts are those of the sources.
    #[test]
    fn messages_are_the_kernels() {
        let passed = Wx::default();
        assert_eq!(passed.to_string(), "Checked W+X mappings: passed, no W+X pages found");
        let failed = Wx { pages: 3, non_uxn: 1, is_x86: false };
        assert_eq!(failed.to_string(), "Checked W+X mappings: FAILED, 3 W+X pages found, 1 non-UXN pages found");
        let x86 = Wx { pages: 3, non_uxn: 0, is_x86: true };
        assert_eq!(x86.to_string(), "x86/mm: Checked W+X mappings: FAILED, 3 W+X pages found.");
    }
}
