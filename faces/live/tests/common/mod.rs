//! Running kernels of both presets, and of x86-64 with five levels.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use kernmem_arch::{Entry, Format, UserFormat, WithFormat};
use kernmem_base::{Level, PhysAddr, PhysRead, Slot, VirtAddr};
use kernmem_live::{Live, Options};
use kernmem_page_alloc::{HeapStore, PageAllocator, Watermarks, ZoneKind};
use kernmem_sim::Memory;
use kernmem_source::{Options as Parts, Source};

/// Presets; behind a blank, what the CPU has besides.
pub const PRESETS: [&str; 3] = ["arm64-4g", "x86-4g", "x86-4g +la57"];

/// The machine of `name` with a command line of its own, or the preset's.
pub fn source(name: &str, cmdline: Option<&str>, memory: Option<u64>) -> Source {
    let (name, cpu) = name.split_once(' ').map_or((name, None), |(name, cpu)| (name, Some(cpu.to_owned())));
    let parts = Parts { cmdline: cmdline.map(str::to_owned), memory, cpu, ..Parts::default() };
    Source::open_with(name, &parts).expect("a machine")
}

/// Runs the kernel of `source`.
pub fn run<R>(source: &Source, then: impl FnOnce(&mut Live<'_>) -> R) -> R {
    let memory = Live::memory(source).expect("memory of the host");
    let mut live = Live::start(&memory, source, Options::default()).expect("a kernel that runs");
    then(&mut live)
}

/// The machine of a recording, by its set and name, with the recording's folder.
pub fn recording(name: &str) -> (PathBuf, Source) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testing/recordings").join(name);
    let source = Source::open(path.to_str().expect("a path of text")).expect("a recording");
    (path, source)
}

/// The tables that `root` leads to, with itself.
pub fn tables_of(format: Format, memory: &Memory, root: PhysAddr) -> BTreeSet<PhysAddr> {
    format.with(Census { memory, root })
}

struct Census<'a> {
    memory: &'a Memory,
    root: PhysAddr,
}

impl WithFormat for Census<'_> {
    type Output = BTreeSet<PhysAddr>;

    fn run<F: UserFormat>(self) -> Self::Output {
        let mut found = BTreeSet::from([self.root]);
        below::<F>(self.memory, self.root, 0, &mut found);
        found
    }
}

fn below<F: UserFormat>(memory: &Memory, table: PhysAddr, depth: usize, found: &mut BTreeSet<PhysAddr>) {
    let shape = &F::shape().levels[depth];
    for slot in memory.table::<F::Slot>(table, 1 << shape.index_bits).expect("a table in memory") {
        if let Entry::Table { next, .. } = F::decode(slot.load(), shape.level)
            && found.insert(next)
        {
            below::<F>(memory, next, depth + 1, found);
        }
    }
}

/// The entries that the MMU reads for `va`, root first: where each stands, and its bits.
pub fn entries_of(format: Format, memory: &Memory, root: PhysAddr, va: VirtAddr) -> Vec<(Level, PhysAddr, u64)> {
    format.with(Steps { memory, root, va })
}

struct Steps<'a> {
    memory: &'a Memory,
    root: PhysAddr,
    va: VirtAddr,
}

impl WithFormat for Steps<'_> {
    type Output = Vec<(Level, PhysAddr, u64)>;

    fn run<F: UserFormat>(self) -> Self::Output {
        let steps = kernmem_pgtable::steps::<F, Memory>(self.memory, self.root, self.va);
        let steps = steps.map(|step| step.expect("a table in memory"));
        steps.map(|step| (step.level, step.table + step.index as u64 * 8, step.raw)).collect()
    }
}

/// Lets each zone give all that it has: without watermarks and reserves a request fails when there is no frame, and not
/// earlier.
pub fn without_marks(allocator: &PageAllocator<HeapStore>) {
    for zone in allocator.zones() {
        zone.set_watermarks(Watermarks::default());
        for kind in ZoneKind::ALL {
            // A zone has no reserve for kinds that its kernel was built without.
            let _ = zone.set_reserve(kind, 0);
        }
    }
}
