//! The lists of the boot allocator as debugfs shows them where they are kept.
//!
//! Source: Linux 5.10–7.2 mm/memblock.c `memblock_debug_show`.

use core::fmt;

use kernmem_base::Era;
use kernmem_memblock::{Flags, Region};

/// Prints a list: number and bounds of each region, and from 6.12 on its node and flags.
///
/// | era | line |
/// |---|---|
/// | 4.14, 5.10, 6.1 | number, bounds |
/// | 6.12, 7.2 | number, bounds, node or `x`, flags or `NONE` |
///
/// # Errors
/// The writer failed.
pub fn list(regions: &[Region], era: Era, out: &mut impl fmt::Write) -> fmt::Result {
    for (index, region) in regions.iter().enumerate() {
        let (start, last) = (region.base.0, region.base.0.wrapping_add(region.size.wrapping_sub(1)));
        write!(out, "{index:4}: {start:#018x}..{last:#018x}")?;
        match era {
            Era::V4_14 | Era::V5_10 | Era::V6_1 => {}
            Era::V6_12 | Era::V7_2 => {
                match region.nid {
                    Some(nid) => write!(out, " {:4} ", nid.0)?,
                    None => write!(out, "    x ")?,
                }
                flags(region.flags, out)?;
            }
        }
        writeln!(out)?;
    }
    Ok(())
}

/// `NONE` and `RSV_KERN` are recorded, the others UNVERIFIED.
const NAMES: [(Flags, &str); 7] = [
    (Flags::HOTPLUG, "HOTPLUG"),
    (Flags::MIRROR, "MIRROR"),
    (Flags::NOMAP, "NOMAP"),
    (Flags::DRIVER_MANAGED, "DRV_MNG"),
    (Flags::RSRV_NOINIT, "RSV_NIT"),
    (Flags::RSRV_KERN, "RSV_KERN"),
    (Flags::KHO_SCRATCH, "KHO_SCRT"),
];

fn flags(flags: Flags, out: &mut impl fmt::Write) -> fmt::Result {
    let mut names = NAMES.iter().filter(|(flag, _)| flags.contains(*flag)).map(|(_, name)| *name);
    let Some(first) = names.next() else { return out.write_str("NONE") };
    out.write_str(first)?;
    names.try_for_each(|name| write!(out, "|{name}"))
}
