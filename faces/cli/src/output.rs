//! Standard output: a reader that goes away early ends the program quietly.

use core::fmt;
use std::io::{self, BufWriter, ErrorKind, StdoutLock, Write};

use crate::failure::BAD_INPUT;

/// Buffered standard output.
#[derive(Debug)]
pub struct Out {
    inner: BufWriter<StdoutLock<'static>>,
}

impl Out {
    /// The process's standard output.
    pub fn new() -> Self {
        Self { inner: BufWriter::with_capacity(1 << 16, io::stdout().lock()) }
    }

    /// Writes a text.
    pub fn text(&mut self, text: &str) {
        let result = self.inner.write_all(text.as_bytes());
        self.checked(result);
    }

    /// Nobody reads on: that is the reader's right. Anything else is an error of the output.
    fn checked(&mut self, result: io::Result<()>) {
        let Err(error) = result else { return };
        if error.kind() == ErrorKind::BrokenPipe {
            std::process::exit(0);
        }
        let _ = writeln!(io::stderr(), "kernmem: standard output: {error}; check where it goes");
        std::process::exit(i32::from(BAD_INPUT));
    }
}

impl fmt::Write for Out {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.text(text);
        Ok(())
    }
}

impl Drop for Out {
    fn drop(&mut self) {
        let result = self.inner.flush();
        self.checked(result);
    }
}
