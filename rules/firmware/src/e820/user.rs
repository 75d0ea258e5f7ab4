//! What `mem=` and `memmap=` do to the map.
//!
//! Source: Linux 5.10–7.2 arch/x86/kernel/e820.c `parse_memopt`, `parse_memmap_one`, `e820__finish_early_params`.

use alloc::vec::Vec;
use core::fmt;

use kernmem_base::Era;

use super::{E820Table, E820Type, Unsanitised};
use crate::number::{leading_number, memparse};

/// What came of the user's words.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct UserEdits {
    /// Whether the map is the user's now: Linux prints it again then.
    pub is_user_defined: bool,
    /// Numbers of the words with a part that Linux refuses, counted from 0; other parts of them are in force.
    pub refused: Vec<usize>,
}

/// Words that stop the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UserFault {
    /// The map that came out cannot be sanitised.
    Map(Unsanitised),
    /// `memmap=` changes a type into itself.
    SameType {
        /// The word's number.
        word: usize,
    },
}

impl fmt::Display for UserFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Map(fault) => write!(f, "the command line's memory map is invalid: {fault}"),
            Self::SameType { word } => write!(f, "memory word {word} changes a type into itself"),
        }
    }
}

impl core::error::Error for UserFault {}

enum Outcome {
    Done,
    Refused,
    SameType,
}

impl E820Table {
    /// Applies the line's `mem=` (true) and `memmap=` words in order, and sanitises if any changed the map.
    ///
    /// # Errors
    /// Linux does not survive the words; the map is as it was when it stopped.
    pub fn apply_user<'w>(
        &mut self,
        words: impl IntoIterator<Item = (bool, Option<&'w str>)>,
        era: Era,
    ) -> Result<UserEdits, UserFault> {
        let mut edits = UserEdits::default();
        for (word, (is_mem, value)) in words.into_iter().enumerate() {
            let outcome = match value {
                None => Outcome::Refused,
                Some(value) if is_mem => self.mem(value, era, &mut edits),
                Some(value) => self.memmap(value, era, &mut edits),
            };
            match outcome {
                Outcome::Done => {}
                Outcome::Refused => edits.refused.push(word),
                Outcome::SameType => return Err(UserFault::SameType { word }),
            }
        }
        if edits.is_user_defined {
            self.sanitise().map_err(UserFault::Map)?;
        }
        Ok(edits)
    }

    fn mem(&mut self, value: &str, era: Era, edits: &mut UserEdits) -> Outcome {
        if value == "nopentium" {
            return Outcome::Refused;
        }
        edits.is_user_defined = true;
        let (address, _) = memparse(value, era);
        if address == 0 {
            return Outcome::Refused;
        }
        self.range_remove(address, u64::MAX - address, Some(E820Type::RAM));
        Outcome::Done
    }

    fn memmap(&mut self, value: &str, era: Era, edits: &mut UserEdits) -> Outcome {
        let mut outcome = Outcome::Done;
        for item in value.split(',') {
            match self.memmap_item(item, era, edits) {
                Outcome::Done => {}
                Outcome::Refused => outcome = Outcome::Refused,
                Outcome::SameType => return Outcome::SameType,
            }
        }
        outcome
    }

    fn memmap_item(&mut self, item: &str, era: Era, edits: &mut UserEdits) -> Outcome {
        if item.starts_with("exactmap") {
            self.entries.clear();
            edits.is_user_defined = true;
            return Outcome::Done;
        }
        let (size, rest) = memparse(item, era);
        if rest.len() == item.len() {
            return Outcome::Refused;
        }
        edits.is_user_defined = true;
        let (sign, place) = (rest.as_bytes().first(), rest.get(1..).unwrap_or(""));
        let kind = match sign {
            Some(b'@') => E820Type::RAM,
            Some(b'#') => E820Type::ACPI,
            Some(b'$') => E820Type::RESERVED,
            Some(b'!') => E820Type::PRAM,
            Some(b'%') => return self.retype(size, place, era),
            _ => {
                self.range_remove(size, u64::MAX - size, Some(E820Type::RAM));
                return if rest.is_empty() { Outcome::Done } else { Outcome::Refused };
            }
        };
        let (start, rest) = memparse(place, era);
        self.add(start, size, kind);
        if rest.is_empty() { Outcome::Done } else { Outcome::Refused }
    }

    /// `%START-OLD+NEW`: a type that is 0 or missing is any on the left, none on the right.
    fn retype(&mut self, size: u64, text: &str, era: Era) -> Outcome {
        let (start, mut rest) = memparse(text, era);
        let mut number_behind = |sign: char| {
            let number = leading_number(rest.strip_prefix(sign)?);
            rest = number.rest;
            Some(E820Type(number.value as u32)).filter(|kind| kind.0 != 0)
        };
        let (old, new) = (number_behind('-'), number_behind('+'));
        if !rest.is_empty() {
            return Outcome::Refused;
        }
        match (old, new) {
            (Some(old), Some(new)) if old == new => return Outcome::SameType,
            (Some(old), Some(new)) => self.range_update(start, size, old, new),
            (None, Some(new)) => self.add(start, size, new),
            (old, None) => self.range_remove(start, size, old),
        }
        Outcome::Done
    }
}
