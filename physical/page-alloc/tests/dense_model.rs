//! The dense frame field and the CPUs' own frames against a naive set of frames.
//!
//! After each step on the field alone:
//! 1. a frame is free in the field exactly if it is in the set, and the level is the size of the set;
//! 2. the free blocks by order and type are those that a naive cut of the set gives, so they depend on nothing else;
//! 3. a request is refused exactly if the set has no such block.
//!
//! With CPUs' own frames in play: what is taken was nobody's, a wrong give is told, frames in the field, with the CPUs and
//! in hands are all frames; and when everything came back, the field is as in the beginning.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, reason = "a test stops where an answer is missing")]

use core::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use kernmem_base::Pfn;
use kernmem_base::sync::atomic::{AtomicU16, AtomicU64};
use kernmem_page_alloc::dense::mem::{HeapMem, Line, Mem};
use kernmem_page_alloc::dense::{At, Counts, CpuFrames, CpuSet, Doubled, Field, Kinds, Shape, Want, Word};
use kernmem_sparse::MigrateType;
use proptest::prelude::*;

/// Four shapes: blocks as large as a pageblock, smaller ones, small pageblocks, and edges that lie across words.
const SHAPES: [Shape; 4] = [
    Shape { start: Pfn(0), end: Pfn(0x1000), max_order: 10, pageblock_order: 9 },
    Shape { start: Pfn(0x400), end: Pfn(0x1400), max_order: 11, pageblock_order: 10 },
    Shape { start: Pfn(0x40), end: Pfn(0x500), max_order: 8, pageblock_order: 6 },
    Shape { start: Pfn(0x7f25), end: Pfn(0x8b07), max_order: 10, pageblock_order: 7 },
];

/// The type of each pageblock of a zone.
struct Types {
    order: u8,
    types: RefCell<Vec<MigrateType>>,
}

impl Types {
    fn new(shape: &Shape) -> Self {
        let blocks = (shape.end.0 >> shape.pageblock_order) + 1;
        let mixed = |nth: u64| if nth.is_multiple_of(3) { MigrateType::Unmovable } else { MigrateType::Movable };
        Self { order: shape.pageblock_order, types: RefCell::new((0..blocks).map(mixed).collect()) }
    }
}

impl Kinds for Types {
    fn kind(&self, pfn: Pfn) -> MigrateType {
        self.types.borrow()[(pfn.0 >> self.order) as usize]
    }

    fn alike(&self, start: Pfn, end: Pfn) -> Pfn {
        let next = |pfn: Pfn| Pfn(((pfn.0 >> self.order) + 1) << self.order);
        let mut stop = next(start);
        while stop < end && self.kind(stop) == self.kind(start) {
            stop = next(stop);
        }
        stop.min(end)
    }

    fn is_plain(&self) -> bool {
        self.types.borrow().iter().all(|kind| *kind < MigrateType::HighAtomic)
    }
}

/// The set, cut the slow way.
struct Naive<'t> {
    shape: Shape,
    types: &'t Types,
    free: BTreeSet<u64>,
}

impl Naive<'_> {
    fn may_join(a: MigrateType, b: MigrateType) -> bool {
        let plain = [MigrateType::Unmovable, MigrateType::Movable, MigrateType::Reclaimable];
        a == b || plain.contains(&a) && plain.contains(&b)
    }

    /// Whether `2^order` frames from `pfn` on make one free block, or a part of one.
    fn is_block(&self, pfn: u64, order: u8) -> bool {
        let kind = self.types.kind(Pfn(pfn));
        (pfn..pfn + (1 << order))
            .all(|frame| self.free.contains(&frame) && Self::may_join(kind, self.types.kind(Pfn(frame))))
    }

    /// The cut: at each frame the largest block that begins there.
    fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        let mut at = self.shape.start.0;
        while at < self.shape.end.0 {
            let orders = (0..=self.shape.max_order).rev();
            let order = orders.filter(|order| at.is_multiple_of(1 << order)).find(|&order| self.is_block(at, order));
            if let Some(order) = order {
                counts[usize::from(order)][self.types.kind(Pfn(at)) as usize] += 1;
            }
            at += order.map_or(1, |order| 1 << order);
        }
        counts
    }

    fn has(&self, kind: MigrateType, order: u8) -> bool {
        let starts = self.free.iter().filter(|pfn| pfn.is_multiple_of(1 << order));
        order <= self.shape.max_order && { starts }
            .any(|&pfn| self.types.kind(Pfn(pfn)) == kind && self.is_block(pfn, order))
    }

    fn take(&mut self, start: u64, frames: u64) {
        (start..start + frames).for_each(|pfn| assert!(self.free.remove(&pfn), "frame {pfn:#x} was not free"));
    }
}

#[derive(Clone, Debug)]
enum Step {
    Words { kind: usize, want: u32 },
    WordWith { kind: usize, order: u8 },
    Run { kind: usize, order: u8 },
    Range { start: u64, frames: u64 },
    Give { which: usize },
    GivePart { which: usize, part: u64 },
    GiveTwice { pfn: u64, order: u8 },
    Retype { pfn: u64, kind: usize },
}

/// The types that blocks may have; requests ask for the first four.
const TYPES: [MigrateType; 6] = MigrateType::ALL;

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..4_usize, 1..200_u32).prop_map(|(kind, want)| Step::Words { kind, want }),
        3 => (0..4_usize, 1..=5_u8).prop_map(|(kind, order)| Step::WordWith { kind, order }),
        8 => (0..4_usize, 0..=11_u8).prop_map(|(kind, order)| Step::Run { kind, order }),
        8 => (0..2_usize, 0..=4_u8).prop_map(|(kind, order)| Step::Run { kind, order }),
        2 => (0..0x1000_u64, 1..900_u64).prop_map(|(start, frames)| Step::Range { start, frames }),
        12 => any::<usize>().prop_map(|which| Step::Give { which }),
        6 => (any::<usize>(), any::<u64>()).prop_map(|(which, part)| Step::GivePart { which, part }),
        1 => (0..0x1000_u64, 0..=10_u8).prop_map(|(pfn, order)| Step::GiveTwice { pfn, order }),
        2 => (0..0x1000_u64, 0..6_usize).prop_map(|(pfn, kind)| Step::Retype { pfn, kind }),
    ]
}

/// The field beside the set; `held` are ranges in hands.
struct Pair<'t> {
    field: Field<HeapMem>,
    types: &'t Types,
    naive: Naive<'t>,
    held: Vec<(u64, u64)>,
}

impl<'t> Pair<'t> {
    fn new(shape: Shape, types: &'t Types) -> Self {
        let field = Field::new(HeapMem::new(&shape), shape).unwrap();
        let middle = Pfn(u64::midpoint(shape.start.0, shape.end.0));
        field.add_free(types, shape.start, middle, false).unwrap();
        field.add_free(types, middle, shape.end, true).unwrap();
        let naive = Naive { shape, types, free: (shape.start.0..shape.end.0).collect() };
        Self { field, types, naive, held: Vec::new() }
    }

    fn hold(&mut self, start: u64, frames: u64) {
        self.naive.take(start, frames);
        self.held.push((start, frames));
    }

    fn hold_word(&mut self, word: Word) {
        let bits = (0..64).filter(|bit| word.mask >> bit & 1 != 0);
        bits.for_each(|bit| self.hold(word.number * 64 + bit, 1));
    }

    fn give(&mut self, start: u64, frames: u64) {
        self.field.give_range(self.types, Pfn(start), Pfn(start + frames)).unwrap();
        self.naive.free.extend(start..start + frames);
    }

    fn step(&mut self, step: &Step) {
        let shape = self.naive.shape;
        let inside = |pfn: u64| shape.start.0 + pfn % (shape.end.0 - shape.start.0);
        match *step {
            Step::Words { kind, want } => {
                let mut words = Vec::new();
                let taken = self.field.take_words(self.types, TYPES[kind], want, &mut |word| words.push(word));
                assert_eq!(words.iter().map(|word| word.frames()).sum::<u32>(), taken);
                assert!(taken < want + 64);
                let own = |word: &Word| self.types.kind(word.first()) == TYPES[kind];
                assert!(words.iter().all(own));
                words.into_iter().for_each(|word| self.hold_word(word));
                assert!(taken >= want || !self.naive.has(TYPES[kind], 0));
            }
            Step::WordWith { kind, order } => {
                let had = self.naive.has(TYPES[kind], order);
                let word = self.field.take_word_with(self.types, TYPES[kind], order);
                assert_eq!(word.is_some(), had);
                word.into_iter().for_each(|word| self.hold_word(word));
            }
            Step::Run { kind, order } => {
                let had = self.naive.has(TYPES[kind], order);
                assert_eq!(self.field.has(self.types, TYPES[kind], order), had);
                let run = self.field.take_run(self.types, TYPES[kind], order);
                assert_eq!(run.is_some(), had, "{kind} {order}");
                if let Some(pfn) = run {
                    assert!(pfn.0.is_multiple_of(1 << order) && self.types.kind(pfn) == TYPES[kind]);
                    self.hold(pfn.0, 1 << order);
                }
            }
            Step::Range { start, frames } => {
                let (start, end) = (inside(start), (inside(start) + frames).min(shape.end.0));
                let busy = (start..end).find(|pfn| !self.naive.free.contains(pfn));
                let taken = self.field.take_range(self.types, Pfn(start), Pfn(end));
                assert_eq!(taken, busy.map_or(Ok(()), |pfn| Err(Pfn(pfn))));
                if taken.is_ok() {
                    self.hold(start, end - start);
                }
            }
            Step::Give { which } if !self.held.is_empty() => {
                let (start, frames) = self.held.swap_remove(which % self.held.len());
                self.give(start, frames);
            }
            Step::GivePart { which, part } if !self.held.is_empty() => {
                let (start, frames) = self.held.swap_remove(which % self.held.len());
                let part = part % frames;
                self.give(start + part, 1);
                let rest = [(start, part), (start + part + 1, frames - part - 1)];
                self.held.extend(rest.into_iter().filter(|(_, frames)| *frames > 0));
            }
            Step::GiveTwice { pfn, order } => {
                let pfn = inside(pfn) >> order << order;
                let wrong = |frame: &u64| self.naive.free.contains(frame) || !shape.contains(Pfn(*frame));
                if let Some(first) = (pfn..pfn + (1 << order)).find(wrong) {
                    let answer = self.field.give_run(self.types, Pfn(pfn), order);
                    assert_eq!(answer, Err(Doubled { pfn: Pfn(first) }));
                }
            }
            Step::Retype { pfn, kind } => {
                let pfn = Pfn(inside(pfn));
                let from = self.types.kind(pfn);
                self.types.types.borrow_mut()[(pfn.0 >> shape.pageblock_order) as usize] = TYPES[kind];
                self.field.retyped(self.types, pfn, from);
            }
            Step::Give { .. } | Step::GivePart { .. } => {}
        }
    }

    fn check(&self) {
        let shape = self.naive.shape;
        let outside = [shape.start.0.saturating_sub(1), shape.end.0, shape.end.0 + 700];
        for pfn in (shape.start.0..shape.end.0).chain(outside) {
            assert_eq!(self.field.is_free(Pfn(pfn)), self.naive.free.contains(&pfn), "frame {pfn:#x}");
        }
        assert_eq!(self.field.level(), self.naive.free.len() as u64);
        let counts = self.naive.counts();
        assert_eq!(self.field.counts(self.types), counts);
        for kind in TYPES {
            let frames =
                (0..=shape.max_order).map(|order| counts[usize::from(order)][kind as usize] << order).sum::<u64>();
            let own = self.naive.free.iter().filter(|pfn| self.types.kind(Pfn(**pfn)) == kind).count() as u64;
            assert_eq!(self.field.free_of(self.types, kind), own);
            assert!(shape.max_order > shape.pageblock_order || frames == own);
        }
    }

    /// The block of each free frame is the one that the cut has there.
    fn check_blocks(&self) {
        for &pfn in self.naive.free.iter().step_by(7) {
            let orders = 0..=self.naive.shape.max_order;
            let fits = |order: &u8| {
                let head = pfn >> order << order;
                self.naive.shape.contains(Pfn(head)) && self.naive.is_block(head, *order)
            };
            let order = orders.take_while(fits).last().unwrap();
            assert_eq!(self.field.block_of(self.types, Pfn(pfn)), Some((Pfn(pfn >> order << order), order)));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_field_is_the_set(shape in 0..4_usize, steps in prop::collection::vec(step(), 1..60)) {
        let types = Types::new(&SHAPES[shape]);
        let mut pair = Pair::new(SHAPES[shape], &types);
        pair.check();
        for step in &steps {
            pair.step(step);
            pair.check();
        }
        pair.check_blocks();
        for (start, frames) in core::mem::take(&mut pair.held) {
            pair.give(start, frames);
        }
        pair.check();
    }
}

/// What two CPUs do over two zones.
#[derive(Clone, Debug)]
enum Act {
    Alloc { cpu: usize, zone: usize, kind: usize, other: usize, order: u8 },
    Bulk { cpu: usize, zone: usize, frames: usize },
    Free { cpu: usize, which: usize },
    FreeParts { cpu: usize, which: usize },
    FreeBulk { cpu: usize, most: usize },
    FreeTwice { cpu: usize, zone: usize, pfn: u64, order: u8 },
    Drain { cpu: usize, zone: usize },
    Limit { cpu: usize, zone: usize, frames: u32 },
}

fn act() -> impl Strategy<Value = Act> {
    let (cpu, zone) = (0..2_usize, 0..2_usize);
    prop_oneof![
        20 => (cpu.clone(), zone.clone(), 0..3_usize, 0..3_usize, prop_oneof![4 => Just(0_u8), 2 => 1..=5_u8, 1 => 6..=10_u8])
            .prop_map(|(cpu, zone, kind, other, order)| Act::Alloc { cpu, zone, kind, other, order }),
        2 => (cpu.clone(), zone.clone(), 1..1200_usize).prop_map(|(cpu, zone, frames)| Act::Bulk { cpu, zone, frames }),
        20 => (cpu.clone(), any::<usize>()).prop_map(|(cpu, which)| Act::Free { cpu, which }),
        3 => (cpu.clone(), any::<usize>()).prop_map(|(cpu, which)| Act::FreeParts { cpu, which }),
        1 => (cpu.clone(), 1..600_usize).prop_map(|(cpu, most)| Act::FreeBulk { cpu, most }),
        4 => (cpu.clone(), zone.clone(), any::<u64>(), 0..=10_u8)
            .prop_map(|(cpu, zone, pfn, order)| Act::FreeTwice { cpu, zone, pfn, order }),
        1 => (cpu.clone(), zone.clone()).prop_map(|(cpu, zone)| Act::Drain { cpu, zone }),
        1 => (cpu, zone, 0..300_u32).prop_map(|(cpu, zone, frames)| Act::Limit { cpu, zone, frames }),
    ]
}

/// Two zones that meet within a word.
const ZONES: [Shape; 2] = [
    Shape { start: Pfn(0x10), end: Pfn(0x829), max_order: 10, pageblock_order: 9 },
    Shape { start: Pfn(0x829), end: Pfn(0x1400), max_order: 10, pageblock_order: 9 },
];

type Cpu = CpuFrames<Vec<CpuSet>>;

/// What blocks of a large field are like: as they were handed over, lazily or not, or in use, or partly so.
#[derive(Clone, Copy, Debug)]
enum Like {
    Lazy,
    Written,
    InUse,
    Part(u64),
}

fn like() -> impl Strategy<Value = Like> {
    prop_oneof![Just(Like::Lazy), Just(Like::Written), Just(Like::InUse), any::<u64>().prop_map(Like::Part)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    /// The census, which counts whole blocks of one type many at a time, against the cut frame by frame.
    #[test]
    fn a_census_of_many_blocks_is_the_cut(
        start in 0..0x1200_u64,
        orders in prop_oneof![Just((10, 9)), Just((9, 9)), Just((11, 9)), Just((8, 7))],
        types in prop::collection::vec((1..150_usize, 0..6_usize), 3),
        runs in prop::collection::vec((1..150_u64, like()), 4),
    ) {
        let (max_order, pageblock_order) = orders;
        let order = pageblock_order.min(9);
        let mut kinds: Vec<MigrateType> = types.iter().flat_map(|&(len, kind)| vec![TYPES[kind]; len]).collect();
        kinds.resize(1000, MigrateType::Movable);
        let types = Types { order: pageblock_order, types: RefCell::new(kinds) };
        let frames: u64 = runs.iter().map(|(len, _)| len << order).sum();
        let shape = Shape { start: Pfn(start), end: Pfn(start + frames), max_order, pageblock_order };
        let field = Field::new(HeapMem::new(&shape), shape).unwrap();
        let mut naive = Naive { shape, types: &types, free: BTreeSet::new() };
        let mut at = start;
        for (len, like) in runs {
            let end = at + (len << order);
            let taken: Vec<u64> = match like {
                Like::Lazy | Like::Written => Vec::new(),
                Like::InUse => (at..end).collect(),
                Like::Part(bits) => (at..end).filter(|pfn| bits >> (pfn / 8 % 64) & 1 != 0 && pfn % 64 < 40).collect(),
            };
            field.add_free(&types, Pfn(at), Pfn(end), matches!(like, Like::Written)).unwrap();
            naive.free.extend(at..end);
            for pfn in taken {
                field.take_range(&types, Pfn(pfn), Pfn(pfn + 1)).unwrap();
                naive.free.remove(&pfn);
            }
            at = end;
        }
        let counts = naive.counts();
        prop_assert_eq!(field.counts(&types), counts);
        for kind in TYPES {
            let own = (0..=max_order).map(|order| counts[usize::from(order)][kind as usize] << order).sum::<u64>();
            let joined = naive.free.iter().filter(|pfn| types.kind(Pfn(**pfn)) == kind).count() as u64;
            prop_assert_eq!(field.free_of(&types, kind), joined);
            prop_assert!(own == joined || max_order > pageblock_order);
        }
    }
}

struct Machine<'t> {
    fields: [Field<HeapMem>; 2],
    types: &'t Types,
    cpus: [Cpu; 2],
    held: Vec<(u64, u8)>,
    taken: BTreeSet<u64>,
}

fn zone_of(pfn: u64) -> usize {
    usize::from(pfn >= ZONES[1].start.0)
}

impl<'t> Machine<'t> {
    fn new(types: &'t Types) -> Self {
        let fields = ZONES.map(|shape| {
            let field = Field::new(HeapMem::new(&shape), shape).unwrap();
            field.add_free(types, shape.start, shape.end, false).unwrap();
            field
        });
        let cpus = [0; 2].map(|_| CpuFrames::new(vec![CpuSet::default(); 2]));
        Self { fields, types, cpus, held: Vec::new(), taken: BTreeSet::new() }
    }

    /// A CPU, and a zone for its calls.
    fn call(&mut self, cpu: usize, zone: usize) -> (&mut Cpu, At<'_, HeapMem, Types>) {
        (&mut self.cpus[cpu], At { zone, field: &self.fields[zone], kinds: self.types })
    }

    fn hold(&mut self, pfn: u64, order: u8) {
        for frame in pfn..pfn + (1 << order) {
            assert!(self.taken.insert(frame), "frame {frame:#x} is in somebody's hands");
        }
        self.held.push((pfn, order));
    }

    fn free(&mut self, cpu: usize, pfn: u64, order: u8) {
        (pfn..pfn + (1 << order)).for_each(|frame| assert!(self.taken.remove(&frame)));
        let (cpu, at) = self.call(cpu, zone_of(pfn));
        let hot = cpu.free_hot(Pfn(pfn), order);
        hot.unwrap_or_else(|| cpu.free(at, Pfn(pfn), order)).unwrap();
    }

    fn act(&mut self, act: &Act) {
        match *act {
            Act::Alloc { cpu, zone, kind, other, order } => {
                let key = (zone * 3 + kind) as u64;
                let (cpu, at) = self.call(cpu, zone);
                let want = |kind| Want { key, column: TYPES[key as usize % 3], kind, order };
                let pfn = cpu.alloc_hot(key, order).or_else(|| cpu.alloc(at, want(TYPES[kind])));
                let pfn = pfn.or_else(|| cpu.alloc(at, want(TYPES[other])));
                if let Some(pfn) = pfn {
                    assert!(pfn.0.is_multiple_of(1 << order) && zone_of(pfn.0) == zone);
                    self.hold(pfn.0, order);
                }
            }
            Act::Bulk { cpu, zone, frames } => {
                let mut out = vec![Pfn(0); frames];
                let (cpu, at) = self.call(cpu, zone);
                let want = Want { key: 9, column: MigrateType::Movable, kind: MigrateType::Movable, order: 0 };
                let came = cpu.alloc_bulk(at, want, &mut out);
                out[..came].iter().for_each(|pfn| self.hold(pfn.0, 0));
            }
            Act::Free { cpu, which } if !self.held.is_empty() => {
                let (pfn, order) = self.held.swap_remove(which % self.held.len());
                self.free(cpu, pfn, order);
            }
            Act::FreeParts { cpu, which } if !self.held.is_empty() => {
                let (pfn, order) = self.held.swap_remove(which % self.held.len());
                (0..1 << order).rev().for_each(|nth| self.free(cpu, pfn + nth, 0));
            }
            Act::FreeBulk { cpu, most } => {
                let single: Vec<u64> = self.held.iter().filter(|(_, order)| *order == 0).map(|(pfn, _)| *pfn).collect();
                let own: Vec<Pfn> = single.into_iter().filter(|pfn| zone_of(*pfn) == 0).take(most).map(Pfn).collect();
                self.held.retain(|(pfn, order)| *order != 0 || !own.contains(&Pfn(*pfn)));
                own.iter().for_each(|pfn| assert!(self.taken.remove(&pfn.0)));
                let (cpu, at) = self.call(cpu, 0);
                cpu.free_bulk(at, &own).unwrap();
            }
            Act::FreeTwice { cpu, zone, pfn, order } => {
                let shape = ZONES[zone];
                let pfn = (shape.start.0 + pfn % (shape.end.0 - shape.start.0)) >> order << order;
                let wrong = |frame: &u64| !self.taken.contains(frame);
                let Some(first) = (pfn..pfn + (1 << order)).find(wrong) else { return };
                // What another CPU keeps is not seen.
                if zone_of(pfn) != zone || self.cpus[1 - cpu].count(zone) != 0 {
                    return;
                }
                let (cpu, at) = self.call(cpu, zone);
                let answer = cpu.free_hot(Pfn(pfn), order).unwrap_or_else(|| cpu.free(at, Pfn(pfn), order));
                // Told at once, or when what came back is looked through.
                let answer = answer.and_then(|()| cpu.drain(at));
                let told = answer.map_err(|doubled| (pfn..pfn + (1 << order)).contains(&doubled.pfn.0));
                assert_eq!(told, Err(true), "order {order} at {pfn:#x}, and frame {first:#x} is free");
                assert_eq!(cpu.free_bulk(at, &[Pfn(first)]), Err(Doubled { pfn: Pfn(first) }));
            }
            Act::Drain { cpu, zone } => {
                let (cpu, at) = self.call(cpu, zone);
                cpu.drain(at).unwrap();
                assert_eq!(cpu.count(zone), 0);
            }
            Act::Limit { cpu, zone, frames } => self.cpus[cpu].set_mut(zone).unwrap().set_limit(frames),
            Act::Free { .. } | Act::FreeParts { .. } => {}
        }
    }

    fn check(&self) {
        for (zone, field) in self.fields.iter().enumerate() {
            let kept: u64 = self.cpus.iter().map(|cpu| cpu.count(zone)).sum();
            let held = self.taken.iter().filter(|pfn| zone_of(**pfn) == zone).count() as u64;
            assert_eq!(field.level() + kept + held, ZONES[zone].end.0 - ZONES[zone].start.0, "zone {zone}");
        }
    }

    fn end(&mut self) {
        let held = core::mem::take(&mut self.held);
        held.into_iter().enumerate().for_each(|(nth, (pfn, order))| self.free(nth % 2, pfn, order));
        for (zone, shape) in ZONES.into_iter().enumerate() {
            let fresh = Naive { shape, types: self.types, free: (shape.start.0..shape.end.0).collect() };
            for cpu in 0..2 {
                self.act(&Act::Drain { cpu, zone });
            }
            assert_eq!(self.fields[zone].counts(self.types), fresh.counts());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn cpus_lose_nothing_and_give_nothing_twice(acts in prop::collection::vec(act(), 1..300)) {
        let types = Types { order: 9, types: RefCell::new((0..11).map(|nth| TYPES[nth % 3]).collect()) };
        let mut machine = Machine::new(&types);
        for act in &acts {
            machine.act(act);
            machine.check();
        }
        machine.end();
    }
}

/// Memory that opens no more chunks after some.
struct Scarce {
    mem: HeapMem,
    left: Cell<u32>,
}

impl Mem for Scarce {
    fn chunk(&self, chunk: usize) -> Option<&[Line]> {
        self.mem.chunk(chunk)
    }

    fn entries(&self) -> &[AtomicU16] {
        self.mem.entries()
    }

    fn index(&self, word: usize) -> Option<&AtomicU64> {
        self.mem.index(word)
    }

    fn open(&self, chunk: usize) -> bool {
        let left = self.left.get();
        self.left.set(left.saturating_sub(1));
        left > 0 && self.mem.open(chunk)
    }
}

/// With memory for the bits of `n` chunks only, requests are served from these, and no frame is lost; with the memory
/// there, all is served.
#[test]
fn a_lender_that_runs_dry_loses_no_frame() {
    const CHUNK: u64 = 1 << 15;
    let kind = MigrateType::Movable;
    for opened in 0..4_u32 {
        let shape = Shape { start: Pfn(0), end: Pfn(3 * CHUNK), max_order: 10, pageblock_order: 9 };
        let mem = Scarce { mem: HeapMem::new(&shape), left: Cell::new(opened) };
        let field = Field::new(mem, shape).unwrap();
        field.add_free(&kind, Pfn(0), Pfn(3 * CHUNK), false).unwrap();
        let at = At { zone: 0, field: &field, kinds: &kind };
        let mut cpu = CpuFrames::new(vec![CpuSet::default()]);
        let want = |order| Want { key: 0, column: kind, kind, order };
        let mut held = BTreeSet::new();
        let large: Vec<Pfn> = core::iter::from_fn(|| cpu.alloc(at, want(10))).collect();
        assert_eq!(large.len() as u64, u64::from(opened.min(3)) * (CHUNK >> 10), "order 10, {opened} chunks");
        large.iter().for_each(|&pfn| cpu.free(at, pfn, 10).unwrap());
        while let Some(pfn) = cpu.alloc_hot(0, 0).or_else(|| cpu.alloc(at, want(0))) {
            assert!(held.insert(pfn.0));
        }
        assert_eq!(held.len() as u64, u64::from(opened.min(3)) * CHUNK, "{opened} chunks");
        assert_eq!((cpu.alloc(at, want(3)), cpu.alloc(at, want(9))), (None, None));
        assert_eq!(field.take_range(&kind, Pfn(0), Pfn(3 * CHUNK)), Err(Pfn(0)));
        assert_eq!(field.level() + held.len() as u64, 3 * CHUNK);
        field.mem().left.set(u32::MAX);
        while let Some(pfn) = cpu.alloc_hot(0, 0).or_else(|| cpu.alloc(at, want(0))) {
            assert!(held.insert(pfn.0));
        }
        assert_eq!((held.len() as u64, field.level()), (3 * CHUNK, 0));
        held.iter().for_each(|&pfn| cpu.free(at, Pfn(pfn), 0).unwrap());
        cpu.drain(at).unwrap();
        assert_eq!(field.counts(&kind)[10][kind as usize], (3 * CHUNK) >> 10);
    }
}

/// The lowest address first, in blocks that are partly used before whole ones.
#[test]
fn the_lowest_partly_used_block_is_taken_from_first() {
    let kind = MigrateType::Movable;
    let shape = SHAPES[0];
    let field = Field::new(HeapMem::new(&shape), shape).unwrap();
    field.add_free(&kind, shape.start, shape.end, false).unwrap();
    assert_eq!(field.take_run(&kind, kind, 10), Some(Pfn(0)));
    assert_eq!(field.take_run(&kind, kind, 0), Some(Pfn(0x400)));
    assert_eq!(field.take_run(&kind, kind, 9), Some(Pfn(0x600)));
    field.give_run(&kind, Pfn(0), 10).unwrap();
    assert_eq!(field.take_run(&kind, kind, 0), Some(Pfn(0x401)), "block 2 is partly used, blocks 0 and 1 are whole");
    assert_eq!(field.take_run(&kind, kind, 3), Some(Pfn(0x408)));
    assert_eq!(field.frontier(&kind, kind), Some(Pfn(0x400)));
    let mut words = Vec::new();
    assert_eq!(field.take_words(&kind, kind, 54 + 64 * 7, &mut |word| words.push(word.number)), 54 + 64 * 7);
    assert_eq!(words, (0x10..0x18).collect::<Vec<_>>());
    assert_eq!(field.take_run(&kind, kind, 0), Some(Pfn(0)));
}
