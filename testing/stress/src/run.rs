//! A run: a thread for each CPU, rounds of operations, a pause after each.
//!
//! ```text
//! each CPU   operations | all have ended | empties its lists | all have | …                  | next round
//! CPU 0                                                                 | accounts for all  |
//! ```
//!
//! # Invariants
//! 1. A CPU that finds something off, or whose allocator panics, still comes to every meeting, so nobody waits for ever.
//! 2. The first thing that was off is kept, and ends the run at its pause.

use core::any::Any;
use core::panic::AssertUnwindSafe;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use core::time::Duration;
use std::panic::catch_unwind;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Barrier, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use crate::account;
use crate::broken::{Broken, What};
use crate::draw::Draw;
use crate::op::Sort;
use crate::plan::{Length, Plan};
use crate::subject::{Figures, Subject};
use crate::tables::{Tree, with_tree};
use crate::tally::Tally;
use crate::worker::{Shared, Worker};

/// How far a run is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// So many rounds are accounted for.
    Round(u64),
    /// No operation has ended for a minute.
    Stalled,
}

/// After so long without the end of an operation a run stands still.
const PATIENCE: Duration = Duration::from_secs(60);

/// Another round comes.
const ROUND: u8 = 0;
/// All comes back, and the run ends.
const END: u8 = 1;
/// Something is off.
const STOP: u8 = 2;

/// What the threads of a run have in common, beside the allocator.
struct Course<'p> {
    plan: &'p Plan,
    meeting: Barrier,
    /// The first thing that was off.
    broken: Mutex<Option<Broken>>,
    /// Whether nothing is off. Relaxed: who reads an old value does some operations more, and meetings order the rest. It
    /// must not order what the CPUs do, or it would hide what the allocator leaves unordered.
    sound: AtomicBool,
    /// What comes after a pause: one of the three below. Relaxed: CPU 0 writes it between two meetings.
    next: AtomicU8,
    /// Operations that have ended. Relaxed: a count.
    ended: AtomicU64,
    begun: Instant,
}

/// Runs the plan on an allocator whose memory is all free. `watch` is told after each round.
///
/// # Errors
/// The first thing that was off.
pub fn run<S: Subject>(subject: &S, plan: &Plan, watch: impl FnMut(Progress)) -> Result<Tally, Broken> {
    let done = with_tree(plan.format, plan.machine.cpus, |tree| run_with(subject, plan, tree, watch));
    done.unwrap_or_else(|what| Err(Broken { round: 0, by: None, what }))
}

fn run_with<S: Subject>(
    subject: &S,
    plan: &Plan,
    tree: &dyn Tree,
    mut watch: impl FnMut(Progress),
) -> Result<Tally, Broken> {
    let shared = Shared::new(subject, plan.machine, tree);
    let beginning: Vec<Figures> = subject.allocator().zones().map(|zone| subject.figures(zone)).collect();
    let course = Course {
        plan,
        meeting: Barrier::new(plan.machine.cpus as usize),
        broken: Mutex::new(None),
        sound: AtomicBool::new(true),
        next: AtomicU8::new(ROUND),
        ended: AtomicU64::new(0),
        begun: Instant::now(),
    };
    let mut tally = Tally::default();
    thread::scope(|scope| {
        let (sender, rounds) = channel();
        let threads: Vec<_> = (0..plan.machine.cpus)
            .map(|number| {
                let (sender, shared, course, beginning) = (sender.clone(), &shared, &course, &beginning);
                scope.spawn(move || course.cpu(shared, number, beginning, &sender))
            })
            .collect();
        drop(sender);
        let mut ended = 0;
        loop {
            match rounds.recv_timeout(PATIENCE) {
                Ok(round) => watch(Progress::Round(round)),
                Err(RecvTimeoutError::Timeout) => {
                    let before = core::mem::replace(&mut ended, course.ended.load(Ordering::Relaxed));
                    if before == ended {
                        watch(Progress::Stalled);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        threads.into_iter().filter_map(|thread| thread.join().ok()).for_each(|own| tally.add(&own));
    });
    match course.broken.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(broken) => Err(broken),
        None => Ok(tally),
    }
}

impl Course<'_> {
    /// The life of one CPU.
    fn cpu<S: Subject>(
        &self,
        shared: &Shared<'_, S>,
        number: u32,
        beginning: &[Figures],
        rounds: &Sender<u64>,
    ) -> Tally {
        let mut worker = Worker::new(shared, number);
        let mut round = 0;
        loop {
            self.operations(&mut worker, number, round);
            self.meeting.wait();
            self.kept(round, None, || worker.settle());
            self.meeting.wait();
            if number == 0 {
                self.kept(round, None, || account::check(shared, &mut worker.cpu, self.plan.mix, round));
                worker.tally.pauses += 1;
                self.next.store(self.after(round), Ordering::Relaxed);
                // Nobody listens any more only after the last round.
                let _ = rounds.send(round + 1);
            }
            self.meeting.wait();
            match self.next.load(Ordering::Relaxed) {
                ROUND => round += 1,
                END => {
                    self.end(&mut worker, number, round, beginning);
                    return worker.tally;
                }
                _ => return worker.tally,
            }
        }
    }

    /// One round of one CPU: two of five fill memory, two empty it, and one begins with all given back.
    fn operations<S: Subject>(&self, worker: &mut Worker<'_, S>, number: u32, round: u64) {
        let tide = Draw::new(self.plan.seed, u32::MAX, round).below(5);
        if tide == 0 && !self.kept(round, None, || worker.give_all()) {
            return;
        }
        let fills = tide > 2;
        for step in 0..self.plan.steps {
            let operation = round * u64::from(self.plan.steps) + u64::from(step);
            let mut draw = Draw::new(self.plan.seed, number, operation);
            let sort = self.plan.mix.draw(&mut draw, fills);
            if !self.kept(round, Some((number, step, sort)), || worker.step(sort, &mut draw)) || !self.is_sound() {
                return;
            }
            self.ended.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Everything comes back, and is accounted for once more.
    fn end<S: Subject>(&self, worker: &mut Worker<'_, S>, number: u32, round: u64, beginning: &[Figures]) {
        let shared = worker.shared();
        self.kept(round, None, || worker.finish());
        self.meeting.wait();
        self.kept(round, None, || worker.settle());
        self.meeting.wait();
        if number == 0 && self.is_sound() {
            let all = || {
                account::check(shared, &mut worker.cpu, self.plan.mix, round)?;
                account::whole(shared, &mut worker.cpu, beginning)?;
                account::check(shared, &mut worker.cpu, self.plan.mix, round + 1)
            };
            self.kept(round, None, all);
        }
    }

    /// Does something, and keeps what was off with it; whether all went well.
    fn kept(&self, round: u64, by: Option<(u32, u32, Sort)>, work: impl FnOnce() -> Result<(), What>) -> bool {
        let what = match catch_unwind(AssertUnwindSafe(work)) {
            Ok(Ok(())) => return true,
            Ok(Err(what)) => what,
            Err(panic) => What::Panic(message(&*panic)),
        };
        let mut broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
        broken.get_or_insert(Broken { round, by, what });
        self.sound.store(false, Ordering::Relaxed);
        false
    }

    fn is_sound(&self) -> bool {
        self.sound.load(Ordering::Relaxed)
    }

    fn after(&self, round: u64) -> u8 {
        let goes_on = match self.plan.length {
            Length::Rounds(rounds) => round + 1 < rounds,
            Length::Time(time) => self.begun.elapsed() < time,
        };
        match (self.is_sound(), goes_on) {
            (false, _) => STOP,
            (true, true) => ROUND,
            (true, false) => END,
        }
    }
}

/// What a panic said.
fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a word".to_owned())
}
