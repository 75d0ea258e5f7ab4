//! Which nodes of a store are in use.
//!
//! # Invariants
//! 1. A node is in one tree, or on the list of unused nodes, or was never used.
//!
//! Source: Linux 6.1 mm/vmalloc.c `vmap_area_cachep`, `ne_fit_preload_node`.

use crate::store::{Node, Store};
use crate::tree::{Id, Link};

/// The nodes of a store, handed out one by one.
#[derive(Clone, Debug)]
pub(crate) struct Arena<S> {
    store: S,
    /// Nodes from here on were never used.
    fresh: usize,
    /// Unused nodes, linked through their parents.
    unused: Link,
    unused_count: usize,
}

impl<S: Store> Arena<S> {
    pub(crate) const fn new(store: S) -> Self {
        Self { store, fresh: 0, unused: None, unused_count: 0 }
    }

    pub(crate) fn nodes(&self) -> &[Node] {
        self.store.nodes()
    }

    pub(crate) fn nodes_mut(&mut self) -> &mut [Node] {
        self.store.nodes_mut()
    }

    pub(crate) fn node(&self, id: Id) -> &Node {
        &self.store.nodes()[id.index()]
    }

    pub(crate) fn node_mut(&mut self, id: Id) -> &mut Node {
        &mut self.store.nodes_mut()[id.index()]
    }

    /// Nodes in use.
    pub(crate) const fn used(&self) -> usize {
        self.fresh - self.unused_count
    }

    /// Makes sure that `count` nodes can be taken; `false` if memory is short.
    pub(crate) fn reserve(&mut self, count: usize) -> bool {
        while self.unused_count + self.store.nodes().len().min(Id::MOST) - self.fresh < count {
            if self.store.nodes().len() >= Id::MOST || !self.store.grow() {
                return false;
            }
        }
        true
    }

    /// Takes a node that [`Arena::reserve`] promised.
    ///
    /// # Panics
    /// Nothing was reserved.
    pub(crate) fn take(&mut self, start: u64, end: u64) -> Id {
        let id = match self.unused {
            Some(id) => {
                self.unused = self.node(id).parent;
                self.unused_count -= 1;
                id
            }
            None => {
                self.fresh += 1;
                Id::of(self.fresh - 1)
            }
        };
        *self.node_mut(id) = Node { start, end, max: end - start, ..Node::EMPTY };
        id
    }

    /// Takes a node back that is in no tree.
    pub(crate) fn give(&mut self, id: Id) {
        *self.node_mut(id) = Node { parent: self.unused, ..Node::EMPTY };
        self.unused = Some(id);
        self.unused_count += 1;
    }
}
