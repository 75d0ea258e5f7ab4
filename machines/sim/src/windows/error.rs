//! Why a window cannot be opened, or not be reached at an address.

use core::fmt;

use kernmem_arch::Format;
use kernmem_base::{VirtAddr, VirtRange};

/// Why a machine has no windows, or a region none. Nothing was left behind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum WindowError {
    /// The region does not consist of whole pages.
    Misaligned {
        /// The region.
        region: VirtRange,
    },
    /// One root table does not translate all of the region.
    BeyondRoot {
        /// The region.
        region: VirtRange,
    },
    /// The host has no address space for the region: such a machine runs without this window.
    NoAddressSpace {
        /// The region.
        region: VirtRange,
        /// The host's reason.
        errno: i32,
    },
    /// The process has as many windows as its registry holds.
    TooMany {
        /// How many those are.
        limit: usize,
    },
    /// Windows know no MMU of this format.
    UnknownFormat {
        /// The format.
        format: Format,
    },
    /// The host's pages are larger than the smallest frames.
    HostPage {
        /// Bytes of the host's pages.
        bytes: u64,
    },
    /// The host would not take the handler of faults.
    Handler {
        /// The host's reason.
        errno: i32,
    },
}

impl fmt::Display for WindowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = |errno: i32| std::io::Error::from_raw_os_error(errno);
        match self {
            Self::Misaligned { region } => write!(f, "a window consists of whole pages, {region:?} does not"),
            Self::BeyondRoot { region } => write!(f, "one root table does not translate all of {region:?}"),
            Self::NoAddressSpace { region, errno } => write!(
                f,
                "the host has no address space for a window of {} MiB over {region:?}, the machine must run without \
                 it: {}",
                region.size() >> 20,
                reason(*errno)
            ),
            Self::TooMany { limit } => write!(f, "the process has {limit} windows already"),
            Self::UnknownFormat { format } => write!(f, "windows know no MMU of the format {format:?}"),
            Self::HostPage { bytes } => write!(f, "pages of {bytes} bytes on the host are too large for windows"),
            Self::Handler { errno } => write!(f, "the host takes no handler of faults: {}", reason(*errno)),
        }
    }
}

impl core::error::Error for WindowError {}

/// An address that a window cannot be asked for. Nothing was touched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum AccessError {
    /// The window ends before, or begins behind it.
    Outside {
        /// The address.
        va: VirtAddr,
    },
    /// It is no multiple of the size of what lies there.
    Misaligned {
        /// The address.
        va: VirtAddr,
    },
}

impl fmt::Display for AccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Outside { va } => write!(f, "{va:#x} lies outside the window"),
            Self::Misaligned { va } => write!(f, "{va:#x} is not aligned for a word"),
        }
    }
}

impl core::error::Error for AccessError {}
