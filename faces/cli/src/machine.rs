//! Opens a source, boots it, and hands the kernel to a verb.

use kernmem::running::Running;
use kernmem::{Boot, BootError, Kernel};
use kernmem_base::NoTlb;
use kernmem_config::Arch;
use kernmem_sim::Memory;
use kernmem_source::{Options, Source};
use kernmem_view::BootRecord;
use kernmem_view::proc::{OfRunning, Settled};

use crate::args::{Eras, KernelArgs};
use crate::failure::Failure;
use crate::guard::Guard;

/// A booted kernel in simulated memory; its witness has given the record away.
pub type Booted<'m> = Kernel<'m, Memory, Guard>;

/// A source and the name by which messages call it.
#[derive(Debug)]
pub struct Opened {
    /// The name.
    pub name: String,
    /// The machine and its kernel.
    pub source: Source,
}

impl KernelArgs {
    /// The parts that the options replace.
    pub fn parts(&self) -> Options {
        Options {
            cmdline: self.cmdline.clone(),
            era: match self.era {
                Some(Eras::One(era)) => Some(era),
                Some(Eras::All) | None => None,
            },
            cpu: self.cpu.clone(),
            kconfig: self.kconfig.clone(),
            page_size: self.page_size,
            va_bits: self.va_bits,
            symbols: self.symbols.clone(),
            memory: self.memory,
            seed: self.seed,
        }
    }

    /// Opens `source`, or the preset of the wanted architecture, for one era.
    pub fn open(&self, source: Option<&str>) -> Result<Opened, Failure> {
        if self.era == Some(Eras::All) {
            return Err(Failure::input("--era all: only boot, explain and layout tell all eras; name one of them"));
        }
        let mut opened = self.open_in_its_era(source)?;
        if let Some(Eras::One(era)) = self.era {
            // A kernel that does not boot says so when it is asked for.
            let _ = crate::eras::move_to(&mut opened, era);
        }
        Ok(opened)
    }

    /// As [`KernelArgs::open`]; where all eras are asked for, in the source's own. The image stays where it is linked.
    pub fn open_in_its_era(&self, source: Option<&str>) -> Result<Opened, Failure> {
        let preset = match self.arch {
            Some(Arch::X86_64) => "x86-4g",
            Some(Arch::I386) => "i386-2g",
            Some(Arch::Arm64) | None => "arm64-4g",
        };
        let name = source.unwrap_or(preset);
        let source = Source::open_with(name, &self.parts())?;
        let name = if name == "-" { "standard input".to_owned() } else { name.to_owned() };
        let arch = source.machine.arch;
        if let Some(wanted) = self.arch.filter(|wanted| *wanted != arch) {
            let (wanted, arch) = (wanted.name(), arch.name());
            return Err(Failure::input(format!("{name}: is a machine of {arch}, not {wanted}; leave --arch out")));
        }
        Ok(Opened { name, source })
    }
}

impl Opened {
    /// Boots the machine and gives kernel and record to `then`.
    pub fn boot<T>(&self, then: impl FnOnce(&Booted<'_>, &BootRecord) -> Result<T, Failure>) -> Result<T, Failure> {
        self.boot_up(|kernel, record| then(&kernel, record))
    }

    /// Boots the machine, lets its kernel run, and gives that and what boot settled to `then`.
    pub fn run<T>(
        &self,
        then: impl FnOnce(OfRunning<'_, '_, Memory, Guard>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let boot = Boot::new(&self.source.machine, &self.source.config);
        self.boot_up(|kernel, record| {
            let settled = Settled::of(boot, &kernel, record);
            // No CPU has seen the tables: nobody has to flush.
            let running = Running::start(kernel, &boot, &mut NoTlb);
            let running = running.map_err(|error| Failure::boot(&self.name, &error))?;
            then(OfRunning { running: &running, settled: &settled })
        })
    }

    /// As [`Opened::boot`], with the boot's own error.
    pub fn try_boot<T>(&self, then: impl FnOnce(&Booted<'_>, &BootRecord) -> T) -> Result<T, BootError> {
        let boot = Boot::new(&self.source.machine, &self.source.config);
        let memory = Memory::new(kernmem::memory_ranges(&boot)).map_err(|error| BootError::Input(error.to_string()))?;
        let mut kernel = kernmem_live::boot(&memory, &boot, Guard::new(&self.name))?;
        let record = core::mem::take(&mut kernel.memblock.observer().record);
        Ok(then(&kernel, &record))
    }

    fn boot_up<T>(&self, then: impl FnOnce(Booted<'_>, &BootRecord) -> Result<T, Failure>) -> Result<T, Failure> {
        let boot = Boot::new(&self.source.machine, &self.source.config);
        let ranges = kernmem::memory_ranges(&boot);
        let memory = Memory::new(ranges).map_err(|error| Failure::input(format!("{}: {error}", self.name)))?;
        let mut kernel = kernmem_live::boot(&memory, &boot, Guard::new(&self.name))
            .map_err(|error| Failure::boot(&self.name, &error))?;
        let record = core::mem::take(&mut kernel.memblock.observer().record);
        then(kernel, &record)
    }

    /// Where the parts came from.
    pub fn origins(&self) -> Vec<(&str, &str)> {
        self.source.provenance.iter().map(|origin| (origin.what, origin.from.as_str())).collect()
    }
}
