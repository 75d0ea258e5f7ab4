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

impl Given {
    /// What is no place in physical memory or ends before it begins, if anything is: a boot refuses such facts.
    #[must_use]
    pub fn fault(&self) -> Option<&'static str> {
        const END: u64 = 1 << 52; // no architecture has longer physical addresses
        let is_place = |place: &Option<PhysAddr>| place.is_none_or(|pa| pa.0 < END);
        let is_range = |start: u64, last: u64| start <= last && last < END;
        let places = [(&self.text_phys, "text_phys"), (&self.dtb, "dtb"), (&self.kfence_pool, "kfence_pool")];
        if let Some((_, name)) = places.iter().find(|(place, _)| !is_place(place)) {
            return Some(name);
        }
        if self.initrd.is_some_and(|(start, last)| !is_range(start, last)) {
            return Some("initrd");
        }
        self.firmware.iter().any(|(start, last, _)| !is_range(*start, *last)).then_some("firmware")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_before_it_begins_or_lies_beyond_memory_is_a_fault() {
        assert_eq!(Given::default().fault(), None);
        let at = |pa| Given { text_phys: Some(PhysAddr(pa)), ..Given::default() }.fault();
        assert_eq!((at(0x4020_0000), at((1 << 52) - 1), at(1 << 52)), (None, None, Some("text_phys")));
        let initrd = |start, last| Given { initrd: Some((start, last)), ..Given::default() }.fault();
        assert_eq!((initrd(7, 7), initrd(8, 7), initrd(0, u64::MAX)), (None, Some("initrd"), Some("initrd")));
        let table = |start, last| Given { firmware: Vec::from([(start, last, "ACPI".into())]), ..Given::default() };
        assert_eq!((table(0, 9).fault(), table(9, 0).fault()), (None, Some("firmware")));
    }
}
