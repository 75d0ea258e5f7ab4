//! The built program, run as people run it.
#![allow(clippy::unwrap_used, reason = "functions that tests share fail as tests do")]

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// What the program said.
#[derive(Debug)]
pub struct Said {
    /// The exit status.
    pub status: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Said {
    /// The output of a run that must have succeeded.
    #[track_caller]
    pub fn good(self) -> String {
        assert_eq!((self.status, self.err.as_str()), (0, ""), "{}", self.out);
        self.out
    }

    /// The one line of a run that must have failed with `status`, without the program's name.
    #[track_caller]
    pub fn refused(self, status: i32) -> String {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.out, "");
        let line = self.err.strip_suffix('\n').unwrap();
        assert!(!line.contains(['\n', '\r']), "more than one line: {line:?}");
        line.strip_prefix("kernmem: ").unwrap().to_owned()
    }
}

/// The program with its arguments.
pub fn program(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kernmem"));
    command.args(args).stdin(Stdio::null());
    command
}

/// Runs the program.
pub fn kernmem(args: &[&str]) -> Said {
    let output = program(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let status = output.status.code().unwrap();
    Said { status, out: text(output.stdout), err: text(output.stderr) }
}

/// Runs the program with a standard input.
pub fn kernmem_fed(args: &[&str], input: &[u8]) -> Said {
    let mut command = program(args);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let feeder = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Said { status: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

/// A recording's folder.
pub fn recording(set: &str, name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../testing/recordings").join(set).join(name);
    path.to_str().unwrap().to_owned()
}

/// A file with this content; its name tells the test.
pub fn file(name: &str, content: &[u8]) -> String {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let path = folder.join(name);
    std::fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

/// The answer of a run as JSON; every answer names its schema.
#[track_caller]
pub fn json(args: &[&str], schema: &str) -> serde_json::Value {
    let said = kernmem(args);
    assert!(said.status <= 1 && said.err.is_empty(), "{said:?}");
    let value: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((value["schema"].as_str(), value["version"].as_u64()), (Some(schema), Some(1)));
    value
}
