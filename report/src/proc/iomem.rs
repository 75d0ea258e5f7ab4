//! `/proc/iomem`.
//!
//! Source: Linux 5.10–7.2 kernel/resource.c `r_show`.

use core::fmt;

use kernmem_base::Era;
use kernmem_view::proc::IoMem;

/// `/proc/iomem`.
///
/// | era | the deepest indent |
/// |---|---|
/// | 4.14 (UNVERIFIED), 5.10, 6.1, 6.12 | 5 |
/// | 7.2 | 8 |
///
/// # Errors
/// The writer failed.
///
/// Source: Linux 5.10–7.2 kernel/resource.c `r_show`.
pub fn iomem(era: Era, info: &IoMem, out: &mut impl fmt::Write) -> fmt::Result {
    let deepest = match era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 | Era::V6_12 => 5,
        Era::V7_2 => 8,
    };
    for resource in &info.resources {
        let indent = 2 * resource.depth.min(deepest) as usize;
        let (first, last) = (resource.first, resource.last);
        writeln!(out, "{:indent$}{first:08x}-{last:08x} : {}", "", resource.name)?;
    }
    Ok(())
}
