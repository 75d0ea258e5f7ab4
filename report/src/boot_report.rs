//! The boot report: one page about a machine, its kernel, and what the boot made of its memory.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use kernmem_base::{FrameOrigin, PhysRange, Size};
use kernmem_config::{Config, Cpu};
use kernmem_firmware::Machine;
use kernmem_memblock::Region as Bank;
use kernmem_view::census::{Census, census};
use kernmem_view::entries::root_ranges;
use kernmem_view::{Answer, BootRecord, KernelView, LayoutView, RootKind};

use crate::boot_log;
use crate::regions::{self, Region};
use crate::warnings;

/// What the report tells beside the kernel itself.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The machine.
    pub machine: &'a Machine,
    /// Its kernel.
    pub config: &'a Config,
    /// The record of the boot.
    pub record: &'a BootRecord,
    /// Where parts of them came from.
    pub origins: &'a [(&'a str, &'a str)],
}

/// What the report counts, once.
pub(crate) struct Counts {
    pub regions: Vec<(Region, Census)>,
    pub tree: Census,
}

impl Counts {
    pub(crate) fn take<V: KernelView>(view: &V) -> Option<Self> {
        let tree = census(view, RootKind::Kernel, &root_ranges(view.format(), RootKind::Kernel)).ok()?;
        let count = |region: Region| Some((region, census(view, RootKind::Kernel, &[region.range]).ok()?));
        Some(Self { regions: regions::of(view).into_iter().filter_map(count).collect(), tree })
    }

    pub(crate) fn region(&self, key: &str) -> Option<&Census> {
        self.regions.iter().find(|(region, _)| region.key == key).map(|(_, census)| census)
    }
}

/// Prints the report.
///
/// # Errors
/// The writer failed.
pub fn print<V: KernelView>(view: &V, subject: &Subject<'_>, out: &mut impl fmt::Write) -> fmt::Result {
    head(view, subject, out)?;
    writeln!(out, "\nBoot log, its lines about memory")?;
    let mut log = String::new();
    boot_log::print(subject.record, view.format(), view.era(), false, &mut log)?;
    log.lines().try_for_each(|line| writeln!(out, "  {line}"))?;
    memory(view, out)?;
    if let Some(counts) = Counts::take(view) {
        address_space(&counts, out)?;
        linear_map(view, &counts, out)?;
        cost(view, subject.record, &counts, out)?;
    }
    notes(subject, out)
}

pub(crate) fn bytes_of(banks: &[Bank]) -> u64 {
    banks.iter().map(|bank| bank.range().size()).sum()
}

pub(crate) fn cpu_name(cpu: &Cpu) -> &str {
    match cpu {
        Cpu::Arm64(cpu) => &cpu.model,
        Cpu::X86(cpu) if cpu.model.is_empty() => "x86-64 CPU",
        Cpu::X86(cpu) => &cpu.model,
    }
}

fn head<V: KernelView>(view: &V, subject: &Subject<'_>, out: &mut impl fmt::Write) -> fmt::Result {
    let Subject { machine, config, origins, .. } = subject;
    let from = |what: &str| {
        let own = origins.iter().rev().find(|(part, _)| *part == what);
        let whole = || origins.iter().find(|(part, _)| *part == "machine");
        own.or_else(whole).map_or(String::new(), |(_, from)| format!("  ({from})"))
    };
    let page = Size(view.granule().bytes());
    // A root table for 52 bits may be used with fewer.
    let bits = match view.layout() {
        LayoutView::Arm64 { layout, .. } => layout.va_bits_actual,
        _ => view.format().shape().va_bits(),
    };
    let (era, release) = (view.era(), view.era().release());
    writeln!(out, "Linux {era} on {}, {page} pages, {bits} address bits  (rules of {release})", machine.arch.name())?;
    let model = machine.model.as_deref().unwrap_or("a machine without a name");
    let memory: u64 = machine.memory.iter().map(|bank| bank.range.size()).sum();
    let cpus = config.possible_cpus;
    writeln!(out, "  machine       {model}, {} of memory{}", about(memory), from("machine"))?;
    writeln!(out, "  CPU           {cpus} × {}{}", cpu_name(&config.cpu), from("cpu"))?;
    let line = if config.cmdline.text().is_empty() { "(empty)" } else { config.cmdline.text() };
    writeln!(out, "  command line  {line}{}", from("command line"))?;
    if let Some((_, from)) = origins.iter().find(|(what, _)| *what == "kernel") {
        writeln!(out, "  kernel        configuration and symbols from {from}")?;
    }
    Ok(())
}

fn memory<V: KernelView>(view: &V, out: &mut impl fmt::Write) -> fmt::Result {
    let (Answer::Known(memory), Answer::Known(reserved)) = (view.memory(), view.reserved()) else { return Ok(()) };
    writeln!(out, "\nMemory")?;
    let row = |range: PhysRange, out: &mut dyn fmt::Write, what: &str| {
        let last = range.end.0.wrapping_sub(1);
        writeln!(out, "  {:#013x} - {last:#013x} {:>10}  {what}", range.start.0, Size(range.size()).to_string())
    };
    for bank in &memory {
        let node = bank.nid.map_or(String::new(), |nid| format!("node {}", nid.0));
        row(bank.range(), out, &node)?;
    }
    let (taken, all) = (bytes_of(&reserved), bytes_of(&memory));
    writeln!(
        out,
        "  taken before the page allocator: {} in {} ranges, {} of {}",
        about(taken),
        reserved.len(),
        percent(taken, all),
        about(all)
    )
}

fn address_space(counts: &Counts, out: &mut impl fmt::Write) -> fmt::Result {
    writeln!(out, "\nAddress space")?;
    writeln!(out, "  {:<18}  {:<18} {:>10} {:>12}  use", "start", "end", "size", "mapped")?;
    for (region, census) in &counts.regions {
        let (start, last, size) = (region.range.start.0, region.range.last.0, about(region.range.size()));
        let mapped = census.mapped_bytes();
        let mapped = if mapped == 0 { "-".into() } else { about(mapped) };
        writeln!(out, "  {start:#018x}  {last:#018x} {size:>10} {mapped:>12}  {}", region.name)?;
    }
    Ok(())
}

/// A leaf size with its level: `2M PMD`, `64K PTE contiguous`.
pub(crate) fn leaf_name(size: &kernmem_arch::LeafSize) -> String {
    let group = if size.contiguous { " contiguous" } else { "" };
    format!("{} {}{group}", Size(size.bytes), size.level)
}

fn linear_map<V: KernelView>(view: &V, counts: &Counts, out: &mut impl fmt::Write) -> fmt::Result {
    let Some(linear) = counts.region("linear") else { return Ok(()) };
    let mapped = linear.mapped_bytes();
    writeln!(out, "\nLinear map: {} by leaf size", about(mapped))?;
    writeln!(out, "  {:<20} {:>10} {:>12} {:>8} {:>12}", "leaf", "entries", "bytes", "share", "TLB entries")?;
    for leaf in &linear.leaves {
        let (name, share) = (leaf_name(&leaf.size), percent(leaf.bytes, mapped));
        let (bytes, tlb) = (about(leaf.bytes), leaf.tlb_entries());
        writeln!(out, "  {name:<20} {:>10} {bytes:>12} {share:>8} {tlb:>12}", leaf.entries)?;
    }
    writeln!(out, "  one TLB entry reaches {} on average", about(mapped / linear.tlb_entries().max(1)))?;
    direct_map_counters(view, out)
}

/// The kernel's own counters, which count events: a 1G leaf that a later step finds again counts again, and a split of
/// the image's own map moves them too.
fn direct_map_counters<V: KernelView>(view: &V, out: &mut impl fmt::Write) -> fmt::Result {
    let Some(counters) = view.direct_map().known() else { return Ok(()) };
    let parts: Vec<String> =
        counters.iter().map(|(size, kib)| format!("{} as {}", about(kib << 10), Size(*size))).collect();
    writeln!(out, "  the kernel's DirectMap counters, which count events: {}", parts.join(", "))
}

fn origin_name(origin: FrameOrigin) -> &'static str {
    match origin {
        FrameOrigin::Image => "in the image",
        FrameOrigin::Memblock => "from memblock",
        FrameOrigin::PageAllocator => "from the page allocator",
        _ => "from elsewhere",
    }
}

fn cost<V: KernelView>(view: &V, record: &BootRecord, counts: &Counts, out: &mut impl fmt::Write) -> fmt::Result {
    let memory = view.memory().known().map_or(0, |banks| bytes_of(&banks));
    let tree = &counts.tree;
    let bytes = tree.bytes_of_tables();
    writeln!(out, "\nWhat it costs")?;
    let levels: Vec<String> = tree.tables.iter().map(|(level, count)| format!("{count} {level}")).collect();
    let share = percent(bytes, memory);
    writeln!(
        out,
        "  page tables   {:>6}  {} tables: {}  ({share} of memory)",
        about(bytes),
        tree.table_count(),
        levels.join(", ")
    )?;
    let mut origins: Vec<(FrameOrigin, u64)> = Vec::new();
    for frame in &record.tables {
        match origins.iter_mut().find(|(origin, _)| *origin == frame.origin) {
            Some((_, count)) => *count += 1,
            None => origins.push((frame.origin, 1)),
        }
    }
    if !origins.is_empty() {
        let parts: Vec<String> =
            origins.iter().map(|(origin, count)| format!("{count} {}", origin_name(*origin))).collect();
        writeln!(out, "                        frames that the boot made tables: {}", parts.join(", "))?;
    }
    if let Some(map) = counts.region("vmemmap") {
        let bytes = map.mapped_bytes();
        writeln!(out, "  memory map    {:>6}  page descriptors  ({} of memory)", about(bytes), percent(bytes, memory))?;
    }
    if tree.malformed + tree.unreadable > 0 {
        writeln!(out, "  {} malformed entries, {} tables that cannot be read", tree.malformed, tree.unreadable)?;
    }
    Ok(())
}

fn notes(subject: &Subject<'_>, out: &mut impl fmt::Write) -> fmt::Result {
    let unread = subject.config.unread_words();
    let warnings = warnings::of(subject.config);
    if unread.is_empty() && warnings.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nNotes")?;
    if !unread.is_empty() {
        let words: Vec<&str> = unread.iter().map(String::as_str).collect();
        writeln!(out, "  kept, but no question about memory reads: {}", words.join(" "))?;
    }
    warnings.iter().try_for_each(|warning| writeln!(out, "  {warning}"))
}

/// A size of at most three digits before its unit: exact where it is, otherwise with one digit behind the point.
#[must_use]
pub fn about(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["", "K", "M", "G", "T", "P", "E"];
    let mut unit = 0;
    while unit + 1 < UNITS.len() && bytes >> (10 * (unit + 1)) != 0 {
        unit += 1;
    }
    let shift = 10 * unit as u32;
    let (whole, rest) = (bytes >> shift, bytes & ((1u64 << shift) - 1));
    if rest == 0 {
        return format!("{whole}{}", UNITS[unit]);
    }
    let tenths = (u128::from(rest) * 10) >> shift;
    format!("{whole}.{tenths}{}", UNITS[unit])
}

/// A share in percent with two digits behind the point.
#[must_use]
pub fn percent(part: u64, whole: u64) -> String {
    let hundredths = u128::from(part) * 10_000 / u128::from(whole.max(1));
    format!("{}.{:02}%", hundredths / 100, hundredths % 100)
}

/// The report as JSON, schema `kernmem.boot`.
///
/// # Errors
/// The writer failed.
pub fn json<V: KernelView>(view: &V, subject: &Subject<'_>, out: &mut impl fmt::Write) -> fmt::Result {
    let mut log = String::new();
    boot_log::print(subject.record, view.format(), view.era(), false, &mut log)?;
    let mut json = crate::json::Json::new(out);
    json.answer("kernmem.boot")?;
    json.text("era", view.era().name())?;
    json.text("release", view.era().release())?;
    json.text("arch", subject.machine.arch.name())?;
    json.number("page_size", view.granule().bytes())?;
    json.text("machine", subject.machine.model.as_deref().unwrap_or(""))?;
    json.text("cpu", cpu_name(&subject.config.cpu))?;
    json.number("cpus", u64::from(subject.config.possible_cpus))?;
    json.text("cmdline", subject.config.cmdline.text())?;
    json.open(Some("provenance"), '{')?;
    subject.origins.iter().try_for_each(|(what, from)| json.text(what, from))?;
    json.close('}')?;
    json.open(Some("log"), '[')?;
    log.lines().try_for_each(|line| json.item(line))?;
    json.close(']')?;
    for (key, banks) in [("memory", view.memory()), ("reserved", view.reserved())] {
        json.open(Some(key), '[')?;
        for bank in banks.known().unwrap_or_default() {
            json.open(None, '{')?;
            json.hex("start", bank.range().start.0)?;
            json.number("size", bank.range().size())?;
            if let Some(nid) = bank.nid {
                json.number("node", u64::from(nid.0))?;
            }
            json.close('}')?;
        }
        json.close(']')?;
    }
    if let Some(counts) = Counts::take(view) {
        json.open(Some("regions"), '[')?;
        for (region, census) in &counts.regions {
            json.open(None, '{')?;
            json.text("region", region.key)?;
            json.hex("start", region.range.start.0)?;
            json.hex("last", region.range.last.0)?;
            json.number("mapped", census.mapped_bytes())?;
            leaves(census, &mut json)?;
            json.close('}')?;
        }
        json.close(']')?;
        json.open(Some("tables"), '[')?;
        for (level, count) in &counts.tree.tables {
            json.open(None, '{')?;
            json.text("level", level.name())?;
            json.number("tables", *count)?;
            json.number("bytes", count * counts.tree.table_bytes)?;
            json.close('}')?;
        }
        json.close(']')?;
    }
    json.open(Some("unread_words"), '[')?;
    subject.config.unread_words().iter().try_for_each(|word| json.item(word))?;
    json.close(']')?;
    json.open(Some("warnings"), '[')?;
    warnings::of(subject.config).iter().try_for_each(|warning| json.item(warning))?;
    json.close(']')?;
    json.finish()
}

fn leaves<W: fmt::Write>(census: &Census, json: &mut crate::json::Json<'_, W>) -> fmt::Result {
    json.open(Some("leaves"), '[')?;
    for leaf in &census.leaves {
        json.open(None, '{')?;
        json.number("size", leaf.size.bytes)?;
        json.text("level", leaf.size.level.name())?;
        json.truth("contiguous", leaf.size.contiguous)?;
        json.number("entries", leaf.entries)?;
        json.number("bytes", leaf.bytes)?;
        json.number("tlb_entries", leaf.tlb_entries())?;
        json.close('}')?;
    }
    json.close(']')
}
