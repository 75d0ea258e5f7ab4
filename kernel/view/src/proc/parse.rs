//! Reads the texts of `/proc` back into values.
//!
//! Each reader is total: any text gives a value or the number of the line that is not understood.
//! Blanks between words do not matter; a line that such a file never has is an error.
//! Not here: the texts' format (`kernmem-report`), and reading `/proc/iomem` as a machine's memory map
//! (`kernmem-firmware`).
//!
//! # Invariants
//! 1. No text makes a reader panic or take memory beyond a small multiple of the text's length.
//!
//! Source: Linux 5.10–7.2 mm/vmstat.c, fs/proc/meminfo.c, kernel/resource.c, mm/vmalloc.c, mm/slab_common.c.

use core::fmt;
use core::iter::{Enumerate, Peekable};
use core::str::Lines as StrLines;

use alloc::vec::Vec;

use super::ZoneKind;

mod buddy;
mod iomem;
mod meminfo;
mod slab;
mod vmalloc;
mod zoneinfo;

pub use buddy::{buddyinfo, pagetypeinfo};
pub use iomem::iomem;
pub use meminfo::meminfo;
pub use slab::slabinfo;
pub use vmalloc::vmallocinfo;
pub use zoneinfo::zoneinfo;

/// A line that is not understood.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ParseError {
    /// The line, counted from 1; one past the last where the text ends too early.
    pub line: usize,
    /// What should stand there.
    pub expected: &'static str,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {} expected", self.line, self.expected)
    }
}

impl core::error::Error for ParseError {}

/// The lines of a text with their numbers.
#[derive(Debug)]
struct Lines<'t> {
    lines: Peekable<Enumerate<StrLines<'t>>>,
    /// Lines that were read.
    count: usize,
}

impl<'t> Lines<'t> {
    fn new(text: &'t str) -> Self {
        Self { lines: text.lines().enumerate().peekable(), count: 0 }
    }

    /// The next line, which must be there.
    fn must(&mut self, expected: &'static str) -> Result<Line<'t>, ParseError> {
        let line = self.count + 1;
        self.next().ok_or(ParseError { line, expected })
    }

    /// The next line, left where it is.
    fn peek(&mut self) -> Option<Line<'t>> {
        self.lines.peek().map(|&(at, text)| Line { number: at + 1, text })
    }

    /// The next line if it is such a one.
    fn next_if(&mut self, is_wanted: impl Fn(&Line<'t>) -> bool) -> Option<Line<'t>> {
        self.peek().filter(is_wanted)?;
        self.next()
    }
}

impl<'t> Iterator for Lines<'t> {
    type Item = Line<'t>;

    fn next(&mut self) -> Option<Line<'t>> {
        let (at, text) = self.lines.next()?;
        self.count = at + 1;
        Some(Line { number: at + 1, text })
    }
}

/// One line and its number.
#[derive(Clone, Copy, Debug)]
struct Line<'t> {
    number: usize,
    text: &'t str,
}

impl<'t> Line<'t> {
    fn wrong(&self, expected: &'static str) -> ParseError {
        ParseError { line: self.number, expected }
    }

    /// A number where Linux prints one.
    fn number(&self, word: &str) -> Result<u64, ParseError> {
        word.parse().map_err(|_| self.wrong("a number"))
    }

    fn small(&self, word: &str) -> Result<u32, ParseError> {
        word.parse().map_err(|_| self.wrong("a small number"))
    }

    fn numbers(&self, text: &str) -> Result<Vec<u64>, ParseError> {
        text.split_whitespace().map(|word| self.number(word)).collect()
    }

    /// `Node N, zone NAME` and what follows the name.
    fn node_and_zone(&self) -> Result<(u32, ZoneKind, &'t str), ParseError> {
        let what = "`Node N, zone NAME`";
        let rest = self.text.strip_prefix("Node").ok_or_else(|| self.wrong(what))?;
        let (node, rest) = rest.split_once(", zone").ok_or_else(|| self.wrong(what))?;
        let node = self.small(node.trim())?;
        let rest = rest.trim_start();
        let end = rest.find([' ', ',']).unwrap_or(rest.len());
        let (name, rest) = rest.split_at(end);
        let kind = ZoneKind::of_name(name).ok_or_else(|| self.wrong("the name of a zone"))?;
        Ok((node, kind, rest))
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;

    #[test]
    fn an_error_names_its_line() {
        let error = buddyinfo("Node 0, zone      DMA      0 \nNode 0, zone      Low      0 \n").unwrap_err();
        assert_eq!(error, ParseError { line: 2, expected: "the name of a zone" });
        assert_eq!(format!("{error}"), "line 2: the name of a zone expected");
    }

    #[test]
    fn a_text_that_ends_too_early_is_an_error_behind_its_end() {
        assert_eq!(pagetypeinfo("Page block order: 9\n").unwrap_err().line, 2);
        assert_eq!(slabinfo("").unwrap_err().line, 1);
    }
}
