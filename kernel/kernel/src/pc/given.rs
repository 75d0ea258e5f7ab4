//! What boot gives to the page allocator after the hand-over, and what the log says of it.
//!
//! Not here: rights of what is given (`crate::cpa`).
//!
//! Source: Linux 6.1 arch/x86/mm/init.c `free_init_pages`, `free_initrd_mem`; mm/memblock.c `memblock_discard`;
//! mm/page_alloc.c `mem_init_print_info`.

use kernmem_arch::x86::image::FreedPart;
use kernmem_base::{Era, Granule, PhysRange, VirtRange};
use kernmem_config::Config;
use kernmem_memblock::{HandedOver, VecArray};

use crate::hand_over::memory_figures;
use crate::managed::Moment;
use crate::zones::{Nodes, Span};
use crate::{BootError, BootPages, Freed, Image, LogEntry, Witness};

/// How far the boot has come.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Milestone {
    /// Memory has just been handed over.
    HandOver,
    /// One CPU runs.
    OneCpu,
    /// All CPUs run.
    AllCpus,
}

/// What a part of the image held.
pub(crate) const fn what(part: FreedPart) -> Freed {
    match part {
        FreedPart::SmpLocks => Freed::SmpLocks,
        FreedPart::Init => Freed::Init,
        FreedPart::TextGap => Freed::TextGap,
        FreedPart::RodataGap => Freed::RodataGap,
    }
}

/// The page allocator and its books, while boot still gives to it.
pub(crate) struct Giving<'b, W> {
    pub config: &'b Config,
    pub memblock: &'b mut HandedOver<VecArray, W>,
    pub frames: &'b mut BootPages,
    pub nodes: &'b mut Nodes,
}

impl<W: Witness> Giving<'_, W> {
    /// Whole pages of `memory` become free. With page-alloc debugging they stay taken, so that a use of them is noticed.
    pub(crate) fn release(
        &mut self,
        range: VirtRange,
        memory: PhysRange,
        what: Freed,
        moment: Moment,
    ) -> Result<(), BootError> {
        if self.config.debug_pagealloc().value {
            self.memblock.observer().log(LogEntry::Unmapped(range));
            return Ok(());
        }
        let pages = self.nodes.release_whole_pages(memory, moment);
        self.frames.add(memory)?;
        if pages > 0 {
            self.memblock.observer().log(LogEntry::Freed { what, bytes: pages * Granule::K4.bytes() });
        }
        Ok(())
    }

    /// The boot allocator's own lists become free, where they had grown out of the image.
    ///
    /// Source: Linux 6.1 mm/memblock.c `memblock_discard`.
    pub(crate) fn discard_lists(&mut self) -> Result<(), BootError> {
        if self.config.kconfig.is_set("ARCH_KEEP_MEMBLOCK") {
            return Ok(());
        }
        let homes = [self.memblock.reserved().home(), self.memblock.memory().home()];
        for home in homes.into_iter().flatten() {
            if let Some((start, end)) = self.memblock.free_late(home.start, home.size()) {
                self.nodes.release(Span { start, end }, Moment::BeforeReserves);
                self.frames.add(PhysRange::new(home.start, home.end))?;
            }
        }
        Ok(())
    }

    /// The RAM disk is unpacked, and the log tells of the pool of bounce buffers. The RAM disk comes with its addresses in
    /// the map of memory.
    ///
    /// | era | order |
    /// |---|---|
    /// | 4.14 (UNVERIFIED), 5.10 | the RAM disk first |
    /// | 6.1 and later | the pool first: the RAM disk is unpacked beside the other initcalls |
    ///
    /// Source: Linux 5.10–7.2 init/initramfs.c `populate_rootfs`; arch/x86/kernel/pci-dma.c `pci_iommu_init`.
    pub(crate) fn unpack(
        &mut self,
        initrd: Option<(VirtRange, PhysRange)>,
        bounce: Option<PhysRange>,
    ) -> Result<(), BootError> {
        let told = bounce.map(LogEntry::SwiotlbMapped);
        match self.config.era {
            Era::V4_14 | Era::V5_10 => {
                self.free_initrd(initrd)?;
                told.into_iter().for_each(|entry| self.memblock.observer().log(entry));
                Ok(())
            }
            Era::V6_1 | Era::V6_12 | Era::V7_2 => {
                told.into_iter().for_each(|entry| self.memblock.observer().log(entry));
                self.free_initrd(initrd)
            }
        }
    }

    /// The RAM disk's pages become free.
    fn free_initrd(&mut self, initrd: Option<(VirtRange, PhysRange)>) -> Result<(), BootError> {
        let Some((range, memory)) = initrd.filter(|_| !self.config.cmdline.has("retain_initrd")) else { return Ok(()) };
        self.release(range, memory, Freed::Initrd, Moment::Later)
    }

    /// Memory as the log tells it.
    ///
    /// | era | when |
    /// |---|---|
    /// | 4.14 (UNVERIFIED), 5.10, 6.1 | right behind the hand-over |
    /// | 6.12, 7.2 | when all CPUs run |
    ///
    /// Source: Linux 5.10, 6.1 arch/x86/mm/init_64.c `mem_init`; 6.12, 7.2 mm/mm_init.c `page_alloc_init_late`.
    pub(crate) fn tell_memory(&mut self, image: &Image<'_>, now: Milestone) {
        let then = match self.config.era {
            Era::V4_14 | Era::V5_10 | Era::V6_1 => Milestone::HandOver,
            Era::V6_12 | Era::V7_2 => Milestone::AllCpus,
        };
        if now != then {
            return;
        }
        let taken = self.frames.taken().len() as u64;
        if let Some(figures) = memory_figures(image, self.nodes, taken) {
            self.memblock.observer().log(LogEntry::Memory(figures));
        }
    }
}
