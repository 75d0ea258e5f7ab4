//! Shared tables under stress: all CPUs on one tree, with frames from the page allocator.
//!
//! * `memory`: the frames that tables may be in, and their notes.
//! * `tree`: the tree with a book that has one word a page, and what is accounted for at a pause.
//! * `cpu`: what one CPU does with its cursors and walks.
//!
//! A CPU that has a cursor over a range has the words of its pages in the book too: it compares both, works, and writes
//! down what it did. A walk without a cursor must meet what could have been mapped there at some time.

mod cpu;
mod memory;
mod tree;

use kernmem_arch::EntryFormat;
use kernmem_arch::arm64::Arm64Granule4K;
use kernmem_arch::x86::X86Level4;
use kernmem_base::{FrameSource, PhysAddr};

use crate::broken::What;
use crate::draw::Draw;
use crate::op::Sort;
use crate::owners::Owners;
use crate::tally::Outcome;

pub(crate) use memory::{GFP, TABLE_FRAMES};

/// The format of the tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// x86-64 with four levels.
    X86,
    /// arm64 with 4K pages, four levels and contiguous groups.
    Arm64,
}

/// The tree, whatever its format.
pub(crate) trait Tree: Sync {
    /// The tree as a CPU reaches it; `None` if somebody has it.
    fn cpu(&self, number: u32) -> Option<Box<dyn CpuTree + '_>>;

    /// Spoils a frame that is no table any more: a walk that meets it says so.
    fn spoil(&self, frame: PhysAddr);

    /// Accounts for every table and every page while nobody has a cursor.
    fn check(&self, owners: &Owners) -> Result<(), What>;
}

/// The tree as one CPU reaches it.
pub(crate) trait CpuTree {
    /// Does one operation.
    fn step(&mut self, sort: Sort, draw: &mut Draw, frames: &mut dyn FrameSource) -> Result<Outcome, What>;

    /// Unmaps everything.
    fn clear(&mut self, frames: &mut dyn FrameSource) -> Result<(), What>;

    /// Gives back the tables that waited for walks, of which there are none now.
    fn settle(&mut self, frames: &mut dyn FrameSource) -> Result<(), What>;
}

/// A format, and an attribute bit that any leaf of it may have or not.
pub(crate) trait Marked: EntryFormat {
    /// Attributes of a page that is mapped.
    const PAGE: u64;
    /// Attributes of an entry that links a table.
    const TABLE: u64;
    /// The bit, one of those that are left to software.
    const MARK: u64;
}

impl Marked for X86Level4 {
    const PAGE: u64 = 0x63;
    const TABLE: u64 = 0x63;
    const MARK: u64 = 1 << 9;
}

impl Marked for Arm64Granule4K {
    const PAGE: u64 = 0x0078_0000_0000_0703;
    const TABLE: u64 = 0x3;
    const MARK: u64 = 1 << 55;
}

/// Makes a tree for so many CPUs and has `work` done with it.
pub(crate) fn with_tree<T>(format: Format, cpus: u32, work: impl FnOnce(&dyn Tree) -> T) -> Result<T, What> {
    match format {
        Format::X86 => tree::with::<X86Level4, T>(cpus, work),
        Format::Arm64 => tree::with::<Arm64Granule4K, T>(cpus, work),
    }
}
