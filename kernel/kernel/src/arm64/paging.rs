//! The order in which the kernel's tables come to be.
//!
//! Source: Linux 5.10–7.2 arch/arm64/mm/mmu.c `paging_init`.

use kernmem_arch::arm64::Arm64Format;
use kernmem_base::{Era, PhysAddr, PhysMem};

use super::boot::Booting;
use crate::{BootError, Witness};

impl<F: Arm64Format, M: PhysMem, W: Witness> Booting<'_, '_, F, M, W> {
    /// Everything that is mapped before there are nodes; the identity map's root.
    ///
    /// | era | order |
    /// |---|---|
    /// | 4.14 (UNVERIFIED), 5.10 | image, linear map; the first tables go, memblock's lists may grow |
    /// | 6.1 | the same, then the identity map |
    /// | 6.12, 7.2 | linear map; memblock's lists may grow; identity map: the image is mapped already |
    ///
    /// The fixmap comes before the linear map: its tables lie in the image.
    pub(super) fn paging_init(&mut self) -> Result<PhysAddr, BootError> {
        match self.config.era {
            Era::V4_14 | Era::V5_10 | Era::V6_1 => {
                self.map_kernel()?;
                self.early_fixmap()?;
                self.map_mem()?;
                self.leave_early_tables()?;
            }
            Era::V6_12 | Era::V7_2 => {
                self.early_fixmap()?;
                self.map_mem()?;
            }
        }
        self.memblock.allow_resize();
        self.create_idmap()
    }
}
