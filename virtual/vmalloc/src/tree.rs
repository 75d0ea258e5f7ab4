//! A red-black tree of ranges, each node with the largest range below it.
//!
//! The shape decides which hole is found, so insertion and deletion are the classical ones: a new node is red and goes
//! where its start belongs; a node with two children is replaced by its successor.
//!
//! # Invariants
//! 1. The root is black, a red node has black children, every way down has the same number of black nodes.
//! 2. `max` of a node is the size of the largest range in its sub-tree.
//!
//! Source: Linux 6.1 lib/rbtree.c `__rb_insert`, `____rb_erase_color`; mm/vmalloc.c `augment_tree_propagate_from`.

use core::num::NonZeroU32;

use crate::store::Node;

/// The place of a node in its store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Id(NonZeroU32);

/// A node, or nothing.
pub(crate) type Link = Option<Id>;

/// Lower addresses.
pub(crate) const LEFT: usize = 0;
/// Higher addresses.
pub(crate) const RIGHT: usize = 1;

impl Id {
    /// Places that a link can name.
    pub(crate) const MOST: usize = u32::MAX as usize - 1;

    /// The node at `index`, which is below [`Id::MOST`].
    pub(crate) const fn of(index: usize) -> Self {
        match NonZeroU32::new(index as u32 + 1) {
            Some(id) => Self(id),
            None => panic!("the arena hands out fewer nodes than a link can name"),
        }
    }

    pub(crate) const fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

impl core::ops::Index<Id> for [Node] {
    type Output = Node;

    fn index(&self, id: Id) -> &Node {
        &self[id.index()]
    }
}

impl core::ops::IndexMut<Id> for [Node] {
    fn index_mut(&mut self, id: Id) -> &mut Node {
        &mut self[id.index()]
    }
}

/// The root of one tree.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tree {
    pub(crate) root: Link,
}

/// The largest range below `link`.
pub(crate) fn max_of(nodes: &[Node], link: Link) -> u64 {
    link.map_or(0, |id| nodes[id].max)
}

fn is_red(nodes: &[Node], link: Link) -> bool {
    link.is_some_and(|id| nodes[id].red)
}

/// The largest range of a node's sub-tree, from its own size and its children's word.
pub(crate) fn max_below(nodes: &[Node], id: Id) -> u64 {
    let node = &nodes[id];
    node.size().max(max_of(nodes, node.child[LEFT])).max(max_of(nodes, node.child[RIGHT]))
}

fn fix(nodes: &mut [Node], id: Id) {
    nodes[id].max = max_below(nodes, id);
}

/// Corrects `max` from `link` to the root.
pub(crate) fn propagate(nodes: &mut [Node], mut link: Link) {
    while let Some(id) = link {
        fix(nodes, id);
        link = nodes[id].parent;
    }
}

impl Tree {
    /// The side of its parent on which a node hangs.
    fn side_of(nodes: &[Node], parent: Id, id: Id) -> usize {
        usize::from(nodes[parent].child[RIGHT] == Some(id))
    }

    /// Puts `new` where `old` hangs.
    fn replace(&mut self, nodes: &mut [Node], old: Id, new: Link) {
        let parent = nodes[old].parent;
        match parent {
            Some(parent) => {
                let side = Self::side_of(nodes, parent, old);
                nodes[parent].child[side] = new;
            }
            None => self.root = new,
        }
        if let Some(new) = new {
            nodes[new].parent = parent;
        }
    }

    /// Moves `top` down to `side`; its child of the other side takes its place.
    fn rotate(&mut self, nodes: &mut [Node], top: Id, side: usize) {
        let up = nodes[top].child[1 - side].expect("a rotation has a node to lift");
        let inner = nodes[up].child[side];
        self.replace(nodes, top, Some(up));
        nodes[top].child[1 - side] = inner;
        if let Some(inner) = inner {
            nodes[inner].parent = Some(top);
        }
        nodes[up].child[side] = Some(top);
        nodes[top].parent = Some(up);
        fix(nodes, top);
        fix(nodes, up);
    }

    /// Inserts a node that is in no tree, searching its place from the root.
    ///
    /// # Errors
    /// The node that it overlaps; nothing has changed.
    pub(crate) fn insert(&mut self, nodes: &mut [Node], id: Id) -> Result<(), Id> {
        self.insert_from(nodes, id, self.root)
    }

    /// Inserts a node, searching its place from `from`, in whose sub-tree it belongs.
    ///
    /// # Errors
    /// As [`Tree::insert`].
    pub(crate) fn insert_from(&mut self, nodes: &mut [Node], id: Id, from: Link) -> Result<(), Id> {
        let (start, end) = (nodes[id].start, nodes[id].end);
        let (mut parent, mut side, mut at) = (None, LEFT, from);
        while let Some(here) = at {
            side = if end <= nodes[here].start {
                LEFT
            } else if start >= nodes[here].end {
                RIGHT
            } else {
                return Err(here);
            };
            parent = Some(here);
            at = nodes[here].child[side];
        }
        let node = &mut nodes[id];
        (node.parent, node.child, node.red) = (parent, [None, None], true);
        match parent {
            Some(parent) => nodes[parent].child[side] = Some(id),
            None => self.root = Some(id),
        }
        propagate(nodes, Some(id));
        self.balance_inserted(nodes, id);
        Ok(())
    }

    /// Removes two reds in a row, of which `id` is the lower.
    fn balance_inserted(&mut self, nodes: &mut [Node], mut id: Id) {
        loop {
            let Some(mut parent) = nodes[id].parent else {
                nodes[id].red = false;
                return;
            };
            if !nodes[parent].red {
                return;
            }
            let grand = nodes[parent].parent.expect("a red node is not the root");
            let side = Self::side_of(nodes, grand, parent);
            if let Some(uncle) = nodes[grand].child[1 - side]
                && nodes[uncle].red
            {
                nodes[parent].red = false;
                nodes[uncle].red = false;
                nodes[grand].red = true;
                id = grand;
                continue;
            }
            if Self::side_of(nodes, parent, id) != side {
                self.rotate(nodes, parent, side);
                parent = id;
            }
            self.rotate(nodes, grand, 1 - side);
            nodes[parent].red = false;
            nodes[grand].red = true;
            return;
        }
    }

    /// Takes a node out of the tree.
    pub(crate) fn remove(&mut self, nodes: &mut [Node], id: Id) {
        let [left, right] = nodes[id].child;
        let (parent, side, child, was_red) = match (left, right) {
            (Some(left), Some(right)) => self.lift_successor(nodes, id, left, right),
            (child, None) | (None, child) => {
                let parent = nodes[id].parent;
                let side = parent.map_or(LEFT, |parent| Self::side_of(nodes, parent, id));
                self.replace(nodes, id, child);
                (parent, side, child, nodes[id].red)
            }
        };
        propagate(nodes, parent);
        if was_red {
            return;
        }
        match child {
            Some(child) if nodes[child].red => nodes[child].red = false,
            _ => self.balance_removed(nodes, parent, side),
        }
    }

    /// Puts the successor of `id` in its place and colour. Returns the place that became one node shorter: parent,
    /// side, what hangs there now, and the colour that is missing.
    fn lift_successor(&mut self, nodes: &mut [Node], id: Id, left: Id, right: Id) -> (Link, usize, Link, bool) {
        let mut next = right;
        while let Some(lower) = nodes[next].child[LEFT] {
            next = lower;
        }
        let (child, was_red) = (nodes[next].child[RIGHT], nodes[next].red);
        let place = if next == right {
            (Some(next), RIGHT)
        } else {
            let parent = nodes[next].parent;
            self.replace(nodes, next, child);
            nodes[next].child[RIGHT] = Some(right);
            nodes[right].parent = Some(next);
            (parent, LEFT)
        };
        self.replace(nodes, id, Some(next));
        nodes[next].child[LEFT] = Some(left);
        nodes[left].parent = Some(next);
        nodes[next].red = nodes[id].red;
        (place.0, place.1, child, was_red)
    }

    /// Repairs the ways through `side` of `parent`, which have one black node too few.
    fn balance_removed(&mut self, nodes: &mut [Node], mut parent: Link, mut side: usize) {
        while let Some(top) = parent {
            let other = 1 - side;
            let mut sibling = nodes[top].child[other].expect("a black node has a sibling");
            if nodes[sibling].red {
                self.rotate(nodes, top, side);
                nodes[sibling].red = false;
                nodes[top].red = true;
                sibling = nodes[top].child[other].expect("a red sibling has black children");
            }
            let (near, far) = (nodes[sibling].child[side], nodes[sibling].child[other]);
            if !is_red(nodes, far) {
                let Some(near) = near.filter(|&near| nodes[near].red) else {
                    nodes[sibling].red = true;
                    if nodes[top].red {
                        nodes[top].red = false;
                        return;
                    }
                    parent = nodes[top].parent;
                    side = parent.map_or(LEFT, |parent| Self::side_of(nodes, parent, top));
                    continue;
                };
                self.rotate(nodes, sibling, other);
                nodes[near].red = false;
                nodes[sibling].red = true;
                sibling = near;
            }
            self.rotate(nodes, top, side);
            nodes[sibling].red = nodes[top].red;
            nodes[top].red = false;
            if let Some(far) = nodes[sibling].child[other] {
                nodes[far].red = false;
            }
            return;
        }
    }

    /// The node with the lowest address.
    pub(crate) fn first(&self, nodes: &[Node]) -> Link {
        outermost(nodes, self.root, LEFT)
    }

    /// The node with the highest address.
    pub(crate) fn last(&self, nodes: &[Node]) -> Link {
        outermost(nodes, self.root, RIGHT)
    }

    /// The node that holds `addr`.
    pub(crate) fn find(&self, nodes: &[Node], addr: u64) -> Link {
        let mut at = self.root;
        while let Some(id) = at {
            let node = &nodes[id];
            at = if addr < node.start {
                node.child[LEFT]
            } else if addr >= node.end {
                node.child[RIGHT]
            } else {
                return Some(id);
            };
        }
        None
    }

    /// The last node that ends at or below `addr`, and the first one that starts there or above; neither overlaps it.
    pub(crate) fn around(&self, nodes: &[Node], addr: u64) -> (Link, Link) {
        let (mut below, mut above, mut at) = (None, None, self.root);
        while let Some(id) = at {
            if nodes[id].start >= addr {
                above = Some(id);
                at = nodes[id].child[LEFT];
            } else {
                below = Some(id);
                at = nodes[id].child[RIGHT];
            }
        }
        (below, above)
    }

    /// The nodes by address.
    pub(crate) fn iter<'n>(&self, nodes: &'n [Node]) -> impl Iterator<Item = &'n Node> + Clone + use<'n> {
        let first = self.first(nodes);
        core::iter::successors(first, move |&id| next(nodes, id)).map(move |id| &nodes[id])
    }
}

fn outermost(nodes: &[Node], mut link: Link, side: usize) -> Link {
    while let Some(id) = link {
        match nodes[id].child[side] {
            None => return Some(id),
            below => link = below,
        }
    }
    None
}

/// The node behind `id`, by address.
pub(crate) fn next(nodes: &[Node], id: Id) -> Link {
    if let Some(right) = nodes[id].child[RIGHT] {
        return outermost(nodes, Some(right), LEFT);
    }
    let mut at = id;
    while let Some(parent) = nodes[at].parent {
        if nodes[parent].child[LEFT] == Some(at) {
            return Some(parent);
        }
        at = parent;
    }
    None
}
