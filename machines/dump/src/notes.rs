//! The notes of a dump: processor states, the kernel's words about itself.
//!
//! A record is the lengths of name and contents, a type, then both, each padded to four bytes, in 64-bit files too.

use crate::header::{u32_at, u64_at};

/// Notes are small; what is larger is cut, so that a damaged length cannot ask for much.
pub(crate) const MAX_BYTES: u64 = 64 << 20;

/// One note.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Note<'d> {
    /// Its name, without the zero byte.
    pub name: &'d [u8],
    /// Its type, whose meaning depends on the name.
    pub kind: u32,
    /// Its contents.
    pub contents: &'d [u8],
}

/// The control registers of an x86 CPU, from a note that QEMU writes for each.
///
/// A CPU that was stopped in user mode under page-table isolation has bit 12 of `cr3` set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct X86Control {
    /// CR0: bit 31 says that paging is on.
    pub cr0: u64,
    /// CR3: the root of the tables in use, with the number of the address space in the low bits.
    pub cr3: u64,
    /// CR4: bit 5 says PAE, bit 12 five levels.
    pub cr4: u64,
}

impl Note<'_> {
    /// The control registers, if this is such a note.
    #[must_use]
    pub fn x86_control(&self) -> Option<X86Control> {
        const CR0: usize = 392;
        const CR3: usize = 416;
        const CR4: usize = 424;
        let is_it = self.name == b"QEMU" && self.kind == 0 && self.contents.len() >= CR4 + 8;
        let word = |at| u64_at(self.contents, at);
        is_it.then(|| X86Control { cr0: word(CR0), cr3: word(CR3), cr4: word(CR4) })
    }
}

/// The notes of one segment, in order.
///
/// Ends at the end of the segment, at a record of zeros (kernels end their buffers so) or where a length leaves it.
#[derive(Clone, Debug)]
pub struct Notes<'d> {
    rest: &'d [u8],
}

impl<'d> Notes<'d> {
    /// The notes in the bytes of a segment.
    #[must_use]
    pub const fn new(bytes: &'d [u8]) -> Self {
        Self { rest: bytes }
    }
}

impl<'d> Iterator for Notes<'d> {
    type Item = Note<'d>;

    fn next(&mut self) -> Option<Note<'d>> {
        let (header, after) = self.rest.split_at_checked(12)?;
        let (name_bytes, content_bytes, kind) = (u32_at(header, 0), u32_at(header, 4), u32_at(header, 8));
        if name_bytes == 0 && content_bytes == 0 && kind == 0 {
            self.rest = &[];
            return None;
        }
        let Some((name, after)) = take(after, name_bytes) else {
            self.rest = &[];
            return None;
        };
        let Some((contents, after)) = take(after, content_bytes) else {
            self.rest = &[];
            return None;
        };
        self.rest = after;
        let name = name.strip_suffix(b"\0").unwrap_or(name);
        Some(Note { name, kind, contents })
    }
}

/// The first `bytes` of `from`, and what follows their padding; the last padding may be missing.
fn take(from: &[u8], bytes: u32) -> Option<(&[u8], &[u8])> {
    let len = usize::try_from(bytes).ok()?;
    let (taken, _) = from.split_at_checked(len)?;
    let padded = len.checked_next_multiple_of(4)?.min(from.len());
    Some((taken, from.get(padded..).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &[u8], kind: u32, contents: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for word in [name.len() as u32, contents.len() as u32, kind] {
            bytes.extend(word.to_le_bytes());
        }
        for part in [name, contents] {
            bytes.extend(part);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        bytes
    }

    #[test]
    fn notes_end_at_zeros_and_where_a_length_leaves_the_segment() {
        let mut bytes = record(b"CORE\0", 1, b"abc");
        bytes.extend(record(b"X\0", 7, b""));
        let two = [Note { name: b"CORE", kind: 1, contents: b"abc" }, Note { name: b"X", kind: 7, contents: b"" }];
        assert_eq!(Notes::new(&bytes).collect::<Vec<_>>(), two);
        let mut zeros = bytes.clone();
        zeros.extend([0; 12]);
        zeros.extend(record(b"Y\0", 1, b""));
        assert_eq!(Notes::new(&zeros).collect::<Vec<_>>(), two);
        bytes.extend([0xff; 20]);
        assert_eq!(Notes::new(&bytes).collect::<Vec<_>>(), two);
        let unpadded = record(b"CORE\0", 1, b"abc");
        assert_eq!(Notes::new(&unpadded[..unpadded.len() - 1]).collect::<Vec<_>>(), two[..1]);
    }
}
