//! Lines of `/proc/meminfo`.
//!
//! Source: Linux 6.1 arch/x86/mm/pat/set_memory.c `arch_report_meminfo`.

use core::fmt;

use kernmem_view::{Answer, KernelView};

/// The DirectMap lines: event counters of the direct map's leaves, not a census; nothing on arm64.
///
/// # Errors
/// The writer failed.
pub fn direct_map<V: KernelView>(view: &V, out: &mut impl fmt::Write) -> fmt::Result {
    let Answer::Known(counters) = view.direct_map() else { return Ok(()) };
    for (size, kib) in counters {
        let name = match size {
            0x1000 => "DirectMap4k:",
            0x20_0000 => "DirectMap2M:",
            _ => "DirectMap1G:",
        };
        writeln!(out, "{name}    {kib:8} kB")?;
    }
    Ok(())
}
