//! `lab`: the experiments of the documents, each with its claims, run and verdicts.

use core::fmt::{self, Write};
use std::process::ExitCode;

use clap::Args;
use kernmem_config::Arch;
use kernmem_labs::{LABS, Lab, LabError, LabOptions, Language, Value, Verdict};
use kernmem_report::json::Json;

use crate::Outcome;
use crate::args::KernelArgs;
use crate::failure::Failure;
use crate::output::Out;

/// Which lab, on what.
#[derive(Args, Debug)]
pub struct LabArgs {
    /// The lab; without a name all are listed
    name: Option<String>,
    /// A preset, a file, a recording, or `-`, in place of the lab's own machine
    source: Option<String>,
    /// The lab's condition the other way round
    #[arg(long)]
    reverse: bool,
    /// Measure too, on this machine, where a lab has something to measure
    #[arg(long)]
    measure: bool,
    /// Answer as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    kernel: KernelArgs,
}

const LANGUAGE: Language = Language::English;

/// Runs a lab, or lists them.
pub fn run(args: &LabArgs) -> Outcome {
    let Some(name) = &args.name else {
        // Writing to `Out` cannot fail: it ends the program itself.
        let _ = list(args.json, &mut Out::new());
        return Ok(ExitCode::SUCCESS);
    };
    let lab = kernmem_labs::find(name).ok_or_else(|| {
        let names: Vec<&str> = LABS.iter().map(|lab| lab.name).collect();
        Failure::input(format!("there is no lab {name}; one of {}", names.join(", ")))
    })?;
    let options = LabOptions {
        source: args.source.clone().or_else(|| preset(args.kernel.arch)),
        parts: args.kernel.parts(),
        reverse: args.reverse,
        measure: args.measure,
        language: LANGUAGE,
    };
    // A lab that stops half-way leaves nothing on standard output.
    let mut told = String::new();
    let verdicts = kernmem_labs::run(lab, &options, &mut told).map_err(|error| failure(name, &error))?;
    let mut out = Out::new();
    if args.json {
        let _ = json(lab, &verdicts, &mut out);
    } else {
        out.text(&told);
    }
    Ok(ExitCode::SUCCESS)
}

/// The preset of an architecture that is named without a source.
fn preset(arch: Option<Arch>) -> Option<String> {
    let name = match arch? {
        Arch::Arm64 => "arm64-4g",
        Arch::X86_64 => "x86-4g",
        Arch::I386 => "i386-2g",
    };
    Some(name.to_owned())
}

fn failure(name: &str, error: &LabError) -> Failure {
    let line = format!("{name}: {error}");
    if error.is_beyond() { Failure::beyond(line) } else { Failure::input(line) }
}

fn list(as_json: bool, out: &mut Out) -> fmt::Result {
    if !as_json {
        let widest = LABS.iter().map(|lab| lab.name.len()).max().unwrap_or(0);
        return LABS.iter().try_for_each(|lab| {
            let (title, reverse) = (LANGUAGE.text(lab.title), LANGUAGE.text(lab.reverse));
            writeln!(out, "{:widest$} {title}\n{:widest$} {reverse}", lab.name, "")
        });
    }
    let mut json = Json::new(out);
    json.answer("kernmem.labs")?;
    json.open(Some("labs"), '[')?;
    for lab in LABS {
        json.open(None, '{')?;
        json.text("name", lab.name)?;
        json.text("title", LANGUAGE.text(lab.title))?;
        json.text("condition", LANGUAGE.text(lab.reverse))?;
        json.open(Some("claims"), '[')?;
        lab.claims.iter().try_for_each(|claim| json.item(&claim.to_string()))?;
        json.close(']')?;
        json.close('}')?;
    }
    json.close(']')?;
    json.finish()
}

fn json(lab: &Lab, verdicts: &[Verdict], out: &mut Out) -> fmt::Result {
    let mut json = Json::new(out);
    json.answer("kernmem.lab")?;
    json.text("lab", lab.name)?;
    json.open(Some("verdicts"), '[')?;
    for verdict in verdicts {
        json.open(None, '{')?;
        json.text("claim", &verdict.claim.to_string())?;
        json.text("era", verdict.era.name())?;
        json.text("holds", verdict.holds.word())?;
        if let Some(because) = verdict.because(LANGUAGE) {
            json.text("because", &because)?;
        }
        json.open(Some("numbers"), '{')?;
        verdict.numbers.iter().try_for_each(|(name, value)| number(name, value, &mut json))?;
        json.close('}')?;
        json.close('}')?;
    }
    json.close(']')?;
    json.finish()
}

fn number(name: &str, value: &Value, json: &mut Json<'_, Out>) -> fmt::Result {
    match value {
        Value::Count(number) | Value::Bytes(number) => json.number(name, *number),
        Value::Address(address) => json.hex(name, *address),
        Value::Truth(truth) => json.truth(name, *truth),
        Value::Name(text) => json.text(name, text),
    }
}
