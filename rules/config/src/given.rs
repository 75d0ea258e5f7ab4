//! What follows neither from firmware nor from configuration: a loader chose it, or it was drawn.

use alloc::string::String;
use alloc::vec::Vec;

use kernmem_base::{PhysAddr, VirtAddr};

/// Known facts of one run; what is `None` is computed or chosen by the boot.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Given {
    /// Physical address of `_text`.
    pub text_phys: Option<PhysAddr>,
    /// Virtual address of `_text`.
    pub text_virt: Option<VirtAddr>,
    /// arm64: virtual address of the first byte of memory in the linear map.
    pub linear_start: Option<VirtAddr>,
    /// x86-64: start of the direct map.
    pub page_offset_base: Option<VirtAddr>,
    /// x86-64: start of the vmalloc region.
    pub vmalloc_base: Option<VirtAddr>,
    /// x86-64: start of the page descriptors' region.
    pub vmemmap_base: Option<VirtAddr>,
    /// arm64: where the loader put the devicetree.
    pub dtb: Option<PhysAddr>,
    /// Where the loader put the RAM disk: first and last byte.
    pub initrd: Option<(u64, u64)>,
    /// Tables that x86 firmware left in memory and the kernel reserves: first byte, last byte, name.
    pub firmware: Vec<(u64, u64, String)>,
    /// First byte of the KFENCE pool.
    pub kfence_pool: Option<PhysAddr>,
}
