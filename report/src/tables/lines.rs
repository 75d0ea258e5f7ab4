//! A row a line: for people, for spreadsheets, for programs.

use alloc::string::{String, ToString};
use core::fmt::{self, Write};

use kernmem_arch::named;
use kernmem_base::Size;
use kernmem_view::KernelView;

use super::{Kind, Row, Selection, fields, rows};
use crate::json::Json;
use crate::ptdump::ListingError;

/// The fields of a row's first entry that say something: `AF SH=inner PXN`.
fn names<V: KernelView>(view: &V, row: &Row) -> String {
    let mut text = String::new();
    let raw = row.first.raw;
    if raw == 0 {
        return text;
    }
    let fields = fields(view.format(), view.era(), row.first.level, &row.entry);
    for field in named(fields, raw) {
        let gap = if text.is_empty() { "" } else { " " };
        // A text in memory takes everything.
        let _ = match (field.value_name(raw), field.values.is_empty(), field.width) {
            (Some(value), _, _) => write!(text, "{gap}{}={value}", field.name),
            (None, true, 1) => write!(text, "{gap}{}", field.name),
            (None, _, _) => write!(text, "{gap}{}={}", field.name, field.value(raw)),
        };
    }
    text
}

/// The level, with the group for contiguous leaves.
fn level(row: &Row) -> &'static str {
    row.first.level.name()
}

/// A line for each table and each run of leaves, with the raw bits of the first entry and its address.
///
/// # Errors
/// There is no such tree, or the writer failed.
pub fn table<V: KernelView>(view: &V, selection: &Selection, out: &mut impl fmt::Write) -> Result<(), ListingError> {
    writeln!(
        out,
        "{:<37}  {:<4} {:<9} {:>5} {:>7}  {:<14}  {:<18}  {:<14}  bits",
        "addresses", "", "", "size", "entries", "memory", "first entry", "at"
    )?;
    rows(view, selection, |row| {
        let range = row.range();
        write!(out, "{:#018x}-{:#018x}  {:<4} {:<9} ", range.start.0, range.last.0, level(row), row.kind.name())?;
        if let Some(error) = row.error {
            return writeln!(out, "{error}");
        }
        let size = Size(row.first.bytes).to_string();
        write!(out, "{size:>5} {:>7}  ", row.count)?;
        match row.memory() {
            Some(pa) => write!(out, "{:#014x}", pa.0)?,
            None => write!(out, "{:<14}", "-")?,
        }
        let line = names(view, row);
        write!(out, "  {:#018x}  {:#014x}", row.first.raw, row.first.at.0)?;
        if line.is_empty() { writeln!(out) } else { writeln!(out, "  {line}") }
    })
}

/// The same as comma-separated values with a line of names.
///
/// # Errors
/// As [`table`].
pub fn csv<V: KernelView>(view: &V, selection: &Selection, out: &mut impl fmt::Write) -> Result<(), ListingError> {
    writeln!(out, "kind,start,last,level,entry_size,entries,memory,first_entry,entry_address,contiguous,bits")?;
    rows(view, selection, |row| {
        let range = row.range();
        let (kind, level, first) = (row.kind.name(), level(row), &row.first);
        write!(out, "{kind},{:#x},{:#x},{level},{},{},", range.start.0, range.last.0, first.bytes, row.count)?;
        if let Some(pa) = row.memory() {
            write!(out, "{:#x}", pa.0)?;
        }
        writeln!(out, ",{:#x},{:#x},{},{}", first.raw, first.at.0, first.contiguous, names(view, row))
    })
}

/// The same as JSON, schema `kernmem.ptdump`.
///
/// # Errors
/// As [`table`].
pub fn json<V: KernelView>(view: &V, selection: &Selection, out: &mut impl fmt::Write) -> Result<(), ListingError> {
    super::root_table(view, selection)?;
    let mut json = Json::new(out);
    json.answer("kernmem.ptdump")?;
    json.text("era", view.era().name())?;
    json.text("format", view.format().shape().to_string().as_str())?;
    json.open(Some("rows"), '[')?;
    rows(view, selection, |row| {
        let (range, first) = (row.range(), &row.first);
        json.open(None, '{')?;
        json.text("kind", row.kind.name())?;
        json.hex("start", range.start.0)?;
        json.hex("last", range.last.0)?;
        json.text("level", level(row))?;
        if let Some(error) = row.error {
            json.text("error", &error.to_string())?;
            return json.close('}');
        }
        json.number("entry_size", first.bytes)?;
        json.number("entries", row.count)?;
        if let Some(pa) = row.memory() {
            json.hex("memory", pa.0)?;
        }
        json.hex("first_entry", first.raw)?;
        json.hex("entry_address", first.at.0)?;
        if row.kind == Kind::Leaf {
            json.truth("contiguous", first.contiguous)?;
        }
        json.open(Some("bits"), '[')?;
        names(view, row).split(' ').filter(|name| !name.is_empty()).try_for_each(|name| json.item(name))?;
        json.close(']')?;
        json.close('}')
    })?;
    json.close(']')?;
    Ok(json.finish()?)
}
