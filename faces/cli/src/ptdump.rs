//! `ptdump`: page tables.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use kernmem_base::VirtRange;
use kernmem_report::ptdump::{self, ListingError};
use kernmem_report::tables::{self, Selection};
use kernmem_report::{lines_of_range, regions};
use kernmem_view::RootKind;

use crate::Outcome;
use crate::args::KernelArgs;
use crate::failure::{FINDING, Failure};
use crate::machine::Booted;
use crate::numbers::parse_range;
use crate::output::Out;

/// A form of the listing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Format {
    /// Byte for byte what that kernel's debugfs file says
    Linux,
    /// A line for each table and each run of leaves, with raw bits
    Table,
    /// The tree, equal stretches folded
    Fold,
    /// The rows of `table` as JSON
    Json,
    /// The rows of `table` as comma-separated values
    Csv,
}

/// Which tree of tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Space {
    /// The kernel's own
    Kernel,
    /// In use while user mode runs
    User,
    /// The identity map
    Idmap,
}

impl Space {
    const fn root(self) -> RootKind {
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
    /// The same as --format json
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// Only entries that touch these addresses: A-B, without B
    #[arg(long, value_parser = parse_range, value_name = "A-B")]
    range: Option<VirtRange>,
    /// Only one region, such as linear, vmemmap, vmalloc, modules, fixmap, image
    #[arg(long, value_name = "NAME", conflicts_with = "range")]
    region: Option<String>,
    /// The tables
    #[arg(long, value_enum, default_value = "kernel")]
    space: Space,
    /// In forms of ours: rows for empty stretches too
    #[arg(long)]
    holes: bool,
    /// In forms of ours: no rows for tables
    #[arg(long)]
    no_tables: bool,
    /// No listing: the kernel's check for mappings that can be written and executed, with its message
    #[arg(long, conflicts_with_all = ["format", "json", "range", "region", "holes", "no_tables"])]
    check_wx: bool,
    #[command(flatten)]
    kernel: KernelArgs,
}

/// The addresses that the options choose.
fn chosen(args: &PtdumpArgs, kernel: &Booted<'_>) -> Result<Option<VirtRange>, Failure> {
    let Some(name) = &args.region else { return Ok(args.range) };
    let all = regions::of(kernel);
    if let Some(region) = all.iter().find(|region| region.key == name) {
        return Ok(Some(region.range));
    }
    let names: Vec<&str> = all.iter().map(|region| region.key).collect();
    Err(Failure::input(format!("--region {name}: no such region; one of {}", names.join(", "))))
}

/// Lists.
pub fn run(args: &PtdumpArgs) -> Outcome {
    let opened = args.kernel.open(args.source.as_deref())?;
    opened.boot(|kernel, _record| {
        let range = chosen(args, kernel)?;
        let root = args.space.root();
        if args.check_wx {
            let found = ptdump::check_wx(kernel, root);
            let found = found.map_err(|error| Failure::input(format!("{}: {error}", opened.name)))?;
            Out::new().text(&format!("{found}\n"));
            return Ok(ExitCode::from(if found.passed() { 0 } else { FINDING }));
        }
        let selection = Selection { root, range, tables: !args.no_tables, holes: args.holes };
        let format = if args.json { Format::Json } else { args.format };
        let printed = print(kernel, format, &selection);
        printed.map_err(|error| Failure::input(format!("{}: {error}", opened.name)))?;
        Ok(ExitCode::SUCCESS)
    })
}

fn print(kernel: &Booted<'_>, format: Format, selection: &Selection) -> Result<(), ListingError> {
    let mut out = Out::new();
    match (format, selection.range) {
        (Format::Linux, None) => ptdump::linux(kernel, selection.root, &mut out),
        (Format::Linux, Some(range)) => lines_of_range::linux(kernel, selection.root, range, &mut out),
        (Format::Table, _) => tables::table(kernel, selection, &mut out),
        (Format::Fold, _) => tables::fold(kernel, selection, &mut out),
        (Format::Json, _) => tables::json(kernel, selection, &mut out),
        (Format::Csv, _) => tables::csv(kernel, selection, &mut out),
    }
}
