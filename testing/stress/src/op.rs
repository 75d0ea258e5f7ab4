//! Operations: what a CPU may do in one step, and how often it does it.
//!
//! Which operation comes is fixed by the seed, the CPU and the step; what it meets is not.

use crate::draw::Draw;

/// A sort of operations.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Sort {
    /// Takes a block of order 0 to 3.
    Small,
    /// Takes a block of any order.
    Large,
    /// Takes single frames at once.
    Bulk,
    /// Takes bytes.
    Exact,
    /// Takes a piece of any place.
    Contig,
    /// Takes a piece of one place.
    Range,
    /// Gives one thing back.
    Free,
    /// Gives several things back.
    FreeMany,
    /// Hands something to another CPU.
    Pass,
    /// Takes what others handed over.
    Receive,
    /// Makes single frames of a block.
    Split,
    /// Gives something back that it has not, or not so.
    Wrong,
    /// Empties its own lists.
    Drain,
    /// Asks another CPU to empty its lists.
    Ask,
    /// Says for what a pageblock is meant.
    Retype,
    /// Sets a pageblock apart, takes all of it if it can, and puts it back.
    Isolate,
    /// Takes memory out of the allocator, or brings some back: that is counted as a part.
    Plug,
    /// Changes how much CPUs keep.
    Limits,
    /// Looks at figures.
    Look,
    /// Maps pages of the shared tree.
    Map,
    /// Unmaps some.
    Unmap,
    /// Changes the rights of some.
    Protect,
    /// Splits a block.
    SplitBlock,
    /// Makes one block of a table.
    Collapse,
    /// Follows addresses without a lock.
    Walk,
}

impl Sort {
    /// All sorts.
    pub const ALL: [Self; 25] = [
        Self::Small,
        Self::Large,
        Self::Bulk,
        Self::Exact,
        Self::Contig,
        Self::Range,
        Self::Free,
        Self::FreeMany,
        Self::Pass,
        Self::Receive,
        Self::Split,
        Self::Wrong,
        Self::Drain,
        Self::Ask,
        Self::Retype,
        Self::Isolate,
        Self::Plug,
        Self::Limits,
        Self::Look,
        Self::Map,
        Self::Unmap,
        Self::Protect,
        Self::SplitBlock,
        Self::Collapse,
        Self::Walk,
    ];

    /// Its name in tallies.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Small => "small block",
            Self::Large => "any block",
            Self::Bulk => "bulk",
            Self::Exact => "exact bytes",
            Self::Contig => "piece anywhere",
            Self::Range => "piece of a place",
            Self::Free => "free",
            Self::FreeMany => "free many",
            Self::Pass => "pass on",
            Self::Receive => "receive",
            Self::Split => "split",
            Self::Wrong => "wrong free",
            Self::Drain => "drain",
            Self::Ask => "ask to drain",
            Self::Retype => "retype",
            Self::Isolate => "isolate",
            Self::Plug => "plug",
            Self::Limits => "limits",
            Self::Look => "look",
            Self::Map => "map",
            Self::Unmap => "unmap",
            Self::Protect => "protect",
            Self::SplitBlock => "split a block",
            Self::Collapse => "collapse",
            Self::Walk => "walk",
        }
    }

    /// How often it comes, while CPUs take more than they give, and while they give more than they take.
    const fn weights(self) -> [u32; 2] {
        match self {
            Self::Small => [1500, 800],
            Self::Large => [150, 50],
            Self::Bulk => [100, 40],
            Self::Exact => [100, 50],
            // They look through whole zones.
            Self::Contig => [1, 2],
            Self::Range => [5, 10],
            Self::Free => [1000, 1600],
            Self::FreeMany => [25, 125],
            Self::Pass => [300, 200],
            Self::Receive => [150, 200],
            Self::Split => [100, 50],
            Self::Wrong | Self::Look => [50, 50],
            Self::Map => [300, 150],
            Self::Unmap => [150, 200],
            Self::Protect => [80, 60],
            Self::SplitBlock => [60, 40],
            Self::Collapse => [30, 20],
            Self::Walk => [200, 150],
            Self::Drain | Self::Ask => [10, 10],
            Self::Retype => [8, 8],
            Self::Isolate => [3, 8],
            Self::Plug => [5, 10],
            Self::Limits => [2, 2],
        }
    }
}

/// Which operations a run has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mix {
    /// All of them.
    #[default]
    All,
    /// None that changes what a pageblock is meant for: free blocks are then the largest of every order.
    Typed,
}

impl Mix {
    /// Whether a run has a sort of operations.
    pub const fn has(self, sort: Sort) -> bool {
        match self {
            Self::All => true,
            Self::Typed => !matches!(sort, Sort::Retype | Sort::Isolate),
        }
    }

    /// Draws an operation, of a CPU that fills its memory or one that empties it.
    pub fn draw(self, draw: &mut Draw, fills: bool) -> Sort {
        let weight = |sort: Sort| if self.has(sort) { sort.weights()[usize::from(!fills)] } else { 0 };
        Sort::ALL[draw.weighed(&Sort::ALL.map(weight))]
    }
}
