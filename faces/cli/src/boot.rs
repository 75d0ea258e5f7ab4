//! `boot`: the boot report; with `--era all` the linear map in every era.

use std::process::ExitCode;

use clap::Args;
use kernmem_report::boot_report::{self, Subject};
use kernmem_report::{boot_eras, boot_log, json};
use kernmem_view::KernelView;

use crate::Outcome;
use crate::args::{Eras, KernelArgs};
use crate::eras::{SHOWN, boot_in};
use crate::failure::Failure;
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
    if args.kernel.era == Some(Eras::All) {
        return in_every_era(args, source);
    }
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

/// The linear map in every era.
fn in_every_era(args: &BootArgs, source: Option<&str>) -> Outcome {
    if args.log {
        return Err(Failure::input("--log: tells one boot; name one era for it"));
    }
    let opened = args.kernel.open_in_its_era(source)?;
    let look = |era| {
        let (kernel, linear) = boot_in(&opened, era, |_, kernel, _| boot_eras::look(kernel));
        boot_eras::Row { era, kernel, linear }
    };
    let rows: Vec<boot_eras::Row> = SHOWN.into_iter().map(look).collect();
    let (name, own) = (&opened.name, opened.source.config.era);
    let mut out = Out::new();
    // Writing to `Out` cannot fail: it ends the program itself.
    let _ = match args.json {
        true => boot_eras::json(name, own, &rows, &mut out),
        false => boot_eras::print(name, own, &rows, &mut out),
    };
    Ok(ExitCode::SUCCESS)
}
