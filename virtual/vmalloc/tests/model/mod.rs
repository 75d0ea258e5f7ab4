//! Operations on areas beside a naive model: sorted lists of what is busy and what waits for a purge.
//!
//! # Invariants, checked after each operation
//! 1. The trees are red-black, know their largest ranges, cover every address once.
//! 2. Areas are those of the model, with a guard page behind each.
//! 3. Every page of an area translates to its frame, and nothing else of the window translates to anything.
//! 4. Free frames, frames of areas and frames of tables are all frames.
//! 5. A new area lies in a hole of the model, at the lowest one that fits if it is aligned to a page at most.
//! 6. "No space" is said only where no hole of the model, with what waits for a purge, is long enough for certain.
//! 7. A purge flushes once.
#![allow(clippy::unwrap_used, reason = "a test stops where an answer is missing")]

use std::collections::BTreeMap;

use kernmem_arch::{Entry, EntryFormat};
use kernmem_base::{Era, Granule, Order, Pfn, PhysAddr, VirtAddr, VirtRange};
use kernmem_page_alloc::{Gfp, PageSource};
use kernmem_pgtable::{Tables, Walk, translate};
use kernmem_vmalloc::{Request, VecStore, VmFlags, Vmalloc, VmallocError};

use crate::common::{CALLER, Flushes, Machine, START, fresh, prot, rules, with};

const PAGE: u64 = 4096;

/// Pages of addresses that are allocated from; an image stands behind them.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    pub pages: u64,
    pub frames: u64,
}

impl Window {
    /// Addresses run out.
    pub const TIGHT: Self = Self { pages: 40, frames: 128 };
    /// Frames run out.
    pub const POOR: Self = Self { pages: 400, frames: 48 };
    /// Room for blocks.
    pub const WIDE: Self = Self { pages: 4096, frames: 2200 };
}

#[derive(Clone, Debug)]
struct Busy {
    /// Bytes, with the guard page.
    size: u64,
    /// Frames behind its pages; none where nothing is mapped.
    frames: Vec<u64>,
    is_owned: bool,
}

struct Play<F> {
    window: Window,
    areas: Vmalloc<VecStore>,
    machine: Machine,
    tlb: Flushes,
    busy: BTreeMap<u64, Busy>,
    /// Ranges that wait for a purge, unmerged.
    lazy: BTreeMap<u64, u64>,
    /// Frames of the caller, mapped by `vmap`.
    own: Vec<Pfn>,
    flushes: usize,
    format: core::marker::PhantomData<F>,
}

/// Plays operations, four numbers each: what, how many pages, how aligned, which area.
pub fn play<F: EntryFormat>(window: Window, words: &[[u16; 4]]) {
    let mut machine = Machine::new(window.frames);
    let own = (0..6).map(|_| machine.source.alloc(Gfp::KERNEL, Order(0)).unwrap()).collect();
    let mut play = Play::<F> {
        window,
        areas: fresh(rules(Era::V6_1, window.pages), window.pages),
        machine,
        tlb: Flushes::default(),
        busy: BTreeMap::new(),
        lazy: BTreeMap::new(),
        own,
        flushes: 0,
        format: core::marker::PhantomData,
    };
    for &word in words {
        play.step(word);
        play.check();
    }
}

impl<F: EntryFormat> Play<F> {
    fn step(&mut self, [what, pages, align, which]: [u16; 4]) {
        let pages = u64::from(pages % 7);
        match what % 10 {
            0 | 1 => self.vmalloc(pages * PAGE, 1, VmFlags(0)),
            2 => self.vmalloc(pages * PAGE - pages.min(1), PAGE << (align % 6), VmFlags(0)),
            3 if self.window.pages > 1024 => self.vmalloc((pages + 1) << 19, 1, VmFlags::ALLOW_HUGE_VMAP),
            3 => self.vmalloc(pages * PAGE, 1, VmFlags::NO_GUARD),
            4 => self.vmap(pages),
            5 => self.ioremap(pages + 1, u64::from(align)),
            6..=8 => self.free(which),
            _ => self.purge(),
        }
    }

    fn vmalloc(&mut self, size: u64, align: u64, flags: VmFlags) {
        let request = Request { align, flags, ..self.areas.request(size, CALLER) };
        let areas = &mut self.areas;
        let done = with::<F, _>(&mut self.machine, &mut self.tlb, |env| areas.vmalloc_node_range(env, &request));
        self.took(done, size, align, None);
    }

    fn vmap(&mut self, pages: u64) {
        let list: Vec<Pfn> = self.own.iter().copied().cycle().take(pages as usize).collect();
        let areas = &mut self.areas;
        let done = with::<F, _>(&mut self.machine, &mut self.tlb, |env| {
            areas.vmap(env, &list, VmFlags::MAP, prot::<F>(), CALLER)
        });
        self.took(done, pages * PAGE, 1, Some(list.iter().map(|pfn| pfn.0).collect()));
    }

    fn ioremap(&mut self, pages: u64, offset: u64) {
        let phys = PhysAddr(0x4000_0000 + (offset % 3) * 0x10_0000);
        let areas = &mut self.areas;
        let done = with::<F, _>(&mut self.machine, &mut self.tlb, |env| {
            areas.ioremap(env, phys, pages * PAGE, prot::<F>(), CALLER)
        });
        let frames = (0..pages).map(|page| (phys.0 >> 12) + page).collect();
        self.took(done, pages * PAGE, (pages * PAGE).next_power_of_two(), Some(frames));
    }

    /// Enters the outcome of an allocation; `frames` are those of somebody else.
    fn took(&mut self, done: Result<VirtAddr, VmallocError>, size: u64, align: u64, frames: Option<Vec<u64>>) {
        let is_purged = self.tlb.0.len() > self.flushes && self.areas.lazy_pages() == 0;
        let holes_before = self.holes();
        if is_purged || done == Err(VmallocError::Zero) {
            self.lazy.clear();
        }
        self.sync_lazy();
        let addr = match done {
            Ok(addr) => addr,
            Err(error) => return self.refused(error, size, align),
        };
        let area = *self.areas.find_vm_area(addr).unwrap();
        assert!(addr.0 % align == 0 && area.size >= size && area.start == addr);
        let is_in =
            |holes: &[(u64, u64)]| holes.iter().any(|&(start, end)| start <= addr.0 && addr.0 + area.size <= end);
        assert!(is_in(&holes_before) || is_in(&self.holes()), "in a hole");
        let is_one_try = !area.flags.contains(VmFlags::ALLOW_HUGE_VMAP);
        let lowest = holes_before.iter().find(|(start, end)| end - start >= area.size);
        if align <= PAGE
            && is_one_try
            && !is_purged
            && let Some(&(lowest, _)) = lowest
        {
            assert_eq!(addr.0, lowest, "the lowest hole that fits");
        }
        let mapped = area.usable(Granule::K4) / PAGE;
        let is_owned = frames.is_none();
        let frames = frames.unwrap_or_else(|| (0..mapped).map(|page| self.frame(addr.0 + page * PAGE)).collect());
        assert_eq!((frames.len() as u64, area.nr_pages), (mapped, if is_owned { mapped } else { 0 }));
        self.busy.insert(addr.0, Busy { size: area.size, frames, is_owned });
        if let Some(array) = area.array {
            let size = self.areas.find_vm_area(array).unwrap().size;
            let frames = (0..size / PAGE - 1).map(|page| self.frame(array.0 + page * PAGE)).collect();
            self.busy.insert(array.0, Busy { size, frames, is_owned: true });
        }
    }

    fn refused(&mut self, error: VmallocError, size: u64, align: u64) {
        match error {
            VmallocError::Zero => assert_eq!(size, 0),
            VmallocError::NoSpace { size, .. } => {
                let long = size + align - 1;
                assert!(self.holes().iter().all(|(start, end)| end - start < long), "no hole is surely long enough");
            }
            VmallocError::NoPages { got, wanted } => assert!(got < wanted),
            VmallocError::Map(_) | VmallocError::TooLarge { .. } | VmallocError::NoList { .. } => {}
            other => panic!("{other:?}"),
        }
    }

    fn free(&mut self, which: u16) {
        let Some(&start) = self.busy.keys().nth(usize::from(which) % self.busy.len().max(1)) else { return };
        // an array goes with its area
        if self.areas.areas().any(|area| area.array == Some(VirtAddr(start))) {
            return;
        }
        let array = self.areas.find_vm_area(VirtAddr(start)).unwrap().array;
        let areas = &mut self.areas;
        let is_owned = self.busy[&start].is_owned;
        with::<F, _>(&mut self.machine, &mut self.tlb, |env| {
            let owned = Err(VmallocError::Owned { start: VirtAddr(start) });
            if is_owned {
                assert_eq!(areas.vunmap(env, VirtAddr(start)), owned);
                areas.vfree(env, VirtAddr(start)).unwrap();
            } else {
                areas.vunmap(env, VirtAddr(start)).unwrap();
            }
        });
        self.busy.remove(&start);
        if let Some(array) = array {
            self.busy.remove(&array.0);
        }
        self.sync_lazy();
    }

    fn purge(&mut self) {
        let is_due = self.areas.unpurged().count() > 0;
        let range = self.areas.purge(&mut self.tlb);
        assert_eq!(self.tlb.0.len(), self.flushes + usize::from(is_due), "one flush");
        for (&start, &size) in &self.lazy {
            let range = range.unwrap();
            assert!(range.contains(VirtAddr(start)) && range.contains(VirtAddr(start + size - 1)));
        }
        self.lazy.clear();
    }

    /// Takes over what waits for a purge: it was free or busy in the model before.
    fn sync_lazy(&mut self) {
        self.lazy = self.areas.unpurged().map(|range| (range.start.0, range.size())).collect();
    }

    /// The holes of the window by the model.
    fn holes(&self) -> Vec<(u64, u64)> {
        let mut taken: Vec<(u64, u64)> = self.busy.iter().map(|(&start, busy)| (start, start + busy.size)).collect();
        taken.extend(self.lazy.iter().map(|(&start, &size)| (start, start + size)));
        taken.push((START + self.window.pages * PAGE, u64::MAX));
        taken.sort_unstable();
        let mut holes = Vec::new();
        let mut at = START;
        for (start, end) in taken {
            if at < start {
                holes.push((at, start));
            }
            at = end;
        }
        holes
    }

    fn frame(&self, va: u64) -> u64 {
        match translate::<F, _>(&self.machine.mem, self.machine.root, VirtAddr(va)).unwrap() {
            Walk::Mapped { pa, .. } => pa.0 >> 12,
            Walk::Hole { .. } => panic!("{va:#x} is not mapped"),
        }
    }

    fn check(&mut self) {
        self.areas.audit().unwrap();
        let image = START + self.window.pages * PAGE;
        let ours: Vec<_> = self
            .areas
            .areas()
            .filter(|area| area.start.0 != image)
            .map(|area| (area.start.0, area.size, area.flags.contains(VmFlags::NO_GUARD)))
            .collect();
        let model: Vec<_> = self.busy.iter().map(|(&start, busy)| (start, busy.size)).collect();
        assert_eq!(ours.iter().map(|&(start, size, _)| (start, size)).collect::<Vec<_>>(), model);
        for ((_, busy), (_, size, no_guard)) in self.busy.iter().zip(&ours) {
            let guard = if *no_guard { 0 } else { 1 };
            assert_eq!(busy.frames.len() as u64 + guard, size / PAGE, "a guard page behind each");
        }
        self.check_pages();
        let owned: u64 = self.busy.values().filter(|busy| busy.is_owned).map(|busy| busy.frames.len() as u64).sum();
        let frames = self.machine.source.free_frames() + self.machine.tables::<F>() + owned + self.own.len() as u64;
        assert_eq!(frames, self.machine.frames - 1, "no frame is lost");
        self.flushes = self.tlb.0.len();
    }

    /// What the tables map of the window, and nothing else, is what the model maps.
    fn check_pages(&mut self) {
        let range = VirtRange::of_size(VirtAddr(START), self.window.pages * PAGE).unwrap();
        let mut tables = Tables::<F, _>::new(&self.machine.mem, self.machine.root);
        let mut cursor = tables.cursor(range);
        let mut mapped = BTreeMap::new();
        while let Some((part, _, entry)) = cursor.next_slot().unwrap() {
            if let Entry::Leaf { base, .. } = entry {
                for page in 0..part.size() / PAGE {
                    mapped.insert(part.start.0 + page * PAGE, (base.0 >> 12) + page);
                }
            }
        }
        let model: BTreeMap<u64, u64> = self
            .busy
            .iter()
            .flat_map(|(&start, busy)| (start..).step_by(PAGE as usize).zip(busy.frames.iter().copied()))
            .collect();
        assert_eq!(mapped, model);
    }
}
