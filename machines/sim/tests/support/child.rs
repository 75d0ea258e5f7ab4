//! A test that runs itself again as a process that is to die.
//!
//! The tests of running kernels use it too.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "a test stops where an answer is missing")]

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

const IN_CHILD: &str = "KERNMEM_WINDOWS_TEST_CHILD";

/// Whether this process is the one that is to die.
pub fn is_child() -> bool {
    std::env::var_os(IN_CHILD).is_some()
}

/// How a child ended.
#[derive(Debug)]
pub struct Death {
    pub signal: Option<i32>,
    pub code: Option<i32>,
    pub stderr: String,
}

impl Death {
    /// The line of the handler, if there is exactly one.
    pub fn fault(&self) -> Option<&str> {
        let mut lines = self.stderr.lines().filter(|line| line.starts_with("kernmem-window-fault"));
        lines.next().filter(|_| lines.next().is_none())
    }
}

/// Runs the test `name` of this program again, as the process that is to die.
pub fn run_child(name: &str) -> Death {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(IN_CHILD, "1")
        // AddressSanitizer's own handler would turn the signal into an exit status.
        .env("ASAN_OPTIONS", "handle_segv=0")
        .output()
        .unwrap();
    Death {
        signal: output.status.signal(),
        code: output.status.code(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
