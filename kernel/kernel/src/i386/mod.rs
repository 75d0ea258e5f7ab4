//! The boot of an i386 kernel, from the firmware map to freed init memory, with tables of two or three levels.
//!
//! ```text
//! early      tables of the first instructions            mk_early_pgtbl_32, early_ioremap_init
//! setup      firmware map, reservations, low memory      setup_arch, find_low_pfn_range
//! low_map    the map of low memory, fixed addresses      init_mem_mapping
//! zones      memory map, pages of high memory, zones     paging_init
//! mm_init    per-CPU areas, hash tables, entry areas     start_kernel, mm_init
//! late       rights, freed parts of the image            mem_init, mark_rodata_ro, free_initmem
//! pti        the tables of user mode                     pti_init, pti_finalize
//! ```
//! Not here: what a PC's boot does whatever the width of its entries (`crate::pc`), changes of rights (`crate::cpa`).
//!
//! Source: Linux 6.1 arch/x86/kernel/setup.c `setup_arch`; arch/x86/mm/init.c, init_32.c; init/main.c `start_kernel`.

mod boot;
mod early;
mod entry_area;
mod late;
mod low_map;
mod mm_init;
mod pti;
mod setup;
mod zones;

pub use boot::{boot, layout_facts};
pub use setup::low_facts;

use alloc::boxed::Box;
use alloc::vec::Vec;

use kernmem_arch::Format;
use kernmem_arch::i386::layout::Layout;
use kernmem_arch::i386::low_memory::LowMemory;
use kernmem_arch::x86::counters::DirectMapCounters;
use kernmem_arch::x86::fixmap::Fixmap;
use kernmem_arch::x86::markers::Markers;
use kernmem_arch::x86::prot::Masks;
use kernmem_base::{PhysAddr, PhysRange, VirtRange};
use kernmem_firmware::e820::E820Table;

use crate::x86::Percpu;

/// What only an i386 kernel has.
#[derive(Clone, Debug)]
pub struct State {
    /// The format of the tables.
    pub format: Format,
    /// Where each region lies.
    pub layout: Layout,
    /// Fixed addresses.
    pub fixmap: Fixmap,
    /// Landmarks of a listing.
    pub markers: Box<Markers>,
    /// The addresses of the image, `_text` to `_end`.
    pub image: VirtRange,
    /// Where the image's first byte was loaded.
    pub text_phys: PhysAddr,
    /// Bits that may reach a table.
    pub masks: Masks,
    /// User mode runs on tables without the kernel.
    pub pti: bool,
    /// How memory is split into low and high.
    pub low: LowMemory,
    /// Memory that low memory's map holds, in order (`pfn_mapped`).
    pub mapped: Vec<PhysRange>,
    /// Leaves of low memory's map, counted by events.
    pub counters: DirectMapCounters,
    /// The real-mode trampoline.
    pub trampoline: PhysRange,
    /// Where each CPU's variables lie.
    pub percpu: Percpu,
    /// The firmware's map, as the command line left it.
    pub e820: E820Table,
}
