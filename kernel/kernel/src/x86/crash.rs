//! Memory for a crash kernel.
//!
//! | era | where |
//! |---|---|
//! | 4.14 (UNVERIFIED), 5.10, 6.1 | below 4 GiB, else anywhere; `,high`: anywhere |
//! | 6.12, 7.2 | below 4 GiB, else above; `,high`: above, else below |
//!
//! What lies above gets a part below.
//!
//! Source: Linux 5.10, 6.1 arch/x86/kernel/setup.c `reserve_crashkernel`, `reserve_crashkernel_low`; 6.12, 7.2
//! kernel/crash_reserve.c `reserve_crashkernel_generic`, arch/x86/kernel/setup.c `arch_reserve_crashkernel`.

use kernmem_base::{Era, PhysAddr, PhysMem, PhysRange};
use kernmem_config::cmdline::CrashKernelPlan;
use kernmem_memblock::UpTo;

use super::boot::Booting;
use crate::takers::{self, Taker};
use crate::{BootError, LogEntry, Witness};

const ALIGN: u64 = 16 << 20;
const LOW_END: u64 = 1 << 32;
const HIGH_END: u64 = 64 << 40;
/// A fixed place is only so well aligned, up to 6.1.
const FIXED_ALIGN: u64 = 1 << 20;
/// Bounce buffers' default, and what else devices of a crash kernel need below 4 GiB.
const BOUNCE_BYTES: u64 = 64 << 20;
const BESIDE_BOUNCE: u64 = 8 << 20;
const LOW_BYTES: u64 = 256 << 20;

/// One attempt: alignment, first address, upper bound.
type Attempt = (u64, PhysAddr, UpTo);

/// Where memory is looked for, in order.
fn attempts(era: Era, size: u64, base: Option<u64>, high: bool) -> [Option<Attempt>; 2] {
    let (low, above) = (UpTo(LOW_END), UpTo(HIGH_END));
    match era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 => {
            let from = PhysAddr(ALIGN);
            match base {
                Some(base) => [Some((FIXED_ALIGN, PhysAddr(base), UpTo(base.saturating_add(size)))), None],
                None if high => [Some((ALIGN, from, above)), None],
                None => [Some((ALIGN, from, low)), Some((ALIGN, from, above))],
            }
        }
        Era::V6_12 | Era::V7_2 => {
            let (below, beyond) = ((ALIGN, PhysAddr(0), low), (ALIGN, PhysAddr(LOW_END), above));
            match base {
                Some(base) => [Some((ALIGN, PhysAddr(base), UpTo(base.saturating_add(size)))), None],
                None if high => [Some(beyond), Some(below)],
                None => [Some(below), Some(beyond)],
            }
        }
    }
}

impl<M: PhysMem, W: Witness, const LEVELS: usize> Booting<'_, '_, M, W, LEVELS> {
    /// Whether the kernel takes memory for a crash kernel at all.
    fn can_crash(&self) -> bool {
        let option = match self.config.era {
            Era::V4_14 | Era::V5_10 | Era::V6_1 => "KEXEC_CORE",
            Era::V6_12 | Era::V7_2 => "CRASH_RESERVE",
        };
        self.config.kconfig.is_set(option)
    }

    /// The memory, with its part below 4 GiB if it lies above. Without room there is none.
    pub(super) fn reserve_crash_kernel(&mut self) -> Result<(), BootError> {
        if !self.can_crash() {
            return Ok(());
        }
        let plan = self.config.cmdline.crashkernel(self.config.era, self.memblock.phys_mem_size()).value;
        let (size, base) = match (plan.simple, plan.high) {
            (Some(simple), _) => (simple.size, simple.base.filter(|base| *base != 0)),
            (None, Some(high)) => (high, None),
            (None, None) => return Ok(()),
        };
        let mut found = None;
        for (align, from, max) in attempts(self.config.era, size, base, plan.simple.is_none()).into_iter().flatten() {
            found = found.or_else(|| self.memblock.phys_alloc_range(size, align, from, max).ok());
        }
        let Some(start) = found else { return Ok(()) };
        if start.0 >= LOW_END && !self.reserve_low(&plan) {
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
    fn reserve_low(&mut self, plan: &CrashKernelPlan) -> bool {
        let size = plan.low.unwrap_or((BOUNCE_BYTES + BESIDE_BOUNCE).max(LOW_BYTES));
        if size == 0 {
            return true;
        }
        match self.memblock.phys_alloc_range(size, ALIGN, PhysAddr(0), UpTo(LOW_END)) {
            Ok(start) => {
                takers::tell(&mut self.memblock, Taker::CrashKernel, start, size);
                let (range, ram) = (PhysRange::new(start, start + size), self.low_memory());
                self.log(LogEntry::CrashKernel { range, low: true, ram });
                true
            }
            Err(_) => false,
        }
    }

    /// Bytes of memory below 4 GiB.
    fn low_memory(&self) -> u64 {
        let low = PhysRange::new(PhysAddr(0), PhysAddr(LOW_END));
        let parts = self.memblock.memory().regions().iter().map(|region| region.range().intersect(&low));
        parts.filter(|part| !part.is_empty()).map(|part| part.size()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 6.1 falls back to anywhere, 6.12 to what lies above; only 6.12 tries below for `,high`.
    #[test]
    fn what_is_tried_goes_by_era() {
        let bounds =
            |era, high| attempts(era, 1 << 28, None, high).map(|own| own.map(|(_, from, max)| (from.0, max.0)));
        assert_eq!(bounds(Era::V6_1, false), [Some((ALIGN, LOW_END)), Some((ALIGN, HIGH_END))]);
        assert_eq!(bounds(Era::V6_12, false), [Some((0, LOW_END)), Some((LOW_END, HIGH_END))]);
        assert_eq!(bounds(Era::V5_10, true), [Some((ALIGN, HIGH_END)), None]);
        assert_eq!(bounds(Era::V7_2, true), [Some((LOW_END, HIGH_END)), Some((0, LOW_END))]);
    }
}
