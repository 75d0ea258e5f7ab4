//! The bench: a machine that can be changed and booted, and what labs ask of a booted kernel.

use core::sync::atomic::AtomicU64;

use kernmem::{Boot, Isa, Kernel};
use kernmem_base::{Era, PhysAddr, PhysRange, PhysRead, VirtAddr, VirtRange};
use kernmem_config::CommandLine;
use kernmem_firmware::Arch;
use kernmem_live::{Live, Options};
use kernmem_sim::Memory;
use kernmem_source::Source;
use kernmem_view::entries::{WalkStep, walk};
use kernmem_view::{BootRecord, KernelView, RootKind};

use crate::{LabError, LabOptions};

/// A machine with its kernel.
#[derive(Clone, Debug)]
pub(crate) struct Bench {
    pub source: Source,
}

/// What a lab runs on if no machine is named.
pub(crate) enum Own {
    /// A preset.
    Preset(&'static str),
    /// A description in TOML.
    Described(&'static str),
}

/// A booted kernel in simulated memory.
pub(crate) struct Booted<'m> {
    pub memory: &'m Memory,
    pub kernel: Kernel<'m, Memory, BootRecord>,
}

impl Bench {
    /// The caller's machine, or the lab's own.
    pub(crate) fn open(options: &LabOptions, own: Own) -> Result<Self, LabError> {
        let source = match (&options.source, own) {
            (Some(name), _) => Source::open_with(name, &options.parts)?,
            (None, Own::Preset(name)) => Source::open_with(name, &options.parts)?,
            (None, Own::Described(text)) => {
                Source::from_bytes("machine of the lab", text.as_bytes().to_vec(), &options.parts)?
            }
        };
        Ok(Self { source })
    }

    /// The machine if it is of arm64.
    pub(crate) fn of_arm64(self, lab: &'static str) -> Result<Self, LabError> {
        match self.source.machine.arch {
            Arch::Arm64 => Ok(self),
            arch @ (Arch::X86_64 | Arch::I386) => Err(LabError::Architecture { lab, arch, wanted: Arch::Arm64 }),
        }
    }

    /// The machine if it is of x86-64.
    pub(crate) fn of_x86(self, lab: &'static str) -> Result<Self, LabError> {
        match self.source.machine.arch {
            Arch::X86_64 => Ok(self),
            arch @ (Arch::Arm64 | Arch::I386) => Err(LabError::Architecture { lab, arch, wanted: Arch::X86_64 }),
        }
    }

    /// The machine if it is of i386.
    pub(crate) fn of_i386(self, lab: &'static str) -> Result<Self, LabError> {
        match self.source.machine.arch {
            Arch::I386 => Ok(self),
            arch @ (Arch::Arm64 | Arch::X86_64) => Err(LabError::Architecture { lab, arch, wanted: Arch::I386 }),
        }
    }

    pub(crate) fn era(&self) -> Era {
        self.source.config.era
    }

    /// The machine's era, then the others.
    pub(crate) fn eras(&self) -> impl Iterator<Item = Era> + use<> {
        let own = self.era();
        core::iter::once(own).chain(Era::ALL.into_iter().filter(move |era| *era != own))
    }

    /// The same machine with every `name=` of the command line replaced by `word`.
    pub(crate) fn with_word(&self, name: &str, word: Option<&str>) -> Self {
        let mut bench = self.clone();
        let kept = self.source.config.cmdline.text().split_ascii_whitespace();
        let kept = kept.filter(|text| text.split('=').next() != Some(name));
        let words: Vec<&str> = kept.chain(word).collect();
        bench.source.config.cmdline = CommandLine::parse(&words.join(" "));
        bench
    }

    /// The same machine with the largest leaves in its linear map that it can have, or reversed with smaller ones; a
    /// command line of the caller's stays.
    pub(crate) fn with_leaves(self, options: &LabOptions) -> Self {
        if options.parts.cmdline.is_some() {
            return self;
        }
        match (self.source.machine.arch, options.reverse) {
            (Arch::Arm64, false) => self.with_word("rodata", Some("rodata=off")),
            (Arch::Arm64, true) => self.with_word("rodata", Some("rodata=full")),
            (Arch::X86_64 | Arch::I386, false) => self.with_word("nogbpages", None),
            (Arch::X86_64 | Arch::I386, true) => self.with_word("nogbpages", Some("nogbpages")),
        }
    }

    /// Boots the machine and gives it to `then`.
    pub(crate) fn boot<T>(&self, then: impl FnOnce(&mut Booted<'_>) -> Result<T, LabError>) -> Result<T, LabError> {
        let boot = Boot::new(&self.source.machine, &self.source.config);
        let memory = Memory::new(kernmem::memory_ranges(&boot))?;
        let kernel = kernmem_live::boot(&memory, &boot, BootRecord::default())?;
        then(&mut Booted { memory: &memory, kernel })
    }

    /// Boots the machine, lets its kernel run, and gives it to `then`.
    pub(crate) fn live<T>(&self, then: impl FnOnce(&mut Live<'_>) -> Result<T, LabError>) -> Result<T, LabError> {
        self.live_with(Options::default(), then)
    }

    /// As [`Bench::live`], with a kernel that is run by `options`.
    pub(crate) fn live_with<T>(
        &self,
        options: Options,
        then: impl FnOnce(&mut Live<'_>) -> Result<T, LabError>,
    ) -> Result<T, LabError> {
        let memory = Live::memory(&self.source)?;
        then(&mut Live::start(&memory, &self.source, options)?)
    }
}

impl Booted<'_> {
    pub(crate) fn record(&self) -> &BootRecord {
        self.kernel.witness()
    }

    /// The linear map's address of `pa`.
    pub(crate) fn linear(&self, pa: PhysAddr) -> Result<VirtAddr, LabError> {
        match &self.kernel.isa {
            Isa::Arm64(state) => Ok(state.linear(pa)),
            Isa::X86(state) => Ok(state.layout.direct(pa)),
            Isa::I386(state) => Ok(state.layout.direct(pa)),
            _ => Err(LabError::Missing("linear map that is known")),
        }
    }

    /// As [`banks`].
    pub(crate) fn banks(&self) -> Vec<PhysRange> {
        banks(&self.kernel)
    }

    /// The linear map's addresses of all memory, bank by bank.
    pub(crate) fn linear_ranges(&self) -> Result<Vec<VirtRange>, LabError> {
        let banks = self.banks().into_iter();
        let ranges = banks.map(|bank| Ok(VirtRange::of_size(self.linear(bank.start)?, bank.size())));
        ranges.filter_map(Result::transpose).collect()
    }

    pub(crate) fn kernel_root(&self) -> Result<PhysAddr, LabError> {
        self.kernel.root(RootKind::Kernel).known().ok_or(LabError::Missing("kernel tables"))
    }

    /// The levels that the MMU reads for `va`.
    pub(crate) fn steps(&self, root: PhysAddr, va: VirtAddr) -> Result<Vec<WalkStep>, LabError> {
        Ok(walk(&self.kernel, root, va)?)
    }

    /// Reads the word at `pa` as the CPU reads data: one memory reference.
    pub(crate) fn read_word(&self, pa: PhysAddr) -> Result<u64, LabError> {
        let page = pa.align_down(4096);
        Ok(self.memory.entry::<AtomicU64>(page, ((pa - page) / 8) as usize)?)
    }
}

/// Memory as the boot allocator left it; banks that touch are one, since a leaf may span the nodes of both.
pub(crate) fn banks<M>(kernel: &Kernel<'_, M, BootRecord>) -> Vec<PhysRange> {
    let mut banks: Vec<PhysRange> = Vec::new();
    for region in kernel.memblock.memory().regions() {
        match banks.last_mut() {
            Some(last) if last.end == region.base => last.end = region.range().end,
            _ => banks.push(region.range()),
        }
    }
    banks
}

/// The descriptor of frame 0 by the layout alone, modulo 2^64.
pub(crate) fn frame_zero<M>(kernel: &Kernel<'_, M, BootRecord>) -> Result<(VirtAddr, bool), LabError> {
    match &kernel.isa {
        // The start of memory is a variable there.
        Isa::Arm64(state) => Ok((state.frame_zero(), true)),
        Isa::X86(state) => Ok((state.layout.vmemmap, state.layout.vmemmap.0 != 0xffff_ea00_0000_0000)),
        _ => Err(LabError::Missing("memory map that is known")),
    }
}

/// Where the layout puts the memory map: on arm64 the descriptor of the linear map's first frame.
pub(crate) fn vmemmap_start<M>(kernel: &Kernel<'_, M, BootRecord>) -> Option<VirtAddr> {
    match &kernel.isa {
        Isa::Arm64(state) => Some(state.layout.vmemmap_start),
        Isa::X86(state) => Some(state.layout.vmemmap),
        _ => None,
    }
}

/// The byte that a walk reaches, and the bytes of its leaf.
pub(crate) fn reached(steps: &[WalkStep], va: VirtAddr) -> Option<(PhysAddr, u64)> {
    let last = steps.last()?;
    match last.entry {
        kernmem_arch::Entry::Leaf { base, .. } => Some((base + (va.0 & (last.place.bytes - 1)), last.place.bytes)),
        _ => None,
    }
}
