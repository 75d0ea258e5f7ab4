//! Numbers, sizes, addresses and ranges as people write them.

use kernmem_base::{VirtAddr, VirtRange};

/// A decimal number, or a hexadecimal one behind `0x`.
pub fn parse_number(text: &str) -> Result<u64, &'static str> {
    let text = text.replace('_', "");
    let number = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) if !digits.starts_with('+') => u64::from_str_radix(digits, 16),
        Some(_) => return Err("a number such as 4096 or 0x1000 expected"),
        None if text.starts_with('+') => return Err("a number such as 4096 or 0x1000 expected"),
        None => text.parse(),
    };
    number.map_err(|_| "a number below 2^64 such as 4096 or 0x1000 expected")
}

/// A number with an optional unit: `64T`, `2MiB`, `0x1000`.
pub fn parse_size(text: &str) -> Result<u64, &'static str> {
    const WRONG: &str = "a size below 16E such as 4G, 512MiB or 0x1000 expected";
    let plain = text.strip_suffix("iB").or_else(|| text.strip_suffix(['B', 'b'])).unwrap_or(text);
    // Hexadecimal digits are no unit.
    let unit = plain.chars().last().filter(|_| !plain.starts_with("0x")).map(|c| c.to_ascii_uppercase());
    let shift = match unit {
        Some('K') => 10,
        Some('M') => 20,
        Some('G') => 30,
        Some('T') => 40,
        Some('P') => 50,
        Some('E') => 60,
        _ => return parse_number(text).map_err(|_| WRONG),
    };
    let number = parse_number(plain.get(..plain.len() - 1).unwrap_or("")).map_err(|_| WRONG)?;
    number.checked_mul(1 << shift).ok_or(WRONG)
}

/// An address in hexadecimal, with or without `0x`.
pub fn parse_address(text: &str) -> Result<u64, &'static str> {
    let digits = text.strip_prefix("0x").unwrap_or(text).replace('_', "");
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err("an address in hexadecimal such as 0xffff000012345678 expected");
    }
    u64::from_str_radix(&digits, 16).map_err(|_| "an address of at most 16 hexadecimal digits expected")
}

/// `A-B`: addresses from A up to, not including, B; a B of 0 is the end of the address space.
pub fn parse_range(text: &str) -> Result<VirtRange, &'static str> {
    const WRONG: &str = "a range such as 0xffff000000000000-0xffff000040000000 expected";
    let (start, end) = text.split_once('-').ok_or(WRONG)?;
    let (start, end) = (parse_address(start).map_err(|_| WRONG)?, parse_address(end).map_err(|_| WRONG)?);
    if end != 0 && end <= start {
        return Err("a range whose end lies above its start expected");
    }
    VirtRange::until(VirtAddr(start), VirtAddr(end)).ok_or(WRONG)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_in_either_spelling() {
        assert_eq!(parse_size("64T"), Ok(64 << 40));
        assert_eq!(parse_size("2MiB"), Ok(2 << 20));
        assert_eq!(parse_size("512kb"), Ok(512 << 10));
        assert_eq!(parse_size("0x1000"), Ok(4096));
        assert_eq!(parse_size("4096"), Ok(4096));
        for wrong in ["", "G", "4X", "-1G", "99E", "1.5G", "0x", "K4", "+4G"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn ranges_may_end_at_the_top() {
        let top = parse_range("0xfffffffffffff000-0").unwrap();
        assert_eq!((top.start.0, top.last.0), (0xffff_ffff_ffff_f000, u64::MAX));
        assert!(parse_range("0x2000-0x1000").is_err());
        assert!(parse_range("0x2000").is_err());
        assert!(parse_address("zz").is_err() && parse_address("10000000000000000").is_err());
    }
}
