//! Sections get their usage maps and their part of the memory map.
//!
//! Source: Linux 6.1 mm/sparse.c `sparse_init`, `sparse_init_nid`; mm/sparse-vmemmap.c `vmemmap_populate_hugepages`.

use kernmem_arch::{Bound, EntryFormat, Reason};
use kernmem_base::{Era, Level, PhysAddr, PhysMem, PhysRange, VirtAddr, VirtRange};
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
    /// Whether memory can be unplugged (`MEMORY_HOTREMOVE`).
    pub unplugs: bool,
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
        let mut buffer = self.buffer(nid, geometry.section_map_size(), group.map_count);
        let mut next = self.sections.next_present(group.first);
        while let Some(first) = next.filter(|nr| *nr < group.end) {
            let mut last = first;
            let mut following = self.sections.next_present(SectionNr(last.0 + 1));
            while following == Some(SectionNr(last.0 + 1)) && following < Some(group.end) {
                last = SectionNr(last.0 + 1);
                following = self.sections.next_present(SectionNr(last.0 + 1));
            }
            self.populate(first, last.0 - first.0 + 1, nid, &mut buffer)?;
            next = following;
        }
        if let Some(rest) = buffer.filter(|rest| !rest.is_empty()) {
            self.memblock.phys_free(rest.start, rest.size())?;
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
    ///
    /// | era | where |
    /// |---|---|
    /// | 4.14–6.12 | in that section if memory can be unplugged, else on the node |
    /// | 7.2 | on the node |
    ///
    /// Source: Linux 5.10–6.12 mm/sparse.c `sparse_early_usemaps_alloc_pgdat_section`; 7.2 `sparse_usage_init`.
    fn allocate_usage(&mut self, nid: Nid, bytes: u64) -> Result<PhysAddr, BootError> {
        let geometry = *self.sections.geometry();
        let cache_line = self.memblock.limits().smp_cache_bytes;
        let anywhere = Request::new(bytes, cache_line).on(Some(nid));
        let by_home = match self.memblock.era() {
            Era::V4_14 | Era::V5_10 | Era::V6_1 | Era::V6_12 => self.unplugs,
            Era::V7_2 => false,
        };
        let home = self.nodes.iter().find(|node| node.nid == nid).filter(|_| by_home);
        if let Some(node) = home {
            let start = node.range.start.align_down(geometry.section_bytes());
            let near = anywhere.from(start).up_to(UpTo(start.0 + geometry.section_bytes()));
            if let Ok(pa) = takers::allocate(self.memblock, Taker::SectionUsage, near) {
                return Ok(pa);
            }
        }
        takers::allocate(self.memblock, Taker::SectionUsage, anywhere)
    }

    /// Memory for the descriptors of `count` sections at once.
    ///
    /// | era | |
    /// |---|---|
    /// | 4.14–6.12 | one block on the node; without room each piece is asked for |
    /// | 7.2 | each piece is asked for |
    ///
    /// Source: Linux 5.10–6.12 mm/sparse.c `sparse_buffer_init`.
    fn buffer(&mut self, nid: Nid, section: u64, count: u64) -> Option<PhysRange> {
        match self.memblock.era() {
            Era::V4_14 | Era::V5_10 | Era::V6_1 | Era::V6_12 => {}
            Era::V7_2 => return None,
        }
        let bytes = section * count;
        let wish = Request::new(bytes, section).from(self.vmemmap.min).on(Some(nid));
        let start = self.memblock.alloc_exact_nid_raw(wish).ok()?;
        takers::tell(self.memblock, Taker::MemoryMap, start, bytes);
        Some(PhysRange::new(start, start + bytes))
    }

    /// Maps the descriptors of `count` sections from `first`, with memory from `buffer` while that lasts.
    fn populate(
        &mut self,
        first: SectionNr,
        count: u64,
        nid: Nid,
        buffer: &mut Option<PhysRange>,
    ) -> Result<(), BootError> {
        let geometry = *self.sections.geometry();
        let bytes = geometry.section_memmap_bytes() * count;
        let start = geometry.first_pfn(first).0 * geometry.page_bytes();
        let va = VirtAddr(self.vmemmap.frame_zero.0.wrapping_add(start));
        let range =
            VirtRange::of_size(va, bytes).ok_or_else(|| BootError::Input("vmemmap leaves the address space".into()))?;
        let (page, block) = (geometry.granule().bytes(), 1 << geometry.pmd_shift());
        if let Some(whole) = buffer.filter(|whole| self.vmemmap.blocks && whole.size() >= bytes) {
            self.map(range, whole.start, nid, true)?;
            *buffer = Some(PhysRange { start: whole.start + bytes, end: whole.end });
            return Ok(());
        }
        let mut done = 0;
        while done < bytes {
            let left = (bytes - done).min(block);
            if !(self.vmemmap.blocks && left == block && self.piece(va + done, block, nid, buffer)?) {
                for offset in (0..left).step_by(page as usize) {
                    if !self.piece(va + (done + offset), page, nid, buffer)? {
                        return Err(BootError::Input("no memory for page descriptors".into()));
                    }
                }
            }
            done += left;
        }
        Ok(())
    }

    /// Maps one leaf of `bytes`: tables that are missing first, then its memory. `false` if there is none.
    fn piece(&mut self, va: VirtAddr, bytes: u64, nid: Nid, buffer: &mut Option<PhysRange>) -> Result<bool, BootError> {
        let page = self.sections.geometry().granule().bytes();
        let level = if bytes == page { Level::Pte } else { Level::Pmd };
        let (table, own) = (self.wish(page, nid), self.wish(bytes, nid));
        let mut frames = EarlyFrames::new(self.memblock, F::shape().granule, Ask::Node(table));
        self.tables.make_table(va, level, self.vmemmap.table, &mut frames).map_err(BootError::Map)?;
        let pa = match buffer.as_mut().and_then(|rest| cut(rest, bytes)) {
            Some((skipped, pa)) => {
                if !skipped.is_empty() {
                    self.memblock.phys_free(skipped.start, skipped.size())?;
                }
                pa
            }
            None => {
                let Ok(pa) = self.memblock.alloc_try_nid_raw(own) else { return Ok(false) };
                takers::tell(self.memblock, Taker::MemoryMap, pa, bytes);
                pa
            }
        };
        self.map(VirtRange { start: va, last: va + (bytes - 1) }, pa, nid, bytes != page)?;
        Ok(true)
    }

    /// What is asked for a table or a piece of the memory map.
    ///
    /// | era | upper bound |
    /// |---|---|
    /// | 4.14–6.12 | the current limit |
    /// | 7.2 | the same, not told to the leak checker |
    ///
    /// Source: Linux 5.10–7.2 mm/sparse-vmemmap.c `__earlyonly_bootmem_alloc`.
    fn wish(&self, bytes: u64, nid: Nid) -> Request {
        let max = match self.memblock.era() {
            Era::V4_14 | Era::V5_10 | Era::V6_1 | Era::V6_12 => UpTo::ACCESSIBLE,
            Era::V7_2 => UpTo::NOLEAKTRACE,
        };
        Request::new(bytes, bytes).from(self.vmemmap.min).up_to(max).on(Some(nid))
    }

    fn map(&mut self, range: VirtRange, pa: PhysAddr, nid: Nid, blocks: bool) -> Result<(), BootError> {
        let shape = F::shape();
        let pmd = Sizes::only(shape, |leaf| !leaf.contiguous && leaf.level == Level::Pmd);
        let (sizes, attrs) = if blocks { (pmd, self.vmemmap.block) } else { (Sizes::PAGES, self.vmemmap.page) };
        let page = shape.granule.bytes();
        let wish = self.wish(page, nid);
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

/// Cuts `bytes` off the front of `rest`, at a multiple of their number; the answer is what lies before, and the start.
fn cut(rest: &mut PhysRange, bytes: u64) -> Option<(PhysRange, PhysAddr)> {
    let start = rest.start.align_up(bytes)?;
    let end = PhysAddr(start.0.checked_add(bytes)?);
    if end > rest.end {
        return None;
    }
    let skipped = PhysRange::new(rest.start, start);
    rest.start = end;
    Some((skipped, start))
}
