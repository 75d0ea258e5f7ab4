//! One flush for all that may hold translations.

use kernmem_base::{Asid, CpuId, Tlb, VirtRange};
use kernmem_sim::{CpuHandle, Cpus, Windows};

/// The CPUs' TLBs and the machine's windows, with a count of what was asked.
#[derive(Debug)]
pub struct Flush<'f, 'm> {
    cpu: Option<CpuHandle<'f>>,
    windows: &'f Windows<'m>,
    flushes: u64,
}

impl<'f, 'm> Flush<'f, 'm> {
    /// A flush by CPU `cpu` reaches every CPU of `cpus` and every window.
    #[must_use]
    pub fn by(cpus: &'f Cpus, cpu: CpuId, windows: &'f Windows<'m>) -> Self {
        Self { cpu: cpus.cpu(cpu), windows, flushes: 0 }
    }

    /// Flushes that were asked for.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.flushes
    }
}

impl Tlb for Flush<'_, '_> {
    fn flush(&mut self, range: VirtRange, tables: bool) {
        self.flushes += 1;
        if let Some(cpu) = &mut self.cpu {
            cpu.flush(range, tables);
        }
        self.windows.flush(range);
    }

    fn flush_space(&mut self, asid: Asid, range: Option<VirtRange>, tables: bool) {
        self.flushes += 1;
        if let Some(cpu) = &mut self.cpu {
            cpu.flush_space(asid, range, tables);
        }
        self.windows.flush(range.unwrap_or(VirtRange::ALL));
    }
}
