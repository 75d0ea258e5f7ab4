//! The raw check: every table page of the linear map and of vmemmap, and its frame number, against a real memory dump.
//!
//! Both trees are walked side by side from the root entries of the two regions. An entry that differs is listed with
//! its event: which step of boot, behind the boot allocator's time, made it so.

use std::collections::BTreeMap;
use std::path::Path;

use kernmem::Boot;
use kernmem_arch::{Entry, EntryFormat, UserFormat, WithFormat};
use kernmem_base::{Level, PhysAddr, PhysRead, Slot, VirtAddr, VirtRange};
use kernmem_dump::ElfDump;
use kernmem_sim::Memory;
use kernmem_source::{Options, Source};
use kernmem_view::{Answer, BootRecord, KernelView, LayoutView, RootKind};

/// Why an entry may differ.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Event {
    /// The entry links a table whose frame came from the page allocator, which places it by its own lists.
    LateTable,
}

/// An entry that differs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// The first address that the entry maps.
    pub va: VirtAddr,
    /// Its level.
    pub level: Level,
    /// Ours.
    pub ours: u64,
    /// The dump's.
    pub dump: u64,
    /// What explains it, if anything does.
    pub event: Option<Event>,
}

/// What a raw check saw.
#[derive(Clone, Debug, Default)]
pub struct RawTally {
    /// Table pages below the root that were compared, at the same frame numbers.
    pub pages: usize,
    /// Entries that were equal.
    pub entries: usize,
    /// Those that were not.
    pub differences: Vec<Difference>,
}

impl RawTally {
    /// Differences by event.
    #[must_use]
    pub fn events(&self) -> BTreeMap<Option<Event>, usize> {
        let mut events = BTreeMap::new();
        for difference in &self.differences {
            *events.entry(difference.event).or_default() += 1;
        }
        events
    }
}

/// Boots the machine of the dump at `path` and compares the tables of the linear map and of vmemmap.
///
/// # Panics
/// The recording cannot be read or does not boot: the test fails there.
#[must_use]
pub fn raw_check(path: &Path) -> RawTally {
    let source = Source::open_with(path.to_str().expect("a path in UTF-8"), &Options::default()).expect("a recording");
    let dump = ElfDump::open(&path.join("vmcore.elf.zst")).expect("a dump");
    let boot = Boot::new(&source.machine, &source.config);
    let memory = Memory::new(kernmem::memory_ranges(&boot)).expect("memory of the simulated machine");
    let kernel = kernmem_live::boot(&memory, &boot, BootRecord::default()).expect("a machine that boots");
    let Answer::Known(root) = kernel.root(RootKind::Kernel) else { unreachable!("a kernel has tables") };
    let late: Vec<PhysAddr> = kernel.pages.taken().iter().map(|frame| frame.pa).collect();
    let mut check = Check { memory: &memory, dump: &dump, late, tally: RawTally::default() };
    for range in regions(&kernel) {
        kernel.format().with(OneRange { check: &mut check, root, range });
    }
    check.tally
}

/// A range of both trees whose format is known as a value.
struct OneRange<'a, 'c> {
    check: &'a mut Check<'c>,
    root: PhysAddr,
    range: VirtRange,
}

impl WithFormat for OneRange<'_, '_> {
    type Output = ();

    fn run<F: UserFormat>(self) {
        self.check.table::<F>(self.root, self.root, 0, self.range);
    }
}

/// The linear map's and vmemmap's addresses.
fn regions<V: KernelView>(view: &V) -> Vec<VirtRange> {
    let region = |start, end| VirtRange::until(start, end).expect("regions are not empty");
    match view.layout() {
        LayoutView::Arm64 { layout, .. } => {
            vec![region(layout.page_offset, layout.page_end), region(layout.vmemmap_start, layout.vmemmap_end)]
        }
        LayoutView::X86 { layout, .. } => vec![
            VirtRange { start: layout.page_offset, last: layout.vmalloc_start - 1 },
            VirtRange { start: layout.vmemmap, last: layout.cpu_entry_area - 1 },
        ],
        _ => unreachable!("every architecture has regions"),
    }
}

struct Check<'a> {
    memory: &'a Memory,
    dump: &'a ElfDump,
    late: Vec<PhysAddr>,
    tally: RawTally,
}

impl Check<'_> {
    /// Compares the entries of `range` in one table of each tree, and the tables below.
    fn table<F: EntryFormat>(&mut self, ours: PhysAddr, dump: PhysAddr, depth: usize, range: VirtRange) {
        let shape = F::shape().levels[depth];
        let left = self.memory.table::<F::Slot>(ours, shape.entries()).expect("our table");
        let right = self.dump.table::<F::Slot>(dump, shape.entries()).expect("the dump's table");
        let mut va = range.start;
        for index in shape.index(range.start)..=shape.index(range.last) {
            let here = VirtRange { start: va, last: VirtAddr(va.0 | (shape.bytes() - 1)).min(range.last) };
            let (a, b) = (left[index].load(), right[index].load());
            let below = (F::decode(a, shape.level), F::decode(b, shape.level));
            if a == b {
                self.tally.entries += 1;
            } else {
                let event = match below {
                    (Entry::Table { next, .. }, Entry::Table { .. }) if self.late.contains(&next) => {
                        Some(Event::LateTable)
                    }
                    _ => None,
                };
                self.tally.differences.push(Difference { va, level: shape.level, ours: a, dump: b, event });
            }
            if let (Entry::Table { next, .. }, Entry::Table { next: other, .. }) = below {
                self.tally.pages += usize::from(next == other);
                self.table::<F>(next, other, depth + 1, here);
            }
            va = here.last.wrapping_add(1);
        }
    }
}
