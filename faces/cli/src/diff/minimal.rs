//! `diff --minimal`: the smallest sets of options that turn one kernel's page tables into others.

use core::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

use clap::ValueEnum;
use kernmem_report::json::Json;
use kernmem_source::{PRESETS, Source, read};
use kernmem_verify::{Change, Found, Goal, Kind, Listing, Search, minimal};

use super::DiffArgs;
use crate::Outcome;
use crate::failure::{FINDING, Failure};
use crate::machine::Opened;
use crate::output::Out;

/// A kind of options.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum OptionKind {
    /// Words of the command line
    Word,
    /// The configuration
    Config,
    /// The CPU's model or features
    Cpu,
    /// The branch of Linux
    Era,
}

impl OptionKind {
    const fn kind(self) -> Kind {
        match self {
            Self::Word => Kind::Word,
            Self::Config => Kind::Config,
            Self::Cpu => Kind::Cpu,
            Self::Era => Kind::Era,
        }
    }
}

/// The second side.
enum Second {
    Listing(String),
    Source(Box<Source>),
}

/// Opens the second side: a listing is known by its first line.
fn second(args: &DiffArgs, name: &str) -> Result<Second, Failure> {
    let kernel = args.second();
    let is_file = name == "-" || !PRESETS.contains(&name) && Path::new(name).is_file();
    if !is_file {
        return Ok(Second::Source(Box::new(kernel.open(Some(name))?.source)));
    }
    let bytes = read::file(Path::new(name))?;
    match String::from_utf8(bytes) {
        Ok(text) if Listing::is_listing(&text) => Ok(Second::Listing(text)),
        Ok(text) => from_bytes(name, text.into_bytes(), &kernel.parts()),
        Err(error) => from_bytes(name, error.into_bytes(), &kernel.parts()),
    }
}

fn from_bytes(name: &str, bytes: Vec<u8>, parts: &kernmem_source::Options) -> Result<Second, Failure> {
    let name = if name == "-" { "standard input" } else { name };
    Ok(Second::Source(Box::new(Source::from_bytes(name, bytes, parts)?)))
}

/// Searches.
pub fn run(args: &DiffArgs, b: &str) -> Outcome {
    let first = args.kernel.open(Some(&args.a))?;
    let second = second(args, b)?;
    if let Second::Source(source) = &second
        && source.machine.arch != first.source.machine.arch
    {
        return Err(Failure::input(format!("{b}: is a machine of another architecture than {}", first.name)));
    }
    let goal = match &second {
        Second::Listing(text) => Goal::Listing(text),
        Second::Source(source) => Goal::Kernel(source),
    };
    // The first kernel must boot as it is: what is refused then is said, not counted.
    first.boot(|_, _| Ok(()))?;
    let search = Search { up_to: usize::from(args.up_to), kinds: args.only.iter().map(|only| only.kind()).collect() };
    let found = minimal(&first.source, goal, &search).map_err(|error| Failure::boot(b, &error))?;
    let mut out = Out::new();
    // Writing to `Out` cannot fail: it ends the program itself.
    let _ = if args.json {
        as_json(&found, &search, (&first, b), &mut out)
    } else {
        as_text(&found, &search, (&first, b), &mut out)
    };
    Ok(ExitCode::from(if found.sets.is_empty() { FINDING } else { 0 }))
}

fn tried(found: &Found) -> String {
    format!("{} options, {} boots, {} sets refused", found.candidates, found.boots, found.refused)
}

fn as_text(found: &Found, search: &Search, (a, b): (&Opened, &str), out: &mut Out) -> core::fmt::Result {
    let line = a.source.config.cmdline.text();
    writeln!(out, "from {} ({line})\nto   {b}\n", a.name)?;
    match found.sets.first() {
        None => {
            let up_to = search.up_to;
            writeln!(out, "no set of up to {up_to} of the options that were tried does it ({})", tried(found))
        }
        Some(set) if set.is_empty() => writeln!(out, "nothing has to be changed: the page tables are equal"),
        Some(set) => {
            let size = match set.len() {
                1 => "one change does it; each of these alone".to_owned(),
                size => format!("{size} changes do it; each of these sets"),
            };
            writeln!(out, "{size} ({}):", tried(found))?;
            for set in &found.sets {
                let texts: Vec<String> = set.iter().map(Change::to_string).collect();
                writeln!(out, "  - {}", texts.join(", and "))?;
            }
            Ok(())
        }
    }
}

fn as_json(found: &Found, search: &Search, (a, b): (&Opened, &str), out: &mut Out) -> core::fmt::Result {
    let mut json = Json::new(out);
    json.answer("kernmem.diff-minimal")?;
    json.text("a", &a.name)?;
    json.text("a_cmdline", a.source.config.cmdline.text())?;
    json.text("b", b)?;
    json.truth("found", !found.sets.is_empty())?;
    json.number("up_to", search.up_to as u64)?;
    json.number("options", found.candidates as u64)?;
    json.number("boots", found.boots as u64)?;
    json.number("refused", found.refused as u64)?;
    json.open(Some("sets"), '[')?;
    for set in &found.sets {
        json.open(None, '[')?;
        for change in set {
            json.open(None, '{')?;
            json.text("kind", name(change.kind()))?;
            json.text("change", &change.to_string())?;
            json.close('}')?;
        }
        json.close(']')?;
    }
    json.close(']')?;
    json.finish()
}

const fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Word => "word",
        Kind::Config => "config",
        Kind::Cpu => "cpu",
        Kind::Era => "era",
    }
}
