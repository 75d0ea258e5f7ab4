//! What programs use, by zone and by node: pages of their own, and tables.
//!
//! Source: Linux 6.1 mm/rmap.c `page_add_new_anon_rmap`; mm/swap.c `lru_cache_add_inactive_or_unevictable`;
//! include/linux/mm.h `pgtable_pte_page_ctor`, `pgtable_pmd_page_ctor`.

use alloc::vec::Vec;

use kernmem::Witness;
use kernmem::running::Running;
use kernmem_arch::Entry;
use kernmem_base::{BusError, Level, PhysAddr, PhysMem, VirtAddr};

use super::super::ZoneKind;
use crate::RootKind;
use crate::entries::{EntryVisitor, Place, entries, root_ranges};

/// Pages that programs use.
pub(super) struct Programs {
    anon: Vec<(u32, ZoneKind, u64)>,
    tables: Vec<(u32, u64)>,
}

impl Programs {
    /// Counts them. A page that several programs share counts once.
    pub(super) fn of<M: PhysMem, W: Witness>(running: &Running<'_, M, W>) -> Self {
        let pids = running.processes.pids();
        if pids.is_empty() {
            return Self { anon: Vec::new(), tables: Vec::new() };
        }
        let spans: Vec<_> = running.kernel.pages.allocator.zones().map(|zone| zone.span()).collect();
        let mut anon: Vec<_> = spans.iter().map(|span| (span.nid, span.kind, 0)).collect();
        for pfn in running.processes.mapped_frames() {
            let nid = running.node_of(pfn);
            let at = spans.iter().position(|span| span.nid == nid && span.start <= pfn && pfn < span.end);
            if let Some((_, _, pages)) = at.and_then(|at| anon.get_mut(at)) {
                *pages += 1;
            }
        }
        let mut nodes: Vec<u32> = spans.iter().map(|span| span.nid).collect();
        nodes.dedup();
        let mut tables = Tables { running, by_node: nodes.into_iter().map(|nid| (nid, 0)).collect() };
        let own = root_ranges(running.facts.format, RootKind::User).into_iter().next();
        for root in pids.iter().filter_map(|pid| running.processes.root(*pid)) {
            if let Some(range) = own {
                entries(&running.kernel, root, range, &mut tables);
            }
        }
        Self { anon, tables: tables.by_node }
    }

    /// Pages of programs in a zone.
    pub(super) fn anon_in(&self, node: u32, kind: ZoneKind) -> u64 {
        self.anon.iter().filter(|(nid, own, _)| *nid == node && *own == kind).map(|(_, _, pages)| pages).sum()
    }

    /// Pages of programs on a node.
    pub(super) fn anon_on(&self, node: u32) -> u64 {
        self.anon.iter().filter(|(nid, _, _)| *nid == node).map(|(_, _, pages)| pages).sum()
    }

    /// Pages of programs.
    pub(super) fn anon(&self) -> u64 {
        self.anon.iter().map(|(_, _, pages)| pages).sum()
    }

    /// Tables of programs on a node.
    pub(super) fn tables_on(&self, node: u32) -> u64 {
        self.tables.iter().filter(|(nid, _)| *nid == node).map(|(_, tables)| tables).sum()
    }

    /// Tables of programs.
    pub(super) fn tables(&self) -> u64 {
        self.tables.iter().map(|(_, tables)| tables).sum()
    }
}

/// Counts tables of the two lowest levels: Linux counts no others.
struct Tables<'r, 'm, M, W> {
    running: &'r Running<'m, M, W>,
    by_node: Vec<(u32, u64)>,
}

impl<M: PhysMem, W: Witness> EntryVisitor for Tables<'_, '_, M, W> {
    fn table(&mut self, place: &Place, next: PhysAddr, _attrs: u64) -> bool {
        let node = self.running.node_of(next.pfn(self.running.facts.granule));
        let is_counted = matches!(place.level, Level::Pud | Level::Pmd);
        if let Some((_, tables)) = self.by_node.iter_mut().find(|(nid, _)| is_counted && *nid == node) {
            *tables += 1;
        }
        place.level != Level::Pmd
    }

    fn slot(&mut self, _place: &Place, _entry: Entry<u64>) {}

    fn unreadable(&mut self, _va: VirtAddr, _level: Level, _error: BusError) {}
}
