//! HVO: the descriptors of a huge page share one frame, and the others' memory goes back to the page allocator.
//!
//! ```text
//! before   [ d0 ][ d1 ][ d2 ] … [ d7 ]        eight frames of descriptors for a huge page of 2M
//! after    [ d0 ][ d0 ][ d0 ] … [ d0 ]        one; the other addresses show it, read only
//!            rw    ro    ro       ro
//! ```
//!
//! # How the change is legal where live entries need break-before-make
//! Linux does this on x86-64 alone, because arm64 forbids changing the output address of a live entry, and descriptors
//! are read by anybody at any time. Here it is allowed on arm64 too, under one condition that the types enforce:
//! nobody else uses the descriptors of the page while they are changed. The caller holds the kernel's tables, the
//! frames and the huge page exclusively (`&mut`), and the page allocator of this project keeps its own state outside
//! the descriptors. The cursor then breaks every entry, flushes once, and makes the new ones ([`CursorMut::remap`],
//! [`CursorMut::split`]); a CPU that speculates into the gap finds no translation and caches none.
//!
//! # Invariants
//! 1. [`restore`] takes every frame that it needs before it changes anything.
//! 2. The frame of the head's descriptors never changes, so that its contents need no copy.
//!
//! Eras: 6.1's way, with the head's frame kept in place; 6.12 copies the head to a new frame and 7.2 keeps one shared
//! frame a zone and order, which is not done here.
//!
//! Source: Linux 6.1 mm/hugetlb_vmemmap.c `hugetlb_vmemmap_optimize`, `vmemmap_remap_free`, `vmemmap_remap_alloc`,
//! `reset_struct_pages`.
//!
//! [`CursorMut::remap`]: kernmem_pgtable::CursorMut::remap
//! [`CursorMut::split`]: kernmem_pgtable::CursorMut::split

use core::sync::atomic::{AtomicU64, Ordering};

use kernmem_arch::EntryFormat;
use kernmem_base::{FrameSource, Level, Order, Pfn, PhysAddr, PhysMem, PhysRange, Tlb, VirtAddr, VirtRange};
use kernmem_page_alloc::{Gfp, PageSource};
use kernmem_pgtable::{MapError, Walk, translate};

use crate::{Env, HvoError};

/// Pages of descriptors that share one flush: their frames are remembered on the stack, so no list needs memory.
const BATCH: usize = 64;

/// What an optimisation gave back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Freed {
    /// Frames of descriptors that went to the page allocator.
    pub frames: u64,
    /// Tables that splitting blocks of the map took.
    pub tables: u64,
}

/// The frames of descriptors that a huge page can do without; `None` if there are none.
///
/// Source: Linux 6.1 mm/hugetlb_vmemmap.c `hugetlb_vmemmap_init`.
#[must_use]
pub const fn saving(granule_bytes: u64, descriptor_bytes: u64, order: Order) -> Option<u64> {
    let map = descriptor_bytes << order.0;
    if !descriptor_bytes.is_power_of_two() || map <= granule_bytes { None } else { Some(map / granule_bytes - 1) }
}

/// The addresses of a page's descriptors but for the first page of them.
fn tails<F: EntryFormat, M, P, T, D>(
    env: &Env<'_, '_, F, M, P, T, D>,
    pfn: Pfn,
    order: Order,
) -> Result<VirtRange, HvoError> {
    let granule = F::shape().granule.bytes();
    saving(granule, env.vmemmap.descriptor_bytes, order).ok_or(HvoError::TooSmall)?;
    let start = env.vmemmap.descriptor(pfn);
    let all = env.vmemmap.descriptors(pfn, order).filter(|_| start.is_aligned(granule));
    let all = all.ok_or(HvoError::Misaligned { start })?;
    Ok(VirtRange { start: all.start + granule, last: all.last })
}

fn mapped<F: EntryFormat, M: PhysMem, P, T, D>(
    env: &Env<'_, '_, F, M, P, T, D>,
    va: VirtAddr,
) -> Result<(PhysAddr, bool), HvoError> {
    match translate::<F, M>(env.tables.mem(), env.tables.root(), va) {
        Ok(Walk::Mapped { pa, level, .. }) => Ok((pa, level == Level::Pte)),
        Ok(Walk::Hole { level }) => Err(HvoError::Map(MapError::Hole { va, level })),
        Err(_) => Err(HvoError::Misaligned { start: va }),
    }
}

/// Whether the descriptors of the page at `pfn` share their first frame.
pub(crate) fn is_shared<F: EntryFormat, M: PhysMem, P, T, D>(
    env: &Env<'_, '_, F, M, P, T, D>,
    pfn: Pfn,
    order: Order,
) -> bool {
    let Ok(tails) = tails(env, pfn, order) else { return false };
    let head = mapped(env, tails.start - F::shape().granule.bytes());
    matches!((head, mapped(env, tails.start)), (Ok((head, _)), Ok((tail, _))) if head == tail)
}

/// Lets the descriptors of the page of `2^order` frames at `pfn` share their first frame, and gives the others back.
///
/// # Errors
/// [`HvoError`]; the descriptors are as before, but blocks of the map may have been split.
pub fn optimize<F, M, P, T, D>(env: &mut Env<'_, '_, F, M, P, T, D>, pfn: Pfn, order: Order) -> Result<Freed, HvoError>
where
    F: EntryFormat,
    M: PhysMem,
    P: PageSource + FrameSource,
    T: Tlb,
{
    let granule = F::shape().granule;
    let tails = tails(env, pfn, order)?;
    let head = VirtRange { start: tails.start - granule.bytes(), last: tails.last };
    let tables = split_blocks(env, head)?;
    let (kept, _) = mapped(env, head.start)?;
    let kept = kept.align_down(granule.bytes());
    // The frames are found again by their addresses while they are still mapped, and freed once nobody can reach them.
    let first = mapped(env, tails.start)?.0;
    if first == kept {
        return Ok(Freed { frames: 0, tables });
    }
    let mut freed = 0;
    let mut at = tails;
    loop {
        let mut frames = [PhysAddr(0); BATCH];
        let mut count = 0;
        let mut next = Some(at.start);
        while let Some(va) = next.filter(|va| *va <= tails.last && count < BATCH) {
            frames[count] = mapped(env, va)?.0;
            count += 1;
            next = va.checked_add(granule.bytes());
        }
        let bytes = count as u64 * granule.bytes();
        let Some(part) = VirtRange::of_size(at.start, bytes) else { break };
        let read_only = env.vmemmap.read_only;
        let stale = env.tables.cursor(part).remap(env.tlb, |_| (kept, read_only))?;
        stale.pay(env.tlb, env.tables, env.pages);
        for frame in &frames[..count] {
            give_back(env, *frame);
            freed += 1;
        }
        match part.last.checked_add(1).filter(|next| *next <= tails.last) {
            Some(next) => at.start = next,
            None => break,
        }
    }
    Ok(Freed { frames: freed, tables })
}

/// Splits every block that maps part of `range` into pages; returns how many tables that took.
fn split_blocks<F, M, P, T, D>(env: &mut Env<'_, '_, F, M, P, T, D>, range: VirtRange) -> Result<u64, HvoError>
where
    F: EntryFormat,
    M: PhysMem,
    P: PageSource + FrameSource,
    T: Tlb,
{
    let mut tables = 0;
    let mut va = range.start;
    loop {
        let leaf = loop {
            let walk = translate::<F, M>(env.tables.mem(), env.tables.root(), va);
            let Ok(Walk::Mapped { level, attrs, .. }) = walk else {
                mapped(env, va)?;
                return Err(HvoError::Misaligned { start: va });
            };
            if level == Level::Pte && !F::is_contiguous(attrs) {
                break F::shape().level(level).bytes();
            }
            let is_above_pmd = level < Level::Pmd;
            let here = VirtRange { start: va, last: va };
            let (table, writable) = (env.vmemmap.table, env.vmemmap.writable);
            let is_group = F::is_contiguous(attrs);
            let mut cursor = env.tables.cursor(here);
            let (_, stale) = if is_above_pmd || is_group {
                cursor.split(env.pages, env.tlb, table)?
            } else {
                cursor.split_as(env.pages, env.tlb, table, writable)?
            };
            stale.pay(env.tlb, env.tables, env.pages);
            tables += u64::from(!is_group);
        };
        match va.checked_add(leaf).filter(|next| *next <= range.last) {
            Some(next) => va = next,
            None => return Ok(tables),
        }
    }
}

/// Gives one frame of descriptors to the page allocator: as its own, or as one that boot had kept.
fn give_back<F: EntryFormat, M: PhysMem, P: PageSource, T, D>(env: &mut Env<'_, '_, F, M, P, T, D>, frame: PhysAddr) {
    let granule = F::shape().granule;
    env.tables.mem().discard(PhysRange::new(frame, frame + granule.bytes()));
    let pfn = frame.pfn(granule);
    if env.pages.free(pfn, Order(0)).is_err() {
        let adopted = env.pages.adopt(pfn);
        debug_assert!(adopted.is_ok(), "a frame of descriptors is the page allocator's or boot's: {adopted:?}");
    }
}

/// Gives the descriptors of the page at `pfn` frames of their own again, with what each of them says.
///
/// # Errors
/// [`HvoError::NoMemory`] and others; nothing has changed then.
pub fn restore<F, M, P, T, D>(env: &mut Env<'_, '_, F, M, P, T, D>, pfn: Pfn, order: Order) -> Result<(), HvoError>
where
    F: EntryFormat,
    M: PhysMem,
    P: PageSource + FrameSource,
    T: Tlb,
{
    let granule = F::shape().granule;
    let tails = tails(env, pfn, order)?;
    let kept = mapped(env, tails.start - granule.bytes())?.0;
    // Whatever can be found wrong is found before anything is taken.
    for offset in (0..tails.size()).step_by(granule.bytes() as usize) {
        let va = tails.start + offset;
        if !mapped(env, va)?.1 {
            return Err(HvoError::Map(MapError::Inside { va, level: Level::Pmd }));
        }
    }
    let wanted = tails.size() >> granule.shift();
    // New frames are linked through their own first word, so that no list is needed; the last word of the chain is 0.
    let mut chain = None;
    for got in 0..wanted {
        let Some(frame) = take(env) else {
            undo(env, chain);
            return Err(HvoError::NoMemory { wanted, got });
        };
        let words = words(env, frame)?;
        words[0].store(chain.map_or(0, |next: PhysAddr| next.0 | 1), Ordering::Relaxed);
        chain = Some(frame);
    }
    let writable = env.vmemmap.writable;
    let mut va = tails.start;
    while chain.is_some() {
        let mut frames = [PhysAddr(0); BATCH];
        let mut count = 0;
        while let Some(frame) = chain.filter(|_| count < BATCH) {
            let next = words(env, frame)?[0].load(Ordering::Relaxed);
            copy_descriptors(env, kept, frame)?;
            frames[count] = frame;
            count += 1;
            chain = (next & 1 == 1).then_some(PhysAddr(next & !1));
        }
        let last = va + (count as u64 * granule.bytes() - 1);
        let (part, first) = (VirtRange { start: va, last }, va);
        let frame_of = |at: VirtAddr| frames[((at - first) >> granule.shift()) as usize];
        let stale = env.tables.cursor(part).remap(env.tlb, |at| (frame_of(at), writable))?;
        stale.pay(env.tlb, env.tables, env.pages);
        va = last.wrapping_add(1);
    }
    Ok(())
}

fn take<F: EntryFormat, M, P: PageSource, T, D>(env: &mut Env<'_, '_, F, M, P, T, D>) -> Option<PhysAddr> {
    env.pages.alloc(Gfp::KERNEL, Order(0)).ok()?.to_phys(F::shape().granule)
}

fn undo<F: EntryFormat, M: PhysMem, P: PageSource, T, D>(
    env: &mut Env<'_, '_, F, M, P, T, D>,
    chain: Option<PhysAddr>,
) {
    let mut chain = chain;
    while let Some(frame) = chain {
        let next = words(env, frame).map_or(0, |words| words[0].load(Ordering::Relaxed));
        let given = env.pages.free(frame.pfn(F::shape().granule), Order(0));
        debug_assert!(given.is_ok(), "a frame that was just taken can be given back");
        chain = (next & 1 == 1).then_some(PhysAddr(next & !1));
    }
}

/// A frame as words.
fn words<'m, F: EntryFormat, M: PhysMem, P, T, D>(
    env: &Env<'_, 'm, F, M, P, T, D>,
    frame: PhysAddr,
) -> Result<&'m [AtomicU64], HvoError> {
    Ok(env.tables.mem().table_mut::<AtomicU64>(frame, (F::shape().granule.bytes() / 8) as usize)?)
}

/// Copies the shared frame, whose first descriptors are the head and the first tails: in a frame of plain tails three
/// ordinary ones stand there.
fn copy_descriptors<F: EntryFormat, M: PhysMem, P, T, D>(
    env: &Env<'_, '_, F, M, P, T, D>,
    from: PhysAddr,
    to: PhysAddr,
) -> Result<(), HvoError> {
    const RESET: usize = 3;
    let special = RESET * (env.vmemmap.descriptor_bytes / 8) as usize;
    let (from, to) = (words(env, from)?, words(env, to)?);
    for (index, word) in to.iter().enumerate() {
        let source = if index < special { index + special } else { index };
        word.store(from[source].load(Ordering::Relaxed), Ordering::Relaxed);
    }
    Ok(())
}
