//! One address, followed as the MMU would: each level with its bits named.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use kernmem_arch::{Entry, named};
use kernmem_base::{BusError, Level, PhysAddr, Size, VirtAddr};
use kernmem_view::entries::{WalkStep, walk};
use kernmem_view::{KernelView, RootKind};

use crate::json::Json;
use crate::tables::fields;

/// Which root the MMU takes for an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RootChoice {
    /// The addresses above and below the hole cannot be translated: no memory is read.
    NotCanonical,
    /// arm64, bit 55 set: TTBR1.
    Upper(PhysAddr),
    /// arm64, bit 55 clear, TTBR0 with tables of user mode.
    Lower(PhysAddr),
    /// arm64, bit 55 clear, and no process: TTBR0 points to an empty table.
    LowerEmpty,
    /// x86-64: CR3.
    Single(PhysAddr),
}

/// A walk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Walked {
    /// The address.
    pub va: VirtAddr,
    /// The root.
    pub root: RootChoice,
    /// The levels that were read.
    pub steps: Vec<WalkStep>,
    /// Why the walk broke off.
    pub error: Option<BusError>,
}

impl Walked {
    /// The memory that the address reaches.
    #[must_use]
    pub fn memory(&self) -> Option<PhysAddr> {
        let last = self.steps.last()?;
        match last.entry {
            Entry::Leaf { base, .. } => Some(PhysAddr(base.0.wrapping_add(self.va.0 & (last.place.bytes - 1)))),
            Entry::Absent { .. } | Entry::Table { .. } | Entry::Reserved { .. } => None,
        }
    }
}

/// Follows `va`. Every entry that is read is one memory reference of the machine.
#[must_use]
pub fn take<V: KernelView>(view: &V, va: VirtAddr) -> Walked {
    let root = choose(view, va);
    let table = match root {
        RootChoice::NotCanonical | RootChoice::LowerEmpty => None,
        RootChoice::Upper(table) | RootChoice::Lower(table) | RootChoice::Single(table) => Some(table),
    };
    let (steps, error) = match table.map(|table| walk(view, table, va)) {
        Some(Ok(steps)) => (steps, None),
        Some(Err(error)) => (Vec::new(), Some(error)),
        None => (Vec::new(), None),
    };
    Walked { va, root, steps, error }
}

fn choose<V: KernelView>(view: &V, va: VirtAddr) -> RootChoice {
    let bits = view.format().shape().va_bits();
    let halves = view.format().has_root_per_half();
    // The sign is bit 55 where there are two roots, the highest translated bit where there is one.
    let low_bits = if halves { bits } else { bits - 1 };
    let above = va.0 >> low_bits;
    let all_ones = u64::MAX >> low_bits;
    let known = |kind| view.root(kind).known();
    match (halves, above) {
        (_, above) if above != 0 && above != all_ones => RootChoice::NotCanonical,
        (true, 0) => known(RootKind::User).map_or(RootChoice::LowerEmpty, RootChoice::Lower),
        (true, _) => known(RootKind::Kernel).map_or(RootChoice::LowerEmpty, RootChoice::Upper),
        (false, _) => known(RootKind::Kernel).map_or(RootChoice::NotCanonical, RootChoice::Single),
    }
}

fn root_sentence(root: RootChoice, arch: &str) -> String {
    match root {
        RootChoice::NotCanonical => {
            format!("no root: the bits above the translated ones are not all equal, so {arch} faults at once")
        }
        RootChoice::Upper(table) => format!("bit 55 is 1: TTBR1, the kernel's root table at {:#x}", table.0),
        RootChoice::Lower(table) => format!("bit 55 is 0: TTBR0, the root table of user mode at {:#x}", table.0),
        RootChoice::LowerEmpty => {
            String::from("bit 55 is 0: TTBR0; no process runs, so it points to the empty reserved_pg_dir")
        }
        RootChoice::Single(table) => format!("CR3: one root table for both halves at {:#x}", table.0),
    }
}

/// Where the walk ended, as a sentence.
fn end(walked: &Walked) -> String {
    if let Some(error) = walked.error {
        return format!("a table cannot be read: {error}");
    }
    let Some(last) = walked.steps.last() else { return String::from("nothing is mapped here") };
    match last.entry {
        Entry::Leaf { base, .. } => {
            let bytes = last.place.bytes;
            let what = if last.place.level == Level::Pte { "page" } else { "block" };
            let group = if last.place.contiguous { ", one of a contiguous group" } else { "" };
            let offset = walked.va.0 & (bytes - 1);
            let pa = base.0.wrapping_add(offset);
            format!("physical {pa:#x}: {offset:#x} into the {} {what} at {:#x}{group}", Size(bytes), base.0)
        }
        Entry::Absent { sw: 0 } => format!("nothing is mapped here: the {} entry is empty", last.place.level),
        Entry::Absent { .. } => format!("nothing is mapped here: the {} entry is not valid", last.place.level),
        Entry::Reserved { .. } | Entry::Table { .. } => {
            format!("MALFORMED: the architecture does not define this {} entry", last.place.level)
        }
    }
}

/// The sentence about memory references: what the machine counted for the walk, and the access itself.
fn references_sentence(walked: &Walked, references: u64) -> String {
    let plural = if references == 1 { "" } else { "s" };
    if walked.root == RootChoice::LowerEmpty {
        return String::from("memory references: the one of that table's empty entry, then a fault");
    }
    match walked.memory() {
        Some(_) => format!(
            "memory references: {references} for the tables and 1 for the data itself: {} without a TLB, 1 with a hit",
            references + 1
        ),
        None => format!("memory references: {references} for the table{plural}, then a fault"),
    }
}

/// Prints a walk; `references` is what the machine counted.
///
/// # Errors
/// The writer failed.
pub fn print<V: KernelView>(view: &V, walked: &Walked, references: u64, out: &mut impl fmt::Write) -> fmt::Result {
    let shape = view.format().shape();
    writeln!(out, "{:#018x} in Linux {}, {shape}", walked.va.0, view.era())?;
    writeln!(out, "  {}", root_sentence(walked.root, shape.arch))?;
    for step in &walked.steps {
        let place = &step.place;
        let bits = shape.level(place.level);
        let (high, low) = (bits.shift + bits.index_bits - 1, bits.shift);
        writeln!(
            out,
            "\n{}  table {:#x}, address bits {high}:{low} = {} -> entry at {:#x}: {:#018x}",
            place.level, place.table.0, place.index, place.at.0, place.raw
        )?;
        match step.entry {
            Entry::Table { next, .. } => writeln!(out, "     next table {:#x}", next.0)?,
            Entry::Leaf { base, .. } => writeln!(out, "     leaf of {} at {:#x}", Size(place.bytes), base.0)?,
            Entry::Absent { sw: 0 } => writeln!(out, "     empty")?,
            Entry::Absent { .. } => writeln!(out, "     not valid: the other bits are software's")?,
            Entry::Reserved { .. } => writeln!(out, "     MALFORMED")?,
        }
        for field in named(fields(view.format(), view.era(), place.level, &step.entry), place.raw) {
            if place.raw == 0 {
                continue;
            }
            let top = field.shift + field.width - 1;
            let position = if field.width == 1 { format!("{top}") } else { format!("{top}:{}", field.shift) };
            let value = match (field.value_name(place.raw), field.width) {
                (Some(name), _) => format!("={} ({name})", field.value(place.raw)),
                (None, 1) => String::new(),
                (None, _) => format!("={}", field.value(place.raw)),
            };
            writeln!(out, "     {position:>5}  {:<22} {}", format!("{}{value}", field.name), field.meaning)?;
        }
    }
    writeln!(out, "\n{}", end(walked))?;
    writeln!(out, "{}", references_sentence(walked, references))
}

/// A walk as JSON, schema `kernmem.walk`.
///
/// # Errors
/// The writer failed.
pub fn json<V: KernelView>(view: &V, walked: &Walked, references: u64, out: &mut impl fmt::Write) -> fmt::Result {
    let mut json = Json::new(out);
    json.answer("kernmem.walk")?;
    json.hex("address", walked.va.0)?;
    json.text("era", view.era().name())?;
    json.text("root", &root_sentence(walked.root, view.format().shape().arch))?;
    json.open(Some("steps"), '[')?;
    for step in &walked.steps {
        let place = &step.place;
        json.open(None, '{')?;
        json.text("level", place.level.name())?;
        json.hex("table", place.table.0)?;
        json.number("index", place.index as u64)?;
        json.hex("entry_address", place.at.0)?;
        json.hex("raw", place.raw)?;
        json.open(Some("bits"), '[')?;
        for field in named(fields(view.format(), view.era(), place.level, &step.entry), place.raw) {
            json.open(None, '{')?;
            json.text("name", field.name)?;
            json.number("shift", u64::from(field.shift))?;
            json.number("width", u64::from(field.width))?;
            json.number("value", field.value(place.raw))?;
            json.close('}')?;
        }
        json.close(']')?;
        json.close('}')?;
    }
    json.close(']')?;
    if let Some(pa) = walked.memory() {
        json.hex("physical", pa.0)?;
    }
    json.text("end", &end(walked))?;
    json.number("table_references", references)?;
    json.number("references", references + u64::from(walked.memory().is_some()))?;
    json.finish()
}
