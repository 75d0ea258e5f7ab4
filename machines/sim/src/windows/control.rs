//! The registers under which a window's accesses are judged.

use kernmem_arch::{Format, arm64, x86};

/// Registers of the CPU that a window stands for. Neither the kernel's guard against user pages (PAN, SMAP) nor
/// accessed and dirty marks by hardware are on: a window writes nothing into tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Control {
    /// Page size and bits beside the registers.
    Arm64(arm64::Geometry, arm64::mmu::Control),
    /// Four levels.
    X86Level4(x86::mmu::Control),
    /// Five levels.
    X86Level5(x86::mmu::Control),
    /// 64-bit entries in three levels.
    I386Pae(x86::mmu::Control),
    /// 32-bit entries in two levels.
    I386Level2(x86::mmu::Control),
}

impl Control {
    /// The registers for `format`; `None` for a format that windows do not know.
    pub(crate) fn of(format: Format) -> Option<Self> {
        match format {
            Format::Arm64(tables) => {
                Some(Self::Arm64(tables, arm64::mmu::Control::default().with_tables(tables, tables.va_bits())))
            }
            Format::X86Level4 => Some(Self::X86Level4(x86_control())),
            Format::X86Level5 => Some(Self::X86Level5(x86_control())),
            Format::I386Pae => Some(Self::I386Pae(x86_control())),
            Format::I386Level2 => Some(Self::I386Level2(x86_control())),
            _ => None,
        }
    }
}

fn x86_control() -> x86::mmu::Control {
    x86::mmu::Control { physical_bits: 52, smap: false, ..x86::mmu::Control::default() }
}
