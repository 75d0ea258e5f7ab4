//! The commands by name, and `help`.

use kernmem_base::CpuId;

use super::parse::Words;
use super::session::{Done, Session, Stop};
use super::{access, areas, huge, pages, processes, show};

/// A command.
pub struct Entry {
    /// Its name.
    pub name: &'static str,
    /// What follows the name.
    pub arguments: &'static str,
    /// What it does, for people.
    pub help: &'static str,
    /// What it does.
    pub run: for<'s, 'l, 'm, 'w> fn(&'s mut Session<'l, 'm>, &'s mut Words<'w, 'w>) -> Done,
}

impl Entry {
    /// How it is written.
    pub fn usage(&self) -> String {
        format!("{} {}", self.name, self.arguments).trim_end().to_owned()
    }
}

/// A subject of the commands.
pub struct Subject {
    /// What the commands are about.
    pub title: &'static str,
    /// The commands.
    pub commands: &'static [Entry],
}

/// Every command.
pub const SUBJECTS: [Subject; 7] = [
    Subject { title: "pages", commands: pages::COMMANDS },
    Subject { title: "kernel addresses and objects", commands: areas::COMMANDS },
    Subject { title: "huge pages", commands: huge::COMMANDS },
    Subject { title: "programs", commands: processes::COMMANDS },
    Subject { title: "memory through the tables", commands: access::COMMANDS },
    Subject { title: "what the kernel tells", commands: show::COMMANDS },
    Subject { title: "the shell", commands: OWN },
];

const OWN: &[Entry] = &[
    Entry { name: "cpu", arguments: "[N]", help: "lets CPU N ask from now on; tells which one does", run: cpu },
    Entry { name: "trace", arguments: "on|off", help: "prints each call of vmalloc, or no longer", run: trace },
    Entry { name: "strict", arguments: "on|off", help: "makes a signal end a script as an error does", run: strict },
    Entry { name: "help", arguments: "[COMMAND]", help: "lists the commands, or tells one", run: help },
    Entry { name: "quit", arguments: "", help: "ends the shell", run: quit },
];

/// The command of that name.
pub fn find(name: &str) -> Option<&'static Entry> {
    all().find(|entry| entry.name == name)
}

/// Every command, in the order of `help`.
pub fn all() -> impl Iterator<Item = &'static Entry> {
    SUBJECTS.iter().flat_map(|subject| subject.commands)
}

/// `on` or `off`.
///
/// # Errors
/// It is missing, or another word.
pub fn on_off(words: &mut Words<'_, '_>) -> Result<bool, Stop> {
    let is_on = match words.word() {
        Some("on") => true,
        Some("off") => false,
        _ => return Err(Stop::Bad("`on` or `off` expected".to_owned())),
    };
    words.end()?;
    Ok(is_on)
}

fn cpu(session: &mut Session<'_, '_>, words: &mut Words<'_, '_>) -> Done {
    let count = session.live.running.cpu_count();
    if !words.is_done() {
        let wanted = words.number("N")?;
        words.end()?;
        let known = u32::try_from(wanted).ok().filter(|cpu| *cpu < count);
        session.cpu = CpuId(known.ok_or_else(|| Stop::refused(format!("there is no CPU {wanted}, only {count}")))?);
    }
    let cpu = session.cpu.0;
    match session.runs.get(&session.cpu).map(|pid| pid.0) {
        Some(pid) => session.say(format_args!("CPU {cpu} of {count}, runs program {pid}")),
        None => session.say(format_args!("CPU {cpu} of {count}")),
    }
    Ok(Some(u64::from(cpu)))
}

fn trace(session: &mut Session<'_, '_>, words: &mut Words<'_, '_>) -> Done {
    session.traces = on_off(words)?;
    Ok(None)
}

fn strict(session: &mut Session<'_, '_>, words: &mut Words<'_, '_>) -> Done {
    session.is_strict = on_off(words)?;
    Ok(None)
}

fn quit(_: &mut Session<'_, '_>, words: &mut Words<'_, '_>) -> Done {
    words.end()?;
    Err(Stop::Quit)
}

fn help(session: &mut Session<'_, '_>, words: &mut Words<'_, '_>) -> Done {
    if let Some(name) = words.word() {
        words.end()?;
        let entry = find(name).ok_or_else(|| format!("there is no command `{name}`"))?;
        session.say(format_args!("{}\n  {}", entry.usage(), entry.help));
        return Ok(None);
    }
    for Subject { title, commands } in &SUBJECTS {
        session.say(format_args!("{title}:"));
        for entry in *commands {
            session.say(format_args!("  {:40} {}", entry.usage(), entry.help));
        }
    }
    session.say(format_args!(
        "\nNumbers are decimal or 0x…, with K, M, G or T, or $NAME; sums such as $A+4K are numbers.\n\
         `NAME = COMMAND` names a result; `-COMMAND` may fail; `;` parts commands; `#` begins a comment."
    ));
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_commands_have_one_name() {
        let mut names: Vec<&str> = all().map(|entry| entry.name).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
    }
}
