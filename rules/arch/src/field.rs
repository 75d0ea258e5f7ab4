//! The bits of an entry by name, as data.

/// Some neighbouring bits of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Field {
    /// The lowest bit.
    pub shift: u32,
    /// How many bits.
    pub width: u32,
    /// The short name of the manuals, or Linux's for a bit that only software reads.
    pub name: &'static str,
    /// What it says if it is not zero.
    pub meaning: &'static str,
    /// Names of its values from 0 on; empty for a flag.
    pub values: &'static [&'static str],
}

impl Field {
    pub(crate) const fn flag(shift: u32, name: &'static str, meaning: &'static str) -> Self {
        Self { shift, width: 1, name, meaning, values: &[] }
    }

    pub(crate) const fn wide(
        shift: u32,
        width: u32,
        name: &'static str,
        meaning: &'static str,
        values: &'static [&'static str],
    ) -> Self {
        Self { shift, width, name, meaning, values }
    }

    /// Its bits in place.
    #[must_use]
    pub const fn mask(&self) -> u64 {
        ((1 << self.width) - 1) << self.shift
    }

    /// Its value in `raw`.
    #[must_use]
    pub const fn value(&self, raw: u64) -> u64 {
        (raw & self.mask()) >> self.shift
    }

    /// The name of its value in `raw`, if values have names.
    #[must_use]
    pub fn value_name(&self, raw: u64) -> Option<&'static str> {
        self.values.get(self.value(raw) as usize).copied()
    }
}

/// The fields of `raw` that say something: flags that are set, and every field whose values have names.
pub fn named(fields: &[Field], raw: u64) -> impl Iterator<Item = &Field> {
    fields.iter().filter(move |field| field.value(raw) != 0 || !field.values.is_empty())
}
