//! Pages of user mode: what a format says about rights, age and dirtiness in the last level.
//!
//! Here: [`UserRights`], and [`UserFormat`], the part of a format that a process's tables need beyond [`EntryFormat`].
//! Not here: which pages a process has (`kernmem-mm`); the kernel's own protections (`prot` of each architecture).
//!
//! Source: Linux 5.10–7.2 arch/arm64/include/asm/pgtable.h, arch/x86/include/asm/pgtable.h.

use kernmem_base::{Era, PhysAddr};

use crate::EntryFormat;

/// What a program may do with a range of its addresses.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct UserRights {
    /// Read data.
    pub read: bool,
    /// Write data.
    pub write: bool,
    /// Fetch instructions.
    pub execute: bool,
}

impl UserRights {
    /// None at all.
    pub const NONE: Self = Self { read: false, write: false, execute: false };
    /// Reading.
    pub const READ: Self = Self { read: true, write: false, execute: false };
    /// Reading and writing.
    pub const READ_WRITE: Self = Self { read: true, write: true, execute: false };
    /// Reading and executing.
    pub const READ_EXECUTE: Self = Self { read: true, write: false, execute: true };

    /// Whether any right is there.
    #[must_use]
    pub const fn any(self) -> bool {
        self.read || self.write || self.execute
    }
}

/// What a format says about the pages and tables of user mode.
///
/// Attributes are those of a base page. A page without rights is present for software and not for the MMU: its entry
/// decodes as absent, and only [`UserFormat::page`] finds the memory that it names.
///
/// Laws, for every era and every `base` that the format can name: `page(page_raw(base, attrs))` is `(base, attrs)`
/// for the attributes that [`UserFormat::protection`] gives and those that the other functions make of them; a
/// write-protected page is not writable and as dirty as it was.
pub trait UserFormat: EntryFormat {
    /// The first slot of a process's root that belongs to the kernel; `None` where the kernel has a root of its own.
    const KERNEL_SLOT: Option<usize>;

    /// The attributes that a region gives to its pages. A private page that may be written is born read only: the
    /// fault that makes the private copy makes it writable. Execute-only pages are readable: the CPU is taken to have
    /// no EPAN.
    fn protection(era: Era, rights: UserRights, shared: bool) -> Self::Attrs;

    /// The attributes of an entry that links a table of user mode.
    fn table(era: Era) -> Self::Attrs;

    /// The raw entry of the page at `base`.
    fn page_raw(base: PhysAddr, attrs: Self::Attrs) -> u64;

    /// The page that a raw entry of the last level names, also one without rights; `None` for anything else.
    fn page(era: Era, raw: u64) -> Option<(PhysAddr, Self::Attrs)>;

    /// Whether the MMU uses the entry.
    fn is_valid(attrs: Self::Attrs) -> bool;

    /// Whether the page was accessed.
    fn is_young(attrs: Self::Attrs) -> bool;

    /// Whether the page was written, by what hardware or software noted.
    fn is_dirty(era: Era, attrs: Self::Attrs) -> bool;

    /// Whether a write is allowed, though it may still have to be noted.
    fn is_writable(attrs: Self::Attrs) -> bool;

    /// Whether no page descriptor stands behind the entry, as for the zero page.
    fn is_special(attrs: Self::Attrs) -> bool;

    /// Marks the page accessed.
    fn make_young(attrs: Self::Attrs) -> Self::Attrs;

    /// Takes the mark of [`UserFormat::make_young`] off.
    fn make_old(attrs: Self::Attrs) -> Self::Attrs;

    /// Marks the page special.
    fn make_special(attrs: Self::Attrs) -> Self::Attrs;

    /// Allows writes and notes one.
    fn make_written(era: Era, attrs: Self::Attrs) -> Self::Attrs;

    /// Forbids writes and keeps what is known of earlier ones.
    fn write_protect(era: Era, attrs: Self::Attrs) -> Self::Attrs;

    /// Gives the page other rights and keeps its marks.
    fn reprotect(era: Era, attrs: Self::Attrs, protection: Self::Attrs) -> Self::Attrs;
}
