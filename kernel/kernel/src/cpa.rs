//! Changes of rights, leaf by leaf: nothing, split, or rewrite; then the same for aliases.
//!
//! Here: walking the range, splitting, writing, counting. Not here: what becomes of a leaf
//! (`kernmem_arch::x86::cpa`), which steps there are and who hears of them (`late`, `pti` of each architecture).
//!
//! # Invariants
//! 1. A change names exactly the addresses where a leaf was split or rewritten, aliases included.
//!
//! Source: Linux 6.1 arch/x86/mm/pat/set_memory.c `__change_page_attr_set_clr`, `__change_page_attr`,
//! `__split_large_page`, `cpa_process_alias`.

use alloc::vec::Vec;

use kernmem_arch::Entry;
use kernmem_arch::x86::counters::DirectMapCounters;
use kernmem_arch::x86::cpa::{
    AliasFacts, Decision, Mapped, Masking, Protections, Target, alias_change, decide, split_attrs,
};
use kernmem_arch::x86::image::ImageStep;
use kernmem_arch::x86::prot::{Masks, table};
use kernmem_arch::x86::{X86Attrs, X86Format, bit};
use kernmem_base::{Era, FrameSource, Level, NoTlb, PhysAddr, PhysMem, PhysRange, VirtAddr, VirtRange};
use kernmem_pgtable::{Tables, steps};

use crate::{BootError, Changed, Witness};

/// A leaf, present or not, and where its entry stands.
struct Found {
    table: PhysAddr,
    depth: usize,
    index: usize,
    level: Level,
    block: VirtRange,
    base: PhysAddr,
    attrs: X86Attrs,
}

/// One change on its way through a range.
#[derive(Clone, Copy)]
struct Pass {
    change: Masking,
    aliases: bool,
    force_pages: bool,
}

/// Everything that a change of rights reads and writes.
pub(crate) struct Cpa<'a, 'm, F, M, S> {
    pub tables: &'a mut Tables<'m, F, M>,
    /// Where tables of split leaves come from.
    pub frames: &'a mut S,
    pub era: Era,
    pub masks: Masks,
    pub protections: &'a Protections,
    /// Where memory is mapped a second time, if it is.
    pub aliases: Option<&'a AliasFacts>,
    /// What the direct map holds.
    pub mapped: &'a [PhysRange],
    pub counters: &'a mut DirectMapCounters,
}

/// Tells the witness, neighbours joined.
pub(crate) fn tell(mut touched: Vec<VirtRange>, cause: kernmem_arch::Change, unmapped: bool, log: &mut impl Witness) {
    touched.sort_unstable_by_key(|range| range.start);
    let mut joined: Vec<VirtRange> = Vec::new();
    for range in touched {
        match joined.last_mut() {
            Some(last) if range.start <= last.last.wrapping_add(1) => last.last = last.last.max(range.last),
            _ => joined.push(range),
        }
    }
    for range in joined {
        log.changed(&Changed { range, cause, unmapped });
    }
}

impl<F: X86Format, M: PhysMem, S: FrameSource> Cpa<'_, '_, F, M, S> {
    /// Takes one step, and says where it changed something; `force_pages` splits every leaf in the way.
    pub(crate) fn change(&mut self, step: &ImageStep, force_pages: bool) -> Result<Vec<VirtRange>, BootError> {
        let mut touched = Vec::new();
        if let Some(change) = step.change.on(self.masks).or(force_pages.then_some(step.change)) {
            self.pass(step.range, Pass { change, aliases: step.aliases, force_pages }, &mut touched)?;
        }
        Ok(touched)
    }

    fn is_mapped(&self, pa: PhysAddr) -> bool {
        self.mapped.iter().any(|range| range.contains(pa))
    }

    /// The CPU writes to `range`: leaves that it may write become dirty.
    pub(crate) fn write(&mut self, range: VirtRange) -> Result<(), BootError> {
        const WRITABLE: u64 = bit::PRESENT | bit::RW;
        let mut at = Some(range.start);
        while let Some(va) = at {
            let (found, covered) = self.find(va)?;
            if let Some(found) = found.filter(|found| found.attrs.0 & WRITABLE == WRITABLE) {
                let attrs = X86Attrs(found.attrs.0 | bit::DIRTY);
                let raw = F::raw_leaf(self.masks, found.base, attrs, found.level);
                self.tables.set_entry(found.table, found.depth, found.index, raw)?;
            }
            at = following(VirtRange { start: va, last: covered.last.min(range.last) }, range);
        }
        Ok(())
    }

    fn pass(&mut self, range: VirtRange, pass: Pass, touched: &mut Vec<VirtRange>) -> Result<(), BootError> {
        let mut at = Some(range.start);
        while let Some(va) = at {
            let (found, covered) = self.find(va)?;
            let here = VirtRange { start: va, last: covered.last.min(range.last) };
            let Some(found) = found else {
                at = following(here, range);
                continue;
            };
            let whole = Mapped { va: found.block, pa: PhysRange::new(found.base, found.base + found.block.size()) };
            let target = Target { attrs: found.attrs, level: found.level, whole };
            let asked = VirtRange { start: va, last: range.last };
            let masks = self.masks;
            match decide(&target, asked, pass.change, self.protections, masks, pass.force_pages) {
                Decision::Nothing => {}
                Decision::Split => {
                    self.split(&found, va)?;
                    touched.push(here);
                    continue;
                }
                Decision::Rewrite(attrs) => {
                    let raw = F::raw_leaf(masks, found.base, attrs, found.level);
                    self.tables.set_entry(found.table, found.depth, found.index, raw)?;
                    touched.push(here);
                }
            }
            if pass.aliases {
                self.change_aliases(here, found.base + (va - found.block.start), pass.change, touched)?;
            }
            at = following(here, range);
        }
        Ok(())
    }

    /// The leaf for `va`, present or not, and the addresses of its entry.
    fn find(&self, va: VirtAddr) -> Result<(Option<Found>, VirtRange), BootError> {
        let mut last = None;
        for step in steps::<F, M>(self.tables.mem(), self.tables.root(), va) {
            last = Some(step?);
        }
        let Some(step) = last else { return Ok((None, VirtRange { start: va, last: va })) };
        let shape = F::shape().level(step.level);
        let start = va.align_down(shape.bytes());
        let block = VirtRange { start, last: VirtAddr(start.0 | (shape.bytes() - 1)) };
        let frame = F::base_of(bit::FRAME | bit::PRESENT, step.level).0;
        let (base, attrs) = match step.entry {
            Entry::Leaf { base, attrs } => (base, attrs),
            Entry::Absent { sw } if sw != 0 => (F::base_of(sw, step.level), X86Attrs(sw & !frame)),
            Entry::Absent { .. } | Entry::Table { .. } | Entry::Reserved { .. } => return Ok((None, block)),
        };
        let depth = F::shape().depth(step.level);
        let found = Found { table: step.table, depth, index: step.index, level: step.level, block, base, attrs };
        Ok((Some(found), block))
    }

    /// Replaces a leaf by 512 smaller ones, and counts that if the direct map holds its memory.
    fn split(&mut self, found: &Found, va: VirtAddr) -> Result<(), BootError> {
        let smaller = split_attrs(found.attrs, found.level, self.masks);
        let page = VirtRange { start: va, last: va };
        let (_, stale) = self.tables.cursor(page).split_as(self.frames, &mut NoTlb, table::KERNPG, smaller)?;
        stale.forgive("no CPU of this machine holds translations yet");
        if self.is_mapped(found.base + (va - found.block.start)) {
            self.counters.split(found.level);
        }
        Ok(())
    }

    fn change_aliases(
        &mut self,
        here: VirtRange,
        pa: PhysAddr,
        change: Masking,
        touched: &mut Vec<VirtRange>,
    ) -> Result<(), BootError> {
        let (Some(facts), Some(change)) = (self.aliases, alias_change(self.era, change)) else { return Ok(()) };
        let aliases = facts.aliases(here.start, pa, self.is_mapped(pa));
        let pass = Pass { change, aliases: false, force_pages: false };
        for start in [aliases.direct, aliases.image].into_iter().flatten() {
            self.pass(VirtRange { start, last: start + (here.last - here.start) }, pass, touched)?;
        }
        Ok(())
    }
}

/// The address behind `here`, if it is still in `range`.
fn following(here: VirtRange, range: VirtRange) -> Option<VirtAddr> {
    (here.last < range.last).then(|| here.last + 1)
}
