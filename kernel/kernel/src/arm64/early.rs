//! The boot page tables: what the first instructions build before there is any C code.
//!
//! ```text
//! identity   5.10: the text that switches the MMU on; writable and executable
//!            6.1: [_text, _end + room for the devicetree): virtual = physical, read only and executable;
//!            the kernel map's own tables in it writable; behind the image a window onto the devicetree, writable
//! kernel     [_text, _end) at its linked (and moved) place, writable and executable
//! ```
//! Both are made of 2M blocks with 4K pages, else of pages. The kernel map gives way to `swapper_pg_dir` in `paging_init`; what lay in init memory
//! is freed with it. From 6.12 on C code builds the first tables (`map_range`).
//!
//! Source: Linux 5.10, 6.1 arch/arm64/kernel/head.S `create_idmap`, `create_kernel_mapping`, `remap_region`.

use alloc::format;

use kernmem_arch::arm64::{Arm64Attrs, Arm64Format, bit, carve_out, limits, prot};
use kernmem_base::{
    Era, Frame, FrameOrigin, FrameSource, Granule, Level, NoFrame, PhysAddr, PhysMem, PhysRange, VirtAddr, VirtRange,
};
use kernmem_pgtable::{Change, Failed, MapError, Mapping, Sizes, Tables};

use super::boot::Booting;
use super::image::no_contiguous;
use crate::{BootError, TableFrame, Witness};

/// The largest devicetree.
pub(super) const MAX_FDT: u64 = limits::MAX_FDT_BYTES;

const READ_EXECUTE: Arm64Attrs = prot::boot_map(false);
const WRITE_EXECUTE: Arm64Attrs = prot::boot_map(true);

/// Roots of the boot page tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EarlyRoots {
    /// The identity map's.
    pub identity: PhysAddr,
    /// The kernel map's.
    pub kernel: PhysAddr,
}

/// Pages set aside in the image, taken in order.
pub(super) struct CarveOut<'w, W> {
    pub pages: PhysRange,
    pub page: u64,
    pub witness: &'w mut W,
}

impl<W: Witness> FrameSource for CarveOut<'_, W> {
    fn take(&mut self, level: Level) -> Result<Frame, NoFrame> {
        let pa = self.pages.start;
        let next = pa + self.page;
        if next > self.pages.end {
            return Err(NoFrame { level });
        }
        self.pages.start = next;
        self.witness.table(&TableFrame { pa, level, origin: FrameOrigin::Image });
        Ok(Frame { pa, origin: FrameOrigin::Image, zeroed: false })
    }

    fn give_back(&mut self, _frame: PhysAddr) {}
}

/// Calls a method of the boot with the format of its identity map, which may have another number of levels than the
/// kernel's tables.
macro_rules! with_identity {
    ($boot:ident, $method:ident($($argument:expr),*)) => {{
        use kernmem_arch::arm64::Arm64;
        let identity = $boot.state.identity;
        match (identity.granule(), identity.va_bits()) {
            _ if identity == $boot.state.geometry => $boot.$method::<F>($($argument),*),
            (kernmem_base::Granule::K4, _) => $boot.$method::<Arm64<12, 48>>($($argument),*),
            (kernmem_base::Granule::K16, 47) => $boot.$method::<Arm64<14, 47>>($($argument),*),
            (kernmem_base::Granule::K16, _) => $boot.$method::<Arm64<14, 48>>($($argument),*),
            (kernmem_base::Granule::K64, _) => $boot.$method::<Arm64<16, 48>>($($argument),*),
        }
    }};
}

pub(super) use with_identity;

/// Pages that the image sets aside suffice for a kernel of its own era: if not, the symbols are another's.
pub(super) fn short(era: Era, failed: Failed) -> BootError {
    match failed.error {
        MapError::NoFrame { .. } => BootError::Input(format!(
            "symbols: the pages for the first tables do not suffice; give a System.map of a kernel of Linux {era} \
             (--symbols)"
        )),
        _ => BootError::from(failed),
    }
}

impl<F: Arm64Format, M: PhysMem, W: Witness> Booting<'_, '_, F, M, W> {
    /// Builds both maps.
    ///
    /// | era | by | kernel map |
    /// |---|---|---|
    /// | 4.14 (UNVERIFIED), 5.10, 6.1 | the first instructions | in use until `paging_init` |
    /// | 6.12, 7.2 | C code that runs in the identity map | stays, with its final rights |
    pub(super) fn early_tables(&mut self) -> Result<(), BootError> {
        match self.config.era {
            Era::V4_14 | Era::V5_10 | Era::V6_1 => self.assembled_tables(),
            Era::V6_12 | Era::V7_2 => self.early_map_kernel(),
        }
    }

    fn assembled_tables(&mut self) -> Result<(), BootError> {
        let kernel = self.image.phys_range("init_pg_dir", "init_pg_end")?;
        let identity = match self.config.era {
            Era::V4_14 | Era::V5_10 => with_identity!(self, identity_text())?,
            Era::V6_1 | Era::V6_12 | Era::V7_2 => {
                let identity = self.image.phys_range("init_idmap_pg_dir", "init_idmap_pg_end")?;
                with_identity!(self, identity_map(identity, kernel))?;
                identity.start
            }
        };
        let image = self.image.phys_range("_text", "_end")?;
        self.block_map::<F>(
            kernel,
            self.image.virt("_text")?,
            blocks_of(image, swapper_block(self.granule())),
            WRITE_EXECUTE,
        )?;
        self.state.early = EarlyRoots { identity, kernel: kernel.start };
        Ok(())
    }

    /// Up to 5.10 the identity map has the text that needs it and nothing else, and stays.
    fn identity_text<G: Arm64Format>(&mut self) -> Result<PhysAddr, BootError> {
        let pages = self.image.phys_range("idmap_pg_dir", "idmap_pg_end")?;
        let text = self.image.phys_range("__idmap_text_start", "__idmap_text_end")?;
        let text = blocks_of(text, swapper_block(self.granule()));
        self.block_map::<G>(pages, VirtAddr(text.start.0), text, WRITE_EXECUTE)?;
        Ok(pages.start)
    }

    fn identity_map<G: Arm64Format>(&mut self, pages: PhysRange, kernel_tables: PhysRange) -> Result<(), BootError> {
        let block = swapper_block(self.granule());
        let image = self.image.phys_range("_text", "_end")?;
        let window = (image.end + block).align_down(block);
        let all = blocks_of(PhysRange::new(image.start, image.end + MAX_FDT + block), block);
        let readable = PhysRange::new(all.start, window);
        self.block_map::<G>(pages, VirtAddr(readable.start.0), readable, READ_EXECUTE)?;
        let writable = blocks_of(kernel_tables, block);
        let range = VirtRange::of_size(VirtAddr(writable.start.0), writable.size());
        let mut tables = Tables::<G, M>::new(self.mem, pages.start);
        if let Some(range) = range {
            let change = Change { set: 0, clear: bit::RDONLY };
            tables.cursor(range).protect(change)?.forgive("the MMU is off");
        }
        let Some(dtb) = self.dtb() else { return Ok(()) };
        let memory = PhysRange::new(dtb.align_down(block), dtb.align_down(block) + MAX_FDT + block);
        let Some(range) = VirtRange::of_size(VirtAddr(window.0), memory.size()) else { return Ok(()) };
        let mapping = mapping::<G>(memory.start, self.state.global_prot(WRITE_EXECUTE));
        let (page, end) = (self.page(), PhysRange::new(pages.end, pages.end));
        let mut rest = CarveOut { pages: end, page, witness: self.memblock.observer() };
        tables.cursor(range).map(&mut rest, &mapping)?.forgive("the MMU is off");
        Ok(())
    }

    /// Maps `memory` by blocks in a tree whose root is the first of `pages`.
    fn block_map<G: Arm64Format>(
        &mut self,
        pages: PhysRange,
        va: VirtAddr,
        memory: PhysRange,
        attrs: Arm64Attrs,
    ) -> Result<(), BootError> {
        let root = pages.start;
        self.mem.zero(PhysRange::new(root, root + self.page()))?;
        self.mem.note(root)?.set_used(0);
        let page = self.page();
        let witness = self.memblock.observer();
        witness.table(&TableFrame { pa: root, level: Level::Pgd, origin: FrameOrigin::Image });
        let mut rest = CarveOut { pages: PhysRange::new(root + page, pages.end), page, witness };
        let Some(range) = VirtRange::of_size(va, memory.size()) else { return Ok(()) };
        let mut tables = Tables::<G, M>::new(self.mem, root);
        let mapped = tables.cursor(range).map(&mut rest, &mapping::<G>(memory.start, attrs));
        mapped.map_err(|failed| short(self.config.era, failed))?.forgive("the MMU is off");
        Ok(())
    }
}

fn mapping<F: Arm64Format>(pa: PhysAddr, attrs: Arm64Attrs) -> Mapping<F> {
    Mapping::new(pa, attrs, no_contiguous::<F>().and(blocks_only::<F>())).with_table_attrs(prot::TABLE_STATIC)
}

/// Blocks of that size and nothing larger.
fn blocks_only<F: Arm64Format>() -> Sizes {
    let block = swapper_block(F::shape().granule);
    Sizes::only(F::shape(), |leaf| leaf.bytes <= block)
}

/// The range widened to whole blocks.
fn blocks_of(range: PhysRange, block: u64) -> PhysRange {
    PhysRange::new(range.start.align_down(block), range.end.align_up(block).unwrap_or(range.end))
}

/// What boot maps with before there is an allocator: blocks where they are 2M, else pages.
///
/// Source: Linux 5.10, 6.1 arch/arm64/include/asm/kernel-pgtable.h `SWAPPER_BLOCK_SIZE`.
pub(super) const fn swapper_block(granule: Granule) -> u64 {
    1 << carve_out::leaf_shift(granule)
}
