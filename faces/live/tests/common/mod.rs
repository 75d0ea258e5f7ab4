//! Running kernels of both presets.
#![allow(dead_code, reason = "each test file uses a part")]

use kernmem_live::{Live, Options};
use kernmem_source::{Options as Parts, Source};

pub const PRESETS: [&str; 2] = ["arm64-4g", "x86-4g"];

/// The machine of `name` with a command line of its own, or the preset's.
pub fn source(name: &str, cmdline: Option<&str>, memory: Option<u64>) -> Source {
    let parts = Parts { cmdline: cmdline.map(str::to_owned), memory, ..Parts::default() };
    Source::open_with(name, &parts).expect("a machine")
}

/// Runs the kernel of `source`.
pub fn run<R>(source: &Source, then: impl FnOnce(&mut Live<'_>) -> R) -> R {
    let memory = Live::memory(source).expect("memory of the host");
    let mut live = Live::start(&memory, source, Options::default()).expect("a kernel that runs");
    then(&mut live)
}
