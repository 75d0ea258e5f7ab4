//! Reads `/proc/meminfo`.
//!
//! Source: Linux 5.10–7.2 fs/proc/meminfo.c `meminfo_proc_show`.

use super::super::{CounterKind, Counters, MemField, MemInfo};
use super::{Line, Lines, ParseError};

/// Reads `/proc/meminfo`.
///
/// # Errors
/// The first line whose name or value is none of such a file.
pub fn meminfo(text: &str) -> Result<MemInfo, ParseError> {
    let field = |line: Line<'_>| {
        let (name, value) = line.text.split_once(':').ok_or_else(|| line.wrong("`NAME: VALUE`"))?;
        let kind = MemField::of_name(name).ok_or_else(|| line.wrong("a known line of meminfo"))?;
        Ok((kind, line.number(value.trim().trim_end_matches(" kB"))?))
    };
    Ok(MemInfo { fields: Counters { values: Lines::new(text).map(field).collect::<Result<_, _>>()? } })
}
