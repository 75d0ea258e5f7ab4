//! Memory, its limits and what is taken of it before the first table.
//!
//! Source: Linux 5.10–7.2 arch/arm64/mm/init.c `arm64_memblock_init`; drivers/of/fdt.c
//! `early_init_fdt_scan_reserved_mem`.

use alloc::format;

use kernmem_arch::Bound;
use kernmem_arch::arm64::{Arm64Format, kaslr, linear};
use kernmem_base::{Era, PhysAddr, PhysMem, PhysRange};
use kernmem_config::cmdline::MemoryLimit;
use kernmem_firmware::{Arch, Reserved};
use kernmem_memblock::{ListKind, UpTo};

use super::boot::Booting;
use super::crash::{self, Windows};
use super::image::image_start;
use crate::takers::{self, Taker};
use crate::{BootError, LogEntry, Witness};

impl<F: Arm64Format, M: PhysMem, W: Witness> Booting<'_, '_, F, M, W> {
    /// The devicetree, its memory, then every limit and reservation in Linux's order.
    pub(super) fn arm64_memblock_init(&mut self) -> Result<(), BootError> {
        self.scan_devicetree()?;
        self.params_parsed();
        self.enforce_usable_range()?;
        self.limit_to_linear_region()?;
        self.apply_memory_limit()?;
        self.take_initrd()?;
        self.move_linear_map();
        let kernel = self.image.phys_range(image_start(self.config.era), "_end")?;
        self.memblock.reserve(kernel.start, kernel.size())?;
        takers::tell(&mut self.memblock, Taker::Image, kernel.start, kernel.size());
        self.reserve_firmware()?;
        if crash::comes_early(self.config) {
            let high = PhysAddr(1 << self.physical_mask_shift());
            self.crash = crash::reserve(self.config, &mut self.memblock, Windows { low: high, high })?;
        }
        Ok(())
    }

    /// Before the command line is known, so not in the log.
    fn scan_devicetree(&mut self) -> Result<(), BootError> {
        if let (Some(at), Some(size)) = (self.dtb(), self.machine.devicetree_size) {
            self.memblock.reserve(at, size)?;
            takers::tell(&mut self.memblock, Taker::Devicetree, at, size);
        }
        for bank in &self.machine.memory {
            let Some(range) = bank.whole_pages(self.granule()) else { continue };
            self.memblock.add(range.start, range.size())?;
            if bank.hotplug {
                self.memblock.mark_hotplug(range.start, range.size())?;
            }
            self.edges.push((range.start, Bound::Bank));
            self.edges.push((range.end, Bound::Bank));
        }
        self.cap_to_usable_ranges()
    }

    /// `/chosen/linux,usable-memory-range`: what a crash kernel sees of memory.
    ///
    /// | era | when | what |
    /// |---|---|---|
    /// | 4.14 (UNVERIFIED), 5.10 | with the limits | the first range |
    /// | 6.1, 6.12, 7.2 | as memory is read | the first range, and the second is added to it |
    ///
    /// Source: Linux 5.10 arch/arm64/mm/init.c `fdt_enforce_memory_region`; 6.1–7.2 drivers/of/fdt.c
    /// `early_init_dt_check_for_usable_mem_range`.
    fn cap_to_usable_ranges(&mut self) -> Result<(), BootError> {
        match self.config.era {
            Era::V4_14 | Era::V5_10 => return Ok(()),
            Era::V6_1 | Era::V6_12 | Era::V7_2 => {}
        }
        let mut ranges = self.machine.usable_ranges.iter().take(2).filter(|range| !range.is_empty());
        let Some(first) = ranges.next() else { return Ok(()) };
        self.memblock.cap_memory_range(first.start, first.size())?;
        for range in ranges {
            self.memblock.add(range.start, range.size())?;
        }
        Ok(())
    }

    /// The same where it comes with the limits.
    fn enforce_usable_range(&mut self) -> Result<(), BootError> {
        let first = self.machine.usable_ranges.first().filter(|range| !range.is_empty());
        match (self.config.era, first) {
            (Era::V4_14 | Era::V5_10, Some(range)) => Ok(self.memblock.cap_memory_range(range.start, range.size())?),
            (Era::V4_14 | Era::V5_10, None) | (Era::V6_1 | Era::V6_12 | Era::V7_2, _) => Ok(()),
        }
    }

    fn limit_to_linear_region(&mut self) -> Result<(), BootError> {
        const EVERYTHING: u64 = u64::MAX;
        let mask_shift = self.physical_mask_shift();
        self.memblock.remove(PhysAddr(1 << mask_shift), EVERYTHING)?;
        let align = linear::memstart_align(self.config.era, self.granule());
        let region = self.state.layout.linear_region_size();
        let start = self.memblock.start_of_dram().align_down(align);
        self.state.memstart = start.0;
        let kernel_end = self.image.phys("_end")?;
        let end = PhysAddr(start.0.saturating_add(region)).max(kernel_end);
        self.memblock.remove(end, EVERYTHING)?;
        let dram_end = self.memblock.end_of_dram();
        if start.0.saturating_add(region) < dram_end.0 {
            let moved = PhysAddr(dram_end.0 - region).align_up(align).unwrap_or(start);
            self.state.memstart = moved.0;
            self.memblock.remove(PhysAddr(0), moved.0)?;
        }
        if self.memblock.memory().is_empty() {
            return Err(BootError::Input("no memory is left inside the linear map's region".into()));
        }
        // A kernel of 52 bits that runs with fewer keeps its formulas: memory appears where those bits begin.
        let missing = self.state.layout.unused_below();
        self.state.memstart = self.state.memstart.wrapping_sub(missing);
        Ok(())
    }

    /// Bits of a physical address that the kernel can use.
    ///
    /// Source: Linux 5.10, 6.1 arch/arm64/include/asm/pgtable-hwdef.h `PHYS_MASK_SHIFT`; 6.12, 7.2 the same, at run time.
    pub(super) fn physical_mask_shift(&self) -> u32 {
        let built = self.config.kconfig.number("ARM64_PA_BITS").map_or(48, |bits| bits as u32);
        built.min(self.state.geometry.output().bits())
    }

    /// `mem=`: the first so many bytes of memory stay, and the image.
    fn apply_memory_limit(&mut self) -> Result<(), BootError> {
        let limit = self.config.cmdline.mem(self.config.era, Arch::Arm64, self.granule()).value;
        let Some(MemoryLimit::Amount(bytes)) = limit else { return Ok(()) };
        self.memblock.observer().log(LogEntry::MemoryLimited(bytes));
        let before = self.memblock.end_of_dram();
        self.memblock.mem_limit_remove_map(bytes)?;
        let after = self.memblock.end_of_dram();
        if after != before {
            self.edges.push((after, Bound::MemLimit));
        }
        let kernel = self.image.phys_range("_text", "_end")?;
        self.memblock.add(kernel.start, kernel.size())?;
        Ok(())
    }

    /// The RAM disk is memory, wherever it lies, and taken.
    ///
    /// | era | what was said of its memory before |
    /// |---|---|
    /// | 4.14 (UNVERIFIED), 5.10 | is forgotten: removed and added again |
    /// | 6.1, 6.12, 7.2 | stays, but it is mapped |
    fn take_initrd(&mut self) -> Result<(), BootError> {
        let given = self.config.given.initrd.map(|(start, last)| PhysRange::new(PhysAddr(start), PhysAddr(last) + 1));
        let Some(initrd) = self.machine.initrd.or(given) else { return Ok(()) };
        let start = initrd.start.align_down(self.page());
        let Some(end) = initrd.end.align_up(self.page()) else { return Ok(()) };
        let dram = self.memblock.start_of_dram();
        let region = self.state.layout.linear_region_size();
        // One that cannot be reached is dropped with a warning.
        if start < dram || end.0 > dram.0.saturating_add(region) || start >= end {
            return Ok(());
        }
        match self.config.era {
            Era::V4_14 | Era::V5_10 => {
                self.memblock.remove(start, end - start)?;
                self.memblock.add(start, end - start)?;
            }
            Era::V6_1 | Era::V6_12 | Era::V7_2 => {
                self.memblock.add(start, end - start)?;
                self.memblock.clear_nomap(start, end - start)?;
            }
        }
        self.memblock.reserve(start, end - start)?;
        takers::tell(&mut self.memblock, Taker::Initrd, start, end - start);
        self.state.initrd = Some(initrd);
        self.edges.push((start, Bound::Object));
        self.edges.push((end, Bound::Object));
        Ok(())
    }

    fn move_linear_map(&mut self) {
        if let Some(linear_start) = self.config.given.linear_start {
            // The recorded address is that of the first byte of memory.
            let first = self.memblock.start_of_dram().0;
            self.state.memstart = first.wrapping_sub(linear_start.0 - self.state.layout.page_offset.0);
            return;
        }
        let era = self.config.era;
        let dram = self.memblock.end_of_dram() - self.memblock.start_of_dram();
        let offset = kaslr::memstart_offset(
            era,
            self.state.layout.linear_region_size(),
            dram,
            self.cpu.physical_bits(),
            linear::memstart_align(era, self.granule()),
            self.memstart_seed,
        );
        self.state.memstart = self.state.memstart.wrapping_sub(offset);
    }

    /// What firmware wants kept.
    ///
    /// | era | order |
    /// |---|---|
    /// | 4.14 (UNVERIFIED), 5.10 | the header's list, the tree's fixed regions, those that want a place, the dump header |
    /// | 6.1 | the header's list, the tree's fixed regions, the dump header, those that want a place |
    /// | 6.12, 7.2 | the dump header, the tree's fixed regions, those that want a place, the header's list |
    fn reserve_firmware(&mut self) -> Result<(), BootError> {
        match self.config.era {
            Era::V4_14 | Era::V5_10 => {
                self.reserve_header_list()?;
                self.reserve_fixed()?;
                self.place_regions()?;
                self.reserve_elfcorehdr()
            }
            Era::V6_1 => {
                self.reserve_header_list()?;
                self.reserve_fixed()?;
                self.reserve_elfcorehdr()?;
                self.place_regions()
            }
            Era::V6_12 | Era::V7_2 => {
                self.reserve_elfcorehdr()?;
                self.reserve_fixed()?;
                self.place_regions()?;
                self.reserve_header_list()
            }
        }
    }

    fn reserve_header_list(&mut self) -> Result<(), BootError> {
        let machine = self.machine;
        for range in &machine.memory_reservations {
            self.memblock.reserve(range.start, range.size())?;
            takers::tell(&mut self.memblock, Taker::Firmware, range.start, range.size());
        }
        Ok(())
    }

    fn reserve_fixed(&mut self) -> Result<(), BootError> {
        let machine = self.machine;
        for reserved in &machine.reserved {
            for range in &reserved.ranges {
                self.reserve_region(reserved, *range)?;
            }
        }
        Ok(())
    }

    fn reserve_elfcorehdr(&mut self) -> Result<(), BootError> {
        if let Some(header) = self.machine.elfcorehdr {
            self.memblock.reserve(header.start, header.size())?;
            takers::tell(&mut self.memblock, Taker::Firmware, header.start, header.size());
        }
        Ok(())
    }

    fn place_regions(&mut self) -> Result<(), BootError> {
        let machine = self.machine;
        for reserved in machine.reserved.iter().filter(|reserved| reserved.ranges.is_empty()) {
            self.place_region(reserved)?;
        }
        Ok(())
    }

    fn reserve_region(&mut self, reserved: &Reserved, range: PhysRange) -> Result<(), BootError> {
        if !reserved.no_map {
            self.memblock.reserve(range.start, range.size())?;
            takers::tell(&mut self.memblock, Taker::Firmware, range.start, range.size());
            return Ok(());
        }
        let taken = self.memblock.overlaps_region(ListKind::Memory, range.start, range.size())
            && self.memblock.is_region_reserved(range.start, range.size());
        if !taken {
            self.memblock.mark_nomap(range.start, range.size())?;
            self.edges.push((range.start, Bound::NoMap));
            self.edges.push((range.end, Bound::NoMap));
        }
        Ok(())
    }

    fn place_region(&mut self, reserved: &Reserved) -> Result<(), BootError> {
        let Some(size) = reserved.size else { return Ok(()) };
        let align = reserved.alignment.filter(|align| align.is_power_of_two()).unwrap_or(0);
        let align = align.max(self.page());
        let size = size.checked_next_multiple_of(align);
        let size =
            size.ok_or_else(|| BootError::Input(format!("reserved memory {}: size overflows", reserved.name)))?;
        let mut windows = reserved.alloc_ranges.iter().map(|range| (range.start, UpTo::from(range.end)));
        let mut anywhere = Some((PhysAddr(0), UpTo::ACCESSIBLE)).filter(|_| reserved.alloc_ranges.is_empty());
        while let Some((from, max)) = windows.next().or_else(|| anywhere.take()) {
            if let Ok(base) = self.memblock.phys_alloc_range(size, align, from, max) {
                takers::tell(&mut self.memblock, Taker::Firmware, base, size);
                if reserved.no_map {
                    self.memblock.mark_nomap(base, size)?;
                    self.edges.push((base, Bound::NoMap));
                    self.edges.push((base + size, Bound::NoMap));
                }
                return Ok(());
            }
        }
        Ok(())
    }
}
