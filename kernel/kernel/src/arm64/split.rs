//! Leaves of the linear map that are split while it is in use: for changes of single pages, on CPUs that need no
//! break-before-make for it.
//!
//! ```text
//! 1G block  ->  512 blocks of 2M in groups  ->  16 blocks of 2M, no group  ->  512 pages in groups  ->  16 pages
//! ```
//! Here: how far a split goes. Not here: whether a kernel keeps such leaves (`kernmem_arch::arm64::linear`), and the change
//! that follows.
//!
//! # Invariants
//! 1. What an address reaches, and with which rights, is the same before and after.
//!
//! Source: Linux 7.2 arch/arm64/mm/mmu.c `split_kernel_leaf_mapping`, `split_pmd`, `split_pud`.

use kernmem_arch::arm64::{Arm64Attrs, Arm64Format, bit, prot};
use kernmem_arch::{Entry, EntryFormat, LevelShape};
use kernmem_base::{Era, FrameSource, NoTlb, PhysMem, VirtAddr, VirtRange};
use kernmem_pgtable::{Failed, MapError, Tables};

/// Splits leaves until one begins at the start of `range` and one behind its end, whole pages both.
///
/// One page lies in one group: where a leaf begins at the less aligned of its edges, one begins at the other.
///
/// # Errors
/// No frame, or a table cannot be read: what was split before stays split, and maps what it mapped.
pub fn split_leaf_mapping<F: Arm64Format, M: PhysMem>(
    tables: &mut Tables<'_, F, M>,
    era: Era,
    range: VirtRange,
    frames: &mut impl FrameSource,
) -> Result<(), Failed> {
    let end = VirtAddr(range.last.0.wrapping_add(1));
    if range.size() == F::shape().granule.bytes() {
        let less_aligned = if range.start.0.trailing_zeros() < end.0.trailing_zeros() { range.start } else { end };
        return split_at(tables, era, less_aligned, frames);
    }
    split_at(tables, era, range.start, frames)?;
    split_at(tables, era, end, frames)
}

/// Splits the leaf around `va` until one begins there; a hole has no leaves.
fn split_at<F: Arm64Format, M: PhysMem>(
    tables: &mut Tables<'_, F, M>,
    era: Era,
    va: VirtAddr,
    frames: &mut impl FrameSource,
) -> Result<(), Failed> {
    while let Some((depth, attrs)) = leaf_around(tables, va)? {
        let shape = &F::shape().levels[depth];
        let group = if F::is_contiguous(attrs) { shape.contiguous_bits } else { 0 };
        if va.0.is_multiple_of(shape.bytes() << group) {
            break;
        }
        let table = prot::table(era, attrs.0 & bit::PXN != 0);
        let smaller = smaller::<F>(attrs, shape, F::shape().levels.get(depth + 1));
        let page = VirtRange { start: va, last: va + (F::shape().granule.bytes() - 1) };
        let (_, stale) = tables.cursor(page).split_as(frames, &mut NoTlb, table, smaller)?;
        stale.forgive("the size of a leaf may change in place on these CPUs: old and new translations agree");
    }
    Ok(())
}

/// The leaf that maps `va`: its depth and attributes.
fn leaf_around<F: Arm64Format, M: PhysMem>(
    tables: &Tables<'_, F, M>,
    va: VirtAddr,
) -> Result<Option<(usize, Arm64Attrs)>, MapError> {
    for (depth, step) in kernmem_pgtable::steps::<F, M>(tables.mem(), tables.root(), va).enumerate() {
        if let Entry::Leaf { attrs, .. } = step?.entry {
            return Ok(Some((depth, attrs)));
        }
    }
    Ok(None)
}

/// What the leaves of the level below say: the same, in groups. A group loses its mark instead, and says nothing else.
fn smaller<F: EntryFormat<Attrs = Arm64Attrs>>(
    attrs: Arm64Attrs,
    shape: &LevelShape,
    below: Option<&LevelShape>,
) -> Arm64Attrs {
    let page = F::page_attrs(attrs, shape.level);
    below.map_or(page, |below| F::leaf_attrs(page, below.level, below.contiguous_bits != 0))
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use kernmem_arch::arm64::Arm64Granule4K;
    use kernmem_base::{PhysAddr, PhysRange};
    use kernmem_pgtable::heap::HeapMem;
    use kernmem_pgtable::{Mapping, Sizes, Walk, translate};

    use super::*;

    const GIB: u64 = 1 << 30;
    const START: VirtAddr = VirtAddr(0xffff_0000_0000_0000);
    const MEMORY: PhysAddr = PhysAddr(0x4000_0000);

    struct Linear {
        mem: HeapMem,
        root: PhysAddr,
    }

    impl Linear {
        /// Two blocks of 1G, then one group of 2M blocks and 2M in groups of pages.
        fn new() -> Self {
            let mem = HeapMem::new(PhysRange::new(PhysAddr(0), PhysAddr(64 << 12)));
            let root = mem.take_root();
            let range = VirtRange::of_size(START, 2 * GIB + (32 << 20) + (1 << 20)).unwrap();
            let attrs = prot::tagged(prot::PAGE_KERNEL);
            let mapping = Mapping::<Arm64Granule4K>::new(MEMORY, attrs, Sizes::ALL)
                .with_table_attrs(prot::table(Era::V7_2, true));
            let mut tables = Tables::<Arm64Granule4K, _>::new(&mem, root);
            tables.cursor(range).map(&mut mem.frames(), &mapping).unwrap().forgive("a test");
            Self { mem, root }
        }

        fn tables(&self) -> Tables<'_, Arm64Granule4K, HeapMem> {
            Tables::new(&self.mem, self.root)
        }

        fn split(&self, offset: u64, bytes: u64) {
            let range = VirtRange::of_size(START + offset, bytes).unwrap();
            split_leaf_mapping(&mut self.tables(), Era::V7_2, range, &mut self.mem.frames()).unwrap();
        }

        /// Bytes of the leaf around `offset`, as group or alone.
        fn leaf(&self, offset: u64) -> u64 {
            let (depth, attrs) = leaf_around(&self.tables(), START + offset).unwrap().unwrap();
            let shape = &Arm64Granule4K::shape().levels[depth];
            shape.bytes() << if Arm64Granule4K::is_contiguous(attrs) { shape.contiguous_bits } else { 0 }
        }

        /// Everything reaches what it reached, with the same rights.
        fn assert_same(&self) {
            for offset in (0..2 * GIB + (33 << 20)).step_by(64 << 10) {
                let walk = translate::<Arm64Granule4K, _>(&self.mem, self.root, START + offset).unwrap();
                let Walk::Mapped { pa, level, attrs } = walk else { panic!("a hole at {offset:#x}") };
                assert_eq!(pa, MEMORY + offset);
                assert_eq!(Arm64Granule4K::page_attrs(attrs, level), prot::tagged(prot::PAGE_KERNEL));
            }
        }
    }

    /// Facts: a 1G leaf becomes 2M blocks in groups, the group around the address plain blocks, the block pages in groups,
    /// and the group around the address plain pages.
    #[test]
    fn one_page_of_a_gigabyte_splits_each_level_around_it() {
        let linear = Linear::new();
        assert_eq!(linear.leaf(0), GIB);
        linear.split((32 << 20) + (2 << 20) + (64 << 10) + 4096, 4096);
        let at = |mib: u64| linear.leaf(mib << 20);
        assert_eq!((at(0), at(64), at(1024)), (32 << 20, 32 << 20, GIB));
        assert_eq!((at(32), at(36)), (2 << 20, 2 << 20), "the group is gone");
        assert_eq!((at(34), linear.leaf((34 << 20) + (128 << 10))), (64 << 10, 64 << 10));
        assert_eq!(linear.leaf((34 << 20) + (64 << 10)), 4096);
        linear.assert_same();
    }

    #[test]
    fn an_aligned_range_stops_at_leaves_that_begin_there() {
        let linear = Linear::new();
        linear.split(0, GIB);
        assert_eq!((linear.leaf(0), linear.leaf(GIB)), (GIB, GIB), "nothing to split");
        linear.split(0, 64 << 20);
        assert_eq!((linear.leaf(0), linear.leaf(64 << 20)), (32 << 20, 32 << 20), "groups begin there");
        linear.split(0, 2 << 20);
        assert_eq!((linear.leaf(0), linear.leaf(2 << 20), linear.leaf(32 << 20)), (2 << 20, 2 << 20, 32 << 20));
        linear.assert_same();
    }

    #[test]
    fn one_page_splits_at_its_less_aligned_edge_alone() {
        let linear = Linear::new();
        linear.split(2 * GIB + (32 << 20), 4096);
        assert_eq!(linear.leaf(2 * GIB + (32 << 20)), 4096, "its end is the less aligned edge");
        assert_eq!(linear.leaf(2 * GIB), 32 << 20);
        linear.assert_same();
    }

    /// New tables say that nothing below is executable, where the leaf said so, and are marked accessed.
    #[test]
    fn new_tables_carry_the_marks_of_7_2() {
        let linear = Linear::new();
        linear.split(4096, 4096);
        let steps = kernmem_pgtable::steps::<Arm64Granule4K, _>(&linear.mem, linear.root, START + 4096);
        let tables: Vec<u64> = steps
            .map(|step| step.unwrap())
            .filter(|step| matches!(step.entry, Entry::Table { .. }))
            .map(|step| step.raw & !0x0000_ffff_ffff_f000)
            .collect();
        assert_eq!(tables, [0x1800_0000_0000_0403; 3]);
    }

    #[test]
    fn without_a_frame_a_split_leaves_everything_mapped() {
        let linear = Linear::new();
        let mut nothing = Frames { left: 1, frames: linear.mem.frames() };
        let range = VirtRange::of_size(START + 4096, 4096).unwrap();
        assert!(split_leaf_mapping(&mut linear.tables(), Era::V7_2, range, &mut nothing).is_err());
        assert_eq!(linear.leaf(0), 2 << 20, "the second table was missing");
        linear.assert_same();
    }

    struct Frames<S> {
        left: u32,
        frames: S,
    }

    impl<S: FrameSource> FrameSource for Frames<S> {
        fn take(&mut self, level: kernmem_base::Level) -> Result<kernmem_base::Frame, kernmem_base::NoFrame> {
            self.left = self.left.checked_sub(1).ok_or(kernmem_base::NoFrame { level })?;
            self.frames.take(level)
        }

        fn give_back(&mut self, frame: PhysAddr) {
            self.frames.give_back(frame);
        }
    }
}
