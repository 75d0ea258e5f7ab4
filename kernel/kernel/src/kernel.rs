//! The running kernel, and the way in.

use alloc::format;
use alloc::vec::Vec;

use kernmem_base::{Era, Granule, PhysAddr, PhysMem, PhysRange};
use kernmem_config::Config;
use kernmem_firmware::{Arch, Machine};
use kernmem_memblock::{HandedOver, VecArray};
use kernmem_page_alloc::Placement;
use kernmem_sparse::{Sections, VecStore};

use crate::takers::gigantic::GiganticPool;
use crate::zones::Nodes;
use crate::{BootError, BootPages, Witness, arm64, i386, x86};

/// What a boot needs, as one value.
#[derive(Clone, Copy, Debug)]
pub struct Boot<'c> {
    /// What firmware tells.
    pub machine: &'c Machine,
    /// What was configured, told and drawn.
    pub config: &'c Config,
    /// Where the page allocator takes free blocks from.
    pub placement: Placement,
    /// The tables below the root for all of vmalloc are made, where the era makes them at boot.
    pub preallocates: bool,
}

impl<'c> Boot<'c> {
    /// A boot whose page allocator takes blocks where Linux takes them.
    #[must_use]
    pub const fn new(machine: &'c Machine, config: &'c Config) -> Self {
        Self { machine, config, placement: Placement::Linux, preallocates: true }
    }

    /// The same with free blocks taken elsewhere.
    #[must_use]
    pub const fn with_placement(mut self, placement: Placement) -> Self {
        self.placement = placement;
        self
    }

    /// The same without vmalloc's tables, as before the era that makes them: for experiments.
    #[must_use]
    pub const fn without_preallocation(mut self) -> Self {
        self.preallocates = false;
        self
    }
}

/// What only one architecture has.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Isa {
    /// arm64 with 4K pages and 48 bits.
    Arm64(arm64::State),
    /// x86-64 with four or five levels.
    X86(x86::State),
    /// i386 with two or three levels.
    I386(i386::State),
}

/// Root tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Roots {
    /// The kernel's own.
    pub kernel: PhysAddr,
    /// The one in use while user mode runs, if it is another.
    pub user: Option<PhysAddr>,
    /// The identity map's, if it stays.
    pub idmap: Option<PhysAddr>,
}

/// A kernel whose memory subsystem has booted.
#[derive(Debug)]
pub struct Kernel<'m, M, W> {
    /// The memory it runs in.
    pub mem: &'m M,
    /// The branch.
    pub era: Era,
    /// The page size.
    pub granule: Granule,
    /// What only its architecture has.
    pub isa: Isa,
    /// Root tables.
    pub roots: Roots,
    /// The boot allocator's lists as they were handed over, with the witness.
    pub memblock: HandedOver<VecArray, W>,
    /// Memory sections.
    pub sections: Sections<VecStore>,
    /// Nodes and zones.
    pub nodes: Nodes,
    /// Gigantic pages that boot set aside.
    pub gigantic: Vec<GiganticPool>,
    /// The page allocator, with the lists of the CPU that booted.
    pub pages: BootPages,
}

impl<'m, M, W: Witness> Kernel<'m, M, W> {
    /// Who listened to the boot.
    #[must_use]
    pub fn witness(&self) -> &W {
        self.memblock.listener()
    }

    /// The same kernel with another witness, which is made of the one of its boot.
    #[must_use]
    pub fn with_witness<V>(self, make: impl FnOnce(W) -> V) -> Kernel<'m, M, V> {
        Kernel {
            mem: self.mem,
            era: self.era,
            granule: self.granule,
            isa: self.isa,
            roots: self.roots,
            memblock: self.memblock.with_listener(make),
            sections: self.sections,
            nodes: self.nodes,
            gigantic: self.gigantic,
            pages: self.pages,
        }
    }
}

/// The memory that a machine must have for a boot: what its firmware describes.
#[must_use]
pub fn memory_ranges(boot: &Boot<'_>) -> Vec<PhysRange> {
    match boot.machine.arch {
        Arch::Arm64 => boot.machine.memory.iter().map(|bank| bank.range).collect(),
        Arch::X86_64 | Arch::I386 => x86::memory_ranges(boot),
    }
}

/// Boots a kernel in `mem`.
///
/// # Errors
/// [`BootError::Beyond`] before any work if that kernel is not modelled; otherwise the first thing that failed.
pub fn boot<'m, M: PhysMem, W: Witness>(
    mem: &'m M,
    boot: &Boot<'_>,
    mut witness: W,
) -> Result<Kernel<'m, M, W>, BootError> {
    Ok(boot_heard(mem, boot, &mut witness)?.with_witness(|()| witness))
}

/// As [`boot`], heard by a witness of whatever type: the code of the boot, of which there is a copy for each format, is
/// made once for all witnesses.
///
/// # Errors
/// As [`boot`].
pub fn boot_heard<'m, M: PhysMem>(
    mem: &'m M,
    boot: &Boot<'_>,
    witness: &mut dyn Witness,
) -> Result<Kernel<'m, M, ()>, BootError> {
    if let Some(fact) = boot.config.given.fault() {
        return Err(BootError::Input(format!("given: {fact} is no place in physical memory")));
    }
    let kernel = match boot.machine.arch {
        Arch::Arm64 => arm64::boot(mem, boot, witness),
        Arch::X86_64 => x86::boot(mem, boot, witness),
        Arch::I386 => i386::boot(mem, boot, witness),
    };
    Ok(kernel?.with_witness(|_| ()))
}
