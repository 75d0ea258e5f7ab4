//! The raw check: every table page of a kernel's tables, and its frame number, against a real memory dump.
//!
//! Both trees are walked side by side, region by region, from the roots that the kernel's symbols name in the dump. An
//! entry that differs is listed with its event: what in the running system, behind the boot allocator's time, made it
//! so. Not compared: what the running system maps as it likes (vmalloc, modules, the user half).

use std::collections::BTreeMap;
use std::path::Path;

use kernmem::{Boot, Isa, Kernel};
use kernmem_arch::{Entry, EntryFormat, UserFormat, WithFormat};
use kernmem_base::{Level, PhysAddr, PhysRead, Slot, VirtAddr, VirtRange};
use kernmem_config::Config;
use kernmem_dump::ElfDump;
use kernmem_sim::Memory;
use kernmem_source::{Options, Source};
use kernmem_view::entries::root_ranges;
use kernmem_view::{KernelView, LayoutView, RootKind};

use crate::roots::{roots, without_mark};

/// Why an entry may differ.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Event {
    /// The entry links a table whose frame came from the page allocator, which places it by its own lists.
    LateTable,
    /// A leaf of the memory map was split into pages with the same rights when the pool of huge pages was filled, and
    /// stayed so when it was emptied.
    HugePool,
    /// An entry of PAE's root is marked as accessed: by the emulator, see [`without_mark`].
    EmulatorMark,
}

/// An entry that differs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// The region.
    pub region: &'static str,
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
    /// Entries by region that were equal.
    pub regions: BTreeMap<&'static str, usize>,
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

    fn equal(&mut self, region: &'static str, entries: usize) {
        self.entries += entries;
        *self.regions.entry(region).or_default() += entries;
    }
}

/// Boots the machine of the dump at `path` and compares the tables of each root that stays.
///
/// # Panics
/// The recording cannot be read or does not boot: the test fails there.
#[must_use]
pub fn raw_check(path: &Path) -> RawTally {
    let source = Source::open_with(path.to_str().expect("a path in UTF-8"), &Options::default()).expect("a recording");
    let dump = ElfDump::open(&path.join("vmcore.elf.zst")).expect("a dump");
    let boot = Boot::new(&source.machine, &source.config);
    let memory = Memory::new(kernmem::memory_ranges(&boot)).expect("memory of the simulated machine");
    let kernel = kernmem_live::boot(&memory, &boot, ()).expect("a machine that boots");
    let late: Vec<PhysAddr> = kernel.pages.taken().iter().map(|frame| frame.pa).collect();
    let has_pool = fills_pools(&source.config);
    let mut check = Check { memory: &memory, dump: &dump, late, has_pool, region: "", tally: RawTally::default() };
    for (kind, ours, dump) in roots(&kernel, &source) {
        for region in regions(&kernel, kind) {
            check.region = region.name;
            kernel.format().with(OneRegion { check: &mut check, roots: (ours, dump), region });
        }
    }
    check.tally
}

/// Whether pools of huge pages share descriptors, and so change the memory map when they are filled.
fn fills_pools(config: &Config) -> bool {
    let default = config.kconfig.is_set("HUGETLB_PAGE_OPTIMIZE_VMEMMAP_DEFAULT_ON");
    config.cmdline.hugetlb_free_vmemmap(config.era, default).value
}

/// Addresses whose tables follow from the boot.
struct Region {
    name: &'static str,
    range: VirtRange,
    /// What lies in it lies in slots that were drawn: only what its tables hold can be compared, not where.
    is_drawn: bool,
}

/// A region of both trees whose format is known as a value.
struct OneRegion<'a, 'c> {
    check: &'a mut Check<'c>,
    roots: (PhysAddr, PhysAddr),
    region: Region,
}

impl WithFormat for OneRegion<'_, '_> {
    type Output = ();

    fn run<F: UserFormat>(self) {
        let ((ours, dump), range) = (self.roots, self.region.range);
        match self.region.is_drawn {
            false => self.check.table::<F>(ours, dump, 0, range),
            true => self.check.contents::<F>(ours, dump, range),
        }
    }
}

/// The regions of a root.
fn regions(kernel: &Kernel<'_, Memory, ()>, kind: RootKind) -> Vec<Region> {
    let plain = |name, start, last| Region { name, range: VirtRange { start, last }, is_drawn: false };
    if kind == RootKind::Idmap {
        let ranges = root_ranges(kernel.format(), kind);
        return ranges.into_iter().map(|range| plain("identity map", range.start, range.last)).collect();
    }
    let (image, _) = kernel.image().known().expect("a kernel has an image");
    let top = VirtAddr(u64::MAX);
    let areas_are_drawn = matches!(&kernel.isa, Isa::X86(state) if state.draws_entry_slots);
    match kernel.layout() {
        LayoutView::Arm64 { layout, .. } => vec![
            plain("linear map", layout.page_offset, layout.page_end - 1),
            plain("image", image.start, image.last),
            plain("fixed mappings", layout.fixaddr_tot_start, layout.fixaddr_top - 1),
            plain("memory map", layout.vmemmap_start, top),
        ],
        LayoutView::X86 { layout, .. } => vec![
            plain("linear map", layout.page_offset, layout.vmalloc_start - 1),
            plain("memory map", layout.vmemmap, layout.cpu_entry_area - 1),
            Region { is_drawn: areas_are_drawn, ..plain("CPU entry areas", layout.cpu_entry_area, layout.espfix - 1) },
            plain("espfix", layout.espfix, layout.start_kernel_map - 1),
            plain("image", layout.start_kernel_map, layout.modules_start - 1),
            plain("fixed mappings", layout.modules_end, top),
        ],
        LayoutView::I386 { layout, .. } => vec![
            plain("linear map", layout.page_offset, layout.high_memory - 1),
            plain("fixed mappings", layout.vmalloc_end, VirtAddr(0xffff_ffff)),
        ],
        _ => unreachable!("every architecture has regions"),
    }
}

struct Check<'a> {
    memory: &'a Memory,
    dump: &'a ElfDump,
    late: Vec<PhysAddr>,
    has_pool: bool,
    region: &'static str,
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
            if a == b {
                self.tally.equal(self.region, 1);
            } else {
                let (region, event) = (self.region, self.event::<F>(a, b, depth));
                self.tally.differences.push(Difference { region, va, level: shape.level, ours: a, dump: b, event });
            }
            let below = (F::decode(a, shape.level), F::decode(without_mark::<F>(b, shape.level), shape.level));
            if let (Entry::Table { next, .. }, Entry::Table { next: other, .. }) = below {
                self.tally.pages += usize::from(next == other);
                self.table::<F>(next, other, depth + 1, here);
            }
            va = here.last.wrapping_add(1);
        }
    }

    /// What explains that the dump has `b` where we have `a`.
    fn event<F: EntryFormat>(&self, a: u64, b: u64, depth: usize) -> Option<Event> {
        let level = F::shape().levels[depth].level;
        if without_mark::<F>(b, level) == a {
            return Some(Event::EmulatorMark);
        }
        match (F::decode(a, level), F::decode(b, level)) {
            (Entry::Table { next, .. }, Entry::Table { .. }) if self.late.contains(&next) => Some(Event::LateTable),
            (Entry::Leaf { attrs, .. }, Entry::Table { next, .. })
                if self.has_pool && self.region == "memory map" && self.is_split::<F>(attrs, next, depth) =>
            {
                Some(Event::HugePool)
            }
            _ => None,
        }
    }

    /// Whether the dump's table at `table` says with pages what a leaf with `attrs`, `depth` levels below the root, says:
    /// the rights; frames of descriptors were given away and taken anew.
    fn is_split<F: EntryFormat>(&self, attrs: F::Attrs, table: PhysAddr, depth: usize) -> bool {
        let (leaf, pages) = (F::shape().levels[depth].level, F::shape().levels[depth + 1]);
        let Ok(slots) = self.dump.table::<F::Slot>(table, pages.entries()) else { return false };
        let wanted = F::leaf_attrs(F::page_attrs(attrs, leaf), pages.level, false);
        let has_rights = |raw| matches!(F::decode(raw, pages.level), Entry::Leaf { attrs, .. } if attrs == wanted);
        slots.iter().all(|slot| has_rights(slot.load()))
    }

    /// Compares what the tables of `range` hold, wherever it stands in them: each level's entries, and by that the
    /// frames of all tables and of all that they map.
    fn contents<F: EntryFormat>(&mut self, ours: PhysAddr, dump: PhysAddr, range: VirtRange) {
        let (mut left, mut right) = (BTreeMap::new(), BTreeMap::new());
        collect::<F>(self.memory, ours, 0, range, &mut left);
        collect::<F>(self.dump, dump, 0, range, &mut right);
        for (&(depth, raw), count) in &left {
            let equal = right.get(&(depth, raw)).copied().unwrap_or(0).min(*count);
            self.tally.equal(self.region, equal);
            let is_table = matches!(F::decode(raw, F::shape().levels[depth].level), Entry::Table { .. });
            self.tally.pages += if is_table { equal } else { 0 };
        }
        let (left, right) = (more(&left, &right), more(&right, &left));
        for at in 0..left.len().max(right.len()) {
            let at = |entries: &[(usize, u64)]| entries.get(at).copied().unwrap_or_default();
            let ((depth, a), (_, b)) = (at(&left), at(&right));
            let (region, va, level) = (self.region, range.start, F::shape().levels[depth].level);
            let event = self.event::<F>(a, b, depth);
            self.tally.differences.push(Difference { region, va, level, ours: a, dump: b, event });
        }
    }
}

/// Entries by the depth of their table, and how often each stands there.
type Entries = BTreeMap<(usize, u64), usize>;

/// What `these` have more often than `others`.
fn more(these: &Entries, others: &Entries) -> Vec<(usize, u64)> {
    let surplus = |(entry, count): (&(usize, u64), &usize)| {
        let surplus = count.saturating_sub(others.get(entry).copied().unwrap_or(0));
        core::iter::repeat_n(*entry, surplus)
    };
    these.iter().flat_map(surplus).collect()
}

/// Every entry of `range` that is not empty.
fn collect<F: EntryFormat>(memory: &impl PhysRead, table: PhysAddr, depth: usize, range: VirtRange, out: &mut Entries) {
    let shape = F::shape().levels[depth];
    let slots = memory.table::<F::Slot>(table, shape.entries()).expect("a table");
    let mut va = range.start;
    for slot in &slots[shape.index(range.start)..=shape.index(range.last)] {
        let here = VirtRange { start: va, last: VirtAddr(va.0 | (shape.bytes() - 1)).min(range.last) };
        let raw = slot.load();
        if raw != 0 {
            *out.entry((depth, raw)).or_default() += 1;
        }
        if let Entry::Table { next, .. } = F::decode(raw, shape.level) {
            collect::<F>(memory, next, depth + 1, here, out);
        }
        va = here.last.wrapping_add(1);
    }
}
