//! ELF core files: the dumps of kexec, makedumpfile and QEMU.

use core::fmt;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use kernmem_base::{BusError, BusFault, PhysAddr, PhysRange, PhysRead, Slot};

use crate::bytes::Bytes;
use crate::error::{DumpError, DumpFault};
use crate::header::{Headers, Machine, Segment};
use crate::map::{Map, Place};
use crate::notes::{MAX_BYTES, Note, Notes};
use crate::vmcoreinfo::Vmcoreinfo;

const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// A dump of physical memory in an ELF core file: 64 bits, little endian.
pub struct ElfDump {
    bytes: Bytes,
    machine: Machine,
    segments: Vec<Segment>,
    map: Map,
    notes: Vec<Vec<u8>>,
    vmcoreinfo: Option<Vmcoreinfo>,
}

impl ElfDump {
    /// Opens the dump at `path`: read piece by piece, or unpacked into memory if it is packed with zstd.
    ///
    /// # Errors
    /// [`DumpError`] says what is wrong, and where in the (unpacked) file.
    pub fn open(path: &Path) -> Result<Self, DumpError> {
        let io = |error| DumpError::at(0, DumpFault::Io(error));
        let bytes = Bytes::disk(File::open(path).map_err(io)?).map_err(io)?;
        let mut start = [0; 4];
        if bytes.len() < 4 || bytes.read(0, &mut start).map(|()| start).map_err(io)? != ZSTD {
            return Self::new(bytes);
        }
        Self::unpacked(BufReader::new(File::open(path).map_err(io)?))
    }

    /// Opens a dump that is in memory, packed with zstd or not.
    ///
    /// # Errors
    /// As [`ElfDump::open`].
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, DumpError> {
        if bytes.starts_with(&ZSTD) { Self::unpacked(bytes.as_slice()) } else { Self::new(Bytes::Whole(bytes)) }
    }

    fn unpacked(packed: impl Read) -> Result<Self, DumpError> {
        let bytes = Bytes::unpack(packed).map_err(|error| DumpError::at(0, DumpFault::Packed(error)))?;
        Self::new(bytes)
    }

    fn new(bytes: Bytes) -> Result<Self, DumpError> {
        let headers = Headers::read(&bytes)?;
        let cut = if headers.incomplete { BusFault::Lost } else { BusFault::Truncated };
        let map = Map::new(&headers.loads, bytes.len(), cut);
        if map.extents().is_empty() {
            return Err(DumpError::at(0, DumpFault::NoMemory));
        }
        let notes = read_notes(&bytes, &headers.notes)?;
        let mut dump = Self { bytes, machine: headers.machine, segments: headers.loads, map, notes, vmcoreinfo: None };
        let info = dump.notes().find(|note| note.name == b"VMCOREINFO").map(|note| Vmcoreinfo::new(note.contents));
        dump.vmcoreinfo = info;
        Ok(dump)
    }

    /// The machine that was dumped.
    #[must_use]
    pub const fn machine(&self) -> Machine {
        self.machine
    }

    /// The segments with memory, as the file describes them; they may overlap.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// What the dump knows about each physical address.
    #[must_use]
    pub const fn map(&self) -> &Map {
        &self.map
    }

    /// The ranges whose memory is in the file, lowest first; neighbours are not joined.
    pub fn ranges(&self) -> impl Iterator<Item = PhysRange> + '_ {
        let is_there = |place| matches!(place, Place::File(_));
        self.map.extents().iter().filter(move |extent| is_there(extent.place)).map(|extent| extent.range)
    }

    /// The notes, in the order of the file.
    pub fn notes(&self) -> impl Iterator<Item = Note<'_>> {
        self.notes.iter().flat_map(|bytes| Notes::new(bytes))
    }

    /// What the kernel wrote about itself, if the dump has it.
    #[must_use]
    pub const fn vmcoreinfo(&self) -> Option<&Vmcoreinfo> {
        self.vmcoreinfo.as_ref()
    }

    /// Fills `buf` with the memory at `pa`.
    ///
    /// # Errors
    /// [`BusError`] names the first address whose memory is missing; what lies before it in `buf` is filled.
    pub fn read(&self, pa: PhysAddr, buf: &mut [u8]) -> Result<(), BusError> {
        let (mut at, mut rest) = (pa, buf);
        while !rest.is_empty() {
            let (offset, bytes) = self.map.locate(at)?;
            let len = usize::try_from(bytes).unwrap_or(usize::MAX).min(rest.len());
            let (part, after) = rest.split_at_mut(len);
            self.bytes.read(offset, part).map_err(|_| BusError { pa: at, fault: BusFault::Lost })?;
            rest = after;
            if !rest.is_empty() {
                at = at.checked_add(len as u64).ok_or(BusError { pa: at, fault: BusFault::Hole })?;
            }
        }
        Ok(())
    }

    /// Whether the `bytes` from `pa` are all in the file.
    fn check(&self, pa: PhysAddr, bytes: u64) -> Result<(), BusError> {
        let (mut at, mut left) = (pa, bytes);
        while left != 0 {
            let (_, there) = self.map.locate(at)?;
            if there >= left {
                return Ok(());
            }
            left -= there;
            at = at.checked_add(there).ok_or(BusError { pa: at, fault: BusFault::Hole })?;
        }
        Ok(())
    }
}

impl PhysRead for ElfDump {
    type Lent<'m, S: Slot> = Box<[S]>;

    fn table<S: Slot>(&self, pa: PhysAddr, entries: usize) -> Result<Box<[S]>, BusError> {
        if !pa.is_aligned(S::BYTES) {
            return Err(BusError { pa, fault: BusFault::Misaligned });
        }
        let bytes = (entries as u64).checked_mul(S::BYTES).ok_or(BusError { pa, fault: BusFault::Hole })?;
        self.check(pa, bytes)?;
        let mut raw = vec![0; bytes as usize];
        self.read(pa, &mut raw)?;
        let entry = |bytes: &[u8]| S::new(bytes.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte)));
        Ok(raw.chunks_exact(S::BYTES as usize).map(entry).collect())
    }

    fn entry<S: Slot>(&self, pa: PhysAddr, index: usize) -> Result<u64, BusError> {
        let within = (index as u64).checked_mul(S::BYTES).and_then(|bytes| pa.checked_add(bytes));
        let at = within.ok_or(BusError { pa, fault: BusFault::Hole })?;
        let slot = self.table::<S>(at, 1)?;
        slot.first().map(Slot::load).ok_or(BusError { pa: at, fault: BusFault::Hole })
    }
}

/// The bytes of each segment of notes that the file has.
fn read_notes(bytes: &Bytes, segments: &[Segment]) -> Result<Vec<Vec<u8>>, DumpError> {
    let mut left = MAX_BYTES;
    let mut notes = Vec::new();
    for segment in segments {
        let there = segment.file_bytes.min(bytes.len().saturating_sub(segment.offset)).min(left);
        let mut buf = vec![0; there as usize];
        bytes
            .read(segment.offset.min(bytes.len()), &mut buf)
            .map_err(|e| DumpError::at(segment.offset, DumpFault::Io(e)))?;
        left -= there;
        notes.push(buf);
    }
    Ok(notes)
}

impl fmt::Debug for ElfDump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("ElfDump");
        out.field("machine", &self.machine).field("segments", &self.segments.len());
        out.field("release", &self.vmcoreinfo.as_ref().and_then(Vmcoreinfo::release)).finish_non_exhaustive()
    }
}
