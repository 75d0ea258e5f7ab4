//! The linear map of one machine in several eras: what it is made of, and what it costs.
//!
//! Here: a row for each era, and the page. Not here: booting the eras (the faces), one mapping in several eras
//! (`explain::eras`).

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use kernmem_base::Era;
use kernmem_view::census::census;
use kernmem_view::entries::root_ranges;
use kernmem_view::{KernelView, RootKind};

use crate::boot_report::about;
use crate::explain::eras::{Cost, cost_json, cost_of, whose};
use crate::json::Json;
use crate::regions;

/// One era's linear map, and all of its tables.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Linear {
    /// The linear map.
    pub cost: Cost,
    /// Bytes of all of the kernel's tables.
    pub all_table_bytes: u64,
}

/// An era's row: its linear map, or why that is not known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    /// The era.
    pub era: Era,
    /// The name of its kernel, if that era has its own, built-in one.
    pub kernel: Option<&'static str>,
    /// The linear map, or the reason why this kernel does not boot in this era.
    pub linear: Result<Linear, String>,
}

/// The linear map of a kernel.
///
/// # Errors
/// It has none, or no tables: why.
pub fn look<V: KernelView>(view: &V) -> Result<Linear, String> {
    let none = || String::from("this kernel has no linear map");
    let region = regions::of(view).into_iter().find(|region| region.key == "linear").ok_or_else(none)?;
    let cost = cost_of(view, region.name, region.range).ok_or_else(none)?;
    let all = census(view, RootKind::Kernel, &root_ranges(view.format(), RootKind::Kernel))?;
    Ok(Linear { cost, all_table_bytes: all.bytes_of_tables() })
}

/// Prints the rows; `own` is the era of the given kernel.
///
/// # Errors
/// The writer failed.
pub fn print(name: &str, own: Era, rows: &[Row], out: &mut impl fmt::Write) -> fmt::Result {
    writeln!(out, "The linear map of {name} in every era")?;
    writeln!(out, "  {}\n", whose(own, rows.iter().map(|row| (row.era, row.kernel))))?;
    writeln!(out, "  {:<6} {:>10} {:>12} {:>12}  made of", "era", "its tables", "all tables", "TLB entries")?;
    for row in rows {
        let mark = if row.era == own { "*" } else { "" };
        let era = format!("{}{mark}", row.era);
        match &row.linear {
            Err(why) => writeln!(out, "  {era:<6} not modelled for this kernel: {why}")?,
            Ok(Linear { cost, all_table_bytes }) => {
                let parts: Vec<String> =
                    cost.leaves.iter().map(|(name, bytes)| format!("{} as {name}", about(*bytes))).collect();
                let (own, all) = (about(cost.table_bytes), about(*all_table_bytes));
                writeln!(out, "  {era:<6} {own:>10} {all:>12} {:>12}  {}", cost.tlb_entries, parts.join(", "))?;
            }
        }
    }
    writeln!(out, "  * the era of the given kernel")
}

/// The rows as JSON, schema `kernmem.boot-eras`.
///
/// # Errors
/// The writer failed.
pub fn json(name: &str, own: Era, rows: &[Row], out: &mut impl fmt::Write) -> fmt::Result {
    let mut json = Json::new(out);
    json.answer("kernmem.boot-eras")?;
    json.text("source", name)?;
    json.text("own_era", own.name())?;
    json.text("image", &whose(own, rows.iter().map(|row| (row.era, row.kernel))))?;
    json.open(Some("eras"), '[')?;
    for row in rows {
        json.open(None, '{')?;
        json.text("era", row.era.name())?;
        json.truth("modelled", row.linear.is_ok())?;
        match &row.linear {
            Err(why) => json.text("why_not", why)?,
            Ok(Linear { cost, all_table_bytes }) => {
                row.kernel.map_or(Ok(()), |kernel| json.text("kernel", kernel))?;
                json.number("all_table_bytes", *all_table_bytes)?;
                cost_json(cost, &mut json)?;
            }
        }
        json.close('}')?;
    }
    json.close(']')?;
    json.finish()
}
