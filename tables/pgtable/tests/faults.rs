//! A frame source that fails the nth time, for every n until nothing fails.
#![allow(clippy::unwrap_used, reason = "a test stops where an answer is missing")]

use kernmem_arch::EntryFormat;
use kernmem_arch::arm64::Arm64;
use kernmem_arch::i386::{I386Level2, I386Pae};
use kernmem_arch::x86::{X86Level4, X86Level5};
use kernmem_base::{
    Frame, FrameSource, Level, NoFrame, NoTlb, PhysAddr, PhysMem, PhysRange, PhysRead, Slot, VirtAddr, VirtRange,
};
use kernmem_pgtable::heap::{HeapFrames, HeapMem};
use kernmem_pgtable::{Failed, MapError, Mapping, Sizes, Stale, Tables, Walk, translate};

const FRAMES: u64 = 64;

/// Where the mapped memory begins: below 4 GiB, so that every format can name it, at a place of any leaf.
const PA: u64 = 0x4000_0000;

/// Attributes of a page of data, by format; LPA2 has no shareability.
const ARM64: u64 = 0x00e8_0000_0000_0703;
const ARM64_LPA2: u64 = 0x00e8_0000_0000_0403;
const X86: u64 = 0x8000_0000_0000_0163;
const I386: u64 = 0x163;

/// Fails once, after `left` frames.
struct Failing<'m> {
    frames: HeapFrames<'m>,
    left: Option<usize>,
}

impl FrameSource for Failing<'_> {
    fn take(&mut self, level: Level) -> Result<Frame, NoFrame> {
        match self.left {
            Some(0) => {
                self.left = None;
                Err(NoFrame { level })
            }
            left => {
                self.left = left.map(|left| left - 1);
                self.frames.take(level)
            }
        }
    }

    fn give_back(&mut self, frame: PhysAddr) {
        self.frames.give_back(frame);
    }
}

fn memory<F: EntryFormat>() -> HeapMem {
    let granule = F::shape().granule;
    HeapMem::with_frames(PhysRange::new(PhysAddr(0), PhysAddr(FRAMES * granule.bytes())), granule)
}

/// First addresses of the pages of a range.
fn pages<F: EntryFormat>(range: VirtRange) -> impl Iterator<Item = VirtAddr> {
    (range.start.0..=range.last.0).step_by(F::shape().granule.bytes() as usize).map(VirtAddr)
}

/// Tables of a tree, whose notes must be true.
fn count_tables<F: EntryFormat>(mem: &HeapMem, table: PhysAddr, depth: usize) -> usize {
    let shape = &F::shape().levels[depth];
    let (mut tables, mut used) = (1, 0);
    for slot in mem.table::<F::Slot>(table, shape.entries()).unwrap() {
        used += u16::from(slot.load() != 0);
        if let kernmem_arch::Entry::Table { next, .. } = F::decode(slot.load(), shape.level) {
            tables += count_tables::<F>(mem, next, depth + 1);
        }
    }
    assert_eq!(mem.note(table).unwrap().used(), used);
    assert!(depth == 0 || used > 0, "an empty table stays behind");
    tables
}

fn is_mapped<F: EntryFormat>(mem: &HeapMem, root: PhysAddr, run: VirtRange, va: VirtAddr) -> bool {
    match translate::<F, _>(mem, root, va) {
        Ok(Walk::Mapped { pa, .. }) => {
            assert_eq!(pa.0, PA + (va - run.start));
            true
        }
        Ok(Walk::Hole { .. }) => false,
        Err(error) => panic!("{error}"),
    }
}

/// Fails each take of a map once; what is there then is a prefix, and mapping the rest gives the tree of an
/// undisturbed run.
fn sweep_map<F: EntryFormat>(attrs: u64, sizes: Sizes) {
    let run = over_a_seam::<F>(9 << 20);
    let whole = {
        let mem = memory::<F>();
        let mut tables = Tables::<F, _>::new(&mem, mem.take_root());
        let mapping = Mapping::<F>::new(PhysAddr(PA), F::attrs(attrs), sizes);
        tables.cursor(run).map(&mut mem.frames(), &mapping).unwrap().forgive("nothing was mapped there");
        leaves::<F>(&mem, &mut tables, run)
    };
    for nth in 0.. {
        let mem = memory::<F>();
        let mut frames = Failing { frames: mem.frames(), left: Some(nth) };
        let mut tables = Tables::<F, _>::new(&mem, mem.take_root());
        let mapping = Mapping::<F>::new(PhysAddr(PA), F::attrs(attrs), sizes);
        let mut cursor = tables.cursor(run);
        let failed = match cursor.map(&mut frames, &mapping) {
            Ok(stale) => {
                stale.forgive("nothing was mapped there");
                assert!(nth >= 2 * (F::shape().levels.len() - 1), "the run takes tables on both sides");
                return;
            }
            Err(failed) => failed,
        };
        assert!(matches!(failed.error, MapError::NoFrame(_)), "{failed:?}");
        assert_eq!(failed.stale, Stale::default());
        let stop = cursor.position().unwrap();
        let tables_in_use = count_tables::<F>(&mem, tables.root(), 0);
        assert_eq!(tables_in_use + mem.free_frames(), FRAMES as usize, "nothing leaks");
        for va in pages::<F>(run) {
            assert_eq!(is_mapped::<F>(&mem, tables.root(), run, va), va < stop, "{va}");
        }
        let rest = Mapping::<F>::new(PhysAddr(PA + (stop - run.start)), F::attrs(attrs), sizes);
        let mut cursor = tables.cursor(run);
        cursor.seek(stop);
        cursor.map(&mut frames, &rest).unwrap().forgive("nothing was mapped there");
        assert_eq!(leaves::<F>(&mem, &mut tables, run), whole);
        tables.cursor(run).unmap().unwrap().pay(&mut NoTlb, &mut tables, &mut frames);
        assert_eq!(mem.free_frames(), FRAMES as usize - 1);
    }
}

fn leaves<F: EntryFormat>(mem: &HeapMem, tables: &mut Tables<'_, F, HeapMem>, run: VirtRange) -> Vec<(VirtRange, u64)> {
    count_tables::<F>(mem, tables.root(), 0);
    let mut found = Vec::new();
    let mut cursor = tables.cursor(run);
    while let Some((range, level, entry)) = cursor.next_slot().unwrap() {
        found.push((range, F::encode(entry, level).unwrap()));
    }
    found
}

/// From a page below the end of a root entry, over the seam.
fn over_a_seam<F: EntryFormat>(bytes: u64) -> VirtRange {
    let shape = F::shape();
    let seam = shape.root_range(1, true).start;
    VirtRange::of_size(seam - shape.granule.bytes(), bytes).unwrap()
}

#[test]
fn a_map_that_lacks_a_frame_leaves_a_prefix_and_can_go_on() {
    for sizes in [Sizes::ALL, Sizes::PAGES] {
        sweep_map::<Arm64<12, 39>>(ARM64, sizes);
        sweep_map::<Arm64<12, 48>>(ARM64, sizes);
        sweep_map::<Arm64<12, 52>>(ARM64_LPA2, sizes);
        sweep_map::<Arm64<14, 36>>(ARM64, sizes);
        sweep_map::<Arm64<14, 47>>(ARM64, sizes);
        sweep_map::<Arm64<14, 48>>(ARM64, sizes);
        sweep_map::<Arm64<14, 52>>(ARM64_LPA2, sizes);
        sweep_map::<Arm64<16, 42>>(ARM64, sizes);
        sweep_map::<Arm64<16, 48>>(ARM64, sizes);
        sweep_map::<Arm64<16, 52>>(ARM64, sizes);
        sweep_map::<X86Level4>(X86, sizes);
        sweep_map::<X86Level5>(X86, sizes);
        sweep_map::<I386Pae>(X86, sizes);
        sweep_map::<I386Level2>(I386, sizes);
    }
}

/// Splits the largest leaf, level by level, with each take failing once; the entry and the frames are as before then.
fn sweep_split<F: EntryFormat>(attrs: u64, table: u64) {
    let mem = memory::<F>();
    let mut tables = Tables::<F, _>::new(&mem, mem.take_root());
    let single: Vec<u64> = F::shape().leaves.iter().filter(|leaf| !leaf.contiguous).map(|leaf| leaf.bytes).collect();
    let run = VirtRange::of_size(F::shape().root_range(1, true).start, single[0]).unwrap();
    let sizes = Sizes::only(F::shape(), |leaf| !leaf.contiguous);
    let mapping = Mapping::<F>::new(PhysAddr(PA), F::attrs(attrs), sizes).with_table_attrs(F::attrs(table));
    tables.cursor(run).map(&mut mem.frames(), &mapping).unwrap().forgive("nothing was mapped there");
    for bytes in single.into_iter().skip(1) {
        let before = (mem.free_frames(), leaves::<F>(&mem, &mut tables, run));
        let mut frames = Failing { frames: mem.frames(), left: Some(0) };
        let mut cursor = tables.cursor(run);
        let Failed { error, stale } = cursor.split(&mut frames, &mut NoTlb, F::attrs(table)).unwrap_err();
        assert!(matches!(error, MapError::NoFrame(_)));
        assert_eq!((cursor.position(), stale), (Some(run.start), Stale::default()));
        assert_eq!((mem.free_frames(), leaves::<F>(&mem, &mut tables, run)), before);
        let (size, stale) = tables.cursor(run).split(&mut frames, &mut NoTlb, F::attrs(table)).unwrap();
        stale.forgive("no CPU runs with these tables");
        assert_eq!((size, mem.free_frames()), (bytes, before.0 - 1));
        for va in pages::<F>(run) {
            assert!(is_mapped::<F>(&mem, tables.root(), run, va));
        }
    }
}

#[test]
fn a_split_that_lacks_a_frame_changes_nothing_and_can_be_tried_again() {
    sweep_split::<Arm64<12, 39>>(ARM64, 3);
    sweep_split::<Arm64<12, 48>>(ARM64, 3);
    sweep_split::<Arm64<12, 52>>(ARM64_LPA2, 3);
    sweep_split::<Arm64<14, 36>>(ARM64, 3);
    sweep_split::<Arm64<14, 47>>(ARM64, 3);
    sweep_split::<Arm64<14, 48>>(ARM64, 3);
    sweep_split::<Arm64<14, 52>>(ARM64_LPA2, 3);
    sweep_split::<Arm64<16, 42>>(ARM64, 3);
    sweep_split::<Arm64<16, 48>>(ARM64, 3);
    sweep_split::<Arm64<16, 52>>(ARM64, 3);
    sweep_split::<X86Level4>(X86, 0x63);
    sweep_split::<X86Level5>(X86, 0x63);
    sweep_split::<I386Pae>(X86, 0x63);
    sweep_split::<I386Level2>(I386, 0x63);
}
