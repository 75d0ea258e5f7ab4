//! Where the nodes of the trees are kept: memory that the caller lends.
//!
//! Here: [`Node`] (one range of addresses), [`Store`] (an array of nodes that may grow) and, with the feature `alloc`,
//! `VecStore`. A kernel without a heap lends a slice.
//! Not here: which nodes are in use (`arena`), how they are linked (`tree`).
//!
//! Source: Linux 6.1 include/linux/vmalloc.h `struct vmap_area`.

use crate::Area;
use crate::tree::Link;

/// One range of addresses: free, busy or lazily freed. Opaque: only lent, never read.
#[derive(Clone, Copy, Debug)]
pub struct Node {
    /// First byte.
    pub(crate) start: u64,
    /// One past the last byte.
    pub(crate) end: u64,
    /// Bytes of the largest range in the sub-tree.
    pub(crate) max: u64,
    /// The node above; the next unused node while this one is unused.
    pub(crate) parent: Link,
    /// The nodes below: lower addresses, higher addresses.
    pub(crate) child: [Link; 2],
    /// Colour.
    pub(crate) red: bool,
    /// What a busy range is used for.
    pub(crate) area: Option<Area>,
}

impl Node {
    /// An unused node.
    pub const EMPTY: Self =
        Self { start: 0, end: 0, max: 0, parent: None, child: [None, None], red: false, area: None };

    pub(crate) const fn size(&self) -> u64 {
        self.end - self.start
    }
}

/// An array of nodes.
pub trait Store {
    /// All nodes.
    fn nodes(&self) -> &[Node];

    /// All nodes, to change them.
    fn nodes_mut(&mut self) -> &mut [Node];

    /// Appends at least one empty node; nodes keep their places. `false` if there is no memory: nothing changed then.
    fn grow(&mut self) -> bool;
}

impl Store for &mut [Node] {
    fn nodes(&self) -> &[Node] {
        self
    }

    fn nodes_mut(&mut self) -> &mut [Node] {
        self
    }

    fn grow(&mut self) -> bool {
        false
    }
}

/// Nodes on the heap.
#[cfg(feature = "alloc")]
#[derive(Clone, Debug, Default)]
pub struct VecStore(alloc::vec::Vec<Node>);

#[cfg(feature = "alloc")]
impl VecStore {
    /// No nodes yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(alloc::vec::Vec::new())
    }
}

#[cfg(feature = "alloc")]
impl Store for VecStore {
    fn nodes(&self) -> &[Node] {
        &self.0
    }

    fn nodes_mut(&mut self) -> &mut [Node] {
        &mut self.0
    }

    fn grow(&mut self) -> bool {
        if self.0.try_reserve(1).is_err() {
            return false;
        }
        self.0.push(Node::EMPTY);
        true
    }
}
