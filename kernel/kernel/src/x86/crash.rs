//! Memory for a crash kernel.
//!
//! Source: Linux 6.1 arch/x86/kernel/setup.c `reserve_crashkernel`, `reserve_crashkernel_low`.

use kernmem_base::{PhysAddr, PhysMem, PhysRange};
use kernmem_memblock::UpTo;

use super::boot::Booting;
use crate::takers::{self, Taker};
use crate::{BootError, LogEntry, Witness};

const ALIGN: u64 = 16 << 20;
const LOW_END: u64 = 1 << 32;
const HIGH_END: u64 = 64 << 40;
/// A fixed place is only so well aligned.
const FIXED_ALIGN: u64 = 1 << 20;
/// Bounce buffers' default, and what else devices of a crash kernel need below 4 GiB.
const BOUNCE_BYTES: u64 = 64 << 20;
const BESIDE_BOUNCE: u64 = 8 << 20;
const LOW_BYTES: u64 = 256 << 20;

impl<M: PhysMem, W: Witness, const LEVELS: usize> Booting<'_, '_, M, W, LEVELS> {
    /// Below 4 GiB if it fits, else above with a part below; `,high` begins above.
    pub(super) fn reserve_crash_kernel(&mut self) -> Result<(), BootError> {
        if !self.config.kconfig.is_set("KEXEC_CORE") {
            return Ok(());
        }
        let plan = self.config.cmdline.crashkernel(self.config.era, self.memblock.phys_mem_size()).value;
        let (size, base) = match (plan.simple, plan.high) {
            (Some(simple), _) => (simple.size, simple.base.filter(|base| *base != 0)),
            (None, Some(high)) => (high, None),
            (None, None) => return Ok(()),
        };
        let from = PhysAddr(ALIGN);
        let mut found = match base {
            Some(base) => {
                self.memblock.phys_alloc_range(size, FIXED_ALIGN, PhysAddr(base), UpTo(base.saturating_add(size)))
            }
            None if plan.simple.is_some() => self.memblock.phys_alloc_range(size, ALIGN, from, UpTo(LOW_END)),
            None => self.memblock.phys_alloc_range(size, ALIGN, from, UpTo(HIGH_END)),
        };
        if found.is_err() && base.is_none() && plan.simple.is_some() {
            found = self.memblock.phys_alloc_range(size, ALIGN, from, UpTo(HIGH_END));
        }
        let Ok(start) = found else { return Ok(()) };
        if start.0 >= LOW_END && !self.reserve_low(plan.low) {
            self.memblock.phys_free(start, size)?;
            return Ok(());
        }
        let range = PhysRange::new(start, start + size);
        self.state.crash_kernel = Some(range);
        takers::tell(&mut self.memblock, Taker::CrashKernel, start, size);
        let ram = self.memblock.phys_mem_size();
        self.log(LogEntry::CrashKernel { range, low: false, ram });
        Ok(())
    }

    /// The part below 4 GiB; whether the rest may stay.
    fn reserve_low(&mut self, asked: Option<u64>) -> bool {
        let size = asked.unwrap_or((BOUNCE_BYTES + BESIDE_BOUNCE).max(LOW_BYTES));
        if size == 0 {
            return true;
        }
        match self.memblock.phys_alloc_range(size, ALIGN, PhysAddr(0), UpTo(LOW_END)) {
            Ok(start) => {
                takers::tell(&mut self.memblock, Taker::CrashKernel, start, size);
                let (range, ram) = (PhysRange::new(start, start + size), self.memblock.phys_mem_size());
                self.log(LogEntry::CrashKernel { range, low: true, ram });
                true
            }
            Err(_) => false,
        }
    }
}
