//! Lists of regions and the arrays that hold them.
//!
//! Here: the storage trait [`RegionArray`] with its two implementations, and [`List`], which keeps the sum of sizes.
//! Not here: when and where a list grows (`grow`), what the operations mean (`edit`).
//!
//! # Invariants
//! 1. `total` is the sum of the sizes of what was inserted minus what was removed; a region shrunk in place does not
//!    change it (see `trim_memory`).
//!
//! Source: Linux 5.10–7.2 mm/memblock.c `struct memblock_type`.

use core::ops::Range;

use kernmem_base::{PhysAddr, PhysRange};

use crate::{Nid, Region};

/// Which of the two lists.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ListKind {
    /// Memory that exists.
    Memory,
    /// Memory that is taken, whether it exists or not.
    Reserved,
}

impl ListKind {
    /// The list's name in Linux.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Reserved => "reserved",
        }
    }
}

/// The storage of one list.
///
/// Laws: `as_slice().len() <= capacity()`; `insert` and `remove` shift the rest; a failed call changes nothing.
pub trait RegionArray {
    /// The regions in use.
    fn as_slice(&self) -> &[Region];

    /// The regions in use, to be changed in place.
    fn as_mut_slice(&mut self) -> &mut [Region];

    /// How many regions fit.
    fn capacity(&self) -> usize;

    /// Puts `region` before the one at `index`; the caller made sure that it fits.
    ///
    /// # Panics
    /// If the array is full or `index` is past the end: a bug of the list.
    fn insert(&mut self, index: usize, region: Region);

    /// Takes out the regions at `indices`.
    ///
    /// # Panics
    /// If `indices` is not within the regions in use: a bug of the list.
    fn remove(&mut self, indices: Range<usize>);

    /// Makes room for `capacity` regions; a kernel that runs on memory itself moves the array to `at`.
    ///
    /// # Errors
    /// [`CannotGrow`]; nothing has changed then.
    fn grow(&mut self, capacity: usize, at: PhysAddr) -> Result<(), CannotGrow>;
}

/// The storage has a fixed size.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CannotGrow;

/// `N` regions inside the value itself: the array of a kernel without an allocator. It cannot grow.
#[derive(Clone, Debug)]
pub struct InlineArray<const N: usize> {
    regions: [Region; N],
    len: usize,
}

impl<const N: usize> InlineArray<N> {
    /// An empty array.
    #[must_use]
    pub const fn new() -> Self {
        const EMPTY: Region = Region { base: PhysAddr(0), size: 0, nid: None, flags: crate::Flags::NONE };
        Self { regions: [EMPTY; N], len: 0 }
    }
}

impl<const N: usize> Default for InlineArray<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> RegionArray for InlineArray<N> {
    fn as_slice(&self) -> &[Region] {
        &self.regions[..self.len]
    }

    fn as_mut_slice(&mut self) -> &mut [Region] {
        &mut self.regions[..self.len]
    }

    fn capacity(&self) -> usize {
        N
    }

    fn insert(&mut self, index: usize, region: Region) {
        assert!(self.len < N, "the list made room before inserting");
        self.regions.copy_within(index..self.len, index + 1);
        self.regions[index] = region;
        self.len += 1;
    }

    fn remove(&mut self, indices: Range<usize>) {
        self.regions.copy_within(indices.end..self.len, indices.start);
        self.len -= indices.len();
    }

    fn grow(&mut self, _capacity: usize, _at: PhysAddr) -> Result<(), CannotGrow> {
        Err(CannotGrow)
    }
}

/// Regions on the heap of a program. Its capacity is the one that Linux's array would have, so it grows as Linux's.
#[cfg(feature = "alloc")]
#[derive(Clone, Debug)]
pub struct VecArray {
    regions: heap::vec::Vec<Region>,
    capacity: usize,
}

#[cfg(feature = "alloc")]
impl VecArray {
    /// An empty array for `capacity` regions.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self { regions: heap::vec::Vec::with_capacity(capacity), capacity }
    }
}

#[cfg(feature = "alloc")]
impl Default for VecArray {
    /// 128 regions, the size that both lists have on most machines.
    fn default() -> Self {
        Self::with_capacity(128)
    }
}

#[cfg(feature = "alloc")]
impl RegionArray for VecArray {
    fn as_slice(&self) -> &[Region] {
        &self.regions
    }

    fn as_mut_slice(&mut self) -> &mut [Region] {
        &mut self.regions
    }

    fn capacity(&self) -> usize {
        self.capacity
    }

    fn insert(&mut self, index: usize, region: Region) {
        assert!(self.regions.len() < self.capacity, "the list made room before inserting");
        self.regions.insert(index, region);
    }

    fn remove(&mut self, indices: Range<usize>) {
        self.regions.drain(indices);
    }

    fn grow(&mut self, capacity: usize, _at: PhysAddr) -> Result<(), CannotGrow> {
        self.capacity = capacity;
        Ok(())
    }
}

/// A sorted list of regions with the sum of their sizes.
#[derive(Clone, Debug)]
pub struct List<A> {
    array: A,
    total: u64,
    /// Where the storage lies once the list has grown; `None` while it is the caller's first array.
    home: Option<PhysRange>,
    /// Whether two regions that could be one may exist anywhere: `cap_memory_range` leaves such pairs.
    has_split_pair: bool,
}

impl<A: RegionArray> List<A> {
    pub(crate) fn new(array: A) -> Self {
        Self { array, total: 0, home: None, has_split_pair: false }
    }

    /// The regions, sorted by base.
    #[must_use]
    pub fn regions(&self) -> &[Region] {
        self.array.as_slice()
    }

    /// How many regions there are. Linux up to 6.1 shows 1 for an empty list.
    #[must_use]
    pub fn len(&self) -> usize {
        self.regions().len()
    }

    /// Whether there is no region.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.regions().is_empty()
    }

    /// How many regions fit before the list must grow.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.array.capacity()
    }

    /// Bytes in all regions, as Linux counts them: invariant 1.
    #[must_use]
    pub fn total_size(&self) -> u64 {
        self.total
    }

    /// Where the list's storage lies, if it has grown.
    #[must_use]
    pub fn home(&self) -> Option<PhysRange> {
        self.home
    }

    /// The region that holds `pa`.
    #[must_use]
    pub fn search(&self, pa: PhysAddr) -> Option<&Region> {
        let region = self.regions().get(self.first_ending_above(pa))?;
        (region.base <= pa).then_some(region)
    }

    /// Index of the first region that ends above `pa`.
    pub(crate) fn first_ending_above(&self, pa: PhysAddr) -> usize {
        self.regions().partition_point(|region| region.end() <= pa)
    }

    /// Index of the first region that starts at or above `pa`.
    pub(crate) fn first_from(&self, pa: PhysAddr) -> usize {
        self.regions().partition_point(|region| region.base < pa)
    }

    /// Puts `region` before the one at `index`; tells whether that made one region more. If it continues a neighbour,
    /// the neighbour grows instead: most allocations end here, and nothing is moved.
    pub(crate) fn add(&mut self, index: usize, region: Region) -> bool {
        self.total = self.total.wrapping_add(region.size);
        if let Some(below) = index.checked_sub(1)
            && self.regions()[below].continues_in(&region)
        {
            self.array.as_mut_slice()[below].size += region.size;
            return false;
        }
        if let Some(above) = self.array.as_mut_slice().get_mut(index)
            && region.continues_in(above)
        {
            *above = Region { size: region.size + above.size, ..region };
            return false;
        }
        self.array.insert(index, region);
        true
    }

    pub(crate) fn remove(&mut self, indices: Range<usize>) {
        let bytes = self.regions()[indices.clone()].iter().fold(0, |sum: u64, region| sum.wrapping_add(region.size));
        self.total = self.total.wrapping_sub(bytes);
        self.array.remove(indices);
    }

    /// Cuts the region at `index` in two at `pa`, which lies inside it.
    pub(crate) fn split(&mut self, index: usize, pa: PhysAddr) {
        let whole = self.regions()[index];
        let low = Region { size: pa - whole.base, ..whole };
        let high = Region { base: pa, size: whole.end() - pa, ..whole };
        self.array.as_mut_slice()[index] = high;
        self.array.insert(index, low);
    }

    /// Changes the region at `index` in place without counting its size again.
    pub(crate) fn replace(&mut self, index: usize, region: Region) {
        self.array.as_mut_slice()[index] = region;
    }

    pub(crate) fn set_node(&mut self, index: usize, nid: Option<Nid>) {
        self.array.as_mut_slice()[index].nid = nid;
    }

    pub(crate) fn note_split_pair(&mut self) {
        self.has_split_pair = true;
    }

    /// Joins what belongs together around the regions at `changed`; the whole list if `everywhere` and there may be
    /// a pair elsewhere.
    ///
    /// # Panics
    /// If two regions overlap: invariant 1 of the crate is broken.
    pub(crate) fn merge(&mut self, changed: Range<usize>, everywhere: bool) {
        let whole = everywhere && self.has_split_pair;
        let window = if whole { 0..self.len() } else { changed };
        let (mut index, mut last) = (window.start.saturating_sub(1), window.end.min(self.len().saturating_sub(1)));
        while index < last {
            let (this, next) = (self.regions()[index], self.regions()[index + 1]);
            assert!(this.end() <= next.base, "two regions of one list overlap");
            if this.continues_in(&next) {
                self.replace(index, Region { size: this.size + next.size, ..this });
                self.array.remove(index + 1..index + 2);
                last -= 1;
            } else {
                index += 1;
            }
        }
        self.has_split_pair &= !whole;
    }

    pub(crate) fn grow(&mut self, capacity: usize, home: PhysRange) -> Result<(), CannotGrow> {
        self.array.grow(capacity, home.start)?;
        self.home = Some(home);
        Ok(())
    }
}
