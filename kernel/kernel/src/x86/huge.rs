//! The descriptors of gigantic pages, of which only the first page is kept.
//!
//! Not here: where gigantic pages come from (`takers`); pools of smaller huge pages: they come from the page allocator.
//!
//! Source: Linux 6.1 mm/hugetlb_vmemmap.c `hugetlb_vmemmap_optimize`, `split_vmemmap_huge_pmd`, `vmemmap_remap_pte`.

use alloc::vec::Vec;

use kernmem_arch::x86::X86Level4;
use kernmem_arch::x86::prot::{Prot, table};
use kernmem_arch::{Change, Entry, EntryFormat, Reason};
use kernmem_base::{Granule, Level, NoTlb, PhysAddr, PhysMem, PhysRange, VirtRange};
use kernmem_pgtable::{Sizes, Walk, translate};

use super::boot::{PAGE, lacking};
use super::late::Late;
use crate::managed::Moment;
use crate::takers::gigantic::GiganticPool;
use crate::{Area, BootError, Mapped, Witness};

impl<M: PhysMem, W: Witness> Late<'_, '_, M, W> {
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
        for pool in pools {
            for page in &pool.pages {
                let start = self.state.layout.descriptor(page.pfn(Granule::K4), descriptor);
                let bytes = (pool.size >> Granule::K4.shift()) * descriptor;
                if let Some(range) = VirtRange::of_size(start, bytes) {
                    self.share_first_page(range)?;
                }
            }
        }
        Ok(())
    }

    fn share_first_page(&mut self, range: VirtRange) -> Result<(), BootError> {
        let data = self.state.masks.kernel(self.config.era, Prot::Kernel);
        let read_only = self.state.masks.kernel(self.config.era, Prot::KernelRo);
        let shape = X86Level4::shape().level(Level::Pte);
        let depth = X86Level4::shape().depth(Level::Pte);
        let mut kept = None;
        for offset in (0..range.size()).step_by(PAGE as usize) {
            let va = range.start + offset;
            let (root, mem) = (self.tables.root(), self.tables.mem());
            let walk = translate::<X86Level4, M>(mem, root, va);
            let Ok(Walk::Mapped { pa, level, .. }) = walk else { continue };
            if level == Level::Pmd {
                let page = VirtRange { start: va, last: va };
                let split = self.tables.cursor(page).split_as(&mut self.frames, &mut NoTlb, table::PAGE, data)?;
                split.1.forgive("no CPU of this machine holds translations yet");
            }
            let Some(first) = kept else {
                kept = Some(pa);
                continue;
            };
            let pages =
                self.tables.make_table(va, Level::Pte, table::PAGE, &mut self.frames).map_err(BootError::Map)?;
            let entry = Entry::Leaf { base: first, attrs: read_only };
            let raw = X86Level4::encode(entry, Level::Pte).map_err(|error| BootError::Map(error.into()))?;
            self.tables.set_entry(pages, depth, shape.index(va), raw)?;
            self.nodes.release_whole_pages(PhysRange::new(pa, pa + PAGE), Moment::BeforeWatermarks);
            self.frames.add(PhysRange::new(pa, pa + PAGE))?;
        }
        let rest = VirtRange { start: range.start + PAGE, last: range.last };
        self.tell(Vec::from([rest]), Change::Hvo, false);
        if let Some(pa) = kept {
            self.tell_shared(rest, pa);
        }
        Ok(())
    }

    /// The addresses that show one page again and again are a mapping of their own.
    fn tell_shared(&mut self, range: VirtRange, pa: PhysAddr) {
        let shared = Reason::SplitBy { cause: Change::Hvo };
        let blocks = Sizes::only(X86Level4::shape(), |leaf| leaf.level == Level::Pmd);
        let mut rights = Vec::from([Reason::Changed(Change::Hvo)]);
        rights.extend(lacking(&self.state, self.cpu));
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
