//! What a program does: reads and writes through a CPU. A fault goes to the kernel, which deals with it or sends a
//! signal, and the access runs again.

use kernmem::running::Pid;
use kernmem_base::{Access, CpuId, Privilege, VirtAddr};
use kernmem_mm::Handled;
use kernmem_sim::Interrupted;

use crate::{Live, LiveError};

/// What the faults of a program came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Faults that the kernel dealt with.
    pub faults: u64,
    /// Pages of zeros that were mapped.
    pub zero_pages: u64,
    /// Pages that were made.
    pub new_pages: u64,
    /// Pages that were copied.
    pub copies: u64,
    /// Pages that were taken over in place.
    pub reused: u64,
    /// Entries that were marked as used or written.
    pub marked: u64,
    /// Faults that had nothing to do.
    pub spurious: u64,
}

impl Tally {
    fn count(&mut self, handled: Handled) {
        self.faults += 1;
        match handled {
            Handled::ZeroPage => self.zero_pages += 1,
            Handled::NewPage | Handled::FromZeroPage => self.new_pages += 1,
            Handled::Copied => self.copies += 1,
            Handled::Reused => self.reused += 1,
            Handled::Marked => self.marked += 1,
            Handled::Spurious => self.spurious += 1,
        }
    }
}

/// A program on a CPU.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// The program.
    pub pid: Pid,
    /// The CPU that runs it.
    pub cpu: CpuId,
    /// What its faults came to.
    pub tally: Tally,
}

/// More faults for one access than any rule asks for: a sign that nobody mends it.
const MOST_FAULTS: u32 = 16;

impl Program {
    /// Lets `cpu` run the program.
    ///
    /// # Errors
    /// There is no such program or CPU.
    pub fn run_on(live: &mut Live<'_>, cpu: CpuId, pid: Pid) -> Result<Self, LiveError> {
        let mut handle = live.cpus.cpu(cpu).ok_or(kernmem::running::ProcessError::NoCpu)?;
        live.running.switch_to(&mut handle, pid)?;
        Ok(Self { pid, cpu, tally: Tally::default() })
    }

    /// Reads the word at `va`.
    ///
    /// # Errors
    /// The program gets a signal.
    pub fn read(&mut self, live: &mut Live<'_>, va: VirtAddr) -> Result<u64, LiveError> {
        let mut word = [0; 8];
        self.access(live, va, Access::Read, |live, cpu| {
            let handle = live.cpus.cpu(cpu);
            handle.map_or(Ok(()), |handle| handle.read(live.memory, va, &mut word, Privilege::User).map(|_| ()))
        })?;
        Ok(u64::from_ne_bytes(word))
    }

    /// Writes the word at `va`.
    ///
    /// # Errors
    /// The program gets a signal.
    pub fn write(&mut self, live: &mut Live<'_>, va: VirtAddr, value: u64) -> Result<(), LiveError> {
        let word = value.to_ne_bytes();
        self.access(live, va, Access::Write, |live, cpu| {
            let handle = live.cpus.cpu(cpu);
            handle.map_or(Ok(()), |handle| handle.write(live.memory, va, &word, Privilege::User).map(|_| ()))
        })
    }

    fn access(
        &mut self,
        live: &mut Live<'_>,
        va: VirtAddr,
        access: Access,
        mut run: impl FnMut(&Live<'_>, CpuId) -> Result<(), Interrupted>,
    ) -> Result<(), LiveError> {
        let mut last = None;
        for _ in 0..MOST_FAULTS {
            match run(live, self.cpu) {
                Ok(()) => return Ok(()),
                Err(interrupted) => last = Some(interrupted),
            }
            // A word may lie in two pages; the fault is that of one.
            let va = last.map_or(va, |interrupted| interrupted.fault.va);
            let pid = self.pid;
            let (handled, _) = live.on(self.cpu, |running, on| running.fault(on, pid, va, access, Privilege::User));
            self.tally.count(handled??);
        }
        last.map_or(Ok(()), |interrupted| Err(interrupted.into()))
    }
}
