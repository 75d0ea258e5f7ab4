//! Commands that reach memory through the tables: as a program, and as the kernel.

use kernmem::running::{Pid, ProcessError};
use kernmem_arch::Fault;
use kernmem_base::{Access, Privilege, VirtAddr};
use kernmem_live::{LiveError, Program, Tally};
use kernmem_mm::Signal;
use kernmem_report::walk::{RootChoice, Walked, print, take};
use kernmem_sim::CpuHandle;
use kernmem_view::entries;

use super::parse::Words;
use super::processes::pid;
use super::session::{Done, Session, Stop};
use super::table::Entry;

pub const COMMANDS: &[Entry] = &[
    Entry { name: "read", arguments: "PID ADDR", help: "reads a word of 8 bytes as a program", run: read },
    Entry { name: "write", arguments: "PID ADDR VALUE", help: "writes one as a program", run: write },
    Entry { name: "peek", arguments: "ADDR", help: "reads a word as the kernel", run: peek },
    Entry {
        name: "poke",
        arguments: "ADDR VALUE",
        help: "writes one as the kernel, into what commands took",
        run: poke,
    },
    Entry {
        name: "walk",
        arguments: "ADDR [PID]",
        help: "follows an address level by level; the lower half is the program's",
        run: walk,
    },
];

fn read(session: &mut Session<'_, '_>, words: &mut Words<'_, '_>) -> Done {
    let (pid, addr) = (pid(words)?, VirtAddr(words.number("ADDR")?));
    words.end()?;
    let word = as_program(session, pid, |program, session| program.read(session.live, addr))?;
    if let Some(word) = word {
        session.say(format_args!("{word:#x}"));
    }
    Ok(word)
}

fn write(session: &mut Session<'_, '_>, words: &mut Words<'_, '_>) -> Done {
    let (pid, addr, value) = (pid(words)?, VirtAddr(words.number("ADDR")?), words.number("VALUE")?);
    words.end()?;
    as_program(session, pid, |program, session| program.write(session.live, addr, value))?;
    Ok(None)
}

/// Runs an access of a program; `None` if it got a signal, which is told.
fn as_program<T>(
    session: &mut Session<'_, '_>,
    pid: Pid,
    access: impl FnOnce(&mut Program, &mut Session<'_, '_>) -> Result<T, LiveError>,
) -> Result<Option<T>, Stop> {
    let mut program = Program::run_on(session.live, session.cpu, pid)?;
    session.runs.insert(session.cpu, pid);
    let done = access(&mut program, session);
    faults(session, program.tally);
    match done {
        Ok(value) => Ok(Some(value)),
        Err(LiveError::Signal(signal)) => {
            let line = format!("program {} gets {}", pid.0, name(signal));
            session.has_signal = true;
            if session.is_strict {
                return Err(Stop::Refused(line));
            }
            session.say(format_args!("{line}"));
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

fn name(signal: Signal) -> String {
    match signal {
        Signal::MapErr => format!("SIGSEGV (SEGV_MAPERR): {signal}"),
        Signal::AccErr => format!("SIGSEGV (SEGV_ACCERR): {signal}"),
        Signal::KernelAddress => format!("SIGSEGV: {signal}"),
        Signal::OutOfMemory => format!("SIGKILL: {signal}"),
        other => format!("SIGBUS: {other}"),
    }
}

/// Tells what the faults of an access came to.
fn faults(session: &mut Session<'_, '_>, tally: Tally) {
    let kinds = [
        (tally.zero_pages, "the page of zeros is mapped"),
        (tally.new_pages, "a new page is mapped"),
        (tally.copies, "the page is copied"),
        (tally.reused, "the page is taken over"),
        (tally.marked, "the entry is marked as used"),
        (tally.spurious, "nothing was to be done"),
    ];
    for (count, what) in kinds {
        for _ in 0..count {
            session.say(format_args!("fault: {what}"));
        }
    }
}

fn peek(session: &mut Session<'_, '_>, words: &mut Words<'_, '_>) -> Done {
    let addr = VirtAddr(words.number("ADDR")?);
    words.end()?;
    let word = as_kernel(session, addr, |session, cpu| {
        cpu.read_u64(session.live.memory, addr, Privilege::Kernel).map_err(|interrupted| interrupted.fault)
    })?;
    session.say(format_args!("{word:#x}"));
    Ok(Some(word))
}

fn poke(session: &mut Session<'_, '_>, words: &mut Words<'_, '_>) -> Done {
    let (addr, value) = (VirtAddr(words.number("ADDR")?), words.number("VALUE")?);
    words.end()?;
    // The word may cross into a page of another frame.
    for byte in [addr, addr.wrapping_add(7)] {
        let reached = as_kernel(session, byte, |session, cpu| {
            cpu.access(session.live.memory, byte, Access::Write, Privilege::Kernel)
        })?;
        if !session.owns(byte, reached.pa) {
            let pa = reached.pa;
            return Err(Stop::refused(format_args!(
                "{byte:#018x} reaches {pa:#x}, which no command has taken: a kernel whose own memory is overwritten \
                 can promise nothing"
            )));
        }
    }
    as_kernel(session, addr, |session, cpu| {
        cpu.write_u64(session.live.memory, addr, value, Privilege::Kernel).map_err(|interrupted| interrupted.fault)
    })?;
    Ok(None)
}

/// Runs an access of the kernel on the CPU that asks, with whatever root it has loaded. A fault in vmalloc's range under
/// a program's root is dealt with as that kernel does.
fn as_kernel<T>(
    session: &mut Session<'_, '_>,
    addr: VirtAddr,
    access: impl Fn(&Session<'_, '_>, CpuHandle<'_>) -> Result<T, Fault>,
) -> Result<T, Stop> {
    let runs = session.runs.get(&session.cpu).copied();
    let has_halves = session.live.running.facts.format.has_root_per_half();
    let is_lower = addr.0 >> 55 & 1 == 0;
    if has_halves && is_lower && runs.is_none() {
        let cpu = session.cpu.0;
        return Err(Stop::refused(format_args!("kernel access at {addr:#018x}: CPU {cpu} runs no program")));
    }
    let once = |session: &Session<'_, '_>| {
        let cpu = session.live.cpus.cpu(session.cpu).ok_or(LiveError::Process(ProcessError::NoCpu))?;
        Ok::<_, LiveError>(access(session, cpu))
    };
    let fault = match once(session)? {
        Ok(value) => return Ok(value),
        Err(fault) => fault,
    };
    // A word may lie in two pages; the fault is that of one.
    let is_mended = runs.is_some_and(|pid| matches!(session.live.running.kernel_fault(pid, fault.va), Ok(Ok(_))));
    if !is_mended {
        return Err(LiveError::Fault(fault).into());
    }
    session.say(format_args!("{fault}; the entry is copied from the kernel's root"));
    Ok(once(session)?.map_err(LiveError::Fault)?)
}

fn walk(session: &mut Session<'_, '_>, words: &mut Words<'_, '_>) -> Done {
    let addr = VirtAddr(words.number("ADDR")?);
    let program = if words.is_done() { None } else { Some(pid(words)?) };
    words.end()?;
    let kernel = &session.live.running.kernel;
    let walked = match program {
        None => take(kernel, addr),
        Some(pid) => {
            let root = session.live.running.processes.root(pid);
            let root = root.ok_or_else(|| Stop::refused(ProcessError::NoProcess(pid)))?;
            let choice = match take(kernel, addr).root {
                RootChoice::Single(_) => RootChoice::Single(root),
                RootChoice::Lower(_) | RootChoice::LowerEmpty => RootChoice::Lower(root),
                other => other,
            };
            below(session, choice, addr)
        }
    };
    let references = walked.steps.len() as u64;
    let mut text = String::new();
    // Writing to a text cannot fail.
    let _ = print(&session.live.running.kernel, &walked, references, &mut text);
    session.text.push_str(&text);
    Ok(walked.memory().map(|pa| pa.0))
}

/// The walk from a root that is not the kernel's own.
fn below(session: &Session<'_, '_>, root: RootChoice, va: VirtAddr) -> Walked {
    let table = match root {
        RootChoice::NotCanonical | RootChoice::LowerEmpty => {
            return Walked { va, root, steps: Vec::new(), error: None };
        }
        RootChoice::Upper(table) | RootChoice::Lower(table) | RootChoice::Single(table) => table,
    };
    match entries::walk(&session.live.running.kernel, table, va) {
        Ok(steps) => Walked { va, root, steps, error: None },
        Err(error) => Walked { va, root, steps: Vec::new(), error: Some(error) },
    }
}
