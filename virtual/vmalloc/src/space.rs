//! The whole space of kernel addresses: free, busy and lazily freed ranges, without any tables.
//!
//! # Invariants
//! 1. The three trees share no address; after `init` they cover `[LOWEST, HIGHEST)`.
//! 2. Neighbours of the free tree never touch, nor do those of the lazy tree.
//! 3. `lazy_bytes` is the sum of the lazy tree.
//!
//! Source: Linux 6.1 mm/vmalloc.c `vmap_init_free_space`, `adjust_va_to_fit_type`, `merge_or_add_vmap_area`,
//! `free_vmap_area_noflush`.

use kernmem_base::{Era, VirtAddr, VirtRange};

use crate::arena::Arena;
use crate::search::{Fit, Wanted, classify, lowest_match};
use crate::store::{Node, Store};
use crate::tree::{Id, LEFT, Link, RIGHT, Tree, max_below, next, propagate};
use crate::{Area, Broken};

/// First address of the space.
pub(crate) const LOWEST: u64 = 1;
/// One past its last address.
pub(crate) const HIGHEST: u64 = u64::MAX;

/// Why no range was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refused {
    /// No hole fits.
    NoHole,
    /// The store has no node.
    NoNode,
    /// The range is taken.
    Overlap(VirtAddr),
}

#[derive(Clone, Debug)]
pub(crate) struct Space<S> {
    arena: Arena<S>,
    free: Tree,
    busy: Tree,
    lazy: Tree,
    lazy_bytes: u64,
}

impl<S: Store> Space<S> {
    pub(crate) fn new(store: S) -> Self {
        let empty = Tree::default();
        Self { arena: Arena::new(store), free: empty, busy: empty, lazy: empty, lazy_bytes: 0 }
    }

    /// Enters a busy range that nobody looked for, before there is any free one.
    pub(crate) fn add_early(&mut self, area: Area) -> Result<(), Refused> {
        if !self.arena.reserve(1) {
            return Err(Refused::NoNode);
        }
        let start = area.start.0;
        let id = self.arena.take(start, start + area.size);
        self.arena.node_mut(id).area = Some(area);
        if let Err(other) = self.busy.insert(self.arena.nodes_mut(), id) {
            let start = VirtAddr(self.arena.node(other).start);
            self.arena.give(id);
            return Err(Refused::Overlap(start));
        }
        Ok(())
    }

    /// Makes everything free that is not busy, lowest first.
    pub(crate) fn init(&mut self) -> Result<(), Refused> {
        let busy = self.busy.iter(self.arena.nodes()).count();
        if !self.arena.reserve(busy + 1) {
            return Err(Refused::NoNode);
        }
        let (mut from, mut at) = (LOWEST, self.busy.first(self.arena.nodes()));
        while let Some(id) = at {
            let (start, end) = (self.arena.node(id).start, self.arena.node(id).end);
            self.add_free(from, start);
            from = end;
            at = next(self.arena.nodes(), id);
        }
        self.add_free(from, HIGHEST);
        Ok(())
    }

    fn add_free(&mut self, start: u64, end: u64) {
        if start < end {
            let id = self.arena.take(start, end);
            insert(&mut self.free, &mut self.arena, id, None);
        }
    }

    /// Cuts a range out of the lowest hole; it is busy then.
    pub(crate) fn alloc(&mut self, era: Era, page: u64, wanted: &Wanted) -> Result<Id, Refused> {
        if !self.arena.reserve(2) {
            return Err(Refused::NoNode);
        }
        let found = lowest_match(&self.free, self.arena.nodes(), era, page, wanted);
        let (hole, at) = found.ok_or(Refused::NoHole)?;
        let end = at + wanted.size;
        let id = match classify(self.arena.node(hole), at, end) {
            Fit::Full => {
                self.free.remove(self.arena.nodes_mut(), hole);
                self.arena.give(hole);
                self.arena.take(at, end)
            }
            Fit::LeftEdge => {
                self.arena.node_mut(hole).start = end;
                propagate(self.arena.nodes_mut(), Some(hole));
                self.arena.take(at, end)
            }
            Fit::RightEdge => {
                self.arena.node_mut(hole).end = at;
                propagate(self.arena.nodes_mut(), Some(hole));
                self.arena.take(at, end)
            }
            Fit::NoEdge => {
                let lower = self.arena.take(self.arena.node(hole).start, at);
                self.arena.node_mut(hole).start = end;
                propagate(self.arena.nodes_mut(), Some(hole));
                insert(&mut self.free, &mut self.arena, lower, Some(hole));
                self.arena.take(at, end)
            }
        };
        insert(&mut self.busy, &mut self.arena, id, None);
        Ok(id)
    }

    /// Binds a busy range to what it is used for.
    pub(crate) fn set_area(&mut self, id: Id, area: Area) {
        self.arena.node_mut(id).area = Some(area);
    }

    pub(crate) fn area_mut(&mut self, id: Id) -> Option<&mut Area> {
        self.arena.node_mut(id).area.as_mut()
    }

    pub(crate) fn node(&self, id: Id) -> &Node {
        self.arena.node(id)
    }

    /// The busy range that holds `addr`.
    pub(crate) fn find(&self, addr: VirtAddr) -> Link {
        self.busy.find(self.arena.nodes(), addr.0)
    }

    /// Moves a busy range to the lazily freed ones.
    pub(crate) fn free_lazily(&mut self, id: Id) {
        self.busy.remove(self.arena.nodes_mut(), id);
        let node = self.arena.node_mut(id);
        node.area = None;
        self.lazy_bytes += node.size();
        merge_or_add(&mut self.lazy, &mut self.arena, id);
    }

    pub(crate) const fn lazy_bytes(&self) -> u64 {
        self.lazy_bytes
    }

    /// From the first lazily freed address to the last.
    pub(crate) fn lazy_bounds(&self) -> Option<VirtRange> {
        let nodes = self.arena.nodes();
        let (first, last) = (self.lazy.first(nodes)?, self.lazy.last(nodes)?);
        VirtRange::until(VirtAddr(nodes[first].start), VirtAddr(nodes[last].end))
    }

    /// Makes every lazily freed range free: their flush has been paid.
    pub(crate) fn merge_lazy(&mut self) {
        while let Some(id) = self.lazy.first(self.arena.nodes()) {
            self.lazy.remove(self.arena.nodes_mut(), id);
            merge_or_add(&mut self.free, &mut self.arena, id);
        }
        self.lazy_bytes = 0;
    }

    pub(crate) fn busy(&self) -> impl Iterator<Item = &Node> + Clone {
        self.busy.iter(self.arena.nodes())
    }

    pub(crate) fn lazy(&self) -> impl Iterator<Item = &Node> + Clone {
        self.lazy.iter(self.arena.nodes())
    }

    pub(crate) fn free(&self) -> impl Iterator<Item = &Node> + Clone {
        self.free.iter(self.arena.nodes())
    }

    /// Checks the invariants of this module and of the trees.
    pub(crate) fn audit(&self) -> Result<(), Broken> {
        let nodes = self.arena.nodes();
        for tree in [&self.free, &self.busy, &self.lazy] {
            if tree.root.is_some_and(|root| nodes[root].red || nodes[root].parent.is_some()) {
                return Err(Broken::Root);
            }
            audit_below(nodes, tree.root)?;
        }
        self.audit_cover()?;
        let count = self.free().count() + self.busy().count() + self.lazy().count();
        if count != self.arena.used() {
            return Err(Broken::Nodes { linked: count, used: self.arena.used() });
        }
        let bytes = self.lazy().map(Node::size).sum();
        if bytes != self.lazy_bytes {
            return Err(Broken::Lazy { bytes, counted: self.lazy_bytes });
        }
        Ok(())
    }

    /// The three trees, merged by address, leave nothing out, and equal neighbours do not touch.
    fn audit_cover(&self) -> Result<(), Broken> {
        let (mut free, mut busy, mut lazy) = (self.free().peekable(), self.busy().peekable(), self.lazy().peekable());
        let (mut at, mut was_free, mut was_lazy) = (LOWEST, false, false);
        while at != HIGHEST {
            let here = VirtAddr(at);
            let is_here = |node: &&Node| node.start == at;
            let (is_free, is_lazy) = (free.peek().is_some_and(is_here), lazy.peek().is_some_and(is_here));
            if is_free && was_free || is_lazy && was_lazy {
                return Err(Broken::Unmerged { at: here });
            }
            let node = if is_free {
                free.next()
            } else if is_lazy {
                lazy.next()
            } else {
                busy.next_if(is_here)
            };
            at = node.ok_or(Broken::Cover { at: here })?.end;
            (was_free, was_lazy) = (is_free, is_lazy);
        }
        Ok(())
    }
}

/// Inserts a range of which it is known that no tree holds any part.
fn insert<S: Store>(tree: &mut Tree, arena: &mut Arena<S>, id: Id, from: Link) {
    let from = from.or(tree.root);
    let done = tree.insert_from(arena.nodes_mut(), id, from);
    assert!(done.is_ok(), "ranges of the three trees do not overlap");
}

/// Joins a range with the neighbours that it touches, or inserts it.
fn merge_or_add<S: Store>(tree: &mut Tree, arena: &mut Arena<S>, id: Id) {
    let (start, end) = (arena.node(id).start, arena.node(id).end);
    let (below, above) = tree.around(arena.nodes(), start);
    let above = above.filter(|&above| arena.node(above).start == end);
    let below = below.filter(|&below| arena.node(below).end == start);
    match (below, above) {
        (None, None) => return insert(tree, arena, id, None),
        (None, Some(above)) => {
            arena.node_mut(above).start = start;
            propagate(arena.nodes_mut(), Some(above));
        }
        (Some(below), None) => {
            arena.node_mut(below).end = end;
            propagate(arena.nodes_mut(), Some(below));
        }
        (Some(below), Some(above)) => {
            let end = arena.node(above).end;
            tree.remove(arena.nodes_mut(), above);
            arena.give(above);
            arena.node_mut(below).end = end;
            propagate(arena.nodes_mut(), Some(below));
        }
    }
    arena.give(id);
}

/// The number of black nodes on every way down from `link`.
fn audit_below(nodes: &[Node], link: Link) -> Result<u32, Broken> {
    let Some(id) = link else { return Ok(1) };
    let node = &nodes[id];
    let at = VirtAddr(node.start);
    if node.max != max_below(nodes, id) {
        return Err(Broken::Max { at });
    }
    for child in node.child.into_iter().flatten() {
        if nodes[child].parent != Some(id) {
            return Err(Broken::Parent { at });
        }
        if node.red && nodes[child].red {
            return Err(Broken::RedRed { at });
        }
    }
    let (left, right) = (audit_below(nodes, node.child[LEFT])?, audit_below(nodes, node.child[RIGHT])?);
    if left != right {
        return Err(Broken::Black { at });
    }
    Ok(left + u32::from(!node.red))
}
