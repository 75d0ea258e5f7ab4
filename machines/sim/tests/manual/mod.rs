//! A second walker, written from the architectures' manuals as plain arithmetic: bits by number, addresses as numbers.
//!
//! It shares no format, no shape and no walk with the code under test, so that a mistake of one is a difference.
//! Here: levels from page size and address bits, what an entry says, a walk, everything below a table. Not here: rights
//! and marks (`rights`), the comparison (`compare`).
//!
//! ```text
//! Arm ARM D8.2   a level resolves page - 3 bits, the first one what is left; level 3 has the pages
//! SDM 4.3, 4.4   32-bit: 10, 10, 12; PAE: 2, 9, 9, 12 with a root of 32 bytes
//! SDM 4.5        9 bits a level, four or five levels
//! ```
#![allow(dead_code, unused_imports, reason = "each test program uses its part")]

mod compare;
mod kinds;
mod play;
mod rights;

pub use compare::{check_access, check_visit, check_walk};
pub use kinds::{FORMATS, Kind, WithKind, number, with};
pub use play::play;
pub use rights::{Answer, Registers, Wish, access};

use kernmem_arch::Format;

/// The tables of a manual.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tables {
    /// Stage 1 of arm64: log2 of the page, and the address bits.
    Arm64 { page: u32, bits: u32 },
    /// x86-64 with 4 or 5 levels.
    X86 { levels: u32 },
    /// i386 with 64-bit entries.
    Pae,
    /// i386 with 32-bit entries, on a CPU without PSE-36.
    Plain32,
}

/// Memory as bytes at addresses, little endian.
pub trait Words {
    /// The `bytes` (4 or 8) at `pa`; nothing where there is no memory.
    fn word(&self, pa: u64, bytes: u64) -> Option<u64>;
}

/// What an entry says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Says {
    /// Nothing: not valid.
    Nothing,
    /// Something that must not be.
    Malformed,
    /// A leaf that the architecture has and that Linux never makes: 512G with 4K pages, 64G, 4T.
    Huge,
    /// The next table is there.
    Table(u64),
    /// The memory from there on is mapped.
    Leaf(u64),
}

/// One entry that a walk read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Read {
    /// The table.
    pub table: u64,
    /// The entry's number.
    pub index: u64,
    /// log2 of the bytes that it maps.
    pub shift: u32,
    /// Its bits.
    pub raw: u64,
    /// Its meaning.
    pub says: Says,
}

/// Where a walk ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// At a byte of memory.
    Byte(u64),
    /// At an entry that says nothing.
    Hole,
    /// At an entry that must not be.
    Malformed,
    /// At a leaf of a size that Linux never makes.
    Huge,
    /// At a table outside memory.
    Outside,
}

/// Bit `number` of `raw`.
pub fn bit(raw: u64, number: u32) -> bool {
    raw >> number & 1 == 1
}

/// Bits `high` to `low` of `raw`, in place.
pub fn part(raw: u64, high: u32, low: u32) -> u64 {
    let above = if high == 63 { 0 } else { u64::MAX << (high + 1) };
    raw & !above & u64::MAX << low
}

impl Tables {
    /// The tables that a kernel of that format has.
    pub fn of(format: Format) -> Self {
        match format {
            Format::Arm64(geometry) => {
                Self::Arm64 { page: geometry.granule().bytes().trailing_zeros(), bits: geometry.va_bits() }
            }
            Format::X86Level4 => Self::X86 { levels: 4 },
            Format::X86Level5 => Self::X86 { levels: 5 },
            Format::I386Pae => Self::Pae,
            Format::I386Level2 => Self::Plain32,
            other => panic!("no manual of {other:?}"),
        }
    }

    /// log2 of a page.
    pub fn page(self) -> u32 {
        match self {
            Self::Arm64 { page, .. } => page,
            _ => 12,
        }
    }

    /// Bytes of an entry.
    pub fn entry(self) -> u64 {
        if self == Self::Plain32 { 4 } else { 8 }
    }

    /// Address bits that are translated.
    pub fn bits(self) -> u32 {
        match self {
            Self::Arm64 { bits, .. } => bits,
            Self::X86 { levels } => 12 + 9 * levels,
            Self::Pae | Self::Plain32 => 32,
        }
    }

    /// Index bits of the levels below the root's.
    fn index_bits(self) -> u32 {
        if self == Self::Plain32 { 10 } else { self.page() - 3 }
    }

    /// The levels, root first: log2 of what an entry maps, and the index bits.
    pub fn levels(self) -> Vec<(u32, u32)> {
        let (mut shift, mut levels) = (self.page(), Vec::new());
        while shift < self.bits() {
            let bits = self.index_bits().min(self.bits() - shift);
            levels.push((shift, bits));
            shift += bits;
        }
        levels.reverse();
        levels
    }

    /// Whether 52-bit addresses are in the form of LPA2.
    fn is_lpa2(self) -> bool {
        matches!(self, Self::Arm64 { page: 12 | 14, bits: 52 })
    }

    /// The address in an arm64 descriptor, aligned to `1 << size`.
    fn arm64_address(self, raw: u64, size: u32) -> u64 {
        match self {
            Self::Arm64 { page: 16, .. } => part(raw, 47, size) | part(raw, 15, 12) << 36,
            _ if self.is_lpa2() => part(raw, 49, size) | part(raw, 9, 8) << 42,
            _ => part(raw, 47, size),
        }
    }

    /// The bits of an entry that hold the address `pa`.
    pub fn place(self, pa: u64) -> u64 {
        match self {
            Self::Arm64 { page: 16, .. } => part(pa, 47, 0) | part(pa, 51, 48) >> 36,
            _ if self.is_lpa2() => part(pa, 49, 0) | part(pa, 51, 50) >> 42,
            _ => pa,
        }
    }

    /// What the entry `raw` says, where an entry maps `1 << shift` bytes.
    pub fn says(self, raw: u64, shift: u32) -> Says {
        if !bit(raw, 0) {
            return Says::Nothing;
        }
        match self {
            Self::Arm64 { page, .. } => self.arm64(raw, shift, page),
            Self::X86 { .. } => wide_x86(raw, shift),
            Self::Pae if shift == 30 => match part(raw, 2, 1) | part(raw, 8, 5) | part(raw, 63, 52) {
                0 => Says::Table(part(raw, 51, 12)),
                _ => Says::Malformed,
            },
            Self::Pae if part(raw, 62, 52) != 0 => Says::Malformed,
            Self::Pae => wide_x86(raw, shift),
            Self::Plain32 if shift == 12 => Says::Leaf(part(raw, 31, 12)),
            Self::Plain32 if !bit(raw, 7) => Says::Table(part(raw, 31, 12)),
            Self::Plain32 if part(raw, 21, 13) != 0 => Says::Malformed,
            Self::Plain32 => Says::Leaf(part(raw, 31, 22)),
        }
    }

    fn arm64(self, raw: u64, shift: u32, page: u32) -> Says {
        match (bit(raw, 1), shift) {
            (true, _) if shift == page => Says::Leaf(self.arm64_address(raw, page)),
            (true, _) => Says::Table(self.arm64_address(raw, page)),
            // Blocks of level 2 with every page size; of level 1 with 4K pages.
            (false, 21 | 30) if page == 12 => Says::Leaf(self.arm64_address(raw, shift)),
            (false, 25) if page == 14 => Says::Leaf(self.arm64_address(raw, shift)),
            (false, 29) if page == 16 => Says::Leaf(self.arm64_address(raw, shift)),
            // One level higher with large addresses.
            (false, 39) if page == 12 && self.is_lpa2() => Says::Huge,
            (false, 36) if page == 14 && self.is_lpa2() => Says::Huge,
            (false, 42) if page == 16 => Says::Huge,
            (false, _) => Says::Malformed,
        }
    }

    /// The entry for `va` in a table where an entry maps `1 << shift` bytes.
    pub fn index(va: u64, (shift, bits): (u32, u32)) -> u64 {
        (va >> shift) % (1 << bits)
    }

    /// The entries that are read for `va`, and where that ends.
    pub fn walk(self, memory: &impl Words, root: u64, va: u64) -> (Vec<Read>, End) {
        let (mut table, mut reads) = (root, Vec::new());
        for level in self.levels() {
            let (index, shift) = (Self::index(va, level), level.0);
            let Some(raw) = memory.word(table + index * self.entry(), self.entry()) else {
                return (reads, End::Outside);
            };
            let says = self.says(raw, shift);
            reads.push(Read { table, index, shift, raw, says });
            match says {
                Says::Nothing => return (reads, End::Hole),
                Says::Malformed => return (reads, End::Malformed),
                Says::Huge => return (reads, End::Huge),
                Says::Leaf(base) => return (reads, End::Byte(base + va % (1 << shift))),
                Says::Table(next) => table = next,
            }
        }
        unreachable!("the last level has no tables")
    }

    /// Every entry that maps something of `first..=last`, with the first address that it maps there, in order; a
    /// table outside memory has none.
    pub fn below(self, memory: &impl Words, root: u64, first: u64, last: u64) -> Vec<(u64, Read)> {
        let mut all = Vec::new();
        self.collect(memory, root, &self.levels(), (first, last), &mut all);
        all
    }

    fn collect(
        self,
        memory: &impl Words,
        table: u64,
        levels: &[(u32, u32)],
        (first, last): (u64, u64),
        all: &mut Vec<(u64, Read)>,
    ) {
        let level = levels[0];
        let highest = Self::index(last, level);
        if memory.word(table + highest * self.entry(), self.entry()).is_none() {
            return;
        }
        for index in Self::index(first, level)..=highest {
            let start = (first >> level.0 >> level.1 << level.1 | index) << level.0;
            let (from, to) = (start.max(first), (start | ((1 << level.0) - 1)).min(last));
            let raw = memory.word(table + index * self.entry(), self.entry()).expect("its end is memory");
            let says = self.says(raw, level.0);
            all.push((from, Read { table, index, shift: level.0, raw, says }));
            if let Says::Table(next) = says {
                self.collect(memory, next, &levels[1..], (from, to), all);
            }
        }
    }
}

/// A 64-bit entry of x86, less what PAE has of its own.
fn wide_x86(raw: u64, shift: u32) -> Says {
    match (shift, bit(raw, 7)) {
        (12, _) => Says::Leaf(part(raw, 51, 12)),
        (_, false) => Says::Table(part(raw, 51, 12)),
        (21 | 30, true) if part(raw, shift - 1, 13) != 0 => Says::Malformed,
        (21 | 30, true) => Says::Leaf(part(raw, 51, shift)),
        (_, true) => Says::Malformed,
    }
}
