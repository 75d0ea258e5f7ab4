//! Document 002: from which zones a request is served when its own is used up, and what stops it.

use kernmem_base::{CpuId, Order, Pfn};
use kernmem_live::{Live, LiveError};
use kernmem_page_alloc::{AllocError, Gfp, PageSource, Watermarks, ZoneKind};

use crate::bench::{Bench, Own};
use crate::notebook::Notebook;
use crate::texts::Text;
use crate::{ClaimId, Holds, Lab, LabError, LabOptions, Value};

const FALLBACK: ClaimId = ClaimId::new(2, 8);

pub(crate) const LAB: Lab =
    Lab { name: "fallback", title: Text::FallbackTitle, reverse: Text::FallbackReverse, claims: &[FALLBACK], run };

/// Three zones on one node, and another node.
const MACHINE: &str = r#"
arch = "arm64"
model = "three zones and a second node"
cmdline = "rodata=off swiotlb=512"
dma_limit = "0x7fffffff"

[[memory]]
start = "1G"
size = "48M"
node = 0

[[memory]]
start = "2G"
size = "32M"
node = 0

[[memory]]
start = "4G"
size = "32M"
node = 0

[[memory]]
start = "8G"
size = "32M"
node = 1

[given]
text_phys = "0x40200000"
"#;

const CPU: CpuId = CpuId(0);

/// More requests than this take larger blocks.
const REQUESTS: u64 = 1 << 16;

/// A kind of request.
struct Wish {
    name: &'static str,
    gfp: Gfp,
    /// Names of its numbers: order of the zones, how many, pages that it got, pages that stayed.
    names: [&'static str; 4],
}

const WISHES: [Wish; 4] = [
    Wish { name: "GFP_KERNEL", gfp: Gfp::KERNEL, names: ["kernel_order", "kernel_zones", "kernel_got", "kernel_left"] },
    Wish {
        name: "GFP_KERNEL | GFP_DMA32",
        gfp: Gfp(Gfp::KERNEL.0 | Gfp::DMA32.0),
        names: ["dma32_order", "dma32_zones", "dma32_got", "dma32_left"],
    },
    Wish {
        name: "GFP_KERNEL | GFP_DMA",
        gfp: Gfp(Gfp::KERNEL.0 | Gfp::DMA.0),
        names: ["dma_order", "dma_zones", "dma_got", "dma_left"],
    },
    Wish {
        name: "GFP_HIGHUSER_MOVABLE",
        gfp: Gfp::HIGHUSER_MOVABLE,
        names: ["user_order", "user_zones", "user_got", "user_left"],
    },
];

fn run(options: &LabOptions, book: &mut Notebook<'_>) -> Result<(), LabError> {
    let bench = Bench::open(options, Own::Described(MACHINE))?;
    bench.live(|live| {
        book.claim(FALLBACK, Text::FallbackClaim)?;
        if options.reverse {
            clear_figures(live);
        }
        let managed = live.running.kernel.pages.allocator.managed();
        let order = Order(managed.div_ceil(REQUESTS).next_power_of_two().ilog2() as u8);
        book.say(Text::FallbackPlan, &[("managed", Value::Count(managed)), ("block", Value::Count(1 << order.0))])?;
        let mut as_said = true;
        for wish in &WISHES {
            as_said &= exhaust(live, wish, order, book)?;
        }
        let holds = if as_said { Holds::OnlyIf(Text::AboveTheMarks) } else { Holds::No(Text::OtherOrder) };
        book.conclude(bench.era(), holds)
    })
}

/// Takes the watermarks and reserves that boot computed from each zone.
fn clear_figures(live: &Live<'_>) {
    for zone in live.running.kernel.pages.allocator.zones() {
        zone.set_watermarks(Watermarks::default());
        for kind in ZoneKind::ALL {
            // A zone has no reserve for kinds that its kernel was built without.
            let _ = zone.set_reserve(kind, 0);
        }
    }
}

/// A zone that a request took from, in the order of its first page.
struct Source {
    nid: u32,
    kind: ZoneKind,
    got: u64,
}

/// Asks until nothing is left for the request, tells from where pages came, and gives them back. Whether each came from
/// the place where the document looks for it: own node first, highest zone first.
fn exhaust(live: &mut Live<'_>, wish: &Wish, order: Order, book: &mut Notebook<'_>) -> Result<bool, LabError> {
    let allowed = allowed(live, wish)?;
    let willing: Vec<_> = allowed.iter().copied().filter(|&zone| has_some(live, wish, zone)).collect();
    live.running.drain_all();
    let in_use: Vec<u64> = allowed.iter().map(|&zone| in_use(live, zone)).collect();
    let taken = take_all(live, wish.gfp, order)?;
    let sources = sources(live, &taken, order);
    book.show(
        Text::WishRow,
        &[("wish", Value::Name(wish.name.to_owned())), ("gfp", Value::Address(wish.gfp.0.into()))],
    )?;
    let mut left = 0;
    let used = |source: &Source| {
        let at = allowed.iter().position(|zone| *zone == (source.nid, source.kind));
        at.and_then(|at| in_use.get(at).copied()).unwrap_or_default()
    };
    for source in &sources {
        left += tell(live, wish, source, used(source), book)?;
    }
    for &(nid, kind) in allowed.iter().filter(|zone| !willing.contains(zone)) {
        let source = Source { nid, kind, got: 0 };
        tell(live, wish, &source, used(&source), book)?;
    }
    let names: Vec<String> = sources.iter().map(|source| format!("{} {}", source.nid, source.kind.name())).collect();
    let [order_name, zones, got, left_name] = wish.names;
    book.keep((order_name, Value::Name(names.join(", "))));
    book.keep((zones, Value::Count(sources.len() as u64)));
    book.keep((got, Value::Count((taken.len() as u64) << order.0)));
    book.keep((left_name, Value::Count(left)));
    if wish.gfp == Gfp::KERNEL {
        // It may go below the watermarks.
        let urgent = take_all(live, Gfp::atomic(live.running.facts.era), order)?;
        book.say(Text::UrgentRow, &[("urgent", Value::Count((urgent.len() as u64) << order.0))])?;
        give_back(live, &urgent, order)?;
    }
    give_back(live, &taken, order)?;
    Ok(willing.iter().copied().eq(sources.iter().map(|source| (source.nid, source.kind))))
}

/// Asks until nothing is given. Where pageblocks of another type had to be broken, watermarks stand higher for a while;
/// here they fall as after a run of the reclaimer, which has nothing to reclaim.
fn take_all(live: &mut Live<'_>, gfp: Gfp, order: Order) -> Result<Vec<Pfn>, LabError> {
    let mut pages = live.running.pages(CPU).ok_or(LabError::Missing("CPU 0"))?;
    let mut taken = Vec::new();
    loop {
        match pages.alloc(gfp, order) {
            Ok(pfn) => taken.push(pfn),
            Err(AllocError::NoMemory { .. }) if pages.allocator.zones().any(|zone| zone.boost() > 0) => {
                pages.allocator.zones().for_each(|zone| zone.clear_boost());
            }
            Err(AllocError::NoMemory { .. }) => return Ok(taken),
            Err(error) => return Err(LiveError::from(error).into()),
        }
    }
}

fn give_back(live: &mut Live<'_>, taken: &[Pfn], order: Order) -> Result<(), LabError> {
    let mut pages = live.running.pages(CPU).ok_or(LabError::Missing("CPU 0"))?;
    taken.iter().try_for_each(|&pfn| pages.free(pfn, order)).map_err(LiveError::from)?;
    live.running.drain_all();
    Ok(())
}

fn sources(live: &Live<'_>, taken: &[Pfn], order: Order) -> Vec<Source> {
    let mut sources: Vec<Source> = Vec::new();
    for &pfn in taken {
        let Some((nid, name)) = live.running.kernel.nodes.zone_of(pfn) else { continue };
        let Some(kind) = ZoneKind::of_name(name) else { continue };
        match sources.iter_mut().find(|source| (source.nid, source.kind) == (nid, kind)) {
            Some(source) => source.got += 1 << order.0,
            None => sources.push(Source { nid, kind, got: 1 << order.0 }),
        }
    }
    sources
}

/// Pages of a zone that somebody has.
fn in_use(live: &Live<'_>, (nid, kind): (u32, ZoneKind)) -> u64 {
    let zone = live.running.kernel.pages.allocator.zone(nid, kind);
    zone.map_or(0, |zone| zone.managed().saturating_sub(zone.free()))
}

/// A zone's row, with the pages that were in use before; returns the pages that stayed in it.
fn tell(live: &Live<'_>, wish: &Wish, source: &Source, used: u64, book: &mut Notebook<'_>) -> Result<u64, LabError> {
    let allocator = &live.running.kernel.pages.allocator;
    let zone = allocator.zone(source.nid, source.kind).ok_or(LabError::Missing("zone"))?;
    let highest = highest(live, wish)?;
    let row = [
        ("nid", Value::Count(source.nid.into())),
        ("zone", Value::Name(format!("{:7}", source.kind.name()))),
        ("managed", Value::Count(zone.managed())),
        ("used", Value::Count(used)),
        ("got", Value::Count(source.got)),
        ("left", Value::Count(zone.free())),
        ("min", Value::Count(zone.watermarks().min)),
        ("reserve", Value::Count(zone.reserve(highest))),
    ];
    book.show(Text::SourceRow, &row)?;
    Ok(zone.free())
}

/// Whether a zone has more than it keeps from the request.
fn has_some(live: &Live<'_>, wish: &Wish, (nid, kind): (u32, ZoneKind)) -> bool {
    let (zone, highest) = (live.running.kernel.pages.allocator.zone(nid, kind), highest(live, wish).ok());
    let (Some(zone), Some(highest)) = (zone, highest) else { return false };
    zone.free() > zone.watermarks().min + zone.reserve(highest)
}

fn highest(live: &Live<'_>, wish: &Wish) -> Result<ZoneKind, LabError> {
    let kinds = live.running.kernel.pages.allocator.facts().kinds;
    wish.gfp.zone(kinds).map_err(|bad| LiveError::from(AllocError::BadGfp(bad.gfp())).into())
}

/// The zones with memory that a request of the CPU may use: nearest node first, on a node the highest zone first.
fn allowed(live: &Live<'_>, wish: &Wish) -> Result<Vec<(u32, ZoneKind)>, LabError> {
    let allocator = &live.running.kernel.pages.allocator;
    let highest = highest(live, wish)?;
    let mut allowed = Vec::new();
    for nid in allocator.fallback_order(live.running.facts.node_of(CPU.0)) {
        let mut own: Vec<_> = allocator.zones().filter(|zone| zone.span().nid == nid && zone.is_populated()).collect();
        own.sort_unstable_by_key(|zone| core::cmp::Reverse(zone.span().kind));
        allowed.extend(own.iter().map(|zone| (nid, zone.span().kind)).filter(|(_, kind)| *kind <= highest));
    }
    Ok(allowed)
}
