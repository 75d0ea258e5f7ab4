//! How ranges of shadow get their memory: tables and pages from the boot allocator, one request each.
//!
//! # Invariants
//! 1. Pages are taken in the order of addresses, a table right before its first page or table.
//! 2. The first page of a range is taken whether or not something is mapped there; behind it, below the root, a table ends
//!    the work in it at the first entry that is in use. So two banks that share a page of shadow leave one page unused.
//!
//! Source: Linux 5.10–7.2 arch/arm64/mm/kasan_init.c `kasan_pgd_populate`, `kasan_pte_populate`, `clear_pgds`,
//! `clear_shadow`.

use alloc::vec::Vec;

use kernmem_arch::arm64::{Arm64Format, prot};
use kernmem_arch::kasan::ShadowMap;
use kernmem_arch::{Born, Bound, Entry, EntryFormat, Reason};
use kernmem_base::{Granule, Level, PhysAddr, PhysMem, PhysRange, VirtAddr, VirtRange};
use kernmem_memblock::{Memblock, Nid, RegionArray, Request, UpTo};
use kernmem_pgtable::{Sizes, Tables};

use crate::frames::Ask;
use crate::kasan::{ZeroMap, ZeroShadow, not_encodable, parts};
use crate::takers::{self, Taker};
use crate::{Area, BootError, EarlyFrames, Mapped, Witness, numa};

/// The shadow on its way to what stays.
pub(super) struct Shadow<'b, 'm, F: EntryFormat, M, A, W> {
    pub tables: &'b mut Tables<'m, F, M>,
    pub memblock: &'b mut Memblock<A, W>,
    pub map: ShadowMap,
    pub zero: ZeroShadow,
    pub granule: Granule,
    /// Attributes of a page of shadow.
    pub page: F::Attrs,
    /// Attributes of the shared page.
    pub read_only: F::Attrs,
    /// Attributes of entries that link tables towards the shared page.
    pub link: F::Attrs,
    /// Memory below is left free if possible.
    pub from: PhysAddr,
    /// Why mappings are not global, if they are not.
    pub not_global: Option<Reason>,
}

/// A piece of shadow that gets memory of one node; `first` is what it got first.
struct Piece {
    nid: Nid,
    first: Option<PhysAddr>,
}

impl<F: Arm64Format, M: PhysMem, A: RegionArray, W: Witness> Shadow<'_, '_, F, M, A, W> {
    /// Clears the entries of the root that the shadow fills, and below one that it shares what is the shadow's.
    ///
    /// Source: Linux 5.10, 6.1 arch/arm64/mm/kasan_init.c `clear_pgds`; 6.12, 7.2 `clear_shadow`.
    pub fn clear(&mut self, range: VirtRange) -> Result<(), BootError> {
        let root = self.tables.root();
        let shape = &F::shape().levels[0];
        for part in parts(shape, range) {
            let index = shape.index(part.start);
            if part.size() == shape.bytes() {
                self.tables.set_entry(root, 0, index, 0)?;
                continue;
            }
            let raw = self.tables.mem().entry::<F::Slot>(root, index)?;
            let Entry::Table { next, .. } = F::decode(raw, shape.level) else { continue };
            let below = &F::shape().levels[1];
            for part in parts(below, part) {
                self.tables.set_entry(next, 1, below.index(part.start), 0)?;
            }
        }
        Ok(())
    }

    fn wish(&self, nid: Option<Nid>) -> Request {
        let page = self.granule.bytes();
        Request::new(page, page).from(self.from).on(nid)
    }

    /// Gives the shadow of `range`, whole pages of it, memory of its own; `memory` lies behind the range.
    pub fn populate(&mut self, range: VirtRange, memory: PhysRange) -> Result<(), BootError> {
        let shadow = self.map.pages(range, self.granule);
        let mut piece = Piece { nid: numa::early_nid(self.memblock, memory.start), first: None };
        self.fill(self.tables.root(), 0, shadow, &mut piece)?;
        let Some(pa) = piece.first else { return Ok(()) };
        let edge = |at| Reason::Edge { bound: Bound::Shadow, at };
        self.tell(shadow, pa, (edge(memory.start), edge(memory.end)), Reason::ShadowPages, Born::Shadow);
        Ok(())
    }

    /// Maps `range`, which one table covers, page by page: its first entry in any case, and so on as long as entries are
    /// empty. Below the root a part ends where something is mapped already.
    fn fill(&mut self, table: PhysAddr, depth: usize, range: VirtRange, piece: &mut Piece) -> Result<(), BootError> {
        let shape = &F::shape().levels[depth];
        for part in parts(shape, range) {
            let index = shape.index(part.start);
            let raw = self.tables.mem().entry::<F::Slot>(table, index)?;
            let entry = F::decode(raw, shape.level);
            if depth > 0 && part.start != range.start && !matches!(entry, Entry::Absent { sw: 0 }) {
                return Ok(());
            }
            if depth + 1 == F::shape().levels.len() {
                let pa = self.page(piece)?;
                let leaf = Entry::Leaf { base: pa, attrs: self.page };
                let raw = F::encode(leaf, shape.level).map_err(not_encodable)?;
                self.tables.set_entry(table, depth, index, raw)?;
                continue;
            }
            let next = match entry {
                Entry::Table { next, .. } => next,
                _ => self.new_table(part.start, F::shape().levels[depth + 1].level, piece.nid)?,
            };
            self.fill(next, depth + 1, part, piece)?;
        }
        Ok(())
    }

    /// A page of shadow, filled with what stands for memory that is accessible.
    fn page(&mut self, piece: &mut Piece) -> Result<PhysAddr, BootError> {
        let wish = self.wish(Some(piece.nid)).up_to(UpTo::NOLEAKTRACE);
        let pa = self.memblock.alloc_try_nid_raw(wish)?;
        takers::tell(self.memblock, Taker::KasanShadow, pa, wish.size);
        piece.first.get_or_insert(pa);
        Ok(pa)
    }

    fn new_table(&mut self, va: VirtAddr, level: Level, nid: Nid) -> Result<PhysAddr, BootError> {
        let wish = self.wish(Some(nid)).up_to(UpTo::NOLEAKTRACE);
        let mut frames = EarlyFrames::new(self.memblock, F::shape().granule, Ask::Plain(wish));
        Ok(self.tables.make_table(va, level, prot::TABLE_STATIC, &mut frames)?)
    }

    /// Shows the shared page in `range`.
    pub fn show_zeroes(&mut self, range: VirtRange) -> Result<(), BootError> {
        let wish = self.wish(None);
        let (tables, memblock) = (&mut *self.tables, &mut *self.memblock);
        ZeroMap { tables, memblock, shadow: self.zero, page: self.read_only, link: self.link, wish }.map(range)?;
        let shared = Reason::SharedShadow;
        self.tell(range, self.zero.page, (shared, shared), shared, Born::SharedShadow);
        Ok(())
    }

    /// Nothing writes the shared page from now on.
    pub fn protect_zeroes(&mut self) -> Result<(), BootError> {
        let Some(pages) = self.zero.table(Level::Pte) else { return Ok(()) };
        let shape = F::shape().level(Level::Pte);
        let leaf = Entry::Leaf { base: self.zero.page, attrs: self.read_only };
        let raw = F::encode(leaf, Level::Pte).map_err(not_encodable)?;
        Ok(self.tables.mem().fill::<F::Slot>(pages, 0, shape.entries(), raw, 0)?)
    }

    fn tell(&mut self, range: VirtRange, pa: PhysAddr, edges: (Reason, Reason), limit: Reason, born: Born) {
        let mut rights = Vec::from([Reason::Born(born)]);
        rights.extend(self.not_global);
        self.memblock.observer().mapped(&Mapped {
            range,
            pa,
            area: Area::KasanShadow,
            start: edges.0,
            end: edges.1,
            limits: &[(limit, Sizes::PAGES)],
            rights: &rights,
        });
    }
}
