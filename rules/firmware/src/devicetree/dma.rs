//! The highest CPU address that every DMA master of a tree reaches.
//!
//! Here: `dma-ranges` of all available nodes, translated to the CPU's view. Not here: which zone follows from it.
//!
//! Source: Linux 5.10–7.2 drivers/of/address.c `of_dma_get_max_cpu_address`, `of_translate_dma_address`.

use super::facts::number;
use super::{Devicetree, NodeId};

/// Entries of one list that are looked at; trees of real machines have a handful.
const MAX_ENTRIES: usize = 256;

/// One window: addresses of the bus below appear at `parent` above.
struct Window {
    child: u64,
    parent: u64,
    size: u64,
}

impl Devicetree<'_> {
    /// Inclusive; all ones where nothing limits it.
    #[must_use]
    pub fn dma_limit(&self) -> u64 {
        let mut limit = u64::MAX;
        let mut next = 0;
        while let Some(node) = self.nodes.get(next).map(|_| NodeId(next)) {
            if next != 0 && !self.is_available(node) {
                next = self.nodes.get(next).map_or(usize::MAX, |node| node.end);
                continue;
            }
            limit = limit.min(self.node_limit(node).unwrap_or(u64::MAX));
            next += 1;
        }
        limit
    }

    /// The last CPU address of the node's own windows; `None` if it has none, which means no limit.
    fn node_limit(&self, node: NodeId) -> Option<u64> {
        let mut end = 0;
        let mut any = false;
        for window in self.windows(node)? {
            any = true;
            let Some(cpu) = self.to_cpu(self.parent(node), window.parent) else { continue };
            if cpu.wrapping_add(window.size) > end {
                end = cpu.wrapping_add(window.size).wrapping_sub(1);
            }
        }
        any.then_some(end)
    }

    fn windows(&self, node: NodeId) -> Option<impl Iterator<Item = Window>> {
        let value = self.property(node, "dma-ranges").filter(|value| !value.is_empty())?;
        let own = self.cells(node);
        let above = self.cells(self.parent(node)).address;
        // More words than any bus has: nothing that can be read.
        let sane = own.address <= 4 && own.size <= 4 && above <= 4 && own.address + own.size + above > 0;
        let entry = if sane { (own.address + own.size + above) * 4 } else { usize::MAX };
        let windows = value.chunks_exact(entry).take(MAX_ENTRIES).map(move |entry| {
            let (child, rest) = entry.split_at_checked(own.address * 4).unwrap_or((entry, &[]));
            let (parent, size) = rest.split_at_checked(above * 4).unwrap_or((rest, &[]));
            Window { child: number(child), parent: number(parent), size: number(size) }
        });
        Some(windows)
    }

    /// An address on the bus of `node` as the CPU sees it: a node without windows passes addresses unchanged.
    fn to_cpu(&self, mut node: NodeId, mut address: u64) -> Option<u64> {
        while node != self.root() {
            if let Some(mut windows) = self.windows(node) {
                let window = windows.find(|window| address.wrapping_sub(window.child) < window.size)?;
                address = address.wrapping_sub(window.child).wrapping_add(window.parent);
            }
            node = self.parent(node);
        }
        Some(address)
    }
}
