//! One mapping in several eras: what the same boot makes of the same thing, why, and what that costs.
//!
//! The same thing is memory in the linear map, a place in the image, or a page descriptor: its address differs from era
//! to era, and is looked up in each. Anything else is a place of one era's layout: it is compared where both eras have
//! the same region there.
//!
//! Here: the thing, a row for each era, the page. Not here: booting the eras (the faces).

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use kernmem_base::{Era, Level, PhysAddr, Size, VirtAddr, VirtRange};
use kernmem_view::census::census;
use kernmem_view::explain::Story;
use kernmem_view::{KernelView, RootKind};

use super::sentences::reason;
use super::{Question, descriptor, linear, memory_of_linear, region_names, story, symbol_address};
use crate::boot_report::{about, leaf_name};
use crate::json::Json;
use crate::regions::{self, Region};

/// What is looked at in every era.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Thing {
    /// Memory, by its address in the linear map.
    Memory(PhysAddr),
    /// So many bytes behind `_text`.
    Image(u64),
    /// A byte of the page descriptors: so many behind those of frame 0.
    Descriptor(u64),
    /// A place in a region of the layout.
    Place(VirtAddr, &'static str),
}

/// The smallest region around `va`.
fn region_of<V: KernelView>(view: &V, va: VirtAddr) -> Option<Region> {
    let around = regions::of(view).into_iter().filter(|region| region.range.contains(va));
    around.min_by_key(|region| region.range.size())
}

/// Where the descriptor of frame 0 is, or would be.
fn first_descriptor<V: KernelView>(view: &V, question: &Question<'_>) -> Option<VirtAddr> {
    let bytes = question.config.sizes.get("sizeof_page").unwrap_or(64);
    descriptor(view, PhysAddr(0).pfn(view.granule()), bytes)
}

impl Thing {
    /// What `va` is in this kernel; `None` if no region has it.
    #[must_use]
    pub fn at<V: KernelView>(view: &V, question: &Question<'_>, va: VirtAddr) -> Option<Self> {
        // What is mapped of the image begins with another symbol in each era: its text is what they share.
        if view.image().known().is_some_and(|(image, _)| image.contains(va))
            && let Some(text) = symbol_address(view, question.config, "_text")
        {
            return Some(Self::Image(va.0.wrapping_sub(text.0)));
        }
        let region = region_of(view, va)?;
        let place = Some(Self::Place(va, region.key));
        match region.key {
            "linear" => memory_of_linear(view, va).map(Self::Memory),
            "vmemmap" => first_descriptor(view, question)
                .map_or(place, |first| Some(Self::Descriptor(va.0.wrapping_sub(first.0)))),
            _ => place,
        }
    }

    /// Its address in this kernel; `None` if it has no counterpart.
    #[must_use]
    pub fn address<V: KernelView>(&self, view: &V, question: &Question<'_>) -> Option<VirtAddr> {
        match *self {
            Self::Memory(pa) => linear(view, pa),
            Self::Image(offset) => symbol_address(view, question.config, "_text").map(|text| text.wrapping_add(offset)),
            Self::Descriptor(offset) => first_descriptor(view, question).map(|first| first.wrapping_add(offset)),
            Self::Place(va, key) => region_of(view, va).filter(|region| region.key == key).map(|_| va),
        }
    }
}

/// The leaf of one era.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Leaf {
    /// Its bytes; those of the whole group if it is one of a contiguous group.
    pub bytes: u64,
    /// Its level.
    pub level: Level,
    /// Why it is no larger, as sentences.
    pub reasons: Vec<String>,
    /// Each of the reasons alone suffices; otherwise they do it together.
    pub each_suffices: bool,
}

/// What one era makes of the thing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// Where it is.
    pub address: VirtAddr,
    /// The regions around it.
    pub regions: String,
    /// Its leaf; `None` if nothing is mapped.
    pub leaf: Option<Leaf>,
    /// The region by which costs are counted, and its cost.
    pub cost: Option<Cost>,
}

/// What a region takes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cost {
    /// The region's name.
    pub region: &'static str,
    /// Its leaves by size, largest first: name and bytes.
    pub leaves: Vec<(String, u64)>,
    /// Bytes of its tables, the root included.
    pub table_bytes: u64,
    /// Its tables, the root included.
    pub tables: u64,
    /// TLB entries that reach all of it.
    pub tlb_entries: u64,
}

impl Cost {
    /// Bytes that one TLB entry reaches on average.
    #[must_use]
    pub fn reach(&self) -> u64 {
        self.leaves.iter().map(|(_, bytes)| bytes).sum::<u64>() / self.tlb_entries.max(1)
    }
}

/// An era's row: what it makes of the thing, or why that is not known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    /// The era.
    pub era: Era,
    /// The name of its kernel, if that era has its own, built-in one.
    pub kernel: Option<&'static str>,
    /// What was found, or the reason why this kernel does not boot in this era.
    pub found: Result<Found, String>,
}

/// The cost of the ranges that the kernel maps.
pub(crate) fn cost_of<V: KernelView>(view: &V, region: &'static str, range: VirtRange) -> Option<Cost> {
    let counted = census(view, RootKind::Kernel, &[range]).ok()?;
    Some(Cost {
        region,
        leaves: counted.leaves.iter().map(|leaf| (leaf_name(&leaf.size), leaf.bytes)).collect(),
        table_bytes: counted.bytes_of_tables(),
        tables: counted.table_count(),
        tlb_entries: counted.tlb_entries(),
    })
}

/// What this kernel makes of the thing.
///
/// # Errors
/// It has no counterpart here, or a table cannot be read: why.
pub fn look<V: KernelView>(view: &V, question: &Question<'_>, thing: &Thing) -> Result<Found, String> {
    let none = || String::from("this place belongs to another era's layout: it has no counterpart here");
    let address = thing.address(view, question).ok_or_else(none)?;
    let leaf = match story(view, question, address).map_err(|error| format!("a table cannot be read: {error}"))? {
        Some(Story::Leaf(leaf)) => Some(Leaf {
            bytes: leaf.range.size(),
            level: leaf.level,
            reasons: leaf.size.iter().map(|one| reason(*one)).collect(),
            each_suffices: leaf.each_suffices,
        }),
        Some(Story::Hole { .. } | Story::Malformed { .. }) | None => None,
    };
    let cost = region_of(view, address).and_then(|region| cost_of(view, region.name, region.range));
    Ok(Found { address, regions: region_names(view, address), leaf, cost })
}

/// The sentence about the image that all rows share; `rows` are eras and the names of their built-in kernels.
pub fn whose(own: Era, rows: impl Iterator<Item = (Era, Option<&'static str>)> + Clone) -> String {
    let kernels: Vec<&str> = rows.clone().filter_map(|(_, kernel)| kernel).collect();
    if kernels.is_empty() {
        return format!(
            "machine, configuration, command line and image are those of the given kernel (Linux {own}); each era links \
             the image where it links its own"
        );
    }
    let moved: Vec<&str> = rows.filter(|(_, kernel)| kernel.is_none()).map(|(era, _)| era.name()).collect();
    let own_kernels = "machine and command line are the same; each era has its own, built-in kernel";
    let others = match moved.is_empty() {
        true => String::new(),
        false => {
            format!("; in {} the image is that of {own}, linked where that era links its own", moved.join(" and "))
        }
    };
    format!("{own_kernels} ({}){others}", kernels.join(", "))
}

fn leaf_text(leaf: Option<&Leaf>) -> String {
    leaf.map_or_else(|| String::from("not mapped"), |leaf| format!("{} {}", Size(leaf.bytes), leaf.level))
}

/// Prints the rows; `own` is the era of the given kernel.
///
/// # Errors
/// The writer failed.
pub fn print(va: VirtAddr, own: Era, rows: &[Row], out: &mut impl fmt::Write) -> fmt::Result {
    writeln!(out, "{:#018x} in every era", va.0)?;
    writeln!(out, "  {}\n", whose(own, rows.iter().map(|row| (row.era, row.kernel))))?;
    writeln!(
        out,
        "  {:<6} {:<18} {:<12} {:>12} {:>8} {:>12}",
        "era", "address", "leaf", "table bytes", "tables", "TLB entries"
    )?;
    for row in rows {
        let mark = if row.era == own { "*" } else { "" };
        let era = format!("{}{mark}", row.era);
        match &row.found {
            Err(why) => writeln!(out, "  {era:<6} not modelled for this kernel: {why}")?,
            Ok(found) => {
                let leaf = leaf_text(found.leaf.as_ref());
                let (bytes, tables, tlb) = found.cost.as_ref().map_or_else(Default::default, |cost| {
                    (about(cost.table_bytes), format!("{}", cost.tables), format!("{}", cost.tlb_entries))
                });
                writeln!(out, "  {era:<6} {:#018x} {leaf:<12} {bytes:>12} {tables:>8} {tlb:>12}", found.address.0)?;
            }
        }
    }
    writeln!(out, "  * the era of the given kernel; tables and TLB entries are those of the whole region")?;
    rows.iter().try_for_each(|row| details(row, out))
}

/// Why the leaf is no larger, and what the region is made of.
fn details(row: &Row, out: &mut impl fmt::Write) -> fmt::Result {
    let Ok(found) = &row.found else { return Ok(()) };
    writeln!(out, "\nLinux {}: {}", row.era, found.regions)?;
    if let Some(leaf) = &found.leaf {
        leaf.reasons.iter().try_for_each(|reason| writeln!(out, "  - {reason}"))?;
        if leaf.reasons.is_empty() {
            writeln!(out, "  - the record of the boot does not know this mapping")?;
        }
        if leaf.reasons.len() > 1 && !leaf.each_suffices {
            writeln!(out, "  (together they forbid every larger size)")?;
        }
    }
    let Some(cost) = &found.cost else { return Ok(()) };
    let parts: Vec<String> = cost.leaves.iter().map(|(name, bytes)| format!("{} as {name}", about(*bytes))).collect();
    let parts = if parts.is_empty() { String::from("nothing is mapped") } else { parts.join(", ") };
    writeln!(out, "  {}: {parts}; one TLB entry reaches {} on average", cost.region, about(cost.reach()))
}

/// The rows as JSON, schema `kernmem.explain-eras`.
///
/// # Errors
/// The writer failed.
pub fn json(va: VirtAddr, own: Era, rows: &[Row], out: &mut impl fmt::Write) -> fmt::Result {
    let mut json = Json::new(out);
    json.answer("kernmem.explain-eras")?;
    json.hex("address", va.0)?;
    json.text("own_era", own.name())?;
    json.text("image", &whose(own, rows.iter().map(|row| (row.era, row.kernel))))?;
    json.open(Some("eras"), '[')?;
    for row in rows {
        json.open(None, '{')?;
        json.text("era", row.era.name())?;
        json.truth("modelled", row.found.is_ok())?;
        match &row.found {
            Err(why) => json.text("why_not", why)?,
            Ok(found) => {
                row.kernel.map_or(Ok(()), |kernel| json.text("kernel", kernel))?;
                found_json(found, &mut json)?;
            }
        }
        json.close('}')?;
    }
    json.close(']')?;
    json.finish()
}

fn found_json<W: fmt::Write>(found: &Found, json: &mut Json<'_, W>) -> fmt::Result {
    json.hex("address", found.address.0)?;
    json.text("region", &found.regions)?;
    json.truth("mapped", found.leaf.is_some())?;
    if let Some(leaf) = &found.leaf {
        json.number("size", leaf.bytes)?;
        json.text("level", leaf.level.name())?;
        json.open(Some("size_reasons"), '[')?;
        leaf.reasons.iter().try_for_each(|reason| json.item(reason))?;
        json.close(']')?;
    }
    match &found.cost {
        Some(cost) => cost_json(cost, json),
        None => Ok(()),
    }
}

pub(crate) fn cost_json<W: fmt::Write>(cost: &Cost, json: &mut Json<'_, W>) -> fmt::Result {
    json.open(Some("cost"), '{')?;
    json.text("region", cost.region)?;
    json.number("table_bytes", cost.table_bytes)?;
    json.number("tables", cost.tables)?;
    json.number("tlb_entries", cost.tlb_entries)?;
    json.number("bytes_of_tlb_entry", cost.reach())?;
    json.open(Some("leaves"), '{')?;
    cost.leaves.iter().try_for_each(|(name, bytes)| json.number(name, *bytes))?;
    json.close('}')?;
    json.close('}')
}
