//! Numbers as the kernel reads them from text.
//!
//! Here: the C rules for a number's base, and sizes with a unit letter.
//! Not here: which parameter takes which kind of number.
//!
//! Source: Linux 5.10–7.2 lib/cmdline.c `memparse`; lib/kstrtox.c `simple_strtoull`, `kstrtoull`.

use kernmem_base::Era;

/// A number at the start of a text: its value modulo 2^64, whether it fitted, and what follows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Number<'a> {
    /// The value, wrapped.
    pub value: u64,
    /// Whether the value was 2^64 or more.
    pub overflowed: bool,
    /// The text behind the last digit.
    pub rest: &'a str,
}

/// Reads the number at the start of `text`: `0x` means hexadecimal, another leading 0 octal, else decimal.
/// Without a digit the value is 0 and `rest` is the whole text.
#[must_use]
pub fn leading_number(text: &str) -> Number<'_> {
    let bytes = text.as_bytes();
    let is_hex = matches!(bytes, [b'0', b'x' | b'X', digit, ..] if digit.is_ascii_hexdigit());
    let base: u64 = match bytes.first() {
        _ if is_hex => 16,
        Some(b'0') => 8,
        _ => 10,
    };
    let start = if is_hex { 2 } else { 0 };
    let (mut value, mut overflowed, mut len) = (0u64, false, start);
    for byte in bytes.iter().skip(start) {
        let Some(digit) = char::from(*byte).to_digit(base as u32) else { break };
        let exact = value.checked_mul(base).and_then(|v| v.checked_add(u64::from(digit)));
        overflowed |= exact.is_none();
        value = value.wrapping_mul(base).wrapping_add(u64::from(digit));
        len += 1;
    }
    Number { value, overflowed, rest: text.get(len..).unwrap_or("") }
}

/// Reads a size: a number and at most one of K, M, G, T, P, E in either case. Returns it with what follows.
///
/// | era | overflow | a unit without a number |
/// |---|---|---|
/// | 4.14–6.12 | shifted out silently | is consumed |
/// | 7.2 | 2^64 − 1 | is left |
#[must_use]
pub fn memparse(text: &str, era: Era) -> (u64, &str) {
    let number = leading_number(text);
    let has_digits = number.rest.len() < text.len();
    let shift = match number.rest.as_bytes().first() {
        Some(b'K' | b'k') => 10,
        Some(b'M' | b'm') => 20,
        Some(b'G' | b'g') => 30,
        Some(b'T' | b't') => 40,
        Some(b'P' | b'p') => 50,
        Some(b'E' | b'e') => 60,
        _ => 0,
    };
    let behind_unit = number.rest.get(1..).unwrap_or("");
    match era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 | Era::V6_12 => {
            (number.value << shift, if shift == 0 { number.rest } else { behind_unit })
        }
        Era::V7_2 => {
            let fits = !number.overflowed && number.value.leading_zeros() >= shift;
            let fits = fits || number.value == 0 && !number.overflowed;
            let value = if fits { number.value << shift } else { u64::MAX };
            (value, if shift == 0 || !has_digits { number.rest } else { behind_unit })
        }
    }
}

/// Reads a whole text as an unsigned number, as module parameters do: an optional `+`, digits by the C rules, nothing
/// behind them but one line feed. `None` for anything else and for 2^64 and more.
#[must_use]
pub fn whole_number(text: &str) -> Option<u64> {
    let text = text.strip_prefix('+').unwrap_or(text);
    let number = leading_number(text);
    let has_digits = number.rest.len() < text.len();
    (has_digits && !number.overflowed && matches!(number.rest, "" | "\n")).then_some(number.value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bases_follow_the_c_rules() {
        assert_eq!(memparse("0x10000000", Era::V6_1), (0x1000_0000, ""));
        assert_eq!(memparse("010", Era::V6_1), (8, ""));
        assert_eq!(memparse("0x", Era::V6_1), (0, "x"));
        assert_eq!(memparse("09", Era::V6_1), (0, "9"));
    }

    #[test]
    fn a_unit_multiplies_and_a_fraction_ends_the_number() {
        assert_eq!(memparse("512M", Era::V6_1), (0x2000_0000, ""));
        assert_eq!(memparse("513k@1", Era::V6_1), (513 * 1024, "@1"));
        assert_eq!(memparse("1.5G", Era::V6_1), (1, ".5G"));
        assert_eq!(memparse("1MB", Era::V6_1), (1 << 20, "B"));
    }

    #[test]
    fn only_7_2_saturates() {
        assert_eq!(memparse("16E", Era::V6_12), (0, ""));
        assert_eq!(memparse("16E", Era::V7_2), (u64::MAX, ""));
        assert_eq!(memparse("15E", Era::V7_2), (15 << 60, ""));
        assert_eq!(memparse("0E", Era::V7_2), (0, ""));
    }

    #[test]
    fn a_unit_alone_is_consumed_before_7_2() {
        assert_eq!(memparse("M", Era::V6_12), (0, ""));
        assert_eq!(memparse("M", Era::V7_2), (0, "M"));
    }

    #[test]
    fn a_whole_number_has_nothing_behind_it() {
        assert_eq!(whole_number("100"), Some(100));
        assert_eq!(whole_number("0x10\n"), Some(16));
        assert_eq!(whole_number("100K"), None);
        assert_eq!(whole_number(""), None);
        assert_eq!(whole_number("18446744073709551616"), None);
    }
}
