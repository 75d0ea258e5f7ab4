//! `walk`: one address through the tables.

use std::process::ExitCode;

use clap::Args;
use kernmem_base::VirtAddr;
use kernmem_report::walk;

use crate::Outcome;
use crate::args::KernelArgs;
use crate::numbers::parse_address;
use crate::output::Out;

/// Which address.
#[derive(Args, Debug)]
pub struct WalkArgs {
    /// The address, in hexadecimal
    #[arg(value_parser = parse_address)]
    addr: u64,
    /// A preset, a file, a recording, or `-`
    source: Option<String>,
    /// Answer as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    kernel: KernelArgs,
}

/// Walks.
pub fn run(args: &WalkArgs) -> Outcome {
    let opened = args.kernel.open(args.source.as_deref())?;
    opened.boot(|kernel, _record| {
        let before = kernel.mem.references();
        let walked = walk::take(kernel, VirtAddr(args.addr));
        let references = kernel.mem.references() - before;
        let mut out = Out::new();
        // Writing to `Out` cannot fail: it ends the program itself.
        let _ = if args.json {
            walk::json(kernel, &walked, references, &mut out)
        } else {
            walk::print(kernel, &walked, references, &mut out)
        };
        Ok(ExitCode::SUCCESS)
    })
}
