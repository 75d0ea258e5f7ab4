//! The grain of the linear map, and why.

use kernmem_base::{Era, Granule};

use crate::Reason;

/// What decides the grain.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LinearFacts {
    /// `rodata=` asks for the linear alias to be protected as well.
    pub rodata_full: bool,
    /// debug_pagealloc is on.
    pub debug_pagealloc: bool,
    /// KFENCE is built, has no pool yet and may start late.
    pub kfence_late: bool,
    /// `crashkernel=` was given and CONFIG_KEXEC_CORE is built.
    pub crashkernel: bool,
    /// CONFIG_ZONE_DMA or CONFIG_ZONE_DMA32.
    pub zone_dma: bool,
    /// The boot CPU changes block sizes without break-before-make and without aborts.
    pub bbml2_noabort: bool,
    /// The kernel is the guest of a realm.
    pub realm: bool,
}

/// Why the linear map is made of base pages; no reason: of the largest leaves.
///
/// | era | base pages when |
/// |---|---|
/// | 4.14 | page-alloc debugging (UNVERIFIED) |
/// | 5.10 | full rodata, page-alloc debugging, or a crash kernel with a DMA zone configured |
/// | 6.1 | the same, or KFENCE that may start late |
/// | 6.12 | the crash kernel no longer counts |
/// | 7.2 | debugging always; rodata, KFENCE and realms only without BBML2 on the boot CPU |
///
/// Source: Linux 5.10–7.2 arch/arm64/mm/mmu.c `map_mem`; 6.1 arch/arm64/mm/pageattr.c `can_set_direct_map`; 7.2
/// arch/arm64/mm/mmu.c `force_pte_mapping`.
pub fn by_pages(era: Era, f: LinearFacts) -> impl Iterator<Item = Reason> {
    let crash = f.crashkernel && f.zone_dma;
    let split = !f.bbml2_noabort;
    let (rodata, kfence, crash, realm) = match era {
        Era::V4_14 => (false, false, false, false),
        Era::V5_10 => (f.rodata_full, false, crash, false),
        Era::V6_1 => (f.rodata_full, f.kfence_late, crash, false),
        Era::V6_12 => (f.rodata_full, f.kfence_late, false, false),
        Era::V7_2 => (f.rodata_full && split, f.kfence_late && split, false, f.realm && split),
    };
    [
        (rodata, Reason::RodataFull),
        (f.debug_pagealloc, Reason::DebugPagealloc),
        (kfence, Reason::KfenceLate),
        (crash, Reason::CrashkernelDeferred),
        (realm, Reason::Realm),
    ]
    .into_iter()
    .filter_map(|(holds, reason)| holds.then_some(reason))
}

/// log2 of the multiple to which the linear map rounds the start of memory down: a block or a contiguous group of it.
///
/// Source: Linux 5.10–7.2 arch/arm64 `ARM64_MEMSTART_SHIFT`.
#[must_use]
pub const fn memstart_shift(granule: Granule) -> u32 {
    match granule {
        Granule::K4 | Granule::K16 => 30,
        Granule::K64 => 29,
    }
}

/// Whether rights of single pages of the linear map may be changed while it is in use.
///
/// | era | when |
/// |---|---|
/// | 4.14 | page-alloc debugging (UNVERIFIED) |
/// | 5.10 | full rodata |
/// | 6.1, 6.12 | full rodata, page-alloc debugging, or KFENCE that may start late |
/// | 7.2 | the same, or the guest of a realm |
///
/// Source: Linux 5.10–7.2 arch/arm64/mm/pageattr.c `can_set_direct_map`, `set_direct_map_invalid_noflush`.
#[must_use]
pub const fn can_set_direct_map(era: Era, f: LinearFacts) -> bool {
    match era {
        Era::V4_14 => f.debug_pagealloc,
        Era::V5_10 => f.rodata_full,
        Era::V6_1 | Era::V6_12 => f.rodata_full || f.debug_pagealloc || f.kfence_late,
        Era::V7_2 => f.rodata_full || f.debug_pagealloc || f.kfence_late || f.realm,
    }
}

/// Whether the linear map keeps large leaves that will be split in place, which CPUs without BBML2 cannot.
///
/// | era | when |
/// |---|---|
/// | 6.12 and before | never |
/// | 7.2 | single pages may change, and nothing forces pages from the start |
///
/// Source: Linux 7.2 arch/arm64/mm/mmu.c `map_mem` (`linear_map_requires_bbml2`).
#[must_use]
pub fn requires_bbml2(era: Era, f: LinearFacts) -> bool {
    match era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 | Era::V6_12 => false,
        Era::V7_2 => by_pages(era, f).next().is_none() && can_set_direct_map(era, f),
    }
}

/// To which multiple the start of memory is rounded down, in bytes: that, or a section if it is larger.
///
/// Source: Linux 5.10–7.2 arch/arm64 `ARM64_MEMSTART_ALIGN`.
#[must_use]
pub const fn memstart_align(era: Era, granule: Granule) -> u64 {
    let table = memstart_shift(granule);
    let section = section_size_bits(era, granule);
    1 << if table > section { table } else { section }
}

/// log2 of the bytes of a memory section.
///
/// Source: Linux 5.10–7.2 arch/arm64/include/asm/sparsemem.h.
#[must_use]
pub const fn section_size_bits(era: Era, granule: Granule) -> u32 {
    match (era, granule) {
        (Era::V4_14 | Era::V5_10, _) => 30,
        (_, Granule::K4 | Granule::K16) => 27,
        (_, Granule::K64) => 29,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ERAS: [Era; 4] = [Era::V5_10, Era::V6_1, Era::V6_12, Era::V7_2];

    fn forced(facts: LinearFacts) -> [bool; 4] {
        ERAS.map(|era| by_pages(era, facts).next().is_some())
    }

    /// Facts: the table of reasons for page granularity.
    #[test]
    fn what_forces_pages_depends_on_the_era() {
        let none = LinearFacts::default();
        assert_eq!(forced(none), [false; 4]);
        assert_eq!(forced(LinearFacts { rodata_full: true, ..none }), [true; 4]);
        assert_eq!(forced(LinearFacts { debug_pagealloc: true, ..none }), [true; 4]);
        assert_eq!(forced(LinearFacts { kfence_late: true, ..none }), [false, true, true, true]);
        assert_eq!(forced(LinearFacts { realm: true, ..none }), [false, false, false, true]);
        let crash = LinearFacts { crashkernel: true, zone_dma: true, ..none };
        assert_eq!(forced(crash), [true, true, false, false]);
        assert_eq!(forced(LinearFacts { zone_dma: false, ..crash }), [false; 4], "the crash kernel's memory alone");
    }

    #[test]
    fn blocks_stay_in_7_2_on_a_cpu_that_splits_them_in_place() {
        let bbml2 = LinearFacts { bbml2_noabort: true, rodata_full: true, ..LinearFacts::default() };
        assert_eq!(forced(bbml2), [true, true, true, false]);
        assert_eq!(forced(LinearFacts { debug_pagealloc: true, ..bbml2 }), [true; 4], "debugging comes first");
        assert_eq!(ERAS.map(|era| requires_bbml2(era, bbml2)), [false, false, false, true]);
        let fixed = LinearFacts { rodata_full: false, ..bbml2 };
        assert!(!requires_bbml2(Era::V7_2, fixed), "nobody changes single pages");
    }

    #[test]
    fn single_pages_may_change_by_era() {
        let can = |facts| ERAS.map(|era| can_set_direct_map(era, facts));
        let none = LinearFacts::default();
        assert_eq!(can(LinearFacts { rodata_full: true, ..none }), [true; 4]);
        assert_eq!(can(LinearFacts { debug_pagealloc: true, ..none }), [false, true, true, true]);
        assert_eq!(can(LinearFacts { kfence_late: true, ..none }), [false, true, true, true]);
        assert_eq!(can(LinearFacts { realm: true, ..none }), [false, false, false, true]);
    }

    /// Facts: memory starts at a multiple of 1 GiB but for 64K pages, where sections of 2^30 still say so in 5.10.
    #[test]
    fn memory_starts_at_a_multiple_that_sections_raise() {
        let of = |granule| ERAS.map(|era| memstart_align(era, granule));
        assert_eq!(of(Granule::K4), [1 << 30; 4]);
        assert_eq!(of(Granule::K16), [1 << 30; 4]);
        assert_eq!(of(Granule::K64), [1 << 30, 512 << 20, 512 << 20, 512 << 20]);
    }
}
