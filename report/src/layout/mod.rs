//! The regions as the kernel's documentation prints them.
//!
//! * [`Table`]: one kernel's regions, whatever its architecture, and what moved.
//! * [`arm64_table`], [`print_arm64`], [`print_arm64_eras`]; [`x86_table`], [`print_x86`]; [`i386_table`],
//!   [`print_i386`].
//! * [`json`]: tables for programs. A further architecture is one file that makes a [`Table`] and prints it.
//!
//! Descriptions are ours: names, addresses and sizes are Linux's.
//!
//! Source: Linux 5.10, 6.1 Documentation/arm64/memory.rst; 6.12 Documentation/arch/arm64/memory.rst; 5.10–7.2
//! Documentation/x86/x86_64/mm.rst.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use kernmem_base::{Era, VirtAddr, VirtRange};

use crate::json::Json;

mod arm64;
mod i386;
mod x86;

pub use arm64::{print as print_arm64, print_eras as print_arm64_eras, rows as arm64_rows, size, table as arm64_table};
pub use i386::{print as print_i386, rows as i386_rows, table as i386_table};
pub use x86::{print as print_x86, rows as x86_rows, table as x86_table};

/// A row of a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Row {
    /// The addresses.
    pub range: VirtRange,
    /// What they are for.
    pub what: &'static str,
    /// Whether the region lies inside the row before it.
    pub inside: bool,
}

/// An address that a seed moved.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Moved {
    /// What is there, and how it came there.
    pub what: String,
    /// The address.
    pub va: VirtAddr,
}

/// The regions of one kernel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Table {
    /// The branch.
    pub era: Era,
    /// The architecture's name.
    pub arch: &'static str,
    /// Bytes of a page.
    pub page_bytes: u64,
    /// Levels of tables in use.
    pub levels: u32,
    /// Address bits that the kernel is built for.
    pub va_bits: u32,
    /// Address bits in use.
    pub va_bits_in_use: u32,
    /// KASAN's mode.
    pub kasan: &'static str,
    /// The regions, lowest first.
    pub rows: Vec<Row>,
    /// What a seed moved.
    pub moved: Vec<Moved>,
}

/// What is said of an era whose rules were not read from its own sources.
///
/// | era | read from |
/// |---|---|
/// | 4.14 | documents and headers derived from it; on arm64 it is the one with the linear map in the upper half |
/// | 5.10 and later | the sources of a point release |
fn unverified(era: Era, arch: &str) -> Option<&'static str> {
    match era {
        Era::V4_14 if arch == "arm64" => Some("before the halves were flipped in 5.4; from documents, unverified"),
        Era::V4_14 => Some("from documents, unverified"),
        Era::V5_10 | Era::V6_1 | Era::V6_12 | Era::V7_2 => None,
    }
}

/// A table's era as headings name it.
fn era_title(table: &Table) -> String {
    let era = table.era;
    match unverified(era, table.arch) {
        Some(note) => format!("Linux {era} ({note})"),
        None => format!("Linux {era}"),
    }
}

/// Prints what moved, behind a table.
fn print_moved(moved: &[Moved], out: &mut impl fmt::Write) -> fmt::Result {
    if moved.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n  Moved:")?;
    moved.iter().try_for_each(|one| writeln!(out, "  {:016x}\t{}", one.va.0, one.what))
}

/// Tables as JSON, schema `kernmem.layout`, one object for each.
///
/// # Errors
/// The writer failed.
pub fn json(tables: &[Table], out: &mut impl fmt::Write) -> fmt::Result {
    let mut json = Json::new(out);
    json.answer("kernmem.layout")?;
    json.open(Some("layouts"), '[')?;
    for table in tables {
        json.open(None, '{')?;
        json.text("era", table.era.name())?;
        json.text("arch", table.arch)?;
        json.number("page_size", table.page_bytes)?;
        json.number("levels", table.levels.into())?;
        json.number("va_bits", table.va_bits.into())?;
        json.number("va_bits_in_use", table.va_bits_in_use.into())?;
        json.text("kasan", table.kasan)?;
        if let Some(note) = unverified(table.era, table.arch) {
            json.text("unverified", note)?;
        }
        json.open(Some("regions"), '[')?;
        for row in &table.rows {
            json.open(None, '{')?;
            json.hex("start", row.range.start.0)?;
            json.hex("last", row.range.last.0)?;
            json.number("size", row.range.size())?;
            json.text("use", row.what)?;
            json.close('}')?;
        }
        json.close(']')?;
        json.open(Some("moved"), '[')?;
        for one in &table.moved {
            json.open(None, '{')?;
            json.hex("address", one.va.0)?;
            json.text("what", &one.what)?;
            json.close('}')?;
        }
        json.close(']')?;
        json.close('}')?;
    }
    json.close(']')?;
    json.finish()
}
