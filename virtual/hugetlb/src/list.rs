//! The list of a pool's pages, in memory that the caller lends.

use kernmem_base::Pfn;

/// A huge page of a pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HugePage {
    /// Its first frame.
    pub pfn: Pfn,
    /// Its node.
    pub nid: u32,
    /// Whether its descriptors share one frame.
    pub optimized: bool,
    /// Whether somebody has it.
    pub taken: bool,
    /// Whether boot set it aside, so that it goes back as frames that boot had kept.
    pub of_boot: bool,
}

/// The list has no place left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

/// Where a pool keeps its pages; the last that came is the first that goes.
pub trait PageList {
    /// The pages.
    fn pages(&self) -> &[HugePage];

    /// The pages, for changing.
    fn pages_mut(&mut self) -> &mut [HugePage];

    /// Adds a page.
    ///
    /// # Errors
    /// [`Full`]; nothing was added.
    fn push(&mut self, page: HugePage) -> Result<(), Full>;

    /// Takes the page at `index` out; those behind it move up.
    fn remove(&mut self, index: usize) -> Option<HugePage>;
}

/// A list in a lent array.
#[derive(Debug)]
pub struct LentList<'s> {
    slots: &'s mut [HugePage],
    used: usize,
}

impl<'s> LentList<'s> {
    /// An empty list in `slots`.
    #[must_use]
    pub const fn new(slots: &'s mut [HugePage]) -> Self {
        Self { slots, used: 0 }
    }
}

impl PageList for LentList<'_> {
    fn pages(&self) -> &[HugePage] {
        &self.slots[..self.used]
    }

    fn pages_mut(&mut self) -> &mut [HugePage] {
        &mut self.slots[..self.used]
    }

    fn push(&mut self, page: HugePage) -> Result<(), Full> {
        *self.slots.get_mut(self.used).ok_or(Full)? = page;
        self.used += 1;
        Ok(())
    }

    fn remove(&mut self, index: usize) -> Option<HugePage> {
        let page = *self.pages().get(index)?;
        self.slots.copy_within(index + 1..self.used, index);
        self.used -= 1;
        Some(page)
    }
}

#[cfg(feature = "alloc")]
impl PageList for alloc::vec::Vec<HugePage> {
    fn pages(&self) -> &[HugePage] {
        self
    }

    fn pages_mut(&mut self) -> &mut [HugePage] {
        self
    }

    fn push(&mut self, page: HugePage) -> Result<(), Full> {
        self.push(page);
        Ok(())
    }

    fn remove(&mut self, index: usize) -> Option<HugePage> {
        (index < self.len()).then(|| self.remove(index))
    }
}
