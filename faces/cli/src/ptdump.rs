//! `ptdump`: page tables.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use kernmem_base::VirtRange;
use kernmem_report::ptdump;
use kernmem_view::RootKind;

use crate::Outcome;
use crate::args::KernelArgs;
use crate::failure::Failure;
use crate::numbers::parse_range;
use crate::output::Out;

/// A form of the listing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Format {
    /// Byte for byte what that kernel's debugfs file says
    Linux,
}

/// Which tree of tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Space {
    /// The kernel's own
    Kernel,
    /// In use while user mode runs
    User,
    /// The identity map
    Idmap,
}

impl Space {
    /// The tree.
    pub const fn root(self) -> RootKind {
        match self {
            Self::Kernel => RootKind::Kernel,
            Self::User => RootKind::User,
            Self::Idmap => RootKind::Idmap,
        }
    }
}

/// What is listed, and how.
#[derive(Args, Debug)]
pub struct PtdumpArgs {
    /// A preset, a file, a recording, or `-`
    source: Option<String>,
    /// The form
    #[arg(long, value_enum, default_value = "linux")]
    format: Format,
    /// Only entries that touch these addresses: A-B, without B
    #[arg(long, value_parser = parse_range, value_name = "A-B")]
    range: Option<VirtRange>,
    /// The tables
    #[arg(long, value_enum, default_value = "kernel")]
    space: Space,
    #[command(flatten)]
    kernel: KernelArgs,
}

/// Lists.
pub fn run(args: &PtdumpArgs) -> Outcome {
    let opened = args.kernel.open(args.source.as_deref())?;
    opened.boot(|kernel, _record| {
        let mut out = Out::new();
        let printed = match args.format {
            Format::Linux => ptdump::linux(kernel, args.space.root(), &mut out),
        };
        printed.map_err(|error| Failure::input(format!("{}: {error}", opened.name)))?;
        Ok(ExitCode::SUCCESS)
    })
}
