//! `record`: the script that collects a recording on a running Linux.
//!
//! The script is `record.sh` beside this file; what it collects and how it finds what no file tells stands in
//! `docs/record.md`.

use std::process::ExitCode;

use clap::Args;
use kernmem_report::json;

use crate::Outcome;
use crate::output::Out;

/// For `sh` of any system: POSIX alone, with busybox's tools or GNU's.
const SCRIPT: &str = include_str!("record.sh");

/// How the script is printed.
#[derive(Args, Debug)]
pub struct RecordArgs {
    /// Answer as JSON: the script's lines
    #[arg(long)]
    json: bool,
}

/// Prints the script.
pub fn run(args: &RecordArgs) -> Outcome {
    let mut out = Out::new();
    if args.json {
        // Writing to `Out` cannot fail: it ends the program itself.
        let _ = json::lines("kernmem.record", "lines", SCRIPT, &mut out);
    } else {
        out.text(SCRIPT);
    }
    Ok(ExitCode::SUCCESS)
}
