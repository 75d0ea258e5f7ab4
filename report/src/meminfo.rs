//! Lines of `/proc/meminfo`.
//!
//! Source: Linux 6.1 arch/x86/mm/pat/set_memory.c `arch_report_meminfo`.

use core::fmt;

use kernmem_view::proc::{Counters, MemField, MemInfo};
use kernmem_view::{Answer, KernelView};

use crate::proc;

/// The DirectMap lines: event counters of the direct map's leaves, not a census; nothing on arm64.
///
/// # Errors
/// The writer failed.
pub fn direct_map<V: KernelView>(view: &V, out: &mut impl fmt::Write) -> fmt::Result {
    let Answer::Known(counters) = view.direct_map() else { return Ok(()) };
    let field = |(bytes, kib)| (MemField::of_direct_map(bytes), kib);
    let fields = Counters { values: counters.into_iter().map(field).collect() };
    proc::meminfo(&MemInfo { fields }, out)
}
