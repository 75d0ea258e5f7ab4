//! `explain`: what an address is, every alias, and why it is mapped as it is; with `--era all` the same in every era.

use std::process::ExitCode;

use clap::Args;
use kernmem_base::{PhysAddr, VirtAddr};
use kernmem_report::explain::eras::{self, Thing};
use kernmem_report::explain::{self, Question};

use crate::Outcome;
use crate::args::{Eras, KernelArgs};
use crate::eras::{SHOWN, boot_in};
use crate::failure::Failure;
use crate::machine::{Booted, Opened};
use crate::numbers::{parse_address, parse_number};
use crate::output::Out;

/// What is explained.
#[derive(Args, Debug)]
pub struct ExplainArgs {
    /// An address in hexadecimal, a symbol of the image, pfn:N, or phys:ADDR
    #[arg(value_name = "ADDR|SYMBOL|pfn:N|phys:ADDR")]
    what: String,
    /// A preset, a file, a recording, or `-`
    source: Option<String>,
    /// Answer as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    kernel: KernelArgs,
}

/// Fewest digits of a text that is taken for an address though it has no `0x`.
const ADDRESS_DIGITS: usize = 9;

/// The address that is meant; memory is meant by its place in the linear map.
fn address(what: &str, opened: &Opened, kernel: &Booted<'_>) -> Result<VirtAddr, Failure> {
    let fail = |why: &str| Failure::input(format!("{what}: {why}"));
    let memory = if let Some(number) = what.strip_prefix("pfn:") {
        let pfn = kernmem_base::Pfn(parse_number(number).map_err(fail)?);
        Some(pfn.to_phys(kernel.granule).ok_or_else(|| fail("a frame below 2^64 bytes expected"))?)
    } else if let Some(digits) = what.strip_prefix("phys:") {
        Some(PhysAddr(parse_address(digits).map_err(fail)?))
    } else {
        None
    };
    if let Some(pa) = memory {
        if !opened.source.machine.has_memory(pa.0, pa.0) {
            return Err(fail("this machine has no memory there; see kernmem boot"));
        }
        return explain::linear(kernel, pa).ok_or_else(|| fail("this kernel has no linear map"));
    }
    if let Some(va) = explain::symbol_address(kernel, &opened.source.config, what) {
        return Ok(va);
    }
    let looks_like_one = what.starts_with("0x") || what.len() >= ADDRESS_DIGITS;
    parse_address(what)
        .ok()
        .filter(|_| looks_like_one)
        .map(VirtAddr)
        .ok_or_else(|| fail("neither an address such as 0xffff000000210000 nor a symbol of the image; give one"))
}

/// Explains.
pub fn run(args: &ExplainArgs) -> Outcome {
    if args.kernel.era == Some(Eras::All) {
        return in_every_era(args);
    }
    let opened = args.kernel.open(args.source.as_deref())?;
    opened.boot(|kernel, record| {
        let va = address(&args.what, &opened, kernel)?;
        let question = Question { config: &opened.source.config, record };
        let mut out = Out::new();
        // Writing to `Out` cannot fail: it ends the program itself.
        let _ = if args.json {
            explain::json(kernel, &question, va, &mut out)
        } else {
            explain::print(kernel, &question, va, &mut out)
        };
        Ok(ExitCode::SUCCESS)
    })
}

/// Explains in every era: what is meant is looked up in the source's own, a symbol in each kernel's.
fn in_every_era(args: &ExplainArgs) -> Outcome {
    let opened = args.kernel.open_in_its_era(args.source.as_deref())?;
    let own = opened.source.config.era;
    let (va, thing, is_symbol) = opened.boot(|kernel, record| {
        let is_symbol = explain::symbol_address(kernel, &opened.source.config, &args.what).is_some();
        let va = address(&args.what, &opened, kernel)?;
        let question = Question { config: &opened.source.config, record };
        let thing = Thing::at(kernel, &question, va);
        let thing = thing.ok_or_else(|| Failure::input(format!("{}: no region of Linux {own} has it", args.what)))?;
        Ok((va, thing, is_symbol))
    })?;
    let look = |era| {
        let (kernel, found) = boot_in(&opened, era, |other, kernel, record| {
            let config = &other.source.config;
            let question = Question { config, record };
            let none = || format!("this kernel has no symbol {}", args.what);
            let thing = if is_symbol {
                let va = explain::symbol_address(kernel, config, &args.what).ok_or_else(none)?;
                Thing::at(kernel, &question, va).ok_or_else(none)?
            } else {
                thing
            };
            eras::look(kernel, &question, &thing)
        });
        eras::Row { era, kernel, found }
    };
    let rows: Vec<eras::Row> = SHOWN.into_iter().map(look).collect();
    let mut out = Out::new();
    // Writing to `Out` cannot fail: it ends the program itself.
    let _ = if args.json { eras::json(va, own, &rows, &mut out) } else { eras::print(va, own, &rows, &mut out) };
    Ok(ExitCode::SUCCESS)
}
