//! Document 004: what vmalloc does, call by call; pages that lie apart are neighbours at its addresses.

use kernmem_base::{CpuId, Order, Pfn, Privilege, VirtAddr};
use kernmem_live::{Live, LiveError};
use kernmem_page_alloc::{Gfp, PageSource};
use kernmem_vmalloc::{Call, Trace};

use crate::bench::{Bench, Own};
use crate::notebook::Notebook;
use crate::tables::kernel_leaf;
use crate::texts::Text;
use crate::{ClaimId, Holds, Lab, LabError, LabOptions, Value};

const CHAIN: ClaimId = ClaimId::new(4, 5);

pub(crate) const LAB: Lab =
    Lab { name: "vmalloc", title: Text::VmallocTitle, reverse: Text::VmallocReverse, claims: &[CHAIN], run };

const CPU: CpuId = CpuId(0);
const PAGE: u64 = 4096;
/// Pages of the area that is looked at, and of the one in a block.
const PAGES: u64 = 8;
const BLOCK_PAGES: u64 = 512;
/// One page more than an array of a page can name.
const MANY_PAGES: u64 = PAGE / 8 + 1;
/// Pages that are shown one by one.
const SHOWN: u64 = 8;

/// The calls below the entry, as the document draws them, but for the loop in the last one.
const DRAWN: [&str; 9] = [
    "__vmalloc_node_range",
    "__get_vm_area_node",
    "kzalloc_node",
    "alloc_vmap_area",
    "setup_vmalloc_vm",
    "__vmalloc_area_node",
    "kmalloc_node",
    "vm_area_alloc_pages",
    "vmap_pages_range",
];
const LOOP: &str = "vmap_range_noflush";

fn run(options: &LabOptions, book: &mut Notebook<'_>) -> Result<(), LabError> {
    let bench = Bench::open(options, Own::Preset("x86-4g"))?;
    bench.live(|live| {
        book.claim(CHAIN, Text::ChainClaim)?;
        fragment(live)?;
        let (va, chain) = if options.reverse {
            traced(live, |running, on| running.vmalloc_huge(on, BLOCK_PAGES * PAGE))?
        } else {
            traced(live, |running, on| running.vmalloc(on, PAGES * PAGE))?
        };
        tell(&chain, book)?;
        let pages = if options.reverse { BLOCK_PAGES } else { PAGES };
        frames(live, va, pages, book)?;
        guard(live, va, pages, book)?;
        freed(live, va, book)?;
        nested(live, book)?;
        book.conclude(bench.era(), chain.holds())
    })
}

/// Takes pages one by one and gives every second back: the next single pages do not lie together.
fn fragment(live: &mut Live<'_>) -> Result<(), LabError> {
    let mut pages = live.running.pages(CPU).ok_or(LabError::Missing("first CPU"))?;
    let mut taken = Vec::new();
    for _ in 0..4 * PAGES {
        taken.push(pages.alloc(Gfp::KERNEL, Order(0)).map_err(LiveError::from)?);
    }
    taken.sort_unstable();
    for pfn in taken.into_iter().step_by(2) {
        pages.free(pfn, Order(0)).map_err(LiveError::from)?;
    }
    Ok(())
}

/// The calls in their order, each with how deep it is.
#[derive(Default)]
struct Chain {
    depth: usize,
    calls: Vec<(usize, &'static str)>,
}

impl Trace for Chain {
    fn enter(&mut self, call: &Call) {
        self.calls.push((self.depth, call.name()));
        self.depth += 1;
    }

    fn leave(&mut self, _call: &Call, _is_done: bool) {
        self.depth -= 1;
    }
}

impl Chain {
    fn count(&self, name: &str) -> u64 {
        self.calls.iter().filter(|(_, own)| *own == name).count() as u64
    }

    fn holds(&self) -> Holds {
        let below = self.calls.iter().map(|(_, name)| *name).skip_while(|name| *name != DRAWN[0]);
        let is_drawn = below.filter(|name| *name != LOOP).eq(DRAWN);
        match (is_drawn, self.count(LOOP)) {
            (false, _) => Holds::No(Text::OtherChain),
            (true, 0) => Holds::OnlyIf(Text::LoopOfBlocks),
            (true, _) => Holds::Yes,
        }
    }
}

type Kernel<'m> = kernmem::running::Running<'m, kernmem_sim::Memory, kernmem_view::BootRecord>;

fn traced<'m>(
    live: &mut Live<'m>,
    work: impl FnOnce(&mut Kernel<'m>, &mut kernmem::running::On<'_>) -> Result<VirtAddr, kernmem_vmalloc::VmallocError>,
) -> Result<(VirtAddr, Chain), LabError> {
    let mut chain = Chain::default();
    let (area, _) = live.traced(CPU, Some(&mut chain), work);
    Ok((area.map_err(LiveError::from)?, chain))
}

fn tell(chain: &Chain, book: &mut Notebook<'_>) -> Result<(), LabError> {
    for (depth, name) in &chain.calls {
        book.show(Text::ChainCall, &[("call", Value::Name(format!("{:1$}{name}", "", 2 * depth)))])?;
    }
    book.say(
        Text::ChainCalls,
        &[("calls", Value::Count(chain.calls.len() as u64)), ("loops", Value::Count(chain.count(LOOP)))],
    )
}

/// Where the pages lie, and that the linear map shows the same bytes.
fn frames(live: &Live<'_>, va: VirtAddr, pages: u64, book: &mut Notebook<'_>) -> Result<(), LabError> {
    let cpu = live.cpus.cpu(CPU).ok_or(LabError::Missing("first CPU"))?;
    let granule = live.running.facts.granule;
    let mut frames = Vec::new();
    let mut agree = 0;
    for page in 0..pages {
        let own = va + page * PAGE;
        let pfn = live.running.vmalloc_to_pfn(own).map_err(|_| LabError::Missing("table of an area"))?;
        let pfn = pfn.ok_or(LabError::Missing("page of an area"))?;
        let linear = live.linear_address(pfn.to_phys(granule).ok_or(LabError::Missing("page of an area"))?);
        cpu.write_u64(live.memory, own, page, Privilege::Kernel).map_err(LiveError::from)?;
        let read = cpu.read_u64(live.memory, linear, Privilege::Kernel).map_err(LiveError::from)?;
        agree += u64::from(read == page);
        frames.push(pfn);
        if page < SHOWN {
            let numbers = [
                ("own", Value::Address(own.0)),
                ("pfn", Value::Name(format!("{:x}", pfn.0))),
                ("linear", Value::Address(linear.0)),
            ];
            book.show(Text::ChainPage, &numbers)?;
        }
    }
    let follows = |pair: &&[Pfn]| pair[0].0 + 1 == pair[1].0;
    let neighbours = frames.windows(2).filter(follows).count() as u64;
    book.say(
        Text::ChainFrames,
        &[
            ("pages", Value::Count(pages)),
            ("leaf", Value::Bytes(kernel_leaf(live, va)?.bytes)),
            ("neighbours", Value::Count(neighbours)),
            ("pairs", Value::Count(pages - 1)),
            ("agree", Value::Count(agree)),
        ],
    )
}

/// The page behind the area is the area's too, and nothing is mapped there.
fn guard(live: &Live<'_>, va: VirtAddr, pages: u64, book: &mut Notebook<'_>) -> Result<(), LabError> {
    let area = live.running.areas.find_vm_area(va).ok_or(LabError::Missing("area"))?;
    let behind = va + pages * PAGE;
    book.say(
        Text::ChainGuard,
        &[
            ("area_bytes", Value::Bytes(area.size)),
            ("guard", Value::Address(behind.0)),
            ("guard_read", Value::Name(read(live, behind)?)),
        ],
    )
}

/// What a read by the CPU comes to.
fn read(live: &Live<'_>, va: VirtAddr) -> Result<String, LabError> {
    let cpu = live.cpus.cpu(CPU).ok_or(LabError::Missing("first CPU"))?;
    Ok(match cpu.read_u64(live.memory, va, Privilege::Kernel) {
        Ok(_) => "done".to_owned(),
        Err(interrupted) => format!("{:?} fault", interrupted.fault.kind),
    })
}

/// A free waits for a purge; until then a TLB may still know the old pages.
fn freed(live: &mut Live<'_>, va: VirtAddr, book: &mut Notebook<'_>) -> Result<(), LabError> {
    let lazy = live.running.areas.lazy_pages();
    let (done, free_flushes) = live.on(CPU, |running, on| running.vfree(on, va));
    done.map_err(LiveError::from)?;
    let waiting = live.running.areas.lazy_pages() - lazy;
    let before = read(live, va)?;
    let (_, purge_flushes) = live.on(CPU, |running, on| running.purge(on));
    let after = read(live, va)?;
    book.say(
        Text::ChainFreed,
        &[
            ("free_flushes", Value::Count(free_flushes)),
            ("lazy_pages", Value::Count(waiting)),
            ("freed_read", Value::Name(before)),
            ("purge_flushes", Value::Count(purge_flushes)),
            ("purged_read", Value::Name(after)),
        ],
    )
}

/// The array of pointers: too large for a page, it is an area itself.
fn nested(live: &mut Live<'_>, book: &mut Notebook<'_>) -> Result<(), LabError> {
    let (va, chain) = traced(live, |running, on| running.vmalloc(on, MANY_PAGES * PAGE))?;
    live.on(CPU, |running, on| running.vfree(on, va)).0.map_err(LiveError::from)?;
    book.say(
        Text::ChainNested,
        &[
            ("many_pages", Value::Count(MANY_PAGES)),
            ("array_bytes", Value::Count(MANY_PAGES * 8)),
            ("nodes", Value::Count(chain.count("__vmalloc_node"))),
            ("kmallocs", Value::Count(chain.count("kmalloc_node"))),
        ],
    )
}
