//! Sections get their usage maps and their part of the memory map.
//!
//! Source: Linux 6.1 mm/sparse.c `sparse_init`, `sparse_init_nid`; mm/sparse-vmemmap.c `vmemmap_populate_hugepages`.

use kernmem_arch::{Bound, EntryFormat, Reason};
use kernmem_base::{Level, PhysAddr, PhysMem, VirtAddr, VirtRange};
use kernmem_memblock::{Memblock, Nid, RegionArray, Request, UpTo};
use kernmem_pgtable::{Mapping, Sizes, Tables};
use kernmem_sparse::{Group, SectionNr, Sections, VecStore};

use crate::frames::Ask;
use crate::numa::NodeData;
use crate::takers::{self, Taker};
use crate::{Area, BootError, EarlyFrames, LogEntry, Mapped, Witness};

/// How one architecture maps its memory map.
#[derive(Debug)]
pub struct Vmemmap<F: EntryFormat> {
    /// Where the descriptor of frame 0 would be, modulo 2^64.
    pub frame_zero: VirtAddr,
    /// Attributes of a 2M leaf, in base-page form.
    pub block: F::Attrs,
    /// Attributes of a base page.
    pub page: F::Attrs,
    /// Attributes of entries that link tables.
    pub table: F::Attrs,
    /// From which address on its memory is taken if possible.
    pub min: PhysAddr,
    /// Whether 2M leaves may be used.
    pub blocks: bool,
}

/// What is asked of the caller once: where it all happens.
#[derive(Debug)]
pub struct SparseInit<'b, 'm, F: EntryFormat, M, A, W> {
    /// The kernel's tables.
    pub tables: &'b mut Tables<'m, F, M>,
    /// The boot allocator.
    pub memblock: &'b mut Memblock<A, W>,
    /// The sections.
    pub sections: &'b mut Sections<VecStore>,
    /// How the memory map is mapped.
    pub vmemmap: &'b Vmemmap<F>,
    /// Descriptors of the nodes.
    pub nodes: &'b [NodeData],
    /// Why vmemmap has its rights.
    pub rights: &'b [Reason],
}

impl<F: EntryFormat, M: PhysMem, A: RegionArray, W: Witness> SparseInit<'_, '_, F, M, A, W> {
    /// Marks present sections and brings up each group of them.
    ///
    /// # Errors
    /// The boot allocator has no memory, or a table cannot be made.
    pub fn run(mut self) -> Result<(), BootError> {
        self.mark_present()?;
        let groups: alloc::vec::Vec<Group> = self.sections.groups().collect();
        for group in groups {
            self.bring_up(group)?;
        }
        self.memblock.observer().log(LogEntry::SectionsReady);
        Ok(())
    }

    fn mark_present(&mut self) -> Result<(), BootError> {
        let cache_line = self.memblock.limits().smp_cache_bytes;
        let roots = Request::new(self.sections.geometry().roots_array_bytes(), cache_line);
        takers::allocate(self.memblock, Taker::SectionRoots, roots)?;
        let ranges: alloc::vec::Vec<_> = self.memblock.pfn_ranges(None).collect();
        for range in ranges {
            let nid = kernmem_sparse::Nid(range.nid.map_or(0, |nid| nid.0));
            let memblock = &mut *self.memblock;
            let mut failed = None;
            self.sections.memory_present(nid, range.start, range.end, |root| {
                let request = Request::new(root.bytes, cache_line).on(Some(Nid(root.nid.0)));
                if let Err(error) = takers::allocate(memblock, Taker::SectionRoots, request) {
                    failed.get_or_insert(error);
                }
            })?;
            if let Some(error) = failed {
                return Err(error);
            }
        }
        Ok(())
    }

    fn bring_up(&mut self, group: Group) -> Result<(), BootError> {
        let geometry = *self.sections.geometry();
        let nid = Nid(group.nid.0);
        self.allocate_usage(nid, geometry.usage_bytes() * group.map_count)?;
        let map_size = geometry.section_map_size();
        let buffer_size = map_size * group.map_count;
        let wish = Request::new(buffer_size, map_size).from(self.vmemmap.min).on(Some(nid));
        let mut buffer = self.memblock.alloc_exact_nid_raw(wish).ok();
        let buffer_end = buffer.map(|start| start + buffer_size);
        if let Some(start) = buffer {
            takers::tell(self.memblock, Taker::MemoryMap, start, buffer_size);
        }
        let mut next = self.sections.next_present(group.first);
        while let Some(first) = next.filter(|nr| *nr < group.end) {
            let mut last = first;
            let mut following = self.sections.next_present(SectionNr(last.0 + 1));
            while following == Some(SectionNr(last.0 + 1)) && following < Some(group.end) {
                last = SectionNr(last.0 + 1);
                following = self.sections.next_present(SectionNr(last.0 + 1));
            }
            buffer = self.populate(first, last.0 - first.0 + 1, nid, buffer)?;
            next = following;
        }
        if let (Some(rest), Some(end)) = (buffer, buffer_end)
            && rest < end
        {
            self.memblock.phys_free(rest, end - rest)?;
        }
        let frame_zero = self.vmemmap.frame_zero;
        let page_bytes = geometry.page_bytes();
        let place = |nr| VirtAddr(frame_zero.0.wrapping_add(geometry.first_pfn(nr).0 * page_bytes));
        self.sections
            .bring_up(group, |nr| Some(place(nr)))
            .map_err(|error| BootError::Input(alloc::format!("{error}")))?;
        Ok(())
    }

    /// Usage maps go into the section that holds the node's descriptor if possible, so that both can be unplugged.
    fn allocate_usage(&mut self, nid: Nid, bytes: u64) -> Result<PhysAddr, BootError> {
        let geometry = *self.sections.geometry();
        let cache_line = self.memblock.limits().smp_cache_bytes;
        let anywhere = Request::new(bytes, cache_line).on(Some(nid));
        let home = self.nodes.iter().find(|node| node.nid == nid);
        if let Some(node) = home {
            let start = node.range.start.align_down(geometry.section_bytes());
            let near = anywhere.from(start).up_to(UpTo(start.0 + geometry.section_bytes()));
            if let Ok(pa) = takers::allocate(self.memblock, Taker::SectionUsage, near) {
                return Ok(pa);
            }
        }
        takers::allocate(self.memblock, Taker::SectionUsage, anywhere)
    }

    /// Maps the descriptors of `count` sections from `first`; takes their memory from `buffer` and returns the rest.
    fn populate(
        &mut self,
        first: SectionNr,
        count: u64,
        nid: Nid,
        buffer: Option<PhysAddr>,
    ) -> Result<Option<PhysAddr>, BootError> {
        let geometry = *self.sections.geometry();
        let bytes = geometry.section_memmap_bytes() * count;
        let start = geometry.first_pfn(first).0 * geometry.page_bytes();
        let va = VirtAddr(self.vmemmap.frame_zero.0.wrapping_add(start));
        let range =
            VirtRange::of_size(va, bytes).ok_or_else(|| BootError::Input("vmemmap leaves the address space".into()))?;
        if let Some(pa) = buffer.filter(|_| self.vmemmap.blocks) {
            self.map(range, pa, nid, true)?;
            return Ok(Some(pa + bytes));
        }
        self.populate_pages(range, nid, buffer)
    }

    /// The same page by page: the table first, then the page, from the buffer as long as it has one.
    ///
    /// Source: Linux 5.10–6.12 mm/sparse-vmemmap.c `vmemmap_populate_basepages`, `vmemmap_alloc_block_buf`.
    fn populate_pages(
        &mut self,
        range: VirtRange,
        nid: Nid,
        mut buffer: Option<PhysAddr>,
    ) -> Result<Option<PhysAddr>, BootError> {
        let page = self.sections.geometry().granule().bytes();
        let wish = Request::new(page, page).from(self.vmemmap.min).on(Some(nid));
        for index in 0..range.size() / page {
            let va = range.start + index * page;
            let mut frames = EarlyFrames::new(self.memblock, F::shape().granule, Ask::Node(wish));
            self.tables.make_table(va, Level::Pte, self.vmemmap.table, &mut frames)?;
            let pa = match &mut buffer {
                Some(next) => core::mem::replace(next, *next + page),
                None => {
                    let pa = self.memblock.alloc_try_nid_raw(wish)?;
                    takers::tell(self.memblock, Taker::MemoryMap, pa, page);
                    pa
                }
            };
            self.map(VirtRange { start: va, last: va + (page - 1) }, pa, nid, false)?;
        }
        Ok(buffer)
    }

    fn map(&mut self, range: VirtRange, pa: PhysAddr, nid: Nid, blocks: bool) -> Result<(), BootError> {
        let shape = F::shape();
        let pmd = Sizes::only(shape, |leaf| !leaf.contiguous && leaf.level == Level::Pmd);
        let (sizes, attrs) = if blocks { (pmd, self.vmemmap.block) } else { (Sizes::PAGES, self.vmemmap.page) };
        let page = shape.granule.bytes();
        let wish = Request::new(page, page).from(self.vmemmap.min).on(Some(nid));
        let mapping = Mapping::<F>::new(pa, attrs, sizes).with_table_attrs(self.vmemmap.table);
        let mut frames = EarlyFrames::new(self.memblock, shape.granule, Ask::Node(wish));
        self.tables.cursor(range).map(&mut frames, &mapping)?.forgive("nothing was mapped there");
        let edge = |at: PhysAddr| Reason::Edge { bound: Bound::Section, at };
        self.memblock.observer().mapped(&Mapped {
            range,
            pa,
            area: Area::Vmemmap,
            start: edge(pa),
            end: edge(pa + (range.size() - 1)),
            limits: &[(Reason::BlocksOnly, sizes)],
            rights: self.rights,
        });
        Ok(())
    }
}
