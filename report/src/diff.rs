//! What changed between two listings, and what it costs.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use kernmem_view::census::{Census, census};
use kernmem_view::entries::root_ranges;
use kernmem_view::{KernelView, RootKind};

use crate::boot_report::about;
use crate::json::Json;
use crate::ptdump::{self, ListingError};
use crate::regions;

/// One kernel's side.
#[derive(Clone, Debug)]
pub struct Side {
    /// Its listing.
    pub listing: String,
    /// All of its tree.
    pub tree: Census,
    /// Its linear map.
    pub linear: Census,
}

impl Side {
    /// What a comparison needs of a kernel.
    ///
    /// # Errors
    /// The kernel has no tables to read.
    pub fn take<V: KernelView>(view: &V) -> Result<Self, ListingError> {
        let mut listing = String::new();
        ptdump::linux(view, RootKind::Kernel, &mut listing)?;
        let count = |ranges: &[_]| census(view, RootKind::Kernel, ranges).map_err(ListingError::NoRoot);
        let linear = regions::of(view).into_iter().filter(|region| region.key == "linear").map(|region| region.range);
        Ok(Self {
            listing,
            tree: count(&root_ranges(view.format(), RootKind::Kernel))?,
            linear: count(&linear.collect::<Vec<_>>())?,
        })
    }
}

/// A line of the comparison.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Edit<'a> {
    /// In both.
    Same(&'a str),
    /// In the first alone.
    Gone(&'a str),
    /// In the second alone.
    New(&'a str),
}

/// Most edits that are looked for one by one; beyond, what differs is replaced as a whole.
const MOST_EDITS: usize = 2000;

/// The shortest way from `a` to `b`, line by line.
#[must_use]
pub fn edits<'a>(a: &'a str, b: &'a str) -> Vec<Edit<'a>> {
    let (a, b): (Vec<&str>, Vec<&str>) = (a.lines().collect(), b.lines().collect());
    let head = a.iter().zip(&b).take_while(|(one, two)| one == two).count();
    let (a_rest, b_rest) = (&a[head..], &b[head..]);
    let tail = a_rest.iter().rev().zip(b_rest.iter().rev()).take_while(|(one, two)| one == two).count();
    let (a_mid, b_mid) = (&a_rest[..a_rest.len() - tail], &b_rest[..b_rest.len() - tail]);
    let same = |line: &&'a str| Edit::Same(line);
    let mut all: Vec<Edit<'a>> = a[..head].iter().map(same).collect();
    all.extend(shortest(a_mid, b_mid).unwrap_or_else(|| {
        let gone = a_mid.iter().map(|line| Edit::Gone(line));
        gone.chain(b_mid.iter().map(|line| Edit::New(line))).collect()
    }));
    all.extend(a[a.len() - tail..].iter().map(same));
    all
}

/// The greedy algorithm of Myers; `None` if there are too many edits.
fn shortest<'a>(a: &[&'a str], b: &[&'a str]) -> Option<Vec<Edit<'a>>> {
    let most = (a.len() + b.len()).min(MOST_EDITS);
    let offset = most + 1;
    // furthest[k + offset]: how far into `a` a way with k more of `a` than of `b` has come.
    let mut furthest = vec![0usize; 2 * most + 3];
    let mut history: Vec<Vec<usize>> = Vec::new();
    for edits in 0..=most {
        history.push(furthest[offset - edits..=offset + edits].to_vec());
        for k in (0..=edits).map(|step| offset - edits + 2 * step) {
            let down = k == offset - edits || k != offset + edits && furthest[k - 1] < furthest[k + 1];
            let mut x = if down { furthest[k + 1] } else { furthest[k - 1] + 1 };
            let mut y = (x + offset).checked_sub(k)?;
            while x < a.len() && y < b.len() && a[x] == b[y] {
                (x, y) = (x + 1, y + 1);
            }
            furthest[k] = x;
            if x >= a.len() && y >= b.len() {
                return Some(way_back(a, b, &history));
            }
        }
    }
    None
}

/// The edits of the way that reached the end, read backwards through what each round knew before it.
fn way_back<'a>(a: &[&'a str], b: &[&'a str], history: &[Vec<usize>]) -> Vec<Edit<'a>> {
    let (mut x, mut y) = (a.len() as isize, b.len() as isize);
    let mut all = Vec::new();
    for (edits, before) in history.iter().enumerate().rev() {
        let edits = edits as isize;
        let at = |k: isize| -> isize {
            let index = k + edits;
            usize::try_from(index).ok().and_then(|index| before.get(index)).map_or(0, |x| *x as isize)
        };
        let k = x - y;
        let down = k == -edits || k != edits && at(k - 1) < at(k + 1);
        let from_k = if down { k + 1 } else { k - 1 };
        let (from_x, from_y) = if edits == 0 { (0, 0) } else { (at(from_k), at(from_k) - from_k) };
        // Where the way came from differs in one coordinate from where its equal lines begin: the loop ends there.
        while x > from_x && y > from_y {
            (x, y) = (x - 1, y - 1);
            all.push(Edit::Same(a[x as usize]));
        }
        if edits > 0 {
            if down {
                y -= 1;
                all.push(Edit::New(b[y as usize]));
            } else {
                x -= 1;
                all.push(Edit::Gone(a[x as usize]));
            }
        }
    }
    all.reverse();
    all
}

const CONTEXT: usize = 2;

/// Prints the changed lines with their neighbours; returns whether there are any.
fn unified(edits: &[Edit<'_>], names: (&str, &str), out: &mut impl fmt::Write) -> Result<bool, fmt::Error> {
    let is_change = |edit: &Edit<'_>| !matches!(edit, Edit::Same(_));
    if !edits.iter().any(is_change) {
        return Ok(false);
    }
    writeln!(out, "--- {}\n+++ {}", names.0, names.1)?;
    let (mut left, mut right) = (1, 1);
    let mut at = 0;
    while at < edits.len() {
        let near = |index: usize| {
            let (from, to) = (index.saturating_sub(CONTEXT), (index + CONTEXT + 1).min(edits.len()));
            edits[from..to].iter().any(is_change)
        };
        if !near(at) {
            (at, left, right) = (at + 1, left + 1, right + 1);
            continue;
        }
        let end = (at..edits.len()).find(|index| !near(*index)).unwrap_or(edits.len());
        let hunk = &edits[at..end];
        let gone = hunk.iter().filter(|edit| !matches!(edit, Edit::New(_))).count();
        let new = hunk.iter().filter(|edit| !matches!(edit, Edit::Gone(_))).count();
        writeln!(out, "@@ -{left},{gone} +{right},{new} @@")?;
        for edit in hunk {
            match edit {
                Edit::Same(line) => writeln!(out, " {line}")?,
                Edit::Gone(line) => writeln!(out, "-{line}")?,
                Edit::New(line) => writeln!(out, "+{line}")?,
            }
        }
        (at, left, right) = (end, left + gone, right + new);
    }
    Ok(true)
}

fn signed(before: u64, after: u64) -> String {
    match after.cmp(&before) {
        core::cmp::Ordering::Equal => String::from("no change"),
        core::cmp::Ordering::Greater => format!("{} more", about(after - before)),
        core::cmp::Ordering::Less => format!("{} less", about(before - after)),
    }
}

/// The cost in page tables, as a sentence.
fn tables_sentence(a: &Side, b: &Side) -> String {
    let (before, after) = (a.tree.bytes_of_tables(), b.tree.bytes_of_tables());
    let count = |side: &Side| side.tree.table_count();
    let change = signed(before, after);
    format!("page tables: {} in {} tables, then {} in {}: {change}", about(before), count(a), about(after), count(b))
}

/// How far TLB entries reach in the linear map, as a sentence.
fn reach_sentence(a: &Side, b: &Side) -> String {
    let reach = |side: &Side| about(side.linear.mapped_bytes() / side.linear.tlb_entries().max(1));
    let entries = |side: &Side| side.linear.tlb_entries();
    format!(
        "TLB: {} entries reach all of the linear map ({} each), then {} ({} each)",
        entries(a),
        reach(a),
        entries(b),
        reach(b)
    )
}

/// Prints the changed lines and the costs; returns whether anything differs.
///
/// # Errors
/// The writer failed.
pub fn print(a: &Side, b: &Side, names: (&str, &str), out: &mut impl fmt::Write) -> Result<bool, fmt::Error> {
    let edits = edits(&a.listing, &b.listing);
    let differs = unified(&edits, names, out)?;
    if differs {
        writeln!(out)?;
    } else {
        writeln!(out, "the listings are equal")?;
    }
    writeln!(out, "{}\n{}", tables_sentence(a, b), reach_sentence(a, b))?;
    Ok(differs || a.tree != b.tree)
}

/// The same as JSON, schema `kernmem.diff`.
///
/// # Errors
/// The writer failed.
pub fn json(a: &Side, b: &Side, names: (&str, &str), out: &mut impl fmt::Write) -> Result<bool, fmt::Error> {
    let edits = edits(&a.listing, &b.listing);
    let differs = a.tree != b.tree || edits.iter().any(|edit| !matches!(edit, Edit::Same(_)));
    let mut json = Json::new(out);
    json.answer("kernmem.diff")?;
    json.truth("differs", differs)?;
    for (key, name, side) in [("a", names.0, a), ("b", names.1, b)] {
        json.open(Some(key), '{')?;
        json.text("source", name)?;
        json.number("table_bytes", side.tree.bytes_of_tables())?;
        json.number("tables", side.tree.table_count())?;
        json.number("linear_map_tlb_entries", side.linear.tlb_entries())?;
        json.close('}')?;
    }
    for (key, sign) in [("gone", false), ("new", true)] {
        json.open(Some(key), '[')?;
        for edit in &edits {
            match edit {
                Edit::Gone(line) if !sign => json.item(line)?,
                Edit::New(line) if sign => json.item(line)?,
                _ => {}
            }
        }
        json.close(']')?;
    }
    json.finish()?;
    Ok(differs)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Applies the edits both ways and counts them.
    fn check(a: &str, b: &str) -> usize {
        let (mut left, mut right, mut count) = (Vec::new(), Vec::new(), 0);
        for edit in edits(a, b) {
            match edit {
                Edit::Same(line) => {
                    left.push(line);
                    right.push(line);
                }
                Edit::Gone(line) => {
                    left.push(line);
                    count += 1;
                }
                Edit::New(line) => {
                    right.push(line);
                    count += 1;
                }
            }
        }
        assert_eq!((left, right), (a.lines().collect(), b.lines().collect()), "{a:?} {b:?}");
        count
    }

    /// The length of the shortest edit by the textbook's table.
    fn by_table(a: &[&str], b: &[&str]) -> usize {
        let mut common = vec![vec![0; b.len() + 1]; a.len() + 1];
        for (i, x) in a.iter().enumerate() {
            for (j, y) in b.iter().enumerate() {
                common[i + 1][j + 1] = if x == y { common[i][j] + 1 } else { common[i][j + 1].max(common[i + 1][j]) };
            }
        }
        a.len() + b.len() - 2 * common[a.len()][b.len()]
    }

    #[test]
    fn edits_lead_from_one_text_to_the_other_by_the_shortest_way() {
        let mut state = 7u64;
        let mut next = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        for _ in 0..2000 {
            let mut text = || (0..next(12)).map(|_| ["p\n", "q\n", "r\n"][next(3) as usize]).collect::<String>();
            let (a, b) = (text(), text());
            let lines = |text: &'_ str| text.lines().map(String::from).collect::<Vec<_>>();
            let (left, right) = (lines(&a), lines(&b));
            let left: Vec<&str> = left.iter().map(String::as_str).collect();
            let right: Vec<&str> = right.iter().map(String::as_str).collect();
            assert_eq!(check(&a, &b), by_table(&left, &right), "{a:?} {b:?}");
        }
    }

    #[test]
    fn a_hunk_names_its_lines() {
        let mut text = String::new();
        let edits = edits("a\nb\nc\nd\ne\nf\ng\n", "a\nb\nc\nX\ne\nf\ng\n");
        assert!(unified(&edits, ("one", "two"), &mut text).unwrap());
        assert_eq!(text, "--- one\n+++ two\n@@ -2,5 +2,5 @@\n b\n c\n-d\n+X\n e\n f\n");
    }
}
