//! What the kernel's first look at a devicetree finds.
//!
//! Here: memory, reservations, `/chosen`, CPUs, and the shape that the unpacked tree's size follows from.
//! Not here: dynamic placement, rounding to pages and merging: the boot does them.
//!
//! Source: Linux 6.1 drivers/of/fdt.c `early_init_dt_scan_memory`, `early_init_dt_scan_chosen`,
//! `fdt_scan_reserved_mem`; drivers/of/of_reserved_mem.c; drivers/of/of_numa.c.

use alloc::string::String;
use alloc::vec::Vec;

use kernmem_base::{PhysAddr, PhysRange};

use super::{Devicetree, NodeId, base_name, until_nul};
use crate::{Arch, Bank, Machine, Reserved, TreeShape};

/// How many words an address and a size take in the `reg` of a node's children.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Cells {
    pub(super) address: usize,
    pub(super) size: usize,
}

/// The number in `cells` words; wider ones keep their low 64 bits.
pub(super) fn number(bytes: &[u8]) -> u64 {
    bytes.chunks_exact(4).fold(0, |value, cell| {
        let cell = <[u8; 4]>::try_from(cell).map_or(0, u32::from_be_bytes);
        value << 32 | u64::from(cell)
    })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(until_nul(bytes).unwrap_or(bytes)).into_owned()
}

impl Devicetree<'_> {
    pub(super) fn cells_property(&self, node: NodeId, name: &str) -> Option<usize> {
        self.property(node, name)
            .filter(|value| value.len() >= 4)
            .map(|value| number(value.get(..4).unwrap_or(&[])) as usize)
    }

    /// The cells that the node sets for its children: 1 and 1 at the root if it is silent.
    pub(super) fn cells(&self, node: NodeId) -> Cells {
        let address = self.cells_property(node, "#address-cells").unwrap_or(1);
        let size = self.cells_property(node, "#size-cells").unwrap_or(1);
        Cells { address, size }
    }

    /// The non-empty ranges of a list of addresses and sizes; a rest that is no whole entry is ignored, an end past
    /// 2^64 is cut there.
    fn ranges(value: &[u8], cells: Cells) -> Vec<PhysRange> {
        let entry = cells.address.saturating_add(cells.size).saturating_mul(4);
        if entry == 0 || entry > value.len() {
            return Vec::new();
        }
        let entries = value.chunks_exact(entry).map(|entry| {
            let (address, size) = entry.split_at_checked(cells.address * 4).unwrap_or((entry, &[]));
            (number(address), number(size))
        });
        let ranges = entries
            .map(|(start, size)| PhysRange { start: PhysAddr(start), end: PhysAddr(start.saturating_add(size)) });
        ranges.filter(|range| !range.is_empty()).collect()
    }

    fn memory(&self) -> Vec<Bank> {
        let root = self.root();
        let cells = self.cells(root);
        let mut banks = Vec::new();
        for node in self.children(root) {
            if self.property(node, "device_type").map(text).as_deref() != Some("memory") || !self.is_available(node) {
                continue;
            }
            let Some(reg) = self.property(node, "linux,usable-memory").or_else(|| self.property(node, "reg")) else {
                continue;
            };
            let nid = self.property(node, "numa-node-id").filter(|value| value.len() >= 4);
            let nid = nid.map(|value| number(value.get(..4).unwrap_or(&[])) as u32);
            let hotplug = self.property(node, "hotpluggable").is_some();
            banks.extend(Self::ranges(reg, cells).into_iter().map(|range| Bank { range, nid, hotplug }));
        }
        banks
    }

    /// Linux ignores the whole node if its cells differ from the root's or `ranges` is missing.
    fn reserved_memory(&self) -> Vec<Reserved> {
        let root = self.root();
        let cells = self.cells(root);
        let Some(list) = self.child(root, "reserved-memory") else { return Vec::new() };
        let own = (self.cells_property(list, "#address-cells"), self.cells_property(list, "#size-cells"));
        if own != (Some(cells.address), Some(cells.size)) || self.property(list, "ranges").is_none() {
            return Vec::new();
        }
        let nodes = self.children(list).filter(|node| self.is_available(*node));
        nodes.filter_map(|node| self.reserved_node(node, cells)).collect()
    }

    /// `None` if a property that says where has the wrong length: Linux skips the node. With a fixed place `size`
    /// does not count.
    fn reserved_node(&self, node: NodeId, cells: Cells) -> Option<Reserved> {
        let has = |name| self.property(node, name).is_some();
        let entry = cells.address.saturating_add(cells.size).saturating_mul(4);
        let list = |name| match self.property(node, name) {
            Some(value) if entry != 0 && value.len().is_multiple_of(entry) => Some(Self::ranges(value, cells)),
            Some(_) => None,
            None => Some(Vec::new()),
        };
        let single = |name, cells: usize| match self.property(node, name) {
            Some(value) => (cells > 0 && value.len() == cells.saturating_mul(4)).then(|| Some(number(value))),
            None => Some(None),
        };
        let is_fixed = has("reg");
        let compatible = self.property(node, "compatible").unwrap_or(&[]);
        Some(Reserved {
            name: text(self.name(node)),
            ranges: list("reg")?,
            size: if is_fixed { None } else { single("size", cells.size)? },
            alignment: if is_fixed { None } else { single("alignment", cells.address)? },
            alloc_ranges: if is_fixed { Vec::new() } else { list("alloc-ranges")? },
            no_map: has("no-map"),
            reusable: has("reusable"),
            cma_default: has("linux,cma-default"),
            shared_dma_pool: compatible.split(|byte| *byte == 0).any(|name| name == b"shared-dma-pool"),
        })
    }

    fn chosen(&self, machine: &mut Machine) {
        let root = self.root();
        let Some(chosen) = self.child(root, "chosen") else { return };
        let cells = self.cells(root);
        let address = |name| self.property(chosen, name).filter(|value| value.len() >= 4).map(number);
        let first = |name| self.property(chosen, name).and_then(|value| Self::ranges(value, cells).into_iter().next());
        if let Some((start, end)) = address("linux,initrd-start").zip(address("linux,initrd-end")) {
            machine.initrd = (start < end).then_some(PhysRange { start: PhysAddr(start), end: PhysAddr(end) });
        }
        machine.bootargs = self.property(chosen, "bootargs").map(text).filter(|line| !line.is_empty());
        machine.kaslr_seed = self.property(chosen, "kaslr-seed").filter(|value| value.len() == 8).map(number);
        machine.elfcorehdr = first("linux,elfcorehdr");
        let usable = self.property(chosen, "linux,usable-memory-range");
        machine.usable_ranges = usable.map_or(Vec::new(), |value| Self::ranges(value, cells));
    }

    fn cpus(&self, machine: &mut Machine) {
        let Some(cpus) = self.child(self.root(), "cpus") else { return };
        let is_cpu = |node: &NodeId| {
            let by_type = self.property(*node, "device_type") == Some(b"cpu\0");
            let failed = self.property(*node, "status").is_some_and(|status| status.starts_with(b"fail"));
            (by_type || base_name(self.name(*node)) == b"cpu") && !failed
        };
        let cpus: Vec<NodeId> = self.children(cpus).filter(is_cpu).collect();
        machine.cpus = cpus.len() as u32;
        let nodes = cpus.into_iter().map(|cpu| self.cells_property(cpu, "numa-node-id").map(|node| node as u32));
        let nodes: Vec<Option<u32>> = nodes.collect();
        if nodes.iter().any(Option::is_some) {
            machine.cpu_nodes = nodes.into_iter().map(|node| node.unwrap_or(0)).collect();
        }
    }

    /// The sizes that the unpacked tree follows from.
    #[must_use]
    pub fn shape(&self) -> TreeShape {
        let nodes = self.nodes().map(|node| {
            let name = self.name(node);
            let properties = self.properties(node).count() as u32;
            let has_name = self.property(node, "name").is_some();
            (name.len() as u32, base_name(name).len() as u32, properties, has_name)
        });
        TreeShape { nodes: nodes.collect() }
    }

    /// The arm64 machine that the tree describes.
    #[must_use]
    pub fn machine(&self) -> Machine {
        let mut machine = Machine::new(Arch::Arm64);
        machine.model = self.property(self.root(), "model").map(text);
        machine.memory = self.memory();
        let reservations = self
            .reservations()
            .map(|(start, size)| PhysRange { start: PhysAddr(start), end: PhysAddr(start.saturating_add(size)) });
        machine.memory_reservations = reservations.filter(|range| !range.is_empty()).collect();
        machine.reserved = self.reserved_memory();
        self.chosen(&mut machine);
        machine.dma_limit = self.dma_limit();
        self.cpus(&mut machine);
        machine.devicetree_size = Some(u64::from(self.total_size()));
        machine.tree = Some(self.shape());
        machine
    }
}
