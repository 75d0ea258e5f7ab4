//! Kernel, memory, windows and CPUs as one value.

use core::fmt;
use core::ptr::NonNull;

use kernmem::running::{On, Running, facts};
use kernmem::{Boot, BootError, Witness};
use kernmem_base::{Asid, CpuId, Half, NoTlb, Pfn, PhysAddr, PhysRange, VirtAddr, VirtRange};
use kernmem_page_alloc::{Gfp, Placement};
use kernmem_sim::{Cpus, LinearWindow, Memory, TlbShape, Window, Windows};
use kernmem_source::Source;
use kernmem_view::BootRecord;
use kernmem_view::proc::Settled;
use kernmem_vmalloc::Trace;

use crate::{Flush, LiveError};

/// How a kernel is run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Where the page allocator takes free blocks from.
    pub placement: Placement,
    /// The TLB of each CPU.
    pub tlb: TlbShape,
    /// Boot makes vmalloc's tables where the era does.
    pub preallocates: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { placement: Placement::Linux, tlb: TlbShape::default(), preallocates: true }
    }
}

/// A running kernel on the simulated machine.
pub struct Live<'m> {
    /// The machine's memory.
    pub memory: &'m Memory,
    /// The kernel.
    pub running: Running<'m, Memory, BootRecord>,
    /// The CPUs, each with the kernel's tables loaded.
    pub cpus: Cpus,
    /// The windows.
    pub windows: Windows<'m>,
    linear: Option<LinearWindow<'m>>,
    settled: Settled,
}

impl fmt::Debug for Live<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live").field("running", &self.running).field("cpus", &self.cpus).finish_non_exhaustive()
    }
}

impl<'m> Live<'m> {
    /// The memory that the machine of `source` must have.
    ///
    /// # Errors
    /// The host cannot lend it.
    pub fn memory(source: &Source) -> Result<Memory, LiveError> {
        let boot = Boot::new(&source.machine, &source.config);
        Ok(Memory::new(kernmem::memory_ranges(&boot))?)
    }

    /// Boots the kernel of `source` in `memory` and lets it run.
    ///
    /// # Errors
    /// It does not boot, or one of its parts does not start.
    pub fn start(memory: &'m Memory, source: &Source, options: Options) -> Result<Self, LiveError> {
        Self::start_watched(memory, source, options, BootRecord::default(), |record| record)
    }

    /// As [`Live::start`], with a witness of the caller's, who may watch the boot and has kept its record.
    ///
    /// # Errors
    /// As [`Live::start`].
    pub fn start_watched<W: Witness>(
        memory: &'m Memory,
        source: &Source,
        options: Options,
        witness: W,
        record: impl FnOnce(W) -> BootRecord,
    ) -> Result<Self, LiveError> {
        let boot = Boot::new(&source.machine, &source.config).with_placement(options.placement);
        let boot = if options.preallocates { boot } else { boot.without_preallocation() };
        let kernel = crate::boot(memory, &boot, witness)?.with_witness(record);
        let settled = Settled::of(boot, &kernel, kernel.witness());
        // Nothing translates yet: neither CPU nor window has seen the tables.
        let running = Running::start(kernel, &boot, &mut NoTlb)?;
        let windows = Windows::new(memory)?;
        let linear = linear_window(&running, &windows);
        let (format, root) = (running.facts.format, running.kernel.roots.kernel);
        let cpus = Cpus::new(running.cpu_count(), format, &options.tlb);
        let half = if format.has_root_per_half() { Half::Upper } else { Half::Both };
        for mut cpu in cpus.handles() {
            kernmem_base::Cpu::load_root(&mut cpu, half, root, Asid(0));
        }
        Ok(Self { memory, running, cpus, windows, linear, settled })
    }

    /// What boot settled for the files of `/proc`.
    #[must_use]
    pub const fn settled(&self) -> &Settled {
        &self.settled
    }

    /// The linear map by pointers.
    ///
    /// # Errors
    /// The machine is too large for the host.
    pub fn linear(&self) -> Result<&LinearWindow<'m>, LiveError> {
        self.linear.as_ref().ok_or(LiveError::NoWindow)
    }

    /// The linear map's address of `pa`.
    #[must_use]
    pub fn linear_address(&self, pa: PhysAddr) -> VirtAddr {
        facts::linear(&self.running.kernel, pa)
    }

    /// A window on `range` of the kernel's addresses, through its own tables.
    ///
    /// # Errors
    /// The host has no room for it.
    pub fn window(&self, range: VirtRange) -> Result<Window<'m>, LiveError> {
        Ok(self.windows.open(range, self.running.kernel.roots.kernel, self.running.facts.format)?)
    }

    /// Runs `work` with the kernel, as CPU `cpu`; returns how many flushes it asked for beside what it returned.
    pub fn on<R>(
        &mut self,
        cpu: CpuId,
        work: impl FnOnce(&mut Running<'m, Memory, BootRecord>, &mut On<'_>) -> R,
    ) -> (R, u64) {
        self.traced(cpu, None, work)
    }

    /// As [`Live::on`], with an observer of vmalloc's calls.
    pub fn traced<R>(
        &mut self,
        cpu: CpuId,
        trace: Option<&mut dyn Trace>,
        work: impl FnOnce(&mut Running<'m, Memory, BootRecord>, &mut On<'_>) -> R,
    ) -> (R, u64) {
        let Self { running, cpus, windows, .. } = self;
        let mut flush = Flush::by(cpus, cpu, windows);
        let trace = trace.map(|trace| trace as &mut dyn Trace);
        let mut on = On { cpu, tlb: &mut flush, trace };
        let done = work(running, &mut on);
        (done, flush.count())
    }

    /// Runs `work` with the kernel and the linear map by pointers: for operations on objects.
    ///
    /// # Errors
    /// The machine has no pointers; `work` did not run.
    pub fn with_linear<R>(
        &mut self,
        work: impl FnOnce(&mut Running<'m, Memory, BootRecord>, &LinearWindow<'m>) -> R,
    ) -> Result<R, LiveError> {
        let linear = self.linear.as_ref().ok_or(LiveError::NoWindow)?;
        Ok(work(&mut self.running, linear))
    }

    /// Takes `bytes` bytes of the slab allocator.
    ///
    /// # Errors
    /// As `kmalloc`, or the machine has no pointers.
    pub fn kmalloc(&mut self, cpu: CpuId, bytes: u64) -> Result<NonNull<u8>, LiveError> {
        let linear = self.linear.as_ref().ok_or(LiveError::NoWindow)?;
        Ok(self.running.kmalloc(linear, cpu, bytes, Gfp::KERNEL)?)
    }

    /// Frees what [`Live::kmalloc`] gave.
    ///
    /// # Errors
    /// As `kfree`.
    pub fn kfree(&mut self, cpu: CpuId, object: NonNull<u8>) -> Result<(), LiveError> {
        let linear = self.linear.as_ref().ok_or(LiveError::NoWindow)?;
        Ok(self.running.kfree(linear, cpu, object)?)
    }

    /// The linear map's address behind a pointer of the slab allocator.
    ///
    /// # Errors
    /// The machine has no pointers, or it is none of them.
    pub fn address_of(&self, object: NonNull<u8>) -> Result<VirtAddr, LiveError> {
        let pa = kernmem_slab::object_pa(self.linear()?, object)?;
        Ok(self.linear_address(pa))
    }

    /// The node of a frame.
    #[must_use]
    pub fn node_of(&self, pfn: Pfn) -> u32 {
        self.running.node_of(pfn)
    }
}

/// The linear map of all memory; none if the host has no room for it.
fn linear_window<'m>(running: &Running<'m, Memory, BootRecord>, windows: &Windows<'m>) -> Option<LinearWindow<'m>> {
    let regions = running.kernel.memblock.memory().regions();
    let (first, last) = (regions.first()?, regions.last()?);
    let memory = PhysRange::new(first.base.align_down(4096), last.end().align_up(4096)?);
    let region = VirtRange::of_size(facts::linear(&running.kernel, memory.start), memory.size())?;
    windows.open_linear(region, running.kernel.roots.kernel, running.facts.format, memory.start).ok()
}

impl From<LiveError> for BootError {
    fn from(error: LiveError) -> Self {
        match error {
            LiveError::Boot(error) => error,
            error => Self::Input(error.to_string()),
        }
    }
}
