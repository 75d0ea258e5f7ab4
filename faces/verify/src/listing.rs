//! A page-table listing as lines that can be compared by region.

use kernmem_base::{VirtAddr, VirtRange};
use kernmem_report::ptdump::Kib;

/// One line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Line {
    /// A marker.
    Marker(String),
    /// A range with what it says after its size: level and rights.
    Range {
        /// The addresses.
        range: VirtRange,
        /// Level and rights as printed.
        rest: String,
    },
    /// A line of no known form: a message that got into the file.
    Foreign(String),
}

impl Line {
    fn parse(text: &str) -> Self {
        if text.starts_with("---[ ") {
            return Self::Marker(text.to_owned());
        }
        range(text).unwrap_or_else(|| Self::Foreign(text.to_owned()))
    }

    /// The line as printed, with addresses of `digits` digits: the end of the address space prints as 0.
    #[must_use]
    pub fn text(&self, digits: usize) -> String {
        match self {
            Self::Marker(text) | Self::Foreign(text) => text.clone(),
            Self::Range { range, rest } => {
                let size = Kib(range.end().0.wrapping_sub(range.start.0));
                let end = range.end().0 & last_address(digits);
                format!("0x{:0digits$x}-0x{end:0digits$x}   {size}{rest}", range.start.0)
            }
        }
    }
}

/// The last address that has so many hexadecimal digits.
const fn last_address(digits: usize) -> u64 {
    if digits < 16 { (1 << (4 * digits)) - 1 } else { u64::MAX }
}

/// Digits of an address in a line that begins with a range.
fn digits(text: &str) -> Option<usize> {
    Some(text.strip_prefix("0x")?.split_once("-0x")?.0.len())
}

/// `0xSTART-0xEND   SIZE REST`.
fn range(text: &str) -> Option<Line> {
    let (start, rest) = text.strip_prefix("0x")?.split_once("-0x")?;
    let (end, rest) = rest.split_once("   ")?;
    let last = last_address(start.len());
    let start = VirtAddr(u64::from_str_radix(start, 16).ok()?);
    let end = VirtAddr(u64::from_str_radix(end, 16).ok()?);
    let end = if end == VirtAddr(0) { VirtAddr(last.wrapping_add(1)) } else { end };
    let digits = rest.len() - rest.trim_start().len();
    let size_end = rest[digits..].find(|c: char| c.is_ascii_alphabetic())? + digits + 1;
    let range = VirtRange::until(start, end)?;
    Some(Line::Range { range, rest: rest.get(size_end..)?.to_owned() })
}

/// `---[ vmalloc() area ]---` is the region `vmalloc()`, and `---[ vmalloc() end ]---` what lies behind it.
fn region_of_marker(text: &str) -> String {
    let name = text.trim_matches(|c: char| "-[] ".contains(c));
    match name.rsplit_once(' ') {
        Some((region, word)) if word.eq_ignore_ascii_case("start") || word.eq_ignore_ascii_case("area") => {
            region.to_owned()
        }
        Some((region, word)) if word.eq_ignore_ascii_case("end") => format!("behind {region}"),
        _ => name.to_owned(),
    }
}

/// A whole listing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listing {
    /// Its lines in order.
    pub lines: Vec<Line>,
    /// Digits of its addresses: 16, or 8 where the kernel has 32 bits.
    digits: usize,
}

impl Listing {
    /// Reads a listing.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let digits = text.lines().find_map(digits).unwrap_or(16);
        Self { lines: text.lines().map(Line::parse).collect(), digits }
    }

    /// Its lines as printed.
    pub fn texts(&self) -> impl Iterator<Item = String> {
        self.lines.iter().map(|line| line.text(self.digits))
    }

    /// How many of the first `count` lines stand in which region: under which marker, `start` and `end` of it told apart
    /// as the region and what lies behind it.
    #[must_use]
    pub fn lines_by_region(&self, count: usize) -> Vec<(String, usize)> {
        let mut regions: Vec<(String, usize)> = Vec::new();
        let mut region = "before the first marker".to_owned();
        for line in self.lines.iter().take(count) {
            match line {
                Line::Marker(text) => region = region_of_marker(text),
                Line::Range { .. } | Line::Foreign(_) => match regions.iter_mut().find(|(name, _)| *name == region) {
                    Some((_, lines)) => *lines += 1,
                    None => regions.push((region.clone(), 1)),
                },
            }
        }
        regions
    }

    /// Whether a text is a listing: its first line is a marker or a range.
    #[must_use]
    pub fn is_listing(text: &str) -> bool {
        let first = text.lines().find(|line| !line.trim().is_empty());
        first.is_some_and(|line| !matches!(Line::parse(line), Line::Foreign(_)))
    }

    /// Whether each line prints again as it was read: sizes are then as the addresses say.
    #[must_use]
    pub fn prints_as(&self, text: &str) -> bool {
        self.texts().eq(text.lines().map(str::to_owned))
    }

    /// Joins neighbouring ranges inside `within` that say the same.
    pub fn join(&mut self, within: VirtRange) {
        let mut joined: Vec<Line> = Vec::with_capacity(self.lines.len());
        for line in self.lines.drain(..) {
            if let (Some(Line::Range { range: last, rest: old }), Line::Range { range, rest }) =
                (joined.last_mut(), &line)
                && old == rest
                && last.end() == range.start
                && within.contains(last.start)
                && within.contains(range.last)
            {
                last.last = range.last;
                continue;
            }
            joined.push(line);
        }
        self.lines = joined;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "---[ Linear Mapping start ]---\n\
        0xffff000000000000-0xffff000000200000           2M PMD       RW NX SHD AF        BLK UXN    MEM/NORMAL-TAGGED\n\
        0xffff000000200000-0xffff000000210000          64K PTE\n\
        0xfffffe0000000000-0x0000000000000000           2T PGD\n";

    #[test]
    fn lines_are_read_and_print_again() {
        let listing = Listing::parse(TEXT);
        assert!(listing.prints_as(TEXT));
        let Line::Range { range, rest } = &listing.lines[3] else { panic!("the last line is a range") };
        assert_eq!((range.last, rest.as_str()), (VirtAddr(u64::MAX), " PGD"));
    }

    #[test]
    fn a_kernel_message_in_the_file_is_foreign() {
        let listing = Listing::parse("hrtimer: interrupt took 5 ns\n");
        assert_eq!(listing.lines, [Line::Foreign("hrtimer: interrupt took 5 ns".to_owned())]);
    }

    #[test]
    fn equal_neighbours_join_inside_the_region_only() {
        let mut listing = Listing::parse(
            "0x1000-0x2000           4K PTE\n0x2000-0x3000           4K PTE\n0x3000-0x4000           4K PTE\n",
        );
        listing.join(VirtRange { start: VirtAddr(0x1000), last: VirtAddr(0x2fff) });
        assert_eq!(listing.lines.len(), 2);
    }

    #[test]
    fn lines_are_counted_by_the_marker_above_them() {
        let listing = Listing::parse(
            "0x1000-0x2000           4K PTE\n---[ Linear Mapping start ]---\n0x2000-0x3000           4K PTE\n\
             0x3000-0x4000           4K PTE\n---[ Linear Mapping end ]---\n---[ vmalloc() area ]---\n\
             0x4000-0x5000           4K PTE\n---[ vmalloc() end ]---\n0x5000-0x6000           4K PTE\n",
        );
        let counted = |count| -> Vec<(String, usize)> { listing.lines_by_region(count) };
        let named = |rows: &[(&str, usize)]| -> Vec<(String, usize)> {
            rows.iter().map(|(name, lines)| ((*name).to_owned(), *lines)).collect()
        };
        let all = [("before the first marker", 1), ("Linear Mapping", 2), ("vmalloc()", 1), ("behind vmalloc()", 1)];
        assert_eq!(counted(usize::MAX), named(&all));
        assert_eq!(counted(3), named(&all[..1].iter().copied().chain([("Linear Mapping", 1)]).collect::<Vec<_>>()));
    }
}
