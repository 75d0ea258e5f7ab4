//! CPUs that share tables: shoot-downs, drawn orders, threads.
#![allow(clippy::unwrap_used, reason = "a test stops where an answer is missing")]

mod common;

use core::cell::RefCell;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use common::*;
use kernmem_arch::Format;
use kernmem_arch::arm64::Arm64Granule4K;
use kernmem_arch::x86::X86Level4;
use kernmem_base::{
    Access, Asid, Cpu, CpuId, Half, Level, PhysAddr, PhysMem, Privilege, Seed, Slot, Tlb, VirtAddr, VirtRange,
};
use kernmem_sim::{Bound, CpuHandle, Cpus, Memory, Progress, Schedule, Scheduler, Stuck, TlbShape, on_threads};

use Privilege::Kernel;

const X86_DATA: u64 = 0x8000_0000_0000_0163;
const X86_LINK: u64 = 0x67;

fn x86_cpus(count: u32) -> Cpus {
    let cpus = Cpus::new(count, Format::X86Level4, &TlbShape::default());
    for mut cpu in cpus.handles() {
        cpu.load_root(Half::Both, PhysAddr(ROOT), Asid(0));
    }
    cpus
}

/// The thousand spaces of an x86 kernel that copies a missing top-level entry where the fault happens.
#[test]
fn a_fault_at_the_top_level_is_mended_from_the_reference_root() {
    const SPACES: u64 = 1000;
    let mem = memory();
    chain::<X86Level4>(&mem, X86_LINK, Level::Pte, X86_DATA);
    let cpus = x86_cpus(1);
    let mut cpu = cpus.cpu(CpuId(0)).unwrap();
    let root = |space: u64| PhysAddr(0x10_0000 + space * 0x1000);
    let index = (VA.0 >> 39 & 511) as usize;
    let reference = get::<X86Level4>(&mem, VA, Level::Pgd);
    let mut mended = 0;
    for space in 0..SPACES {
        cpu.load_root(Half::Both, root(space), Asid(space as u16 % 6 + 1));
        cpu.flush_here(None, None, false);
        while let Err(fault) = cpu.access(&mem, VA, Access::Read, Kernel) {
            assert_eq!((fault.level, fault.error_code()), (Some(Level::Pgd), Some(0)));
            mem.table_mut::<AtomicU64>(root(space), 512).unwrap()[index].publish(reference);
            mended += 1;
        }
    }
    let counters = cpu.counters();
    assert_eq!((mended, counters.faults, counters.references), (SPACES, SPACES, SPACES * 5));
}

/// A task of any type.
type Boxed<'t> = Box<dyn FnMut(&mut CpuHandle<'_>) -> Progress + Send + 't>;

/// How a run of tasks goes.
#[derive(Clone, Copy)]
enum How {
    Drawn(u64),
    DrawnWithoutFlushes,
    OnThreads,
}

/// One CPU remaps a page 200 times while two use it: how often one of them reached the old frame behind the flush, and
/// how many messages were answered.
fn remap_under_load(mem: &Memory, how: How) -> (u64, u64) {
    let cpus = x86_cpus(3);
    let frames = [0x20_1000_u64, 0x30_1000];
    let current = AtomicU64::new(0);
    let is_over = AtomicBool::new(false);
    chain::<X86Level4>(mem, X86_LINK, Level::Pte, X86_DATA);
    let wrong = AtomicU64::new(0);
    let user = |cpu: &mut CpuHandle<'_>| {
        // What the page was before the access, and after: the access reached one of the two.
        let before = current.load(Ordering::SeqCst);
        let to = cpu.access(mem, VA, Access::Read, Kernel);
        let after = current.load(Ordering::SeqCst);
        let allowed = [before, after].map(|round| frames[round as usize / 2 % 2]);
        let is_settled = before == after && before.is_multiple_of(2);
        if to.is_ok_and(|to| is_settled && !allowed.contains(&to.pa.align_down(4096).0)) {
            wrong.fetch_add(1, Ordering::SeqCst);
        }
        if is_over.load(Ordering::SeqCst) { Progress::Done } else { Progress::More }
    };
    let mut rounds = 0_u64;
    let owner = |cpu: &mut CpuHandle<'_>| {
        rounds += 1;
        current.fetch_add(1, Ordering::SeqCst); // in between
        put::<X86Level4>(mem, VA, Level::Pte, frames[rounds as usize % 2] | X86_DATA);
        if !matches!(how, How::DrawnWithoutFlushes) {
            cpu.flush(VirtRange::of_size(page(0), 4096).unwrap(), false);
        }
        current.fetch_add(1, Ordering::SeqCst);
        is_over.store(rounds == 200, Ordering::SeqCst);
        if rounds == 200 { Progress::Done } else { Progress::More }
    };
    let mut tasks = vec![
        Bound::new(CpuId(0), Box::new(owner) as Boxed<'_>),
        Bound::new(CpuId(1), Box::new(user) as Boxed<'_>),
        Bound::new(CpuId(2), Box::new(user) as Boxed<'_>),
    ];
    match how {
        How::Drawn(seed) => drop(Scheduler::new(Seed(seed)).run(&cpus, &mut tasks).unwrap()),
        How::DrawnWithoutFlushes => drop(Scheduler::new(Seed(0)).run(&cpus, &mut tasks).unwrap()),
        How::OnThreads => on_threads(&cpus, &mut tasks).unwrap(),
    }
    drop(tasks);
    (wrong.load(Ordering::SeqCst), cpus.shoot_downs().acknowledgements)
}

#[test]
fn nobody_reaches_the_old_frame_behind_a_flush() {
    for seed in 0..20 {
        assert_eq!(remap_under_load(&memory(), How::Drawn(seed)), (0, 400), "seed {seed}");
    }
    for _ in 0..5 {
        assert_eq!(remap_under_load(&memory(), How::OnThreads), (0, 400));
    }
    let (wrong, answered) = remap_under_load(&memory(), How::DrawnWithoutFlushes);
    assert!(wrong > 0 && answered == 0, "without flushes somebody does");
}

/// Three CPUs that each note who they are, `steps` times.
fn notes(order: &RefCell<Vec<u32>>, steps: u32) -> Vec<Bound<impl FnMut(&mut CpuHandle<'_>) -> Progress>> {
    (0..3)
        .map(|cpu| {
            let mut left = steps;
            let step = move |handle: &mut CpuHandle<'_>| {
                order.borrow_mut().push(handle.id().0);
                left -= 1;
                if left == 0 { Progress::Done } else { Progress::More }
            };
            Bound::new(CpuId(cpu), step)
        })
        .collect()
}

fn order_of(seed: u64) -> (Schedule, Vec<u32>) {
    let (cpus, order) = (x86_cpus(3), RefCell::default());
    let schedule = Scheduler::new(Seed(seed)).run(&cpus, &mut notes(&order, 10)).unwrap();
    (schedule, order.into_inner())
}

#[test]
fn one_seed_is_one_order_and_the_record_is_what_ran() {
    let orders: Vec<_> = (0..50).map(order_of).collect();
    for (seed, (schedule, order)) in orders.iter().enumerate() {
        assert_eq!(order_of(seed as u64), (schedule.clone(), order.clone()));
        assert_eq!(schedule.0.iter().map(|cpu| cpu.0).collect::<Vec<_>>(), *order);
        assert!((0..3).all(|cpu| order.iter().filter(|&&ran| ran == cpu).count() == 10));
    }
    let different: std::collections::BTreeSet<_> = orders.iter().map(|(_, order)| order).collect();
    assert!(different.len() > 40, "seeds draw different orders: {}", different.len());
}

#[test]
fn a_record_replays_also_from_its_text() {
    let (schedule, order) = order_of(77);
    let read: Schedule = schedule.to_string().parse().unwrap();
    assert_eq!(read, schedule);
    let (cpus, again) = (x86_cpus(3), RefCell::default());
    Scheduler::replay(&read, &cpus, &mut notes(&again, 10)).unwrap();
    assert_eq!(again.into_inner(), order);
    assert!("0 1 two".parse::<Schedule>().is_err());
}

#[test]
fn runs_that_cannot_end_say_why() {
    let (cpus, order) = (x86_cpus(2), RefCell::default());
    assert_eq!(Scheduler::new(Seed(0)).run(&cpus, &mut notes(&order, 1)), Err(Stuck::NoCpu(CpuId(2))));
    assert!(order.borrow().is_empty());

    let cpus = x86_cpus(3);
    let limited = Scheduler::new(Seed(0)).with_most_steps(7).run(&cpus, &mut notes(&order, 10));
    assert!(matches!(&limited, Err(Stuck::Limit(ran)) if ran.0.len() == 7));
    let record: Schedule = "0 0 1".parse().unwrap();
    let ran: Schedule = "0".parse().unwrap();
    assert_eq!(Scheduler::replay(&record, &cpus, &mut notes(&order, 1)), Err(Stuck::Idle { cpu: CpuId(0), ran }));
    let record: Schedule = "0 1".parse().unwrap();
    let ended = Scheduler::replay(&record, &cpus, &mut notes(&order, 1));
    assert_eq!(ended, Err(Stuck::Unfinished(record)));
}

#[test]
fn two_tasks_of_one_cpu_run_one_after_the_other() {
    let (cpus, order) = (x86_cpus(1), RefCell::default());
    let task = |name: u32| {
        let order: &RefCell<Vec<u32>> = &order;
        let mut left = 3;
        move |_: &mut CpuHandle<'_>| {
            order.borrow_mut().push(name);
            left -= 1;
            if left == 0 { Progress::Done } else { Progress::More }
        }
    };
    let mut tasks = [Bound::new(CpuId(0), task(7)), Bound::new(CpuId(0), task(8))];
    let schedule = Scheduler::new(Seed(3)).run(&cpus, &mut tasks).unwrap();
    assert_eq!((schedule.0.len(), order.borrow().clone()), (6, vec![7, 7, 7, 8, 8, 8]));
}

/// The byte `offset` of the chain's page.
fn page(offset: u64) -> VirtAddr {
    VirtAddr((VA.0 & !0xfff) + offset)
}

/// Four CPUs add to one word each and to one shared word; every count is known beforehand.
fn add_up(threads: bool) -> (Vec<u64>, Vec<u64>, u64) {
    let mem = memory();
    chain::<Arm64Granule4K>(&mem, 0b11, Level::Pte, 0x00e8_0000_0000_0703);
    let cpus = Cpus::new(4, Format::ARM64_4K_48, &TlbShape::default());
    let mut tasks: Vec<_> = (0..4_u64)
        .map(|number| {
            let (mem, mut left) = (&mem, 500);
            let step = move |cpu: &mut CpuHandle<'_>| {
                if left == 500 {
                    cpu.load_root(Half::Both, PhysAddr(ROOT), Asid(number as u16));
                }
                let own = page(number * 8);
                let sum = cpu.read_u64(mem, own, Kernel).unwrap();
                cpu.write_u64(mem, own, sum + 1, Kernel).unwrap();
                cpu.write(mem, page(64 + number), &[left as u8], Kernel).unwrap();
                left -= 1;
                if left % 100 == 0 {
                    cpu.flush(VirtRange::ALL, false);
                }
                if left == 0 { Progress::Done } else { Progress::More }
            };
            Bound::new(CpuId(number as u32), step)
        })
        .collect();
    match threads {
        true => on_threads(&cpus, &mut tasks).unwrap(),
        false => drop(Scheduler::new(Seed(1)).run(&cpus, &mut tasks).unwrap()),
    }
    let cpu = cpus.cpu(CpuId(0)).unwrap();
    let words = (0..4).map(|at| cpu.read_u64(&mem, page(at * 8), Kernel).unwrap()).collect();
    let bytes = cpu.read_u64(&mem, page(64), Kernel).unwrap();
    assert_eq!(bytes, 0x0101_0101, "neighbours in a word keep what others write");
    let data = cpus.handles().map(|cpu| cpu.counters().data_references()).collect();
    let counted: u64 = cpus.handles().map(|cpu| cpu.counters().references + cpu.counters().data_reads).sum();
    assert_eq!(counted, mem.references());
    (words, data, cpus.shoot_downs().broadcasts)
}

#[test]
fn threads_and_drawn_orders_end_in_the_same_counts() {
    let expected = (vec![500; 4], vec![1500 + 5, 1500, 1500, 1500], 20);
    assert_eq!(add_up(false), expected);
    assert_eq!(add_up(true), expected);
}

/// CPUs that flush each other all the time wait for no cycle.
#[test]
fn cpus_that_flush_each_other_come_to_an_end() {
    let cpus = x86_cpus(4);
    let mut tasks: Vec<_> = (0..4)
        .map(|cpu| {
            let mut left = 300;
            Bound::new(CpuId(cpu), move |cpu: &mut CpuHandle<'_>| {
                cpu.flush(VirtRange::ALL, false);
                left -= 1;
                if left == 0 { Progress::Done } else { Progress::More }
            })
        })
        .collect();
    on_threads(&cpus, &mut tasks).unwrap();
    let counted = cpus.shoot_downs();
    assert_eq!((counted.messages, counted.acknowledgements), (3600, 3600));
}

/// The hardware marks an entry while software counts in its spare bits: neither loses what the other wrote.
#[test]
fn marks_and_changes_of_software_lose_nothing() {
    const COUNT: u64 = 1 << 52; // the spare bits 58:52
    let mem = memory();
    chain::<X86Level4>(&mem, X86_LINK, Level::Pte, X86_DATA);
    let slot = &mem.table_mut::<AtomicU64>(table::<X86Level4>(Level::Pte), 512).unwrap()[(VA.0 >> 12 & 511) as usize];
    let cpus = x86_cpus(2);
    let mut left = [2000_u32; 2];
    let [writes, counts] = &mut left;
    let writer = |cpu: &mut CpuHandle<'_>| {
        cpu.flush_here(None, None, false);
        cpu.access(&mem, VA, Access::Write, Kernel).unwrap();
        *writes -= 1;
        if *writes == 0 { Progress::Done } else { Progress::More }
    };
    let counter = |_: &mut CpuHandle<'_>| {
        let old = Slot::load(slot);
        let new = (old & !(0x7f << 52) | (old + COUNT) & 0x7f << 52) & !0x60; // not accessed, not dirty
        *counts -= u32::from(slot.exchange(old, new).is_ok());
        if *counts == 0 { Progress::Done } else { Progress::More }
    };
    let mut tasks =
        vec![Bound::new(CpuId(0), Box::new(writer) as Boxed<'_>), Bound::new(CpuId(1), Box::new(counter) as Boxed<'_>)];
    on_threads(&cpus, &mut tasks).unwrap();
    drop(tasks);
    assert_eq!(Slot::load(slot) >> 52 & 0x7f, 2000 % 128);
    let counters = cpus.cpu(CpuId(0)).unwrap().counters();
    assert_eq!(counters.misses, 2000);
    assert_eq!(counters.references, mem.references(), "walks that began anew are counted too");
}
