//! A kernel's configuration file.
//!
//! Here: `CONFIG_NAME=value` lines and lookups by the name without `CONFIG_`. Not here: defaults of options that the
//! file does not name: they are off.
//!
//! Source: Linux 5.10–7.2 scripts/kconfig/confdata.c.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::string::String;

use crate::number::leading_number;

/// The options that a configuration sets.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct KernelConfig {
    options: BTreeMap<String, String>,
}

impl KernelConfig {
    /// Reads a configuration; lines that set nothing are skipped, a later line wins.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let lines = text.lines().filter_map(|line| line.trim().strip_prefix("CONFIG_")?.split_once('='));
        let options = lines.filter(|(name, value)| !name.is_empty() && *value != "n");
        Self { options: options.map(|(name, value)| (name.to_owned(), unquoted(value))).collect() }
    }

    /// Number of options set.
    #[must_use]
    pub fn len(&self) -> usize {
        self.options.len()
    }

    /// Whether nothing is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.options.is_empty()
    }

    /// The value as written, without quotes.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        self.options.get(name).map(String::as_str)
    }

    /// Whether the option is built in (`y`).
    #[must_use]
    pub fn is_set(&self, name: &str) -> bool {
        self.value(name) == Some("y")
    }

    /// Whether the option is built in or a module.
    #[must_use]
    pub fn is_enabled(&self, name: &str) -> bool {
        matches!(self.value(name), Some("y" | "m"))
    }

    /// The option's number, decimal or hexadecimal.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u64> {
        let value = self.value(name)?;
        let number = leading_number(value);
        (!value.is_empty() && number.rest.is_empty() && !number.overflowed).then_some(number.value)
    }

    /// All options in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.options.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Sets or replaces an option: for overrides.
    pub fn insert(&mut self, name: &str, value: &str) {
        self.options.insert(name.to_owned(), value.to_owned());
    }
}

fn unquoted(value: &str) -> String {
    let Some(inner) = value.strip_prefix('"').map(|rest| rest.strip_suffix('"').unwrap_or(rest)) else {
        return value.to_owned();
    };
    let mut text = String::new();
    let mut escaped = false;
    for c in inner.chars() {
        if c == '\\' && !escaped {
            escaped = true;
        } else {
            text.push(c);
            escaped = false;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_each_kind_are_found() {
        let config = KernelConfig::parse(
            "# CONFIG_A is not set\nCONFIG_B=y\nCONFIG_C=m\nCONFIG_D=0x40\nCONFIG_E=\"a \\\"b\\\"\"\nCONFIG_F=n\n",
        );
        assert!(config.is_set("B") && !config.is_set("A") && !config.is_set("C") && config.is_enabled("C"));
        assert_eq!((config.number("D"), config.value("E")), (Some(64), Some("a \"b\"")));
        assert_eq!((config.value("F"), config.len()), (None, 4));
    }
}
