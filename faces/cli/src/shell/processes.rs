//! Commands about programs and their address spaces.

use kernmem::running::{Pid, ProcessError};
use kernmem_arch::UserRights;
use kernmem_base::{Size, VirtAddr};
use kernmem_mm::Place;

use super::parse::Words;
use super::session::{Done, Session, Stop};
use super::table::Entry;

pub const COMMANDS: &[Entry] = &[
    Entry { name: "spawn", arguments: "", help: "makes a program without regions; leaves its number", run: spawn },
    Entry { name: "fork", arguments: "PID", help: "makes a child that shares all pages until a write", run: fork },
    Entry { name: "exit", arguments: "PID", help: "ends a program", run: exit },
    Entry { name: "ps", arguments: "", help: "lists the programs", run: ps },
    Entry {
        name: "mmap",
        arguments: "PID SIZE [PROT] [hint|fixed ADDR]",
        help: "makes a private region; PROT is none or of r, w and x, else rw",
        run: mmap,
    },
    Entry { name: "munmap", arguments: "PID ADDR SIZE", help: "unmaps a range", run: munmap },
    Entry { name: "mprotect", arguments: "PID ADDR SIZE PROT", help: "gives a range other rights", run: mprotect },
];

/// A program's number; one that no program can have is refused as one that none has.
pub fn pid(words: &mut Words<'_, '_>) -> Result<Pid, Stop> {
    let number = words.number("PID")?;
    u16::try_from(number).map(Pid).map_err(|_| Stop::refused(format_args!("there is no program {number}")))
}

/// Rights by letters, or by Linux's names.
fn rights(word: &str) -> Result<UserRights, Stop> {
    let wrong = || Stop::Bad(format!("`{word}` is no protection such as rw, r-x, none or PROT_READ|PROT_WRITE"));
    let mut rights = UserRights::NONE;
    if word == "none" || word == "PROT_NONE" {
        return Ok(rights);
    }
    if word.starts_with("PROT_") {
        for name in word.split('|') {
            *match name {
                "PROT_READ" => &mut rights.read,
                "PROT_WRITE" => &mut rights.write,
                "PROT_EXEC" => &mut rights.execute,
                _ => return Err(wrong()),
            } = true;
        }
        return Ok(rights);
    }
    for letter in word.chars() {
        match letter {
            'r' => rights.read = true,
            'w' => rights.write = true,
            'x' => rights.execute = true,
            '-' => {}
            _ => return Err(wrong()),
        }
    }
    Ok(rights)
}

fn made(session: &mut Session<'_, '_>, pid: Result<Pid, ProcessError>) -> Done {
    let pid = pid.map_err(Stop::refused)?;
    session.say(format_args!("{}", pid.0));
    Ok(Some(u64::from(pid.0)))
}

fn spawn(session: &mut Session<'_, '_>, words: &mut Words<'_, '_>) -> Done {
    words.end()?;
    let pid = session.on(|running, on| running.spawn(on));
    made(session, pid)
}

fn fork(session: &mut Session<'_, '_>, words: &mut Words<'_, '_>) -> Done {
    let parent = pid(words)?;
    words.end()?;
    let child = session.on(|running, on| running.fork(on, parent));
    made(session, child)
}

fn exit(session: &mut Session<'_, '_>, words: &mut Words<'_, '_>) -> Done {
    let pid = pid(words)?;
    words.end()?;
    session.leave(pid);
    session.on(|running, on| running.exit(on, pid)).map_err(Stop::refused)?;
    Ok(None)
}

fn ps(session: &mut Session<'_, '_>, words: &mut Words<'_, '_>) -> Done {
    words.end()?;
    let processes = &session.live.running.processes;
    let mut lines = Vec::new();
    for pid in processes.pids() {
        let (pages, tables) = processes.usage(pid).unwrap_or_default();
        let regions = processes.regions(pid).map_or(0, <[_]>::len);
        let root = processes.root(pid).unwrap_or_default();
        let number = pid.0;
        lines.push(format!("{number}: root {root:#x}, {regions} regions, {pages} pages, tables {}", Size(tables)));
    }
    for line in lines {
        session.say(format_args!("{line}"));
    }
    Ok(None)
}

fn mmap(session: &mut Session<'_, '_>, words: &mut Words<'_, '_>) -> Done {
    let (pid, bytes) = (pid(words)?, words.number("SIZE")?);
    let (mut prot, mut place) = (UserRights::READ_WRITE, Place::Anywhere);
    while let Some(word) = words.word() {
        match word {
            "hint" => place = Place::Hint(VirtAddr(words.number("ADDR")?)),
            "fixed" => place = Place::Fixed(VirtAddr(words.number("ADDR")?)),
            word => prot = rights(word)?,
        }
    }
    let addr = session.on(|running, on| running.mmap(on, pid, place, bytes, prot)).map_err(Stop::refused)?;
    session.say(format_args!("{addr:#x}"));
    Ok(Some(addr.0))
}

fn munmap(session: &mut Session<'_, '_>, words: &mut Words<'_, '_>) -> Done {
    let (pid, addr, bytes) = (pid(words)?, VirtAddr(words.number("ADDR")?), words.number("SIZE")?);
    words.end()?;
    session.on(|running, on| running.munmap(on, pid, addr, bytes)).map_err(Stop::refused)?;
    Ok(None)
}

fn mprotect(session: &mut Session<'_, '_>, words: &mut Words<'_, '_>) -> Done {
    let (pid, addr, bytes) = (pid(words)?, VirtAddr(words.number("ADDR")?), words.number("SIZE")?);
    let prot = rights(words.word().ok_or_else(|| Stop::Bad("PROT is missing".to_owned()))?)?;
    words.end()?;
    session.on(|running, on| running.mprotect(on, pid, addr, bytes, prot)).map_err(Stop::refused)?;
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_letters_or_linux_names() {
        assert_eq!(rights("rw"), Ok(UserRights::READ_WRITE));
        assert_eq!(rights("r-x"), Ok(UserRights::READ_EXECUTE));
        assert_eq!(rights("---"), Ok(UserRights::NONE));
        assert_eq!(rights("none"), Ok(UserRights::NONE));
        assert_eq!(rights("PROT_READ|PROT_WRITE"), Ok(UserRights::READ_WRITE));
        assert!(rights("rwz").is_err() && rights("PROT_SEM").is_err() && rights("PROT_READ|w").is_err());
    }
}
