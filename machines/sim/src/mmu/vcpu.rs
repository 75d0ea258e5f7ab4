//! One CPU whose format is a value: chosen once per access.

use kernmem_arch::arm64::{Arm64, Arm64Granule4K, Geometry};
use kernmem_arch::i386::{I386Level2, I386Pae};
use kernmem_arch::x86::{X86Level4, X86Level5};
use kernmem_arch::{Fault, Format};
use kernmem_base::{Access, Asid, Cpu, CpuId, Half, PhysAddr, PhysMem, Privilege, Tlb, VirtAddr, VirtRange};

use super::{Counters, Interrupted, Mmu, TlbShape, Translated};

/// One variant for each format: its name, its type, and the format as a value.
macro_rules! formats {
    ($($variant:ident $type:ty, $format:expr;)+) => {
        #[derive(Debug)]
        enum Any {
            $($variant(Mmu<$type>),)+
        }

        /// The MMU of whatever format, by one match.
        macro_rules! each {
            ($any:expr, $mmu:ident => $then:expr) => {
                match $any {
                    $(Any::$variant($mmu) => $then,)+
                }
            };
        }

        impl Any {
            /// An MMU for tables of `format`; `None` where nobody gave it one here.
            fn new(format: Format, shape: &TlbShape) -> Option<Self> {
                $(if format == $format {
                    return Some(Self::$variant(Mmu::new(shape)));
                })+
                None
            }

            const fn format(&self) -> Format {
                match self {
                    $(Self::$variant(_) => $format,)+
                }
            }
        }
    };
}

const fn arm64(page: u32, va_bits: u32) -> Format {
    match Geometry::of(page, va_bits) {
        Some(geometry) => Format::Arm64(geometry),
        None => panic!("arm64 has such tables"),
    }
}

formats! {
    Arm64 Arm64Granule4K, Format::ARM64_4K_48;
    Arm64K4Of39 Arm64<12, 39>, arm64(12, 39);
    Arm64K4Of52 Arm64<12, 52>, arm64(12, 52);
    Arm64K16Of36 Arm64<14, 36>, arm64(14, 36);
    Arm64K16Of47 Arm64<14, 47>, arm64(14, 47);
    Arm64K16Of48 Arm64<14, 48>, arm64(14, 48);
    Arm64K16Of52 Arm64<14, 52>, arm64(14, 52);
    Arm64K64Of42 Arm64<16, 42>, arm64(16, 42);
    Arm64K64Of48 Arm64<16, 48>, arm64(16, 48);
    Arm64K64Of52 Arm64<16, 52>, arm64(16, 52);
    X86Level4 X86Level4, Format::X86Level4;
    X86Level5 X86Level5, Format::X86Level5;
    I386Pae I386Pae, Format::I386Pae;
    I386Level2 I386Level2, Format::I386Level2;
}

/// A CPU of the simulated machine.
#[derive(Debug)]
pub struct Vcpu {
    id: CpuId,
    any: Any,
}

impl Vcpu {
    /// A CPU with default registers, roots at 0 and an empty TLB.
    ///
    /// # Panics
    /// Nobody gave the format an MMU here: a mistake of ours.
    #[must_use]
    pub fn new(id: CpuId, format: Format, shape: &TlbShape) -> Self {
        let Some(any) = Any::new(format, shape) else { unreachable!("{format:?} has an MMU") };
        Self { id, any }
    }

    /// The format of its tables.
    #[must_use]
    pub const fn format(&self) -> Format {
        self.any.format()
    }

    /// The MMU of an arm64 CPU with 4K pages and 48 bits: for its registers.
    pub const fn arm64_mut(&mut self) -> Option<&mut Mmu<Arm64Granule4K>> {
        match &mut self.any {
            Any::Arm64(mmu) => Some(mmu),
            _ => None,
        }
    }

    /// The MMU of an x86 CPU with four levels: for its registers.
    pub const fn x86_level4_mut(&mut self) -> Option<&mut Mmu<X86Level4>> {
        match &mut self.any {
            Any::X86Level4(mmu) => Some(mmu),
            _ => None,
        }
    }

    /// The MMU of an x86 CPU with five levels: for its registers.
    pub const fn x86_level5_mut(&mut self) -> Option<&mut Mmu<X86Level5>> {
        match &mut self.any {
            Any::X86Level5(mmu) => Some(mmu),
            _ => None,
        }
    }

    /// As [`Mmu::access`].
    ///
    /// # Errors
    /// The access is refused; the TLB has no new translation.
    #[inline]
    pub fn access<M: PhysMem>(
        &mut self,
        mem: &M,
        va: VirtAddr,
        access: Access,
        privilege: Privilege,
    ) -> Result<Translated, Fault> {
        each!(&mut self.any, mmu => mmu.access(mem, va, access, privilege))
    }

    /// As [`Mmu::read`].
    ///
    /// # Errors
    /// A page refuses: the bytes before it are read.
    pub fn read<M: PhysMem>(
        &mut self,
        mem: &M,
        va: VirtAddr,
        out: &mut [u8],
        privilege: Privilege,
    ) -> Result<(), Interrupted> {
        each!(&mut self.any, mmu => mmu.read(mem, va, out, privilege))
    }

    /// As [`Mmu::write`].
    ///
    /// # Errors
    /// A page refuses: the bytes before it are written.
    pub fn write<M: PhysMem>(
        &mut self,
        mem: &M,
        va: VirtAddr,
        bytes: &[u8],
        privilege: Privilege,
    ) -> Result<(), Interrupted> {
        each!(&mut self.any, mmu => mmu.write(mem, va, bytes, privilege))
    }

    /// As [`Mmu::read_u64`].
    ///
    /// # Errors
    /// A page refuses.
    pub fn read_u64<M: PhysMem>(&mut self, mem: &M, va: VirtAddr, privilege: Privilege) -> Result<u64, Interrupted> {
        each!(&mut self.any, mmu => mmu.read_u64(mem, va, privilege))
    }

    /// As [`Mmu::write_u64`].
    ///
    /// # Errors
    /// A page refuses: the bytes before it are written.
    pub fn write_u64<M: PhysMem>(
        &mut self,
        mem: &M,
        va: VirtAddr,
        word: u64,
        privilege: Privilege,
    ) -> Result<(), Interrupted> {
        each!(&mut self.any, mmu => mmu.write_u64(mem, va, word, privilege))
    }

    /// The root that translates a half.
    #[must_use]
    pub const fn root(&self, half: Half) -> PhysAddr {
        each!(&self.any, mmu => mmu.root(half))
    }

    /// The current address space.
    #[must_use]
    pub const fn asid(&self) -> Asid {
        each!(&self.any, mmu => mmu.asid())
    }

    /// What was counted so far.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        each!(&self.any, mmu => mmu.counters())
    }

    /// What was counted so far; counts from 0 again.
    pub fn take_counters(&mut self) -> Counters {
        each!(&mut self.any, mmu => mmu.take_counters())
    }

    /// Bytes that the TLB translates without a walk.
    #[must_use]
    pub fn reach(&self) -> u64 {
        each!(&self.any, mmu => mmu.reach())
    }

    /// Translations that the TLB holds.
    #[must_use]
    pub fn held(&self) -> usize {
        each!(&self.any, mmu => mmu.held())
    }
}

impl Tlb for Vcpu {
    fn flush(&mut self, range: VirtRange, tables: bool) {
        each!(&mut self.any, mmu => mmu.flush(range, tables));
    }

    fn flush_space(&mut self, asid: Asid, range: Option<VirtRange>, tables: bool) {
        each!(&mut self.any, mmu => mmu.flush_space(asid, range, tables));
    }
}

impl Cpu for Vcpu {
    fn id(&self) -> CpuId {
        self.id
    }

    fn load_root(&mut self, half: Half, root: PhysAddr, asid: Asid) {
        each!(&mut self.any, mmu => mmu.load_root(half, root, asid));
    }

    fn flush_local(&mut self, va: VirtAddr) {
        each!(&mut self.any, mmu => mmu.flush_local(va));
    }
}
