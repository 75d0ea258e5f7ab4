//! The landmarks of a listing of i386 tables.
//!
//! Source: Linux 5.10–7.2 arch/x86/mm/dump_pagetables.c `address_markers`.

use super::layout::Layout;
use crate::x86::fixmap::Fixmap;
use crate::x86::markers::Markers;

/// The landmarks, in the order of the listing. The same in all eras.
///
/// | name | present |
/// |---|---|
/// | Persistent kmap() Area | high memory is built |
/// | LDT remap | modify_ldt is built |
/// | the others | always |
#[must_use]
pub const fn markers(layout: &Layout, fixmap: &Fixmap, modify_ldt: bool) -> Markers {
    let mut markers = Markers::begin();
    markers.push("Kernel Mapping", layout.page_offset);
    markers.push("vmalloc() Area", layout.vmalloc_start());
    markers.push("vmalloc() End", layout.vmalloc_end);
    if layout.highmem {
        markers.push("Persistent kmap() Area", layout.pkmap_base);
    }
    if modify_ldt {
        markers.push("LDT remap", layout.ldt.start);
    }
    markers.push("CPU entry area", layout.cpu_entry_area);
    markers.push("Fixmap area", fixmap.start());
    markers
}
