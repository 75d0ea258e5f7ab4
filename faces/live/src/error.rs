//! Why a running kernel cannot go on.

use core::fmt;

use kernmem::BootError;
use kernmem::running::ProcessError;
use kernmem_arch::Fault;
use kernmem_hugetlb::PoolError;
use kernmem_mm::{KernelFault, Signal};
use kernmem_page_alloc::{AllocError, FreeError};
use kernmem_sim::{Interrupted, MemoryError, WindowError};
use kernmem_slab::SlabError;
use kernmem_vmalloc::VmallocError;

use crate::ProcError;

/// Why an operation on a running kernel failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum LiveError {
    /// The host lends no memory.
    Memory(MemoryError),
    /// The kernel does not boot, or does not run.
    Boot(BootError),
    /// The host lends no window.
    Window(WindowError),
    /// The machine has no linear map in a window, so objects have no pointers.
    NoWindow,
    /// Areas.
    Vmalloc(VmallocError),
    /// Objects.
    Slab(SlabError),
    /// Huge pages.
    Pool(PoolError),
    /// Pages.
    Alloc(AllocError),
    /// Pages that came back.
    Free(FreeError),
    /// Programs.
    Process(ProcessError),
    /// A program gets a signal.
    Signal(Signal),
    /// The kernel ends for a fault of its own.
    KernelFault(KernelFault),
    /// A file of `/proc` that cannot be told.
    Proc(ProcError),
    /// An access that the MMU refuses and nobody mends.
    Fault(Fault),
}

impl LiveError {
    /// Whether the input is fine but that kernel is not modelled.
    #[must_use]
    pub const fn is_beyond(&self) -> bool {
        matches!(self, Self::Boot(BootError::Beyond(_)))
    }
}

impl fmt::Display for LiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory(error) => error.fmt(f),
            Self::Boot(error) => error.fmt(f),
            Self::Window(error) => error.fmt(f),
            Self::NoWindow => f.write_str("this machine is too large for the host to show its memory by pointers"),
            Self::Vmalloc(error) => write!(f, "vmalloc: {error}"),
            Self::Slab(error) => write!(f, "slab: {error}"),
            Self::Pool(error) => write!(f, "huge pages: {error}"),
            Self::Alloc(error) => write!(f, "pages: {error}"),
            Self::Free(error) => write!(f, "pages: {error}"),
            Self::Process(error) => error.fmt(f),
            Self::Signal(signal) => write!(f, "the program gets a signal: {signal:?}"),
            Self::KernelFault(fault) => write!(f, "kernel: {fault}"),
            Self::Proc(error) => error.fmt(f),
            Self::Fault(fault) => write!(f, "fault at {}: {:?}", fault.va, fault.kind),
        }
    }
}

impl core::error::Error for LiveError {}

macro_rules! from {
    ($($error:ty => $variant:ident),* $(,)?) => {
        $(impl From<$error> for LiveError {
            fn from(error: $error) -> Self {
                Self::$variant(error)
            }
        })*
    };
}

from! {
    MemoryError => Memory,
    BootError => Boot,
    WindowError => Window,
    VmallocError => Vmalloc,
    SlabError => Slab,
    PoolError => Pool,
    AllocError => Alloc,
    FreeError => Free,
    ProcessError => Process,
    Signal => Signal,
    KernelFault => KernelFault,
}

impl From<Interrupted> for LiveError {
    fn from(interrupted: Interrupted) -> Self {
        Self::Fault(interrupted.fault)
    }
}
