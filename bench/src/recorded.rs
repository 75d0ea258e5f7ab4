//! What an earlier run recorded: a number for a name, in a file of lines `number,name`.

use core::fmt::Write as _;
use std::collections::BTreeMap;

/// Numbers by name.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Recorded(BTreeMap<String, f64>);

/// A line that is none of a record's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BadLine(pub String);

impl core::fmt::Display for BadLine {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "not a number and a name: {}", self.0)
    }
}

impl core::error::Error for BadLine {}

impl Recorded {
    /// Reads a file's text; lines that begin with `#` say something to a reader.
    ///
    /// # Errors
    /// [`BadLine`]: the first line that is neither.
    pub fn parse(text: &str) -> Result<Self, BadLine> {
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        let of = |line: &str| {
            let (number, name) = line.split_once(',')?;
            Some((name.to_owned(), number.parse().ok()?))
        };
        lines.map(|line| of(line).ok_or_else(|| BadLine(line.to_owned()))).collect::<Result<_, _>>().map(Self)
    }

    /// The number of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.get(name).copied()
    }

    /// Names, in their order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Puts a number in the place of what was recorded for its name.
    pub fn set(&mut self, name: String, number: f64) {
        self.0.insert(name, number);
    }

    /// The file's text, behind `head`: a comment of one line.
    #[must_use]
    pub fn text(&self, head: &str) -> String {
        let mut text = format!("# {head}\n");
        for (name, number) in &self.0 {
            let _ = writeln!(text, "{},{name}", crate::report::figure(*number));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_and_a_bad_line_is_named() {
        let mut recorded = Recorded::default();
        recorded.set("F1;ours, dense;best peer".to_owned(), 0.25);
        recorded.set("P1".to_owned(), 1367.4);
        let text = recorded.text("of a run");
        assert_eq!(text, "# of a run\n0.250,F1;ours, dense;best peer\n1367,P1\n");
        let read = Recorded::parse(&text).unwrap();
        assert_eq!(
            (read.get("F1;ours, dense;best peer"), read.get("P1"), read.get("P2")),
            (Some(0.25), Some(1367.0), None)
        );
        assert_eq!(Recorded::parse("x,y"), Err(BadLine("x,y".to_owned())));
    }
}
