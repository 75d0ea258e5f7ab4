//! `diff`: two machines, or one with two configurations; and the options that turn one into the other ([`minimal`]).

use std::process::ExitCode;

use clap::Args;
use kernmem_base::Era;
use kernmem_report::diff::{self, Side};

use crate::Outcome;
use crate::args::{Eras, KernelArgs};
use crate::failure::{FINDING, Failure};
use crate::numbers::parse_size;
use crate::output::Out;

mod minimal;

/// What is compared. Options describe both kernels; those that end in `-b` the second one alone.
#[derive(Args, Debug)]
pub struct DiffArgs {
    /// The first source
    a: String,
    /// The second source; the first one again if it is left out. With --minimal also a listing that a kernel printed
    b: Option<String>,
    /// Find the smallest sets of options that turn A into B: exit status 0 if there are any, 1 if none does it
    #[arg(long)]
    minimal: bool,
    /// With --minimal: the largest set that is tried
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(0..=4), requires = "minimal")]
    up_to: u8,
    /// With --minimal: only options of these kinds
    #[arg(long, value_enum, value_name = "KIND", value_delimiter = ',', requires = "minimal")]
    only: Vec<minimal::OptionKind>,
    /// The second kernel's command line
    #[arg(long, allow_hyphen_values = true, value_name = "CMDLINE")]
    cmdline_b: Option<String>,
    /// The second kernel's branch of Linux
    #[arg(long, value_name = "ERA")]
    era_b: Option<Era>,
    /// The second machine's memory
    #[arg(long, value_parser = parse_size, value_name = "SIZE")]
    memory_b: Option<u64>,
    /// The second machine's CPU
    #[arg(long, value_name = "CPU")]
    cpu_b: Option<String>,
    /// Answer as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    kernel: KernelArgs,
}

impl DiffArgs {
    /// The options of the second kernel.
    fn second(&self) -> KernelArgs {
        let mut kernel = self.kernel.clone();
        kernel.cmdline = self.cmdline_b.clone().or(kernel.cmdline);
        kernel.era = self.era_b.map(Eras::One).or(kernel.era);
        kernel.memory = self.memory_b.or(kernel.memory);
        kernel.cpu = self.cpu_b.clone().or(kernel.cpu);
        kernel
    }
}

/// Boots one side; also its name with the command line, which is what mostly differs.
fn side(kernel: &KernelArgs, source: &str) -> Result<(Side, String), Failure> {
    let opened = kernel.open(Some(source))?;
    let name = format!("{} ({})", opened.name, opened.source.config.cmdline.text());
    let side = opened
        .boot(|kernel, _| Side::take(kernel).map_err(|error| Failure::input(format!("{}: {error}", opened.name))))?;
    Ok((side, name))
}

/// Compares.
pub fn run(args: &DiffArgs) -> Outcome {
    let b = args.b.as_deref().unwrap_or(&args.a);
    if args.a == "-" && b == "-" {
        return Err(Failure::input("standard input: can be read once only; name a file for one side"));
    }
    if args.minimal {
        return minimal::run(args, b);
    }
    let (first, first_name) = side(&args.kernel, &args.a)?;
    let (second, second_name) = side(&args.second(), b)?;
    let names = (first_name.as_str(), second_name.as_str());
    let mut out = Out::new();
    let differs = if args.json {
        diff::json(&first, &second, names, &mut out)
    } else {
        diff::print(&first, &second, names, &mut out)
    };
    Ok(ExitCode::from(if differs.unwrap_or(true) { FINDING } else { 0 }))
}
