//! `kernmem-pgtable` in rows P1 to P6, and in P7 behind a lock.

use kernmem_arch::EntryFormat;
use kernmem_base::{FrameSource, NoTlb, PhysAddr, PhysMem, PhysRange, VirtAddr, VirtRange};
use kernmem_pgtable::{
    CachedTables, Change, Failed, Links, MapError, Mapping, PageForm, Sizes, Stale, Walk, WalkError, translate_many,
};

use super::formats::Measured;
use super::memory::{ArenaFrames, HostMem, host};
use crate::tables::{Leaf, Tables};

/// One tree of format `F`.
#[derive(Debug)]
pub struct Ours<F: EntryFormat> {
    tables: CachedTables<'static, F, HostMem>,
    frames: ArenaFrames,
    form: PageForm<F>,
    links: Links<F>,
}

/// The sizes that map with this leaf alone.
fn sizes<F: EntryFormat>(leaf: Leaf) -> Sizes {
    let bytes = leaf.bytes(F::shape().granule.shift());
    Sizes::only(F::shape(), |size| size.bytes == bytes && !size.contiguous)
}

/// # Panics
/// The range is empty or wraps.
pub(super) fn range(va: u64, len: u64) -> VirtRange {
    VirtRange::of_size(VirtAddr(va), len).expect("a range of addresses")
}

/// Where a walk that must not fail leads.
#[inline]
fn reached<A>(walk: Result<Walk<A>, WalkError>) -> Option<u64> {
    match walk {
        Ok(Walk::Mapped { pa, .. }) => Some(pa.0),
        _ => None,
    }
}

#[cold]
#[inline(never)]
pub(super) fn refused(name: &str, error: MapError) -> ! {
    panic!("{name}: {error}")
}

impl<F: Measured> Ours<F> {
    fn settle(&mut self, done: Result<Stale, Failed>) {
        let stale = done.unwrap_or_else(|failed| refused(F::NAME, failed.error));
        self.tables.pay(stale, &mut NoTlb, &mut self.frames);
    }

    /// Where `va` leads, by the table of pages that is remembered for it.
    #[inline]
    pub fn translate_cached(&mut self, va: u64) -> Option<u64> {
        reached(self.tables.translate(VirtAddr(va)))
    }

    /// The sum of where `vas` lead, in batches.
    pub fn translate_batch(&self, vas: &[VirtAddr]) -> u64 {
        let (tables, mut sum) = (self.tables.tables(), 0_u64);
        translate_many::<F, _>(tables.mem(), tables.root(), vas, |_, walk| {
            sum = sum.wrapping_add(reached(walk).unwrap_or(0));
        });
        sum
    }
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

impl<F: Measured> Tables for Ours<F> {
    const NAME: &'static str = F::NAME;
    const PAGE_SHIFT: u32 = F::PAGE_SHIFT;
    const BASE: u64 = F::FIRST;
    const HAS_SPLIT: bool = true;
    const UNMAP_FREES: bool = true;

    fn new() -> Self {
        let mut frames = ArenaFrames;
        let form = PageForm::new(F::attrs(F::DATA)).expect("attributes of a page");
        let tables = CachedTables::new(empty(&mut frames));
        let links = Links::new(F::attrs(F::LINK)).expect("attributes of a link");
        Self { tables, frames, form: form.with_table_attrs(F::attrs(F::LINK)), links }
    }

    fn map(&mut self, va: u64, pa: u64, len: u64, leaf: Leaf) {
        let mapping = Mapping::new(PhysAddr(pa), F::attrs(F::DATA), sizes::<F>(leaf));
        let mapping = mapping.with_table_attrs(F::attrs(F::LINK));
        let done = self.tables.cursor(range(va, len)).map(&mut self.frames, &mapping);
        self.settle(done);
    }

    fn protect(&mut self, va: u64, len: u64, _leaf: Leaf) {
        let Change { set, clear } = F::READ_ONLY;
        let done = self.tables.cursor(range(va, len)).protect(Change { set, clear });
        self.settle(done);
    }

    fn unmap(&mut self, va: u64, len: u64, _leaf: Leaf) {
        let done = self.tables.cursor(range(va, len)).unmap();
        self.settle(done);
    }

    #[inline]
    fn map_one(&mut self, va: u64, pa: u64) {
        match self.tables.map_page(VirtAddr(va), PhysAddr(pa), &self.form, &mut self.frames) {
            Ok(()) => {}
            Err(error) => refused(F::NAME, error),
        }
    }

    #[inline]
    fn unmap_one(&mut self, va: u64) {
        match self.tables.unmap_page(VirtAddr(va)) {
            Ok(stale) => self.tables.pay(stale, &mut NoTlb, &mut self.frames),
            Err(error) => refused(F::NAME, error),
        }
    }

    fn map_run(&mut self, va: u64, pas: &[u64]) {
        let run = range(va, (pas.len() as u64) << F::PAGE_SHIFT);
        let done = self.tables.cursor(run).map_pages(&mut self.frames, &self.form, pas, |pa| PhysAddr(*pa));
        done.unwrap_or_else(|error| refused(F::NAME, error));
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
    fn translate(&self, va: u64) -> Option<u64> {
        let tables = self.tables.tables();
        reached(self.links.translate(tables.mem(), tables.root(), VirtAddr(va)))
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
        arena::reset(F::PAGE_SHIFT);
        let mut tree: Ours<F> = Tables::new();
        let (va, page) = (F::FIRST, 1 << F::PAGE_SHIFT);
        tree.map(va, va, 16 * page, Leaf::Page);
        let root = arena::in_use();
        assert_eq!(
            (tree.translate(va + 15 * page + 5), tree.translate(va + 16 * page)),
            (Some(va + 15 * page + 5), None)
        );
        tree.protect(va, 16 * page, Leaf::Page);
        assert_eq!(tree.translate(va), Some(va), "{}", F::NAME);
        tree.unmap(va, 16 * page, Leaf::Page);
        assert!(tree.translate(va).is_none() && arena::in_use() < root, "{}", F::NAME);
        tree.map_one(va, va + page);
        assert_eq!(tree.translate(va + 1), Some(va + page + 1));
        assert_eq!(tree.translate_cached(va + 1), Some(va + page + 1));
        assert_eq!(tree.translate_batch(&[VirtAddr(va + 3), VirtAddr(va + 5)]), 2 * (va + page) + 8);
        tree.unmap_one(va);
        assert_eq!((tree.translate(va + 1), tree.translate_cached(va + 1)), (None, None));
        tree.map_run(va, &[va + 5 * page, va]);
        assert_eq!((tree.translate(va), tree.translate(va + page)), (Some(va + 5 * page), Some(va)));
        tree.unmap_run(va, 2);
        assert_eq!(tree.translate(va + page), None);
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
