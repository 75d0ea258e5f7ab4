//! Sizes for people: the largest unit that divides a size evenly.

use core::fmt;

/// A size in bytes, shown as people and Linux's listings write it: `2M`, `1044K`, `512G`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 7] = ["B", "K", "M", "G", "T", "P", "E"];
        let (mut value, mut unit) = (self.0, 0);
        while value != 0 && value.is_multiple_of(1024) && unit + 1 < UNITS.len() {
            value /= 1024;
            unit += 1;
        }
        write!(f, "{value}{}", UNITS[unit])
    }
}
