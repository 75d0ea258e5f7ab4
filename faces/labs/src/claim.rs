//! Claims by number: document and place in it.

use core::fmt;

/// A claim of a document, as `docs/claims.md` numbers it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ClaimId {
    /// The document.
    pub document: u16,
    /// The claim in it.
    pub number: u16,
}

impl ClaimId {
    pub(crate) const fn new(document: u16, number: u16) -> Self {
        Self { document, number }
    }
}

impl fmt::Display for ClaimId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:03}.{}", self.document, self.number)
    }
}
