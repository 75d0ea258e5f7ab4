//! The landmarks of a listing of kernel tables, in order, and the addresses that it walks.
//!
//! Names and addresses only; the lines are `kernmem-report`'s.
//!
//! Source: Linux 5.10–7.2 arch/x86/mm/dump_pagetables.c `address_markers`, `ptdump_walk_pgd_level_core`.

use kernmem_base::{VirtAddr, VirtRange};

use super::fixmap::Fixmap;
use super::layout::Layout;

/// A landmark.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Marker {
    /// Where it stands.
    pub start: VirtAddr,
    /// Its name.
    pub name: &'static str,
    /// How many lines the listing prints behind it; `None`: all.
    pub max_lines: Option<u32>,
}

/// What the configuration says about landmarks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MarkerFacts {
    /// `CONFIG_MODIFY_LDT_SYSCALL`.
    pub modify_ldt: bool,
    /// `CONFIG_X86_ESPFIX64`.
    pub espfix: bool,
    /// `CONFIG_EFI`.
    pub efi: bool,
}

const CAPACITY: usize = 16;
const ESPFIX_LINES: u32 = 16;

/// The landmarks of one kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Markers {
    list: [Marker; CAPACITY],
    len: usize,
}

impl Markers {
    /// The landmarks, in the order of the listing. The same in all eras.
    ///
    /// | name | present |
    /// |---|---|
    /// | LDT remap | modify_ldt is built |
    /// | KASAN shadow, KASAN shadow end | KASAN is built |
    /// | ESPfix Area | 16-bit stacks are built; at most 16 lines |
    /// | EFI Runtime Services | EFI is built |
    /// | the others | always |
    ///
    /// Source: Linux 5.10–7.2 arch/x86/mm/dump_pagetables.c `address_markers`, `pt_dump_init`.
    #[must_use]
    pub fn new(layout: &Layout, fixmap: &Fixmap, facts: MarkerFacts) -> Self {
        let mut markers = Self::begin();
        markers.push("Kernel Space", VirtAddr(0x8000_0000_0000_0000));
        if let (Some(ldt), true) = (layout.ldt, facts.modify_ldt) {
            markers.push("LDT remap", ldt.start);
        }
        markers.push("Low Kernel Mapping", layout.page_offset);
        markers.push("vmalloc() Area", layout.vmalloc_start);
        markers.push("Vmemmap", layout.vmemmap);
        if let Some(shadow) = layout.kasan_shadow {
            markers.push("KASAN shadow", shadow.start);
            markers.push("KASAN shadow end", shadow.end());
        }
        markers.push("CPU entry Area", layout.cpu_entry_area);
        if facts.espfix {
            markers.push("ESPfix Area", layout.espfix);
            markers.list[markers.len - 1].max_lines = Some(ESPFIX_LINES);
        }
        if facts.efi {
            markers.push("EFI Runtime Services", layout.efi_end);
        }
        markers.push("High Kernel Mapping", layout.start_kernel_map);
        markers.push("Modules", layout.modules_start);
        markers.push("End Modules", layout.modules_end);
        markers.push("Fixmap Area", fixmap.start());
        markers
    }

    /// The landmarks, lowest first.
    #[must_use]
    pub fn as_slice(&self) -> &[Marker] {
        &self.list[..self.len]
    }

    /// The user half, before which nothing stands.
    pub(crate) const fn begin() -> Self {
        Self { list: [Marker { start: VirtAddr(0), name: "User Space", max_lines: None }; CAPACITY], len: 1 }
    }

    /// Adds the next landmark.
    pub(crate) const fn push(&mut self, name: &'static str, start: VirtAddr) {
        self.list[self.len] = Marker { start, name, max_lines: None };
        self.len += 1;
    }
}

/// The two ranges that a listing walks: the user half, then everything above the guard hole.
#[must_use]
pub const fn listed_ranges(layout: &Layout) -> [VirtRange; 2] {
    let user = VirtRange { start: VirtAddr(0), last: layout.user_last };
    let kernel = VirtRange { start: layout.guard_hole.end(), last: VirtAddr(u64::MAX) };
    [user, kernel]
}
