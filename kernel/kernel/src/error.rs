//! Why a kernel does not boot.

use alloc::string::String;
use core::fmt;

use kernmem_base::BusError;
use kernmem_memblock::MemblockError;
use kernmem_pgtable::{Failed, MapError};
use kernmem_sparse::{GeometryError, StoreFull};

/// Why a boot stopped.
#[derive(Debug)]
#[non_exhaustive]
pub enum BootError {
    /// The input is fine, but that kernel is beyond what is modelled.
    Beyond(String),
    /// The machine or the configuration lacks something or contradicts itself.
    Input(String),
    /// The boot allocator had no memory, or could not grow.
    Memblock(MemblockError),
    /// A mapping could not be made.
    Map(MapError),
    /// A table lies where no memory answers.
    Bus(BusError),
    /// The section table could not grow.
    Sections(StoreFull),
    /// Sizes that do not make a section table.
    Geometry(GeometryError),
}

impl fmt::Display for BootError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Beyond(what) => write!(f, "beyond what is modelled: {what}"),
            Self::Input(what) => f.write_str(what),
            Self::Memblock(error) => write!(f, "boot allocator: {error}"),
            Self::Map(error) => write!(f, "page tables: {error}"),
            Self::Bus(error) => write!(f, "page tables: {error}"),
            Self::Sections(error) => write!(f, "memory sections: {error}"),
            Self::Geometry(error) => write!(f, "memory sections: {error}"),
        }
    }
}

impl core::error::Error for BootError {}

impl From<MemblockError> for BootError {
    fn from(error: MemblockError) -> Self {
        Self::Memblock(error)
    }
}

impl From<Failed> for BootError {
    /// The debt is forgiven: a kernel that does not boot never runs with these tables.
    fn from(failed: Failed) -> Self {
        failed.stale.forgive("the boot has failed");
        Self::Map(failed.error)
    }
}

impl From<MapError> for BootError {
    fn from(error: MapError) -> Self {
        Self::Map(error)
    }
}

impl From<BusError> for BootError {
    fn from(error: BusError) -> Self {
        Self::Bus(error)
    }
}

impl From<StoreFull> for BootError {
    fn from(error: StoreFull) -> Self {
        Self::Sections(error)
    }
}

impl From<GeometryError> for BootError {
    fn from(error: GeometryError) -> Self {
        Self::Geometry(error)
    }
}
