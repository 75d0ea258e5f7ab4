//! Names of caches: short texts without a heap.
//!
//! # Invariants
//! 1. The bytes before `len` are UTF-8: they are copied from whole `str`s only.

use core::fmt::{self, Write};

/// Bytes that a name may have.
pub const NAME_BYTES: usize = 40;

/// The name of a cache.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Name {
    bytes: [u8; NAME_BYTES],
    len: u8,
}

impl Name {
    const EMPTY: Self = Self { bytes: [0; NAME_BYTES], len: 0 };

    /// `text` as a name; `None` if it is empty or longer than [`NAME_BYTES`].
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let mut name = Self::EMPTY;
        (!text.is_empty() && name.write_str(text).is_ok()).then_some(name)
    }

    /// A name written by a formatter; `None` if it is empty or too long.
    pub(crate) fn of(args: fmt::Arguments<'_>) -> Option<Self> {
        let mut name = Self::EMPTY;
        (name.write_fmt(args).is_ok() && name.len > 0).then_some(name)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or_default()
    }
}

impl Write for Name {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let from = usize::from(self.len);
        let slot = self.bytes.get_mut(from..from + text.len()).ok_or(fmt::Error)?;
        slot.copy_from_slice(text.as_bytes());
        self.len += text.len() as u8;
        Ok(())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}
