//! The smallest set of changed options that turns one kernel's page tables into given ones.
//!
//! Sets are tried by size, from none at all: each is one boot without a record, refused before it if two of its
//! changes decide the same or that kernel is not modelled. All sets of the smallest size that does it are the answer.
//!
//! Here: the search. Not here: which changes are tried (`change`), how listings are held against each other (`verify`).

use core::num::NonZeroUsize;
use core::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use kernmem::{Boot, TableFrame, Witness};
use kernmem_base::{VirtAddr, VirtRange};
use kernmem_memblock::{Event, Observer};
use kernmem_report::{ptdump, regions};
use kernmem_sim::Memory;
use kernmem_source::Source;
use kernmem_view::{KernelView, LayoutView, RootKind};

use crate::change::{Change, Kind, candidates};
use crate::listing::{Line, Listing};
use crate::verify::same_listing;

/// Table frames that one trial may take: those of half a terabyte in pages of 4K, and some.
const MOST_TABLES: u64 = 280_000;

/// What is to be reached.
#[derive(Clone, Copy, Debug)]
pub enum Goal<'a> {
    /// A listing that a kernel printed; what does not follow from its inputs is left out of the comparison.
    Listing(&'a str),
    /// What this kernel would print.
    Kernel(&'a Source),
}

/// What is tried.
#[derive(Clone, Debug)]
pub struct Search {
    /// Largest set.
    pub up_to: usize,
    /// Kinds of changes; all if it is empty.
    pub kinds: Vec<Kind>,
}

/// What was found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Found {
    /// Every set of the smallest size that does it; one empty set if nothing has to be changed; none if no set does.
    pub sets: Vec<Vec<Change>>,
    /// Changes that were tried, alone or together.
    pub candidates: usize,
    /// Sets that were booted.
    pub boots: usize,
    /// Sets that were refused: they contradict themselves, or such a kernel is not modelled or does not boot.
    pub refused: usize,
}

/// What is compared with: prepared once.
enum Wanted<'a> {
    Recorded(&'a str),
    /// Our listing shows all pages, also those that a kernel would unmap as soon as they are free.
    Ours {
        listing: String,
        unmaps_free_pages: bool,
    },
}

/// Looks for the smallest sets of changes to `base`.
///
/// # Errors
/// The goal is a kernel that does not boot.
pub fn minimal(base: &Source, goal: Goal<'_>, search: &Search) -> Result<Found, kernmem::BootError> {
    let (wanted, other, amounts) = match goal {
        Goal::Listing(text) => (Wanted::Recorded(text), None, amounts(base, text)),
        Goal::Kernel(other) => {
            let unmaps_free_pages = other.config.debug_pagealloc().value;
            (Wanted::Ours { listing: listing(other)?, unmaps_free_pages }, Some(other), Vec::new())
        }
    };
    let mut changes = candidates(base, other, &amounts);
    changes.retain(|change| search.kinds.is_empty() || search.kinds.contains(&change.kind()));
    let mut found = Found { candidates: changes.len(), ..Found::default() };
    for size in 0..=search.up_to {
        let (sets, contradictions) = sets_of(&changes, size);
        let outcomes = try_all(base, &sets, &wanted);
        let refused = outcomes.iter().filter(|outcome| outcome.is_none()).count();
        found.boots += outcomes.len() - refused;
        found.refused += contradictions + refused;
        let does = sets.into_iter().zip(outcomes).filter(|(_, outcome)| *outcome == Some(true));
        found.sets = does.map(|(set, _)| set.into_iter().cloned().collect()).collect();
        if !found.sets.is_empty() {
            break;
        }
    }
    Ok(found)
}

/// Every set of `size` changes in order, but for those that contradict themselves, which are counted.
fn sets_of(changes: &[Change], size: usize) -> (Vec<Vec<&Change>>, usize) {
    let (mut sets, mut contradictions) = (vec![(0, Vec::new())], 0);
    for _ in 0..size {
        let mut larger = Vec::new();
        for (next, set) in sets {
            for (at, change) in changes.iter().enumerate().skip(next) {
                if set.iter().any(|other: &&Change| other.subject() == change.subject()) {
                    contradictions += 1;
                    continue;
                }
                let mut set = set.clone();
                set.push(change);
                larger.push((at + 1, set));
            }
        }
        sets = larger;
    }
    (sets.into_iter().map(|(_, set)| set).collect(), contradictions)
}

/// Boots each set on as many threads as the host has; `None` for one that is refused.
fn try_all(base: &Source, sets: &[Vec<&Change>], wanted: &Wanted<'_>) -> Vec<Option<bool>> {
    let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get).min(sets.len().max(1));
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            // Each thread takes the next set; nothing else is shared.
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(set) = sets.get(at) else { return done };
            done.push((at, try_one(base, set, wanted)));
        }
    };
    let mut outcomes = vec![None; sets.len()];
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            // A trial that panics is a mistake of ours: it goes on here.
            for (at, outcome) in worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)) {
                outcomes[at] = outcome;
            }
        }
    });
    outcomes
}

fn try_one(base: &Source, set: &[&Change], wanted: &Wanted<'_>) -> Option<bool> {
    let mut source = base.clone();
    set.iter().for_each(|change| change.apply(&mut source));
    let unmaps_free_pages = source.config.debug_pagealloc().value;
    match wanted {
        Wanted::Ours { unmaps_free_pages: other, .. } if unmaps_free_pages != *other => Some(false),
        Wanted::Ours { listing, .. } => self::listing(&source).ok().map(|ours| ours == *listing),
        Wanted::Recorded(text) => {
            let boot = Boot::new(&source.machine, &source.config);
            let memory = Memory::new(kernmem::memory_ranges(&boot)).ok()?;
            let kernel = kernmem_live::boot(&memory, &boot, Bounded(MOST_TABLES)).ok()?;
            let same = same_listing(&source, &kernel, text)?;
            Some(same && (!unmaps_free_pages || has_unmapped_pages(&kernel, text)))
        }
    }
}

/// Whether the listing maps less of the linear map than `view` does: a kernel that unmaps free pages has some, and
/// which they are does not follow from its boot.
fn has_unmapped_pages<V: KernelView>(view: &V, text: &str) -> bool {
    let mut ours = String::new();
    let printed = ptdump::linux(view, RootKind::Kernel, &mut ours);
    let linear = regions::of(view).into_iter().find(|region| region.key == "linear").map(|region| region.range);
    printed.is_ok() && linear.is_some_and(|linear| mapped_bytes(text, linear, None) < mapped_bytes(&ours, linear, None))
}

/// What the kernel of `source` prints.
fn listing(source: &Source) -> Result<String, kernmem::BootError> {
    let failed = |error: &dyn core::fmt::Display| kernmem::BootError::Input(error.to_string());
    let boot = Boot::new(&source.machine, &source.config);
    let memory = Memory::new(kernmem::memory_ranges(&boot)).map_err(|error| failed(&error))?;
    let kernel = kernmem_live::boot(&memory, &boot, Bounded(MOST_TABLES))?;
    let mut text = String::new();
    ptdump::linux(&kernel, RootKind::Kernel, &mut text).map_err(|error| failed(&error))?;
    Ok(text)
}

/// Bounds what the tables of one trial take of the host, and keeps nothing.
struct Bounded(u64);

impl Observer for Bounded {
    fn event(&mut self, _event: Event<'_>) {}

    fn permits(&mut self, _size: u64) -> bool {
        self.0 > 0
    }
}

impl Witness for Bounded {
    fn table(&mut self, _frame: &TableFrame) {
        self.0 = self.0.saturating_sub(1);
    }
}

/// Words that limit memory to what a listing maps: as much as it maps of the linear map, or up to where it ends.
fn amounts(base: &Source, text: &str) -> Vec<String> {
    let boot = Boot::new(&base.machine, &base.config);
    let Ok(memory) = Memory::new(kernmem::memory_ranges(&boot)) else { return Vec::new() };
    let Ok(kernel) = kernmem_live::boot(&memory, &boot, Bounded(MOST_TABLES)) else { return Vec::new() };
    let linear = regions::of(&kernel).into_iter().find(|region| region.key == "linear").map(|region| region.range);
    let by_end = match kernel.layout() {
        LayoutView::X86 { layout, .. } => Some(layout.page_offset),
        _ => None,
    };
    let mut ours = String::new();
    if ptdump::linux(&kernel, RootKind::Kernel, &mut ours).is_err() {
        return Vec::new();
    }
    let amount = |text: &str| linear.map_or(0, |linear| mapped_bytes(text, linear, by_end));
    let (wanted, own) = (amount(text), amount(&ours));
    if wanted == 0 || wanted == own { Vec::new() } else { vec![format!("mem={}K", wanted.div_ceil(1 << 10))] }
}

/// Bytes that the listing maps in `region`; up to the last of them where `from` is given.
fn mapped_bytes(text: &str, region: VirtRange, from: Option<VirtAddr>) -> u64 {
    let listing = Listing::parse(text);
    let mut mapped = listing.lines.iter().filter_map(|line| match line {
        Line::Range { range, rest } if region.contains(range.start) => {
            // A hole tells its level and no rights.
            (rest.split_whitespace().count() > 1).then_some(*range)
        }
        Line::Range { .. } | Line::Marker(_) | Line::Foreign(_) => None,
    });
    match from {
        Some(from) => mapped.next_back().map_or(0, |range| range.last.0.wrapping_sub(from.0).wrapping_add(1)),
        None => mapped.map(|range| range.size()).sum(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_all_pairs_but_contradictions() {
        let changes = [
            Change::Option("A", true),
            Change::Option("B", true),
            Change::NoWord("w".to_owned()),
            Change::Option("B", false),
        ];
        let (none, _) = sets_of(&changes, 0);
        assert_eq!(none, [Vec::<&Change>::new()]);
        let (pairs, contradictions) = sets_of(&changes, 2);
        let [a, b, w, not_b] = &changes;
        assert_eq!(pairs, [[a, b], [a, w], [a, not_b], [b, w], [w, not_b]]);
        assert_eq!(contradictions, 1);
        let (triples, _) = sets_of(&changes, 3);
        assert_eq!(triples, [[a, b, w], [a, w, not_b]]);
    }

    #[test]
    fn holes_of_a_listing_map_nothing() {
        let text = "---[ x ]---\n0x0000000000001000-0x0000000000003000           8K PTE       RW NX\n\
                    0x0000000000003000-0x0000000000005000           8K PTE\n\
                    0x0000000000005000-0x0000000000006000           4K PTE       RW NX\n";
        let region = VirtRange { start: VirtAddr(0x1000), last: VirtAddr(0x5fff) };
        assert_eq!(mapped_bytes(text, region, None), 0x3000);
        assert_eq!(mapped_bytes(text, region, Some(VirtAddr(0))), 0x6000);
    }
}
