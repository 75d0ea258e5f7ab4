//! `/proc/vmallocinfo`.
//!
//! Source: Linux 5.10–7.2 mm/vmalloc.c `s_show`, `show_purge_info`.

use alloc::string::String;
use alloc::vec::Vec;

use kernmem_base::{PhysAddr, VirtAddr};

/// `/proc/vmallocinfo`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VmallocInfo {
    /// Hexadecimal digits of a virtual address: 16, or 8 on 32 bits.
    pub virt_digits: u8,
    /// Hexadecimal digits of a physical address: 16, or 8 where it has 32 bits.
    pub phys_digits: u8,
    /// The lines in order.
    pub lines: Vec<VmallocLine>,
}

/// One line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VmallocLine {
    /// First address.
    pub start: Shown,
    /// One past the last, guard page included.
    pub end: Shown,
    /// Bytes, guard page included.
    pub bytes: u64,
    /// What the addresses are used for.
    pub usage: VmallocUse,
}

/// An address as the reader may see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shown {
    /// The address, or what it was hashed to.
    Address(VirtAddr),
    /// Nothing: the key of the hash does not exist yet.
    Hidden,
}

/// What a range of vmalloc addresses is used for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum VmallocUse {
    /// An area.
    Area {
        /// Who asked for it, as `symbol+0xoff/0xsize`.
        caller: Option<String>,
        /// Pages that the area owns; 0 is not printed.
        pages: u64,
        /// Physical address of a device window; 0 is not printed.
        phys: PhysAddr,
        /// What kind of area.
        words: VmWords,
        /// Pages by node, nodes without pages left out.
        nodes: Vec<(u32, u64)>,
    },
    /// A mapping of a few pages that has no area.
    MapRam,
    /// Freed, but TLBs may still hold it.
    Unpurged,
}

/// The words of an area, in the order in which they are printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct VmWords {
    /// A device's memory.
    pub ioremap: bool,
    /// Mapped piece by piece (from 6.12 on).
    pub sparse: bool,
    /// Memory of its own.
    pub vmalloc: bool,
    /// Others' pages.
    pub vmap: bool,
    /// Programs may map it.
    pub user: bool,
    /// Memory for devices.
    pub dma_coherent: bool,
    /// The array of its pages is an area itself.
    pub vpages: bool,
}

impl VmWords {
    /// Each word with whether it is printed.
    #[must_use]
    pub const fn named(&self) -> [(&'static str, bool); 7] {
        [
            ("ioremap", self.ioremap),
            ("sparse", self.sparse),
            ("vmalloc", self.vmalloc),
            ("vmap", self.vmap),
            ("user", self.user),
            ("dma-coherent", self.dma_coherent),
            ("vpages", self.vpages),
        ]
    }

    /// Sets the word of that name; `false` if there is none.
    pub fn set(&mut self, name: &str) -> bool {
        let word = match name {
            "ioremap" => &mut self.ioremap,
            "sparse" => &mut self.sparse,
            "vmalloc" => &mut self.vmalloc,
            "vmap" => &mut self.vmap,
            "user" => &mut self.user,
            "dma-coherent" => &mut self.dma_coherent,
            "vpages" => &mut self.vpages,
            _ => return false,
        };
        *word = true;
        true
    }
}
