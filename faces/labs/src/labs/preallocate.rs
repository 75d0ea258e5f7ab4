//! Document 004: the tables that x86-64 makes at boot for all of vmalloc.

use core::sync::atomic::AtomicU64;

use kernmem::Isa;
use kernmem_arch::x86::layout::{Bases, Layout, LayoutFacts, Paging};
use kernmem_arch::x86::prealloc::{Preallocation, vmalloc_slots};
use kernmem_base::{CpuId, Era, PhysAddr, PhysRead, VirtAddr};
use kernmem_live::{Live, LiveError, Options};
use kernmem_vmalloc::{Caller, Request};

use crate::bench::{Bench, Own};
use crate::notebook::Notebook;
use crate::texts::Text;
use crate::{ClaimId, Holds, Lab, LabError, LabOptions, Value};

const COUNTS: ClaimId = ClaimId::new(4, 3);

pub(crate) const LAB: Lab = Lab {
    name: "preallocate",
    title: Text::PreallocateTitle,
    reverse: Text::PreallocateReverse,
    claims: &[COUNTS],
    run,
};

const PAGE: u64 = 4096;

fn run(options: &LabOptions, book: &mut Notebook<'_>) -> Result<(), LabError> {
    let bench = Bench::open(options, Own::Preset("x86-4g"))?.of_x86(LAB.name)?;
    book.claim(COUNTS, Text::FiftyAndSixtyFourClaim)?;
    let made = boot(&bench, !options.reverse, book)?;
    book.conclude(bench.era(), judge(&made.layout, made.linked))?;
    for era in bench.eras().skip(1) {
        let layout = fixed(era, Paging::Level4);
        rules(&layout, book)?;
        let linked = vmalloc_slots(&layout).map_or(0, |slots| slots.count());
        book.conclude(era, judge(&layout, linked))?;
    }
    Ok(())
}

/// A layout without KASLR.
fn fixed(era: Era, paging: Paging) -> Layout {
    let facts = LayoutFacts {
        era,
        paging,
        randomize_base: true,
        kasan: false,
        kmsan: false,
        force_kmap_local: false,
        physical_start: 16 << 20,
        physical_align: 2 << 20,
    };
    Layout::new(&facts, Bases::fixed(era, paging))
}

/// What the layout says for four levels, and a fixed one of its era for five.
fn rules(four: &Layout, book: &mut Notebook<'_>) -> Result<(), LabError> {
    let five = fixed(four.era, Paging::Level5);
    let count = |layout| Value::Count(vmalloc_slots(layout).map_or(0, |slots| slots.count()));
    let bytes = |layout: &Layout| Value::Bytes(layout.vmalloc_last - layout.vmalloc_start + 1);
    let reach = |layout: &Layout| Value::Bytes(1 << layout.paging.root_shift());
    book.say(
        Text::TablesByRule,
        &[
            ("era", Value::Name(four.era.name().to_owned())),
            ("vmalloc_four", bytes(four)),
            ("tables_four", count(four)),
            ("reach_four", reach(four)),
            ("vmalloc_five", bytes(&five)),
            ("tables_five", count(&five)),
            ("reach_five", reach(&five)),
        ],
    )
}

/// What a boot made.
struct Made {
    layout: Layout,
    linked: u64,
}

/// A booted kernel's entries of the root for vmalloc, before and after an area in each of their ranges; then the same
/// kernel the other way.
fn boot(bench: &Bench, preallocates: bool, book: &mut Notebook<'_>) -> Result<Made, LabError> {
    let options = |preallocates| Options { preallocates, ..Options::default() };
    let (made, free) = bench.live_with(options(preallocates), |live| {
        let layout = layout_of(live)?;
        let free = live.running.kernel.pages.allocator.free_frames();
        rules(&layout, book)?;
        let slots = Slots::of(live, &layout)?;
        let (linked, used) = (slots.linked()?, slots.used()?);
        book.say(
            Text::TablesOfBoot,
            &[
                ("preallocates", Value::Truth(preallocates)),
                ("slots", Value::Count(slots.slots.count())),
                ("linked", Value::Count(linked)),
                ("linked_bytes", Value::Bytes(linked * PAGE)),
                ("used", Value::Count(used)),
            ],
        )?;
        let areas = fill(live, &layout, &slots.slots)?;
        let behind = Slots::of(live, &layout)?.linked()?;
        book.say(
            Text::AreaInEach,
            &[("areas", Value::Count(areas)), ("new_entries", Value::Count(behind.saturating_sub(linked)))],
        )?;
        Ok((Made { layout, linked }, free))
    })?;
    let other =
        bench.live_with(options(!preallocates), |live| Ok(live.running.kernel.pages.allocator.free_frames()))?;
    book.say(Text::FramesOfBoot, &[("frames_between", Value::Count(free.abs_diff(other)))])?;
    Ok(made)
}

/// The layout of a kernel of x86-64.
pub(crate) fn layout_of(live: &Live<'_>) -> Result<Layout, LabError> {
    match &live.running.kernel.isa {
        Isa::X86(state) => Ok(state.layout),
        _ => Err(LabError::Missing("layout of x86-64")),
    }
}

/// vmalloc's entries of the kernel's root.
struct Slots<'l, 'm> {
    live: &'l Live<'m>,
    slots: Preallocation,
}

impl<'l, 'm> Slots<'l, 'm> {
    fn of(live: &'l Live<'m>, layout: &Layout) -> Result<Self, LabError> {
        let slots = vmalloc_slots(layout).ok_or(LabError::Missing("preallocation in its era"))?;
        Ok(Self { live, slots })
    }

    fn entry(&self, table: PhysAddr, index: u64) -> Result<u64, LabError> {
        Ok(self.live.memory.entry::<AtomicU64>(table, index as usize)?)
    }

    /// Entries that link a table.
    fn linked(&self) -> Result<u64, LabError> {
        let mut linked = 0;
        for slot in self.slots.first..=self.slots.last {
            linked += u64::from(self.entry(self.live.running.kernel.roots.kernel, slot)? != 0);
        }
        Ok(linked)
    }

    /// Of the tables that they link, those with an entry.
    fn used(&self) -> Result<u64, LabError> {
        let mut used = 0;
        for slot in self.slots.first..=self.slots.last {
            let raw = self.entry(self.live.running.kernel.roots.kernel, slot)?;
            let table = PhysAddr(raw & 0x000f_ffff_ffff_f000);
            let mut holds = false;
            for index in (0..512).filter(|_| raw != 0) {
                holds |= self.entry(table, index)? != 0;
            }
            used += u64::from(holds);
        }
        Ok(used)
    }
}

/// An area of one page in the range of each entry; returns how many there are.
fn fill(live: &mut Live<'_>, layout: &Layout, slots: &Preallocation) -> Result<u64, LabError> {
    let mut areas = 0;
    for start in slots.addresses(layout) {
        vmalloc_in(live, start, layout.paging.root_shift())?;
        areas += 1;
    }
    Ok(areas)
}

/// Allocates one page in the range of 1 << `shift` bytes from `start`, as far as it is vmalloc's.
pub(crate) fn vmalloc_in(live: &mut Live<'_>, start: VirtAddr, shift: u32) -> Result<VirtAddr, LabError> {
    let own = live.running.areas.request(PAGE, Caller(0));
    let end = VirtAddr((start + (1 << shift)).0.min(own.end.0));
    let request = Request { start: start.max(own.start), end, ..own };
    let (area, _) = live.on(CpuId(0), |running, on| running.vmalloc_request(on, request));
    Ok(area.map_err(LiveError::from)?)
}

/// Whether `linked` tables are what the document says.
fn judge(layout: &Layout, linked: u64) -> Holds {
    let Some(four) = vmalloc_slots(layout) else { return Holds::No(Text::NoPreallocation) };
    let five = vmalloc_slots(&fixed(layout.era, Paging::Level5)).map_or(0, |slots| slots.count());
    match (linked == four.count(), four.count(), five) {
        (false, ..) => Holds::No(Text::LeftOut),
        (true, 64, 50) => Holds::Yes,
        (true, 65, 50) => Holds::OnlyIf(Text::AtABoundary),
        (true, ..) => Holds::No(Text::OtherTables),
    }
}
