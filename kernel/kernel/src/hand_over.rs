//! The hand-over: what the boot allocator left free becomes the page allocator's.
//!
//! Here: the one place where both architectures let go of the boot allocator, and the line of the log that follows.
//! Not here: which chunks free memory is cut into (`kernmem-memblock`), what boot frees later (`managed`).
//!
//! Source: Linux 6.1 mm/memblock.c `memblock_free_all`; mm/page_alloc.c `mem_init_print_info`.

use alloc::vec::Vec;

use kernmem_base::{Order, Pfn};
use kernmem_memblock::{Buddy, Frames, HandedOver, Memblock, VecArray};

use crate::managed::Moment;
use crate::orders::Orders;
use crate::takers::{self, Taker};
use crate::zones::{Nodes, Span};
use crate::{Boot, BootError, BootPages, Image, LogEntry, Witness};

/// Ends the boot allocator: its free frames, lowest first, become managed pages of their zones and the stock of frames
/// for late tables.
///
/// # Errors
/// The boot allocator's list could not grow for its last change.
pub fn hand_over<W: Witness>(
    mut memblock: Memblock<VecArray, W>,
    nodes: &mut Nodes,
    boot: &Boot<'_>,
) -> Result<(HandedOver<VecArray, W>, BootPages), BootError> {
    for home in [memblock.memory().home(), memblock.reserved().home()].into_iter().flatten() {
        takers::tell(&mut memblock, Taker::MemblockLists, home.start, home.size());
    }
    // Memory above the last zone is nobody's: x86 leaves it so beyond what its tables can reach.
    let max_low = nodes.limits.iter().map(|limit| limit.span.end).max();
    let max_order = Order(Orders::of(boot.config, nodes.granule).largest);
    let mut memblock = memblock.hand_over(Buddy { max_order, max_low })?;
    let free_pages = Pfn(memblock.nr_free_pages());
    memblock.observer().log(LogEntry::HandOver { free_pages });
    let free: Vec<Frames> = memblock.free_frames().collect();
    for frames in &free {
        nodes.release(Span { start: frames.start, end: frames.end }, Moment::HandOver);
    }
    let boot_node = nodes.of_cpu(boot.machine, 0);
    let mut pages = BootPages::new(boot.config, boot.placement, nodes, boot_node, &free)?;
    pages.limit(memblock.observer().late_frames());
    Ok((memblock, pages))
}

const HIGH: &str = "HighMem";

/// Figures of the log's line about memory, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemoryFigures {
    /// Free.
    pub available: u64,
    /// All memory.
    pub total: u64,
    /// Kernel text.
    pub code: u64,
    /// Data.
    pub data: u64,
    /// Read-only data.
    pub rodata: u64,
    /// What is freed at the end of boot.
    pub init: u64,
    /// Data that starts as zeros.
    pub bss: u64,
    /// Memory that the page allocator does not have.
    pub reserved: u64,
    /// Memory of CMA areas.
    pub cma: u64,
    /// High memory that the page allocator has, where high memory is built in.
    pub highmem: Option<u64>,
}

/// The figures once `taken` of the pages that are managed so far are in use; `None` if the symbols do not name the
/// image's sections.
#[must_use]
pub fn memory_figures(image: &Image<'_>, nodes: &Nodes, taken: u64) -> Option<MemoryFigures> {
    let page = nodes.granule.bytes();
    let zones = || nodes.nodes.iter().flat_map(|node| node.zones.iter());
    let total: u64 = zones().map(|zone| zone.present).sum();
    let managed: u64 = zones().map(|zone| zone.managed.at_end).sum();
    let sections = Sections::of(image)?;
    Some(MemoryFigures {
        available: managed.saturating_sub(taken) * page,
        total: total * page,
        code: sections.code,
        data: sections.data,
        rodata: sections.rodata,
        init: sections.init,
        bss: sections.bss,
        reserved: total.saturating_sub(managed) * page,
        cma: 0,
        highmem: nodes.limits.iter().any(|zone| zone.name == HIGH).then(|| {
            let high = zones().filter(|zone| zone.name == HIGH);
            high.map(|zone| zone.managed.handed_over * page).sum()
        }),
    })
}

/// Sizes of the image's sections.
struct Sections {
    code: u64,
    data: u64,
    rodata: u64,
    init: u64,
    bss: u64,
}

impl Sections {
    /// Sections may lie inside each other: the inner one's size is taken off the outer one's.
    fn of(image: &Image<'_>) -> Option<Self> {
        let at = |name| image.virt(name).ok().map(|va| va.0);
        let between = |start, end| Some((at(start)?, at(end)?));
        let size = |(start, end): (u64, u64)| end.saturating_sub(start);
        let (text, data, init) =
            (between("_stext", "_etext")?, between("_sdata", "_edata")?, between("__init_begin", "__init_end")?);
        let (init_text, rodata) = (between("_sinittext", "_einittext")?, between("__start_rodata", "__end_rodata")?);
        let without = |outer: (u64, u64), bytes: u64, inner: u64, inner_bytes: u64| {
            let inside = outer.0 <= inner && inner < outer.1;
            if inside && bytes > inner_bytes { bytes - inner_bytes } else { bytes }
        };
        let init_data = without(init, size(init), init_text.0, size(init_text));
        let code = without(text, size(text), init_text.0, size(init_text));
        let rw = without(data, size(data), init.0, init_data);
        Some(Self {
            code: without(text, code, rodata.0, size(rodata)),
            data: without(data, rw, rodata.0, size(rodata)),
            rodata: size(rodata),
            init: init_data + size(init_text),
            bss: size(between("__bss_start", "__bss_stop")?),
        })
    }
}
