//! The boot of an arm64 kernel, from the devicetree to freed init memory.
//!
//! ```text
//! early    identity map and first kernel map      head.S; from 6.12 on map_range
//! setup    memory, limits, reservations          arm64_memblock_init
//! image    kernel segments, identity map          map_kernel, create_idmap
//! fixmap   its tables, the devicetree             early_fixmap_init
//! linear   the linear map                         map_mem
//! later    nodes, memory map, zones               bootmem_init
//! kasan    the shadow of KASAN                    kasan_early_init, kasan_init
//! mm_init  per-CPU areas, hash tables, buffers     mm_init
//! late     aliases, read-only data, init memory   mark_rodata_ro, free_initmem
//! ```
//! The order of the middle ones by era: `paging`.
//!
//! Source: Linux 5.10–7.2 arch/arm64/kernel/setup.c `setup_arch`; arch/arm64/mm/mmu.c `paging_init`.

mod boot;
mod crash;
mod early;
mod fixmap;
mod image;
mod kasan;
mod late;
mod later;
mod linear;
mod map_range;
mod mm_init;
mod paging;
mod setup;
mod split;
#[cfg(test)]
mod test_support;

pub use boot::boot;
pub use early::EarlyRoots;
pub use split::split_leaf_mapping;

use kernmem_arch::arm64::{Arm64Attrs, Geometry, Layout, kaslr, prot};
use kernmem_base::{Granule, PhysAddr, PhysRange, VirtAddr, VirtRange};

use crate::kasan::ZeroShadow;

/// What only an arm64 kernel has.
#[derive(Clone, Debug)]
pub struct State {
    /// Page size and bits of the tables in use.
    pub geometry: Geometry,
    /// Where each region lies.
    pub layout: Layout,
    /// Physical address of the start of the linear map's region, modulo 2^64: KASLR may move it below zero.
    pub memstart: u64,
    /// The addresses of the image that are mapped: to `_end` from `_text`, in 6.1 from `_stext`.
    pub image: VirtRange,
    /// Where `_text` was loaded.
    pub text_phys: PhysAddr,
    /// Where the image's first mapped byte was loaded.
    pub image_phys: PhysAddr,
    /// How far the image was moved from where it was linked.
    pub displacement: u64,
    /// Kernel mappings belong to an ASID.
    pub not_global: bool,
    /// The kernel is unmapped while user mode runs.
    pub isolates: bool,
    /// Roots of the boot page tables; up to 6.1 their memory is free again once the kernel runs.
    pub early: EarlyRoots,
    /// Page size and bits of the identity maps.
    pub identity: Geometry,
    /// KFENCE's pool, if it has one from the start.
    pub kfence_pool: Option<PhysRange>,
    /// The page that all shadow of KASAN without memory of its own shares, if there is a shadow.
    pub zero_shadow: Option<ZeroShadow>,
    /// The RAM disk, byte by byte, if it can be reached.
    pub initrd: Option<PhysRange>,
}

impl State {
    /// The linear address of `pa`.
    #[must_use]
    pub const fn linear(&self, pa: PhysAddr) -> VirtAddr {
        kaslr::linear_address(&self.layout, self.memstart, pa.0)
    }

    /// The page size.
    #[must_use]
    pub const fn granule(&self) -> Granule {
        self.geometry.granule()
    }

    /// The form in which these tables hold a global mapping with the rights of `attrs`.
    #[must_use]
    pub const fn global_prot(&self, attrs: Arm64Attrs) -> Arm64Attrs {
        prot::for_output(attrs, self.geometry.output())
    }

    /// The form in which these tables hold a mapping of this kernel with the rights of `attrs`.
    #[must_use]
    pub const fn prot(&self, attrs: Arm64Attrs) -> Arm64Attrs {
        self.global_prot(prot::with_ng(attrs, self.not_global))
    }

    /// The page descriptor of frame 0, modulo 2^64.
    #[must_use]
    pub const fn frame_zero(&self) -> VirtAddr {
        // The shift is arithmetic: memstart may lie below zero.
        let first = ((self.memstart as i64) >> self.geometry.granule().shift()) as u64;
        VirtAddr(self.layout.vmemmap_start.0.wrapping_sub(first.wrapping_mul(64)))
    }
}
