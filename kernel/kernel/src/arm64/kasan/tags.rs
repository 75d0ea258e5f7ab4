//! The modes of KASAN that tag pointers: which tags, and the ring in which they keep stacks.
//!
//! Source: Linux 6.1–7.2 mm/kasan/tags.c `kasan_init_tags`, hw_tags.c `kasan_init_hw_tags`.

use kernmem_arch::arm64::Kasan;
use kernmem_base::Era;
use kernmem_config::Config;
use kernmem_memblock::{Memblock, RegionArray};

use super::mode;
use crate::takers::{self, Taker};
use crate::{HardwareTags, LogEntry, Witness};

/// Entries of the ring in which tag modes keep the stacks of allocations, if the command line names no number.
const STACK_RING: u64 = 32 << 10;

/// Bytes of an entry of that ring; `None` where the mode keeps stacks elsewhere.
///
/// | era | bytes |
/// |---|---|
/// | 4.14 (UNVERIFIED), 5.10 | no ring |
/// | 6.1 | 32 |
/// | 6.12, 7.2 | 32, with CPU and time 40 (UNVERIFIED) |
///
/// Source: Linux 6.1 mm/kasan/kasan.h `kasan_stack_ring_entry`.
const fn ring_entry(era: Era, extra_info: bool) -> Option<u64> {
    match era {
        Era::V4_14 | Era::V5_10 => None,
        Era::V6_1 => Some(32),
        Era::V6_12 | Era::V7_2 => Some(if extra_info { 40 } else { 32 }),
    }
}

/// Sets the tag modes up, once the boot CPU has its per-CPU area: takes the ring of stacks and tells the log.
///
/// Source: Linux 6.1 mm/kasan/tags.c `kasan_init_tags`; mm/kasan/sw_tags.c, hw_tags.c; arch/arm64/kernel/smp.c
/// `smp_prepare_boot_cpu`.
pub(in crate::arm64) fn init_tags<A: RegionArray, W: Witness>(config: &Config, memblock: &mut Memblock<A, W>) {
    let hardware = hardware_tags(config);
    if mode(config) != Kasan::SwTags && hardware.is_none() {
        return;
    }
    let Some(entry) = ring_entry(config.era, config.kconfig.is_set("KASAN_EXTRA_INFO")) else { return };
    let mut stacktrace = config.cmdline.last_value("kasan.stacktrace") != Some("off");
    if stacktrace {
        let asked = config.cmdline.last_value("kasan.stack_ring_size");
        let asked = asked.map(|text| kernmem_config::number::leading_number(text).value).filter(|size| *size > 0);
        let bytes = asked.unwrap_or(STACK_RING).saturating_mul(entry);
        // Without memory the stacks are not kept.
        stacktrace = takers::allocate_lines(memblock, Taker::KasanStacks, bytes).is_ok();
    }
    memblock.observer().log(LogEntry::KasanTagsReady { hardware, stacktrace });
}

/// The CPU's own tags, if they are built in, wanted, and the CPU has them in memory.
///
/// Source: Linux 6.1 mm/kasan/hw_tags.c `kasan_init_hw_tags`.
fn hardware_tags(config: &Config) -> Option<HardwareTags> {
    let cmdline = &config.cmdline;
    let has_tags = config.cpu.arm64().is_some_and(|cpu| cpu.mte() >= 2) && !cmdline.has("arm64.nomte");
    let is_built = config.kconfig.is_set("KASAN_HW_TAGS");
    if !is_built || !has_tags || cmdline.last_value("kasan") == Some("off") {
        return None;
    }
    let mode = match cmdline.last_value("kasan.mode") {
        Some("async") => "async",
        Some("asymm") => "asymm",
        _ => "sync",
    };
    let vmalloc = config.kconfig.is_set("KASAN_VMALLOC") && cmdline.last_value("kasan.vmalloc") != Some("off");
    let write_only = cmdline.last_value("kasan.write_only") == Some("on");
    Some(HardwareTags { mode, vmalloc, write_only })
}
