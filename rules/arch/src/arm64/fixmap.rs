//! The fixmap's slots: pages at fixed places below `FIXADDR_TOP`, counted downwards.
//!
//! Source: Linux 5.10–7.2 arch/arm64/include/asm/fixmap.h `enum fixed_addresses`.

use kernmem_base::{Era, Granule, VirtAddr};

/// What decides which slots exist.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FixmapFacts {
    /// The branch.
    pub era: Era,
    /// The page size.
    pub granule: Granule,
    /// CONFIG_RELOCATABLE.
    pub relocatable: bool,
    /// CONFIG_UNMAP_KERNEL_AT_EL0.
    pub unmap_at_el0: bool,
    /// CONFIG_ACPI_APEI_GHES.
    pub ghes: bool,
    /// CONFIG_ARM_SDE_INTERFACE, with GHES.
    pub sdei: bool,
    /// Slots of nested virtualisation (7.2 with KVM): CONFIG_NR_CPUS, else 0.
    pub vncr_slots: u64,
}

/// Indices of the slots that boot uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fixmap {
    granule: Granule,
    /// The slot with the lowest address of the devicetree's window.
    pub fdt: u64,
    /// The slot of the trampoline's text, where it starts; 0 where there is none.
    pub tramp_text: u64,
    /// The slot of the read-only page beside it.
    pub tramp_data: u64,
    /// Slots that stay after boot.
    pub permanent: u64,
    /// All slots.
    pub total: u64,
}

impl Fixmap {
    /// The slots of one kernel.
    #[must_use]
    pub const fn new(facts: &FixmapFacts) -> Self {
        let page = facts.granule.bytes();
        let old = matches!(facts.era, Era::V4_14 | Era::V5_10);
        let fdt = match facts.era {
            Era::V4_14 | Era::V5_10 | Era::V6_1 => 1 + (4 << 20) / page - 1,
            Era::V6_12 | Era::V7_2 => 1 + (2u64 << 20).div_ceil(page) + 1,
        };
        let mut next = fdt + 1 + 2; // the early console and text poking
        if facts.vncr_slots > 0 {
            next += facts.vncr_slots + 1;
        }
        if facts.ghes {
            next += if facts.sdei { 4 } else { 2 };
        }
        let (mut tramp_text, mut tramp_data) = (0, 0);
        if facts.unmap_at_el0 {
            if !old && facts.relocatable {
                next += 1;
            }
            next += 3;
            tramp_text = next - 1;
            tramp_data = next - 2;
            if old {
                tramp_data = next;
                next += 1;
            }
        }
        let permanent = next;
        let btmaps = (256 << 10) / page + if old { 0 } else { 1 };
        let tables = if matches!(facts.era, Era::V6_12 | Era::V7_2) { 5 } else { 4 };
        Self { granule: facts.granule, fdt, tramp_text, tramp_data, permanent, total: permanent + 7 * btmaps + tables }
    }

    /// The page size.
    #[must_use]
    pub const fn granule(&self) -> Granule {
        self.granule
    }

    /// The address of slot `index` under `top`.
    #[must_use]
    pub const fn address(&self, top: VirtAddr, index: u64) -> VirtAddr {
        VirtAddr(top.0 - (index << self.granule.shift()))
    }
}
