//! `/proc/slabinfo`.
//!
//! Source: Linux 5.10–7.2 mm/slab_common.c `print_slabinfo_header`, `cache_show`.

use core::fmt;

use kernmem_view::proc::{SlabInfo, SlabRow};

/// `/proc/slabinfo`, version 2.1, the same in all eras.
///
/// # Errors
/// The writer failed.
pub fn slabinfo(info: &SlabInfo, out: &mut impl fmt::Write) -> fmt::Result {
    writeln!(out, "slabinfo - version: 2.1")?;
    write!(out, "# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab>")?;
    write!(out, " : tunables <limit> <batchcount> <sharedfactor>")?;
    writeln!(out, " : slabdata <active_slabs> <num_slabs> <sharedavail>")?;
    info.caches.iter().try_for_each(|cache| row(cache, out))
}

fn row(cache: &SlabRow, out: &mut impl fmt::Write) -> fmt::Result {
    let SlabRow { name, active_objs, num_objs, objsize, objperslab, pagesperslab, .. } = cache;
    write!(out, "{name:<17} {active_objs:6} {num_objs:6} {objsize:6} {objperslab:4} {pagesperslab:4}")?;
    let [limit, batch, share] = cache.tunables;
    write!(out, " : tunables {limit:4} {batch:4} {share:4}")?;
    writeln!(out, " : slabdata {:6} {:6} {:6}", cache.active_slabs, cache.num_slabs, cache.sharedavail)
}
