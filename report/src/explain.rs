//! What an address is, and why it is mapped as it is: the sentences for each reason, and the page that they stand on.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use kernmem_arch::arm64::kaslr::linear_address;
use kernmem_arch::{Entry, Opt};
use kernmem_base::{BusError, Granule, Pfn, PhysAddr, Size, VirtAddr, VirtRange};
use kernmem_config::Config;
use kernmem_view::entries::walk;
use kernmem_view::explain::{self, LeafStory, Story};
use kernmem_view::proc::arm64_segments;
use kernmem_view::{BootRecord, KernelView, LayoutView, RootKind};

use crate::json::Json;
use crate::regions;
use crate::warnings;

pub mod eras;
mod sentences;

use sentences::{area, note, reason};

/// What is explained.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The kernel's configuration, for symbols and for words that it refused.
    pub config: &'a Config,
    /// The record of the boot.
    pub record: &'a BootRecord,
}

/// The frame of `pa`.
const fn frame(pa: PhysAddr, granule: Granule) -> Pfn {
    pa.pfn(granule)
}

/// The memory that `va` reaches in the kernel's tables.
fn memory_of<V: KernelView>(view: &V, va: VirtAddr) -> Option<PhysAddr> {
    let root = view.root(RootKind::Kernel).known().filter(|_| is_translated(view, va))?;
    let steps = walk(view, root, va).ok()?;
    let last = steps.last()?;
    match last.entry {
        Entry::Leaf { base, .. } => Some(PhysAddr(base.0.wrapping_add(va.0 & (last.place.bytes - 1)))),
        Entry::Absent { .. } | Entry::Table { .. } | Entry::Reserved { .. } => None,
    }
}

/// The address of `pa` in the linear map's region, mapped or not.
#[must_use]
pub fn linear<V: KernelView>(view: &V, pa: PhysAddr) -> Option<VirtAddr> {
    match view.layout() {
        LayoutView::Arm64 { layout, memstart } => Some(linear_address(layout, memstart, pa.0)),
        LayoutView::X86 { layout, .. } => Some(layout.direct(pa)),
        _ => None,
    }
}

/// The memory that the linear map has at `va`, mapped or not: the other way round.
fn memory_of_linear<V: KernelView>(view: &V, va: VirtAddr) -> Option<PhysAddr> {
    match view.layout() {
        LayoutView::Arm64 { layout, memstart } => Some(PhysAddr((va - layout.page_offset).wrapping_add(memstart))),
        LayoutView::X86 { layout, .. } => Some(PhysAddr(va - layout.page_offset)),
        _ => None,
    }
}

/// The image's addresses and the memory behind the first of them: the image is one piece of memory.
fn image<V: KernelView>(view: &V) -> Option<(VirtRange, PhysAddr)> {
    let (range, _) = view.image().known()?;
    Some((range, memory_of(view, range.start)?))
}

/// The page descriptor of a frame.
fn descriptor<V: KernelView>(view: &V, pfn: Pfn, bytes: u64) -> Option<VirtAddr> {
    match view.layout() {
        LayoutView::Arm64 { layout, memstart } => {
            // The shift is arithmetic: memory may start below zero.
            let first = ((memstart as i64) >> view.granule().shift()) as u64;
            Some(layout.vmemmap_start.wrapping_add(pfn.0.wrapping_sub(first).wrapping_mul(bytes)))
        }
        LayoutView::X86 { layout, .. } => Some(layout.descriptor(pfn, bytes)),
        _ => None,
    }
}

/// How far the image was moved from where it was linked. On arm64 6.1 alone maps it from `_stext` on.
fn displacement<V: KernelView>(view: &V, config: &Config) -> Option<u64> {
    let (range, _) = view.image().known()?;
    let first = match view.layout() {
        LayoutView::Arm64 { .. } => {
            let [code, _] = arm64_segments(view.era());
            code.start
        }
        _ => "_text",
    };
    Some(range.start.0.wrapping_sub(config.symbols.address(first)?.0))
}

/// The address of a symbol of the image; `None` if there is none, or if it is no place in the kernel's half.
#[must_use]
pub fn symbol_address<V: KernelView>(view: &V, config: &Config, name: &str) -> Option<VirtAddr> {
    let va = config.symbols.address(name)?.wrapping_add(displacement(view, config)?);
    (va.0 >> 63 == 1).then_some(va)
}

/// The symbol around an address of the image, with the distance from it.
fn symbol_at<V: KernelView>(view: &V, config: &Config, va: VirtAddr) -> Option<String> {
    view.image().known().filter(|(range, _)| range.contains(va))?;
    let linked = VirtAddr(va.0.wrapping_sub(displacement(view, config)?));
    let (symbol, offset) = config.symbols.lookup(linked)?;
    Some(format!("{}+{offset:#x}", symbol.name))
}

/// One more name of a piece of memory.
struct Alias {
    va: VirtAddr,
    what: &'static str,
    mapped: bool,
}

fn aliases<V: KernelView>(view: &V, pa: PhysAddr) -> Vec<Alias> {
    let mut all = Vec::new();
    let mut push = |va: VirtAddr, what| {
        let mapped = memory_of(view, va) == Some(pa);
        all.push(Alias { va, what, mapped });
    };
    if let Some(va) = linear(view, pa) {
        push(va, "linear map");
    }
    if let Some((range, first)) = image(view)
        && let Some(offset) = pa.0.checked_sub(first.0).filter(|offset| *offset < range.size())
    {
        push(range.start + offset, "kernel image");
    }
    all
}

/// What KASAN has to do with an address.
enum Shadow {
    /// It is shadow: of these addresses.
    Of(VirtRange),
    /// It has shadow, here.
    At(VirtAddr),
}

/// KASAN's shadow at `va`, or of it; `None` without a shadow.
fn shadow<V: KernelView>(view: &V, va: VirtAddr) -> Option<Shadow> {
    let LayoutView::Arm64 { layout, .. } = view.layout() else { return None };
    let (map, (start, end)) = (layout.shadow_map?, layout.kasan?);
    let inside = |at: VirtAddr| start <= at && at < end;
    if inside(va) {
        return Some(Shadow::Of(map.memory_of(VirtRange { start: va, last: va })));
    }
    Some(map.of(va)).filter(|at| va.0 >> 63 == 1 && inside(*at)).map(Shadow::At)
}

/// Who has the frame after boot.
fn owner<V: KernelView>(view: &V, pa: PhysAddr) -> &'static str {
    let inside = |regions: Vec<kernmem_memblock::Region>| regions.iter().any(|region| region.range().contains(pa));
    let memory = view.memory().known().is_some_and(inside);
    let reserved = view.reserved().known().is_some_and(inside);
    match (memory, reserved) {
        (false, _) => "no memory of this machine",
        (true, true) => "taken before the page allocator",
        (true, false) => "given to the page allocator",
    }
}

/// The regions around `va`, the smallest last.
fn region_names<V: KernelView>(view: &V, va: VirtAddr) -> String {
    let all = regions::of(view);
    let mut around: Vec<_> = all.iter().filter(|region| region.range.contains(va)).collect();
    around.sort_by_key(|region| core::cmp::Reverse(region.range.size()));
    let names: Vec<&str> = around.iter().map(|region| region.name).collect();
    match (names.is_empty(), va.0 >> 63) {
        (false, _) => names.join(" > "),
        (true, 0) => String::from("user mode's half"),
        (true, _) => String::from("between the regions"),
    }
}

/// The story of `va`.
///
/// # Errors
/// A table cannot be read.
fn story<V: KernelView>(view: &V, question: &Question<'_>, va: VirtAddr) -> Result<Option<Story>, BusError> {
    match view.root(RootKind::Kernel).known() {
        Some(root) if is_translated(view, va) => explain::leaf(view, question.record, root, va).map(Some),
        _ => Ok(None),
    }
}

/// Whether the kernel's root is asked for this address at all.
fn is_translated<V: KernelView>(view: &V, va: VirtAddr) -> bool {
    let ranges = kernmem_view::entries::root_ranges(view.format(), RootKind::Kernel);
    ranges.iter().any(|range| range.contains(va))
}

/// Options that a story names, each once, in order.
fn options(leaf: &LeafStory) -> Vec<Opt> {
    let mut all: Vec<Opt> = leaf.options().collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// The notes about options and refused words.
fn notes<V: KernelView>(view: &V, question: &Question<'_>, leaf: &LeafStory) -> Vec<String> {
    let named = options(leaf);
    let arch = question.config.arch;
    let mut all: Vec<String> = named.iter().map(|opt| note(*opt, view.era(), arch)).collect();
    all.extend(warnings::of(question.config).into_iter().map(|warning| format!("on this command line {warning}")));
    all
}

/// Explains `va`.
///
/// # Errors
/// The writer failed.
pub fn print<V: KernelView>(view: &V, question: &Question<'_>, va: VirtAddr, out: &mut impl fmt::Write) -> fmt::Result {
    writeln!(out, "{:#018x}  {}", va.0, region_names(view, va))?;
    if let Some(symbol) = symbol_at(view, question.config, va) {
        writeln!(out, "  symbol      {symbol}")?;
    }
    let pa = memory_of(view, va);
    if let Some(pa) = pa {
        memory(view, question, va, pa, out)?;
    }
    match shadow(view, va) {
        Some(Shadow::Of(memory)) => {
            let (start, last) = (memory.start.0, memory.last.0);
            writeln!(out, "  shadow of   {start:#018x}-{last:#018x}  {}", region_names(view, memory.start))?;
        }
        Some(Shadow::At(at)) => writeln!(out, "  shadow      {:#018x}  KASAN's byte for this address", at.0)?,
        None => {}
    }
    match story(view, question, va) {
        Err(error) => writeln!(out, "  a table cannot be read: {error}"),
        Ok(None) => writeln!(out, "  the kernel's tables do not translate this address"),
        Ok(Some(Story::Hole { level, range })) => {
            let (start, last) = (range.start.0, range.last.0);
            writeln!(out, "  nothing is mapped: the {level} entry for {start:#x}-{last:#x} is not valid")
        }
        Ok(Some(Story::Malformed { level, raw })) => writeln!(out, "  MALFORMED {level} entry {raw:#018x}"),
        Ok(Some(Story::Leaf(leaf))) => leaf_page(view, question, &leaf, out),
    }
}

fn memory<V: KernelView>(
    view: &V,
    question: &Question<'_>,
    va: VirtAddr,
    pa: PhysAddr,
    out: &mut impl fmt::Write,
) -> fmt::Result {
    let pfn = frame(pa, view.granule());
    writeln!(out, "  memory      {:#x}, frame {:#x}: {}", pa.0, pfn.0, owner(view, pa))?;
    for alias in aliases(view, pa).iter().filter(|alias| alias.va != va) {
        let state = if alias.mapped { "" } else { ", not mapped" };
        let symbol = symbol_at(view, question.config, alias.va).map_or(String::new(), |name| format!(" {name}"));
        writeln!(out, "  also at     {:#018x}  {}{symbol}{state}", alias.va.0, alias.what)?;
    }
    let bytes = question.config.sizes.get("sizeof_page").unwrap_or(64);
    if let Some(at) = descriptor(view, pfn, bytes) {
        let state = if memory_of(view, at).is_some() { "" } else { ", not mapped" };
        writeln!(out, "  descriptor  {:#018x}  struct page of the frame{state}", at.0)?;
    }
    Ok(())
}

fn leaf_page<V: KernelView>(
    view: &V,
    question: &Question<'_>,
    leaf: &LeafStory,
    out: &mut impl fmt::Write,
) -> fmt::Result {
    let (start, last) = (leaf.range.start.0, leaf.range.last.0);
    let size = Size(leaf.range.size());
    writeln!(out, "  mapping     {size} at {}: {start:#018x}-{last:#018x} -> {:#x}", leaf.level, leaf.pa.0)?;
    if let Some(what) = leaf.area {
        writeln!(out, "  made as     {}", area(what))?;
    }
    writeln!(out, "\nWhy it is no larger")?;
    leaf.size.iter().try_for_each(|one| writeln!(out, "  - {}", reason(*one)))?;
    if leaf.size.is_empty() {
        writeln!(out, "  - the record of the boot does not know this mapping")?;
    }
    if leaf.size.len() > 1 {
        let how = if leaf.each_suffices {
            "each of these alone would suffice"
        } else {
            "together they forbid every larger size"
        };
        writeln!(out, "  ({how})")?;
    }
    writeln!(out, "Why it has these rights")?;
    leaf.rights.iter().try_for_each(|one| writeln!(out, "  - {}", reason(*one)))?;
    if leaf.rights.is_empty() {
        writeln!(out, "  - the record of the boot does not know this mapping")?;
    }
    let notes = notes(view, question, leaf);
    if !notes.is_empty() {
        writeln!(out, "Options, in Linux {}", view.era())?;
    }
    notes.iter().try_for_each(|line| writeln!(out, "  - {line}"))
}

/// The explanation as JSON, schema `kernmem.explain`.
///
/// # Errors
/// The writer failed.
pub fn json<V: KernelView>(view: &V, question: &Question<'_>, va: VirtAddr, out: &mut impl fmt::Write) -> fmt::Result {
    let mut json = Json::new(out);
    json.answer("kernmem.explain")?;
    json.text("era", view.era().name())?;
    json.hex("address", va.0)?;
    json.text("region", &region_names(view, va))?;
    if let Some(symbol) = symbol_at(view, question.config, va) {
        json.text("symbol", &symbol)?;
    }
    if let Some(pa) = memory_of(view, va) {
        let pfn = frame(pa, view.granule());
        json.hex("physical", pa.0)?;
        json.hex("pfn", pfn.0)?;
        json.text("owner", owner(view, pa))?;
        json.open(Some("aliases"), '[')?;
        for alias in aliases(view, pa) {
            json.open(None, '{')?;
            json.hex("address", alias.va.0)?;
            json.text("what", alias.what)?;
            json.truth("mapped", alias.mapped)?;
            json.close('}')?;
        }
        json.close(']')?;
        let bytes = question.config.sizes.get("sizeof_page").unwrap_or(64);
        if let Some(at) = descriptor(view, pfn, bytes) {
            json.hex("descriptor", at.0)?;
        }
    }
    match shadow(view, va) {
        Some(Shadow::Of(memory)) => json.hex("shadow_of", memory.start.0)?,
        Some(Shadow::At(at)) => json.hex("shadow", at.0)?,
        None => {}
    }
    match story(view, question, va) {
        Ok(Some(Story::Leaf(leaf))) => leaf_json(view, question, &leaf, &mut json)?,
        Ok(Some(Story::Malformed { level, raw })) => {
            json.text("malformed_level", level.name())?;
            json.hex("raw", raw)?;
        }
        Ok(Some(Story::Hole { .. }) | None) => json.truth("mapped", false)?,
        Err(error) => json.text("error", &format!("{error}"))?,
    }
    json.finish()
}

fn leaf_json<V: KernelView, W: fmt::Write>(
    view: &V,
    question: &Question<'_>,
    leaf: &LeafStory,
    json: &mut Json<'_, W>,
) -> fmt::Result {
    json.truth("mapped", true)?;
    json.text("level", leaf.level.name())?;
    json.hex("start", leaf.range.start.0)?;
    json.number("size", leaf.range.size())?;
    for (key, reasons) in [("size_reasons", &leaf.size), ("rights_reasons", &leaf.rights)] {
        json.open(Some(key), '[')?;
        reasons.iter().try_for_each(|one| json.item(&reason(*one)))?;
        json.close(']')?;
    }
    json.open(Some("notes"), '[')?;
    notes(view, question, leaf).iter().try_for_each(|line| json.item(line))?;
    json.close(']')
}
