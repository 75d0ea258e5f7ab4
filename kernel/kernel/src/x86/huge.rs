//! The descriptors of gigantic pages, of which only the first page is kept.
//!
//! Not here: where gigantic pages come from (`takers`), how descriptors are shared (`kernmem-hugetlb`), pools of smaller
//! huge pages: they come from the page allocator (`running`).
//!
//! Source: Linux 6.1 mm/hugetlb_vmemmap.c `hugetlb_vmemmap_optimize`, `split_vmemmap_huge_pmd`, `vmemmap_remap_pte`.

use alloc::vec::Vec;

use kernmem_arch::x86::X86;
use kernmem_arch::x86::prot::{Prot, table};
use kernmem_arch::{Change, EntryFormat, Reason};
use kernmem_base::{Era, Granule, Level, NoTlb, Order, Pfn, PhysAddr, PhysMem, PhysRange, VirtAddr, VirtRange};
use kernmem_hugetlb::{Env, HvoError, Vmemmap, hvo};
use kernmem_pgtable::{Sizes, Walk, translate};

use super::boot::PAGE;
use super::late::Late;
use crate::managed::Moment;
use crate::pc::lacking;
use crate::takers::gigantic::GiganticPool;
use crate::{Area, BootError, Mapped, Witness};

impl<M: PhysMem, W: Witness, const LEVELS: usize> Late<'_, '_, M, W, LEVELS> {
    /// Gives back all but the first page of the descriptors of each gigantic page; the other addresses show that page,
    /// read only.
    pub(super) fn optimise_gigantic(&mut self, pools: &[GiganticPool]) -> Result<(), BootError> {
        let config = self.config;
        let built = config.kconfig.is_set("HUGETLB_PAGE_OPTIMIZE_VMEMMAP");
        let default = config.kconfig.is_set("HUGETLB_PAGE_OPTIMIZE_VMEMMAP_DEFAULT_ON");
        let descriptor = config.sizes.get("sizeof_page").unwrap_or(64);
        if !built || !config.cmdline.hugetlb_free_vmemmap(config.era, default).value || !descriptor.is_power_of_two() {
            return Ok(());
        }
        let vmemmap = Vmemmap {
            era: config.era,
            base: self.state.layout.descriptor(Pfn(0), descriptor),
            descriptor_bytes: descriptor,
            writable: self.state.masks.kernel(config.era, Prot::Kernel),
            read_only: self.state.masks.kernel(config.era, Prot::KernelRo),
            table: table::PAGE,
        };
        for pool in pools {
            for page in &pool.pages {
                self.share_first_page(*page, pool.size, &vmemmap)?;
            }
        }
        Ok(())
    }

    fn share_first_page(&mut self, page: PhysAddr, size: u64, vmemmap: &Vmemmap<X86<LEVELS>>) -> Result<(), BootError> {
        let (pfn, order) = (page.pfn(Granule::K4), Order((size >> Granule::K4.shift()).ilog2() as u8));
        let Some(all) = vmemmap.descriptors(pfn, order) else { return Ok(()) };
        let tails = VirtRange { start: all.start + PAGE, last: all.last };
        let kept = self.frame_of(all.start);
        let pages = (0..tails.size()).step_by(PAGE as usize);
        let given: Vec<PhysAddr> = pages.filter_map(|offset| self.frame_of(tails.start + offset)).collect();
        let mut env =
            Env { tables: &mut self.tables, pages: &mut self.frames, tlb: &mut NoTlb, vmemmap, descriptors: &() };
        hvo::optimize(&mut env, pfn, order).map_err(|error| match error {
            HvoError::Map(error) => BootError::Map(error),
            error => BootError::Input(alloc::format!("descriptors of a gigantic page: {error}")),
        })?;
        let kept = match kept {
            Some(head) => Some(self.move_head(all, head, vmemmap)?),
            None => None,
        };
        for pa in given {
            self.nodes.release_whole_pages(PhysRange::new(pa, pa + PAGE), Moment::BeforeWatermarks);
        }
        self.tell(Vec::from([tails]), Change::Hvo, false);
        if let Some(pa) = kept {
            self.tell_shared(tails, pa);
        }
        Ok(())
    }

    /// The frame that all descriptors show, once it is where the era wants it.
    ///
    /// | era | frame |
    /// |---|---|
    /// | 4.14, 5.10 | nothing is shared |
    /// | 6.1 | the first of the page's own |
    /// | 6.12 | a copy from the page allocator; the first goes back too |
    /// | 7.2 | pages of boot are not made so |
    ///
    /// Source: Linux 6.12 mm/hugetlb_vmemmap.c `vmemmap_remap_free`, `vmemmap_remap_pte`.
    fn move_head(
        &mut self,
        all: VirtRange,
        head: PhysAddr,
        vmemmap: &Vmemmap<X86<LEVELS>>,
    ) -> Result<PhysAddr, BootError> {
        match self.config.era {
            Era::V4_14 | Era::V5_10 | Era::V6_1 | Era::V7_2 => return Ok(head),
            Era::V6_12 => {}
        }
        let Some(copy) = self.frames.page() else { return Ok(head) };
        let attrs = |va| if va == all.start { vmemmap.writable } else { vmemmap.read_only };
        self.tables.cursor(all).remap(&mut NoTlb, |va| (copy, attrs(va)))?.forgive("no CPU holds translations yet");
        let old = PhysRange::new(head, head + PAGE);
        self.nodes.release_whole_pages(old, Moment::BeforeWatermarks);
        self.frames.add(old)?;
        Ok(copy)
    }

    fn frame_of(&self, va: VirtAddr) -> Option<PhysAddr> {
        match translate::<X86<LEVELS>, M>(self.tables.mem(), self.tables.root(), va) {
            Ok(Walk::Mapped { pa, .. }) => Some(pa),
            _ => None,
        }
    }

    /// The addresses that show one page again and again are a mapping of their own.
    fn tell_shared(&mut self, range: VirtRange, pa: PhysAddr) {
        let shared = Reason::SplitBy { cause: Change::Hvo };
        let blocks = Sizes::only(X86::<LEVELS>::shape(), |leaf| leaf.level == Level::Pmd);
        let mut rights = Vec::from([Reason::Changed(Change::Hvo)]);
        rights.extend(lacking(self.state.pti, self.cpu));
        self.memblock.observer().mapped(&Mapped {
            range,
            pa,
            area: Area::Vmemmap,
            start: shared,
            end: shared,
            limits: &[(shared, Sizes::PAGES), (Reason::BlocksOnly, blocks)],
            rights: &rights,
        });
    }
}
