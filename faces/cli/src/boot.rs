//! `boot`: the boot report.

use std::process::ExitCode;

use clap::Args;
use kernmem_report::boot_report::{self, Subject};
use kernmem_report::{boot_log, json};
use kernmem_view::KernelView;

use crate::Outcome;
use crate::args::KernelArgs;
use crate::output::Out;

/// How the boot is told.
#[derive(Args, Debug)]
pub struct BootArgs {
    /// Print the boot log's lines about memory and nothing else
    #[arg(long)]
    log: bool,
    /// Answer as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    kernel: KernelArgs,
}

/// Boots and tells.
pub fn run(args: &BootArgs, source: Option<&str>) -> Outcome {
    let opened = args.kernel.open(source)?;
    opened.boot(|kernel, record| {
        let origins = opened.origins();
        let (machine, config) = (&opened.source.machine, &opened.source.config);
        let subject = Subject { machine, config, record, origins: &origins };
        let mut out = Out::new();
        let mut log = String::new();
        let debug = config.cmdline.memblock_debug();
        // Writing to `Out` cannot fail: it ends the program itself.
        let _ = match (args.log, args.json) {
            (false, false) => boot_report::print(kernel, &subject, &mut out),
            (false, true) => boot_report::json(kernel, &subject, &mut out),
            (true, false) => boot_log::print(record, kernel.format(), kernel.era(), debug, &mut out),
            (true, true) => boot_log::print(record, kernel.format(), kernel.era(), debug, &mut log)
                .and_then(|()| json::lines("kernmem.boot-log", "lines", &log, &mut out)),
        };
        Ok(ExitCode::SUCCESS)
    })
}
