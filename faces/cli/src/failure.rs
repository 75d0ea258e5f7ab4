//! What ends the program before its answer: one line on standard error, and the exit status.

use core::fmt::Display;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use kernmem::BootError;

/// Something was found, or two things differ.
pub const FINDING: u8 = 1;
/// The input or the arguments are bad.
pub const BAD_INPUT: u8 = 2;
const BEYOND: u8 = 3;

/// Why there is no answer.
#[derive(Debug)]
pub struct Failure {
    status: u8,
    line: String,
}

impl Failure {
    /// Bad input or usage.
    pub fn input(line: impl Display) -> Self {
        Self { status: BAD_INPUT, line: line.to_string() }
    }

    /// The input is fine, but beyond what is modelled.
    pub fn beyond(line: impl Display) -> Self {
        Self { status: BEYOND, line: line.to_string() }
    }

    /// A boot that stopped.
    pub fn boot(source: &str, error: &BootError) -> Self {
        match error {
            BootError::Beyond(_) => Self::beyond(format!("{source}: {error}")),
            other => Self::input(format!("{source}: does not boot: {other}")),
        }
    }

    /// Arguments that clap refuses, in one line.
    pub fn usage(error: &clap::Error) -> Self {
        let full = error.to_string();
        let first = full.split("\n\n").next().unwrap_or_default();
        let words: Vec<&str> = first.trim_start_matches("error: ").split_whitespace().collect();
        let mut line = words.join(" ");
        if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
            "a verb is missing".clone_into(&mut line);
        }
        let suggestion = [ContextKind::SuggestedSubcommand, ContextKind::SuggestedArg, ContextKind::SuggestedValue];
        let known = suggestion.into_iter().find_map(|kind| error.get(kind)).and_then(|value| match value {
            ContextValue::String(text) => Some(text.as_str()),
            ContextValue::Strings(texts) => texts.first().map(String::as_str),
            _ => None,
        });
        if let Some(known) = known {
            line.push_str(&format!("; did you mean `{known}`?"));
        }
        Self::input(format!("{line}; see kernmem --help"))
    }

    /// Says it and gives the status.
    pub fn report(self) -> ExitCode {
        let line: Vec<&str> = self.line.split(['\n', '\r']).map(str::trim).filter(|part| !part.is_empty()).collect();
        // There is nobody to tell if standard error is gone too.
        let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("kernmem: {}\n", line.join(" ")));
        ExitCode::from(self.status)
    }
}

impl From<kernmem_source::SourceError> for Failure {
    fn from(error: kernmem_source::SourceError) -> Self {
        Self::input(error)
    }
}
