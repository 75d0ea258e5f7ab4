//! The kernel under the shell, and one command on it.
//!
//! # Invariants
//! 1. Only blocks that `alloc` gave go back by `free`: the page allocator cannot know that a frame of one page is a
//!    table of somebody's.
//! 2. No CPU translates with the root of a program that has ended.

use std::collections::BTreeMap;

use kernmem::running::{On, Pid, Running};
use kernmem_base::{Asid, Cpu, CpuId, Half, Order, Pfn, PhysAddr, VirtAddr};
use kernmem_live::{Live, LiveError};
use kernmem_sim::Memory;
use kernmem_view::BootRecord;

use super::parse::{Command, Names, Words, is_number, number};
use super::table;
use super::trace::Tree;

/// Why a command did not do what it was to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Stop {
    /// The line is wrong.
    Bad(String),
    /// The kernel refuses.
    Refused(String),
    /// The shell is left.
    Quit,
}

impl From<String> for Stop {
    fn from(line: String) -> Self {
        Self::Bad(line)
    }
}

impl From<LiveError> for Stop {
    fn from(error: LiveError) -> Self {
        Self::refused(match error {
            LiveError::Fault(fault) => fault.to_string(),
            error => error.to_string(),
        })
    }
}

impl Stop {
    /// The kernel's reason.
    pub fn refused(why: impl core::fmt::Display) -> Self {
        Self::Refused(why.to_string())
    }
}

/// What a command does: prints into the answer, and may leave a number.
pub type Done = Result<Option<u64>, Stop>;

/// What came of a command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// What it printed, whole lines.
    pub text: String,
    /// The number that it left.
    pub value: Option<u64>,
    /// A program got a signal.
    pub has_signal: bool,
    /// Why it stopped.
    pub stop: Option<Stop>,
}

impl Answer {
    /// The answer to a line that is no command.
    pub const fn bad(wrong: String) -> Self {
        Self { text: String::new(), value: None, has_signal: false, stop: Some(Stop::Bad(wrong)) }
    }

    /// How it ended, in a word.
    pub const fn outcome(&self) -> &'static str {
        match (&self.stop, self.has_signal) {
            (None | Some(Stop::Quit), false) => "done",
            (None | Some(Stop::Quit), true) => "signal",
            (Some(Stop::Refused(_)), _) => "error",
            (Some(Stop::Bad(_)), _) => "bad",
        }
    }
}

/// The kernel, the CPU that asks, and what the shell remembers.
pub struct Session<'l, 'm> {
    /// The kernel.
    pub live: &'l mut Live<'m>,
    /// The CPU that asks.
    pub cpu: CpuId,
    /// Results by name.
    pub names: Names,
    /// Blocks that `alloc` gave.
    pub given: BTreeMap<Pfn, Order>,
    /// Bytes of the objects that `kmalloc` gave.
    pub objects: BTreeMap<VirtAddr, u64>,
    /// The program of each CPU that runs one.
    pub runs: BTreeMap<CpuId, Pid>,
    /// Calls of vmalloc are told.
    pub traces: bool,
    /// A signal is an error.
    pub is_strict: bool,
    /// What the command at hand has printed.
    pub text: String,
    /// In the command at hand a program got a signal.
    pub has_signal: bool,
}

impl core::fmt::Debug for Session<'_, '_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Session").field("cpu", &self.cpu).field("names", &self.names).finish_non_exhaustive()
    }
}

impl<'l, 'm> Session<'l, 'm> {
    /// The first CPU asks.
    pub fn new(live: &'l mut Live<'m>, traces: bool) -> Self {
        Self {
            live,
            cpu: CpuId(0),
            names: Names::new(),
            given: BTreeMap::new(),
            objects: BTreeMap::new(),
            runs: BTreeMap::new(),
            traces,
            is_strict: false,
            text: String::new(),
            has_signal: false,
        }
    }

    /// Runs a command. A name whose command failed stands for nothing any more.
    pub fn run(&mut self, command: &Command<'_>) -> Answer {
        self.text.clear();
        self.has_signal = false;
        let (value, mut stop) = match self.dispatch(&command.words) {
            Ok(value) => (value, None),
            Err(stop) => (None, Some(stop)),
        };
        match (command.name, value) {
            (Some(name), Some(value)) => {
                self.names.insert(name.to_owned(), value);
            }
            (Some(name), None) => {
                self.names.remove(name);
                if stop.is_none() && !self.has_signal {
                    let first = command.words.first().copied().unwrap_or_default();
                    stop = Some(Stop::Bad(format!("`{first}` leaves nothing that {name} could name")));
                }
            }
            (None, _) => {}
        }
        Answer { text: core::mem::take(&mut self.text), value, has_signal: self.has_signal, stop }
    }

    fn dispatch(&mut self, words: &[&str]) -> Done {
        let Some((first, rest)) = words.split_first() else { return Ok(None) };
        if is_number(first) {
            let value = number(first, &self.names)?;
            Words::new(rest, &self.names).end()?;
            self.say(format_args!("{value:#x}"));
            return Ok(Some(value));
        }
        let entry = table::find(first).ok_or_else(|| format!("there is no command `{first}`; `help` lists them"))?;
        // Commands change the names' owner, not the names.
        let names = core::mem::take(&mut self.names);
        let done = (entry.run)(self, &mut Words::new(rest, &names));
        self.names = names;
        done.map_err(|stop| match stop {
            Stop::Bad(line) => Stop::Bad(format!("{}: {line}; usage: {}", entry.name, entry.usage())),
            stop => stop,
        })
    }

    /// A line of the answer.
    pub fn say(&mut self, line: core::fmt::Arguments<'_>) {
        self.text.push_str(&line.to_string());
        self.text.push('\n');
    }

    /// Runs `work` with the kernel as the CPU that asks; calls of vmalloc are told if that is wanted.
    pub fn on<R>(&mut self, work: impl FnOnce(&mut Running<'m, Memory, BootRecord>, &mut On<'_>) -> R) -> R {
        if !self.traces {
            return self.live.on(self.cpu, work).0;
        }
        let mut tree = Tree::default();
        let (done, _) = self.live.traced(self.cpu, Some(&mut tree), work);
        self.text.push_str(&tree.text);
        done
    }

    /// Takes the CPUs that run `pid` away from it, so that its root can go.
    pub fn leave(&mut self, pid: Pid) {
        let has_halves = self.live.running.facts.format.has_root_per_half();
        // Without a lower half of its own arm64's kernel has nothing there: the root of no program, as at boot.
        let kernel = self.live.running.kernel.roots.kernel;
        let (half, root) = if has_halves { (Half::Lower, PhysAddr(0)) } else { (Half::Both, kernel) };
        let left: Vec<CpuId> = self.runs.iter().filter(|(_, runs)| **runs == pid).map(|(cpu, _)| *cpu).collect();
        for cpu in left {
            self.runs.remove(&cpu);
            if let Some(mut handle) = self.live.cpus.cpu(cpu) {
                handle.load_root(half, root, Asid(0));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::KernelArgs;
    use crate::shell::parse::commands;
    use kernmem_live::Options;
    use proptest::prelude::*;

    const START: &str =
        "A = vmalloc 8K; B = alloc 1; C = page_address $B; D = kmalloc 64; P = spawn; E = mmap $P 64K; write $P $E 1";

    /// Any command with up to three words that may suit it, most of them numbers that mean something. None is a size of
    /// terabytes that could be mapped: `ioremap` would fill all memory with tables before it fails.
    const LINE: &str = "(-?)([A-E] = |)(alloc|free|page_address|drain|vmalloc|vmalloc_huge|vfree|vmap|vunmap|ioremap\
        |iounmap|purge|vmalloc_to_pfn|kmalloc|kmalloc|kfree|kfree|hugepages|hvo|spawn|fork|exit|ps|mmap|munmap|mprotect\
        |read|write|peek|poke|poke|walk|show|cpu)\
        ( (\\$[A-EP]|\\$[A-E]\\+(8|4096)|[0-9]{1,2}|4K|16K|2M|1G|0x[0-9a-f]{4,8}|0x[0-9a-f]{16}|0xffff[89c][0-9]{11}|r|rw|none|on|node\
        |fixed|GFP_DMA|__GFP_ZERO|zoneinfo|meminfo|vmallocinfo)){0,3}";

    /// Runs lines as at the prompt: what fails is told, and the next follows.
    fn run_lines(source: &str, lines: &[String]) {
        let opened = KernelArgs::default().open(Some(source)).unwrap();
        let memory = Live::memory(&opened.source).unwrap();
        let mut live = Live::start(&memory, &opened.source, Options::default()).unwrap();
        let mut session = Session::new(&mut live, true);
        for line in core::iter::once(START).chain(lines.iter().map(String::as_str)) {
            for command in commands(line) {
                session.run(&command.unwrap());
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]

        #[test]
        fn random_commands_never_panic(is_x86 in any::<bool>(), lines in prop::collection::vec(LINE, 300)) {
            run_lines(if is_x86 { "x86-4g" } else { "arm64-4g" }, &lines);
        }
    }
}
