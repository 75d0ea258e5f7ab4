//! A run without threads: several CPUs in one, whose operations somebody else chose, byte by byte.
//!
//! For fuzzing: what the threads of a run do by chance is here what the input says, so a run that breaks can be repeated
//! and shortened.

use crate::account;
use crate::broken::{Broken, What};
use crate::draw::Draw;
use crate::op::Sort;
use crate::plan::Plan;
use crate::subject::{Figures, Subject};
use crate::tables::{Tree, with_tree};
use crate::tally::Tally;
use crate::worker::{Shared, Worker};

/// Bytes of one operation: CPU, sort, and two from which the rest is drawn. A sort that there is none of is a pause.
pub const BYTES: usize = 4;

/// Plays `bytes` on an allocator whose memory is all free: the machine, format and mix are the plan's.
///
/// # Errors
/// The first thing that was off. Its round is the number of the operation.
pub fn play<S: Subject>(subject: &S, plan: &Plan, bytes: &[u8]) -> Result<Tally, Broken> {
    let done = with_tree(plan.format, plan.machine.cpus, |tree| play_with(subject, plan, tree, bytes));
    done.unwrap_or_else(|what| Err(Broken { round: 0, by: None, what }))
}

fn play_with<S: Subject>(subject: &S, plan: &Plan, tree: &dyn Tree, bytes: &[u8]) -> Result<Tally, Broken> {
    let shared = Shared::new(subject, plan.machine, tree);
    let beginning: Vec<Figures> = subject.allocator().zones().map(|zone| subject.figures(zone)).collect();
    let mut cpus: Vec<Worker<'_, S>> = (0..plan.machine.cpus).map(|number| Worker::new(&shared, number)).collect();
    let mut tally = Tally::default();
    let mut round = 0;
    for &[cpu, sort, low, high] in bytes.as_chunks::<BYTES>().0 {
        let cpu = u32::from(cpu) % plan.machine.cpus;
        let (worker, sort) = (&mut cpus[cpu as usize], Sort::ALL.get(usize::from(sort) % (Sort::ALL.len() + 1)));
        let mut draw = Draw::new(u64::from(u16::from_le_bytes([low, high])), 0, 0);
        match sort {
            Some(&sort) if plan.mix.has(sort) => {
                worker.step(sort, &mut draw).map_err(|what| Broken { round, by: Some((cpu, 0, sort)), what })?
            }
            Some(_) => {}
            None => {
                tally.pauses += 1;
                pause(&shared, &mut cpus, plan, round).map_err(|what| Broken { round, by: None, what })?;
            }
        }
        round += 1;
    }
    end(&shared, &mut cpus, plan, &beginning).map_err(|what| Broken { round, by: None, what })?;
    cpus.iter().for_each(|cpu| tally.add(&cpu.tally));
    Ok(tally)
}

fn pause<S: Subject>(shared: &Shared<'_, S>, cpus: &mut [Worker<'_, S>], plan: &Plan, round: u64) -> Result<(), What> {
    cpus.iter_mut().try_for_each(Worker::settle)?;
    account::check(shared, &mut cpus[0].cpu, plan.mix, round)
}

/// Everything comes back.
fn end<S: Subject>(
    shared: &Shared<'_, S>,
    cpus: &mut [Worker<'_, S>],
    plan: &Plan,
    beginning: &[Figures],
) -> Result<(), What> {
    pause(shared, cpus, plan, 0)?;
    cpus.iter_mut().try_for_each(Worker::finish)?;
    pause(shared, cpus, plan, 1)?;
    account::whole(shared, &mut cpus[0].cpu, beginning)?;
    account::check(shared, &mut cpus[0].cpu, plan.mix, 2)
}
