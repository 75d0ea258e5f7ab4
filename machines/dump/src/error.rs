//! Why a file is no dump that can be read.

use core::fmt;
use std::io;

/// Why a file could not be opened as a dump.
#[derive(Debug)]
pub struct DumpError {
    /// The byte of the (unpacked) file where the trouble is.
    pub offset: u64,
    /// What is wrong there.
    pub fault: DumpFault,
}

/// What is wrong with a file.
#[derive(Debug)]
#[non_exhaustive]
pub enum DumpFault {
    /// The operating system could not read it.
    Io(io::Error),
    /// It is packed with zstd and damaged.
    Packed(io::Error),
    /// It is a container of another kind.
    OtherContainer {
        /// What it is.
        kind: &'static str,
        /// What helps.
        remedy: &'static str,
    },
    /// It does not begin as an ELF file does.
    NoElf,
    /// It is an ELF file, but not a 64-bit little-endian one.
    OtherElf,
    /// It is an ELF file, but no core file.
    NoCore {
        /// Its type.
        kind: u16,
    },
    /// It ends within its headers.
    Short {
        /// Bytes that were wanted at the offset.
        wanted: u64,
    },
    /// Program headers are smaller than ELF says.
    HeaderSize {
        /// Their size.
        bytes: u16,
    },
    /// A segment reaches past the last address.
    SegmentWraps {
        /// Its number.
        segment: u64,
    },
    /// There is no segment with memory.
    NoMemory,
}

impl DumpError {
    pub(crate) const fn at(offset: u64, fault: DumpFault) -> Self {
        Self { offset, fault }
    }
}

impl fmt::Display for DumpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at byte {:#x}: {}", self.offset, self.fault)
    }
}

impl fmt::Display for DumpFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(_) => f.write_str("the file cannot be read"),
            Self::Packed(_) => f.write_str("the zstd data is damaged"),
            Self::OtherContainer { kind, remedy } => write!(f, "this is {kind}, not an ELF dump; {remedy}"),
            Self::NoElf => f.write_str("this is no ELF file"),
            Self::OtherElf => f.write_str("only 64-bit little-endian ELF dumps can be read"),
            Self::NoCore { kind } => write!(f, "this ELF file has type {kind}, a core file has 4"),
            Self::Short { wanted } => write!(f, "the file ends before the {wanted} bytes that should be here"),
            Self::HeaderSize { bytes } => write!(f, "program headers of {bytes} bytes are too small"),
            Self::SegmentWraps { segment } => write!(f, "segment {segment} reaches past the last address"),
            Self::NoMemory => f.write_str("no segment has memory"),
        }
    }
}

impl core::error::Error for DumpError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match &self.fault {
            DumpFault::Io(error) | DumpFault::Packed(error) => Some(error),
            _ => None,
        }
    }
}
