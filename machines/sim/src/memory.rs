//! The memory file and its banks.

use core::fmt;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use kernmem_base::{BusError, BusFault, PhysAddr, PhysMem, PhysRange, PhysRead, Slot, TableNote, Words};
use kernmem_host::Vectors;
use rustix::fs::{FallocateFlags, MemfdFlags, fallocate, fstat, ftruncate, memfd_create};
use rustix::io::Errno;

use crate::window::Window;

/// Frames are counted in the smallest page size of any architecture.
const FRAME: u64 = 4096;

/// Physical memory: one sparse file, seen through one window a bank.
#[derive(Debug)]
pub struct Memory {
    file: OwnedFd,
    banks: Vec<Bank>,
    references: AtomicU64,
    vectors: Vectors,
}

#[derive(Debug)]
struct Bank {
    range: PhysRange,
    words: Window,
    notes: Window,
}

/// The host cannot lend such a memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemoryError {
    /// The bank that could not be made; empty when the file itself could not.
    pub bank: PhysRange,
    /// The host's reason.
    pub errno: i32,
}

impl fmt::Display for MemoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = std::io::Error::from_raw_os_error(self.errno);
        write!(f, "the host cannot lend memory for [{:#x}, {:#x}): {reason}", self.bank.start.0, self.bank.end.0)
    }
}

impl core::error::Error for MemoryError {}

/// Frames that were not given back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ReleaseError {
    /// The range does not consist of whole frames of one bank.
    Bus(BusError),
    /// The host keeps them, with what they hold.
    Host {
        /// Its reason.
        errno: i32,
    },
}

impl fmt::Display for ReleaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bus(_) => f.write_str("only whole frames of one bank can be given back"),
            Self::Host { errno } => {
                write!(f, "the host does not take memory back: {}", std::io::Error::from_raw_os_error(*errno))
            }
        }
    }
}

impl core::error::Error for ReleaseError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Bus(error) => Some(error),
            Self::Host { .. } => None,
        }
    }
}

impl Memory {
    /// Memory at `ranges`, all zero; ranges are widened to whole frames and may touch or overlap.
    ///
    /// # Errors
    /// The host has no file or no address space for it.
    pub fn new(ranges: impl IntoIterator<Item = PhysRange>) -> Result<Self, MemoryError> {
        let ranges = joined(ranges.into_iter().collect());
        let end = ranges.last().map_or(0, |range| range.end.0);
        let of_file = |errno: Errno| MemoryError {
            bank: PhysRange::new(PhysAddr(0), PhysAddr(end)),
            errno: errno.raw_os_error(),
        };
        let file = memfd_create("kernmem", MemfdFlags::CLOEXEC).map_err(of_file)?;
        ftruncate(&file, end).map_err(of_file)?;
        let banks = ranges.into_iter().map(|range| {
            let bank = |errno: Errno| MemoryError { bank: range, errno: errno.raw_os_error() };
            let words = Window::of_file(file.as_fd(), range.start.0, range.size() as usize).map_err(bank)?;
            let notes = Window::of_zeroes((range.size() / FRAME * 8) as usize).map_err(bank)?;
            Ok(Bank { range, words, notes })
        });
        let banks = banks.collect::<Result<_, _>>()?;
        Ok(Self { file, banks, references: AtomicU64::new(0), vectors: Vectors::widest() })
    }

    /// Single entries that were read so far: one each per level of a walk.
    #[must_use]
    pub fn references(&self) -> u64 {
        // Relaxed: a statistic; whoever compares two readings makes both in one thread.
        self.references.load(Ordering::Relaxed)
    }

    /// Bytes that the host holds for the file: what was touched and not given back.
    #[must_use]
    pub fn allocated_bytes(&self) -> u64 {
        fstat(&self.file).map_or(0, |stat| stat.st_blocks as u64 * 512)
    }

    /// Gives whole frames of 4 KiB back to the host: [`Memory::allocated_bytes`] falls by what it held of them. They
    /// read as zero afterwards, and the host lends them anew when they are touched.
    ///
    /// # Errors
    /// [`ReleaseError`]; the frames are as they were.
    pub fn release(&self, frames: PhysRange) -> Result<(), ReleaseError> {
        let bank = self.bank(frames.start).map_err(ReleaseError::Bus)?;
        if frames.end > bank.range.end {
            return Err(ReleaseError::Bus(BusError { pa: bank.range.end, fault: BusFault::Hole }));
        }
        if let Some(pa) = [frames.start, frames.end].into_iter().find(|pa| !pa.is_aligned(FRAME)) {
            return Err(ReleaseError::Bus(BusError { pa, fault: BusFault::Misaligned }));
        }
        if frames.is_empty() {
            return Ok(());
        }
        self.punch(frames).map_err(|errno| ReleaseError::Host { errno: errno.raw_os_error() })
    }

    /// Takes whole frames out of the file.
    fn punch(&self, frames: PhysRange) -> Result<(), Errno> {
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        fallocate(&self.file, hole, frames.start.0, frames.size())
    }

    /// The file; the byte at a physical address stands at the same place in it.
    pub(crate) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// The bank around `pa`.
    pub(crate) fn bank_at(&self, pa: PhysAddr) -> Option<PhysRange> {
        self.bank(pa).ok().map(|bank| bank.range)
    }

    fn bank(&self, pa: PhysAddr) -> Result<&Bank, BusError> {
        let at = self.banks.partition_point(|bank| bank.range.end <= pa);
        self.banks.get(at).filter(|bank| bank.range.contains(pa)).ok_or(BusError { pa, fault: BusFault::Hole })
    }

    /// The bank around `pa`, and which entry of `bytes` bytes of it stands there.
    fn entry_at(&self, pa: PhysAddr, bytes: u64) -> Result<(&Bank, usize), BusError> {
        if !pa.is_aligned(bytes) {
            return Err(BusError { pa, fault: BusFault::Misaligned });
        }
        let bank = self.bank(pa)?;
        Ok((bank, ((pa - bank.range.start) / bytes) as usize))
    }
}

impl Words for Memory {
    fn wide(&self, pa: PhysAddr, count: usize) -> Result<&[AtomicU64], BusError> {
        let (bank, first) = self.entry_at(pa, 8)?;
        bank.words.words(first, count).ok_or(BusError { pa, fault: BusFault::Hole })
    }

    fn narrow(&self, pa: PhysAddr, count: usize) -> Result<&[AtomicU32], BusError> {
        let (bank, first) = self.entry_at(pa, 4)?;
        bank.words.half_words(first, count).ok_or(BusError { pa, fault: BusFault::Hole })
    }
}

/// Sorted, widened to frames, with touching ranges joined.
fn joined(mut ranges: Vec<PhysRange>) -> Vec<PhysRange> {
    ranges.sort();
    let mut out: Vec<PhysRange> = Vec::with_capacity(ranges.len());
    for range in ranges.into_iter().filter(|range| !range.is_empty()) {
        let start = range.start.align_down(FRAME);
        let end = range.end.align_up(FRAME).unwrap_or(PhysAddr(!(FRAME - 1)));
        match out.last_mut() {
            Some(last) if last.end >= start => last.end = last.end.max(end),
            _ => out.push(PhysRange { start, end }),
        }
    }
    out
}

impl PhysRead for Memory {
    type Lent<'m, S: Slot> = &'m [S];

    fn table<S: Slot>(&self, pa: PhysAddr, entries: usize) -> Result<&[S], BusError> {
        S::lend(self, pa, entries)
    }

    fn entry<S: Slot>(&self, pa: PhysAddr, index: usize) -> Result<u64, BusError> {
        let table = self.table::<S>(pa, index + 1)?;
        // Relaxed: see `references`.
        self.references.fetch_add(1, Ordering::Relaxed);
        table.get(index).map(Slot::load).ok_or(BusError { pa, fault: BusFault::Truncated })
    }
}

impl PhysMem for Memory {
    fn table_mut<S: Slot>(&self, pa: PhysAddr, entries: usize) -> Result<&[S], BusError> {
        self.table(pa, entries)
    }

    fn note(&self, pa: PhysAddr) -> Result<&TableNote, BusError> {
        let bank = self.bank(pa)?;
        let index = ((pa - bank.range.start) / FRAME) as usize;
        bank.notes.note(index).ok_or(BusError { pa, fault: BusFault::Hole })
    }

    // Entries that a walker may meet are rewritten word by word, as base does it: what vectors promise is less.
    fn fill<S: Slot>(&self, table: PhysAddr, from: usize, count: usize, first: u64, step: u64) -> Result<(), BusError> {
        self.vectors.fill::<S>(self, table, (from, count), (first, step))
    }

    fn discard(&self, range: PhysRange) {
        // What the host does not take back stays as it is, which a discarded frame may.
        let _ = self.release(range);
    }

    fn zero(&self, range: PhysRange) -> Result<(), BusError> {
        let bank = self.bank(range.start)?;
        if range.end > bank.range.end {
            return Err(BusError { pa: bank.range.end, fault: BusFault::Hole });
        }
        let is_whole = range.start.is_aligned(FRAME) && range.size().is_multiple_of(FRAME);
        if is_whole && range.size() > 16 * FRAME && self.punch(range).is_ok() {
            return Ok(());
        }
        for word in self.wide(range.start, (range.size() / 8) as usize)? {
            // Relaxed: nobody walks through memory that is being cleared.
            word.store(0, Ordering::Relaxed);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, end: u64) -> PhysRange {
        PhysRange::new(PhysAddr(start), PhysAddr(end))
    }

    #[test]
    fn banks_that_touch_are_one_and_holes_answer_nothing() {
        let memory =
            Memory::new([range(0x10_0000, 0x20_0000), range(0x1000, 0x9fc00), range(0x20_0000, 0x30_0000)]).unwrap();
        assert!(memory.table::<AtomicU64>(PhysAddr(0x1f_f000), 1024).is_ok());
        let hole = memory.table::<AtomicU64>(PhysAddr(0xa_0000), 1).unwrap_err();
        assert_eq!(hole, BusError { pa: PhysAddr(0xa_0000), fault: BusFault::Hole });
        let split = memory.table::<AtomicU64>(PhysAddr(0x1004), 1).unwrap_err();
        assert_eq!(split.fault, BusFault::Misaligned);
    }

    #[test]
    fn sixty_four_tebibytes_cost_what_is_touched() {
        let memory = Memory::new([range(1 << 30, 65 << 40)]).unwrap();
        let table = memory.table_mut::<AtomicU64>(PhysAddr(64 << 40), 512).unwrap();
        table[7].store(42, Ordering::Relaxed);
        assert_eq!(memory.entry::<AtomicU64>(PhysAddr(64 << 40), 7), Ok(42));
        assert_eq!((memory.references(), memory.allocated_bytes()), (1, 4096));
        memory.zero(range(64 << 40, (64 << 40) + (1 << 20))).unwrap();
        assert_eq!((memory.allocated_bytes(), memory.entry::<AtomicU64>(PhysAddr(64 << 40), 7)), (0, Ok(0)));
    }

    #[test]
    fn frames_given_back_cost_nothing_and_read_as_zero() {
        let memory = Memory::new([range(0x10_0000, 0x20_0000)]).unwrap();
        for frame in 0..8 {
            let table = memory.table_mut::<AtomicU64>(PhysAddr(0x10_0000 + frame * 4096), 512).unwrap();
            table[3].store(frame + 1, Ordering::Relaxed);
        }
        assert_eq!(memory.allocated_bytes(), 8 * 4096);
        memory.release(range(0x10_1000, 0x10_4000)).unwrap();
        assert_eq!(memory.allocated_bytes(), 5 * 4096);
        assert_eq!(memory.entry::<AtomicU64>(PhysAddr(0x10_4000), 3), Ok(5));
        assert_eq!(memory.entry::<AtomicU64>(PhysAddr(0x10_2000), 3), Ok(0));
    }

    #[test]
    fn parts_of_frames_and_holes_are_not_given_back() {
        let memory = Memory::new([range(0x10_0000, 0x20_0000)]).unwrap();
        let refused = |start, end, pa, fault| {
            let error = ReleaseError::Bus(BusError { pa: PhysAddr(pa), fault });
            assert_eq!(memory.release(range(start, end)), Err(error));
        };
        refused(0x10_0800, 0x10_2000, 0x10_0800, BusFault::Misaligned);
        refused(0x10_0000, 0x10_0800, 0x10_0800, BusFault::Misaligned);
        refused(0x1f_f000, 0x20_1000, 0x20_0000, BusFault::Hole);
        refused(0x30_0000, 0x30_1000, 0x30_0000, BusFault::Hole);
    }
}
