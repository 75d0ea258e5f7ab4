//! What an access costs: the references to memory that CPUs report are those that the memory counts.
//!
//! The memory counts every single entry that is read, below the walker and without knowing it.

use crate::common::{PRESETS, entries_of, run, source};
use kernmem_arch::UserRights;
use kernmem_base::Seed;
use kernmem_base::{Access, CpuId, Order, PhysAddr, Privilege, VirtAddr};
use kernmem_live::Live;
use kernmem_mm::Place;
use kernmem_page_alloc::{Gfp, PageSource};
use kernmem_sim::Counters;

const CPU: CpuId = CpuId(0);
const PAGE: u64 = 4096;
const DRAWS: usize = 4000;

/// What one read brought about: the memory's count, and what the CPU counted.
struct Cost {
    counted: u64,
    told: Counters,
    before: Counters,
    failed: bool,
}

impl Cost {
    fn of(&self, field: impl Fn(&Counters) -> u64) -> u64 {
        field(&self.told) - field(&self.before)
    }
}

fn read(live: &Live<'_>, va: VirtAddr, privilege: Privilege) -> Cost {
    let cpu = live.cpus.cpu(CPU).expect("the first CPU");
    let (references, before) = (live.memory.references(), cpu.counters());
    let failed = cpu.read_u64(live.memory, va, privilege).is_err();
    Cost { counted: live.memory.references() - references, told: cpu.counters(), before, failed }
}

/// One read, and a second one that finds the translation.
fn check(live: &Live<'_>, va: VirtAddr, privilege: Privilege, root: PhysAddr, tally: &mut [u64; 4]) {
    let cost = read(live, va, privilege);
    let (walked, data) = (cost.of(|counters| counters.references), cost.of(Counters::data_references));
    assert_eq!(cost.counted, walked + data, "{va}: walk and data");
    assert_eq!(data, u64::from(!cost.failed), "{va}: the datum");
    let levels = entries_of(live.running.facts.format, live.memory, root, va).len() as u64;
    match (cost.of(|counters| counters.hits), cost.of(|counters| counters.short_walks)) {
        (1, _) => assert_eq!(walked, 0, "{va}: a hit reads no table"),
        (_, 0) => assert!(walked == levels || walked == 0 && cost.failed, "{va}: {walked} of {levels} levels"),
        (_, _) => assert!((1..levels).contains(&walked), "{va}: {walked} of {levels} levels behind a known table"),
    }
    tally[usize::from(cost.failed)] += 1;
    if cost.failed {
        return;
    }
    let again = read(live, va, privilege);
    assert_eq!((again.counted, again.of(|counters| counters.hits)), (1, 1), "{va}: the datum and nothing else");
    assert_eq!(again.of(|counters| counters.references), 0);
    tally[2] += 1;
    tally[3] += walked;
}

/// Addresses of the kernel's half: its linear map, its descriptors, areas, and any at all.
fn kernel_address(live: &Live<'_>, areas: &[VirtAddr], seed: &mut Seed) -> VirtAddr {
    let memory = live.running.kernel.memblock.memory().regions();
    let kind = seed.draw() % 4;
    let region = &memory[seed.draw() as usize % memory.len()];
    let pa = region.base + seed.draw() % region.size;
    let va = match kind {
        0 => live.linear_address(pa),
        1 => live.running.map.page(pa.pfn(live.running.facts.granule)),
        2 => areas[seed.draw() as usize % areas.len()] + seed.draw() % (5 * PAGE),
        _ => VirtAddr(seed.draw() | 0xffff_8000_0000_0000),
    };
    va.align_down(8)
}

#[test]
fn references_that_cpus_tell_for_addresses_of_the_kernel_are_those_that_memory_counts() {
    for preset in PRESETS {
        run(&source(preset, None, None), |live| {
            let areas: Vec<VirtAddr> =
                (0..8).map(|_| live.on(CPU, |running, on| running.vmalloc(on, 4 * PAGE)).0.expect("an area")).collect();
            let (mut seed, mut tally) = (Seed(0x5eed), [0; 4]);
            let root = live.running.kernel.roots.kernel;
            for _ in 0..DRAWS {
                let va = kernel_address(live, &areas, &mut seed);
                check(live, va, Privilege::Kernel, root, &mut tally);
            }
            let [read, refused, hits, walked] = tally;
            assert!(read > 1000 && refused > 500 && hits == read && walked > 1000, "{preset}: {tally:?}");
        });
    }
}

#[test]
fn references_that_cpus_tell_for_addresses_of_a_program_are_those_that_memory_counts() {
    const PAGES: u64 = 600;
    for preset in PRESETS {
        run(&source(preset, None, None), |live| {
            let pid = live.on(CPU, |running, on| running.spawn(on)).0.expect("a program");
            let rights = UserRights::READ_WRITE;
            let map = |live: &mut Live<'_>, place| {
                live.on(CPU, |running, on| running.mmap(on, pid, place, PAGES * PAGE, rights)).0.expect("a region")
            };
            let regions = [map(live, Place::Anywhere), map(live, Place::Fixed(VirtAddr(0x12_3456_7000)))];
            let mut handle = live.cpus.cpu(CPU).expect("the first CPU");
            live.running.switch_to(&mut handle, pid).expect("a program");
            let root = live.running.processes.root(pid).expect("a program");
            let (mut seed, mut tally) = (Seed(0xabcd), [0; 4]);
            for _ in 0..DRAWS {
                let page = regions[(seed.draw() % 2) as usize] + seed.draw() % PAGES * PAGE;
                let va = match seed.draw() % 4 {
                    // Any address of the lower half: mostly no region is there.
                    0 => VirtAddr(seed.draw() & 0x7fff_ffff_fff8),
                    // A page that the kernel gives first.
                    1 => {
                        let access = if seed.draw().is_multiple_of(2) { Access::Read } else { Access::Write };
                        let fault = live.on(CPU, |running, on| running.fault(on, pid, page, access, Privilege::User));
                        fault.0.expect("a program").expect("no signal");
                        page + 24
                    }
                    _ => page + ((seed.draw() % PAGE) & !7),
                };
                check(live, va, Privilege::User, root, &mut tally);
            }
            let [read, refused, hits, walked] = tally;
            assert!(read > 1000 && refused > 1000 && hits == read && walked > 500, "{preset}: {tally:?}");
        });
    }
}

/// A walk by the tables' own reader costs one reference a level, on both halves.
#[test]
fn a_walk_costs_one_reference_for_each_level_that_it_tells() {
    for preset in PRESETS {
        run(&source(preset, None, None), |live| {
            let pfn = live.running.pages(CPU).expect("the first CPU").alloc(Gfp::KERNEL, Order(0)).expect("a page");
            let mut seed = Seed(7);
            let known = live.linear_address(PhysAddr(pfn.0 * PAGE));
            for va in [known].into_iter().chain((0..500).map(|_| VirtAddr(seed.draw()))) {
                let before = live.memory.references();
                let levels = entries_of(live.running.facts.format, live.memory, live.running.kernel.roots.kernel, va);
                assert_eq!(live.memory.references() - before, levels.len() as u64, "{preset} {va}");
            }
        });
    }
}
