//! Taking pages and tables out of a space: clear, flush, free the tables, free the pages.
//!
//! Pages are gathered in bundles on the stack: a full bundle is flushed and freed before the next one. The tables go
//! with the last flush.
//!
//! Source: Linux 6.1 mm/memory.c `unmap_vmas`, `free_pgtables`, mm/mmu_gather.c.

use core::ops::ControlFlow;

use kernmem_arch::UserFormat;
use kernmem_base::{FrameSource, NoTlb, Pfn, PhysMem, Tlb, VirtAddr, VirtRange};
use kernmem_page_alloc::PageSource;
use kernmem_pgtable::Tables;

use crate::env::Counted;
use crate::error::split_failure;
use crate::pages::{PageSlot, each_page};
use crate::{Broken, Env, PageCounts, Region, Space, SpaceError, Store, UserRoot};

/// Pages of a bundle. Linux has 8 on the stack and takes a page for 510 more where it can.
const BUNDLE: usize = 64;

/// What is unmapped, and which tables nobody else counts on.
#[derive(Clone, Copy)]
pub(crate) struct Span {
    /// The pages.
    pub range: VirtRange,
    /// End of the region before.
    pub floor: VirtAddr,
    /// Start of the region behind, exclusive.
    pub ceiling: VirtAddr,
    /// Everything goes: flushes name no range.
    pub is_whole_space: bool,
}

/// Pages that wait for a flush.
struct Bundle {
    pages: [Pfn; BUNDLE],
    count: usize,
    /// From the first to the last cleared entry.
    cleared: Option<VirtRange>,
}

impl Bundle {
    const fn new() -> Self {
        Self { pages: [Pfn(0); BUNDLE], count: 0, cleared: None }
    }

    fn clear(&mut self, page: VirtRange) {
        let start = self.cleared.map_or(page.start, |cleared| cleared.start);
        self.cleared = Some(VirtRange { start, last: page.last });
    }
}

/// Why the walk over the pages stopped.
enum Stop {
    /// The bundle is full; on with this address.
    Full(VirtAddr),
    Failed(SpaceError),
}

impl<E: Into<SpaceError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl<F: UserFormat, S: Store<Region>> Space<F, S> {
    /// Takes the pages and tables of a span away, behind the regions.
    pub(crate) fn unmap_pages<M: PhysMem, P: PageSource + FrameSource, T: Tlb, C: PageCounts>(
        &mut self,
        env: &mut Env<'_, M, P, T, C>,
        span: Span,
    ) -> Result<(), SpaceError> {
        let mut rest = span.range;
        loop {
            let mut bundle = Bundle::new();
            match self.clear_some(env, rest, &mut bundle) {
                Ok(Some(next)) => {
                    self.flush_span(env.tlb, &span, bundle.cleared, false);
                    put_pages(env, &bundle)?;
                    rest.start = next;
                }
                Ok(None) => return self.free_tables(env, &span, &bundle),
                Err(error) => {
                    self.flush_span(env.tlb, &span, bundle.cleared, false);
                    put_pages(env, &bundle)?;
                    return Err(error);
                }
            }
        }
    }

    /// Clears entries until the bundle is full; returns where to go on.
    fn clear_some<M: PhysMem, P, T, C>(
        &mut self,
        env: &Env<'_, M, P, T, C>,
        range: VirtRange,
        bundle: &mut Bundle,
    ) -> Result<Option<VirtAddr>, SpaceError> {
        let (mem, era, granule) = (env.mem, env.era, Self::granule());
        let mut tables = Tables::<F, M>::new(mem, self.root());
        let last = F::shape().levels.len() - 1;
        let anon_pages = &mut self.anon_pages;
        let walked = each_page::<F, M, Stop>(mem, tables.root(), range, |slot: PageSlot| {
            let Some((base, attrs)) = F::page(era, slot.raw) else {
                return ControlFlow::Break(Broken::Foreign { va: slot.va, raw: slot.raw }.into());
            };
            if bundle.count == BUNDLE {
                return ControlFlow::Break(Stop::Full(slot.va));
            }
            if let Err(error) = tables.set_entry(slot.table, last, slot.index, 0) {
                return ControlFlow::Break(error.into());
            }
            if F::is_valid(attrs) {
                bundle.clear(VirtRange { start: slot.va, last: slot.va + (granule.bytes() - 1) });
            }
            if !F::is_special(attrs) {
                bundle.pages[bundle.count] = base.pfn(granule);
                bundle.count += 1;
                *anon_pages -= 1;
            }
            ControlFlow::Continue(())
        });
        match walked {
            ControlFlow::Continue(()) => Ok(None),
            ControlFlow::Break(Stop::Full(next)) => Ok(Some(next)),
            ControlFlow::Break(Stop::Failed(error)) => Err(error),
        }
    }

    fn flush_span(&mut self, tlb: &mut impl Tlb, span: &Span, range: Option<VirtRange>, frees_tables: bool) {
        if let Some(range) = range {
            self.flush(tlb, (!span.is_whole_space).then_some(range), frees_tables);
        }
    }

    /// The last flush, then the tables, then the last pages.
    fn free_tables<M: PhysMem, P: PageSource + FrameSource, T: Tlb, C: PageCounts>(
        &mut self,
        env: &mut Env<'_, M, P, T, C>,
        span: &Span,
        bundle: &Bundle,
    ) -> Result<(), SpaceError> {
        let mut tables = Tables::<F, M>::new(env.mem, self.root.pa());
        let free = VirtRange::until(span.floor, span.ceiling).unwrap_or(span.range);
        let (result, stale) = match tables.cursor(free).unmap_covered() {
            Ok(stale) => (Ok(()), stale),
            Err(failed) => {
                let (error, stale) = split_failure(failed);
                (Err(error), stale)
            }
        };
        let range = stale.range().into_iter().chain(bundle.cleared).reduce(around);
        self.flush_span(env.tlb, span, range, stale.frees_tables());
        let mut frames = Counted { frames: &mut *env.frames, bytes: &mut self.table_bytes, granule: Self::granule() };
        stale.pay(&mut NoTlb, &mut tables, &mut frames); // flushed above, with the pages
        put_pages(env, bundle)?;
        result
    }

    /// Ends the space: every page, every table below the root. The root is handed back, for the kernel half to free.
    ///
    /// # Errors
    /// What could not be read of the tables and pages is lost; the root comes back all the same.
    pub fn exit<M: PhysMem, P: PageSource + FrameSource, T: Tlb, C: PageCounts>(
        mut self,
        env: &mut Env<'_, M, P, T, C>,
    ) -> (UserRoot, Result<(), SpaceError>) {
        let top = Self::top();
        let range = VirtRange { start: VirtAddr(0), last: top - 1 };
        let span = Span { range, floor: range.start, ceiling: top, is_whole_space: true };
        let result = self.unmap_pages(env, span);
        (self.root, result)
    }
}

/// The smallest range that holds both.
fn around(one: VirtRange, other: VirtRange) -> VirtRange {
    VirtRange { start: one.start.min(other.start), last: one.last.max(other.last) }
}

fn put_pages<M: PhysMem, P: PageSource + FrameSource, T: Tlb, C: PageCounts>(
    env: &mut Env<'_, M, P, T, C>,
    bundle: &Bundle,
) -> Result<(), SpaceError> {
    bundle.pages[..bundle.count].iter().try_for_each(|&page| env.put_page(page))
}
