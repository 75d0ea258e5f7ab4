//! The command `kernmem`: arguments in, answers out; no rule of Linux.
//!
//! * [`args`]: the verbs and the options that describe a kernel.
//! * [`machine`]: opens a source and boots it.
//! * [`failure`]: what ends the program, in one line.
//! * [`eras`]: one source in several eras.
//! * [`guard`]: how much of the host a boot may take.
//! * [`output`]: standard output, and readers that go away early.
//! * A file for each verb.

mod args;
mod boot;
mod diff;
mod eras;
mod explain;
mod failure;
mod guard;
mod info;
mod lab;
mod layout;
mod machine;
mod numbers;
mod output;
mod ptdump;
mod record;
mod shell;
mod verify;
mod walk;

use std::process::ExitCode;

use args::{Cli, Verb};
use clap::{CommandFactory, Parser};
use failure::Failure;
use output::Out;

/// What a verb says when it is done.
type Outcome = Result<ExitCode, Failure>;

fn main() -> ExitCode {
    let outcome = match Cli::try_parse() {
        Ok(cli) => run(&cli),
        Err(error) if error.use_stderr() => Err(Failure::usage(&error)),
        Err(shown) => {
            let mut out = Out::new();
            out.text(&shown.to_string());
            return ExitCode::SUCCESS;
        }
    };
    outcome.unwrap_or_else(|failure| failure.report())
}

fn run(cli: &Cli) -> Outcome {
    match &cli.verb {
        None => boot::run(&cli.boot, None),
        Some(Verb::Boot { source, options }) => boot::run(options, source.as_deref()),
        Some(Verb::Ptdump(options)) => ptdump::run(options),
        Some(Verb::Layout(options)) => layout::run(options),
        Some(Verb::Info(options)) => info::run(options),
        Some(Verb::Walk(options)) => walk::run(options),
        Some(Verb::Explain(options)) => explain::run(options),
        Some(Verb::Diff(options)) => diff::run(options),
        Some(Verb::Lab(options)) => lab::run(options),
        Some(Verb::Shell(options)) => shell::run(options),
        Some(Verb::Verify(options)) => verify::run(options),
        Some(Verb::Record(options)) => record::run(options),
        Some(Verb::Completions { shell }) => Ok(completions(*shell)),
    }
}

fn completions(shell: clap_complete::Shell) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "kernmem", &mut script);
    Out::new().text(&String::from_utf8_lossy(&script));
    ExitCode::SUCCESS
}
