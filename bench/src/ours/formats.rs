//! The formats that are measured: names, where ranges lie, and the bits of a kernel's data pages.
//!
//! Source: Linux 6.1 arch/arm64/include/asm/pgtable-prot.h `PAGE_KERNEL`, arch/x86/include/asm/pgtable_types.h
//! `PAGE_KERNEL`.

use kernmem_arch::EntryFormat;
use kernmem_arch::arm64::Arm64;
use kernmem_arch::i386::{I386Level2, I386Pae};
use kernmem_arch::x86::{X86Level4, X86Level5};
use kernmem_pgtable::Change;

use crate::tables::BASE;

/// A format with what a row needs of it.
pub trait Measured: EntryFormat + Send {
    /// Name in the tables of results.
    const NAME: &'static str;
    /// First address of the ranges.
    const FIRST: u64;
    /// log2 of a page's bytes.
    const PAGE_SHIFT: u32;
    /// Attributes of a writable page of the kernel's, accessed and dirty.
    const DATA: u64;
    /// Attributes of an entry that links a table.
    const LINK: u64;
    /// From writable to read-only.
    const READ_ONLY: Change;
}

/// Dirty in software, no execution at either level, DBM, shareable, accessed, valid.
const ARM64_DATA: u64 = 0x00e8_0000_0000_0703;

/// The same where the bits of shareability hold an address: 4K and 16K pages with 52 bits.
const ARM64_DATA_LPA2: u64 = ARM64_DATA & !0x300;

/// Read-only, and no DBM.
const ARM64_READ_ONLY: Change = Change { set: 1 << 7, clear: 1 << 51 };

/// Present, writable, accessed, dirty.
const X86_DATA: u64 = 0x63;

const NO_EXECUTE: u64 = 1 << 63;

const X86_READ_ONLY: Change = Change { set: 0, clear: 0b10 };

macro_rules! measured {
    ($($format:ty, $name:literal, $first:expr, $page:literal, $data:expr, $link:expr, $change:expr;)+) => {
        $(impl Measured for $format {
            const NAME: &'static str = $name;
            const FIRST: u64 = $first;
            const PAGE_SHIFT: u32 = $page;
            const DATA: u64 = $data;
            const LINK: u64 = $link;
            const READ_ONLY: Change = $change;
        })+
    };
}

measured! {
    Arm64<12, 39>, "ours arm64 4K/39", BASE, 12, ARM64_DATA, 0b11, ARM64_READ_ONLY;
    Arm64<12, 48>, "ours arm64 4K/48", BASE, 12, ARM64_DATA, 0b11, ARM64_READ_ONLY;
    Arm64<12, 52>, "ours arm64 4K/52", BASE, 12, ARM64_DATA_LPA2, 0b11, ARM64_READ_ONLY;
    Arm64<14, 36>, "ours arm64 16K/36", BASE / 2, 14, ARM64_DATA, 0b11, ARM64_READ_ONLY;
    Arm64<14, 47>, "ours arm64 16K/47", BASE, 14, ARM64_DATA, 0b11, ARM64_READ_ONLY;
    Arm64<14, 48>, "ours arm64 16K/48", BASE, 14, ARM64_DATA, 0b11, ARM64_READ_ONLY;
    Arm64<14, 52>, "ours arm64 16K/52", BASE, 14, ARM64_DATA_LPA2, 0b11, ARM64_READ_ONLY;
    Arm64<16, 42>, "ours arm64 64K/42", BASE, 16, ARM64_DATA, 0b11, ARM64_READ_ONLY;
    Arm64<16, 48>, "ours arm64 64K/48", BASE, 16, ARM64_DATA, 0b11, ARM64_READ_ONLY;
    Arm64<16, 52>, "ours arm64 64K/52", BASE, 16, ARM64_DATA, 0b11, ARM64_READ_ONLY;
    X86Level4, "ours x86-64", BASE, 12, X86_DATA | NO_EXECUTE, 0x63, X86_READ_ONLY;
    X86Level5, "ours x86-64 5 levels", BASE, 12, X86_DATA | NO_EXECUTE, 0x63, X86_READ_ONLY;
    I386Pae, "ours i386 PAE", 0x4000_0000, 12, X86_DATA | NO_EXECUTE, 0x63, X86_READ_ONLY;
    I386Level2, "ours i386 2 levels", 0x4000_0000, 12, X86_DATA, 0x63, X86_READ_ONLY;
}
