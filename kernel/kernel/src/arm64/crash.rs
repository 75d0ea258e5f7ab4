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

#[cfg(test)]
mod tests {
    use alloc::vec;
    use alloc::vec::Vec;

    use super::super::test_support::{config, memblock};
    use super::*;

    const ERAS: [Era; 4] = [Era::V5_10, Era::V6_1, Era::V6_12, Era::V7_2];
    const GIB: u64 = 1 << 30;
    const MIB: u64 = 1 << 20;

    /// What is reserved, in order of address, of memory from 1 GiB to `end`, by era: start and size in MiB.
    fn reserved(line: &str, end: u64) -> [Vec<(u64, u64)>; 4] {
        ERAS.map(|era| {
            let built = "CONFIG_KEXEC_CORE=y\nCONFIG_CRASH_RESERVE=y\n";
            let config = config(era, line, built);
            let mut memblock = memblock(era, GIB, end - GIB);
            let windows = Windows { low: PhysAddr(4 * GIB), high: PhysAddr(1 << 48) };
            reserve(&config, &mut memblock, windows).unwrap();
            let regions = memblock.reserved().regions().iter();
            regions.map(|region| (region.base.0 / MIB, region.size / MIB)).collect()
        })
    }

    const LOW_256: (u64, u64) = (4096 - 256, 256);

    #[test]
    fn a_plain_size_lies_low_and_from_6_12_on_else_high() {
        assert_eq!(reserved("crashkernel=256M", 9 * GIB), [[LOW_256]; 4].map(Vec::from));
        let high = vec![(4096 - 128, 128), (5 * 1024, 4096)];
        assert_eq!(reserved("crashkernel=4G", 9 * GIB), [vec![], vec![], high.clone(), high]);
    }

    #[test]
    fn a_high_one_has_a_low_part_from_6_12_on() {
        let (alone, low) = ((9 * 1024 - 256, 256), (4096 - 128, 128));
        let both = vec![low, alone];
        assert_eq!(reserved("crashkernel=256M,high", 9 * GIB), [vec![], vec![alone], both.clone(), both]);
        let asked = vec![(4096 - 64, 64), alone];
        let line = "crashkernel=256M,high crashkernel=64M,low";
        assert_eq!(reserved(line, 9 * GIB), [vec![], asked.clone(), asked.clone(), asked]);
    }

    #[test]
    fn a_high_one_without_high_memory_lies_low_and_needs_no_more() {
        let low = vec![LOW_256];
        assert_eq!(reserved("crashkernel=256M,high", 4 * GIB), [vec![], low.clone(), low.clone(), low]);
    }

    #[test]
    fn a_fixed_place_must_be_aligned() {
        assert_eq!(reserved("crashkernel=256M@0x50000000", 9 * GIB), [[(1280, 256)]; 4].map(Vec::from));
        assert_eq!(reserved("crashkernel=256M@0x50100000", 9 * GIB), [const { Vec::new() }; 4]);
    }

    #[test]
    fn a_kernel_without_the_option_reserves_nothing() {
        let config = config(Era::V6_12, "crashkernel=256M", "CONFIG_KEXEC_CORE=y\n");
        let mut memblock = memblock(Era::V6_12, GIB, GIB);
        let windows = Windows { low: PhysAddr(4 * GIB), high: PhysAddr(1 << 48) };
        assert_eq!(reserve(&config, &mut memblock, windows).unwrap(), None);
        assert_eq!(memblock.reserved().total_size(), 0);
    }

    #[test]
    fn without_zones_for_dma_it_comes_early_up_to_6_1() {
        let early = |options| ERAS.map(|era| comes_early(&config(era, "", options)));
        assert_eq!(early(""), [true, true, false, false]);
        assert_eq!(early("CONFIG_ZONE_DMA32=y\n"), [false; 4]);
    }
}
