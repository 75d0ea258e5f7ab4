//! Document 000: what one leaf maps is given away by pages, and giving away changes no entry of the linear map.

use kernmem_arch::{UserFormat, UserRights, WithFormat};
use kernmem_base::{CpuId, Era, Order, PhysAddr, PhysMem, Privilege, VirtAddr, VirtRange};
use kernmem_live::{Live, LiveError, Program};
use kernmem_mm::Place;
use kernmem_page_alloc::{HeapStore, Pages};
use kernmem_pgtable::{MapError, Mapping, Sizes, Tables};

use crate::bench::{Bench, Own};
use crate::notebook::Notebook;
use crate::tables::{Snapshot, kernel_leaf, leaf};
use crate::texts::Text;
use crate::{ClaimId, Holds, Lab, LabError, LabOptions, Value};

const MAPPED_ALREADY: ClaimId = ClaimId::new(0, 8);

pub(crate) const LAB: Lab = Lab {
    name: "block-is-not-an-allocation",
    title: Text::BlockTitle,
    reverse: Text::BlockReverse,
    claims: &[MAPPED_ALREADY],
    run,
};

const CPU: CpuId = CpuId(0);
const PAGE: u64 = 4096;
/// Objects of kmalloc: more than the slabs that a kernel has at first can hold.
const OBJECTS: u64 = 1000;
const OBJECT_BYTES: u64 = 200;
const AREA_PAGES: u64 = 3;
/// Where the program sees the huge page: far from the addresses that `mmap` finds.
const HUGE_AT: VirtAddr = VirtAddr(0x4000_0000);
const HUGE_BYTES: u64 = 2 << 20;
/// The datum in the huge page: not in its first page.
const IN_HUGE: u64 = 0x12_3458;

fn run(options: &LabOptions, book: &mut Notebook<'_>) -> Result<(), LabError> {
    let bench = Bench::open(options, Own::Preset("arm64-4g"))?.with_leaves(options);
    bench.live(|live| {
        book.claim(MAPPED_ALREADY, Text::BlockClaim)?;
        book.show(Text::CommandLine, &[("line", Value::Name(bench.source.config.cmdline.text().to_owned()))])?;
        let boot = Snapshot::of(live);
        let (object, before) = objects(live, &boot, book)?;
        let area = area(live, &before, book)?;
        let (page, huge) = program(live)?;
        judge(&bench, live, &boot, &[object, area, page, huge], book)
    })
}

/// Memory that somebody was given.
struct Given {
    /// By which call.
    by: &'static str,
    /// Its bytes.
    bytes: u64,
    /// The address of the one who has it, of a datum in it.
    own: VirtAddr,
    /// Whose address that is.
    privilege: Privilege,
    /// The memory of the datum.
    pa: PhysAddr,
}

/// Takes objects, and shows what that did to the kernel's tables: nothing. The last one is kept.
fn objects(live: &mut Live<'_>, boot: &Snapshot, book: &mut Notebook<'_>) -> Result<(Given, Snapshot), LabError> {
    let mut frames = Vec::new();
    let mut last = None;
    for _ in 0..OBJECTS {
        let object = live.kmalloc(CPU, OBJECT_BYTES)?;
        let va = live.address_of(object)?;
        frames.push(va.align_down(PAGE));
        last = Some(va);
    }
    frames.sort_unstable();
    frames.dedup();
    let after = Snapshot::of(live);
    let changed = boot.changed(&after, VirtRange::ALL);
    let own = last.ok_or(LabError::Missing("object"))?;
    book.say(
        Text::BlockObjects,
        &[
            ("objects", Value::Count(OBJECTS)),
            ("object_bytes", Value::Count(OBJECT_BYTES)),
            ("object_pages", Value::Count(frames.len() as u64)),
            ("kmalloc_changed", Value::Count(changed.entries())),
        ],
    )?;
    let pa = kernel_leaf(live, own)?.pa;
    Ok((Given { by: "kmalloc", bytes: OBJECT_BYTES, own, privilege: Privilege::Kernel, pa }, after))
}

/// An area of vmalloc, which cannot do without entries of its own.
fn area(live: &mut Live<'_>, before: &Snapshot, book: &mut Notebook<'_>) -> Result<Given, LabError> {
    let bytes = AREA_PAGES * PAGE;
    let own = live.on(CPU, |running, on| running.vmalloc(on, bytes)).0.map_err(LiveError::from)?;
    let changed = before.changed(&Snapshot::of(live), VirtRange::ALL);
    book.say(
        Text::BlockArea,
        &[
            ("area_pages", Value::Count(AREA_PAGES)),
            ("vmalloc_leaves", Value::Count(changed.leaves)),
            ("vmalloc_tables", Value::Count(changed.tables)),
        ],
    )?;
    let pa = kernel_leaf(live, own)?.pa;
    Ok(Given { by: "vmalloc", bytes, own, privilege: Privilege::Kernel, pa })
}

/// A program with a page of its own, and a huge page of the pool as one leaf of its tables.
fn program(live: &mut Live<'_>) -> Result<(Given, Given), LabError> {
    let spawned = live.on(CPU, |running, on| {
        let pid = running.spawn(on)?;
        let page = running.mmap(on, pid, Place::Anywhere, PAGE, UserRights::READ_WRITE)?;
        Ok((pid, page))
    });
    let (pid, own) = spawned.0.map_err(|error: kernmem::running::ProcessError| LiveError::from(error))?;
    let mut program = Program::run_on(live, CPU, pid)?;
    // The first write makes the page.
    program.write(live, own, 0)?;
    let root = live.running.processes.root(pid).ok_or(LabError::Missing("root of the program"))?;
    let mapped = |live: &Live<'_>, va| -> Result<PhysAddr, LabError> {
        Ok(leaf(live, root, va)?.ok_or(LabError::Missing("page of the program"))?.pa)
    };
    let page = Given { by: "malloc", bytes: PAGE, own, privilege: Privilege::User, pa: mapped(live, own)? };
    map_huge(live, root)?;
    let own = HUGE_AT + IN_HUGE;
    let pa = mapped(live, own)?;
    Ok((page, Given { by: "hugetlb", bytes: HUGE_BYTES, own, privilege: Privilege::User, pa }))
}

/// Lets the pool take a page of 2M, and maps it for the program.
fn map_huge(live: &mut Live<'_>, root: PhysAddr) -> Result<(), LabError> {
    let pool = live.running.pool_of(Order(9)).ok_or(LabError::Missing("pool of 2M pages"))?;
    let pages = live.running.pools.get(pool).map_or(0, |pool| pool.counts().total) + 1;
    live.on(CPU, |running, on| running.resize_pool(on, pool, pages));
    let pfn = live.running.take_huge(pool, None, false).map_err(LiveError::from)?;
    let facts = &live.running.facts;
    let (era, format) = (facts.era, facts.format);
    let huge = pfn.to_phys(facts.granule).ok_or(LabError::Missing("huge page"))?;
    let mem = live.memory;
    let pages = live.running.pages(CPU).ok_or(LabError::Missing("first CPU"))?;
    Ok(format.with(MapHuge { mem, root, era, huge, pages })?)
}

struct MapHuge<'a, M> {
    mem: &'a M,
    root: PhysAddr,
    era: Era,
    huge: PhysAddr,
    pages: Pages<'a, HeapStore>,
}

impl<M: PhysMem> WithFormat for MapHuge<'_, M> {
    type Output = Result<(), MapError>;

    fn run<F: UserFormat>(mut self) -> Self::Output {
        let born = F::protection(self.era, UserRights::READ_WRITE, true);
        let attrs = F::make_written(self.era, F::make_young(born));
        let sizes = Sizes::only(F::shape(), |leaf| leaf.bytes <= HUGE_BYTES);
        let mapping = Mapping::<F>::new(self.huge, attrs, sizes).with_table_attrs(F::table(self.era));
        let range = VirtRange { start: HUGE_AT, last: HUGE_AT + (HUGE_BYTES - 1) };
        let mut tables = Tables::<F, M>::new(self.mem, self.root);
        match tables.cursor(range).map(&mut self.pages, &mapping) {
            Ok(stale) => {
                stale.forgive("nothing was mapped there");
                Ok(())
            }
            Err(failed) => {
                failed.stale.forgive("nothing was mapped there");
                Err(failed.error)
            }
        }
    }
}

/// What the leaves of the linear map say of all that was given.
fn judge(
    bench: &Bench,
    live: &Live<'_>,
    boot: &Snapshot,
    given: &[Given],
    book: &mut Notebook<'_>,
) -> Result<(), LabError> {
    let mut leaves = Vec::new();
    for one in given {
        let linear = live.linear_address(one.pa);
        let leaf = kernel_leaf(live, linear)?;
        leaves.push(leaf);
        book.show(
            Text::BlockGiven,
            &[
                ("by", Value::Name(format!("{:8}", one.by))),
                ("bytes", Value::Bytes(one.bytes)),
                ("pa", Value::Address(one.pa.0)),
                ("own", Value::Address(one.own.0)),
                ("linear", Value::Address(linear.0)),
                ("leaf_at", Value::Address(leaf.at.0)),
                ("leaf_bytes", Value::Bytes(leaf.bytes)),
            ],
        )?;
    }
    let behind = |at: PhysAddr| leaves.iter().filter(|leaf| leaf.at == at).count() as u64;
    let shared = leaves.iter().max_by_key(|leaf| behind(leaf.at)).ok_or(LabError::Missing("leaf"))?;
    let kinds = behind(shared.at);
    book.say(
        Text::BlockLeaf,
        &[
            ("kinds", Value::Count(kinds)),
            ("given", Value::Count(given.len() as u64)),
            ("leaf", Value::Bytes(shared.bytes)),
            ("at", Value::Address(shared.at.0)),
            ("raw_before", Value::Address(boot.raw(shared.at).unwrap_or_default())),
            ("raw_after", Value::Address(shared.raw)),
        ],
    )?;
    book.say(
        Text::BlockBothWays,
        &[("agree", Value::Count(both_ways(live, given)?)), ("given", Value::Count(given.len() as u64))],
    )?;
    let linear = linear_map(live)?;
    let changed = boot.changed(&Snapshot::of(live), linear).entries();
    book.say(Text::BlockUnchanged, &[("linear_changed", Value::Count(changed))])?;
    let holds = match (changed, shared.bytes) {
        (1.., _) => Holds::No(Text::BlockChanged),
        (0, PAGE) => Holds::OnlyIf(Text::BlockLeavesArePages),
        (0, _) if kinds == given.len() as u64 => Holds::Yes,
        (0, ..=HUGE_BYTES) => Holds::OnlyIf(Text::BlockLeafIsSmall),
        (0, _) => Holds::OnlyIf(Text::BlockOtherLeaves),
    };
    book.conclude(bench.era(), holds)
}

/// Writes each datum by its owner's address and reads it by the linear map's; returns how many agree.
fn both_ways(live: &Live<'_>, given: &[Given]) -> Result<u64, LabError> {
    let cpu = live.cpus.cpu(CPU).ok_or(LabError::Missing("first CPU"))?;
    let mut agree = 0;
    for (one, word) in given.iter().zip(0x6b65_726e_6d65_6d00u64..) {
        cpu.write_u64(live.memory, one.own, word, one.privilege).map_err(LiveError::from)?;
        let linear = live.linear_address(one.pa);
        let read = cpu.read_u64(live.memory, linear, Privilege::Kernel).map_err(LiveError::from)?;
        agree += u64::from(read == word);
    }
    Ok(agree)
}

/// The linear map's addresses, from the first to the last byte of memory.
fn linear_map(live: &Live<'_>) -> Result<VirtRange, LabError> {
    let regions = live.running.kernel.memblock.memory().regions();
    let (first, last) = regions.first().zip(regions.last()).ok_or(LabError::Missing("memory"))?;
    let last = PhysAddr(last.range().end.0 - 1);
    Ok(VirtRange { start: live.linear_address(first.base), last: live.linear_address(last) })
}
