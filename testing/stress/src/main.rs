//! `kernmem-stress`: runs the stress, and tells the seed first and a tally at the end.

use core::fmt::Display;
use core::str::FromStr;
use core::time::Duration;
use std::env;
use std::io::{IsTerminal, Write, stderr};
use std::process::{self, ExitCode};
use std::thread;
use std::time::SystemTime;

use kernmem_base::Era;
use kernmem_page_alloc::Placement;
use kernmem_stress::{Broken, Format, Length, Machine, Mix, Plan, Progress, Tally, run};

const USAGE: &str = "usage: kernmem-stress [--seconds N | --rounds N] [--seed N] [--cpus all|N] [--placement dense|linux] \
                     [--era 5.10|6.1|6.12|7.2] [--mix all|typed] [--steps N]";

/// What was asked for.
#[derive(Clone, Debug)]
struct Request {
    seconds: u64,
    rounds: Option<u64>,
    seed: u64,
    cpus: u32,
    placements: Vec<Placement>,
    era: Option<Era>,
    mixes: Vec<Mix>,
    steps: u32,
}

impl Default for Request {
    fn default() -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Self {
            seconds: 600,
            rounds: None,
            seed: now.map_or(0, |now| now.as_nanos() as u64),
            cpus: all_cpus(),
            placements: vec![Placement::Dense, Placement::Linux],
            era: None,
            mixes: vec![Mix::All, Mix::Typed],
            steps: 4096,
        }
    }
}

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let request = match Request::parse(&words) {
        Ok(request) => request,
        Err(wrong) => {
            eprintln!("kernmem-stress: {wrong}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    println!("seed {}, {} CPUs", request.seed, request.cpus);
    let mut all = Tally::default();
    let legs: Vec<Plan> = request.legs();
    for plan in &legs {
        let facts = plan.machine.facts;
        println!("{:?} placement, {}, {:?} tables, {:?} operations", facts.placement, facts.era, plan.format, plan.mix);
        match leg(plan) {
            Ok(tally) => all.add(&tally),
            Err(what) => {
                println!("broken with seed {}: {what}", request.seed);
                return ExitCode::FAILURE;
            }
        }
    }
    println!("{all}");
    ExitCode::SUCCESS
}

/// Runs one plan on an allocator of its own.
fn leg(plan: &Plan) -> Result<Tally, Broken> {
    let allocator = match plan.machine.allocator() {
        Ok(allocator) => allocator,
        Err(error) => {
            eprintln!("kernmem-stress: {error}");
            process::exit(1);
        }
    };
    let shows = stderr().is_terminal();
    let done = run(&allocator, plan, |progress| match progress {
        Progress::Round(round) if shows => {
            // A terminal that has gone is no reason to stop.
            let _ = write!(stderr(), "\r{round} rounds");
        }
        Progress::Round(_) => {}
        Progress::Stalled => {
            println!("broken with seed {}: no operation ended for a minute", plan.seed);
            process::exit(1);
        }
    });
    if shows {
        eprint!("\r\x1b[K");
    }
    done
}

fn all_cpus() -> u32 {
    thread::available_parallelism().map_or(1, |cpus| cpus.get() as u32)
}

fn number<T: FromStr<Err: Display>>(word: &str) -> Result<T, String> {
    word.parse().map_err(|error| format!("{word}: {error}"))
}

impl Request {
    fn parse(words: &[String]) -> Result<Self, String> {
        let mut request = Self::default();
        for pair in words.chunks(2) {
            let [option, value] = pair else { return Err(format!("{} needs a value", pair[0])) };
            match option.as_str() {
                "--seconds" => request.seconds = number(value)?,
                "--rounds" => request.rounds = Some(number(value)?),
                "--seed" => request.seed = number(value)?,
                "--cpus" if value == "all" => request.cpus = all_cpus(),
                "--cpus" => request.cpus = number::<u32>(value)?.clamp(1, 64),
                "--placement" => request.placements = vec![placement(value)?],
                "--era" => request.era = Some(number(value)?),
                "--mix" => request.mixes = vec![mix(value)?],
                "--steps" => request.steps = number(value)?,
                _ => return Err(format!("there is no option {option}")),
            }
        }
        Ok(request)
    }

    /// A plan for each placement and mix; the era is the seed's where nobody chose one.
    fn legs(&self) -> Vec<Plan> {
        let eras = [Era::V5_10, Era::V6_1, Era::V6_12, Era::V7_2];
        let count = (self.placements.len() * self.mixes.len()) as u64;
        let legs = self.placements.iter().flat_map(|&placement| self.mixes.iter().map(move |&mix| (placement, mix)));
        let plan = |(at, (placement, mix)): (usize, (Placement, Mix))| Plan {
            machine: Machine::new(self.era.unwrap_or(eras[(self.seed as usize + at) % 4]), placement, self.cpus),
            // By the leg and the seed, so that two seeds run each placement with each format.
            format: [Format::X86, Format::Arm64][(self.seed as usize + at / 2) % 2],
            seed: self.seed,
            mix,
            steps: self.steps,
            length: match self.rounds {
                Some(rounds) => Length::Rounds(rounds),
                None => Length::Time(Duration::from_millis(self.seconds * 1000 / count)),
            },
        };
        legs.enumerate().map(plan).collect()
    }
}

fn placement(word: &str) -> Result<Placement, String> {
    match word {
        "dense" => Ok(Placement::Dense),
        "linux" => Ok(Placement::Linux),
        _ => Err(format!("{word} is neither dense nor linux")),
    }
}

fn mix(word: &str) -> Result<Mix, String> {
    match word {
        "all" => Ok(Mix::All),
        "typed" => Ok(Mix::Typed),
        _ => Err(format!("{word} is neither all nor typed")),
    }
}
