//! `/proc/meminfo`.
//!
//! Source: Linux 5.10–7.2 fs/proc/meminfo.c `meminfo_proc_show`; mm/hugetlb.c `hugetlb_report_meminfo`; arch/x86/mm/pat
//! `arch_report_meminfo`.

use core::fmt;

use kernmem_view::proc::{MemField, MemInfo};

/// `/proc/meminfo`; which lines there are depends on era and configuration, how a line looks does not.
///
/// # Errors
/// The writer failed.
pub fn meminfo(info: &MemInfo, out: &mut impl fmt::Write) -> fmt::Result {
    info.fields.values.iter().try_for_each(|&(field, value)| line(field, value, out))
}

fn line(field: MemField, value: u64, out: &mut impl fmt::Write) -> fmt::Result {
    let name = field.name();
    match field {
        MemField::HugePagesTotal | MemField::HugePagesFree | MemField::HugePagesRsvd | MemField::HugePagesSurp => {
            writeln!(out, "{name}:{:pad$}{value:5}", "", pad = 18 - name.len())
        }
        MemField::EarlyMemtestBad => writeln!(out, "{name}:   {value:5} kB"),
        MemField::HardwareCorrupted => writeln!(out, "{name}: {value:5} kB"),
        _ => writeln!(out, "{name}:{:pad$}{value:8} kB", "", pad = 15_usize.saturating_sub(name.len())),
    }
}
