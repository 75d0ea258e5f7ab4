//! Sizes as the listings print them.

use core::fmt;

/// A size in bytes, printed in the largest unit from KiB up that divides it: nine places, then the unit's letter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kib(pub u64);

impl fmt::Display for Kib {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LETTERS: [char; 6] = ['K', 'M', 'G', 'T', 'P', 'E'];
        let (mut delta, mut unit) = (self.0 >> 10, 0);
        while delta & 1023 == 0 && unit + 1 < LETTERS.len() {
            delta >>= 10;
            unit += 1;
        }
        write!(f, "{delta:9}{}", LETTERS[unit])
    }
}

/// A size in bytes, printed in the largest unit from single bytes up that divides it: nine places, then the unit's
/// letter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LETTERS: [char; 7] = ['B', 'K', 'M', 'G', 'T', 'P', 'E'];
        let (mut delta, mut unit) = (self.0, 0);
        while delta & 1023 == 0 && unit + 1 < LETTERS.len() {
            delta >>= 10;
            unit += 1;
        }
        write!(f, "{delta:9}{}", LETTERS[unit])
    }
}
