//! Bounce buffers for devices that do not reach all memory.
//!
//! Here: whether there is a pool, its size and what it takes.
//! Not here: the use of the pool.
//!
//! Source: Linux 6.1 kernel/dma/swiotlb.c `swiotlb_init_remap`, `setup_io_tlb_npages`; arch/arm64/mm/init.c `mem_init`;
//! arch/x86/kernel/pci-dma.c `pci_swiotlb_detect`.

use kernmem_base::{Era, PhysAddr, PhysRange};
use kernmem_config::Config;
use kernmem_memblock::{Memblock, RegionArray, Request, UpTo};

use super::{Taker, allocate, allocate_lines};
use crate::{BootError, LogEntry, Witness};

/// Bytes of a slot.
const SLOT: u64 = 2 << 10;
/// Slots of a segment: pools are whole segments.
const SEGMENT: u64 = 128;
/// Bytes of a pool that nobody sized.
const DEFAULT_BYTES: u64 = 64 << 20;
/// A pool that is not found is tried smaller down to 1 MiB.
const LEAST_SLOTS: u64 = (1 << 20) / SLOT;
/// Numbers of the line are cut to these: no memory holds so many.
const MOST_SLOTS: u64 = 1 << 44;
const MOST_AREAS: u64 = 1 << 31;
/// Bytes of the books about a slot and about an area.
const SLOT_BOOK: u64 = 24;
const AREA_BOOK: u64 = 16;
/// Pools lie below the last byte of 4 GiB.
const LOW: UpTo = UpTo(0xffff_ffff);

/// What `swiotlb=` asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SwiotlbWish {
    /// Slots of the pool.
    pub slots: u64,
    /// Areas with a lock of their own, if the line tells.
    pub areas: Option<u64>,
    /// A pool even if nobody needs it.
    pub force: bool,
    /// No pool even if somebody needs it.
    pub off: bool,
}

/// `swiotlb=slots[,areas][,force|noforce]`; the last word wins, part by part.
#[must_use]
pub fn wish(config: &Config) -> SwiotlbWish {
    let mut wish = SwiotlbWish { slots: DEFAULT_BYTES / SLOT, areas: None, force: false, off: false };
    for word in config.cmdline.named("swiotlb") {
        let mut rest = word.value.as_deref().unwrap_or("");
        let number = |rest: &mut &str| {
            if !rest.starts_with(|c: char| c.is_ascii_digit()) {
                return None;
            }
            let end = rest.find(',').unwrap_or(rest.len());
            let (text, behind) = rest.split_at(end);
            *rest = behind.strip_prefix(',').unwrap_or(behind);
            Some(kernmem_config::number::leading_number(text).value)
        };
        if let Some(slots) = number(&mut rest) {
            wish.slots = slots.min(MOST_SLOTS).next_multiple_of(SEGMENT);
        }
        if let Some(areas) = number(&mut rest) {
            wish.areas = Some(areas.min(MOST_AREAS));
        }
        wish.force |= rest == "force";
        wish.off |= rest == "noforce";
    }
    wish
}

/// Tells the log of a number of areas on the command line: that is told when the word is read.
pub fn parsed(config: &Config, log: &mut impl Witness) {
    match config.era {
        Era::V4_14 | Era::V5_10 => return,
        Era::V6_1 | Era::V6_12 | Era::V7_2 => {}
    }
    if let Some(areas) = wish(config).areas.filter(|_| config.kconfig.is_set("SWIOTLB")) {
        log.log(LogEntry::SwiotlbAreas(areas.max(1).next_power_of_two()));
    }
}

/// A pool for objects that do not fill cache lines, where none is needed for reach: 1 MiB for each GiB of memory, at most
/// the default; the answer is its bytes before they are rounded to segments. A pool that the line sized keeps its size.
///
/// | era | |
/// |---|---|
/// | 4.14–6.1 | none |
/// | 6.12, 7.2 | arm64 with `DMA_BOUNCE_UNALIGNED_KMALLOC` |
///
/// Source: Linux 6.12, 7.2 arch/arm64/mm/init.c `mem_init`, `arch_mm_preinit`; kernel/dma/swiotlb.c
/// `swiotlb_adjust_size`.
#[must_use]
pub fn small_pool(config: &Config, phys_mem_size: u64) -> Option<u64> {
    match config.era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 => return None,
        Era::V6_12 | Era::V7_2 => {}
    }
    if !config.kconfig.is_set("DMA_BOUNCE_UNALIGNED_KMALLOC") {
        return None;
    }
    let wanted = wish(config).slots;
    let is_default = wanted == DEFAULT_BYTES / SLOT;
    let bytes = phys_mem_size.div_ceil(1024).min(DEFAULT_BYTES).next_multiple_of(SLOT);
    Some(if is_default { bytes } else { wanted * SLOT })
}

/// As [`init`] with a pool of `bytes` in place of the default.
///
/// # Errors
/// As [`init`].
pub fn init_small<A: RegionArray, W: Witness>(
    config: &Config,
    memblock: &mut Memblock<A, W>,
    bytes: u64,
    cpus: u32,
) -> Result<Option<PhysRange>, BootError> {
    let is_told = config.kconfig.is_set("SWIOTLB") && wish(config).slots == DEFAULT_BYTES / SLOT;
    if is_told {
        memblock.observer().log(LogEntry::SwiotlbAdjusted(bytes));
    }
    init_sized(config, memblock, true, cpus, (bytes / SLOT).next_multiple_of(SEGMENT))
}

/// Takes the pool if `needed` or forced, then its books; a pool that is not found becomes smaller.
///
/// | era | books |
/// |---|---|
/// | 4.14, 5.10 | 4 and 8 bytes a slot, no areas |
/// | 6.1 and later | 24 bytes a slot, 16 an area; areas are a power of two |
///
/// The answer is the pool.
///
/// # Errors
/// The boot allocator has no memory for the books.
pub fn init<A: RegionArray, W: Witness>(
    config: &Config,
    memblock: &mut Memblock<A, W>,
    needed: bool,
    cpus: u32,
) -> Result<Option<PhysRange>, BootError> {
    init_sized(config, memblock, needed, cpus, wish(config).slots)
}

fn init_sized<A: RegionArray, W: Witness>(
    config: &Config,
    memblock: &mut Memblock<A, W>,
    needed: bool,
    cpus: u32,
    slots: u64,
) -> Result<Option<PhysRange>, BootError> {
    let wish = wish(config);
    if !config.kconfig.is_set("SWIOTLB") || !(needed || wish.force) || wish.off {
        return Ok(None);
    }
    let areas = wish.areas.unwrap_or(u64::from(cpus)).max(1).next_power_of_two();
    let mut slots = slots.max(SEGMENT);
    match config.era {
        Era::V4_14 | Era::V5_10 => {}
        Era::V6_1 | Era::V6_12 | Era::V7_2 => {
            if wish.areas.is_none() {
                memblock.observer().log(LogEntry::SwiotlbAreas(areas));
            }
            // Each area has a whole segment.
            let rounded = slots.max(SEGMENT * areas).next_power_of_two();
            if rounded != slots && wish.areas.is_none() {
                memblock.observer().log(LogEntry::SwiotlbRounded(rounded * SLOT));
            }
            slots = rounded;
        }
    }
    let page = memblock.limits().granule.bytes();
    let pool = loop {
        let bytes = (slots * SLOT).next_multiple_of(page);
        let request = Request::new(bytes, page).up_to(LOW);
        match allocate(memblock, Taker::BouncePool, request) {
            Ok(start) => break PhysRange::new(start, start + slots * SLOT),
            Err(_) if slots <= LEAST_SLOTS => return Ok(None),
            Err(_) => slots = (slots / 2).next_multiple_of(SEGMENT),
        }
    };
    let books = |per_slot: u64| Request::new((slots * per_slot).next_multiple_of(page), page);
    match config.era {
        Era::V4_14 | Era::V5_10 => {
            allocate(memblock, Taker::BounceBooks, books(4))?;
            allocate(memblock, Taker::BounceBooks, books(8))?;
        }
        Era::V6_1 | Era::V6_12 | Era::V7_2 => {
            allocate(memblock, Taker::BounceBooks, books(SLOT_BOOK))?;
            allocate_lines(memblock, Taker::BounceBooks, areas.min(slots / SEGMENT).max(1) * AREA_BOOK)?;
        }
    }
    Ok(Some(pool))
}

/// Whether arm64 needs a pool: memory reaches beyond what every device reaches.
#[must_use]
pub fn arm64_needs(end_of_dram: PhysAddr, dma_end: PhysAddr) -> bool {
    end_of_dram > dma_end
}

/// Whether x86 needs a pool: memory reaches beyond 4 GiB, and no `iommu=off` forbids it.
#[must_use]
pub fn x86_needs(max_pfn: kernmem_base::Pfn, no_iommu: bool) -> bool {
    !no_iommu && max_pfn.0 > 1 << 20
}
