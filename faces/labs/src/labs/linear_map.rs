//! Document 000: the grain of arm64's linear map, and that a mapping is no allocation.

use kernmem::Isa;
use kernmem_arch::arm64::linear::{LinearFacts, by_pages};
use kernmem_base::{Era, Granule, Level, PhysRange, VirtRange};
use kernmem_config::Rodata;
use kernmem_memblock::{Event, UpTo};
use kernmem_view::census::{Census, census};
use kernmem_view::{RootKind, Told};

use crate::bench::{Bench, Booted, Own, reached};
use crate::notebook::Notebook;
use crate::texts::Text;
use crate::{ClaimId, Holds, Lab, LabError, LabOptions, Value};

const GRAIN: ClaimId = ClaimId::new(0, 1);
const DEFAULT: ClaimId = ClaimId::new(0, 2);
const RODATA_0: ClaimId = ClaimId::new(0, 3);
const NO_ALLOCATION: ClaimId = ClaimId::new(0, 4);

pub(crate) const LAB: Lab = Lab {
    name: "linear-map",
    title: Text::LinearMapTitle,
    reverse: Text::LinearMapReverse,
    claims: &[GRAIN, DEFAULT, RODATA_0, NO_ALLOCATION],
    run,
};

const GIB: u64 = 1 << 30;
const PAGE: u64 = 4096;

fn run(options: &LabOptions, book: &mut Notebook<'_>) -> Result<(), LabError> {
    let bench = Bench::open(options, Own::Preset("arm64-4g"))?.of_arm64(LAB.name)?;
    let word = if options.reverse { "rodata=full" } else { "rodata=off" };
    let main = if options.parts.cmdline.is_some() { bench.clone() } else { bench.with_word("rodata", Some(word)) };
    let plain = bench.with_word("rodata", None);
    let default = plain.boot(|booted| Grain::of(booted))?;
    main.boot(|booted| {
        grain(&main, &Grain::of(booted)?, book)?;
        by_default(&plain, &default, book)?;
        rodata_0(&plain, &default, book)?;
        no_allocation(&main, booted, book)
    })
}

/// What the linear map is made of, and what it cost.
struct Grain {
    /// Bytes by level in the gigabyte that holds the image.
    image: Levels,
    /// Bytes by level in the rest.
    others: Levels,
    /// Pages that became tables before the memory map was made.
    tables: u64,
}

#[derive(Default)]
struct Levels {
    pud: u64,
    pmd: u64,
    pte: u64,
}

impl Levels {
    fn of(census: &Census) -> Self {
        let sum = |level| census.leaves.iter().filter(|leaf| leaf.size.level == level).map(|leaf| leaf.bytes).sum();
        Self { pud: sum(Level::Pud), pmd: sum(Level::Pmd), pte: sum(Level::Pte) }
    }

    /// Everything is a page.
    const fn is_all_pages(&self) -> bool {
        self.pud == 0 && self.pmd == 0
    }

    const fn bytes(&self) -> u64 {
        self.pud + self.pmd + self.pte
    }
}

impl Grain {
    fn of(booted: &Booted<'_>) -> Result<Self, LabError> {
        let Isa::Arm64(state) = &booted.kernel.isa else { return Err(LabError::Missing("linear map of arm64")) };
        let start = state.linear(state.text_phys).align_down(GIB);
        let image = VirtRange { start, last: start + (GIB - 1) };
        let mut others = Vec::new();
        for range in booted.linear_ranges()? {
            others.extend(
                VirtRange::until(range.start, start)
                    .filter(|_| range.start < start)
                    .map(|below| VirtRange { start: below.start, last: below.last.min(range.last) }),
            );
            let above = range.start.max(image.end());
            others.extend((above <= range.last).then_some(VirtRange { start: above, last: range.last }));
        }
        let count = |ranges: &[VirtRange]| {
            census(&booted.kernel, RootKind::Kernel, ranges)
                .map(|census| Levels::of(&census))
                .map_err(LabError::Missing)
        };
        Ok(Self { image: count(&[image])?, others: count(&others)?, tables: tables_of_paging_init(booted) })
    }
}

/// Requests of one page by which `paging_init` takes its tables; the memory map's tables are asked for otherwise.
fn tables_of_paging_init(booted: &Booted<'_>) -> u64 {
    let is_table = |told: &&Told| match told {
        Told::Memblock(event) => {
            matches!(event.as_event(), Event::PhysAllocRange { size: PAGE, align: PAGE, max: UpTo::NOLEAKTRACE, .. })
        }
        Told::Log(_) => false,
    };
    booted.record().told.iter().filter(is_table).count() as u64
}

fn grain(bench: &Bench, grain: &Grain, book: &mut Notebook<'_>) -> Result<(), LabError> {
    book.claim(GRAIN, Text::GrainClaim)?;
    book.show(Text::CommandLine, &[("line", Value::Name(bench.source.config.cmdline.text().to_owned()))])?;
    let Grain { image, others, tables } = grain;
    book.say(
        Text::GrainOfImage,
        &[
            ("image_2m", Value::Bytes(image.pmd)),
            ("image_4k", Value::Bytes(image.pte)),
            ("image_1g", Value::Bytes(image.pud)),
        ],
    )?;
    book.say(
        Text::GrainOfOthers,
        &[
            ("others_1g", Value::Bytes(others.pud)),
            ("others_2m", Value::Bytes(others.pmd)),
            ("others_4k", Value::Bytes(others.pte)),
        ],
    )?;
    book.say(Text::TablePages, &[("table_pages", Value::Count(*tables))])?;
    let image_is_fine = image.pud == 0 && image.pmd > 0 && image.pte > 0;
    let others_are_large = others.pmd == 0 && others.pte == 0;
    let holds = match (image_is_fine, others_are_large) {
        (true, true) => Holds::Yes,
        (true, false) if !others.is_all_pages() => Holds::OnlyIf(Text::WholeGibibytes),
        _ => Holds::No(Text::AllByPages),
    };
    book.conclude(bench.era(), holds)
}

fn by_default(bench: &Bench, grain: &Grain, book: &mut Notebook<'_>) -> Result<(), LabError> {
    book.claim(DEFAULT, Text::DefaultClaim)?;
    let pages = grain.image.pte + grain.others.pte;
    let blocks = grain.image.bytes() + grain.others.bytes() - pages;
    book.say(Text::DefaultGrain, &[("pages", Value::Bytes(pages)), ("blocks", Value::Bytes(blocks))])?;
    book.say(Text::TablePages, &[("table_pages", Value::Count(grain.tables))])?;
    let is_full = bench.source.config.rodata().value == Rodata::Full;
    let holds = match (is_full, blocks) {
        (true, 0) => Holds::Yes,
        (true, _) => Holds::OnlyIf(Text::SmallImage),
        (false, _) => Holds::No(Text::DefaultIsNotFull),
    };
    book.conclude(bench.era(), holds)?;
    for era in Era::ALL.into_iter().filter(|era| *era != bench.era()) {
        let facts = |bbml2_noabort| LinearFacts { rodata_full: true, bbml2_noabort, ..LinearFacts::default() };
        let reasons = |bbml2| by_pages(era, facts(bbml2)).count();
        book.keep(("reasons", Value::Count(reasons(false) as u64)));
        let holds = match (reasons(false), reasons(true)) {
            (0, _) => Holds::No(Text::NoFullProtection),
            (_, 0) => Holds::OnlyIf(Text::NoBbml2),
            _ => Holds::Yes,
        };
        book.conclude(era, holds)?;
    }
    Ok(())
}

fn rodata_0(bench: &Bench, default: &Grain, book: &mut Notebook<'_>) -> Result<(), LabError> {
    book.claim(RODATA_0, Text::Rodata0Claim)?;
    let bench = bench.with_word("rodata", Some("rodata=0"));
    let booted = bench.boot(|booted| Grain::of(booted))?;
    book.show(
        Text::Rodata0Booted,
        &[("with", Value::Count(booted.tables)), ("without", Value::Count(default.tables))],
    )?;
    for era in Era::ALL.into_iter().filter(|era| *era != Era::V4_14) {
        let mut config = bench.source.config.clone();
        config.era = era;
        let answer = config.rodata();
        let is_full = answer.value == Rodata::Full;
        let by_pages = by_pages(era, LinearFacts { rodata_full: is_full, ..LinearFacts::default() }).count() > 0;
        book.say(
            Text::Rodata0Rule,
            &[
                ("era", Value::Name(era.name().to_owned())),
                ("rodata", Value::Name(format!("{:?}", answer.value).to_lowercase())),
                ("warnings", Value::Count(answer.warnings.len() as u64)),
                ("by_pages", Value::Truth(by_pages)),
            ],
        )?;
        if era == bench.era() {
            book.keep(("table_pages", Value::Count(booted.tables)));
        }
        book.conclude(era, if is_full { Holds::No(Text::Rodata0IsInvalid) } else { Holds::Yes })?;
    }
    Ok(())
}

fn no_allocation(bench: &Bench, booted: &mut Booted<'_>, book: &mut Notebook<'_>) -> Result<(), LabError> {
    book.claim(NO_ALLOCATION, Text::NoAllocationClaim)?;
    // A single page, taken as the page allocator's user would take it.
    let page = booted.kernel.pages.page().ok_or(LabError::Missing("free page"))?;
    let va = booted.linear(page)?;
    let steps = booted.steps(booted.kernel_root()?, va)?;
    let (pa, leaf) = reached(&steps, va).ok_or(LabError::Missing("mapping of a free page"))?;
    book.say(
        Text::OnePage,
        &[("page", Value::Address(page.0)), ("page_va", Value::Address(va.0)), ("leaf", Value::Bytes(leaf))],
    )?;
    if leaf <= PAGE {
        return book.conclude(bench.era(), Holds::OnlyIf(Text::LeavesAreBlocks));
    }
    let block = PhysRange::new(pa.align_down(leaf), pa.align_down(leaf) + leaf);
    let (mut chunks, mut pages, mut smallest) = (0, 0, u8::MAX);
    for chunk in booted.kernel.memblock.chunks() {
        let inside = chunk.start.to_phys(Granule::K4).is_some_and(|start| block.contains(start));
        if inside {
            chunks += 1;
            pages += 1u64 << chunk.order.0;
            smallest = smallest.min(chunk.order.0);
        }
    }
    book.say(
        Text::FreeInBlock,
        &[
            ("free_pages", Value::Count(pages)),
            ("block_pages", Value::Count(leaf / PAGE)),
            ("chunks", Value::Count(chunks)),
            ("smallest_order", Value::Count(u64::from(smallest))),
        ],
    )?;
    book.conclude(bench.era(), if pages > 0 { Holds::Yes } else { Holds::No(Text::NothingFree) })
}
