//! A kernel's configuration file.
//!
//! Here: `CONFIG_NAME=value` lines and lookups by the name without `CONFIG_`. Not here: defaults of options that the
//! file does not name: they are off.
//!
//! Source: Linux 5.10–7.2 scripts/kconfig/confdata.c.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};

use kernmem_base::Granule;

use crate::number::leading_number;

/// arm64's page sizes and the options that name them, in growing order.
const PAGES: [(Granule, &str); 3] =
    [(Granule::K4, "ARM64_4K_PAGES"), (Granule::K16, "ARM64_16K_PAGES"), (Granule::K64, "ARM64_64K_PAGES")];

/// Options that got another name: until 6.1, and from 6.12 on.
///
/// Source: Linux 6.1 and 6.12 arch/x86/Kconfig.
const RENAMED: [(&str, &str); 1] = [("PAGE_TABLE_ISOLATION", "MITIGATION_PAGE_TABLE_ISOLATION")];

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

    /// arm64: the page size the kernel is built for; 4K if the configuration is silent.
    ///
    /// Source: Linux 5.10–7.2 arch/arm64/Kconfig `ARM64_64K_PAGES`.
    #[must_use]
    pub fn arm64_granule(&self) -> Granule {
        PAGES.into_iter().find(|(_, name)| self.is_set(name)).map_or(Granule::K4, |(granule, _)| granule)
    }

    /// arm64: sets the page size.
    pub fn set_arm64_pages(&mut self, granule: Granule) {
        for (size, name) in PAGES {
            if size == granule {
                self.insert(name, "y");
            } else {
                self.options.remove(name);
            }
        }
    }

    /// arm64: the bits of virtual addresses the kernel is built for.
    #[must_use]
    pub fn arm64_va_bits(&self) -> Option<u32> {
        self.number("ARM64_VA_BITS").and_then(|bits| u32::try_from(bits).ok())
    }

    /// arm64: sets the bits of virtual addresses.
    pub fn set_arm64_va_bits(&mut self, bits: u32) {
        for built in [36, 39, 42, 47, 48, 52] {
            let name = format!("ARM64_VA_BITS_{built}");
            if built == bits {
                self.insert(&name, "y");
            } else {
                self.options.remove(&name);
            }
        }
        self.insert("ARM64_VA_BITS", &bits.to_string());
    }

    /// Gives options that were renamed between eras their other name too, so that a kernel of any era finds them.
    pub fn name_for_all_eras(&mut self) {
        for (old, new) in RENAMED {
            for (from, to) in [(old, new), (new, old)] {
                if let Some(value) = self.options.get(from).cloned() {
                    self.options.entry(to.to_owned()).or_insert(value);
                }
            }
        }
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

    #[test]
    fn a_renamed_option_is_found_under_both_names_and_an_own_value_stays() {
        let mut config = KernelConfig::parse("CONFIG_PAGE_TABLE_ISOLATION=y\n");
        config.name_for_all_eras();
        assert!(config.is_set("MITIGATION_PAGE_TABLE_ISOLATION") && config.is_set("PAGE_TABLE_ISOLATION"));
        config.insert("MITIGATION_PAGE_TABLE_ISOLATION", "n");
        config.name_for_all_eras();
        assert!(!config.is_set("MITIGATION_PAGE_TABLE_ISOLATION") && config.is_set("PAGE_TABLE_ISOLATION"));
    }

    #[test]
    fn page_size_and_va_bits_are_replaced_whole() {
        let mut config =
            KernelConfig::parse("CONFIG_ARM64_4K_PAGES=y\nCONFIG_ARM64_VA_BITS_48=y\nCONFIG_ARM64_VA_BITS=48\n");
        assert_eq!((config.arm64_granule(), config.arm64_va_bits()), (Granule::K4, Some(48)));
        config.set_arm64_pages(Granule::K64);
        config.set_arm64_va_bits(52);
        assert_eq!((config.arm64_granule(), config.arm64_va_bits(), config.len()), (Granule::K64, Some(52), 3));
        assert!(config.is_set("ARM64_VA_BITS_52") && !config.is_enabled("ARM64_4K_PAGES"));
    }
}
