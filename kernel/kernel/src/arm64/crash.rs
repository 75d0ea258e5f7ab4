//! Memory for a crash kernel.
//!
//! Source: Linux 5.10, 6.1 arch/arm64/mm/init.c `reserve_crashkernel`; 6.12, 7.2 the same `arch_reserve_crashkernel`,
//! kernel/crash_reserve.c `reserve_crashkernel_generic`.

use kernmem_base::{Era, PhysAddr, PhysRange};
use kernmem_config::{Config, CrashKernelPlan};
use kernmem_memblock::{Memblock, RegionArray, UpTo};

use super::later::Shared;
use crate::takers::{self, Taker};
use crate::{BootError, LogEntry, Witness};

const ALIGN: u64 = 2 << 20;
/// What is taken low beside a kernel that lies high, if the line does not tell.
const LOW_BYTES: u64 = 128 << 20;

/// Where a crash kernel may lie: below `low` devices reach it, below `high` the kernel does.
#[derive(Clone, Copy)]
pub(super) struct Windows {
    pub low: PhysAddr,
    pub high: PhysAddr,
}

/// The option without which nothing is reserved.
///
/// | era | option |
/// |---|---|
/// | 4.14 (UNVERIFIED), 5.10, 6.1 | `KEXEC_CORE` |
/// | 6.12, 7.2 | `CRASH_RESERVE` |
fn is_built(config: &Config) -> bool {
    config.kconfig.is_set(match config.era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 => "KEXEC_CORE",
        Era::V6_12 | Era::V7_2 => "CRASH_RESERVE",
    })
}

/// Whether the reservation comes with the other early ones: up to 6.1, if no zone for DMA bounds it. Then the linear
/// map has pages for it alone.
///
/// Source: Linux 5.10, 6.1 arch/arm64/mm/init.c `arm64_memblock_init`, `defer_reserve_crashkernel`.
pub(super) fn comes_early(config: &Config) -> bool {
    let zones = config.kconfig.is_set("ZONE_DMA") || config.kconfig.is_set("ZONE_DMA32");
    match config.era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 => !zones,
        Era::V6_12 | Era::V7_2 => false,
    }
}

/// The reservation where it comes with the zones; `dma_end` bounds it if there is a zone for DMA.
pub(super) fn reserve_with_zones<A: RegionArray, W: Witness>(
    shared: &Shared<'_>,
    memblock: &mut Memblock<A, W>,
    dma_end: Option<PhysAddr>,
) -> Result<(), BootError> {
    if comes_early(shared.config) {
        return Ok(());
    }
    let high = PhysAddr(1 << shared.physical_bits);
    reserve(shared.config, memblock, Windows { low: dma_end.unwrap_or(high), high }).map(drop)
}

/// Reserves what the line asks for; a reservation that fails leaves boot without one.
///
/// | era | forms | where |
/// |---|---|---|
/// | 4.14 (UNVERIFIED), 5.10 | `size[@base]` | low |
/// | 6.1 | and `size,high` with `size,low` | as asked; the low part only if asked |
/// | 6.12, 7.2 | the same | low, else high; `,high` the other way round; a low part beside a high one always |
///
/// # Errors
/// memblock's list could not grow.
pub(super) fn reserve<A: RegionArray, W: Witness>(
    config: &Config,
    memblock: &mut Memblock<A, W>,
    windows: Windows,
) -> Result<Option<PhysRange>, BootError> {
    if !is_built(config) {
        return Ok(None);
    }
    let plan = config.cmdline.crashkernel(config.era, memblock.phys_mem_size()).value;
    match config.era {
        Era::V4_14 | Era::V5_10 => reserve_simple(plan, memblock, windows),
        Era::V6_1 => reserve_as_asked(plan, memblock, windows),
        Era::V6_12 | Era::V7_2 => reserve_generic(plan, memblock, windows),
    }
}

/// A fixed place must be free memory and aligned.
fn reserve_simple<A: RegionArray, W: Witness>(
    plan: CrashKernelPlan,
    memblock: &mut Memblock<A, W>,
    windows: Windows,
) -> Result<Option<PhysRange>, BootError> {
    let Some(simple) = plan.simple else { return Ok(None) };
    let size = simple.size.next_multiple_of(memblock.limits().granule.bytes());
    let start = match simple.base.map(PhysAddr) {
        None => memblock.find_in_range(PhysAddr(0), UpTo::from(windows.low), size, ALIGN),
        Some(base) => {
            let is_free = memblock.is_region_memory(base, size)
                && !memblock.is_region_reserved(base, size)
                && base.0.is_multiple_of(ALIGN);
            is_free.then_some(base)
        }
    };
    let Some(start) = start else { return Ok(None) };
    memblock.reserve(start, size)?;
    Ok(Some(told(memblock, start, size)))
}

fn reserve_as_asked<A: RegionArray, W: Witness>(
    plan: CrashKernelPlan,
    memblock: &mut Memblock<A, W>,
    windows: Windows,
) -> Result<Option<PhysRange>, BootError> {
    let (size, base, max) = match (plan.simple, plan.high) {
        (Some(simple), _) => (simple.size, simple.base, windows.low),
        (None, Some(high)) => (high, None, windows.high),
        (None, None) => return Ok(None),
    };
    let size = size.next_multiple_of(memblock.limits().granule.bytes());
    if size == 0 {
        return Ok(None);
    }
    let (from, max) = base.map_or((0, max.0), |base| (base, base.saturating_add(size)));
    let Ok(start) = memblock.phys_alloc_range(size, ALIGN, PhysAddr(from), UpTo(max)) else { return Ok(None) };
    let low = plan.low.filter(|_| plan.simple.is_none() && start >= windows.low);
    if let Some(low) = low {
        reserve_low(memblock, low, windows);
    }
    Ok(Some(told(memblock, start, size)))
}

fn reserve_generic<A: RegionArray, W: Witness>(
    plan: CrashKernelPlan,
    memblock: &mut Memblock<A, W>,
    windows: Windows,
) -> Result<Option<PhysRange>, BootError> {
    let (low, high) = ((PhysAddr(0), windows.low), (windows.low, windows.high));
    let (size, places, mut beside) = match (plan.simple, plan.high) {
        (Some(simple), _) => match simple.base {
            Some(base) => {
                let place = (PhysAddr(base), PhysAddr(base.saturating_add(simple.size)));
                (simple.size, [Some(place), None], 0)
            }
            None => (simple.size, [Some(low), Some(high)], 0),
        },
        (None, Some(size)) => (size, [Some(high), Some(low)], plan.low.unwrap_or(LOW_BYTES)),
        (None, None) => return Ok(None),
    };
    let mut places = places.into_iter().flatten().enumerate();
    let found = places.find_map(|(attempt, (from, end))| {
        let start = memblock.phys_alloc_range(size, ALIGN, from, UpTo::from(end)).ok()?;
        Some((attempt, start))
    });
    let Some((attempt, start)) = found else { return Ok(None) };
    if attempt > 0 && plan.simple.is_some() {
        beside = LOW_BYTES;
    }
    if start >= windows.low && beside != 0 && !reserve_low(memblock, beside, windows) {
        memblock.phys_free(start, size)?;
        return Ok(None);
    }
    Ok(Some(told(memblock, start, size)))
}

/// The part that devices reach; whether there was room.
fn reserve_low<A: RegionArray, W: Witness>(memblock: &mut Memblock<A, W>, size: u64, windows: Windows) -> bool {
    let Ok(start) = memblock.phys_alloc_range(size, ALIGN, PhysAddr(0), UpTo::from(windows.low)) else { return false };
    takers::tell(memblock, Taker::CrashKernel, start, size);
    let (range, ram) = (PhysRange::new(start, start + size), memblock.phys_mem_size());
    memblock.observer().log(LogEntry::CrashKernel { range, low: true, ram });
    true
}

fn told<A: RegionArray, W: Witness>(memblock: &mut Memblock<A, W>, start: PhysAddr, size: u64) -> PhysRange {
    takers::tell(memblock, Taker::CrashKernel, start, size);
    let (range, ram) = (PhysRange::new(start, start + size), memblock.phys_mem_size());
    memblock.observer().log(LogEntry::CrashKernel { range, low: false, ram });
    range
}
