//! The rows as data: what each measures, where the machine ends, and what we want to reach.
//!
//! Limits and aims were worked out from the machine before anything here was fast: `docs/performance.md` has the
//! arithmetic by the name that stands in `from`.

/// What an aim holds ours against. Everything but [`Against::Own`] ran in the same rounds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Against {
    /// The best peer as a kernel would use it: with a lock if it needs one.
    BestPeer,
    /// The best peer, those without their lock included.
    BestBare,
    /// The contender of this name.
    Named(&'static str),
    /// The contender of ours of this name, in the same row.
    Beside(&'static str),
    /// The same contender of ours in another row.
    Own(&'static str),
    /// The best of ours in the row: how far formats lie apart.
    BestOfOurs,
    /// Nobody: the figure itself.
    Figure,
}

/// What we want: a ratio, or a figure.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Aim {
    /// Which way of ours it is about; empty for the plain one.
    pub variant: &'static str,
    /// What the figure is divided by.
    pub against: Against,
    /// Where the quotient should lie: not above it, or not below it in rows where more is better.
    pub ratio: f64,
}

/// One row.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Row {
    /// Its id; `--only` takes beginnings of it.
    pub id: &'static str,
    /// What is measured.
    pub what: &'static str,
    /// The unit of its figures.
    pub unit: &'static str,
    /// Whether more is better.
    pub more: bool,
    /// Rounds of a whole run at most.
    pub rounds: usize,
    /// Whether the row is timed by one thread in instructions that do not vary: it can be counted.
    pub counted: bool,
    /// Where the machine ends, in the row's unit; `None` if nobody has worked it out.
    pub limit: Option<f64>,
    /// The way of ours that the limit is of, where others of the row have another end.
    pub limit_of: Option<&'static str>,
    /// What we want.
    pub aims: &'static [Aim],
}

const fn peer(ratio: f64) -> Aim {
    Aim { variant: "", against: Against::BestPeer, ratio }
}

const fn bare(ratio: f64) -> Aim {
    Aim { variant: "", against: Against::BestBare, ratio }
}

const fn figure(ratio: f64) -> Aim {
    Aim { variant: "", against: Against::Figure, ratio }
}

const fn linux(ratio: f64) -> Aim {
    Aim { variant: "", against: Against::Named("linux-model"), ratio }
}

const fn bound(ratio: f64) -> Aim {
    Aim { variant: "", against: Against::Named("densest-first"), ratio }
}

const fn formats() -> Aim {
    Aim { variant: "", against: Against::BestOfOurs, ratio: 1.3 }
}

const fn own(row: &'static str, ratio: f64) -> Aim {
    Aim { variant: "", against: Against::Own(row), ratio }
}

impl Aim {
    const fn of(self, variant: &'static str) -> Self {
        Self { variant, ..self }
    }
}

impl Row {
    const fn new(id: &'static str, what: &'static str, unit: &'static str, limit: f64, aims: &'static [Aim]) -> Self {
        Self { id, what, unit, more: false, rounds: 15, counted: true, limit: Some(limit), limit_of: None, aims }
    }

    /// Whether one round takes a second or more.
    #[must_use]
    pub const fn is_long(&self) -> bool {
        self.rounds <= 5
    }

    const fn rounds(self, rounds: usize) -> Self {
        Self { rounds, counted: false, ..self }
    }

    const fn limit_of(self, variant: &'static str) -> Self {
        Self { limit_of: Some(variant), ..self }
    }

    /// A row of conversions: the machine's end is the loop without one, which stands in it.
    const fn conversions(id: &'static str, what: &'static str, aims: &'static [Aim]) -> Self {
        Self { limit: None, ..Self::new(id, what, "ns", 0.0, aims) }
    }
}

const fn flat(variant: &'static str, ratio: f64) -> Aim {
    Aim { variant, against: Against::Beside("flat"), ratio }
}

/// A vmemmap is an addition, as a flat array is; a word's load takes five cycles where an addition takes one.
const THERE: &[Aim] = &[flat("vmemmap", 1.05), flat("static", 3.0), flat("extreme", 4.5)];

/// The flags' load is one more.
const BACK: &[Aim] = &[flat("vmemmap", 1.05), flat("static", 4.5), flat("extreme", 6.0)];

/// 512 descriptors' flags and what else is read outgrow 32 KiB: some loads take fourteen cycles.
const BACK_64G: &[Aim] = &[flat("vmemmap", 1.05), flat("static", 7.0), flat("extreme", 9.0)];

/// Past the caches, memory decides what sections cost.
const FAR: &[Aim] = &[flat("vmemmap", 1.05)];

const ENTRY: &str = "ns/entry";
const WORD: &str = "ns/8 bytes";
const PAIR: &str = "ns/pair";
const STEP: &str = "ns/step";

/// Every row, in the order of tables.
pub const ROWS: &[Row] = &[
    Row::new("P1-4K", "map 1 GiB by pages of 4K", ENTRY, 0.04, &[peer(0.24)]),
    Row::new("P1-2M", "map 64 GiB by blocks of 2M", ENTRY, 0.04, &[peer(0.22)]),
    Row::new("P1-1G", "map 1 TiB by blocks of 1G", ENTRY, 0.04, &[peer(0.42)]),
    Row::new("P2-4K", "protect 1 GiB of pages of 4K", ENTRY, 0.06, &[peer(0.11)]),
    Row::new("P2-2M", "protect 64 GiB of blocks of 2M", ENTRY, 0.06, &[peer(0.13)]),
    Row::new("P2-1G", "protect 1 TiB of blocks of 1G", ENTRY, 0.06, &[peer(0.34)]),
    Row::new("P3-4K", "unmap 1 GiB of pages of 4K, tables freed", ENTRY, 0.005, &[peer(1.25)]),
    Row::new("P3-2M", "unmap 64 GiB of blocks of 2M, tables freed", ENTRY, 0.005, &[peer(0.054)]),
    Row::new("P3-1G", "unmap 1 TiB of blocks of 1G, tables freed", ENTRY, 0.005, &[peer(0.63)]),
    Row::new("P4a", "one page mapped or unmapped, no cursor kept", "ns/op", 1.0, &[peer(0.85)]),
    Row::new("P4b", "511 pages to unrelated frames, by cursor", "ns/op", 0.1, &[peer(0.14)]),
    Row::new("P5", "split a 2M block into pages", "ns/split", 20.0, &[peer(0.23)]),
    Row::new("P6-hot", "translate in 64 MiB, independent", "ns", 2.0, &[peer(0.88), peer(0.6).of("cache")])
        .limit_of(""),
    Row::new(
        "P6-chain",
        "translate in 64 MiB, each waits for the last",
        "ns",
        6.0,
        &[peer(0.95), peer(0.54).of("cache")],
    )
    .limit_of(""),
    Row::new("P6-cold", "translate in 64 GiB, independent", "ns", 27.0, &[peer(0.88), peer(0.47).of("batch")])
        .limit_of("")
        .rounds(3),
    Row::new("P7", "four threads in one tree, 2 MiB a call", "ns/entry-op", 0.044, &[peer(0.2)]).rounds(9),
    Row::new("P7-one", "one thread of P7, 100 times, by the wall clock", "ns/entry-op", 0.044, &[]).rounds(9),
    Row::new(
        "P7-all",
        "P7 with a thread for each CPU, 100 times, by the wall clock",
        "ns/entry-op",
        0.022,
        &[own("P7-one", 0.6)],
    )
    .rounds(9),
    Row::new("P1-own", "map 2 MiB of entries of each format", WORD, 0.04, &[formats()]),
    Row::new("P2-own", "protect 2 MiB of entries of each format", WORD, 0.06, &[formats()]),
    Row::new("P3-own", "unmap 512 leaf tables of each format, caches cold", "ns/table", 2.0, &[formats()]),
    Row::new("P6-own", "translate in 16,384 pages of each format", "ns/level", 0.5, &[formats()]),
    Row::new("F1", "hot pair of order 0", PAIR, 1.5, &[bare(0.27), linux(0.18)]),
    Row::new("F2-3", "hot pair of order 3", PAIR, 1.5, &[bare(0.8)]),
    Row::new("F2-9", "hot pair of order 9", PAIR, 1.5, &[bare(0.8)]),
    Row::new("F3", "512 taken, then 512 given back", PAIR, 1.0, &[peer(0.23)]),
    Row::new("F4a", "512 in one call, and back", "ns/frame", 0.3, &[peer(0.22)]),
    Row::new("F4b", "every frame taken, back in random order", PAIR, 20.0, &[peer(0.38)]).rounds(5),
    Row::new("F5-50", "churn with half in use", STEP, 20.0, &[peer(0.23)]).rounds(5),
    Row::new("F5-90", "churn with 90 % in use", STEP, 20.0, &[peer(0.18)]).rounds(5),
    Row::new("F6", "hot pair of order 0 on all CPUs", "ns/pair/CPU", 1.5, &[own("F1", 1.05)]).rounds(15),
    Row {
        more: true,
        ..Row::new(
            "F7-50",
            "free 2M blocks with half in use",
            "permille",
            318.0,
            &[bound(0.96), bound(0.96).of("2 CPUs")],
        )
        .rounds(1)
    },
    Row {
        more: true,
        ..Row::new(
            "F7-25",
            "free 2M blocks with a quarter in use",
            "permille",
            391.0,
            &[bound(0.99), bound(0.99).of("2 CPUs")],
        )
        .rounds(1)
    },
    Row {
        more: true,
        ..Row::new(
            "F7-10",
            "free 2M blocks with a tenth in use",
            "permille",
            452.0,
            &[bound(0.995), bound(0.995).of("2 CPUs")],
        )
        .rounds(1)
    },
    Row::new("F8", "records", "bytes/page", 0.131, &[figure(0.14)]).rounds(1),
    Row::new("F9", "1 TiB ready", "s", 0.000_75, &[figure(0.000_5).of("lazy"), figure(0.005).of("eager")])
        .limit_of("eager")
        .rounds(3),
    Row::conversions("S1-hot", "pfn to page in one section, independent", THERE),
    Row::conversions("S1-hot-chain", "pfn to page in one section, each waits for the last", THERE),
    Row::conversions("S1-64G", "pfn to page over the sections of 64 GiB, independent", THERE),
    Row::conversions("S1-64G-chain", "pfn to page over the sections of 64 GiB, each waits for the last", THERE),
    Row::conversions("S1-16T", "pfn to page over the sections of 16 TiB, independent", FAR),
    Row::conversions("S1-16T-chain", "pfn to page over the sections of 16 TiB, each waits for the last", FAR),
    Row::conversions("S2-hot", "page to pfn in one section, independent", BACK),
    Row::conversions("S2-hot-chain", "page to pfn in one section, each waits for the last", BACK),
    Row::conversions("S2-64G", "page to pfn over the sections of 64 GiB, independent", BACK_64G),
    Row::conversions("S2-64G-chain", "page to pfn over the sections of 64 GiB, each waits for the last", BACK_64G),
    Row::conversions("S2-16T", "page to pfn over the sections of 16 TiB, independent", FAR),
    Row::conversions("S2-16T-chain", "page to pfn over the sections of 16 TiB, each waits for the last", FAR),
];

/// The row of an id.
#[must_use]
pub fn row(id: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.id == id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_rows_that_others_name_exist() {
        for (at, row) in ROWS.iter().enumerate() {
            assert!(ROWS[..at].iter().all(|other| other.id != row.id), "{}", row.id);
            for aim in row.aims {
                if let Against::Own(other) = aim.against {
                    assert!(super::row(other).is_some(), "{other}");
                }
            }
        }
    }
}
