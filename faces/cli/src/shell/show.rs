//! Commands that print what `/proc` says of the running kernel.

use kernmem_live::ProcFile;

use super::parse::Words;
use super::session::{Done, Session, Stop};
use super::table::Entry;

pub const COMMANDS: &[Entry] = &[Entry {
    name: "show",
    arguments: "FILE",
    help: "prints a file of /proc as it is now: buddyinfo, zoneinfo, pagetypeinfo, meminfo, iomem, vmallocinfo, slabinfo",
    run: show,
}];

fn show(session: &mut Session<'_, '_>, words: &mut Words<'_, '_>) -> Done {
    let name = words.word().ok_or_else(|| "FILE is missing".to_owned())?;
    words.end()?;
    let file = ProcFile::of_name(name).ok_or_else(|| {
        let names = ProcFile::ALL.map(ProcFile::name).join(", ");
        format!("there is no file `{name}`; one of {names}")
    })?;
    let text = session.live.proc(file).map_err(Stop::refused)?;
    session.text.push_str(&text);
    Ok(None)
}
