//! Tasks on CPUs: in an order that a seed draws and a list repeats, or on threads of the host.
//!
//! A task is a sequence of steps, each one operation on its CPU. CPUs run in turns of one step; on one CPU, tasks run
//! one after the other.
//!
//! # Invariants
//! 1. The same seed and the same tasks give the same order; a recorded order gives it without the seed.
//! 2. Nothing but the seed or the record decides who is next.

use core::fmt;
use core::str::FromStr;
use std::collections::VecDeque;
use std::thread;

use kernmem_base::{CpuId, Seed};

use crate::{CpuHandle, Cpus};

/// Whether a task has more to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// There is another step.
    More,
    /// That was the last step.
    Done,
}

/// Something that runs on a CPU, step by step.
pub trait Task {
    /// Does one operation.
    fn step(&mut self, cpu: &mut CpuHandle<'_>) -> Progress;
}

impl<T: FnMut(&mut CpuHandle<'_>) -> Progress> Task for T {
    fn step(&mut self, cpu: &mut CpuHandle<'_>) -> Progress {
        self(cpu)
    }
}

/// A task and the CPU on which it runs.
pub struct Bound<T> {
    /// The CPU.
    pub cpu: CpuId,
    /// What runs there.
    pub task: T,
}

impl<T> Bound<T> {
    /// `task` on CPU `cpu`.
    #[must_use]
    pub const fn new(cpu: CpuId, task: T) -> Self {
        Self { cpu, task }
    }
}

impl<T> fmt::Debug for Bound<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bound").field("cpu", &self.cpu).finish_non_exhaustive()
    }
}

/// The order in which CPUs ran; as text, their numbers with blanks between them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Schedule(pub Vec<CpuId>);

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, cpu) in self.0.iter().enumerate() {
            write!(f, "{}{}", if at == 0 { "" } else { " " }, cpu.0)?;
        }
        Ok(())
    }
}

impl FromStr for Schedule {
    type Err = core::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.split_whitespace().map(|word| word.parse().map(CpuId)).collect::<Result<_, _>>().map(Self)
    }
}

/// Why a run ended before its tasks did; the order of the steps that were made comes with it.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Stuck {
    /// A task is bound to a CPU that the machine does not have; nothing ran.
    NoCpu(CpuId),
    /// As many steps as allowed were made.
    Limit(Schedule),
    /// The record names a CPU that has nothing to do: it is of other tasks.
    Idle {
        /// The CPU.
        cpu: CpuId,
        /// The steps before it.
        ran: Schedule,
    },
    /// The record ends while tasks have more to do.
    Unfinished(Schedule),
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCpu(cpu) => write!(f, "there is no CPU {}", cpu.0),
            Self::Limit(ran) => write!(f, "not finished after the {} steps that are allowed", ran.0.len()),
            Self::Idle { cpu, ran } => write!(f, "step {}: CPU {} has nothing to do", ran.0.len() + 1, cpu.0),
            Self::Unfinished(ran) => write!(f, "the record ends after {} steps, the tasks do not", ran.0.len()),
        }
    }
}

impl core::error::Error for Stuck {}

/// Runs tasks in a drawn order.
#[derive(Clone, Copy, Debug)]
pub struct Scheduler {
    seed: Seed,
    most_steps: usize,
}

impl Scheduler {
    /// A scheduler that draws from `seed` and gives up after a million steps.
    #[must_use]
    pub const fn new(seed: Seed) -> Self {
        Self { seed, most_steps: 1_000_000 }
    }

    /// The same with another number of steps after which it gives up.
    #[must_use]
    pub const fn with_most_steps(self, most_steps: usize) -> Self {
        Self { most_steps, ..self }
    }

    /// Runs every task to its end; the order that was drawn.
    ///
    /// # Errors
    /// [`Stuck`]; the tasks stay as they were when the last step ended.
    pub fn run<T: Task>(mut self, cpus: &Cpus, tasks: &mut [Bound<T>]) -> Result<Schedule, Stuck> {
        let mut queues = Queues::new(cpus, tasks)?;
        let mut ran = Schedule::default();
        while !queues.ready.is_empty() {
            if ran.0.len() == self.most_steps {
                return Err(Stuck::Limit(ran));
            }
            let drawn = (self.seed.draw() % queues.ready.len() as u64) as usize;
            ran.0.push(queues.step(drawn));
        }
        Ok(ran)
    }

    /// Runs the tasks in the order of a record.
    ///
    /// # Errors
    /// [`Stuck`], where the record is of other tasks; they stay as they were when the last step ended.
    pub fn replay<T: Task>(record: &Schedule, cpus: &Cpus, tasks: &mut [Bound<T>]) -> Result<(), Stuck> {
        let mut queues = Queues::new(cpus, tasks)?;
        for (at, &cpu) in record.0.iter().enumerate() {
            let Some(ready) = queues.ready.iter().position(|queue| queue.handle_id == cpu) else {
                return Err(Stuck::Idle { cpu, ran: Schedule(record.0[..at].to_vec()) });
            };
            queues.step(ready);
        }
        if queues.ready.is_empty() { Ok(()) } else { Err(Stuck::Unfinished(record.clone())) }
    }
}

/// The unfinished tasks of one CPU.
struct Queue<'t, 'c, T> {
    handle_id: CpuId,
    handle: CpuHandle<'c>,
    tasks: VecDeque<&'t mut T>,
}

/// The CPUs that have something to do, in the order of their numbers.
struct Queues<'t, 'c, T> {
    ready: Vec<Queue<'t, 'c, T>>,
}

impl<'t, 'c, T: Task> Queues<'t, 'c, T> {
    fn new(cpus: &'c Cpus, tasks: &'t mut [Bound<T>]) -> Result<Self, Stuck> {
        let mut ready: Vec<Queue<'t, 'c, T>> = Vec::new();
        for Bound { cpu, task } in tasks {
            let handle = cpus.cpu(*cpu).ok_or(Stuck::NoCpu(*cpu))?;
            match ready.iter_mut().find(|queue| queue.handle_id == *cpu) {
                Some(queue) => queue.tasks.push_back(task),
                None => ready.push(Queue { handle_id: *cpu, handle, tasks: VecDeque::from([task]) }),
            }
        }
        ready.sort_by_key(|queue| queue.handle_id);
        Ok(Self { ready })
    }

    /// One step on a CPU that is ready; which it was.
    fn step(&mut self, at: usize) -> CpuId {
        let queue = &mut self.ready[at];
        let id = queue.handle_id;
        let progress = queue.tasks.front_mut().map(|task| task.step(&mut queue.handle));
        if progress != Some(Progress::More) {
            queue.tasks.pop_front();
        }
        if queue.tasks.is_empty() {
            self.ready.remove(at);
        }
        id
    }
}

/// Runs the tasks on threads of the host, one for each CPU that has tasks, to their ends.
///
/// # Errors
/// [`Stuck::NoCpu`]; nothing ran then.
///
/// # Panics
/// A task panics.
pub fn on_threads<T: Task + Send>(cpus: &Cpus, tasks: &mut [Bound<T>]) -> Result<(), Stuck> {
    let queues = Queues::new(cpus, tasks)?;
    thread::scope(|scope| {
        for mut queue in queues.ready {
            scope.spawn(move || {
                for task in &mut queue.tasks {
                    while task.step(&mut queue.handle) == Progress::More {}
                }
            });
        }
    });
    Ok(())
}
