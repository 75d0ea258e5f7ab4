//! Reads `/proc/iomem`.
//!
//! Source: Linux 5.10–7.2 kernel/resource.c `r_show`.

use alloc::borrow::ToOwned;

use kernmem_base::PhysAddr;

use super::super::{IoMem, Resource};
use super::{Line, Lines, ParseError};

/// Reads `/proc/iomem` as it stands, also that of a reader without rights.
///
/// # Errors
/// The first line that is no resource.
pub fn iomem(text: &str) -> Result<IoMem, ParseError> {
    Ok(IoMem { resources: Lines::new(text).map(|line| resource(&line)).collect::<Result<_, _>>()? })
}

fn resource(line: &Line<'_>) -> Result<Resource, ParseError> {
    let rest = line.text.trim_start_matches(' ');
    let depth = (line.text.len() - rest.len()) / 2;
    let (range, name) = rest.split_once(" : ").ok_or_else(|| line.wrong("`FIRST-LAST : NAME`"))?;
    let (first, last) = range.split_once('-').ok_or_else(|| line.wrong("`FIRST-LAST`"))?;
    let address =
        |word| u64::from_str_radix(word, 16).map(PhysAddr).map_err(|_| line.wrong("an address in hexadecimal"));
    let depth = u32::try_from(depth).map_err(|_| line.wrong("a smaller indent"))?;
    Ok(Resource { depth, first: address(first)?, last: address(last)?, name: name.to_owned() })
}
