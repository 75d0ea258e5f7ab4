//! Commands from a text, a file or standard input: the first that is wrong or refused ends them.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::ExitCode;

use super::parse::commands;
use super::session::{Session, Stop};
use super::told::Teller;
use crate::Outcome;
use crate::failure::{FINDING, Failure};

/// Most bytes of a line: an input without lines is no script.
const MOST: u64 = 64 << 10;

/// Opens a file of commands.
///
/// # Errors
/// It cannot be opened.
pub fn open(path: &Path) -> Result<BufReader<File>, Failure> {
    let file = File::open(path);
    file.map(BufReader::new).map_err(|error| {
        Failure::input(format!("shell: {}: {error}; give a file of commands, one a line", path.display()))
    })
}

/// Runs the commands of `reader`, which messages call `name`. What was done stays told, however it ends.
pub fn run(session: &mut Session<'_, '_>, name: &str, reader: impl BufRead, as_json: bool) -> Outcome {
    let mut teller = Teller::new(as_json);
    let outcome = lines(session, name, reader, &mut teller);
    teller.finish();
    outcome
}

fn lines(session: &mut Session<'_, '_>, name: &str, mut reader: impl BufRead, teller: &mut Teller) -> Outcome {
    let mut number = 0;
    loop {
        number += 1;
        let bad = |wrong: String| Failure::input(format!("shell: {name}:{number}: {wrong}"));
        let Some(line) = next(&mut reader).map_err(bad)? else { return Ok(ExitCode::SUCCESS) };
        for command in commands(&line) {
            let command = command.map_err(bad)?;
            let answer = session.run(&command);
            let stop = answer.stop.clone();
            teller.tell(number, command.text, answer);
            match stop {
                None => {}
                Some(Stop::Quit) => return Ok(ExitCode::SUCCESS),
                Some(Stop::Bad(wrong)) => return Err(bad(wrong)),
                Some(Stop::Refused(_)) if command.may_fail => {}
                Some(Stop::Refused(_)) => return Ok(ExitCode::from(FINDING)),
            }
        }
    }
}

/// The next line; `None` at the end.
fn next(reader: &mut impl BufRead) -> Result<Option<String>, String> {
    let mut bytes = Vec::new();
    let read = reader.take(MOST + 1).read_until(b'\n', &mut bytes);
    let count = read.map_err(|error| format!("{error}; give a file of commands, one a line"))? as u64;
    match count {
        0 => Ok(None),
        count if count > MOST => Err(format!("the line is longer than {MOST} bytes; write one command a line")),
        _ => String::from_utf8(bytes).map(Some).map_err(|_| "the line is no UTF-8 text".to_owned()),
    }
}
