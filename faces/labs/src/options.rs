//! What a caller changes about a lab.

use kernmem_source::Options;

use crate::texts::{Text, en};

/// The language of the texts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Language {
    /// English.
    #[default]
    English,
}

impl Language {
    /// The sentence of a key, with placeholders.
    #[must_use]
    pub const fn text(self, key: Text) -> &'static str {
        match self {
            Self::English => en::text(key),
        }
    }
}

/// What a caller changes about a lab.
#[derive(Clone, Debug, Default)]
pub struct LabOptions {
    /// The machine: a preset, a file, a recording; each lab has its own if none is named.
    pub source: Option<String>,
    /// Parts of the machine and of its kernel that are replaced. A command line is taken as it is: the lab does not
    /// add its own words.
    pub parts: Options,
    /// The lab's condition the other way round: see [`crate::Lab::reverse`].
    pub reverse: bool,
    /// Also measure on this host; what comes out is another number each time.
    pub measure: bool,
    /// The language of the texts.
    pub language: Language,
}
