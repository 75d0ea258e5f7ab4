//! What `/proc/vmallocinfo` shows, as values: areas by address, then what is lazily freed.
//!
//! Not here: the text; the order of other eras (5.10 lists lazily freed ranges newest first, 6.12 and 7.2 list by node).
//!
//! Source: Linux 6.1 mm/vmalloc.c `s_show`, `show_purge_info`.

use kernmem_base::{VirtAddr, VirtRange};

use crate::{Area, Store, Vmalloc};

/// One line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Line {
    /// A busy area.
    Area(Area),
    /// Lazily freed addresses, neighbours merged (`unpurged vm_area`).
    Unpurged {
        /// First address.
        start: VirtAddr,
        /// Bytes, guard pages too.
        size: u64,
    },
}

impl<S: Store> Vmalloc<S> {
    /// The busy areas by address.
    pub fn areas(&self) -> impl Iterator<Item = &Area> + Clone {
        self.space.busy().filter_map(|node| node.area.as_ref())
    }

    /// The lazily freed ranges by address.
    pub fn unpurged(&self) -> impl Iterator<Item = VirtRange> + Clone {
        self.space.lazy().filter_map(|node| VirtRange::of_size(VirtAddr(node.start), node.size()))
    }

    /// The free ranges by address, also those outside the default range.
    pub fn holes(&self) -> impl Iterator<Item = VirtRange> + Clone {
        self.space.free().filter_map(|node| VirtRange::of_size(VirtAddr(node.start), node.size()))
    }

    /// The lines of `/proc/vmallocinfo` in the order of 6.1.
    pub fn lines(&self) -> impl Iterator<Item = Line> + Clone {
        let unpurged = self.unpurged().map(|range| Line::Unpurged { start: range.start, size: range.size() });
        self.areas().map(|&area| Line::Area(area)).chain(unpurged)
    }

    /// The area that holds `addr`, its guard page too.
    ///
    /// Source: Linux 6.1 mm/vmalloc.c `find_vm_area`.
    #[must_use]
    pub fn find_vm_area(&self, addr: VirtAddr) -> Option<&Area> {
        self.space.node(self.space.find(addr)?).area.as_ref()
    }

    /// Pages that belong to areas: `VmallocUsed` of `/proc/meminfo`, up to 6.12.
    #[must_use]
    pub fn nr_vmalloc_pages(&self) -> u64 {
        self.areas().map(|area| area.nr_pages).sum()
    }
}
