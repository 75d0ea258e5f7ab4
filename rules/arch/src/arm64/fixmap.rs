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

/// A slot by name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum FixSlot {
    /// The page at the top that nobody uses.
    Hole,
    /// The highest page of the devicetree's window.
    FdtEnd,
    /// The lowest page of the devicetree's window.
    Fdt,
    /// The early console's registers.
    EarlyconMemBase,
    /// The page through which text is patched.
    TextPoke,
    /// Firmware errors, in an interrupt.
    GhesIrq,
    /// Firmware errors, in a synchronous abort.
    GhesSea,
    /// Firmware errors, in an event of normal priority.
    GhesSdeiNormal,
    /// Firmware errors, in an event of critical priority.
    GhesSdeiCritical,
    /// A page of the entry trampoline's text, 1 to 4, counted upwards in addresses.
    TrampolineText(u8),
    /// The entry trampoline's data, up to 5.10.
    TrampolineData,
    /// The lowest index of the early ioremap's pages.
    BtmapEnd,
    /// The highest.
    BtmapBegin,
    /// The window onto a new table of pages.
    Pte,
    /// Onto a new PMD table.
    Pmd,
    /// Onto a new PUD table.
    Pud,
    /// Onto a new P4D table, from 6.12 on.
    P4d,
    /// Onto a root.
    Pgd,
}

/// Mappings of the early ioremap (`FIX_BTMAPS_SLOTS`).
pub const BTMAP_SLOTS: u64 = 7;

/// Indices of the slots that boot uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fixmap {
    facts: FixmapFacts,
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

const fn is_old(era: Era) -> bool {
    matches!(era, Era::V4_14 | Era::V5_10)
}

/// Pages of the entry trampoline's text.
///
/// | era | pages |
/// |---|---|
/// | to 5.10 | 3 (4.14 UNVERIFIED) |
/// | 6.1 and later | 3, or 4 in a relocatable kernel |
const fn text_pages(facts: &FixmapFacts) -> u8 {
    match facts.era {
        _ if !facts.unmap_at_el0 => 0,
        Era::V4_14 | Era::V5_10 => 3,
        Era::V6_1 | Era::V6_12 | Era::V7_2 => 3 + facts.relocatable as u8,
    }
}

/// Pages of one mapping of the early ioremap (`NR_FIX_BTMAPS`): 256K, from 6.1 on one more.
#[must_use]
pub const fn btmap_pages(era: Era, granule: Granule) -> u64 {
    (256 << 10) / granule.bytes() + if is_old(era) { 0 } else { 1 }
}

impl Fixmap {
    /// The slots of one kernel.
    #[must_use]
    pub const fn new(facts: &FixmapFacts) -> Self {
        let page = facts.granule.bytes();
        let old = is_old(facts.era);
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
            next += text_pages(facts) as u64;
            tramp_text = next - 1;
            tramp_data = next - 2;
            if old {
                tramp_data = next;
                next += 1;
            }
        }
        let permanent = next;
        let tables = if matches!(facts.era, Era::V6_12 | Era::V7_2) { 5 } else { 4 };
        let total = permanent + BTMAP_SLOTS * btmap_pages(facts.era, facts.granule) + tables;
        Self { facts: *facts, fdt, tramp_text, tramp_data, permanent, total }
    }

    /// The index of a slot; `None` where this kernel has none.
    #[must_use]
    pub const fn index(&self, slot: FixSlot) -> Option<u64> {
        let facts = &self.facts;
        let firmware = self.fdt + 3 + if facts.vncr_slots > 0 { facts.vncr_slots + 1 } else { 0 };
        let windows = self.permanent + BTMAP_SLOTS * btmap_pages(facts.era, facts.granule);
        let (built, index) = match slot {
            FixSlot::Hole => (true, 0),
            FixSlot::FdtEnd => (true, 1),
            FixSlot::Fdt => (true, self.fdt),
            FixSlot::EarlyconMemBase => (true, self.fdt + 1),
            FixSlot::TextPoke => (true, self.fdt + 2),
            FixSlot::GhesIrq => (facts.ghes, firmware),
            FixSlot::GhesSea => (facts.ghes, firmware + 1),
            FixSlot::GhesSdeiNormal => (facts.ghes && facts.sdei, firmware + 2),
            FixSlot::GhesSdeiCritical => (facts.ghes && facts.sdei, firmware + 3),
            FixSlot::TrampolineText(page) => (page >= 1 && page <= text_pages(facts), self.text(page)),
            FixSlot::TrampolineData => (facts.unmap_at_el0 && is_old(facts.era), self.tramp_data),
            FixSlot::BtmapEnd => (true, self.permanent),
            FixSlot::BtmapBegin => (true, windows - 1),
            FixSlot::Pte => (true, windows),
            FixSlot::Pmd => (true, windows + 1),
            FixSlot::Pud => (true, windows + 2),
            FixSlot::P4d => (matches!(facts.era, Era::V6_12 | Era::V7_2), windows + 3),
            FixSlot::Pgd => (true, self.total - 1),
        };
        if built { Some(index) } else { None }
    }

    const fn text(&self, page: u8) -> u64 {
        (self.tramp_text + 1).saturating_sub(page as u64)
    }

    /// The page size.
    #[must_use]
    pub const fn granule(&self) -> Granule {
        self.facts.granule
    }

    /// The address of slot `index` under `top`.
    #[must_use]
    pub const fn address(&self, top: VirtAddr, index: u64) -> VirtAddr {
        VirtAddr(top.0 - (index << self.facts.granule.shift()))
    }
}
