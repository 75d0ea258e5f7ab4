//! Data behind translated addresses: bytes and words, page by page.
//!
//! Memory is an array of 64-bit words, little-endian as both architectures are; each word that is touched is one data
//! reference. A piece of a word is written by an exchange, so that neighbours which others write are kept.

use core::fmt;
use core::sync::atomic::AtomicU64;

use kernmem_arch::{Fault, FaultKind, MmuFormat, Refusal};
use kernmem_base::{Access, BusError, PhysAddr, PhysMem, Privilege, Slot, VirtAddr};

use super::Mmu;

/// A read or write that a fault ended: what came before it is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Interrupted {
    /// The fault at the first page that refuses.
    pub fault: Fault,
    /// Bytes that were read or written before.
    pub done: usize,
}

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stopped behind {} bytes", self.done)
    }
}

impl core::error::Error for Interrupted {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        Some(&self.fault)
    }
}

const WORD: usize = 8;

/// Bytes from the start of a page.
fn offset<F: MmuFormat>(va: VirtAddr) -> usize {
    (va.0 & (F::shape().granule.bytes() - 1)) as usize
}

/// Bytes from `at` to the end of its word, at most `most`.
fn to_word_end(at: u64, most: usize) -> usize {
    most.min(WORD - at as usize % WORD)
}

impl<F: MmuFormat> Mmu<F> {
    /// Reads bytes from `va` on; the addresses wrap at 2^64.
    ///
    /// # Errors
    /// A page refuses: the bytes before it are read, the rest of `out` is as it was.
    pub fn read<M: PhysMem>(
        &mut self,
        mem: &M,
        va: VirtAddr,
        out: &mut [u8],
        privilege: Privilege,
    ) -> Result<(), Interrupted> {
        let mut done = 0;
        while done < out.len() {
            let at = va.wrapping_add(done as u64);
            let page = (out.len() - done).min(F::shape().granule.bytes() as usize - offset::<F>(at));
            let piece = &mut out[done..done + page];
            let read = self.access(mem, at, Access::Read, privilege).and_then(|to| {
                self.read_physical(mem, to.pa, piece).map_err(|_| self.external(at, Access::Read, privilege))
            });
            read.map_err(|fault| Interrupted { fault, done })?;
            done += page;
        }
        Ok(())
    }

    /// Writes bytes from `va` on; the addresses wrap at 2^64.
    ///
    /// # Errors
    /// A page refuses: the bytes before it are written, nothing else is.
    pub fn write<M: PhysMem>(
        &mut self,
        mem: &M,
        va: VirtAddr,
        bytes: &[u8],
        privilege: Privilege,
    ) -> Result<(), Interrupted> {
        let mut done = 0;
        while done < bytes.len() {
            let at = va.wrapping_add(done as u64);
            let page = (bytes.len() - done).min(F::shape().granule.bytes() as usize - offset::<F>(at));
            let piece = &bytes[done..done + page];
            let written = self.access(mem, at, Access::Write, privilege).and_then(|to| {
                self.write_physical(mem, to.pa, piece).map_err(|_| self.external(at, Access::Write, privilege))
            });
            written.map_err(|fault| Interrupted { fault, done })?;
            done += page;
        }
        Ok(())
    }

    /// Reads a word, which may lie across words of memory and across pages.
    ///
    /// # Errors
    /// As [`Mmu::read`].
    pub fn read_u64<M: PhysMem>(&mut self, mem: &M, va: VirtAddr, privilege: Privilege) -> Result<u64, Interrupted> {
        let mut bytes = [0; WORD];
        self.read(mem, va, &mut bytes, privilege)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Writes a word, which may lie across words of memory and across pages.
    ///
    /// # Errors
    /// As [`Mmu::write`].
    pub fn write_u64<M: PhysMem>(
        &mut self,
        mem: &M,
        va: VirtAddr,
        word: u64,
        privilege: Privilege,
    ) -> Result<(), Interrupted> {
        self.write(mem, va, &word.to_le_bytes(), privilege)
    }

    /// No memory answers behind a translation.
    fn external(&mut self, va: VirtAddr, access: Access, privilege: Privilege) -> Fault {
        self.fault(va, access, privilege, Refusal { kind: FaultKind::External, level: None })
    }

    fn read_physical<M: PhysMem>(&mut self, mem: &M, pa: PhysAddr, out: &mut [u8]) -> Result<(), BusError> {
        let mut done = 0;
        while done < out.len() {
            let at = pa + done as u64;
            let piece = to_word_end(at.0, out.len() - done);
            let word = mem.entry::<AtomicU64>(at.align_down(WORD as u64), 0)?.to_le_bytes();
            self.counters.data_reads += 1;
            let first = at.0 as usize % WORD;
            out[done..done + piece].copy_from_slice(&word[first..first + piece]);
            done += piece;
        }
        Ok(())
    }

    fn write_physical<M: PhysMem>(&mut self, mem: &M, pa: PhysAddr, bytes: &[u8]) -> Result<(), BusError> {
        let mut done = 0;
        while done < bytes.len() {
            let at = pa + done as u64;
            let piece = to_word_end(at.0, bytes.len() - done);
            let slot = &mem.table_mut::<AtomicU64>(at.align_down(WORD as u64), 1)?[0];
            self.counters.data_writes += 1;
            write_piece(slot, at.0 as usize % WORD, &bytes[done..done + piece]);
            done += piece;
        }
        Ok(())
    }
}

/// Writes `bytes` from byte `first` of a word on.
fn write_piece(slot: &AtomicU64, first: usize, bytes: &[u8]) {
    let mut old = Slot::load(slot);
    loop {
        let mut word = old.to_le_bytes();
        word[first..first + bytes.len()].copy_from_slice(bytes);
        match slot.exchange(old, u64::from_le_bytes(word)) {
            Ok(()) => return,
            Err(seen) => old = seen,
        }
    }
}
