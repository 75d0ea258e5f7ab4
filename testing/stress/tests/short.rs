//! A short run over every era and both placements, and what a seed fixes.
#![allow(clippy::unwrap_used, reason = "a test stops where an answer is missing")]

use kernmem_base::Era;
use kernmem_page_alloc::Placement;
use kernmem_stress::{Broken, Format, Length, Machine, Mix, Outcome, Plan, Sort, Tally, run};

const ERAS: [Era; 4] = [Era::V5_10, Era::V6_1, Era::V6_12, Era::V7_2];

fn stress(era: Era, placement: Placement, mix: Mix, cpus: u32) -> Result<Tally, Broken> {
    let machine = Machine::new(era, placement, cpus);
    let plan = Plan { machine, format: Format::X86, seed: 11, mix, steps: 400, length: Length::Rounds(6) };
    run(&machine.allocator().unwrap(), &plan, |_| {})
}

#[test]
fn three_cpus_lose_no_frame_in_linux_placement() {
    for (era, mix) in ERAS.into_iter().flat_map(|era| [Mix::All, Mix::Typed].map(|mix| (era, mix))) {
        let tally = stress(era, Placement::Linux, mix, 3).unwrap_or_else(|broken| panic!("{era} {mix:?}: {broken}"));
        assert_eq!((tally.operations(), tally.pauses), (3 * 400 * 6, 6));
    }
}

#[test]
fn three_cpus_lose_no_frame_in_dense_placement() {
    for (era, mix) in ERAS.into_iter().flat_map(|era| [Mix::All, Mix::Typed].map(|mix| (era, mix))) {
        let tally = stress(era, Placement::Dense, mix, 3).unwrap_or_else(|broken| panic!("{era} {mix:?}: {broken}"));
        assert_eq!((tally.operations(), tally.pauses), (3 * 400 * 6, 6));
    }
}

/// With one CPU a seed fixes all: two runs have one tally.
#[test]
fn one_cpu_does_the_same_twice() {
    for placement in [Placement::Dense, Placement::Linux] {
        let [first, second] = [(); 2].map(|()| stress(Era::V6_12, placement, Mix::All, 1).unwrap());
        assert_eq!(first, second, "{placement:?}");
    }
}

/// A run is only worth something if its CPUs meet each other and the end of memory.
#[test]
fn a_run_does_every_sort_of_operation_and_runs_out_of_memory() {
    let machine = Machine::new(Era::V6_1, Placement::Linux, 2);
    let plan = Plan { machine, format: Format::X86, seed: 5, mix: Mix::All, steps: 6000, length: Length::Rounds(8) };
    let tally = run(&machine.allocator().unwrap(), &plan, |_| {}).unwrap_or_else(|broken| panic!("{broken}"));
    for sort in Sort::ALL.into_iter().filter(|&sort| sort != Sort::Wrong) {
        assert_ne!(tally.of(sort, Outcome::Done), 0, "{}", sort.name());
    }
    for (sort, outcome) in [
        (Sort::Wrong, Outcome::Refused),
        (Sort::Large, Outcome::NoMemory),
        (Sort::Bulk, Outcome::Partly),
        (Sort::Range, Outcome::Busy),
    ] {
        assert_ne!(tally.of(sort, outcome), 0, "{} {outcome:?}", sort.name());
    }
}
