//! Watermarks: how many frames a zone keeps, and which requests may go below.
//!
//! Source: Linux 5.10–7.2 mm/page_alloc.c `gfp_to_alloc_flags`, `__zone_watermark_ok`.

use kernmem_base::Era;
use kernmem_base::sync::Held;
use kernmem_sparse::MigrateType;

use crate::store::Store;
use crate::zone::Zone;
use crate::{Facts, Gfp, LateBit};

/// The levels of a zone in frames, without boost.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Watermarks {
    /// Below it only urgent requests are served.
    pub min: u64,
    /// Below it the reclaimer is woken.
    pub low: u64,
    /// Up to it the reclaimer works.
    pub high: u64,
    /// Up to it the reclaimer works where pages are moved to faster nodes; eras before 6.12 do not print it, and 5.10 has
    /// none.
    pub promo: u64,
}

/// The level that a pass asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mark {
    /// None: the request may have the last frame.
    None,
    Min,
    Low,
}

/// What one pass over the zones may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Pass {
    pub mark: Mark,
    /// Urgent: half of the min watermark.
    pub min_reserve: bool,
    /// Cannot wait: a further part of it.
    pub non_block: bool,
    /// May use the pageblocks that are kept for urgent requests.
    pub highatomic: bool,
    /// May use CMA pageblocks.
    pub cma: bool,
    /// Does not break pageblocks of another type.
    pub nofragment: bool,
}

impl Pass {
    /// The first pass: the low watermark, nothing special.
    pub const fn fast(cma: bool, nofragment: bool) -> Self {
        Self { mark: Mark::Low, min_reserve: false, non_block: false, highatomic: false, cma, nofragment }
    }
}

/// The second pass: what the request's own words allow.
///
/// | era | cannot wait when | may use the urgent reserve when |
/// |---|---|---|
/// | 4.14 | as 5.10 (UNVERIFIED) | |
/// | 5.10 | atomic, unless kept from reserves | the same, and order above 0 |
/// | 6.1 | may not reclaim, unless kept from reserves | the same, and order above 0 |
/// | 6.12, 7.2 | as 6.1 | the same and urgent (UNVERIFIED), and order above 0 |
///
/// Source: Linux 5.10–7.2 mm/page_alloc.c `gfp_to_alloc_flags`.
pub(crate) fn slow_pass(facts: &Facts, gfp: Gfp, order: u8, kind: MigrateType) -> Pass {
    let urgent = gfp.contains(Gfp::HIGH);
    let kept = gfp.contains(Gfp::NOMEMALLOC);
    let (non_block, highatomic) = match facts.era {
        Era::V4_14 | Era::V5_10 => {
            let bit = LateBit::Atomic.bit(facts.era, crate::GfpFacts::default());
            let atomic = bit.is_some_and(|bit| gfp.contains(bit)) && !kept;
            (atomic, atomic)
        }
        Era::V6_1 => {
            let waits_not = !gfp.contains(Gfp::DIRECT_RECLAIM) && !kept;
            (waits_not, waits_not)
        }
        Era::V6_12 | Era::V7_2 => {
            let waits_not = !gfp.contains(Gfp::DIRECT_RECLAIM) && !kept;
            (waits_not, waits_not && urgent)
        }
    };
    let mark = if gfp.contains(Gfp::MEMALLOC) && !kept { Mark::None } else { Mark::Min };
    Pass {
        mark,
        min_reserve: urgent,
        non_block,
        highatomic: highatomic && order > 0,
        cma: facts.cma && kind == MigrateType::Movable,
        nofragment: false,
    }
}

impl Facts {
    /// Whether a pass that found nothing may have what is kept for urgent requests at last.
    ///
    /// | era | when |
    /// |---|---|
    /// | 4.14, 5.10 | never (4.14 UNVERIFIED) |
    /// | 6.1, 6.12, 7.2 | the request cannot wait |
    pub(crate) fn has_last_reserve(&self, pass: Pass) -> bool {
        match self.era {
            Era::V4_14 | Era::V5_10 => false,
            Era::V6_1 | Era::V6_12 | Era::V7_2 => pass.non_block,
        }
    }
}

/// The min watermark as a pass sees it.
///
/// | era | urgent | cannot wait |
/// |---|---|---|
/// | 4.14 | as 5.10 (UNVERIFIED) | |
/// | 5.10 | half of it less | a quarter of the rest less, urgent or not |
/// | 6.1, 6.12, 7.2 | half of it less | a quarter of the rest less, only if urgent |
///
/// Source: Linux 5.10–7.2 mm/page_alloc.c `__zone_watermark_ok`.
#[inline]
pub(crate) fn adjusted(era: Era, mark: u64, pass: Pass) -> u64 {
    let half = if pass.min_reserve { mark - mark / 2 } else { mark };
    let goes_on = match era {
        Era::V4_14 | Era::V5_10 => pass.non_block,
        Era::V6_1 | Era::V6_12 | Era::V7_2 => pass.non_block && pass.min_reserve,
    };
    if goes_on { half - half / 4 } else { half }
}

/// Whether the frames that are kept for urgent requests count for a pass.
///
/// | era | when |
/// |---|---|
/// | 4.14, 5.10 | the request cannot wait (4.14 UNVERIFIED) |
/// | 6.1, 6.12, 7.2 | it is urgent or cannot wait |
fn uses_reserves(era: Era, pass: Pass) -> bool {
    match era {
        Era::V4_14 | Era::V5_10 => pass.non_block,
        Era::V6_1 | Era::V6_12 | Era::V7_2 => pass.highatomic || pass.min_reserve || pass.non_block,
    }
}

/// Whether a zone has `2^order` frames for a request up to the zone of index `highest`, and `extra` frames more.
#[inline]
pub(crate) fn is_ok<S: Store>(
    zone: &Zone<S>,
    held: &Held,
    order: u8,
    extra: u64,
    highest: crate::ZoneKind,
    pass: Pass,
) -> bool {
    let Some(mark) = zone.mark(pass.mark) else { return true };
    let least = adjusted(zone.facts.era, mark + zone.boost() + extra, pass) + zone.reserve(highest);
    let kept = zone.free().saturating_sub((1 << order) - 1);
    if kept <= least || kept.saturating_sub(unusable(zone, pass)) <= least {
        return false;
    }
    order == 0 || zone.has_block(held, order, pass)
}

/// Free frames that a pass must not count.
///
/// | era | of those kept for urgent requests |
/// |---|---|
/// | 4.14, 5.10, 6.1 | all of the pageblocks that are kept (4.14 UNVERIFIED) |
/// | 6.12, 7.2 | the free ones among them |
fn unusable<S: Store>(zone: &Zone<S>, pass: Pass) -> u64 {
    if zone.is_plain() {
        return 0;
    }
    let cma = if pass.cma { 0 } else { zone.free_cma() };
    if uses_reserves(zone.facts.era, pass) {
        return cma;
    }
    cma + match zone.facts.era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 => zone.reserved_highatomic(),
        Era::V6_12 | Era::V7_2 => zone.free_highatomic(),
    }
}
