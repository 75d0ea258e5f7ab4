//! Commands from a person: what is wrong is told, and the next line is asked for.

use std::process::ExitCode;

use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::MemHistory;
use rustyline::validate::Validator;
use rustyline::{Config, Context, Editor, Helper};

use super::parse::{Command, commands};
use super::session::{Answer, Session, Stop};
use super::{table, told};
use crate::Outcome;
use crate::failure::Failure;
use crate::machine::Opened;
use crate::output::Out;

/// Completes the names of commands.
struct Names;

impl Completer for Names {
    type Candidate = String;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        let typed = line.get(..at).unwrap_or_default();
        let start = typed.rfind([' ', ';', '=', '-']).map_or(0, |before| before + 1);
        let word = typed.get(start..).unwrap_or_default();
        let names = table::all().map(|entry| entry.name).filter(|name| name.starts_with(word));
        Ok((start, names.map(str::to_owned).collect()))
    }
}

impl Hinter for Names {
    type Hint = String;
}

impl Highlighter for Names {}
impl Validator for Names {}
impl Helper for Names {}

/// Asks for lines until the person leaves.
pub fn run(session: &mut Session<'_, '_>, opened: &Opened) -> Outcome {
    let failed = |error: ReadlineError| Failure::input(format!("shell: the terminal: {error}; use -c or --script"));
    let mut editor: Editor<Names, MemHistory> =
        Editor::with_history(Config::default(), MemHistory::new()).map_err(failed)?;
    editor.set_helper(Some(Names));
    let (era, cpus) = (opened.source.config.era, session.live.running.cpu_count());
    Out::new().text(&format!("{}: Linux {era} runs on {cpus} CPUs; `help` lists the commands\n", opened.name));
    loop {
        let line = match editor.readline("kernmem> ") {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => return Ok(ExitCode::SUCCESS),
            Err(error) => return Err(failed(error)),
        };
        // A line that the history does not take is only missing there.
        let _ = editor.add_history_entry(&line);
        if !run_line(session, &line) {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

/// Runs the commands of a line up to the first that fails; `false` when the shell is left.
fn run_line(session: &mut Session<'_, '_>, line: &str) -> bool {
    for command in commands(line) {
        let answer = answer(session, &command);
        told::text(&answer);
        match answer.stop {
            None => {}
            Some(Stop::Quit) => return false,
            Some(Stop::Bad(wrong)) => {
                // There is nobody to tell if standard error is gone too.
                let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("shell: {wrong}\n"));
                return true;
            }
            Some(Stop::Refused(_)) if command.is_ok_and(|command| command.may_fail) => {}
            Some(Stop::Refused(_)) => return true,
        }
    }
    true
}

fn answer(session: &mut Session<'_, '_>, command: &Result<Command<'_>, String>) -> Answer {
    match command {
        Ok(command) => session.run(command),
        Err(wrong) => Answer::bad(wrong.clone()),
    }
}
