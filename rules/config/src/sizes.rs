//! Sizes of one compiled kernel's structures.
//!
//! Here: `name,value` lines. Not here: BTF (`btf`), what a size means.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::string::String;

use crate::number::leading_number;

/// Facts of a compiled image that no configuration tells.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Sizes {
    values: BTreeMap<String, u64>,
}

impl Sizes {
    /// Reads `name,value` lines; others are skipped.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let lines = text.lines().filter_map(|line| {
            let (name, value) = line.trim().split_once(',')?;
            let number = leading_number(value);
            (!value.is_empty() && number.rest.is_empty()).then(|| (name.to_owned(), number.value))
        });
        Self { values: lines.collect() }
    }

    /// The value of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<u64> {
        self.values.get(name).copied()
    }

    /// Whether nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Sets or replaces a value.
    pub fn insert(&mut self, name: &str, value: u64) {
        self.values.insert(name.to_owned(), value);
    }

    /// Takes over each value of `other`, in place of one's own of the same name.
    pub fn extend(&mut self, other: Self) {
        self.values.extend(other.values);
    }

    /// All values in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.values.iter().map(|(name, value)| (name.as_str(), *value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_and_bad_lines_are_skipped() {
        let sizes = Sizes::parse("name,value\nsizeof_page,64\nx,\ny,4k\nz,0x10\n");
        assert_eq!(
            (sizes.get("sizeof_page"), sizes.get("x"), sizes.get("y"), sizes.get("z")),
            (Some(64), None, None, Some(16))
        );
    }
}
