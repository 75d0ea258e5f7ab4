//! Why a chore stopped.

use core::fmt;
use std::io;
use std::path::PathBuf;

/// Why a chore stopped.
#[derive(Debug)]
pub enum Failure {
    /// The command line names no chore.
    Usage,
    /// A file or folder could not be read or written.
    File(PathBuf, io::Error),
    /// A program could not be started.
    Start(&'static str, io::Error),
    /// A program ran and failed.
    Program(&'static str),
    /// A program said why it failed, and ended with this status.
    Told(u8),
    /// Findings were printed.
    Findings(usize),
    /// The result names a symbol of the standard library.
    Std(PathBuf),
    /// There is no such fuzz target.
    NoTarget(String),
}

impl Failure {
    /// The exit status: 2 for a wrong command line, that of a program that said why, 1 for findings and all others.
    pub fn status(&self) -> u8 {
        match self {
            Self::Usage => 2,
            Self::Told(status) => *status,
            _ => 1,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage => f.write_str("what is to be done? One of"),
            Self::File(path, _) => write!(f, "{}", path.display()),
            Self::Start(program, _) => write!(f, "{program} could not be started"),
            Self::Program(program) => write!(f, "{program} failed"),
            Self::Told(status) => write!(f, "ended with status {status}"),
            Self::Findings(1) => f.write_str("1 finding"),
            Self::Findings(n) => write!(f, "{n} findings"),
            Self::Std(path) => write!(f, "{} contains parts of the standard library", path.display()),
            Self::NoTarget(name) => write!(f, "fuzz/Cargo.toml has no target {name}"),
        }
    }
}

impl core::error::Error for Failure {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::File(_, error) | Self::Start(_, error) => Some(error),
            _ => None,
        }
    }
}
