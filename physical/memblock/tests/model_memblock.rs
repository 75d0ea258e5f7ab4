//! Random operations on memblock and on a map of small cells that knows nothing of regions.
//!
//! After each operation the lists say what the map says, and the crate's invariants hold. Cells are a quarter of a
//! page, so that page rounding shows.
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod common;

use common::{ERAS, Mb};
use kernmem_base::{Era, Granule, Order, PhysAddr, PhysRange};
use kernmem_memblock::{
    Buddy, Flags, Limits, ListKind, Memblock, Nid, Recorder, Region, RegionArray, Request, UpTo, VecArray,
};
use proptest::prelude::*;

const CELL: u64 = 0x400;
const CELLS: usize = 96;
const PAGE: u64 = 0x1000;

/// What a list says about one cell.
type Cell = Option<(Option<Nid>, Flags)>;

/// The naive reference.
#[derive(Clone, Debug)]
struct Model {
    era: Era,
    memory: [Cell; CELLS],
    reserved: [Cell; CELLS],
    bottom_up: bool,
    movable_node: bool,
    has_mirror: bool,
    limit: usize,
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Add(Span),
    AddNode(Span, Nid, Flags),
    Remove(Span),
    Reserve(Span),
    ReserveAs(Span, Option<Nid>),
    Free(Span),
    Nomap(Span, bool),
    Hotplug(Span, bool),
    Mirror(Span),
    SetNode(ListKind, Span, Option<Nid>),
    Cap(Span),
    Enforce(usize),
    RemoveMap(usize),
    BottomUp(bool),
    MovableNode(bool),
    CurrentLimit(usize),
    Alloc(Wish),
}

/// Cells `from..to`.
#[derive(Clone, Copy, Debug)]
struct Span {
    from: usize,
    to: usize,
}

impl Span {
    fn base(self) -> PhysAddr {
        PhysAddr(self.from as u64 * CELL)
    }

    fn size(self) -> u64 {
        (self.to - self.from) as u64 * CELL
    }
}

/// An allocation in cells; `max` 0 is the current limit.
#[derive(Clone, Copy, Debug)]
struct Wish {
    cells: usize,
    align: usize,
    from: usize,
    max: usize,
    nid: Option<Nid>,
    exact: bool,
}

fn span() -> impl Strategy<Value = Span> {
    (0..CELLS, 0..24usize).prop_map(|(from, len)| Span { from, to: (from + len).min(CELLS) })
}

fn node() -> impl Strategy<Value = Option<Nid>> {
    prop_oneof![Just(None), (0..3u32).prop_map(|nid| Some(Nid(nid)))]
}

fn wish() -> impl Strategy<Value = Wish> {
    let align = (0..4u32).prop_map(|shift| 1 << shift);
    (1..12usize, align, 0..CELLS, 0..=CELLS, node(), any::<bool>()).prop_map(|(cells, align, from, max, nid, exact)| {
        let from = if from % 3 == 0 { from } else { 0 };
        Wish { cells, align, from, max, nid, exact }
    })
}

fn op() -> impl Strategy<Value = Op> {
    let list = prop_oneof![Just(ListKind::Memory), Just(ListKind::Reserved)];
    let flags = prop_oneof![Just(Flags::NONE), Just(Flags::HOTPLUG), Just(Flags::NOMAP)];
    prop_oneof![
        3 => span().prop_map(Op::Add),
        4 => (span(), 0..3u32, flags).prop_map(|(span, nid, flags)| Op::AddNode(span, Nid(nid), flags)),
        1 => span().prop_map(Op::Remove),
        2 => span().prop_map(Op::Reserve),
        1 => (span(), node()).prop_map(|(span, nid)| Op::ReserveAs(span, nid)),
        3 => span().prop_map(Op::Free),
        1 => (span(), any::<bool>()).prop_map(|(span, set)| Op::Nomap(span, set)),
        1 => (span(), any::<bool>()).prop_map(|(span, set)| Op::Hotplug(span, set)),
        1 => span().prop_map(Op::Mirror),
        2 => (list, span(), node()).prop_map(|(list, span, nid)| Op::SetNode(list, span, nid)),
        1 => (span(), 40..CELLS).prop_map(|(span, to)| Op::Cap(Span { from: span.from / 4, to })),
        1 => (0..CELLS).prop_map(Op::Enforce),
        1 => (0..CELLS).prop_map(Op::RemoveMap),
        1 => any::<bool>().prop_map(Op::BottomUp),
        1 => any::<bool>().prop_map(Op::MovableNode),
        1 => (40..=CELLS).prop_map(Op::CurrentLimit),
        8 => wish().prop_map(Op::Alloc),
    ]
}

impl Model {
    fn new(era: Era) -> Self {
        Self {
            era,
            memory: [None; CELLS],
            reserved: [None; CELLS],
            bottom_up: false,
            movable_node: false,
            has_mirror: false,
            limit: CELLS,
        }
    }

    fn taker(&self, nid: Option<Nid>) -> (Option<Nid>, Flags) {
        if self.era == Era::V7_2 { (nid, Flags::RSRV_KERN) } else { (None, Flags::NONE) }
    }

    fn change(cells: &mut [Cell], span: Span, change: impl Fn((Option<Nid>, Flags)) -> (Option<Nid>, Flags)) {
        for cell in &mut cells[span.from..span.to] {
            *cell = cell.map(&change);
        }
    }

    fn put(cells: &mut [Cell], span: Span, value: (Option<Nid>, Flags)) {
        for cell in &mut cells[span.from..span.to] {
            *cell = cell.or(Some(value));
        }
    }

    /// One past the cell that completes `limit` cells of memory.
    fn end_of(&self, limit: usize) -> Option<usize> {
        let mut present = (0..CELLS).filter(|&cell| self.memory[cell].is_some());
        present.nth(limit.checked_sub(1)?).map(|cell| cell + 1)
    }

    fn cap(&mut self, span: Span) {
        if span.from == span.to || (self.memory == [None; CELLS] && self.era != Era::V5_10) {
            return;
        }
        for cell in (0..CELLS).filter(|cell| !(span.from..span.to).contains(cell)) {
            self.memory[cell] = self.memory[cell].filter(|(_, flags)| flags.contains(Flags::NOMAP));
            self.reserved[cell] = None;
        }
    }

    /// Whether a cell is free for a request with `flags` on `nid`.
    fn is_free(&self, cell: usize, nid: Option<Nid>, flags: Flags) -> bool {
        self.reserved[cell].is_none()
            && self.memory[cell].is_some_and(|(home, has)| {
                (nid.is_none() || nid == home)
                    && !has.contains(Flags::NOMAP)
                    && !(self.movable_node && has.contains(Flags::HOTPLUG))
                    && has.contains(flags)
            })
    }

    /// The place for a request, by trying every address.
    fn find(&self, wish: Wish, nid: Option<Nid>, flags: Flags) -> Option<usize> {
        let from = wish.from.max((PAGE / CELL) as usize);
        let max = if wish.max == 0 { self.limit } else { wish.max.min(self.limit) };
        let fits = |&at: &usize| {
            let cells = at..at + wish.cells;
            at.is_multiple_of(wish.align)
                && at >= from
                && cells.end <= max
                && cells.clone().all(|cell| self.is_free(cell, nid, flags))
                && cells.clone().all(|cell| self.memory[cell] == self.memory[at])
        };
        if self.bottom_up { (0..CELLS).find(fits) } else { (0..CELLS).rev().find(fits) }
    }

    /// The whole order in which wishes are given up.
    fn alloc(&mut self, wish: Wish) -> Option<usize> {
        for from in [wish.from, 0] {
            let wish = Wish { from, ..wish };
            for flags in [Flags::MIRROR, Flags::NONE].into_iter().filter(|f| self.has_mirror || *f == Flags::NONE) {
                for nid in [wish.nid, None].into_iter().filter(|nid| *nid == wish.nid || !wish.exact) {
                    if let Some(at) = self.find(wish, nid, flags) {
                        let taker = self.taker(nid);
                        Self::put(&mut self.reserved, Span { from: at, to: at + wish.cells }, taker);
                        return Some(at);
                    }
                }
            }
        }
        None
    }

    /// Does `op` on both; an allocation must find the same place.
    fn apply(&mut self, mb: &mut Mb, op: Op) {
        match op {
            Op::Add(span) => {
                mb.add(span.base(), span.size()).unwrap();
                Self::put(&mut self.memory, span, (None, Flags::NONE));
            }
            Op::AddNode(span, nid, flags) => {
                mb.add_node(span.base(), span.size(), nid, flags).unwrap();
                Self::put(&mut self.memory, span, (Some(nid), flags));
            }
            Op::Remove(span) => {
                mb.remove(span.base(), span.size()).unwrap();
                self.memory[span.from..span.to].fill(None);
            }
            Op::Reserve(span) => {
                mb.reserve(span.base(), span.size()).unwrap();
                Self::put(&mut self.reserved, span, (None, Flags::NONE));
            }
            Op::ReserveAs(span, nid) => {
                mb.reserve_as(span.base(), span.size(), nid, Flags::RSRV_KERN).unwrap();
                let taker = self.taker(nid);
                Self::put(&mut self.reserved, span, taker);
            }
            Op::Free(span) => {
                mb.phys_free(span.base(), span.size()).unwrap();
                self.reserved[span.from..span.to].fill(None);
            }
            Op::Nomap(span, true) => {
                mb.mark_nomap(span.base(), span.size()).unwrap();
                Self::change(&mut self.memory, span, |(nid, flags)| (nid, flags | Flags::NOMAP));
            }
            Op::Nomap(span, false) => {
                mb.clear_nomap(span.base(), span.size()).unwrap();
                Self::change(&mut self.memory, span, |(nid, flags)| (nid, flags & !Flags::NOMAP));
            }
            Op::Hotplug(span, true) => {
                mb.mark_hotplug(span.base(), span.size()).unwrap();
                Self::change(&mut self.memory, span, |(nid, flags)| (nid, flags | Flags::HOTPLUG));
            }
            Op::Hotplug(span, false) => {
                mb.clear_hotplug(span.base(), span.size()).unwrap();
                Self::change(&mut self.memory, span, |(nid, flags)| (nid, flags & !Flags::HOTPLUG));
            }
            Op::Mirror(span) => {
                mb.mark_mirror(span.base(), span.size()).unwrap();
                self.has_mirror = true;
                Self::change(&mut self.memory, span, |(nid, flags)| (nid, flags | Flags::MIRROR));
            }
            Op::SetNode(list, span, nid) => {
                mb.set_node(list, span.base(), span.size(), nid).unwrap();
                let cells = if list == ListKind::Memory { &mut self.memory } else { &mut self.reserved };
                Self::change(cells, span, |(_, flags)| (nid, flags));
            }
            Op::Cap(span) => {
                mb.cap_memory_range(span.base(), span.size()).unwrap();
                self.cap(span);
            }
            Op::Enforce(limit) => {
                mb.enforce_memory_limit(limit as u64 * CELL).unwrap();
                if let Some(end) = self.end_of(limit) {
                    self.memory[end..].fill(None);
                    self.reserved[end..].fill(None);
                }
            }
            Op::RemoveMap(limit) => {
                mb.mem_limit_remove_map(limit as u64 * CELL).unwrap();
                if let Some(end) = self.end_of(limit) {
                    self.cap(Span { from: 0, to: end });
                }
            }
            Op::BottomUp(bottom_up) => {
                mb.set_bottom_up(bottom_up);
                self.bottom_up = bottom_up;
            }
            Op::MovableNode(enabled) => {
                mb.set_movable_node(enabled);
                self.movable_node = enabled;
            }
            Op::CurrentLimit(limit) => {
                mb.set_current_limit(PhysAddr(limit as u64 * CELL));
                self.limit = limit;
            }
            Op::Alloc(wish) => {
                let request = Request::new(wish.cells as u64 * CELL, wish.align as u64 * CELL)
                    .from(PhysAddr(wish.from as u64 * CELL))
                    .up_to(UpTo(wish.max as u64 * CELL))
                    .on(wish.nid);
                let found = if wish.exact { mb.alloc_exact_nid_raw(request) } else { mb.alloc_try_nid(request) };
                let expected = self.alloc(wish).map(|at| PhysAddr(at as u64 * CELL));
                assert_eq!(found.ok(), expected, "{wish:?}");
            }
        }
    }

    /// The lists say what the map says; invariants 1 and 3 hold.
    fn check(&self, mb: &Mb, ever_capped: bool) {
        for (kind, cells) in [(ListKind::Memory, &self.memory), (ListKind::Reserved, &self.reserved)] {
            let list = mb.list(kind);
            let mut shown = [None; CELLS];
            for region in list.regions() {
                let (from, to) = ((region.base.0 / CELL) as usize, (region.end().0 / CELL) as usize);
                assert!(from < to, "a region is empty");
                shown[from..to].fill(Some((region.nid, region.flags)));
            }
            assert_eq!(&shown, cells, "{}", kind.name());
            for pair in list.regions().windows(2) {
                assert!(pair[0].end() <= pair[1].base, "regions overlap or are not sorted");
                let could_be_one =
                    pair[0].end() == pair[1].base && (pair[0].nid, pair[0].flags) == (pair[1].nid, pair[1].flags);
                assert!(!could_be_one || (ever_capped && pair[0].flags.contains(Flags::NOMAP)), "not merged");
            }
            assert_eq!(list.total_size(), list.regions().iter().map(|region| region.size).sum::<u64>());
        }
    }

    /// Both walks give the free cells, in opposite orders.
    fn check_walks(&self, mb: &Mb, nid: Option<Nid>) {
        let up: Vec<_> = mb.free_ranges(nid, Flags::NONE).collect();
        let mut down: Vec<_> = mb.free_ranges_rev(nid, Flags::NONE).collect();
        down.reverse();
        assert_eq!(up, down);
        let mut free = [false; CELLS];
        for found in &up {
            assert!(found.range.size() > 0);
            free[(found.range.start.0 / CELL) as usize..(found.range.end.0 / CELL) as usize].fill(true);
        }
        let expected: [bool; CELLS] = core::array::from_fn(|cell| self.is_free(cell, nid, Flags::NONE));
        assert_eq!(free, expected);
    }

    /// The chunks are the whole free pages, each as large as alignment, bound and neighbours allow.
    fn check_hand_over(&self, mb: Mb) {
        let done = mb.hand_over(Buddy { max_order: Order(3), max_low: None }).unwrap();
        let pages = CELLS / 4;
        // Hot-plug marks are gone by then.
        let model = Model { movable_node: false, ..self.clone() };
        let same = |a: usize, b: usize| {
            let plain = |cell: usize| model.memory[cell].map(|(nid, flags)| (nid, flags & !Flags::HOTPLUG));
            plain(a) == plain(b)
        };
        let whole = |page: usize| {
            (page * 4..page * 4 + 4).all(|cell| model.is_free(cell, None, Flags::NONE) && same(cell, page * 4))
        };
        let mut given = vec![false; pages];
        let mut last_end = 0;
        for chunk in done.chunks() {
            let (start, len) = (chunk.start.0 as usize, 1usize << chunk.order.0);
            assert!(start.is_multiple_of(len) && chunk.order <= Order(3) && start >= last_end);
            last_end = start + len;
            given[start..start + len].fill(true);
            let twice = start..start + 2 * len;
            let could_double = start.is_multiple_of(2 * len) && chunk.order < Order(3) && twice.end <= pages;
            assert!(!(could_double && twice.clone().all(|page| whole(page) && same(page * 4, start * 4))));
        }
        assert_eq!(given, (0..pages).map(whole).collect::<Vec<_>>());
    }
}

fn memblock(era: Era, capacity: usize) -> Mb {
    let limits = Limits { kernelcore_mirror: true, ..Limits::new_64bit(Granule::K4) };
    let array = || VecArray::with_capacity(capacity);
    Memblock::new(era, limits, array(), array(), Recorder::default())
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config(1500))]

    #[test]
    fn lists_and_map_agree(ops in prop::collection::vec(op(), 1..60)) {
        for era in ERAS {
            let (mut model, mut mb) = (Model::new(era), memblock(era, 256));
            let mut ever_capped = false;
            for &op in &ops {
                model.apply(&mut mb, op);
                ever_capped |= matches!(op, Op::Cap(_) | Op::RemoveMap(_));
                model.check(&mb, ever_capped);
            }
            model.check_walks(&mb, None);
            model.check_walks(&mb, Some(Nid(1)));
            model.check_hand_over(mb);
        }
    }

    #[test]
    fn the_order_of_insertion_does_not_matter(
        (sorted, shuffled) in prop::collection::vec((span(), any::<bool>()), 1..40)
            .prop_flat_map(|spans| (Just(spans.clone()), Just(spans).prop_shuffle())),
    ) {
        for era in ERAS {
            let build = |spans: &[(Span, bool)]| {
                let mut mb = memblock(era, 256);
                for &(span, is_memory) in spans {
                    let put = if is_memory { Mb::add } else { Mb::reserve };
                    put(&mut mb, span.base(), span.size()).unwrap();
                }
                (mb.memory().regions().to_vec(), mb.reserved().regions().to_vec())
            };
            assert_eq!(build(&sorted), build(&shuffled));
        }
    }

    /// With room for two regions at first, the list of taken memory grows again and again, and its storage never lies
    /// in what somebody else has.
    #[test]
    fn growing_lists_stay_clear_of_what_is_taken(
        sizes in prop::collection::vec((1..0x3000u64, 0..6u32, any::<bool>()), 1..80),
        bottom_up: bool,
    ) {
        for era in ERAS {
            let mut mb = memblock(era, 2);
            mb.add(PhysAddr(0x10_0000), 0x10_0000).unwrap();
            mb.allow_resize();
            mb.set_bottom_up(bottom_up);
            let mut mine: Vec<PhysRange> = Vec::new();
            for (index, &(size, align, is_far)) in sizes.iter().enumerate() {
                let start = if is_far {
                    let far = PhysAddr(0x100_0000 + (index as u64 * 0x39 % 97) * 0x1_0000);
                    mb.reserve(far, size).unwrap();
                    far
                } else {
                    mb.alloc(size, 64 << align).unwrap()
                };
                mine.push(PhysRange::of_size(start, size).unwrap());
                if index % 5 == 4 {
                    let gone = mine.swap_remove(index % mine.len());
                    mb.phys_free(gone.start, gone.size()).unwrap();
                }
                check_storage(&mb, &mine);
            }
        }
    }
}

fn check_storage(mb: &Mb, mine: &[PhysRange]) {
    let is_covered = |range: &PhysRange| {
        let regions = mb.reserved().regions().iter();
        let inside: u64 = regions.map(|region: &Region| region.range().intersect(range).size()).sum();
        inside == range.size()
    };
    assert!(mine.iter().all(is_covered), "something taken is no longer in the list");
    assert!(mb.reserved().len() <= mb.reserved().capacity());
    for kind in [ListKind::Memory, ListKind::Reserved] {
        if let Some(home) = mb.list(kind).home() {
            assert!(is_covered(&home), "invariant 4");
            assert!(!mine.iter().any(|range| range.overlaps(&home)), "the storage lies in somebody's memory");
        }
    }
}

#[test]
fn arrays_shift_what_they_keep() {
    fn law<A: RegionArray>(mut array: A) {
        let region = |base| Region { base: PhysAddr(base), size: 1, ..Region::default() };
        for (index, base) in [(0, 10), (0, 5), (2, 20), (1, 7)] {
            array.insert(index, region(base));
        }
        let bases = |array: &A| array.as_slice().iter().map(|region| region.base.0).collect::<Vec<_>>();
        assert_eq!(bases(&array), [5, 7, 10, 20]);
        array.remove(1..3);
        assert_eq!(bases(&array), [5, 20]);
        array.remove(1..1);
        array.as_mut_slice()[0] = region(6);
        assert_eq!(bases(&array), [6, 20]);
        assert!(array.capacity() >= 4);
    }
    law(VecArray::with_capacity(4));
    law(kernmem_memblock::InlineArray::<4>::new());
}
