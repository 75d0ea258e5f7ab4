//! Answers on standard output: as text when they come, or all of them as one JSON answer.

use core::fmt;

use kernmem_report::json::Json;

use super::session::{Answer, Stop};
use crate::output::Out;

/// How answers are told.
#[derive(Debug)]
pub enum Teller {
    /// Each as it comes.
    Text,
    /// All at the end.
    Json(Vec<Row>),
}

/// A command that ran.
#[derive(Debug)]
pub struct Row {
    line: u64,
    command: String,
    answer: Answer,
}

impl Teller {
    /// As JSON, or as text.
    pub fn new(as_json: bool) -> Self {
        if as_json { Self::Json(Vec::new()) } else { Self::Text }
    }

    /// Tells the answer of `command`, which stands in line `line`.
    pub fn tell(&mut self, line: u64, command: &str, answer: Answer) {
        match self {
            Self::Text => text(&answer),
            Self::Json(rows) => rows.push(Row { line, command: command.to_owned(), answer }),
        }
    }

    /// Nothing follows.
    pub fn finish(self) {
        if let Self::Json(rows) = self {
            // Writing to `Out` cannot fail: it ends the program itself.
            let _ = json(&rows, &mut Out::new());
        }
    }
}

/// What is printed of an answer; the output is flushed, since somebody may wait for it.
pub fn text(answer: &Answer) {
    let mut out = Out::new();
    out.text(&answer.text);
    if let Some(Stop::Refused(why)) = &answer.stop {
        out.text(&format!("error: {why}\n"));
    }
}

fn json(rows: &[Row], out: &mut Out) -> fmt::Result {
    let mut json = Json::new(out);
    json.answer("kernmem.shell")?;
    json.open(Some("commands"), '[')?;
    for Row { line, command, answer } in rows {
        json.open(None, '{')?;
        json.number("line", *line)?;
        json.text("command", command)?;
        json.text("outcome", answer.outcome())?;
        if let Some(value) = answer.value {
            json.hex("value", value)?;
        }
        json.open(Some("lines"), '[')?;
        answer.text.lines().try_for_each(|line| json.item(line))?;
        json.close(']')?;
        if let Some(Stop::Refused(why) | Stop::Bad(why)) = &answer.stop {
            json.text("error", why)?;
        }
        json.close('}')?;
    }
    json.close(']')?;
    json.finish()
}
