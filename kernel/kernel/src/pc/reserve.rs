//! What a PC's boot takes of memory before it is mapped, and after.
//!
//! Source: Linux 6.1 arch/x86/kernel/setup.c `setup_arch`, `early_reserve_memory`, `reserve_initrd`;
//! arch/x86/kernel/e820.c `e820__memblock_setup`; arch/x86/kernel/ebda.c; arch/x86/realmode/init.c.

use alloc::vec::Vec;

use kernmem_arch::Bound;
use kernmem_arch::x86::layout::ISA_END;
use kernmem_base::{Era, Granule, PhysAddr, PhysRange};
use kernmem_config::Config;
use kernmem_config::cmdline::MemoryLimit;
use kernmem_firmware::{E820Table, Machine};
use kernmem_memblock::{Memblock, RegionArray, UpTo};

use crate::takers::{self, Taker, swiotlb};
use crate::{BootError, Image, LogEntry, Witness};

const PAGE: u64 = Granule::K4.bytes();
/// Bytes of the floating pointer to a table for several processors, and of that table as a PC's firmware writes it
/// directly behind.
const MP_POINTER: u64 = 16;
const MP_TABLE: u64 = 200;
/// KiB of low memory that 5.10 leaves to firmware, if the configuration does not tell.
const DEFAULT_RESERVE_LOW: u64 = 64;

/// What is taken before the command line is known.
///
/// | era | low memory | the BIOS |
/// |---|---|---|
/// | 4.14 (UNVERIFIED), 5.10 | the first page | later |
/// | 6.1 and later | 64 KiB | now |
///
/// Source: Linux 5.10 arch/x86/kernel/setup.c `setup_arch`; 6.1–7.2 `early_reserve_memory`.
pub(crate) fn early<A: RegionArray, W: Witness>(
    memblock: &mut Memblock<A, W>,
    image: &Image<'_>,
    config: &Config,
    machine: &Machine,
) -> Result<(), BootError> {
    let (low_bytes, with_bios) = match config.era {
        Era::V4_14 | Era::V5_10 => (PAGE, false),
        Era::V6_1 | Era::V6_12 | Era::V7_2 => (64 << 10, true),
    };
    let covered = image.phys_range("_text", "__end_of_kernel_reserve")?;
    memblock.reserve_kern(covered.start, covered.size())?;
    takers::tell(memblock, Taker::Image, covered.start, covered.size());
    memblock.reserve(PhysAddr(0), low_bytes)?;
    if let Some(initrd) = initrd(config, machine) {
        memblock.reserve_kern(initrd.start, initrd.size())?;
        takers::tell(memblock, Taker::Initrd, initrd.start, initrd.size());
    }
    if with_bios {
        reserve_bios(memblock, machine)?;
    }
    memblock.observer().log(LogEntry::ParamsParsed);
    swiotlb::parsed(config, memblock.observer());
    Ok(())
}

fn reserve_bios<A: RegionArray, W: Witness>(memblock: &mut Memblock<A, W>, machine: &Machine) -> Result<(), BootError> {
    let bios = bios_start(machine);
    memblock.reserve(bios, ISA_END - bios)?;
    Ok(())
}

/// The RAM disk, up to the end of its last page.
fn initrd(config: &Config, machine: &Machine) -> Option<PhysRange> {
    let given = config.given.initrd.map(|(start, last)| PhysRange::new(PhysAddr(start), PhysAddr(last) + 1));
    let initrd = machine.initrd.or(given).filter(|_| !config.cmdline.noinitrd())?;
    Some(PhysRange::new(initrd.start, initrd.end.align_up(PAGE)?)).filter(|range| !range.is_empty())
}

/// Where low memory ends and the BIOS begins: firmware's word for it is the end of its first usable entry.
///
/// Source: Linux 6.1 arch/x86/kernel/ebda.c `reserve_bios_regions`.
fn bios_start(machine: &Machine) -> PhysAddr {
    const LOWEST: PhysAddr = PhysAddr(0x2_0000);
    const HIGHEST: PhysAddr = PhysAddr(0x9_f000);
    let low = machine.e820.memory().find(|range| range.start == PhysAddr(0)).map(|range| range.end);
    low.filter(|end| (LOWEST..=HIGHEST).contains(end)).unwrap_or(HIGHEST)
}

/// The edges of memory in `map`, rounded both ways, each with who drew it; `told` is memory as firmware told it.
pub(crate) fn edges(config: &Config, map: &E820Table, told: &[PhysRange]) -> Vec<(PhysAddr, Bound)> {
    let limit = match config.cmdline.mem(config.era, config.arch, Granule::K4).value {
        Some(MemoryLimit::Address(address)) => Some(PhysAddr(address)),
        Some(MemoryLimit::Amount(_)) | None => None,
    };
    let bound = |at: PhysAddr| match () {
        () if at <= ISA_END => Bound::IsaHole,
        () if told.iter().any(|range| range.start == at || range.end == at) => Bound::Bank,
        () if limit == Some(at) => Bound::MemLimit,
        () => Bound::Memmap,
    };
    let edges = map.memory().flat_map(|range| [range.start, range.end]);
    edges.flat_map(|at| [(at.align_up(PAGE).unwrap_or(at), bound(at)), (at.align_down(PAGE), bound(at))]).collect()
}

/// The tables of several processors, where firmware has them.
pub(crate) fn mp_table<A: RegionArray, W: Witness>(
    memblock: &mut Memblock<A, W>,
    config: &Config,
) -> Result<(), BootError> {
    let pointer = config.given.firmware.iter().find(|(_, _, name)| name == "MP table");
    if let Some(&(start, _, _)) = pointer {
        memblock.reserve(PhysAddr(start), MP_POINTER)?;
        memblock.reserve(PhysAddr(start) + MP_POINTER, MP_TABLE)?;
    }
    Ok(())
}

/// The real-mode trampoline, then what is left to firmware. The answer is the trampoline, empty if there was no place.
///
/// | era | trampoline | left to firmware |
/// |---|---|---|
/// | 4.14 (UNVERIFIED), 5.10 | found, then taken; the BIOS before it | with `crashkernel=` the first MiB; `reservelow=` |
/// | 6.1, 6.12 | allocated | the first MiB |
/// | 7.2 | allocated; the first MiB is no scratch any more | the first MiB |
///
/// Source: Linux 5.10–7.2 arch/x86/realmode/init.c `reserve_real_mode`; 5.10 arch/x86/kernel/setup.c
/// `trim_low_memory_range`, arch/x86/kernel/crash.c `crash_reserve_low_1M`.
pub(crate) fn low_memory<A: RegionArray, W: Witness>(
    memblock: &mut Memblock<A, W>,
    image: &Image<'_>,
    config: &Config,
    machine: &Machine,
) -> Result<PhysRange, BootError> {
    let blob = image.phys_range("real_mode_blob", "real_mode_blob_end")?;
    let bytes = blob.size().next_multiple_of(PAGE);
    let end = UpTo::from(ISA_END);
    let mut trampoline = PhysRange::new(PhysAddr(0), PhysAddr(0));
    match config.era {
        Era::V4_14 | Era::V5_10 => {
            reserve_bios(memblock, machine)?;
            let bios = bios_start(machine);
            takers::tell(memblock, Taker::LowMemory, bios, ISA_END - bios);
            if let Some(start) = memblock.find_in_range(PhysAddr(0), end, bytes, PAGE) {
                memblock.reserve(start, bytes)?;
                trampoline = PhysRange::new(start, start + bytes);
                takers::tell(memblock, Taker::Trampoline, start, bytes);
            }
            if config.kconfig.is_set("KEXEC_CORE") && config.cmdline.has("crashkernel") {
                memblock.reserve(PhysAddr(0), ISA_END.0)?;
                takers::tell(memblock, Taker::LowMemory, PhysAddr(0), ISA_END.0);
                memblock.observer().log(LogEntry::CrashLowMemory);
            }
            let low = config.kconfig.number("X86_RESERVE_LOW").unwrap_or(DEFAULT_RESERVE_LOW) << 10;
            let low = config.cmdline.reservelow(config.era, low);
            memblock.reserve(PhysAddr(0), low)?;
            takers::tell(memblock, Taker::LowMemory, PhysAddr(0), low);
        }
        Era::V6_1 | Era::V6_12 | Era::V7_2 => {
            let start = memblock.phys_alloc_range(bytes, PAGE, PhysAddr(0), end)?;
            trampoline = PhysRange::new(start, start + bytes);
            memblock.reserve(PhysAddr(0), ISA_END.0)?;
            takers::tell(memblock, Taker::LowMemory, PhysAddr(0), ISA_END.0);
            takers::tell(memblock, Taker::Trampoline, start, bytes);
        }
    }
    match config.era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 | Era::V6_12 => {}
        Era::V7_2 => memblock.clear_kho_scratch(PhysAddr(0), ISA_END.0)?,
    }
    Ok(trampoline)
}

/// The firmware's map becomes memory, as far as a physical address reaches; in 7.2 the first MiB is marked as scratch of
/// kexec handover, so that the trampoline finds a place there.
///
/// Source: Linux 5.10–7.2 arch/x86/kernel/e820.c `e820__memblock_setup`.
pub(crate) fn fill<A: RegionArray, W: Witness>(
    memblock: &mut Memblock<A, W>,
    map: &E820Table,
) -> Result<(), BootError> {
    memblock.allow_resize();
    let last = memblock.limits().address_max;
    for range in map.soft_reserved() {
        memblock.reserve(range.start, range.size())?;
        takers::tell(memblock, Taker::Firmware, range.start, range.size());
    }
    for range in map.memory().filter(|range| range.end.0 <= last) {
        memblock.add(range.start, range.size())?;
    }
    match memblock.era() {
        Era::V4_14 | Era::V5_10 | Era::V6_1 | Era::V6_12 => {}
        Era::V7_2 => memblock.mark_kho_scratch(PhysAddr(0), ISA_END.0)?,
    }
    memblock.trim_memory(PAGE)?;
    memblock.dump_all();
    Ok(())
}

/// What is taken once memory is mapped: a RAM disk that is not in `mapped` moves, firmware's tables stay. The answer is
/// the RAM disk where it lies then.
pub(crate) fn initrd_and_tables<A: RegionArray, W: Witness>(
    memblock: &mut Memblock<A, W>,
    config: &Config,
    machine: &Machine,
    mapped: &[PhysRange],
) -> Result<Option<PhysRange>, BootError> {
    let mut place = initrd(config, machine);
    if let Some(initrd) = place
        && !mapped.iter().any(|m| m.start <= initrd.start && initrd.end <= m.end)
    {
        let limit = UpTo::from(memblock.current_limit());
        let start = memblock.phys_alloc_range(initrd.size(), PAGE, PhysAddr(0), limit)?;
        takers::tell(memblock, Taker::Initrd, start, initrd.size());
        place = Some(PhysRange::new(start, start + initrd.size()));
        memblock.phys_free(initrd.start, initrd.size())?;
    }
    for (start, last, name) in &config.given.firmware {
        if name.starts_with("ACPI") {
            memblock.reserve(PhysAddr(*start), last - start + 1)?;
            takers::tell(memblock, Taker::Firmware, PhysAddr(*start), last - start + 1);
        }
    }
    Ok(place)
}

/// Small structures of the last steps of set-up: the event timer's and the IO-APIC's resources, firmware's map as
/// resources.
///
/// Source: Linux 6.1 arch/x86/kernel/acpi/boot.c `acpi_parse_hpet`; arch/x86/kernel/apic/io_apic.c
/// `ioapic_setup_resources`; arch/x86/kernel/e820.c `e820__reserve_resources`.
pub(crate) fn small<A: RegionArray, W: Witness>(
    memblock: &mut Memblock<A, W>,
    config: &Config,
    map: &E820Table,
    io_apic: bool,
) -> Result<(), BootError> {
    const HPET_NAME: u64 = 9;
    const IO_APIC_NAME: u64 = 11;
    let resource = config.sizes.get("sizeof_resource").unwrap_or(takers::RESOURCE_BYTES);
    if has_table(config, "HPET") {
        takers::allocate_lines(memblock, Taker::Resources, resource + HPET_NAME)?;
    }
    if io_apic {
        takers::allocate_lines(memblock, Taker::Resources, resource + IO_APIC_NAME)?;
    }
    takers::allocate_lines(memblock, Taker::Resources, resource * map.entries().len() as u64).map(drop)
}

/// Whether firmware has the ACPI table of that signature.
pub(crate) fn has_table(config: &Config, signature: &str) -> bool {
    let mut names = config.given.firmware.iter().map(|(_, _, name)| name);
    names.any(|name| name.strip_prefix("ACPI ") == Some(signature))
}
