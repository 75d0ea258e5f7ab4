//! From a name or bytes to a machine and its kernel.
//!
//! Here: what kind of source it is, by its content, and how options replace parts. A machine without a kernel gets
//! one that is built in ([`crate::builtin`]).

use std::path::Path;

use kernmem_base::{Era, Granule, PhysAddr, Size};
use kernmem_config::{Arm64Cpu, CommandLine, Config, Cpu, Given, KernelConfig, Symbols, X86Cpu};
use kernmem_firmware::{Arch, Devicetree, Machine, bootlog, e820, iomem};

use crate::builtin::{self, Builtin, Wish};
use crate::kernel::KernelFiles;
use crate::{Options, Origin, Problem, Source, SourceError, describe, presets, read, recording};

/// Where arm64's memory starts if its size is overridden.
const ARM64_MEMORY_START: PhysAddr = PhysAddr(0x4000_0000);
const TREE: [u8; 4] = [0xd0, 0x0d, 0xfe, 0xed];

/// A machine and a kernel before the options.
pub(crate) struct Parts {
    pub(crate) machine: Machine,
    /// The source's own kernel.
    pub(crate) kernel: Option<KernelFiles>,
    pub(crate) cmdline: String,
    pub(crate) cpu: Cpu,
    /// The CPU is the source's own, not a preset's.
    pub(crate) own_cpu: bool,
    pub(crate) given: Given,
    pub(crate) era: Era,
    pub(crate) provenance: Vec<Origin>,
}

/// Opens a preset, a folder, a file or standard input.
pub(crate) fn open(source: &str) -> Result<Parts, SourceError> {
    if let Some(preset) = presets::named(source) {
        return Ok(from_preset(preset?, vec![Origin::new("machine", format!("preset {source}"))]));
    }
    let path = Path::new(source);
    if path.is_dir() {
        return recording::open(path);
    }
    if source != "-" && !path.exists() {
        return Err(SourceError::new(source, Problem::UnknownPreset));
    }
    from_bytes(if source == "-" { "standard input" } else { source }, read::file(path)?)
}

fn from_preset(preset: presets::Preset, provenance: Vec<Origin>) -> Parts {
    let presets::Preset { machine, cmdline, cpu, given } = preset;
    let cmdline = cmdline.to_owned();
    Parts { machine, kernel: None, cmdline, cpu, own_cpu: false, given, era: builtin::ERA, provenance }
}

/// Knows the kind by the content.
pub(crate) fn from_bytes(name: &str, bytes: Vec<u8>) -> Result<Parts, SourceError> {
    let bytes = read::unpack(Path::new(name), bytes)?;
    let fail = |problem| SourceError::new(name, problem);
    if bytes.starts_with(&TREE) {
        let tree = Devicetree::parse(&bytes).map_err(|error| fail(Problem::Devicetree(error)))?;
        return from_machine(name, tree.machine(), "devicetree");
    }
    let text = read::into_text(Path::new(name), bytes)?;
    let map = e820::parse_e820(&text);
    let log = if map.is_empty() { bootlog::parse_arm64_log(&text) } else { Some(log_machine(map, &text)) };
    if let Some(mut machine) = log {
        machine.bootargs = bootlog::command_line(&text).map(str::to_owned);
        return from_machine(name, machine, "boot log");
    }
    if iomem::is_iomem(&text) {
        let machine = iomem::parse_iomem(&text).map_err(|error| fail(Problem::Iomem(error)))?;
        return from_machine(name, machine, "/proc/iomem");
    }
    if !describe::is_toml(&text) {
        return Err(fail(Problem::UnknownKind));
    }
    let described = describe::parse(Path::new(name), &text)?;
    let arch = described.machine.arch;
    let mut parts = from_machine(name, described.machine, "TOML")?;
    parts.era = described.era.unwrap_or(parts.era);
    if let Some(model) = &described.cpu {
        parts.cpu = cpu(name, arch, model, &parts.cpu)?;
        parts.own_cpu = true;
    }
    replace_given(&mut parts.given, described.given);
    Ok(parts)
}

/// The machine of a boot log: its map and its affinity lines.
pub(crate) fn log_machine(map: e820::E820Table, text: &str) -> Machine {
    let srat = e820::parse_srat(text);
    let mut machine = Machine::with_e820(map);
    machine.numa = srat.blocks;
    machine.cpus = srat.cpu_nodes.len() as u32;
    machine.cpu_nodes = srat.cpu_nodes;
    machine
}

/// A machine without a CPU takes the preset's; nothing else of the preset's machine stays.
fn from_machine(name: &str, mut machine: Machine, kind: &str) -> Result<Parts, SourceError> {
    if machine.memory.is_empty() {
        return Err(SourceError::new(name, Problem::NoMemory));
    }
    let preset = presets::for_arch(machine.arch)?;
    let given = match machine.arch {
        Arch::Arm64 => Given::default(),
        Arch::X86_64 => presets::unmoved_x86(),
        Arch::I386 => presets::unmoved_i386(),
    };
    if machine.cpus == 0 {
        machine.cpus = preset.machine.cpus;
    }
    let provenance = vec![Origin::new("machine", format!("{kind} {name}"))];
    let cmdline = machine.bootargs.clone().unwrap_or_default();
    Ok(Parts { machine, given, cmdline, provenance, ..from_preset(preset, Vec::new()) })
}

fn replace_given(given: &mut Given, described: Given) {
    given.text_phys = described.text_phys.or(given.text_phys);
    given.text_virt = described.text_virt.or(given.text_virt);
    given.linear_start = described.linear_start.or(given.linear_start);
    given.page_offset_base = described.page_offset_base.or(given.page_offset_base);
    given.vmalloc_base = described.vmalloc_base.or(given.vmalloc_base);
    given.vmemmap_base = described.vmemmap_base.or(given.vmemmap_base);
    given.dtb = described.dtb.or(given.dtb);
    given.kfence_pool = described.kfence_pool.or(given.kfence_pool);
}

/// A model of arm64, or a list of features of x86; features that all begin with `+` or `-` change the source's CPU.
fn cpu(name: &str, arch: Arch, model: &str, own: &Cpu) -> Result<Cpu, SourceError> {
    match arch {
        Arch::Arm64 => {
            let cpu = Arm64Cpu::by_model(model).map(Cpu::Arm64);
            cpu.ok_or_else(|| SourceError::new(name, Problem::UnknownCpu(model.to_owned())))
        }
        Arch::X86_64 | Arch::I386 => Ok(Cpu::X86(match own {
            Cpu::X86(own) if model.starts_with(['+', '-']) => own.changed(model),
            _ => X86Cpu::from_features("", model),
        })),
    }
}

/// CPUs that may ever come up.
fn possible_cpus(machine: &Machine, kconfig: &KernelConfig, cmdline: &CommandLine) -> u32 {
    let built = kconfig.number("NR_CPUS").unwrap_or(1) as u32;
    machine.cpus.clamp(1, cmdline.nr_cpus(built.max(1)))
}

impl Source {
    /// Replaces the command line, and what follows from it alone.
    pub fn set_cmdline(&mut self, cmdline: CommandLine) {
        self.config.possible_cpus = possible_cpus(&self.machine, &self.config.kconfig, &cmdline);
        self.machine.bootargs = Some(cmdline.text().to_owned());
        self.config.cmdline = cmdline;
    }

    /// The same machine with the kernel that is built in for another era, with the same page size and bits. `None` if
    /// this kernel is not a built-in one, or none of that era is like it.
    ///
    /// # Errors
    /// The kernel's files are damaged.
    pub fn with_builtin_of(&self, era: Era) -> Result<Option<Self>, SourceError> {
        let own = self.builtin.and_then(builtin::named);
        let Some(kernel) = own.and_then(|own| own.of_other_era(era, &self.config.cpu)) else { return Ok(None) };
        let KernelFiles { kconfig, symbols, sizes } = kernel.files()?;
        let mut other = self.clone();
        other.config.possible_cpus = possible_cpus(&self.machine, &kconfig, &self.config.cmdline);
        other.config = Config { era, kconfig, symbols, sizes, ..other.config };
        (other.image_era, other.builtin) = (era, Some(kernel.name));
        other.provenance.retain(|origin| origin.what != "kernel");
        other.provenance.push(Origin::new("kernel", format!("built-in kernel {}", kernel.name)));
        Ok(Some(other))
    }
}

/// The kernel of a source: its files, the era that they are of, and the kernel if it is a built-in one.
struct Chosen {
    files: KernelFiles,
    era: Era,
    builtin: Option<&'static Builtin>,
}

impl Parts {
    /// The source's own kernel, or the one that is built in and is what the options wish. A configuration of the
    /// caller's wishes too; and where the caller has a kernel, none that is built in must be the one that is wished for.
    fn choose(
        &mut self,
        source: &str,
        options: &Options,
        kconfig: Option<&KernelConfig>,
    ) -> Result<Chosen, SourceError> {
        if let Some(files) = self.kernel.take() {
            return Ok(Chosen { files, era: self.era, builtin: None });
        }
        let (arch, wished) = (self.machine.arch, options.era.unwrap_or(self.era));
        let era = if builtin::has_era(arch, wished) { wished } else { builtin::ERA };
        let built = kconfig.filter(|_| arch == Arch::Arm64);
        let granule = options.page_size.or_else(|| built.map(KernelConfig::arm64_granule));
        let va_bits = options.va_bits.or_else(|| built.and_then(KernelConfig::arm64_va_bits));
        let found = match builtin::choose(&Wish { arch, era, granule, va_bits }, &self.cpu) {
            Err(_) if options.kconfig.is_some() || options.symbols.is_some() => {
                builtin::choose(&Wish { arch, era, granule: None, va_bits: None }, &self.cpu)
            }
            found => found,
        };
        let kernel = found.map_err(|problem| SourceError::new(source, problem))?;
        let mut from = format!("built-in kernel {}", kernel.name);
        if era != wished {
            from.push_str(&format!(", for want of one of Linux {wished}"));
        }
        self.provenance.push(Origin::new("kernel", from));
        Ok(Chosen { files: kernel.files()?, era, builtin: Some(kernel) })
    }

    /// Another CPU, if a built-in kernel has pages that the preset's CPU has not.
    fn fit_cpu(&mut self, source: &str, granule: Granule) -> Result<(), SourceError> {
        let Some(own) = self.cpu.arm64().filter(|cpu| !cpu.has_granule(granule)) else { return Ok(()) };
        let other = Arm64Cpu::models().filter_map(Arm64Cpu::by_model).find(|cpu| cpu.has_granule(granule));
        let Some(other) = other.filter(|_| !self.own_cpu) else {
            return Err(SourceError::new(source, Problem::CpuPages { model: own.model.clone(), granule }));
        };
        self.provenance.push(Origin::new("cpu", format!("the first model with {} pages", Size(granule.bytes()))));
        self.cpu = Cpu::Arm64(other);
        Ok(())
    }

    /// Replaces what the caller sets, and puts all together.
    pub(crate) fn with(mut self, source: &str, options: &Options) -> Result<Source, SourceError> {
        let arch = self.machine.arch;
        if let Some(model) = &options.cpu {
            self.cpu = cpu(source, arch, model, &self.cpu)?;
            self.own_cpu = true;
        }
        let kconfig = options.kconfig.as_ref().map(|path| read::text(path)).transpose()?;
        let kconfig = kconfig.map(|text| KernelConfig::parse(&text));
        let Chosen { files: mut kernel, era: mut image_era, builtin } =
            self.choose(source, options, kconfig.as_ref())?;
        if let Some(builtin) = builtin {
            self.fit_cpu(source, builtin.granule)?;
        }
        let mut overridden = |what| self.provenance.push(Origin::new(what, "option"));
        if let Some(line) = &options.cmdline {
            self.cmdline.clone_from(line);
            overridden("command line");
        }
        if let Some(era) = options.era {
            self.era = era;
            overridden("era");
        }
        if options.cpu.is_some() {
            overridden("cpu");
        }
        let own_kconfig = kconfig.is_some();
        if let Some(kconfig) = kconfig {
            kernel.kconfig = kconfig;
            overridden("configuration");
        }
        if options.era.is_some() && (own_kconfig || image_era != self.era) {
            kernel.kconfig.name_for_all_eras();
        }
        if let Some(granule) = options.page_size.filter(|_| arch == Arch::Arm64) {
            kernel.kconfig.set_arm64_pages(granule);
            overridden("page size");
        }
        if let Some(bits) = options.va_bits.filter(|_| arch == Arch::Arm64) {
            kernel.kconfig.set_arm64_va_bits(bits);
            overridden("VA bits");
        }
        if let Some(path) = &options.symbols {
            kernel.symbols = Symbols::parse(&read::text(path)?);
            image_era = self.era;
            overridden("symbols");
        }
        if let Some(seed) = options.seed {
            self.machine.kaslr_seed = Some(seed);
            overridden("KASLR seed");
        }
        if let Some(bytes) = options.memory {
            overridden("memory");
            self.replace_memory(source, bytes)?;
        }
        let cmdline = CommandLine::parse(&self.cmdline);
        self.machine.bootargs = Some(self.cmdline);
        let possible_cpus = possible_cpus(&self.machine, &kernel.kconfig, &cmdline);
        let config = Config {
            era: self.era,
            arch,
            cmdline,
            kconfig: kernel.kconfig,
            cpu: self.cpu,
            symbols: kernel.symbols,
            sizes: kernel.sizes,
            given: self.given,
            possible_cpus,
        };
        let builtin = builtin.filter(|_| !own_kconfig && options.symbols.is_none());
        let builtin = builtin.filter(|_| image_era == self.era).map(|kernel| kernel.name);
        Ok(Source { machine: self.machine, config, image_era, builtin, provenance: self.provenance })
    }

    /// What a loader put where memory is no more, is put nowhere.
    fn replace_memory(&mut self, source: &str, bytes: u64) -> Result<(), SourceError> {
        match self.machine.arch {
            Arch::Arm64 => self.machine.replace_memory(ARM64_MEMORY_START, bytes),
            Arch::X86_64 | Arch::I386 => self.machine.replace_e820_memory(bytes),
        }
        let machine = &self.machine;
        if machine.memory.iter().all(|bank| bank.range.is_empty()) {
            return Err(SourceError::new(source, Problem::NoMemory));
        }
        self.given.initrd = self.given.initrd.filter(|(start, last)| machine.has_memory(*start, *last));
        self.given.dtb = self.given.dtb.filter(|dtb| machine.has_memory(dtb.0, dtb.0));
        let initrd = machine.initrd.filter(|initrd| machine.has_memory(initrd.start.0, initrd.end.0 - 1));
        self.machine.initrd = initrd;
        Ok(())
    }
}
