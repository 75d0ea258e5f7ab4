//! `kernmem-pgtable` in rows P1 to P6.
//!
//! Ranges go through cursors, single pages through the tree's memory of its tables of pages, as in a kernel that handles
//! faults. A translation walks from the root, or by that memory where the contender is `REMEMBERING`.

use kernmem_arch::EntryFormat;
use kernmem_base::{FrameSource, NoTlb, PhysAddr, PhysMem, PhysRange, VirtAddr, VirtRange};
use kernmem_pgtable::{CachedTables, Failed, MapError, Mapping, PageForm, Sizes, Stale, Walk, WalkError};
use kernmem_pgtable::{translate, translate_many};

use super::formats::Measured;
use super::memory::{ArenaFrames, HostMem, host};
use crate::tables::{Leaf, Tables};

/// One tree of format `F`.
#[derive(Debug)]
pub struct Ours<F: Measured, const REMEMBERING: bool = false> {
    tables: CachedTables<'static, F, HostMem>,
    frames: ArenaFrames,
    page: PageForm<F>,
}

/// The sizes that map with this leaf alone.
fn sizes<F: EntryFormat>(leaf: Leaf) -> Sizes {
    let bytes = leaf.bytes(F::shape().granule.shift());
    Sizes::only(F::shape(), |size| size.bytes == bytes && !size.contiguous)
}

/// A tree without leaves.
///
/// # Panics
/// `frames` has none for its root.
pub(super) fn empty<F: Measured>(frames: &mut ArenaFrames) -> kernmem_pgtable::Tables<'static, F, HostMem> {
    let memory = host(F::PAGE_SHIFT);
    let root = frames.take(F::shape().levels[0].level).expect("a frame for the root").pa;
    memory.zero(PhysRange::new(root, root + (1 << F::PAGE_SHIFT))).expect("the arena is memory");
    memory.note(root).expect("the arena is memory").set_used(0);
    kernmem_pgtable::Tables::new(memory, root)
}

/// # Panics
/// The range is empty or wraps.
#[inline]
pub(super) fn range(va: u64, len: u64) -> VirtRange {
    VirtRange::of_size(VirtAddr(va), len).expect("a range of addresses")
}

/// Where a walk leads.
#[inline]
fn reached<A>(walk: Result<Walk<A>, WalkError>) -> Option<u64> {
    match walk {
        Ok(Walk::Mapped { pa, .. }) => Some(pa.0),
        _ => None,
    }
}

/// A row asked for what cannot be done.
#[cold]
pub(super) fn stopped(name: &str, error: MapError) -> ! {
    panic!("{name}: {error}")
}

impl<F: Measured, const REMEMBERING: bool> Ours<F, REMEMBERING> {
    #[inline]
    fn settle(&mut self, done: Result<Stale, Failed>) {
        match done {
            Ok(stale) => self.tables.pay(stale, &mut NoTlb, &mut self.frames),
            Err(failed) => stopped(F::NAME, failed.error),
        }
    }
}

impl<F: Measured, const REMEMBERING: bool> Tables for Ours<F, REMEMBERING> {
    const NAME: &'static str = F::NAME;
    const PAGE_SHIFT: u32 = F::PAGE_SHIFT;
    const BASE: u64 = F::FIRST;
    const HAS_SPLIT: bool = true;
    const UNMAP_FREES: bool = true;

    fn new() -> Self {
        let mut frames = ArenaFrames::new();
        let tables = CachedTables::new(empty(&mut frames));
        let page = PageForm::new(F::attrs(F::DATA)).expect("attributes of a page");
        Self { tables, frames, page: page.with_table_attrs(F::attrs(F::LINK)) }
    }

    fn map(&mut self, va: u64, pa: u64, len: u64, leaf: Leaf) {
        let mapping = Mapping::new(PhysAddr(pa), F::attrs(F::DATA), sizes::<F>(leaf));
        let mapping = mapping.with_table_attrs(F::attrs(F::LINK));
        let done = self.tables.cursor(range(va, len)).map(&mut self.frames, &mapping);
        self.settle(done);
    }

    fn protect(&mut self, va: u64, len: u64, _leaf: Leaf) {
        let done = self.tables.cursor(range(va, len)).protect(F::READ_ONLY);
        self.settle(done);
    }

    fn unmap(&mut self, va: u64, len: u64, _leaf: Leaf) {
        let done = self.tables.cursor(range(va, len)).unmap();
        self.settle(done);
    }

    #[inline]
    fn map_one(&mut self, va: u64, pa: u64) {
        if let Err(error) = self.tables.map_page(VirtAddr(va), PhysAddr(pa), &self.page, &mut self.frames) {
            stopped(F::NAME, error);
        }
    }

    #[inline]
    fn unmap_one(&mut self, va: u64) {
        match self.tables.unmap_page(VirtAddr(va)) {
            Ok(stale) => self.tables.pay(stale, &mut NoTlb, &mut self.frames),
            Err(error) => stopped(F::NAME, error),
        }
    }

    fn map_run(&mut self, va: u64, pas: &[u64]) {
        let mut cursor = self.tables.cursor(range(va, (pas.len() as u64) << F::PAGE_SHIFT));
        let pages = pas.iter().map(|&pa| PhysAddr(pa));
        if let Err(error) = cursor.map_pages(&mut self.frames, &self.page, pages) {
            stopped(F::NAME, error);
        }
    }

    fn unmap_run(&mut self, va: u64, n: usize) {
        self.unmap(va, (n as u64) << F::PAGE_SHIFT, Leaf::Page);
    }

    fn split(&mut self, va: u64) {
        let mut cursor = self.tables.cursor(range(va, 2 << 20));
        let done = cursor.split(&mut self.frames, &mut NoTlb, F::attrs(F::LINK)).map(|(_, stale)| stale);
        self.settle(done);
    }

    #[inline]
    fn translate(&mut self, va: u64) -> Option<u64> {
        if REMEMBERING {
            return reached(self.tables.translate(VirtAddr(va)));
        }
        let tables = self.tables.tables();
        reached(translate::<F, _>(tables.mem(), tables.root(), VirtAddr(va)))
    }

    fn translate_batch(&mut self, vas: &[u64]) -> u64 {
        let tables = self.tables.tables();
        let mut sum = 0u64;
        for some in vas.chunks(256) {
            let mut batch = [VirtAddr(0); 256];
            batch.iter_mut().zip(some).for_each(|(place, &va)| *place = VirtAddr(va));
            translate_many::<F, _>(tables.mem(), tables.root(), &batch[..some.len()], |_, walk| {
                sum = sum.wrapping_add(reached(walk).unwrap_or(0));
            });
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use kernmem_arch::arm64::Arm64;
    use kernmem_arch::i386::{I386Level2, I386Pae};
    use kernmem_arch::x86::{X86Level4, X86Level5};

    use super::*;
    use crate::arena;

    /// Every operation of the rows does what it says, in any format.
    fn check<F: Measured>() {
        check_with::<F, false>();
        check_with::<F, true>();
    }

    fn check_with<F: Measured, const REMEMBERING: bool>() {
        arena::reset(F::PAGE_SHIFT);
        let mut tree: Ours<F, REMEMBERING> = Tables::new();
        let (va, page) = (F::FIRST, 1 << F::PAGE_SHIFT);
        tree.map(va, va, 16 * page, Leaf::Page);
        let root = arena::in_use();
        assert_eq!(
            (tree.translate(va + 15 * page + 5), tree.translate(va + 16 * page)),
            (Some(va + 15 * page + 5), None)
        );
        tree.protect(va, 16 * page, Leaf::Page);
        assert_eq!(tree.translate(va), Some(va), "{}", F::NAME);
        assert_eq!(tree.translate_batch(&[va, va + page, va + 16 * page]), 2 * va + page, "{}", F::NAME);
        tree.unmap(va, 16 * page, Leaf::Page);
        assert!(tree.translate(va).is_none() && arena::in_use() < root, "{}", F::NAME);
        tree.map_one(va, va + page);
        assert_eq!(tree.translate(va + 1), Some(va + page + 1));
        tree.unmap_one(va);
        assert_eq!(tree.translate(va + 1), None);
        tree.map_run(va, &[va + 7 * page, va + page]);
        assert_eq!((tree.translate(va + 2), tree.translate(va + page)), (Some(va + 7 * page + 2), Some(va + page)));
        tree.unmap_run(va, 2);
        assert_eq!(tree.translate(va), None);
    }

    #[test]
    fn every_format_maps_changes_and_unmaps() {
        check::<Arm64<12, 39>>();
        check::<Arm64<12, 48>>();
        check::<Arm64<12, 52>>();
        check::<Arm64<14, 36>>();
        check::<Arm64<14, 47>>();
        check::<Arm64<14, 48>>();
        check::<Arm64<14, 52>>();
        check::<Arm64<16, 42>>();
        check::<Arm64<16, 48>>();
        check::<Arm64<16, 52>>();
        check::<X86Level4>();
        check::<X86Level5>();
        check::<I386Pae>();
        check::<I386Level2>();
    }

    #[test]
    fn a_split_block_leads_where_it_led() {
        arena::reset(12);
        let mut tree: Ours<X86Level4> = Tables::new();
        tree.map(X86Level4::FIRST, 0x4000_0000, 4 << 20, Leaf::M2);
        tree.split(X86Level4::FIRST + (2 << 20));
        assert_eq!(tree.translate(X86Level4::FIRST + (2 << 20) + 0x3001), Some(0x4020_3001));
    }
}
