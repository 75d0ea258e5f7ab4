//! Random operations against a naive model of frames.
//!
//! After each step:
//! 1. a block that was given starts at a multiple of its size and overlaps no other block (the model checks it);
//! 2. frames of the free blocks, frames in CPU lists and frames given out are all frames that were handed over;
//! 3. free blocks by order, weighed with their sizes, are the free frames, or a few more under dense placement;
//! 4. nothing given out is refused when it comes back, and what was never given out is refused.
//!
//! At the end: when everything came back and the CPUs are drained, the free blocks by order are those of the beginning.
#![allow(clippy::unwrap_used, reason = "a helper of tests may panic")]

mod common;

use common::{Allocator, Cpu, ERAS, Model, PLACEMENTS, by_order, lists, three_zones};
use kernmem_base::{CpuId, Era, Order, Pfn};
use kernmem_page_alloc::{CpuPages, Facts, FreeError, Gfp, HeapStore, Placement, Zone};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Op {
    Alloc { cpu: usize, gfp: u8, order: u8 },
    Bulk { cpu: usize, gfp: u8, frames: usize },
    Exact { cpu: usize, bytes: u64 },
    Contig { cpu: usize, frames: u64 },
    Range { cpu: usize, start: u64, frames: u64 },
    Free { cpu: usize, which: usize },
    Wrong { cpu: usize, pfn: u64, order: u8 },
    Drain { cpu: usize },
}

const GFPS: [Gfp; 6] = [Gfp::KERNEL, Gfp::HIGHUSER_MOVABLE, Gfp::DMA, Gfp::DMA32, Gfp(0xcd0), Gfp(0xa20)];

fn op() -> impl Strategy<Value = Op> {
    let cpu = 0..2_usize;
    prop_oneof![
        6 => (cpu.clone(), 0..6_u8, 0..=10_u8).prop_map(|(cpu, gfp, order)| Op::Alloc { cpu, gfp, order }),
        6 => (cpu.clone(), 0..6_u8, 0..=3_u8).prop_map(|(cpu, gfp, order)| Op::Alloc { cpu, gfp, order }),
        1 => (cpu.clone(), 0..6_u8, 1..70_usize).prop_map(|(cpu, gfp, frames)| Op::Bulk { cpu, gfp, frames }),
        1 => (cpu.clone(), 1..300_000_u64).prop_map(|(cpu, bytes)| Op::Exact { cpu, bytes }),
        1 => (cpu.clone(), 0..12_u32).prop_map(|(cpu, order)| Op::Contig { cpu, frames: 1 << order }),
        1 => (cpu.clone(), 0..0x6000_u64, 1..2000_u64).prop_map(|(cpu, start, frames)| Op::Range { cpu, start, frames }),
        14 => (cpu.clone(), any::<usize>()).prop_map(|(cpu, which)| Op::Free { cpu, which }),
        1 => (cpu.clone(), 0..0x7000_u64, 0..=10_u8).prop_map(|(cpu, pfn, order)| Op::Wrong { cpu, pfn, order }),
        1 => cpu.prop_map(|cpu| Op::Drain { cpu }),
    ]
}

struct Run {
    allocator: Allocator,
    cpus: [Cpu; 2],
    model: Model,
}

impl Run {
    fn new(facts: Facts) -> Self {
        let allocator = three_zones(facts);
        lists(&allocator, 7, 20);
        let cpus = [0, 1].map(|cpu| CpuPages::on_heap(CpuId(cpu), 0, &allocator, 96));
        Self { allocator, cpus, model: Model::default() }
    }

    fn singles(&mut self, start: Pfn, frames: u64) {
        (start.0..start.0 + frames).for_each(|frame| self.model.give(Pfn(frame), 0));
    }

    fn step(&mut self, op: &Op) {
        let (allocator, cpus) = (&self.allocator, &mut self.cpus);
        match *op {
            Op::Alloc { cpu, gfp, order } => {
                if let Ok(pfn) = allocator.alloc(&mut cpus[cpu], None, GFPS[usize::from(gfp)], Order(order)) {
                    self.model.give(pfn, order);
                }
            }
            Op::Bulk { cpu, gfp, frames } => {
                let mut out = vec![Pfn(0); frames];
                let done = allocator.alloc_bulk(&mut cpus[cpu], None, GFPS[usize::from(gfp)], &mut out);
                out[..done].iter().for_each(|&pfn| self.model.give(pfn, 0));
            }
            Op::Exact { cpu, bytes } => {
                if let Ok(pfn) = allocator.alloc_exact(&mut cpus[cpu], None, Gfp::KERNEL, bytes) {
                    self.singles(pfn, bytes.div_ceil(4096));
                }
            }
            Op::Contig { cpu, frames } => {
                if let Ok(pfn) = allocator.alloc_contig_pages(&mut cpus[cpu], None, Gfp::KERNEL, frames, frames) {
                    assert_eq!(pfn.0 % frames, 0);
                    self.singles(pfn, frames);
                }
            }
            Op::Range { cpu, start, frames } => {
                let taken = allocator.alloc_contig_range(&mut cpus[cpu], Gfp::KERNEL, Pfn(start), Pfn(start + frames));
                if taken.is_ok() {
                    self.singles(Pfn(start), frames);
                }
            }
            Op::Free { cpu, which } => {
                let blocks = self.model.blocks.len();
                if blocks > 0 {
                    let (&pfn, _) = self.model.blocks.iter().nth(which % blocks).unwrap();
                    let order = self.model.take_back(Pfn(pfn));
                    assert_eq!(allocator.free(&mut cpus[cpu], Pfn(pfn), Order(order)), Ok(()));
                }
            }
            Op::Wrong { cpu, pfn, order } => self.refused(cpu, Pfn(pfn), order),
            Op::Drain { cpu } => allocator.drain(&mut cpus[cpu]),
        }
    }

    /// What is not a block of the model is refused, with the right reason.
    fn refused(&mut self, cpu: usize, pfn: Pfn, order: u8) {
        if self.allocator.facts().placement == Placement::Dense {
            return self.refused_densely(cpu, pfn, order);
        }
        if self.model.blocks.get(&pfn.0) == Some(&order) {
            return;
        }
        let expected = match (pfn.0 >= 0x6000, self.model.taken.contains_key(&pfn.0)) {
            (true, _) => FreeError::Foreign { pfn },
            (false, true) => FreeError::WrongOrder { pfn, order: Order(order) },
            (false, false) => FreeError::DoubleFree { pfn },
        };
        assert_eq!(self.allocator.free(&mut self.cpus[cpu], pfn, Order(order)), Err(expected));
    }

    /// Dense placement knows frames and no blocks: any aligned range that is somebody's may come back. What another CPU
    /// keeps is told late, so nobody keeps any here.
    fn refused_densely(&mut self, cpu: usize, pfn: Pfn, order: u8) {
        self.cpus.iter_mut().for_each(|cpu| self.allocator.drain(cpu));
        let is_taken = |pfn: &u64| self.model.taken.contains_key(pfn);
        let expected = if pfn.0 >= 0x6000 {
            FreeError::Foreign { pfn }
        } else if !pfn.0.is_multiple_of(1 << order) {
            let misaligned = FreeError::WrongOrder { pfn, order: Order(order) };
            if is_taken(&pfn.0) { misaligned } else { FreeError::DoubleFree { pfn } }
        } else {
            let free = (pfn.0..pfn.0 + (1 << order)).find(|pfn| !is_taken(pfn));
            let Some(free) = free else { return };
            FreeError::DoubleFree { pfn: Pfn(free) }
        };
        // A single frame is looked at later.
        let cpu = &mut self.cpus[cpu];
        let answer = self.allocator.free(cpu, pfn, Order(order));
        assert_eq!(answer.and_then(|()| self.allocator.check_frees(cpu)), Err(expected));
        assert_eq!(self.allocator.check_frees(cpu), Ok(()));
    }

    /// Frames of all free blocks, as they are listed.
    fn listed(&self) -> u64 {
        by_order(&self.allocator).iter().enumerate().map(|(order, blocks)| blocks << order).sum()
    }

    /// Frames of each zone that are free or in a CPU's lists.
    fn kept_by_zone(&self) -> Vec<u64> {
        let free = |zone: &Zone<HeapStore>| (0..=10).map(|order| zone.nr_free(Order(order)) << order).sum::<u64>();
        let cached = |zone: &Zone<HeapStore>| self.cpus.iter().map(|cpu| cpu.count(zone)).sum::<u64>();
        self.allocator.zones().map(|zone| free(zone) + cached(zone)).collect()
    }

    fn check(&self) {
        let (free, listed) = (self.allocator.free_frames(), self.listed());
        let cached: u64 = self.cpus.iter().map(Cpu::total).sum();
        assert_eq!(listed + cached + self.model.taken.len() as u64, self.allocator.managed());
        // Under dense placement a CPU tells of fewer than 64 frames that came back later.
        let late = match self.allocator.facts().placement {
            Placement::Linux => 0,
            Placement::Dense => 63 * self.cpus.len() as u64,
        };
        assert!(free <= listed && listed <= free + late, "{free} of {listed}");
    }

    /// Every frame is free, or in a block of the model or of a list: the allocator knows which, frame by frame.
    fn check_frames(&mut self) {
        self.cpus.iter_mut().for_each(|cpu| self.allocator.drain(cpu));
        (0..0x6000).for_each(|pfn| self.refused(0, Pfn(pfn), 10));
    }

    fn all_back(&mut self) {
        for (pfn, order) in core::mem::take(&mut self.model.blocks) {
            self.allocator.free(&mut self.cpus[1], Pfn(pfn), Order(order)).unwrap();
        }
        self.model.taken.clear();
        self.cpus.iter_mut().for_each(|cpu| self.allocator.drain(cpu));
    }
}

fn run(facts: Facts, ops: &[Op]) {
    let mut run = Run::new(facts);
    let before = by_order(&run.allocator);
    for op in ops {
        run.step(op);
        run.check();
    }
    run.check_frames();
    run.all_back();
    run.check();
    assert_eq!(by_order(&run.allocator), before, "{:?} {:?}", facts.era, facts.placement);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn everything_comes_back_to_the_beginning(ops in prop::collection::vec(op(), 1..120), era in 0..4_usize) {
        for placement in PLACEMENTS {
            run(Facts::of(ERAS[era], placement), &ops);
        }
    }

    /// Where only single frames are asked for, placement decides nothing but addresses: each call succeeds or fails in
    /// both, and as many frames of each zone are nobody's after it, free or in the CPUs' lists.
    #[test]
    fn single_frames_are_counted_alike_in_both_placements(
        ops in prop::collection::vec((any::<bool>(), 0..6_u8, any::<usize>()), 1..400),
    ) {
        let mut runs = PLACEMENTS.map(|placement| Run::new(Facts::of(Era::V6_12, placement)));
        // What the nth live request was given, in each.
        let mut live: Vec<[Pfn; 2]> = Vec::new();
        for (allocate, gfp, which) in ops {
            if allocate || live.is_empty() {
                let given = [0, 1].map(|at| {
                    let Run { allocator, cpus, .. } = &mut runs[at];
                    allocator.alloc(&mut cpus[0], None, GFPS[usize::from(gfp)], Order(0))
                });
                match given {
                    [Ok(a), Ok(b)] => live.push([a, b]),
                    [a, b] => prop_assert_eq!(a.is_ok(), b.is_ok()),
                }
            } else {
                let pair = live.swap_remove(which % live.len());
                for (Run { allocator, cpus, .. }, pfn) in runs.iter_mut().zip(pair) {
                    allocator.free(&mut cpus[0], pfn, Order(0)).unwrap();
                }
            }
            let [linux, dense] = [0, 1].map(|at: usize| runs[at].kept_by_zone());
            prop_assert_eq!(linux, dense);
        }
    }

    /// Where the same frames are taken, at the same addresses, the free blocks by order are the same: both placements keep
    /// the free set in maximal blocks.
    #[test]
    fn equal_free_sets_have_equal_blocks_in_both_placements(
        ranges in prop::collection::vec((0..0x6000_u64, 1..300_u64), 1..30),
        era in 0..4_usize,
    ) {
        let mut runs = PLACEMENTS.map(|placement| Run::new(Facts::of(ERAS[era], placement)));
        let mut live = Vec::new();
        for (start, frames) in ranges {
            let taken = [0, 1].map(|at| {
                let Run { allocator, cpus, .. } = &mut runs[at];
                allocator.alloc_contig_range(&mut cpus[0], Gfp::KERNEL, Pfn(start), Pfn(start + frames))
            });
            prop_assert_eq!(taken[0], taken[1]);
            prop_assert_eq!(by_order(&runs[0].allocator), by_order(&runs[1].allocator));
            if taken[0].is_ok() {
                live.push((start, frames));
            }
            if live.len() > 3 {
                let (start, frames) = live.swap_remove(1);
                for Run { allocator, cpus, .. } in &mut runs {
                    allocator.free_contig(&mut cpus[0], Pfn(start), frames).unwrap();
                }
                prop_assert_eq!(by_order(&runs[0].allocator), by_order(&runs[1].allocator));
            }
        }
    }
}

/// Exhaustion at every step: with n frames left, a request for more fails and loses nothing.
#[test]
fn exhaustion_loses_nothing_at_any_fill() {
    for (era, placement) in ERAS.into_iter().flat_map(|era| PLACEMENTS.map(|placement| (era, placement))) {
        let mut run = Run::new(Facts::of(era, placement));
        let before = by_order(&run.allocator);
        loop {
            let order = (run.model.blocks.len() % 11) as u8;
            let given = (0..=order).rev().find_map(|order| {
                let Run { allocator, cpus, .. } = &mut run;
                let pfn = allocator.alloc(&mut cpus[0], None, Gfp::HIGHUSER_MOVABLE, Order(order));
                pfn.ok().map(|pfn| (pfn, order))
            });
            let Some((pfn, order)) = given else { break };
            run.model.give(pfn, order);
            run.check();
        }
        assert_eq!(run.model.taken.len() as u64, run.allocator.managed(), "{era} {placement:?}: nothing is stranded");
        run.all_back();
        assert_eq!(by_order(&run.allocator), before);
    }
}

/// A run that once left two halves apart is kept whole: a claim of one pageblock of a pair.
#[test]
fn a_pair_of_pageblocks_of_two_types_merges_again() {
    let ops = [Op::Alloc { cpu: 0, gfp: 0, order: 9 }, Op::Alloc { cpu: 0, gfp: 1, order: 9 }];
    for (era, placement) in ERAS.into_iter().flat_map(|era| [Placement::Linux, Placement::Dense].map(|p| (era, p))) {
        run(Facts::of(era, placement), &ops);
    }
}
