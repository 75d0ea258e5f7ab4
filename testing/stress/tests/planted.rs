//! Planted faults: an allocator that does one thing wrong must turn the stress red, with the right account.
#![allow(clippy::unwrap_used, reason = "a test stops where an answer is missing")]

use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::Mutex;

use kernmem_base::{Era, Order, Pfn};
use kernmem_page_alloc::{AllocError, FreeError, Gfp, HeapStore, Placement, Zone, ZoneKind};
use kernmem_stress::{
    Account, Allocator, Broken, Cpu, Figures, Format, Length, Machine, Mix, Plan, Subject, What, run,
};

/// What is done wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    /// None.
    None,
    /// A frame is given that somebody has.
    GivesTwice,
    /// After a block came back, one is lost.
    Loses,
    /// A block comes back, and half of it is lost.
    LosesHalf,
    /// One free frame too many is told.
    TellsOneMore,
    /// A block is told that is two of the next smaller order.
    TellsApart,
    /// Frames that were handed over are told wrongly.
    TellsManaged,
    /// A block is taken back from who has it not.
    TakesAnyBack,
    /// A block is cut from the middle of a larger one.
    Misplaces,
    /// A request for DMA memory is served from elsewhere.
    WrongZone,
    /// The allocator stops with a sentence.
    Panics,
}

/// An allocator that does one thing wrong, every so many calls.
struct Faulty {
    inner: Allocator,
    fault: Fault,
    calls: AtomicU64,
    last: Mutex<Option<Pfn>>,
}

/// Of so many calls one goes wrong.
const RARE: u64 = 97;

impl Faulty {
    fn new(machine: &Machine, fault: Fault) -> Self {
        Self { inner: machine.allocator().unwrap(), fault, calls: AtomicU64::new(0), last: Mutex::new(None) }
    }

    fn is_turn(&self, fault: Fault) -> bool {
        // Relaxed: a count.
        self.fault == fault && self.calls.fetch_add(1, Ordering::Relaxed) % RARE == RARE - 1
    }
}

impl Subject for Faulty {
    fn allocator(&self) -> &Allocator {
        &self.inner
    }

    fn alloc(&self, cpu: &mut Cpu, nid: Option<u32>, gfp: Gfp, order: Order) -> Result<Pfn, AllocError> {
        if self.fault == Fault::WrongZone && gfp == Gfp::DMA {
            return self.inner.alloc(cpu, nid, Gfp::KERNEL, order);
        }
        assert!(!self.is_turn(Fault::Panics), "this must not be");
        if order == Order(1) && self.is_turn(Fault::Misplaces) {
            let block = self.inner.alloc(cpu, nid, gfp, Order(2))?;
            self.inner.split(cpu, block, Order(2)).unwrap();
            return Ok(Pfn(block.0 + 1));
        }
        let pfn = self.inner.alloc(cpu, nid, gfp, order)?;
        if self.fault == Fault::GivesTwice && order == Order(0) {
            let mut last = self.last.lock().unwrap();
            let before = last.filter(|_| self.is_turn(Fault::GivesTwice));
            *last = Some(pfn);
            return Ok(before.unwrap_or(pfn));
        }
        Ok(pfn)
    }

    fn free(&self, cpu: &mut Cpu, pfn: Pfn, order: Order) -> Result<(), FreeError> {
        if order == Order(1) && self.is_turn(Fault::LosesHalf) {
            self.inner.split(cpu, pfn, order)?;
            return self.inner.free(cpu, pfn, Order(0));
        }
        let answer = self.inner.free(cpu, pfn, order);
        if answer.is_ok() && self.is_turn(Fault::Loses) {
            // Taken, and told to nobody.
            let _lost = self.inner.alloc(cpu, None, Gfp::KERNEL, order);
        }
        if self.is_turn(Fault::TakesAnyBack) { Ok(()) } else { answer }
    }

    fn figures(&self, zone: &Zone<HeapStore>) -> Figures {
        let mut figures = Allocator::figures(&self.inner, zone);
        let is_it = zone.span().kind == ZoneKind::Movable;
        match self.fault {
            Fault::TellsOneMore if is_it => figures.free += 1,
            Fault::TellsManaged if is_it => figures.managed -= 1,
            Fault::TellsApart if is_it => {
                let row = (1..9).find(|&order| figures.nr_free(order) != 0).unwrap();
                let kind = figures.blocks[row].iter().position(|&blocks| blocks != 0).unwrap();
                figures.blocks[row][kind] -= 1;
                figures.blocks[row - 1][kind] += 2;
            }
            _ => {}
        }
        figures
    }
}

fn stress(fault: Fault, placement: Placement, cpus: u32) -> Result<(), Broken> {
    let machine = Machine::new(Era::V6_12, placement, cpus);
    let plan = Plan { machine, format: Format::X86, seed: 3, mix: Mix::All, steps: 700, length: Length::Rounds(3) };
    run(&Faulty::new(&machine, fault), &plan, |_| {}).map(|_| ())
}

#[track_caller]
fn is_found(fault: Fault, fits: impl Fn(&What) -> bool) {
    for (placement, cpus) in [(Placement::Linux, 1), (Placement::Linux, 3), (Placement::Dense, 2)] {
        match stress(fault, placement, cpus) {
            Ok(()) => panic!("{fault:?} was not found with {cpus} CPUs and {placement:?}"),
            Err(broken) => assert!(fits(&broken.what), "{fault:?} with {cpus} CPUs and {placement:?}: {broken}"),
        }
    }
}

#[test]
fn an_allocator_without_a_fault_passes() {
    assert_eq!(stress(Fault::None, Placement::Linux, 2), Ok(()));
}

/// At once if its first owner still has it; if that one gave it back before the second came, when the second gives it back.
#[test]
fn a_frame_that_is_given_twice_is_found() {
    is_found(Fault::GivesTwice, |what| {
        let is_late = matches!(what, What::Free(FreeError::DoubleFree { .. }));
        is_late || matches!(what, What::GivenTwice { .. } | What::WrongZone { .. })
    });
}

#[test]
fn a_lost_frame_is_missed_at_the_pause() {
    for fault in [Fault::Loses, Fault::LosesHalf] {
        is_found(fault, |what| matches!(what, What::Figures { account: Account::InBlocks, .. }));
    }
}

#[test]
fn figures_that_do_not_agree_are_named() {
    let names = |account| move |what: &What| matches!(what, What::Figures { account: own, .. } if *own == account);
    is_found(Fault::TellsOneMore, names(Account::Free));
    is_found(Fault::TellsManaged, names(Account::Managed));
    is_found(Fault::TellsApart, |what| matches!(what, What::Figures { account: Account::Blocks(_), .. }));
}

#[test]
fn a_free_that_nobody_may_make_is_found() {
    is_found(Fault::TakesAnyBack, |what| matches!(what, What::Accepted { answer: Ok(()), .. }));
}

#[test]
fn a_block_in_the_wrong_place_is_found() {
    is_found(Fault::Misplaces, |what| matches!(what, What::Misplaced { order: Order(1), .. }));
    is_found(Fault::WrongZone, |what| matches!(what, What::WrongZone { .. }));
}

/// The other CPUs do not wait for one whose allocator stopped.
#[test]
fn a_panic_ends_the_run_with_its_sentence() {
    is_found(Fault::Panics, |what| *what == What::Panic("this must not be".to_owned()));
}
