//! The books of a running kernel, and a hoard of all its free frames.

use std::collections::BTreeSet;

use kernmem::running::Pid;
use kernmem_base::{CpuId, Order, Pfn};
use kernmem_hugetlb::{Counts, HugePage};
use kernmem_live::Live;
use kernmem_mm::Region;
use kernmem_page_alloc::{Gfp, PageSource};
use kernmem_slab::CacheInfo;
use kernmem_vmalloc::Area;

use crate::common::{tables_of, without_marks};

const CPU: CpuId = CpuId(0);

/// What must be as it was after a failure.
#[derive(PartialEq, Debug)]
pub struct Books {
    /// Free frames, and those of tables that can be reached: a table that was made on the way to a failure stays.
    pub frames: u64,
    areas: Vec<Area>,
    objects: Vec<CacheInfo>,
    pools: Vec<(Counts, Vec<HugePage>)>,
    programs: Vec<(Pid, Vec<Region>, u64)>,
}

impl Books {
    /// The books now; the lists of CPUs are given to their zones first.
    pub fn of(live: &mut Live<'_>) -> Self {
        live.running.drain_all();
        let running = &live.running;
        assert_eq!(running.areas.audit(), Ok(()));
        let format = running.facts.format;
        let pids = running.processes.pids();
        let roots = pids.iter().filter_map(|pid| running.processes.root(*pid));
        let roots: Vec<_> = [running.kernel.roots.kernel].into_iter().chain(roots).collect();
        let tables: BTreeSet<_> = roots.iter().flat_map(|root| tables_of(format, live.memory, *root)).collect();
        let program = |pid: &Pid| {
            let regions = running.processes.regions(*pid).expect("a program").to_vec();
            let (pages, table_bytes) = running.processes.usage(*pid).expect("a program");
            let own = tables_of(format, live.memory, running.processes.root(*pid).expect("a program"));
            let own = own.difference(&tables_of(format, live.memory, roots[0])).count() as u64;
            assert_eq!(table_bytes, (own - 1) * 4096, "tables below the root of {pid:?}");
            (*pid, regions, pages)
        };
        Self {
            frames: running.kernel.pages.allocator.free_frames() + tables.len() as u64,
            areas: running.areas.areas().copied().collect(),
            objects: running.slabinfo().expect("records of slabs"),
            pools: running.pools.iter().map(|pool| (pool.counts(), pool.pages().to_vec())).collect(),
            programs: pids.iter().map(program).collect(),
        }
    }
}

/// All frames that the first CPU can have, of which some are lent back.
pub struct Hoard {
    blocks: Vec<(Pfn, Order)>,
    /// Single frames, highest first: two of the largest blocks.
    single: Vec<Pfn>,
}

impl Hoard {
    /// Takes blocks of every order, largest first, until not even a page is given; frames for movable pages too.
    pub fn take(live: &mut Live<'_>) -> Self {
        live.running.drain_all();
        without_marks(&live.running.kernel.pages.allocator);
        let mut pages = live.running.pages(CPU).expect("the first CPU");
        let max = pages.allocator.facts().max_order.0;
        let mut blocks = Vec::new();
        for gfp in [Gfp::KERNEL, Gfp::HIGHUSER_MOVABLE] {
            for order in (0..=max).rev().map(Order) {
                while let Ok(pfn) = pages.alloc(gfp, order) {
                    blocks.push((pfn, order));
                }
            }
        }
        let mut hoard = Self { blocks, single: Vec::new() };
        // Neighbours, so that their frames make blocks of every order.
        let neighbours = hoard.blocks.windows(2).position(|pair| {
            let (low, high) = (pair[0].0.min(pair[1].0), pair[0].0.max(pair[1].0));
            pair.iter().all(|(_, order)| order.0 == max) && low.0 + (1 << max) == high.0
        });
        // Where memory is in pieces, the largest two.
        let at = neighbours.unwrap_or(0);
        let behind = (at + 2).min(hoard.blocks.len());
        for (pfn, order) in hoard.blocks.drain(at..behind).collect::<Vec<_>>() {
            pages.allocator.split(pages.cpu, pfn, order).expect("a block that was taken");
            hoard.single.extend((pfn.0..pfn.0 + (1 << order.0)).map(Pfn));
        }
        hoard.single.sort_unstable_by(|a, b| b.cmp(a));
        hoard
    }

    /// Gives the lowest `frames` frames back; whether there are so many.
    pub fn lend(&mut self, live: &mut Live<'_>, frames: usize) -> bool {
        let Some(keep) = self.single.len().checked_sub(frames) else { return false };
        let lent = self.single.split_off(keep);
        let mut pages = live.running.pages(CPU).expect("the first CPU");
        lent.iter().for_each(|pfn| pages.free(*pfn, Order(0)).expect("a frame that was taken"));
        live.running.drain_all();
        true
    }

    /// Gives everything back.
    pub fn free(mut self, live: &mut Live<'_>) {
        let all = self.single.len();
        self.lend(live, all);
        let mut pages = live.running.pages(CPU).expect("the first CPU");
        self.blocks.iter().for_each(|(pfn, order)| pages.free(*pfn, *order).expect("a block that was taken"));
        live.running.drain_all();
    }
}
