//! Commands about pages of the page allocator.

use kernmem_base::{Order, Pfn, PhysMem, PhysRange};
use kernmem_page_alloc::Gfp;

use super::parse::Words;
use super::session::{Done, Session, Stop};
use super::table::Entry;

pub const COMMANDS: &[Entry] = &[
    Entry {
        name: "alloc",
        arguments: "ORDER [GFP…] [node N]",
        help: "takes 2^ORDER pages; GFP is GFP_KERNEL, __GFP_ZERO, …; leaves the frame number",
        run: alloc,
    },
    Entry { name: "free", arguments: "PFN ORDER", help: "gives such a block back", run: free },
    Entry {
        name: "page_address",
        arguments: "PFN",
        help: "leaves the linear map's address of a frame",
        run: page_address,
    },
    Entry { name: "drain", arguments: "", help: "gives the pages in the lists of all CPUs back to zones", run: drain },
];

/// The words with which Linux asks for memory, but for those that change by era.
const GFP: &[(&str, Gfp)] = &[
    ("GFP_KERNEL", Gfp::KERNEL),
    ("GFP_KERNEL_ACCOUNT", Gfp::KERNEL_ACCOUNT),
    ("GFP_NOIO", Gfp::NOIO),
    ("GFP_NOFS", Gfp::NOFS),
    ("GFP_USER", Gfp::USER),
    ("GFP_HIGHUSER", Gfp::HIGHUSER),
    ("GFP_HIGHUSER_MOVABLE", Gfp::HIGHUSER_MOVABLE),
    ("GFP_DMA", Gfp::DMA),
    ("GFP_DMA32", Gfp::DMA32),
    ("__GFP_DMA", Gfp::DMA),
    ("__GFP_HIGHMEM", Gfp::HIGHMEM),
    ("__GFP_DMA32", Gfp::DMA32),
    ("__GFP_MOVABLE", Gfp::MOVABLE),
    ("__GFP_RECLAIMABLE", Gfp::RECLAIMABLE),
    ("__GFP_HIGH", Gfp::HIGH),
    ("__GFP_IO", Gfp::IO),
    ("__GFP_FS", Gfp::FS),
    ("__GFP_ZERO", Gfp::ZERO),
    ("__GFP_DIRECT_RECLAIM", Gfp::DIRECT_RECLAIM),
    ("__GFP_KSWAPD_RECLAIM", Gfp::KSWAPD_RECLAIM),
    ("__GFP_RECLAIM", Gfp::RECLAIM),
    ("__GFP_WRITE", Gfp::WRITE),
    ("__GFP_NOWARN", Gfp::NOWARN),
    ("__GFP_RETRY_MAYFAIL", Gfp::RETRY_MAYFAIL),
    ("__GFP_NOFAIL", Gfp::NOFAIL),
    ("__GFP_NORETRY", Gfp::NORETRY),
    ("__GFP_MEMALLOC", Gfp::MEMALLOC),
    ("__GFP_COMP", Gfp::COMP),
    ("__GFP_NOMEMALLOC", Gfp::NOMEMALLOC),
    ("__GFP_HARDWALL", Gfp::HARDWALL),
    ("__GFP_THISNODE", Gfp::THISNODE),
    ("__GFP_ACCOUNT", Gfp::ACCOUNT),
];

/// The word of that name.
fn gfp(session: &Session<'_, '_>, name: &str) -> Result<Gfp, Stop> {
    let era = session.live.running.facts.era;
    let known = match name {
        "GFP_ATOMIC" => Some(Gfp::atomic(era)),
        "GFP_NOWAIT" => Some(Gfp::nowait(era)),
        name => GFP.iter().find(|(known, _)| *known == name).map(|(_, gfp)| *gfp),
    };
    known.ok_or_else(|| Stop::Bad(format!("`{name}` is no GFP word such as GFP_KERNEL or __GFP_ZERO")))
}

/// An order; one that is out of all reason stays so and is refused by the allocator.
fn order(words: &mut Words<'_, '_>) -> Result<Order, Stop> {
    Ok(Order(u8::try_from(words.number("ORDER")?).unwrap_or(u8::MAX)))
}

fn alloc(session: &mut Session<'_, '_>, words: &mut Words<'_, '_>) -> Done {
    let order = order(words)?;
    let (mut wish, mut nid): (Option<Gfp>, Option<u32>) = (None, None);
    while let Some(word) = words.word() {
        if word == "node" {
            nid = Some(u32::try_from(words.number("N")?).unwrap_or(u32::MAX));
            continue;
        }
        for name in word.split('|') {
            wish = Some(wish.unwrap_or_default() | gfp(session, name)?);
        }
    }
    // Modifiers alone modify the usual request.
    let wish = wish.map_or(Gfp::KERNEL, |wish| if wish.0 & Gfp::RECLAIM.0 == 0 { wish | Gfp::KERNEL } else { wish });
    let cpu = session.cpu;
    let pages = session.live.running.pages(cpu).ok_or_else(|| Stop::refused("there is no such CPU"))?;
    let pfn = pages.allocator.alloc(pages.cpu, nid, wish, order).map_err(Stop::refused)?;
    session.given.insert(pfn, order);
    let granule = session.live.running.facts.granule;
    let start = pfn.to_phys(granule).ok_or_else(|| Stop::refused("the frame has no address"))?;
    if wish.contains(Gfp::ZERO) {
        let block = PhysRange::new(start, start + (granule.bytes() << order.0));
        session.live.memory.zero(block).map_err(Stop::refused)?;
    }
    let (node, linear) = (session.live.node_of(pfn), session.live.linear_address(start));
    session.say(format_args!("pfn {:#x}: physical {start:#x}, linear map {linear:#x}, node {node}", pfn.0));
    Ok(Some(pfn.0))
}

fn free(session: &mut Session<'_, '_>, words: &mut Words<'_, '_>) -> Done {
    let pfn = Pfn(words.number("PFN")?);
    let order = order(words)?;
    words.end()?;
    if !session.given.contains_key(&pfn) {
        let why = format!("frame {:#x} is none that `alloc` gave, or it is free already", pfn.0);
        return Err(Stop::Refused(why));
    }
    let cpu = session.cpu;
    let pages = session.live.running.pages(cpu).ok_or_else(|| Stop::refused("there is no such CPU"))?;
    pages.allocator.free(pages.cpu, pfn, order).map_err(Stop::refused)?;
    session.given.remove(&pfn);
    Ok(None)
}

fn page_address(session: &mut Session<'_, '_>, words: &mut Words<'_, '_>) -> Done {
    let pfn = Pfn(words.number("PFN")?);
    words.end()?;
    let start = pfn.to_phys(session.live.running.facts.granule);
    let start = start.ok_or_else(|| Stop::refused("the frame has no address"))?;
    let linear = session.live.linear_address(start);
    session.say(format_args!("{linear:#x}"));
    Ok(Some(linear.0))
}

fn drain(session: &mut Session<'_, '_>, words: &mut Words<'_, '_>) -> Done {
    words.end()?;
    session.live.running.drain_all();
    Ok(None)
}
