//! The lines of a listing that touch a range of addresses.

use alloc::string::String;
use core::fmt;

use kernmem_base::VirtRange;
use kernmem_view::{KernelView, RootKind};

use crate::ptdump::{self, ListingError};

/// As [`ptdump::linux`], but only lines that touch `range`, and the markers before them.
///
/// # Errors
/// As [`ptdump::linux`].
pub fn linux<V: KernelView>(
    view: &V,
    root: RootKind,
    range: VirtRange,
    out: &mut impl fmt::Write,
) -> Result<(), ListingError> {
    let mut filter = Filter { range, line: String::new(), marker: String::new(), out };
    ptdump::linux(view, root, &mut filter)
}

/// Keeps one line at a time, and the last marker until a line behind it is wanted.
struct Filter<'o, W> {
    range: VirtRange,
    line: String,
    marker: String,
    out: &'o mut W,
}

impl<W: fmt::Write> Filter<'_, W> {
    fn finish_line(&mut self) -> fmt::Result {
        match bounds(&self.line) {
            None => core::mem::swap(&mut self.marker, &mut self.line),
            Some((start, end)) if start <= self.range.last.0 && end.wrapping_sub(1) >= self.range.start.0 => {
                self.out.write_str(&self.marker)?;
                self.out.write_str(&self.line)?;
                self.marker.clear();
            }
            Some(_) => {}
        }
        self.line.clear();
        Ok(())
    }
}

/// The two addresses at the start of a line.
fn bounds(line: &str) -> Option<(u64, u64)> {
    let (start, rest) = line.strip_prefix("0x")?.split_once("-0x")?;
    let end = rest.split(|c: char| !c.is_ascii_hexdigit()).next()?;
    Some((u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?))
}

impl<W: fmt::Write> fmt::Write for Filter<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for part in text.split_inclusive('\n') {
            self.line.push_str(part);
            if part.ends_with('\n') {
                self.finish_line()?;
            }
        }
        Ok(())
    }
}
