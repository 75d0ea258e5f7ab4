//! Documents 002 and 003: which descriptor a frame has, and where descriptors live.

use kernmem::LogEntry;
use kernmem::takers::Taker;
use kernmem_base::{CpuId, Order, Pfn, PhysAddr, Privilege};
use kernmem_live::{Live, LiveError};
use kernmem_page_alloc::PageSource;
use kernmem_sparse::page::PageFlag;
use kernmem_sparse::{Descriptors, SectionNr};
use kernmem_view::Told;

use super::sparsemem::MACHINE;
use crate::bench::{Bench, Own, banks, frame_zero, vmemmap_start};
use crate::notebook::Notebook;
use crate::texts::Text;
use crate::{ClaimId, Holds, Lab, LabError, LabOptions, Value};

const ARRAY: ClaimId = ClaimId::new(2, 7);
const HOME: ClaimId = ClaimId::new(3, 7);

pub(crate) const LAB: Lab =
    Lab { name: "pagedoc", title: Text::PagedocTitle, reverse: Text::PagedocReverse, claims: &[ARRAY, HOME], run };

const CPU: CpuId = CpuId(0);

/// Huge pages that give the memory of their descriptors back.
const HUGE_PAGES: u64 = 4;
const HUGE: Order = Order(9);

fn run(options: &LabOptions, book: &mut Notebook<'_>) -> Result<(), LabError> {
    let bench = Bench::open(options, Own::Described(MACHINE))?;
    bench.live(|live| {
        array(&bench, live, book)?;
        home(&bench, live, options.reverse, book)
    })
}

/// The first and the last frame of each piece of memory.
fn samples(live: &Live<'_>) -> Vec<Pfn> {
    let granule = live.running.facts.granule;
    let ends = banks(&live.running.kernel).into_iter();
    ends.flat_map(|bank| [Pfn(bank.start.0.div_ceil(granule.bytes())), Pfn((bank.end.0 >> granule.shift()) - 1)])
        .collect()
}

/// What the CPU reads of a descriptor, and what must stand there.
struct Read {
    flags: u64,
    node: u64,
    zone: u64,
    expected: Option<(u32, &'static str)>,
}

fn read(live: &Live<'_>, pfn: Pfn) -> Result<Read, LabError> {
    // The words of a section are written when the first of them is asked for.
    live.running.map.words(pfn)?;
    let cpu = live.cpus.cpu(CPU).ok_or(LabError::Missing("CPU 0"))?;
    let flags = cpu.read_u64(live.memory, live.running.map.page(pfn), Privilege::Kernel).map_err(LiveError::from)?;
    let layout = live.running.map.layout();
    let expected = live.running.kernel.nodes.zone_of(pfn);
    Ok(Read { flags, node: layout.node.get(flags), zone: layout.zone.get(flags), expected })
}

/// Whether a descriptor names the node and the zone of its frame.
fn agrees(live: &Live<'_>, read: &Read) -> bool {
    let Some((nid, name)) = read.expected else { return false };
    let names = live.running.kernel.nodes.limits.iter().position(|limit| limit.name == name);
    read.node == u64::from(nid) && names.is_none_or(|zone| read.zone == zone as u64)
}

fn array(bench: &Bench, live: &Live<'_>, book: &mut Notebook<'_>) -> Result<(), LabError> {
    book.claim(ARRAY, Text::PageOfPfnClaim)?;
    let kernel = &live.running.kernel;
    let (base, _) = frame_zero(kernel)?;
    let start = vmemmap_start(kernel).ok_or(LabError::Missing("memory map that is known"))?;
    let bytes = live.running.facts.descriptor_bytes;
    book.say(
        Text::PageBase,
        &[("base", Value::Address(base.0)), ("start", Value::Address(start.0)), ("page_bytes", Value::Bytes(bytes))],
    )?;
    let (mut frames, mut agree) = (0, 0);
    for pfn in samples(live) {
        let (page, read) = (live.running.map.page(pfn), read(live, pfn)?);
        let computed = base.0.wrapping_add(pfn.0.wrapping_mul(bytes));
        let back = page.0.wrapping_sub(base.0) / bytes;
        frames += 1;
        agree += u64::from(page.0 == computed && back == pfn.0 && agrees(live, &read));
        let (nid, zone) = read.expected.unwrap_or((0, "none"));
        let row = [
            ("pa", Value::Address(pfn.0 << live.running.facts.granule.shift())),
            ("pfn", Value::Name(format!("{:x}", pfn.0))),
            ("page", Value::Address(page.0)),
            ("flags", Value::Address(read.flags)),
            ("node", Value::Count(nid.into())),
            ("zone", Value::Name(zone.to_owned())),
        ];
        book.show(Text::PageRow, &row)?;
    }
    book.say(Text::PagesAgree, &[("frames", Value::Count(frames)), ("agree", Value::Count(agree))])?;
    let geometry = kernel.sections.geometry();
    let last = kernel.sections.highest_present().map_or(0, |nr| nr.0 + 1);
    let first = kernel.sections.next_present(SectionNr(0)).map_or(0, |nr| nr.0);
    let absent = (first..last).map(SectionNr).filter(|&nr| !kernel.sections.is_present(nr));
    let (mut holes, mut unmapped) = (0, 0);
    for nr in absent {
        holes += 1;
        unmapped += u64::from(live.running.map.memory_of(geometry.first_pfn(nr)).is_err());
    }
    book.say(Text::PagesOfHoles, &[("holes", Value::Count(holes)), ("unmapped", Value::Count(unmapped))])?;
    let holds = match (agree == frames && unmapped == holes, base == start) {
        (false, _) => Holds::No(Text::PagesDiffer),
        (true, true) => Holds::Yes,
        (true, false) => Holds::OnlyIf(Text::BaseIsShifted),
    };
    book.conclude(bench.era(), holds)
}

/// Where the descriptors of all sections are.
#[derive(Default)]
struct Homes {
    sections: u64,
    /// Sections whose descriptors lie in memory that the boot allocator gave for them, and still has taken.
    of_boot: u64,
    first: Option<(Pfn, PhysAddr)>,
    /// Subsections of 2 MiB in use.
    subsections: u64,
}

fn homes(live: &Live<'_>) -> Result<Homes, LabError> {
    let kernel = &live.running.kernel;
    let geometry = kernel.sections.geometry();
    let mut homes = Homes::default();
    for nr in kernel.sections.present() {
        let first = geometry.first_pfn(nr);
        let pa = live.running.map.memory_of(first)?;
        let taker = kernel.witness().taker(pa).map(|taken| taken.taker);
        let is_taken = kernel.memblock.reserved().regions().iter().any(|region| region.range().contains(pa));
        homes.sections += 1;
        homes.of_boot += u64::from(taker == Some(Taker::MemoryMap) && is_taken);
        homes.first.get_or_insert((first, pa));
        let bits = kernel.sections.subsection_bits(nr).unwrap_or_default();
        homes.subsections += bits.iter().map(|word| u64::from(word.count_ones())).sum::<u64>();
    }
    Ok(homes)
}

/// Whether the steps of boot were told in the order in which the document has them.
fn in_order(live: &Live<'_>) -> bool {
    let told = &live.running.kernel.witness().told;
    let place = |is: fn(&LogEntry) -> bool| told.iter().position(|told| matches!(told, Told::Log(entry) if is(entry)));
    let sections = place(|entry| matches!(entry, LogEntry::SectionsReady));
    let zones = place(|entry| matches!(entry, LogEntry::ZoneRanges(_)));
    let hand_over = place(|entry| matches!(entry, LogEntry::HandOver { .. }));
    matches!((sections, zones, hand_over), (Some(sections), Some(zones), Some(end)) if sections < zones && zones < end)
}

fn home(bench: &Bench, live: &mut Live<'_>, give_back: bool, book: &mut Notebook<'_>) -> Result<(), LabError> {
    book.claim(HOME, Text::HomeClaim)?;
    let kernel = &live.running.kernel;
    let found = homes(live)?;
    let (first, pa) = found.first.ok_or(LabError::Missing("section"))?;
    let granule = live.running.facts.granule;
    let own = read(live, pa.pfn(granule))?;
    let reserved = own.flags & PageFlag::Reserved.mask(live.running.facts.era) != 0;
    book.say(
        Text::HomeOfSections,
        &[
            ("sections", Value::Count(found.sections)),
            ("map_bytes", Value::Bytes(kernel.sections.geometry().section_memmap_bytes() * found.sections)),
            ("of_boot", Value::Count(found.of_boot)),
        ],
    )?;
    book.say(
        Text::HomeOfFirst,
        &[
            ("first_pfn", Value::Name(format!("{:x}", first.0))),
            ("first_page", Value::Address(live.running.map.page(first).0)),
            ("home", Value::Address(pa.0)),
            ("is_reserved", Value::Truth(reserved)),
        ],
    )?;
    let subsection = kernel.sections.geometry().pages_per_subsection() * granule.bytes();
    book.say(
        Text::Subsections,
        &[
            ("subsection", Value::Bytes(subsection)),
            ("each", Value::Count(kernel.sections.geometry().subsections_per_section())),
            ("in_use", Value::Count(found.subsections)),
        ],
    )?;
    let ordered = in_order(live);
    book.say(Text::BootOrder, &[("ordered", Value::Truth(ordered))])?;
    let as_said = found.of_boot == found.sections && reserved && ordered;
    let moved = if give_back { share(live, book)? } else { false };
    let holds = match (as_said, moved) {
        (false, _) => Holds::No(Text::NotOfBoot),
        (true, false) => Holds::Yes,
        (true, true) => Holds::OnlyIf(Text::UnlessGivenBack),
    };
    book.conclude(bench.era(), holds)
}

/// Fills a pool with huge pages that give the memory of their descriptors back; whether descriptors share memory then.
fn share(live: &mut Live<'_>, book: &mut Notebook<'_>) -> Result<bool, LabError> {
    let index = live.running.pool_of(HUGE).ok_or(LabError::Missing("pool of 2M pages"))?;
    live.running.optimize_new(true);
    let free = free_pages(live)?;
    let had = live.running.pools[index].pages().len() as u64;
    live.on(CPU, |running, on| running.resize_pool(on, index, had + HUGE_PAGES));
    let spent = free - free_pages(live)?;
    let pfn = live.running.take_huge(index, None, false).map_err(LiveError::from)?;
    let granule = live.running.facts.granule;
    let pages = (live.running.facts.descriptor_bytes << HUGE.0) / granule.bytes();
    let step = (1 << HUGE.0) / pages;
    let mut homes = Vec::new();
    for page in 0..pages {
        homes.push(live.running.map.memory_of(Pfn(pfn.0 + page * step))?);
    }
    homes.sort_unstable();
    homes.dedup();
    book.say(
        Text::SharedHome,
        &[
            ("huge_pages", Value::Count(HUGE_PAGES)),
            ("huge_pfn", Value::Name(format!("{:x}", pfn.0))),
            ("descriptor_pages", Value::Count(pages)),
            ("homes", Value::Count(homes.len() as u64)),
            ("spent", Value::Count(spent)),
        ],
    )?;
    live.on(CPU, |running, on| running.put_huge(on, index, pfn)).0.map_err(LiveError::from)?;
    Ok((homes.len() as u64) < pages)
}

fn free_pages(live: &mut Live<'_>) -> Result<u64, LabError> {
    live.running.drain_all();
    Ok(live.running.pages(CPU).ok_or(LabError::Missing("CPU 0"))?.free_frames())
}
