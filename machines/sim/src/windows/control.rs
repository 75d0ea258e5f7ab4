//! The registers under which a window's accesses are judged.

use kernmem_arch::{Format, arm64, x86};

/// Registers of the CPU that a window stands for. Neither the kernel's guard against user pages (PAN, SMAP) nor
/// accessed and dirty marks by hardware are on: a window writes nothing into tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Control {
    /// 4K granule.
    Arm64(arm64::mmu::Control),
    /// Four levels.
    X86(x86::mmu::Control),
    /// 64-bit entries in three levels.
    I386Pae(x86::mmu::Control),
    /// 32-bit entries in two levels.
    I386Level2(x86::mmu::Control),
}

impl Control {
    /// The registers for `format`; `None` for a format that windows do not know.
    pub(crate) fn of(format: Format) -> Option<Self> {
        match format {
            Format::Arm64Granule4K => Some(Self::Arm64(arm64::mmu::Control::default())),
            Format::X86Level4 => Some(Self::X86(x86())),
            Format::I386Pae => Some(Self::I386Pae(x86())),
            Format::I386Level2 => Some(Self::I386Level2(x86())),
            _ => None,
        }
    }
}

fn x86() -> x86::mmu::Control {
    x86::mmu::Control { physical_bits: 52, smap: false, ..x86::mmu::Control::default() }
}
