//! `shell`: a running kernel of a simulated machine under a small language of commands.
//!
//! * [`parse`]: lines to words and numbers.
//! * [`session`]: the kernel, the CPU that asks, names; one command on it.
//! * [`table`]: the commands by name. By subject: `pages`, `areas`, `huge`, `processes`, `access`, `show`.
//! * [`own`]: what the commands have taken.
//! * [`trace`]: vmalloc's calls as a tree.
//! * [`script`]: commands from a text, a file or standard input; [`prompt`]: from a person.
//! * [`told`]: answers on standard output, as text or JSON.
//!
//! Not here: rules of Linux; what the kernel does (`kernmem-live` and below).
//!
//! # Invariants
//! 1. No line ends the program but by its rules: what is wrong with a line is told, what the kernel refuses is an answer.
//! 2. What a command printed before it failed is told.
//! 3. Commands write into memory that commands have taken, and give back no other.

mod access;
mod areas;
mod huge;
mod own;
mod pages;
mod parse;
mod processes;
mod prompt;
mod script;
mod session;
mod show;
mod table;
mod told;
mod trace;

use std::io::{self, IsTerminal};
use std::path::PathBuf;

use clap::Args;
use kernmem_live::{Live, Options};

use crate::Outcome;
use crate::args::KernelArgs;
use crate::failure::Failure;
use crate::guard::Guard;
use crate::machine::Opened;
use session::Session;

/// What runs, and on what.
#[derive(Args, Debug)]
pub struct ShellArgs {
    /// A preset, a file, a recording, or `-`
    source: Option<String>,
    /// Run these commands, parted by `;` or lines
    #[arg(short = 'c', long, value_name = "COMMANDS", conflicts_with = "script", allow_hyphen_values = true)]
    commands: Option<String>,
    /// Run the commands of a file
    #[arg(short = 'f', long, value_name = "FILE")]
    script: Option<PathBuf>,
    /// Print each call of vmalloc as an indented tree
    #[arg(long)]
    trace: bool,
    /// Answer as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    kernel: KernelArgs,
}

/// Where commands come from.
enum Input {
    Text(String),
    File(PathBuf),
    Lines,
    Person,
}

/// Boots, and runs what is asked.
pub fn run(args: &ShellArgs) -> Outcome {
    let input = input(args)?;
    let opened = args.kernel.open(args.source.as_deref())?;
    let failed = |error| failure(&opened, &error);
    let memory = Live::memory(&opened.source).map_err(failed)?;
    let guard = Guard::new(&opened.name);
    let live = Live::start_watched(&memory, &opened.source, Options::default(), guard, |guard| guard.record);
    let mut live = live.map_err(failed)?;
    let mut session = Session::new(&mut live, args.trace);
    match input {
        Input::Text(text) => script::run(&mut session, "-c", text.as_bytes(), args.json),
        Input::File(path) => {
            let name = path.display().to_string();
            script::run(&mut session, &name, script::open(&path)?, args.json)
        }
        Input::Lines => script::run(&mut session, "standard input", io::stdin().lock(), args.json),
        Input::Person => prompt::run(&mut session, &opened),
    }
}

fn input(args: &ShellArgs) -> Result<Input, Failure> {
    match (&args.commands, &args.script) {
        (Some(text), _) => Ok(Input::Text(text.clone())),
        (None, Some(path)) => Ok(Input::File(path.clone())),
        (None, None) if args.source.as_deref() == Some("-") => {
            Err(Failure::input("standard input is the machine: give the commands with -c or --script"))
        }
        (None, None) if io::stdin().is_terminal() && !args.json => Ok(Input::Person),
        (None, None) => Ok(Input::Lines),
    }
}

fn failure(opened: &Opened, error: &kernmem_live::LiveError) -> Failure {
    let line = format!("{}: {error}", opened.name);
    if error.is_beyond() { Failure::beyond(line) } else { Failure::input(line) }
}
