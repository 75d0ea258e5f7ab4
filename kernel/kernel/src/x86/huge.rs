//! Gigantic pages that boot sets aside, and their descriptors, of which only the first page is kept.
//!
//! Not here: pools of smaller huge pages: they come from the page allocator.
//!
//! Source: Linux 6.1 mm/hugetlb.c `hugetlb_hstate_alloc_pages`, `__alloc_bootmem_huge_page`;
//! mm/hugetlb_vmemmap.c `hugetlb_vmemmap_optimize`, `split_vmemmap_huge_pmd`, `vmemmap_remap_pte`.

use alloc::vec::Vec;

use kernmem_arch::x86::X86Level4;
use kernmem_arch::x86::prot::{Prot, table};
use kernmem_arch::{Change, Entry, EntryFormat, Reason};
use kernmem_base::{Granule, Level, NoTlb, PhysAddr, PhysMem, PhysRange, VirtRange};
use kernmem_memblock::{Nid, Request};
use kernmem_pgtable::{Sizes, Walk, translate};

use super::boot::{Booting, LARGE, PAGE, lacking};
use super::late::Late;
use crate::{Area, BootError, Mapped, Witness};

const GIGANTIC: u64 = 1 << 30;

impl<M: PhysMem, W: Witness> Booting<'_, '_, M, W> {
    /// Takes the gigantic pages that the command line asks for, by turns from each node.
    pub(super) fn allocate_gigantic(&mut self) -> Result<Vec<PhysAddr>, BootError> {
        let config = self.config;
        if !config.kconfig.is_set("HUGETLB_PAGE") || !self.cpu.gbpages {
            return Ok(Vec::new());
        }
        let wanted = config.cmdline.huge_pages(config.era, &[LARGE, GIGANTIC], LARGE).value;
        let Some(pool) = wanted.pools.into_iter().find(|pool| pool.size == GIGANTIC) else { return Ok(Vec::new()) };
        let mut nodes: Vec<Nid> = self.memblock.memory().regions().iter().filter_map(|region| region.nid).collect();
        nodes.sort_unstable();
        nodes.dedup();
        let turns: Vec<Option<Nid>> = if pool.by_node.is_empty() {
            let node = |page: u64| nodes.get((page % nodes.len().max(1) as u64) as usize).copied();
            (0..pool.pages).map_while(|page| Some(node(page))).collect()
        } else {
            let counts = pool.by_node.iter();
            counts.flat_map(|(node, pages)| (0..*pages).map(|_| Some(Nid(*node)))).collect()
        };
        let mut pages = Vec::new();
        for node in turns {
            // Without room the pool stays smaller.
            let Ok(page) = self.memblock.alloc_try_nid_raw(Request::new(GIGANTIC, GIGANTIC).on(node)) else { break };
            pages.push(page);
        }
        Ok(pages)
    }
}

impl<M: PhysMem, W: Witness> Late<'_, '_, M, W> {
    /// Gives back all but the first page of the descriptors of each gigantic page; the other addresses show that page,
    /// read only.
    pub(super) fn optimise_gigantic(&mut self, pages: &[PhysAddr]) -> Result<(), BootError> {
        let config = self.config;
        let built = config.kconfig.is_set("HUGETLB_PAGE_OPTIMIZE_VMEMMAP");
        let default = config.kconfig.is_set("HUGETLB_PAGE_OPTIMIZE_VMEMMAP_DEFAULT_ON");
        let descriptor = config.sizes.get("sizeof_page").unwrap_or(64);
        if !built || !config.cmdline.hugetlb_free_vmemmap(config.era, default).value || !descriptor.is_power_of_two() {
            return Ok(());
        }
        for page in pages {
            let start = self.state.layout.descriptor(page.pfn(Granule::K4), descriptor);
            let bytes = (GIGANTIC >> Granule::K4.shift()) * descriptor;
            if let Some(range) = VirtRange::of_size(start, bytes) {
                self.share_first_page(range)?;
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
            self.frames.add(PhysRange::new(pa, pa + PAGE));
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
