//! Random operations of all parts of a running kernel on two CPUs, with memory that comes and goes.
//!
//! # Invariants
//! 1. An operation succeeds, or says that memory is short.
//! 2. No frame has two owners: areas, objects, huge pages, what was drained.
//! 3. When everything has been given back, the books are as they were at first.

use core::ptr::NonNull;
use std::collections::BTreeMap;

use crate::books::{Books, Hoard};
use crate::common::{PRESETS, run, source};
use kernmem::running::Pid;
use kernmem_arch::UserRights;
use kernmem_base::{Access, CpuId, Order, Pfn, Privilege, Seed, VirtAddr};
use kernmem_live::Live;
use kernmem_mm::{Place, Signal};
use kernmem_page_alloc::Gfp;

const PAGE: u64 = 4096;
const STEPS: usize = 3000;
const CPUS: [CpuId; 2] = [CpuId(0), CpuId(1)];

/// What the operations have so far.
#[derive(Default)]
struct Held {
    areas: Vec<(VirtAddr, u64)>,
    objects: Vec<NonNull<u8>>,
    programs: Vec<(Pid, Vec<VirtAddr>)>,
    failures: u64,
}

/// Takes a random one off the list.
fn draw<T>(list: &mut Vec<T>, seed: &mut Seed) -> Option<T> {
    if list.is_empty() { None } else { Some(list.swap_remove(seed.draw() as usize % list.len())) }
}

impl Held {
    fn note<T, E: core::fmt::Display>(&mut self, done: Result<T, E>) -> Option<T> {
        let said = done.as_ref().err().map(ToString::to_string);
        let is_short = |said: &str| {
            ["no memory", "pages were given", "cannot be changed", "no frame", "frames for descriptors"]
                .iter()
                .any(|part| said.contains(part))
        };
        if let Some(said) = said {
            assert!(is_short(&said), "{said}");
            self.failures += 1;
        }
        done.ok()
    }

    fn step(&mut self, live: &mut Live<'_>, seed: &mut Seed) {
        let cpu = CPUS[(seed.draw() % 2) as usize];
        match seed.draw() % 14 {
            0 | 1 => {
                let pages = 1 + seed.draw() % 40;
                let done = live.on(cpu, |running, on| running.vmalloc(on, pages * PAGE)).0;
                let area = self.note(done);
                self.areas.extend(area.map(|va| (va, pages)));
            }
            2 => {
                let pages = 1 + seed.draw() % 1200;
                let done = live.on(cpu, |running, on| running.vmalloc_huge(on, pages * PAGE)).0;
                let area = self.note(done);
                self.areas.extend(area.map(|va| (va, pages)));
            }
            3 | 4 => {
                let Some((va, _)) = draw(&mut self.areas, seed) else { return };
                live.on(cpu, |running, on| running.vfree(on, va)).0.expect("an area");
            }
            5 | 6 => {
                let bytes = 1 + seed.draw() % (1 << (seed.draw() % 15));
                let done = live.with_linear(|running, linear| running.kmalloc(linear, cpu, bytes, Gfp::KERNEL));
                let object = self.note(done.expect("pointers"));
                self.objects.extend(object);
            }
            7 | 8 => {
                let Some(object) = draw(&mut self.objects, seed) else { return };
                live.kfree(cpu, object).expect("an object");
            }
            9 => {
                let index = live.running.pool_of(Order(9)).expect("a pool");
                live.running.optimize_new(seed.draw().is_multiple_of(2));
                let pages = seed.draw() % 6;
                let resized = live.on(cpu, |running, on| running.resize_pool(on, index, pages)).0.expect("a pool");
                self.note(resized.stopped.map_or(Ok(()), Err));
            }
            10 => self.new_program(live, cpu, seed),
            11 if self.programs.len() > 3 => {
                let Some((pid, _)) = draw(&mut self.programs, seed) else { return };
                live.on(cpu, |running, on| running.exit(on, pid)).0.expect("a program");
            }
            _ => self.touch(live, cpu, seed),
        }
    }

    /// A program of its own or a child.
    fn new_program(&mut self, live: &mut Live<'_>, cpu: CpuId, seed: &mut Seed) {
        if self.programs.len() > 8 {
            return;
        }
        let parent = self.programs.get(seed.draw() as usize % (self.programs.len() + 1)).cloned();
        let done = match &parent {
            Some((pid, _)) => live.on(cpu, |running, on| running.fork(on, *pid)).0,
            None => live.on(cpu, |running, on| running.spawn(on)).0,
        };
        let regions = parent.map(|(_, regions)| regions).unwrap_or_default();
        let program = self.note(done);
        self.programs.extend(program.map(|pid| (pid, regions)));
    }

    /// A fault in a region of a program, or a new region.
    fn touch(&mut self, live: &mut Live<'_>, cpu: CpuId, seed: &mut Seed) {
        if self.programs.is_empty() {
            return;
        }
        let at = seed.draw() as usize % self.programs.len();
        let (pid, regions) = &mut self.programs[at];
        let pid = *pid;
        if regions.len() < 4 {
            let place = Place::Hint(VirtAddr(seed.draw() & 0x7fff_ff00_0000));
            let done = live.on(cpu, |running, on| running.mmap(on, pid, place, 32 * PAGE, UserRights::READ_WRITE)).0;
            regions.push(done.expect("room for a region"));
            return;
        }
        let va = regions[seed.draw() as usize % regions.len()] + seed.draw() % 32 * PAGE;
        let access = if seed.draw().is_multiple_of(3) { Access::Read } else { Access::Write };
        let handled = live.on(cpu, |running, on| running.fault(on, pid, va, access, Privilege::User)).0;
        match handled.expect("a program") {
            Ok(_) => {}
            Err(Signal::OutOfMemory) => self.failures += 1,
            Err(signal) => panic!("{signal}"),
        }
    }

    /// Invariant 2.
    fn check_owners(&self, live: &Live<'_>) {
        let mut owners = BTreeMap::new();
        let mut own = |pfn: Pfn, owner: &'static str| {
            let before = owners.insert(pfn, owner);
            let is_fine = before.is_none() || before == Some("objects") && owner == "objects";
            assert!(is_fine, "frame {:#x} is {owner}'s and {before:?}'s", pfn.0);
        };
        for (va, pages) in &self.areas {
            for page in 0..*pages {
                let pfn = live.running.vmalloc_to_pfn(*va + page * PAGE).expect("tables").expect("a page");
                own(pfn, "areas");
            }
        }
        for object in &self.objects {
            let pa = kernmem_slab::object_pa(live.linear().expect("pointers"), *object).expect("an object");
            own(pa.pfn(live.running.facts.granule), "objects");
        }
        for page in live.running.pools.iter().flat_map(|pool| pool.pages().iter().map(move |page| (pool.order(), page)))
        {
            (0..1u64 << page.0.0).for_each(|offset| own(Pfn(page.1.pfn.0 + offset), "huge pages"));
        }
    }

    /// Invariant 3: everything goes.
    fn give_back(&mut self, live: &mut Live<'_>) {
        let cpu = CPUS[0];
        for (va, _) in self.areas.drain(..) {
            live.on(cpu, |running, on| running.vfree(on, va)).0.expect("an area");
        }
        live.on(cpu, |running, on| running.purge(on));
        for object in self.objects.drain(..) {
            live.kfree(cpu, object).expect("an object");
        }
        for (pid, _) in self.programs.drain(..) {
            live.on(cpu, |running, on| running.exit(on, pid)).0.expect("a program");
        }
        let index = live.running.pool_of(Order(9)).expect("a pool");
        // Pages that could not go once are surplus: wanting them makes them ordinary.
        let total = live.running.pools[index].counts().total;
        for pages in [total, 0] {
            let resized = live.on(cpu, |running, on| running.resize_pool(on, index, pages)).0.expect("a pool");
            assert_eq!(resized.stopped, None);
        }
        let caches = live.running.slabinfo().expect("records");
        for (cpu, cache) in CPUS.iter().flat_map(|cpu| caches.iter().map(move |cache| (*cpu, cache.id))) {
            let shrunk = live.with_linear(|running, linear| running.shrink_cache(linear, cpu, cache));
            shrunk.expect("pointers").expect("records");
        }
    }
}

#[test]
fn whatever_runs_short_nothing_is_lost_and_no_frame_has_two_owners() {
    for (preset, seed) in PRESETS.into_iter().flat_map(|preset| [1, 2].map(|seed| (preset, seed))) {
        run(&source(preset, None, Some(160 << 20)), |live| {
            let (mut held, mut seed) = (Held::default(), Seed(seed));
            // The page of zeros comes with the first program and stays.
            let first = live.on(CPUS[0], |running, on| running.spawn(on)).0.expect("a program");
            live.on(CPUS[0], |running, on| running.exit(on, first)).0.expect("a program");
            let at_first = Books::of(live);
            let mut hoard = None;
            for step in 0..STEPS {
                held.step(live, &mut seed);
                if step % 150 == 149 {
                    held.check_owners(live);
                    match hoard.take() {
                        None => {
                            let mut taken = Hoard::take(live);
                            taken.lend(live, (seed.draw() % 200) as usize);
                            hoard = Some(taken);
                        }
                        Some(taken) => Hoard::free(taken, live),
                    }
                }
            }
            if let Some(taken) = hoard {
                taken.free(live);
            }
            held.give_back(live);
            assert_eq!(Books::of(live), at_first, "{preset}");
            assert!(held.failures > 50, "{preset}: {} failures", held.failures);
        });
    }
}
