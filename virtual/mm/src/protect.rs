//! Changing the rights of pages that are in place.
//!
//! Source: Linux 6.1 mm/mprotect.c `change_pte_range`, `can_change_pte_writable`.

use core::ops::ControlFlow;

use kernmem_arch::UserFormat;
use kernmem_base::{Era, PhysMem, Tlb, VirtRange};
use kernmem_pgtable::Tables;

use crate::pages::{PageSlot, each_page};
use crate::{Broken, Env, PageCounts, Region, Space, SpaceError, Store};

/// Whether a page may be made writable by a change of rights, so that the next write does not fault.
///
/// | era | yes if |
/// |---|---|
/// | to 5.10 | never, for private memory (4.14 UNVERIFIED) |
/// | 6.1 and later | it is dirty and exclusive to this space |
///
/// Source: Linux 6.1 mm/mprotect.c `can_change_pte_writable`.
const fn may_be_writable(era: Era, is_dirty: bool, is_exclusive: bool) -> bool {
    match era {
        Era::V4_14 | Era::V5_10 => false,
        Era::V6_1 | Era::V6_12 | Era::V7_2 => is_dirty && is_exclusive,
    }
}

impl<F: UserFormat, S: Store<Region>> Space<F, S> {
    /// Gives every page of `part` the rights of `part`, and flushes what was changed.
    pub(crate) fn protect_pages<M: PhysMem, P, T: Tlb, C: PageCounts>(
        &mut self,
        env: &mut Env<'_, M, P, T, C>,
        part: &Region,
    ) -> Result<(), SpaceError> {
        let Some(range) = part.range() else { return Ok(()) };
        let (mem, era, granule) = (env.mem, env.era, Self::granule());
        let protection = F::protection(era, part.rights, false);
        let mut tables = Tables::<F, M>::new(mem, self.root());
        let last = F::shape().levels.len() - 1;
        let counts = &mut *env.counts;
        let mut changed: Option<VirtRange> = None;
        let mut change = |slot: PageSlot| -> Result<(), SpaceError> {
            let (base, attrs) = F::page(era, slot.raw).ok_or(Broken::Foreign { va: slot.va, raw: slot.raw })?;
            let mut new = F::reprotect(era, attrs, protection);
            if part.rights.write && !F::is_special(attrs) {
                let is_exclusive = counts.is_exclusive(base.pfn(granule))?;
                if may_be_writable(era, F::is_dirty(era, attrs), is_exclusive) {
                    new = F::make_written(era, new);
                }
            }
            let raw = F::page_raw(base, new);
            if raw != slot.raw {
                tables.set_entry(slot.table, last, slot.index, raw)?;
                if F::is_valid(attrs) {
                    let start = changed.map_or(slot.va, |changed| changed.start);
                    changed = Some(VirtRange { start, last: slot.va + (granule.bytes() - 1) });
                }
            }
            Ok(())
        };
        let walked = each_page::<F, M, SpaceError>(mem, self.root.pa(), range, |slot| match change(slot) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        });
        if let Some(changed) = changed {
            self.flush(env.tlb, Some(changed), false);
        }
        match walked {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(error) => Err(error),
        }
    }
}
