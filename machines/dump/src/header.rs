//! ELF's own headers: what the file is, and its segments.
//!
//! ```text
//! file header      4 class   5 order   16 type  18 machine  32 phoff  40 shoff  48 flags  54 phentsize  56 phnum
//! program header   0 type    8 offset  16 vaddr 24 paddr    32 filesz 40 memsz
//! ```
//!
//! Source: the System V ABI's ELF chapters; Linux 5.10–7.2 include/uapi/linux/elf.h.

use crate::bytes::Bytes;
use crate::error::{DumpError, DumpFault};

const HEADER: u64 = 64;
const PROGRAM_HEADER: u64 = 56;
const CORE: u16 = 4;
/// The count of program headers is in section header 0.
const MANY: u16 = 0xffff;
/// Program headers are read in pieces of so many.
const BATCH: u64 = 1024;

const LOAD: u32 = 1;
const NOTE: u32 = 4;

/// The machine that was dumped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Machine {
    /// x86-64.
    X86_64,
    /// arm64.
    Arm64,
    /// Another one, by its ELF number.
    Other(u16),
}

/// A segment of memory as the file describes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    /// First byte of its data in the file.
    pub offset: u64,
    /// Virtual address, if the writer knew one: often a copy of `pa`, or 0.
    pub va: u64,
    /// Physical address; all ones where there is none.
    pub pa: u64,
    /// Bytes in the file.
    pub file_bytes: u64,
    /// Bytes in memory; more than in the file where the writer left out the tail.
    pub memory_bytes: u64,
}

/// What the headers say.
#[derive(Clone, Debug)]
pub(crate) struct Headers {
    pub(crate) machine: Machine,
    /// The writer ran out of space and said so: bit 0 of the flags, as makedumpfile sets it.
    pub(crate) incomplete: bool,
    pub(crate) loads: Vec<Segment>,
    pub(crate) notes: Vec<Segment>,
}

impl Headers {
    pub(crate) fn read(bytes: &Bytes) -> Result<Self, DumpError> {
        check_container(bytes)?;
        let header: [u8; HEADER as usize] = array(bytes, 0)?;
        if header[4..6] != [2, 1] {
            return Err(DumpError::at(4, DumpFault::OtherElf));
        }
        let kind = u16_at(&header, 16);
        if kind != CORE {
            return Err(DumpError::at(16, DumpFault::NoCore { kind }));
        }
        let entry_bytes = u16_at(&header, 54);
        if u64::from(entry_bytes) < PROGRAM_HEADER {
            return Err(DumpError::at(54, DumpFault::HeaderSize { bytes: entry_bytes }));
        }
        let count = match u16_at(&header, 56) {
            MANY => {
                let info: [u8; 4] = array(bytes, u64_at(&header, 40).saturating_add(44))?;
                u64::from(u32::from_le_bytes(info))
            }
            count => u64::from(count),
        };
        let machine = match u16_at(&header, 18) {
            62 => Machine::X86_64,
            183 => Machine::Arm64,
            other => Machine::Other(other),
        };
        let incomplete = header[48] & 1 != 0;
        let mut headers = Self { machine, incomplete, loads: Vec::new(), notes: Vec::new() };
        headers.read_segments(bytes, u64_at(&header, 32), u64::from(entry_bytes), count)?;
        Ok(headers)
    }

    fn read_segments(&mut self, bytes: &Bytes, start: u64, entry_bytes: u64, count: u64) -> Result<(), DumpError> {
        let wanted = count * entry_bytes; // at most 2^32 times 2^16
        if start.checked_add(wanted).is_none_or(|end| end > bytes.len()) {
            return Err(DumpError::at(start, DumpFault::Short { wanted }));
        }
        let mut buf = Vec::new();
        let mut index = 0;
        while index < count {
            let batch = BATCH.min(count - index);
            let at = start + index * entry_bytes;
            buf.resize((batch * entry_bytes) as usize, 0);
            bytes.read(at, &mut buf).map_err(|error| DumpError::at(at, DumpFault::Io(error)))?;
            for (entry, number) in buf.chunks_exact(entry_bytes as usize).zip(index..) {
                self.add(entry, start + number * entry_bytes, number)?;
            }
            index += batch;
        }
        Ok(())
    }

    fn add(&mut self, entry: &[u8], at: u64, number: u64) -> Result<(), DumpError> {
        let segment = Segment {
            offset: u64_at(entry, 8),
            va: u64_at(entry, 16),
            pa: u64_at(entry, 24),
            file_bytes: u64_at(entry, 32),
            memory_bytes: u64_at(entry, 40),
        };
        let bytes = segment.file_bytes.max(segment.memory_bytes);
        let wraps = segment.offset.checked_add(segment.file_bytes).is_none()
            || segment.has_memory() && segment.pa.checked_add(bytes).is_none();
        match u32_at(entry, 0) {
            LOAD | NOTE if wraps => Err(DumpError::at(at, DumpFault::SegmentWraps { segment: number })),
            LOAD => {
                self.loads.push(segment);
                Ok(())
            }
            NOTE => {
                self.notes.push(segment);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl Segment {
    /// Whether the segment tells of physical memory: some writers describe virtual addresses alone.
    #[must_use]
    pub const fn has_memory(&self) -> bool {
        self.pa != u64::MAX
    }
}

/// What other dumps begin with, what they are, and what helps.
const OTHERS: [(&[u8], &str, &str); 10] = [
    (b"KDUMP   ", "a kdump-compressed file", "convert it with makedumpfile -E"),
    (b"DISKDUMP", "a diskdump file", "convert it with makedumpfile -E"),
    (b"makedumpfile\0\0\0\0", "a flattened makedumpfile stream", "rearrange it with makedumpfile -R"),
    (b"EMiL", "a LiME or AVML image", "take an ELF dump instead"),
    (b"AVML", "an AVML image", "take an ELF dump instead"),
    (b"QEVM", "a QEMU migration stream", "use dump-guest-memory, or virsh dump --memory-only"),
    (b"LibvirtQemud", "a libvirt save file", "use virsh dump --memory-only"),
    (b"PAGEDU64", "a Windows crash dump", "take an ELF dump instead"),
    (b"PAGEDUMP", "a Windows crash dump", "take an ELF dump instead"),
    (b"\x1f\x8b", "a gzip file", "unpack it first"),
];

fn check_container(bytes: &Bytes) -> Result<(), DumpError> {
    let mut start = [0; 16];
    let len = bytes.len().min(16) as usize;
    if let Some(start) = start.get_mut(..len) {
        bytes.read(0, start).map_err(|error| DumpError::at(0, DumpFault::Io(error)))?;
    }
    if start.starts_with(b"\x7fELF") {
        return Ok(());
    }
    let other = OTHERS.iter().find(|(mark, ..)| start.starts_with(mark));
    let fault = other.map_or(DumpFault::NoElf, |&(_, kind, remedy)| DumpFault::OtherContainer { kind, remedy });
    Err(DumpError::at(0, fault))
}

fn array<const N: usize>(bytes: &Bytes, at: u64) -> Result<[u8; N], DumpError> {
    let mut buf = [0; N];
    if at.checked_add(N as u64).is_none_or(|end| end > bytes.len()) {
        return Err(DumpError::at(at, DumpFault::Short { wanted: N as u64 }));
    }
    bytes.read(at, &mut buf).map_err(|error| DumpError::at(at, DumpFault::Io(error)))?;
    Ok(buf)
}

/// The `N` bytes at `at`, zeros behind the end of `bytes`.
fn part<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(part(bytes, at))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(part(bytes, at))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(part(bytes, at))
}
