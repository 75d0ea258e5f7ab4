//! What was decided and logged on the way: the witness of a boot.

use alloc::vec::Vec;

use kernmem::takers::Taken;
use kernmem::{Area, Changed, Kept, LogEntry, Mapped, TableFrame, Witness};
use kernmem_arch::Reason;
use kernmem_base::{PhysAddr, VirtAddr, VirtRange};
use kernmem_memblock::{Event, LoggedEvent, Observer};
use kernmem_pgtable::Sizes;

/// A mapping that boot made.
#[derive(Clone, Debug)]
pub struct MappedRun {
    /// Its addresses.
    pub range: VirtRange,
    /// The memory behind the first byte.
    pub pa: PhysAddr,
    /// What it is.
    pub area: Area,
    /// Why it starts where it starts.
    pub start: Reason,
    /// Why it ends where it ends.
    pub end: Reason,
    /// Reasons that limit the leaves, each with the sizes that it allows.
    pub limits: Vec<(Reason, Sizes)>,
    /// Why its rights are what they are.
    pub rights: Vec<Reason>,
}

/// One thing that the log can tell, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Told {
    /// The boot allocator did something.
    Memblock(LoggedEvent),
    /// Anything else.
    Log(LogEntry),
}

/// The record of one boot.
#[derive(Clone, Debug, Default)]
pub struct BootRecord {
    /// What the log can tell, in order.
    pub told: Vec<Told>,
    /// Mappings in the order in which they were made.
    pub mapped: Vec<MappedRun>,
    /// Changes of rights, in order.
    pub changed: Vec<Changed>,
    /// Rights that stayed because a step was not taken.
    pub kept: Vec<Kept>,
    /// Frames that became tables, in order.
    pub tables: Vec<TableFrame>,
    /// Who took what before the page allocator, in order.
    pub taken: Vec<Taken>,
}

impl BootRecord {
    /// The mapping that `va` belongs to: the last one made there.
    #[must_use]
    pub fn mapping(&self, va: VirtAddr) -> Option<&MappedRun> {
        self.mapped.iter().rev().find(|run| run.range.contains(va))
    }

    /// Who took the memory at `pa` before the page allocator: the last one.
    #[must_use]
    pub fn taker(&self, pa: PhysAddr) -> Option<&Taken> {
        self.taken.iter().rev().find(|taken| taken.range.contains(pa))
    }

    /// Entries of the log, without the boot allocator's.
    pub fn log(&self) -> impl Iterator<Item = &LogEntry> {
        self.told.iter().filter_map(|told| match told {
            Told::Log(entry) => Some(entry),
            Told::Memblock(_) => None,
        })
    }
}

impl Observer for BootRecord {
    fn event(&mut self, event: Event<'_>) {
        self.told.push(Told::Memblock(event.into()));
    }
}

impl Witness for BootRecord {
    fn mapped(&mut self, mapped: &Mapped<'_>) {
        self.mapped.push(MappedRun {
            range: mapped.range,
            pa: mapped.pa,
            area: mapped.area,
            start: mapped.start,
            end: mapped.end,
            limits: mapped.limits.to_vec(),
            rights: mapped.rights.to_vec(),
        });
    }

    fn changed(&mut self, changed: &Changed) {
        self.changed.push(*changed);
    }

    fn kept(&mut self, kept: &Kept) {
        self.kept.push(*kept);
    }

    fn table(&mut self, frame: &TableFrame) {
        self.tables.push(*frame);
    }

    fn taken(&mut self, taken: &Taken) {
        self.taken.push(*taken);
    }

    fn log(&mut self, entry: LogEntry) {
        self.told.push(Told::Log(entry));
    }
}
