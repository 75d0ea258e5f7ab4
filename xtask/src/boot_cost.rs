//! What a boot costs for each doubling of memory, from 4 GiB to 64 TiB: a table in Markdown.
//!
//! Each row boots a machine into the shell, has it show its free blocks, and takes the time until the answer is there
//! and the most memory that the program held by then: the boot, the running kernel above it, and one command.
//!
//! Needs a host that tells a process's peak in `/proc/PID/status`.

use core::fmt::Write as _;
use core::time::Duration;
use std::fs;
use std::io::{self, BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::failure::Failure;

/// Sizes of memory: 4 GiB times the powers of two up to 64 TiB.
const DOUBLINGS: u32 = 14;

/// Runs a row is measured by; the median counts.
const RUNS: usize = 5;

/// What the largest machine may cost.
const MOST: Cost = Cost { time: Duration::from_secs(1), peak_kib: 200 << 10 };

/// A column: its head, a preset with options, and how often its memory is doubled.
struct Machine {
    name: &'static str,
    preset: &'static str,
    options: &'static [&'static str],
    doublings: u32,
}

/// Two that map their memory in blocks, and one that needs 2 MiB of tables for each gigabyte.
const MACHINES: [Machine; 3] = [
    Machine { name: "arm64", preset: "arm64-4g", options: &["--cmdline", "rodata=off"], doublings: DOUBLINGS },
    Machine { name: "x86-64", preset: "x86-4g", options: &["--cpu", "+pdpe1gb"], doublings: DOUBLINGS },
    Machine { name: "arm64 in pages", preset: "arm64-4g", options: &["--cmdline", "rodata=full"], doublings: 4 },
];

#[derive(Clone, Copy)]
struct Cost {
    time: Duration,
    peak_kib: u64,
}

/// Prints the table. Fails if the largest machine costs more than it may.
pub fn run(root: &Path) -> Result<(), Failure> {
    let built = Command::new("cargo").args(["build", "--quiet", "--release"]).current_dir(root).status();
    if !built.map_err(|error| Failure::Start("cargo", error))?.success() {
        return Err(Failure::Program("cargo build --release"));
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), Into::into);
    let program = target.join("release/kernmem");
    let mut head = "| memory |".to_owned();
    for machine in &MACHINES {
        let _ = write!(head, " {} |", machine.name);
    }
    println!("{head}\n|---:|{}", "---:|".repeat(MACHINES.len()));
    let mut too_much = 0;
    for doubling in 0..=DOUBLINGS {
        let memory = size(4 << doubling);
        let mut row = format!("| {memory} |");
        for machine in &MACHINES {
            if doubling > machine.doublings {
                row.push_str(" |");
                continue;
            }
            let cost = median(&program, machine, &memory)?;
            let _ = write!(row, " {} ms, {} MiB |", cost.time.as_millis(), cost.peak_kib.div_ceil(1024));
            too_much += usize::from(cost.time > MOST.time || cost.peak_kib > MOST.peak_kib);
        }
        println!("{row}");
    }
    if too_much == 0 { Ok(()) } else { Err(Failure::Findings(too_much)) }
}

/// Gibibytes as the command line takes them.
fn size(gib: u64) -> String {
    if gib >= 1024 { format!("{}T", gib / 1024) } else { format!("{gib}G") }
}

fn median(program: &Path, machine: &Machine, memory: &str) -> Result<Cost, Failure> {
    let mut costs = Vec::with_capacity(RUNS);
    for _ in 0..RUNS {
        let mut command = Command::new(program);
        command.args(["shell", machine.preset, "--memory", memory]).args(machine.options);
        costs.push(once(command)?);
    }
    costs.sort_by_key(|cost| cost.time);
    Ok(costs[RUNS / 2])
}

/// Boots, asks, and looks at the program while it waits for more.
fn once(mut command: Command) -> Result<Cost, Failure> {
    const NAME: &str = "kernmem shell";
    let lost = |error| Failure::Start(NAME, error);
    let start = Instant::now();
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(lost)?;
    let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(Failure::Program(NAME));
    };
    stdin.write_all(b"show buddyinfo\n").map_err(lost)?;
    let mut answer = String::new();
    let mut lines = BufReader::new(stdout);
    while !answer.starts_with("Node") {
        answer.clear();
        if lines.read_line(&mut answer).map_err(lost)? == 0 {
            return Err(Failure::Program(NAME));
        }
    }
    let time = start.elapsed();
    let peak_kib = peak_kib(child.id())?;
    drop(stdin);
    let _rest = io::copy(&mut lines, &mut io::sink());
    match child.wait().map_err(lost)?.success() {
        true => Ok(Cost { time, peak_kib }),
        false => Err(Failure::Program(NAME)),
    }
}

/// The most memory that a process has held.
fn peak_kib(pid: u32) -> Result<u64, Failure> {
    let path = Path::new("/proc").join(pid.to_string()).join("status");
    let status = fs::read_to_string(&path).map_err(|error| Failure::File(path, error))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
    number.ok_or(Failure::Program("the host"))
}
