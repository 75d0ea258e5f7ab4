//! What a memory model costs for given memory: descriptors, usage maps, roots, and the tables of a vmemmap.
//!
//! Here: figures. Not here: how they are printed (`kernmem-report`).
//!
//! Source: Linux 5.10–7.2 mm/sparse.c, mm/page_alloc.c `alloc_node_mem_map` (flat: whole largest blocks).

use kernmem_base::{Pfn, VirtAddr};

use crate::{Geometry, Model, VirtualMap};

/// What one memory model costs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Spending {
    /// The model.
    pub model: Model,
    /// Bytes of memory that is there.
    pub memory_bytes: u64,
    /// Bytes from the first to the last byte of memory.
    pub span_bytes: u64,
    /// Bytes of the array of root pointers.
    pub roots_array_bytes: u64,
    /// Roots in use; all of them in a static array.
    pub roots: u64,
    /// Bytes of these roots.
    pub roots_bytes: u64,
    /// Present sections.
    pub sections: u64,
    /// Bytes of usage maps; in a flat model the pageblock flags of the span, as of one zone.
    pub usage_bytes: u64,
    /// Bytes of page descriptors.
    pub memmap_bytes: u64,
    /// Tables that map a vmemmap, below the root.
    pub table_pages: u64,
    /// Bytes of these tables.
    pub table_bytes: u64,
}

impl Spending {
    /// All bytes.
    #[must_use]
    pub const fn total_bytes(&self) -> u64 {
        self.roots_array_bytes + self.roots_bytes + self.usage_bytes + self.memmap_bytes + self.table_bytes
    }

    /// What the memory of the frames `[start, end)` of `ranges`, ascending and apart, costs in the geometry's model;
    /// `vmemmap` is where a vmemmap lies, and the bits of a virtual address.
    ///
    /// Frames that no section can describe are left out in the models with sections.
    #[must_use]
    pub fn of(
        geometry: &Geometry,
        ranges: impl IntoIterator<Item = (Pfn, Pfn)>,
        vmemmap: VirtualMap,
        va_bits: u32,
    ) -> Self {
        let mut sum = Sum::new(geometry, vmemmap, va_bits);
        for (start, end) in ranges.into_iter().filter(|(start, end)| start < end) {
            sum.add(start, end);
        }
        sum.finish()
    }
}

struct Sum<'g> {
    geometry: &'g Geometry,
    tables: VmemmapTables,
    span: Option<(Pfn, Pfn)>,
    frames: u64,
    sections: u64,
    next_section: u64,
    roots: u64,
    next_root: u64,
}

impl<'g> Sum<'g> {
    fn new(geometry: &'g Geometry, vmemmap: VirtualMap, va_bits: u32) -> Self {
        let tables = VmemmapTables::new(geometry, vmemmap, va_bits);
        Self { geometry, tables, span: None, frames: 0, sections: 0, next_section: 0, roots: 0, next_root: 0 }
    }

    fn add(&mut self, start: Pfn, end: Pfn) {
        self.frames += end.0 - start.0;
        self.span = Some((self.span.map_or(start, |(first, _)| first.min(start)), end));
        let geometry = self.geometry;
        let first = geometry.section_of(start).0.max(self.next_section);
        let past = (geometry.section_of(Pfn(end.0 - 1)).0 + 1).min(geometry.nr_mem_sections());
        if first >= past {
            return;
        }
        self.sections += past - first;
        self.next_section = past;
        let per_root = geometry.sections_per_root();
        let past_root = (past - 1) / per_root + 1;
        self.roots += past_root.saturating_sub((first / per_root).max(self.next_root));
        self.next_root = past_root;
        let shift = geometry.pfn_section_shift();
        self.tables.add(Pfn(first << shift), Pfn((past << shift) - 1));
    }

    fn finish(self) -> Spending {
        let geometry = self.geometry;
        let (first, past) = self.span.unwrap_or_default();
        let page = geometry.granule().bytes();
        let is_virtual = matches!(geometry.model(), Model::Vmemmap);
        let table_pages = if is_virtual { self.tables.pages } else { 0 };
        let roots = match geometry.model() {
            Model::Flat => 0,
            Model::Static => geometry.nr_section_roots(),
            Model::Extreme | Model::Vmemmap => self.roots,
        };
        let (sections, usage_bytes, memmap_bytes) = match geometry.model() {
            Model::Flat => (0, flat_usage_bytes(geometry, first, past), flat_memmap_bytes(geometry, first, past)),
            Model::Static | Model::Extreme | Model::Vmemmap => {
                let each = (geometry.usage_bytes(), geometry.section_memmap_bytes());
                (self.sections, self.sections * each.0, self.sections * each.1)
            }
        };
        Spending {
            model: geometry.model(),
            memory_bytes: self.frames * page,
            span_bytes: (past.0 - first.0) * page,
            roots_array_bytes: geometry.roots_array_bytes(),
            roots,
            roots_bytes: roots * geometry.root_bytes(),
            sections,
            usage_bytes,
            memmap_bytes,
            table_pages,
            table_bytes: table_pages * page,
        }
    }
}

/// Bytes of a flat array for the frames `[first, past)`: whole blocks of the page allocator's largest order.
fn flat_memmap_bytes(geometry: &Geometry, first: Pfn, past: Pfn) -> u64 {
    let block = 1 << geometry.facts().largest_order;
    (past.0.next_multiple_of(block) - (first.0 & !(block - 1))) * geometry.page_bytes()
}

/// Bytes of pageblock flags for the frames `[first, past)`, as of one zone.
fn flat_usage_bytes(geometry: &Geometry, first: Pfn, past: Pfn) -> u64 {
    let order = geometry.facts().pageblock_order;
    let blocks = past.0.div_ceil(1 << order) - (first.0 >> order);
    (blocks * u64::from(geometry.pageblock_bits())).div_ceil(64) * 8
}

/// Counts the tables below the root that map page descriptors; frames must come in ascending order.
#[derive(Clone, Debug)]
pub struct VmemmapTables {
    map: VirtualMap,
    /// log2 of the bytes that one table of the lowest level covers.
    lowest: u32,
    index_bits: u32,
    va_bits: u32,
    /// One past the last counted table of each level, lowest first.
    next: [u64; 5],
    /// Tables counted so far.
    pub pages: u64,
}

impl VmemmapTables {
    /// Counts for descriptors in `map`, where `va_bits` bits of an address are translated.
    #[must_use]
    pub const fn new(geometry: &Geometry, map: VirtualMap, va_bits: u32) -> Self {
        let index_bits = geometry.granule().shift() - 3;
        let lowest = match geometry.vmemmap_leaf() {
            kernmem_base::Level::Pte => geometry.pmd_shift(),
            _ => geometry.pmd_shift() + index_bits,
        };
        Self { map, lowest, index_bits, va_bits, next: [0; 5], pages: 0 }
    }

    /// Adds the descriptors of the frames `first..=last`.
    pub fn add(&mut self, first: Pfn, last: Pfn) {
        let mask = if self.va_bits < 64 { !(!0 << self.va_bits) } else { !0 };
        let from = self.map.page(first).0 & mask;
        let to = VirtAddr(self.map.page(last).0 + (self.map.page_bytes - 1)).0 & mask;
        let mut covers = self.lowest;
        for next in &mut self.next {
            if covers >= self.va_bits {
                break; // that is the root
            }
            let (start, past) = ((from >> covers).max(*next), (to >> covers) + 1);
            self.pages += past.saturating_sub(start);
            *next = past.max(*next);
            covers += self.index_bits;
        }
    }
}
