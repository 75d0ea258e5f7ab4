//! Document 002: how many memory references reach a datum.

use kernmem_arch::Entry;
use kernmem_base::{BusError, Level, PhysAddr, Size, VirtAddr};
use kernmem_view::KernelView;
use kernmem_view::entries::{EntryVisitor, Place, entries};

use crate::bench::{Bench, Booted, Own, reached};
use crate::notebook::Notebook;
use crate::texts::Text;
use crate::{ClaimId, Holds, Lab, LabError, LabOptions, Value};

const FIVE: ClaimId = ClaimId::new(2, 1);

pub(crate) const LAB: Lab =
    Lab { name: "walk", title: Text::WalkTitle, reverse: Text::WalkReverse, claims: &[FIVE], run };

/// The place in a leaf whose datum is read: no level's index of it is zero.
const OFFSET: u64 = 0x128;

fn run(options: &LabOptions, book: &mut Notebook<'_>) -> Result<(), LabError> {
    let bench = Bench::open(options, Own::Preset("arm64-4g"))?.with_leaves(options);
    bench.boot(|booted| five(&bench, booted, book))
}

/// The last leaf of each level in the linear map.
struct Samples {
    leaves: Vec<(Level, VirtAddr)>,
}

impl EntryVisitor for Samples {
    fn table(&mut self, _place: &Place, _next: PhysAddr, _attrs: u64) -> bool {
        true
    }

    fn slot(&mut self, place: &Place, entry: Entry<u64>) {
        if !matches!(entry, Entry::Leaf { .. }) {
            return;
        }
        match self.leaves.iter_mut().find(|(level, _)| *level == place.level) {
            Some((_, va)) => *va = place.va,
            None => self.leaves.push((place.level, place.va)),
        }
    }

    fn unreadable(&mut self, _va: VirtAddr, _level: Level, _error: BusError) {}
}

fn five(bench: &Bench, booted: &Booted<'_>, book: &mut Notebook<'_>) -> Result<(), LabError> {
    book.claim(FIVE, Text::FiveClaim)?;
    let root = booted.kernel_root()?;
    let mut samples = Samples { leaves: Vec::new() };
    for range in booted.linear_ranges()? {
        entries(&booted.kernel, root, range, &mut samples);
    }
    samples.leaves.sort_unstable_by(|a, b| b.cmp(a));
    let mut most = 0;
    for &(level, va) in &samples.leaves {
        most = most.max(sample(booted, root, level, va, book)?);
    }
    let levels = booted.kernel.format().shape().levels.len() as u64;
    let only_pages = samples.leaves.iter().all(|(level, _)| *level == Level::Pte);
    book.say(Text::Levels, &[("levels", Value::Count(levels)), ("most", Value::Count(most))])?;
    let holds = match (most == levels + 1, only_pages) {
        (true, true) => Holds::Yes,
        _ => Holds::OnlyIf(Text::TheLeafIsAPage),
    };
    book.conclude(bench.era(), holds)
}

/// Walks to a datum in one leaf, reads it, and counts where memory is read.
fn sample(
    booted: &Booted<'_>,
    root: PhysAddr,
    level: Level,
    leaf: VirtAddr,
    book: &mut Notebook<'_>,
) -> Result<u64, LabError> {
    let va = leaf + OFFSET;
    let before = booted.memory.references();
    let steps = booted.steps(root, va)?;
    let (pa, bytes) = reached(&steps, va).ok_or(LabError::Missing("leaf that was just seen"))?;
    booted.read_word(pa)?;
    let reads = booted.memory.references() - before;
    book.show(Text::WalkOf, &[("va", Value::Address(va.0)), ("leaf", Value::Bytes(bytes))])?;
    for step in &steps {
        book.show(
            Text::WalkStep,
            &[
                ("level", Value::Name(format!("{:3}", step.place.level.name()))),
                ("table", Value::Address(step.place.table.0)),
                ("index", Value::Name(format!("{:3}", step.place.index))),
                ("raw", Value::Address(step.place.raw)),
            ],
        )?;
    }
    let (name, va_name) = names(level);
    book.keep((va_name, Value::Address(va.0)));
    book.keep((name, Value::Count(reads)));
    book.show(
        Text::WalkEnd,
        &[("pa", Value::Address(pa.0)), ("reads", Value::Count(reads)), ("leaf", Value::Name(Size(bytes).to_string()))],
    )?;
    Ok(reads)
}

const fn names(level: Level) -> (&'static str, &'static str) {
    match level {
        Level::Pte => ("reads_page", "va_page"),
        Level::Pmd => ("reads_pmd", "va_pmd"),
        Level::Pud => ("reads_pud", "va_pud"),
        Level::P4d | Level::Pgd => ("reads_above", "va_above"),
    }
}
