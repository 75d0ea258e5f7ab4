//! Reads `/proc/slabinfo`.
//!
//! Source: Linux 5.10–7.2 mm/slab_common.c `cache_show`.

use alloc::borrow::ToOwned;
use alloc::vec::Vec;

use super::super::{SlabInfo, SlabRow};
use super::{Line, Lines, ParseError};

/// Reads `/proc/slabinfo`, version 2.1.
///
/// # Errors
/// The first line that does not stand in such a file.
pub fn slabinfo(text: &str) -> Result<SlabInfo, ParseError> {
    let mut lines = Lines::new(text);
    let version = lines.must("`slabinfo - version: 2.1`")?;
    if version.text != "slabinfo - version: 2.1" {
        return Err(version.wrong("`slabinfo - version: 2.1`"));
    }
    let head = lines.must("the names of the columns")?;
    if !head.text.starts_with("# name") {
        return Err(head.wrong("the names of the columns"));
    }
    Ok(SlabInfo { caches: lines.map(|line| row(&line)).collect::<Result<_, _>>()? })
}

fn row(line: &Line<'_>) -> Result<SlabRow, ParseError> {
    let mut parts = line.text.split(" : ");
    let mut part = || parts.next().ok_or_else(|| line.wrong("three parts with ` : ` between them"));
    let (cache, tunables, slabs) = (part()?, part()?, part()?);
    let (name, counts) = cache.split_once(' ').ok_or_else(|| line.wrong("the name of a cache"))?;
    let [active_objs, num_objs, objsize, objperslab, pagesperslab] = list(line, counts)?;
    let tunables = tunables.strip_prefix("tunables").ok_or_else(|| line.wrong("`tunables`"))?;
    let slabs = slabs.strip_prefix("slabdata").ok_or_else(|| line.wrong("`slabdata`"))?;
    let [active_slabs, num_slabs, sharedavail] = list(line, slabs)?;
    Ok(SlabRow {
        name: name.to_owned(),
        active_objs,
        num_objs,
        objsize,
        objperslab,
        pagesperslab,
        tunables: list(line, tunables)?,
        active_slabs,
        num_slabs,
        sharedavail,
    })
}

fn list<const N: usize>(line: &Line<'_>, text: &str) -> Result<[u64; N], ParseError> {
    let numbers: Vec<u64> = line.numbers(text)?;
    numbers.try_into().map_err(|_| line.wrong("another number of columns"))
}
