//! How many lines were compared, and what was left out.

use core::fmt;
use std::collections::BTreeMap;

use crate::exclude::Exclusion;

/// One file of one recording.
#[derive(Clone, Debug)]
pub struct FileTally {
    /// The file, or the part of it.
    pub file: String,
    /// Lines that were compared and equal.
    pub equal: usize,
    /// Of a listing, equal lines by the region in which they stand.
    pub regions: Vec<(String, usize)>,
    /// Lines left out, by reason.
    pub excluded: Vec<(Exclusion, usize)>,
    /// The first difference: where, ours, recorded.
    pub difference: Option<(usize, String, String)>,
}

/// Sums over recordings, by kind of file.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    rows: BTreeMap<String, Row>,
    regions: BTreeMap<String, usize>,
    recordings: usize,
    differing: usize,
}

#[derive(Clone, Debug, Default)]
struct Row {
    files: usize,
    equal_files: usize,
    lines: usize,
    excluded: BTreeMap<Exclusion, usize>,
}

impl Tally {
    /// Adds a recording's files.
    pub fn add(&mut self, files: &[FileTally]) {
        self.recordings += 1;
        self.differing += usize::from(files.iter().any(|file| file.difference.is_some()));
        for file in files {
            let row = self.rows.entry(kind(&file.file).to_owned()).or_default();
            row.files += 1;
            row.equal_files += usize::from(file.difference.is_none());
            row.lines += file.equal;
            for (region, lines) in &file.regions {
                *self.regions.entry(region.clone()).or_default() += lines;
            }
            for (exclusion, count) in &file.excluded {
                *row.excluded.entry(*exclusion).or_default() += count;
            }
        }
    }

    /// Recordings with a difference.
    #[must_use]
    pub const fn differing(&self) -> usize {
        self.differing
    }

    /// Recordings in all.
    #[must_use]
    pub const fn recordings(&self) -> usize {
        self.recordings
    }

    /// Equal lines of listings, by the region in which they stand.
    pub fn regions(&self) -> impl Iterator<Item = (&str, usize)> {
        self.regions.iter().map(|(region, lines)| (region.as_str(), *lines))
    }

    /// Lines left out for one reason.
    #[must_use]
    pub fn excluded(&self, exclusion: Exclusion) -> usize {
        self.rows.values().filter_map(|row| row.excluded.get(&exclusion)).sum()
    }
}

/// Files of one kind share a row: a suffix names a later moment.
fn kind(file: &str) -> &str {
    file.split('.').next().unwrap_or(file)
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<28} {:>11} {:>8}  left out", "file", "equal", "lines")?;
        for (kind, row) in &self.rows {
            let equal = format!("{}/{}", row.equal_files, row.files);
            let excluded: Vec<String> =
                row.excluded.iter().map(|(exclusion, count)| format!("{} {count}", exclusion.name())).collect();
            writeln!(f, "{kind:<28} {equal:>11} {:>8}  {}", row.lines, excluded.join(", "))?;
        }
        let equal = self.recordings - self.differing;
        write!(f, "{equal} of {} recordings equal", self.recordings)
    }
}
