//! Document 003: what a conversion between frame and page descriptor costs in each memory model, in loads, in memory, and
//! on this host in time.

mod measure;

use core::cell::Cell;

use kernmem_base::{Era, Pfn, PhysAddr, VirtAddr};
use kernmem_sparse::{
    Conversion, ConversionJob, FlatMap, Geometry, GeometryFacts, Group, Memmap, Model, Nid, Root, SectionNr, Sections,
    SparseArch, Spending, Tables, VecStore, VirtualMap, Words, can_be_built,
};
use kernmem_view::KernelView;

use crate::bench::{Bench, Booted, Own, frame_zero, reached};
use crate::notebook::Notebook;
use crate::texts::Text;
use crate::{ClaimId, Holds, Lab, LabError, LabOptions, Value};

const SLOWER: ClaimId = ClaimId::new(3, 5);
const SPACE: ClaimId = ClaimId::new(3, 8);

pub(crate) const LAB: Lab = Lab {
    name: "memory-models",
    title: Text::MemoryModelsTitle,
    reverse: Text::MemoryModelsReverse,
    claims: &[SLOWER, SPACE],
    run,
};

/// How far up the second half of memory moves, if physical addresses reach so far.
const FAR: u64 = 512 << 30;

fn run(options: &LabOptions, book: &mut Notebook<'_>) -> Result<(), LabError> {
    let bench = Bench::open(options, Own::Preset("x86-4g"))?;
    bench.boot(|booted| {
        let machine = Machine::of(booted, options.reverse)?;
        slower(&bench, booted, &machine, options.measure, book)?;
        space(&bench, &machine, book)
    })
}

/// The memory of a kernel, and where it would keep page descriptors in each model.
struct Machine {
    geometry: Geometry,
    /// Frames `[start, end)`, ascending and apart.
    ranges: Vec<(Pfn, Pfn)>,
    /// Where arrays of descriptors begin: low memory.
    arrays: VirtAddr,
    /// The vmemmap; i386 has none.
    virtual_map: Option<VirtualMap>,
    va_bits: u32,
}

impl Machine {
    fn of(booted: &Booted<'_>, apart: bool) -> Result<Self, LabError> {
        let geometry = *booted.kernel.sections.geometry();
        let page = geometry.granule();
        let banks = booted.banks();
        let start = banks.first().map(|bank| bank.start).ok_or(LabError::Missing("memory"))?;
        let mut ranges: Vec<_> = banks.iter().map(|bank| (bank.start.pfn(page), bank.end.pfn(page))).collect();
        if apart {
            part(&geometry, &mut ranges);
        }
        let base = match geometry.facts().arch {
            SparseArch::Arm64 | SparseArch::X86_64 => Some(frame_zero(&booted.kernel)?),
            SparseArch::I386Pae | SparseArch::I386 => None,
        };
        let page_bytes = geometry.page_bytes();
        Ok(Self {
            geometry,
            ranges,
            arrays: booted.linear(start)?,
            virtual_map: base.map(|(base, variable)| VirtualMap { base, page_bytes, variable }),
            va_bits: booted.kernel.format().shape().va_bits(),
        })
    }

    /// The models that there are on this architecture: explanations draw the static one on all.
    fn models(&self) -> impl Iterator<Item = Model> + use<> {
        let has_vmemmap = self.virtual_map.is_some();
        Model::ALL.into_iter().filter(move |model| has_vmemmap || matches!(model, Model::Flat | Model::Static))
    }

    /// The first frame that a flat array describes, and how many: whole blocks of the page allocator.
    fn span(&self) -> (Pfn, u64) {
        let block = 1 << self.geometry.facts().largest_order;
        let first = self.ranges.first().map_or(0, |range| range.0.0 & !(block - 1));
        let past = self.ranges.last().map_or(0, |range| range.1.0.next_multiple_of(block));
        (Pfn(first), past - first)
    }

    /// The first and the last frame of memory in a section.
    fn ends(&self, nr: SectionNr) -> Option<[Pfn; 2]> {
        let (first, past) = (self.geometry.first_pfn(nr), self.geometry.first_pfn(SectionNr(nr.0 + 1)));
        let mut parts = self.ranges.iter().filter(|(start, end)| *start < past && *end > first);
        let low = parts.next()?;
        let high = parts.next_back().unwrap_or(low);
        Some([low.0.max(first), Pfn(high.1.min(past).0 - 1)])
    }

    /// The sections of this memory: arrays lie one behind the other, a vmemmap at its place.
    fn sections(&self, model: Model) -> Result<Sections<VecStore>, LabError> {
        let geometry = self.geometry.with_model(model);
        let mut sections = Sections::new(geometry, VecStore::new());
        for &(start, end) in &self.ranges {
            sections.memory_present(Nid(0), start, end, |_| {}).map_err(kernmem::BootError::from)?;
        }
        let mut next = self.arrays;
        let groups: Vec<Group> = sections.groups().collect();
        for group in groups {
            let array = |nr: SectionNr| {
                let at = next;
                next = next + geometry.section_memmap_bytes();
                let map = self.virtual_map.filter(|_| model == Model::Vmemmap);
                Some(map.map_or(at, |map| map.page(geometry.first_pfn(nr))))
            };
            sections.bring_up(group, array).map_err(|_| LabError::Missing("room for section arrays"))?;
        }
        Ok(sections)
    }

    /// How a kernel of `model` converts; the sections are those of the same model.
    fn memmap<'s>(&self, model: Model, sections: &'s Sections<VecStore>) -> Memmap<'s, VecStore> {
        let (first, frames) = self.span();
        let page_bytes = self.geometry.page_bytes();
        match (model, self.virtual_map) {
            (Model::Flat, _) => Memmap::Flat(FlatMap { map: self.arrays, first, frames, page_bytes, variable: true }),
            (Model::Vmemmap, Some(map)) => Memmap::Virtual(map),
            _ => Memmap::Sections(sections),
        }
    }

    fn spending(&self, geometry: &Geometry) -> Spending {
        let nowhere = VirtualMap { base: VirtAddr(0), page_bytes: geometry.page_bytes(), variable: false };
        Spending::of(geometry, self.ranges.iter().copied(), self.virtual_map.unwrap_or(nowhere), self.va_bits)
    }
}

/// Moves the second half of memory, its last range or the end of its only one, as far up as it may go.
fn part(geometry: &Geometry, ranges: &mut Vec<(Pfn, Pfn)>) {
    let section = geometry.pages_per_section();
    if let [(start, end)] = ranges.as_slice() {
        let middle = Pfn((start.0 + (end.0 - start.0) / 2).next_multiple_of(section).min(end.0));
        let halves = [(*start, middle), (middle, *end)];
        *ranges = halves.into_iter().filter(|(start, end)| start < end).collect();
    }
    if let Some((start, end)) = ranges.last_mut() {
        let room = (geometry.max_pfn().0 - end.0) & !(section - 1);
        let far = room.min(FAR >> geometry.granule().shift());
        (start.0, end.0) = (start.0 + far, end.0 + far);
    }
}

/// Tables that count loads.
#[derive(Clone, Copy)]
struct Counted<'c> {
    tables: Tables<'c>,
    loads: &'c Cell<u64>,
}

impl Words for Counted<'_> {
    fn root(&self, root: usize) -> Root {
        self.loads.set(self.loads.get() + 1);
        self.tables.root(root)
    }

    fn word(&self, place: usize) -> u64 {
        self.loads.set(self.loads.get() + 1);
        self.tables.word(place)
    }
}

/// Loads of a conversion that each wait for the one before: there, and back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Loads {
    there: u64,
    back: u64,
}

/// Converts a frame there and back, and counts.
struct Count<'c> {
    pfn: Pfn,
    nr: SectionNr,
    loads: &'c Cell<u64>,
}

impl ConversionJob for Count<'_> {
    type Output = Loads;

    fn run(self, conversion: impl Conversion) -> Loads {
        let page = conversion.page(self.pfn);
        let there = self.loads.take();
        let flags = || {
            self.loads.set(self.loads.get() + 1);
            self.nr
        };
        let _ = conversion.pfn(page, flags);
        Loads { there, back: self.loads.take() }
    }
}

/// The loads of one frame's conversions in `model`; what does not read tables has none to count.
fn count(machine: &Machine, model: Model, sections: &Sections<VecStore>, nr: SectionNr) -> Loads {
    let loads = Cell::new(0);
    let job = Count { pfn: machine.geometry.first_pfn(nr), nr, loads: &loads };
    match machine.memmap(model, sections) {
        Memmap::Sections(sections) => {
            sections.convert_through(Counted { tables: sections.tables(), loads: &loads }, job)
        }
        computed => computed.convert(job),
    }
}

/// Counts the sections of whose memory a model converts the first and the last frame as the arithmetic of its arrays
/// says, and back.
struct Agree<'s> {
    machine: &'s Machine,
    model: Model,
    sections: &'s Sections<VecStore>,
}

impl Agree<'_> {
    /// Where the descriptor of `pfn` stands, which is in the section that is present as `index`th.
    fn expected(&self, index: u64, pfn: Pfn) -> VirtAddr {
        let (machine, geometry) = (self.machine, &self.machine.geometry);
        let (start, offset) = match (self.model, machine.virtual_map) {
            (Model::Flat, _) => (machine.arrays, pfn.0 - machine.span().0.0),
            (Model::Vmemmap, Some(map)) => (map.base, pfn.0),
            _ => {
                let array = machine.arrays + index * geometry.section_memmap_bytes();
                (array, pfn.0 & (geometry.pages_per_section() - 1))
            }
        };
        start.wrapping_add(offset.wrapping_mul(geometry.page_bytes()))
    }
}

impl ConversionJob for Agree<'_> {
    type Output = u64;

    fn run(self, conversion: impl Conversion) -> u64 {
        let agrees = |&(index, nr): &(u64, SectionNr)| {
            let Some(ends) = self.machine.ends(nr) else { return false };
            ends.into_iter().all(|pfn| {
                let page = self.expected(index, pfn);
                conversion.page(pfn) == page && conversion.pfn(page, || nr) == pfn
            })
        };
        (0..).zip(self.sections.present()).filter(agrees).count() as u64
    }
}

/// What a sentence says about one model, and under which names its numbers are kept.
struct Names {
    there: &'static str,
    back: &'static str,
    agree: &'static str,
    memmap: &'static str,
    tables: &'static str,
    usage: &'static str,
}

const fn names(model: Model) -> Names {
    match model {
        Model::Flat => Names {
            there: "flat_loads",
            back: "flat_back",
            agree: "flat_agree",
            memmap: "flat_memmap",
            tables: "flat_tables",
            usage: "flat_usage",
        },
        Model::Static => Names {
            there: "static_loads",
            back: "static_back",
            agree: "static_agree",
            memmap: "static_memmap",
            tables: "static_tables",
            usage: "static_usage",
        },
        Model::Extreme => Names {
            there: "extreme_loads",
            back: "extreme_back",
            agree: "extreme_agree",
            memmap: "extreme_memmap",
            tables: "extreme_tables",
            usage: "extreme_usage",
        },
        Model::Vmemmap => Names {
            there: "vmemmap_loads",
            back: "vmemmap_back",
            agree: "vmemmap_agree",
            memmap: "vmemmap_memmap",
            tables: "vmemmap_tables",
            usage: "vmemmap_usage",
        },
    }
}

fn name(model: Model) -> Value {
    Value::Name(model.name().to_owned())
}

fn slower(
    bench: &Bench,
    booted: &Booted<'_>,
    machine: &Machine,
    measure: bool,
    book: &mut Notebook<'_>,
) -> Result<(), LabError> {
    book.claim(SLOWER, Text::SlowerClaim)?;
    let mut kept = Vec::new();
    for model in machine.models() {
        let sections = machine.sections(model)?;
        let last = sections.highest_present().ok_or(LabError::Missing("memory"))?;
        let loads = count(machine, model, &sections, last);
        let memmap = machine.memmap(model, &sections);
        let agree = memmap.convert(Agree { machine, model, sections: &sections });
        book.show(
            Text::ModelLoads,
            &[
                ("model", name(model)),
                ("loads", Value::Count(loads.there)),
                ("back", Value::Count(loads.back)),
                ("variables", Value::Count(u64::from(memmap.pfn_to_page_references().globals))),
                ("agree", Value::Count(agree)),
                ("sections", Value::Count(sections.present_count())),
            ],
        )?;
        kept.push((names(model).agree, Value::Count(agree)));
        kept.push((names(model).there, Value::Count(loads.there)));
        kept.push((names(model).back, Value::Count(loads.back)));
    }
    if let Some(map) = machine.virtual_map {
        walks(booted, map, book)?;
    }
    if measure {
        measured(machine, book)?;
    }
    for era in bench.eras() {
        kept.iter().cloned().for_each(|number| book.keep(number));
        book.conclude(era, judge(machine.geometry.facts().arch, era))?;
    }
    Ok(())
}

fn judge(arch: SparseArch, era: Era) -> Holds {
    let slower = [Model::Static, Model::Extreme].into_iter().any(|model| can_be_built(arch, era, model));
    match (slower, can_be_built(arch, era, Model::Vmemmap)) {
        (true, true) => Holds::OnlyIf(Text::ClassicModel),
        (true, false) => Holds::OnlyIf(Text::ArrayOfSections),
        (false, _) => Holds::No(Text::OnlyVmemmap),
    }
}

/// What the MMU reads where it knows nothing of a descriptor's address.
fn walks(booted: &Booted<'_>, map: VirtualMap, book: &mut Notebook<'_>) -> Result<(), LabError> {
    let root = booted.kernel_root()?;
    let memory = booted.banks().last().map(|bank| bank.start).unwrap_or(PhysAddr(0));
    let there = map.page(memory.pfn(booted.kernel.sections.geometry().granule()));
    let own = booted.steps(root, there)?;
    let linear_va = booted.linear(memory)?;
    let linear = booted.steps(root, linear_va)?;
    let leaf = |steps, va| Value::Bytes(reached(steps, va).map_or(0, |(_, bytes)| bytes));
    book.say(
        Text::HiddenWalk,
        &[
            ("vmemmap_walk", Value::Count(own.len() as u64)),
            ("vmemmap_leaf", leaf(&own, there)),
            ("linear_walk", Value::Count(linear.len() as u64)),
            ("linear_leaf", leaf(&linear, linear_va)),
        ],
    )
}

fn measured(machine: &Machine, book: &mut Notebook<'_>) -> Result<(), LabError> {
    let models: Vec<Model> = machine.models().collect();
    for figures in measure::all(&machine.geometry, &models)? {
        let ratio = |model| {
            let found = figures.ratios.iter().find(|(own, _)| *own == model);
            Value::Name(found.map_or("–".to_owned(), |(_, ratio)| format!("{ratio:.2}")))
        };
        book.measured(
            Text::MeasuredRatios,
            &[
                ("reach", Value::Bytes(figures.reach_bytes)),
                ("way", Value::Name(figures.way.to_owned())),
                ("flat_ns", Value::Name(format!("{:.2}", figures.flat_ns))),
                ("static_ratio", ratio(Model::Static)),
                ("extreme_ratio", ratio(Model::Extreme)),
                ("vmemmap_ratio", ratio(Model::Vmemmap)),
            ],
        )?;
    }
    book.show(Text::MeasuredHere, &[])
}

fn space(bench: &Bench, machine: &Machine, book: &mut Notebook<'_>) -> Result<(), LabError> {
    book.claim(SPACE, Text::SpaceClaim)?;
    for era in bench.eras() {
        let own = machine.geometry;
        let geometry = Geometry::new(GeometryFacts { era, ..*own.facts() }).map_err(kernmem::BootError::from)?;
        let mut totals = Vec::new();
        for model in machine.models() {
            let spent = machine.spending(&geometry.with_model(model));
            let tables = spent.roots_array_bytes + spent.roots_bytes + spent.table_bytes;
            let parts = [spent.memmap_bytes, tables, spent.usage_bytes].map(Value::Bytes);
            let [memmap, tables, usage] = parts.clone();
            if era == bench.era() {
                let numbers = [("model", name(model)), ("memmap", memmap), ("tables", tables), ("usage", usage)];
                book.show(Text::ModelSpends, &numbers)?;
            }
            let names = names(model);
            [names.memmap, names.tables, names.usage].into_iter().zip(parts).for_each(|number| book.keep(number));
            totals.push((model, spent));
        }
        let total = |model| totals.iter().find(|(own, _)| *own == model).map(|(_, spent)| spent.total_bytes());
        let holds = match (total(Model::Vmemmap), total(Model::Extreme)) {
            (Some(vmemmap), Some(extreme)) if vmemmap > extreme => {
                book.keep(("more", Value::Bytes(vmemmap - extreme)));
                Holds::OnlyIf(Text::LittleSpace)
            }
            (Some(_), _) => Holds::No(Text::NothingMore),
            (None, _) => Holds::No(Text::NoVmemmap),
        };
        book.conclude(era, holds)?;
    }
    Ok(())
}
