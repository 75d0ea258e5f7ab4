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

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn a_size_takes_the_largest_unit_that_divides_it() {
        assert_eq!(Bytes(4096).to_string(), "        4K");
        assert_eq!(Bytes(0x77 << 12).to_string(), "      476K");
        assert_eq!(Bytes(0xffff_8800_0000_0000).to_string(), " 16777096T");
        assert_eq!(Kib(2 << 20).to_string(), "        2M");
    }
}
