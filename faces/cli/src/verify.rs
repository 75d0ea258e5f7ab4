//! `verify`: recordings, booted from their inputs alone and held against what their kernels wrote.

use core::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use kernmem_report::json::Json;
use kernmem_verify::{FileTally, Missing, Tally, Verdict, VerifyError};

use crate::Outcome;
use crate::failure::{FINDING, Failure};
use crate::output::Out;

/// Which recordings.
#[derive(Args, Debug)]
pub struct VerifyArgs {
    /// Recordings, or folders of them
    #[arg(required = true, value_name = "RECORDING")]
    recordings: Vec<PathBuf>,
    /// Tell the lines of listings by region as well
    #[arg(long)]
    regions: bool,
    /// Answer as JSON
    #[arg(long)]
    json: bool,
}

/// The recordings that a path names: itself, or those in it, sorted.
fn recordings_in(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    let fail = |what: String| Failure::input(format!("{}: {what}", path.display()));
    if path.join("boot.json").is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let entries =
        std::fs::read_dir(path).map_err(|error| fail(format!("cannot be read: {error}; name a recording")))?;
    let paths = entries.filter_map(Result::ok).map(|entry| entry.path());
    let mut found: Vec<PathBuf> = paths.filter(|path| path.join("boot.json").is_file()).collect();
    found.sort();
    if found.is_empty() {
        return Err(fail("is no recording: it has no boot.json, and no folder in it has one".to_owned()));
    }
    Ok(found)
}

/// Verifies.
pub fn run(args: &VerifyArgs) -> Outcome {
    let mut paths = Vec::new();
    for path in &args.recordings {
        paths.extend(recordings_in(path)?);
    }
    let mut out = Out::new();
    let outcome = if args.json { as_json(&paths, &mut out) } else { as_text(&paths, args.regions, &mut out) };
    outcome.map_err(|error| if error.beyond { Failure::beyond(error) } else { Failure::input(error) })
}

fn status(differs: bool) -> ExitCode {
    ExitCode::from(if differs { FINDING } else { 0 })
}

fn as_text(paths: &[PathBuf], regions: bool, out: &mut Out) -> Result<ExitCode, VerifyError> {
    let mut tally = Tally::default();
    for path in paths {
        let verdict = kernmem_verify::verify(path)?;
        for file in &verdict.files {
            if let Some((line, ours, recorded)) = &file.difference {
                let place = format!("{}/{} line {}", verdict.recording, file.file, line + 1);
                out.text(&format!("{place}:\n  ours     {ours}\n  recorded {recorded}\n"));
            }
        }
        for Missing { what, why } in &verdict.missing {
            out.text(&format!("{}: not recorded: {what}: {why}\n", verdict.recording));
        }
        tally.add(&verdict.files);
    }
    if regions {
        let _ = writeln!(out, "{:<48} {:>8}", "region", "lines");
        let _ = tally.regions().try_for_each(|(region, lines)| writeln!(out, "{region:<48} {lines:>8}"));
    }
    let _ = writeln!(out, "{tally}");
    Ok(status(tally.differing() > 0))
}

fn as_json(paths: &[PathBuf], out: &mut Out) -> Result<ExitCode, VerifyError> {
    let mut differs = false;
    let mut verdicts = Vec::new();
    for path in paths {
        let verdict = kernmem_verify::verify(path)?;
        differs |= !verdict.is_equal();
        verdicts.push(verdict);
    }
    let _ = write_json(&verdicts, out);
    Ok(status(differs))
}

fn write_json(verdicts: &[Verdict], out: &mut Out) -> core::fmt::Result {
    let mut json = Json::new(out);
    json.answer("kernmem.verify")?;
    json.number("recordings", verdicts.len() as u64)?;
    json.number("equal", verdicts.iter().filter(|verdict| verdict.is_equal()).count() as u64)?;
    json.open(Some("files"), '[')?;
    for verdict in verdicts {
        verdict.files.iter().try_for_each(|file| write_file(&verdict.recording, file, &mut json))?;
    }
    json.close(']')?;
    json.open(Some("missing"), '[')?;
    for verdict in verdicts {
        for missing in &verdict.missing {
            json.open(None, '{')?;
            json.text("recording", &verdict.recording)?;
            json.text("what", &missing.what)?;
            json.text("why", &missing.why)?;
            json.close('}')?;
        }
    }
    json.close(']')?;
    json.finish()
}

fn write_file(recording: &str, file: &FileTally, json: &mut Json<'_, Out>) -> core::fmt::Result {
    json.open(None, '{')?;
    json.text("recording", recording)?;
    json.text("file", &file.file)?;
    json.number("equal_lines", file.equal as u64)?;
    json.open(Some("regions"), '{')?;
    file.regions.iter().try_for_each(|(region, lines)| json.number(region, *lines as u64))?;
    json.close('}')?;
    json.open(Some("left_out"), '{')?;
    file.excluded.iter().try_for_each(|(exclusion, count)| json.number(exclusion.name(), *count as u64))?;
    json.close('}')?;
    if let Some((line, ours, recorded)) = &file.difference {
        json.open(Some("difference"), '{')?;
        json.number("line", *line as u64 + 1)?;
        json.text("ours", ours)?;
        json.text("recorded", recorded)?;
        json.close('}')?;
    }
    json.close('}')
}
