//! CPUs as the layers see them: a number, the roots that they translate with, the accesses that they make.

use crate::{PhysAddr, Tlb, VirtAddr};

/// The number of a CPU, from 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct CpuId(pub u32);

/// The number under which a TLB keeps one address space apart: arm64's ASID, x86's PCID.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Asid(pub u16);

/// What a root table translates.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Half {
    /// The lower half: arm64's TTBR0.
    Lower,
    /// The upper half: arm64's TTBR1.
    Upper,
    /// All addresses: x86's CR3.
    Both,
}

/// What an instruction does with an address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Access {
    /// Reads data.
    Read,
    /// Writes data.
    Write,
    /// Fetches an instruction.
    Execute,
}

/// Who makes an access.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Privilege {
    /// A program: EL0, ring 3.
    User,
    /// The kernel: EL1, ring 0.
    Kernel,
}

/// One CPU: its translation registers and its TLB.
pub trait Cpu: Tlb {
    /// Its number.
    fn id(&self) -> CpuId;

    /// Translates `half` with the tables at `root` from now on; entries of `asid` that the TLB holds stay usable.
    fn load_root(&mut self, half: Half, root: PhysAddr, asid: Asid);

    /// Forgets the CPU's own translation of one address: local, as `invlpg`.
    fn flush_local(&mut self, va: VirtAddr);
}
