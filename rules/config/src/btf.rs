//! Sizes of structures from BTF, the description of its types that a kernel carries.
//!
//! Here: the walk over the types, and the size of each structure that has a name. Not here: members, and which sizes
//! a boot asks for.
//!
//! # Invariants
//! 1. No input panics: a blob that is cut or inconsistent gives `None`.
//!
//! Source: Linux 6.1 Documentation/bpf/btf.rst; include/uapi/linux/btf.h.

use alloc::format;

use crate::Sizes;

const MAGIC: [u8; 2] = [0x9f, 0xeb];
/// Bytes of one type before what its kind adds.
const TYPE: usize = 12;
const STRUCT: u32 = 4;

/// What follows a type of `kind` with `count` members, in bytes; `None` for a kind that is not known.
const fn tail(kind: u32, count: usize) -> Option<usize> {
    Some(match kind {
        2 | 7..=12 | 16 | 18 => 0,
        1 | 14 | 17 => 4,
        3 => 12,
        4 | 5 | 15 | 19 => 12 * count,
        6 | 13 => 8 * count,
        _ => return None,
    })
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    four.try_into().ok().map(u32::from_le_bytes)
}

/// The section whose offset and length stand at `at` of the header.
fn section(blob: &[u8], at: usize) -> Option<&[u8]> {
    let header = word(blob, 4)? as usize;
    let start = header.checked_add(word(blob, at)? as usize)?;
    blob.get(start..start.checked_add(word(blob, at + 4)? as usize)?)
}

impl Sizes {
    /// The size of each named structure as `sizeof_NAME`, from a little-endian BTF blob such as
    /// `/sys/kernel/btf/vmlinux`; `None` if it is none. Where several structures share a name, the first counts.
    #[must_use]
    pub fn from_btf(blob: &[u8]) -> Option<Self> {
        if !blob.starts_with(&MAGIC) {
            return None;
        }
        let (types, names) = (section(blob, 8)?, section(blob, 16)?);
        let mut sizes = Self::default();
        let mut at = 0;
        while at < types.len() {
            let (name, info, size) = (word(types, at)?, word(types, at + 4)?, word(types, at + 8)?);
            let kind = info >> 24 & 0x1f;
            if kind == STRUCT && name != 0 {
                let text = names.get(name as usize..)?.split(|byte| *byte == 0).next()?;
                let key = format!("sizeof_{}", core::str::from_utf8(text).ok()?);
                if sizes.get(&key).is_none() {
                    sizes.insert(&key, u64::from(size));
                }
            }
            at = at.checked_add(TYPE)?.checked_add(tail(kind, (info & 0xffff) as usize)?)?;
        }
        Some(sizes)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    /// An integer, an anonymous structure, `page` with two members, an enumeration, and a second `page`.
    fn blob() -> Vec<u8> {
        let names = b"\0int\0page\0zone\0";
        let types: [&[u32]; 6] = [
            &[1, 1 << 24, 4, 32],
            &[0, 4 << 24, 8],
            &[5, 4 << 24 | 2, 64, 1, 1, 0, 1, 1, 32],
            &[0, 6 << 24 | 1, 4, 1, 0],
            &[10, 4 << 24, 1664],
            &[5, 4 << 24, 56],
        ];
        let types: Vec<u8> = types.iter().flat_map(|words| words.iter().flat_map(|word| word.to_le_bytes())).collect();
        let mut blob = Vec::from([0x9f, 0xeb, 1, 0]);
        for word in [24, 0, types.len() as u32, types.len() as u32, names.len() as u32] {
            blob.extend(word.to_le_bytes());
        }
        blob.extend(types);
        blob.extend(names);
        blob
    }

    #[test]
    fn named_structures_have_sizes_and_the_first_of_a_name_counts() {
        let sizes = Sizes::from_btf(&blob()).unwrap();
        let all: Vec<_> = sizes.iter().collect();
        assert_eq!(all, [("sizeof_page", 64), ("sizeof_zone", 1664)]);
    }

    #[test]
    fn a_cut_or_foreign_blob_is_none() {
        let whole = blob();
        for length in 0..whole.len() {
            assert_eq!(Sizes::from_btf(&whole[..length]), None, "{length}");
        }
        let mut unknown = whole.clone();
        unknown[24 + 7] = 31;
        assert_eq!(Sizes::from_btf(&unknown), None);
        assert_eq!(Sizes::from_btf(b"name,value\n"), None);
    }
}
