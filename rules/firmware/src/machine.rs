//! One machine, whatever told about it.
//!
//! Here: the banks of memory and all that a boot loader wrote for the kernel. Not here: what was drawn at run time
//! (`Given` of `kernmem-config`), and anything that a kernel decides.

use alloc::string::String;
use alloc::vec::Vec;

use kernmem_base::{Granule, PhysAddr, PhysRange};

use crate::e820::{E820Table, NumaBlock};

/// The architecture of a machine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Arch {
    /// AArch64.
    Arm64,
    /// 64-bit x86.
    X86_64,
    /// 32-bit x86.
    I386,
}

impl Arch {
    /// The name as Linux's build uses it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Arm64 => "arm64",
            Self::X86_64 => "x86_64",
            Self::I386 => "i386",
        }
    }

    /// The architecture of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "arm64" | "aarch64" => Some(Self::Arm64),
            "x86_64" | "x86-64" | "amd64" | "x86" => Some(Self::X86_64),
            "i386" | "i686" | "x86_32" | "x86-32" => Some(Self::I386),
            _ => None,
        }
    }

    /// Whether firmware is a PC's: a map of memory in place of a devicetree.
    #[must_use]
    pub const fn is_x86(self) -> bool {
        match self {
            Self::X86_64 | Self::I386 => true,
            Self::Arm64 => false,
        }
    }
}

/// A bank of memory, as told: neither rounded to pages nor sorted nor merged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bank {
    /// Where it is; never empty.
    pub range: PhysRange,
    /// The NUMA node, if the machine tells one.
    pub nid: Option<u32>,
    /// Whether it may be unplugged.
    pub hotplug: bool,
}

impl Bank {
    /// The whole pages in the bank; `None` if there is none.
    ///
    /// Source: Linux 5.10–7.2 drivers/of/fdt.c `early_init_dt_add_memory_arch`.
    #[must_use]
    pub fn whole_pages(&self, granule: Granule) -> Option<PhysRange> {
        let start = self.range.start.align_up(granule.bytes())?;
        let end = self.range.end.align_down(granule.bytes());
        (start < end).then_some(PhysRange { start, end })
    }
}

/// A node under `/reserved-memory`, in the tree's order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Reserved {
    /// The node's name with its unit address.
    pub name: String,
    /// Fixed places; several are possible, zero-sized ones are left out.
    pub ranges: Vec<PhysRange>,
    /// Wanted bytes of a region that has no fixed place.
    pub size: Option<u64>,
    /// Wanted alignment of such a region.
    pub alignment: Option<u64>,
    /// Where such a region may lie; anywhere if empty.
    pub alloc_ranges: Vec<PhysRange>,
    /// The kernel may not map it.
    pub no_map: bool,
    /// The kernel may use it until its owner wants it: a CMA area if it is a `shared-dma-pool`.
    pub reusable: bool,
    /// It is the default CMA area.
    pub cma_default: bool,
    /// Whether it is compatible with `shared-dma-pool`.
    pub shared_dma_pool: bool,
}

/// Size of a devicetree's nodes: what the kernel's unpacked copy depends on.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TreeShape {
    /// Per node in the tree's order: bytes of its name, bytes of its name before `@`, properties, whether it has a
    /// property `name`.
    pub(crate) nodes: Vec<(u32, u32, u32, bool)>,
}

impl TreeShape {
    /// Number of nodes.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// Number of properties.
    #[must_use]
    pub fn properties(&self) -> u64 {
        self.nodes.iter().map(|node| u64::from(node.2)).sum()
    }

    /// Bytes that the kernel asks of the boot allocator (alignment 8) for its unpacked tree.
    ///
    /// Source: Linux 5.10–7.2 drivers/of/fdt.c `unflatten_dt_nodes`, `__unflatten_device_tree`.
    #[must_use]
    pub fn unflattened_size(&self, sizeof_device_node: u64, sizeof_property: u64) -> u64 {
        let align = |bytes: u64| bytes.saturating_add(7) & !7;
        let take = |at: u64, bytes: u64| align(at).saturating_add(bytes);
        let mut size = 0u64;
        for &(name, base_name, properties, has_name) in &self.nodes {
            size = take(size, sizeof_device_node.saturating_add(u64::from(name) + 1));
            for _ in 0..properties {
                size = take(size, sizeof_property);
            }
            if !has_name {
                size = take(size, sizeof_property.saturating_add(u64::from(base_name) + 1));
            }
        }
        (size.saturating_add(3) & !3).saturating_add(4)
    }
}

/// All that firmware and boot loader tell about a machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Machine {
    /// Its architecture.
    pub arch: Arch,
    /// Its name, if it tells one.
    pub model: Option<String>,
    /// Its memory in the order told. On x86 these are the usable entries of the sanitised map.
    pub memory: Vec<Bank>,
    /// Places that may not be used but stay mapped: the devicetree header's list.
    pub memory_reservations: Vec<PhysRange>,
    /// The nodes of `/reserved-memory`.
    pub reserved: Vec<Reserved>,
    /// `/chosen/linux,usable-memory-range`: a crash kernel's memory.
    pub usable_ranges: Vec<PhysRange>,
    /// `/chosen/linux,elfcorehdr`.
    pub elfcorehdr: Option<PhysRange>,
    /// The boot loader's command line.
    pub bootargs: Option<String>,
    /// The RAM disk.
    pub initrd: Option<PhysRange>,
    /// `/chosen/kaslr-seed`.
    pub kaslr_seed: Option<u64>,
    /// Highest CPU address that every DMA master reaches (inclusive); all ones if nothing limits it.
    pub dma_limit: u64,
    /// CPUs that firmware describes; 0 if it tells none.
    pub cpus: u32,
    /// The NUMA node of each CPU; empty if firmware tells none.
    pub cpu_nodes: Vec<u32>,
    /// x86: the firmware's map.
    pub e820: E820Table,
    /// x86: which node memory belongs to, by the affinity table.
    pub numa: Vec<NumaBlock>,
    /// Bytes of the devicetree blob, from its header.
    pub devicetree_size: Option<u64>,
    /// The devicetree's nodes.
    pub tree: Option<TreeShape>,
}

impl Machine {
    /// A machine of which nothing is known.
    #[must_use]
    pub const fn new(arch: Arch) -> Self {
        Self {
            arch,
            model: None,
            memory: Vec::new(),
            memory_reservations: Vec::new(),
            reserved: Vec::new(),
            usable_ranges: Vec::new(),
            elfcorehdr: None,
            bootargs: None,
            initrd: None,
            kaslr_seed: None,
            dma_limit: u64::MAX,
            cpus: 0,
            cpu_nodes: Vec::new(),
            e820: E820Table::new(),
            numa: Vec::new(),
            devicetree_size: None,
            tree: None,
        }
    }

    /// An x86-64 machine with this firmware map, sanitised.
    #[must_use]
    pub fn with_e820(mut e820: E820Table) -> Self {
        // A map that cannot be sanitised is kept as it is.
        let _ = e820.sanitise();
        let banks = e820.memory().map(|range| Bank { range, nid: None, hotplug: false });
        let memory = banks.collect();
        Self { memory, e820, ..Self::new(Arch::X86_64) }
    }

    /// Gives an x86 machine `bytes` of memory in a PC's places, and forgets its nodes.
    pub fn replace_e820_memory(&mut self, bytes: u64) {
        self.e820.replace_memory(bytes);
        self.memory = self.e820.memory().map(|range| Bank { range, nid: None, hotplug: false }).collect();
        self.numa.clear();
        self.cpu_nodes.clear();
    }

    /// Whether `[start, last]` lies in one bank.
    #[must_use]
    pub fn has_memory(&self, start: u64, last: u64) -> bool {
        self.memory.iter().any(|bank| bank.range.contains(PhysAddr(start)) && bank.range.contains(PhysAddr(last)))
    }

    /// Replaces all memory by one bank.
    pub fn replace_memory(&mut self, start: PhysAddr, size: u64) {
        let range = PhysRange::of_size(start, size).unwrap_or(PhysRange { start, end: PhysAddr(u64::MAX) });
        self.memory = alloc::vec![Bank { range, nid: None, hotplug: false }];
    }
}
