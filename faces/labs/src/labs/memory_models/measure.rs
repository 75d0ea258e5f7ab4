//! The conversions of each model against a flat array's on this host, side by side in each round.
//!
//! Here: where frames lie (one section, 64 GiB, 16 TiB), conversions that wait for each other and that do not, ratios.
//! Not here: what is counted, which is the same on every host (the parent).
//!
//! # Invariants
//! 1. Models of one figure ran in the same rounds, over the same frames in the same order.

use core::hint::black_box;
use std::time::Instant;

use kernmem_base::{Pfn, Seed, VirtAddr};
use kernmem_sparse::page::Field;
use kernmem_sparse::{
    Conversion, ConversionJob, FlatMap, Geometry, Memmap, Model, Nid, SectionNr, Sections, VecStore, VirtualMap,
};

use crate::LabError;

/// Conversions in a round.
const CONVERSIONS: usize = 1 << 17;
const ROUNDS: usize = 15;

/// What was measured of one workload.
pub(super) struct Figures {
    /// Bytes of memory over which the frames are spread.
    pub reach_bytes: u64,
    /// Which conversion, and whether each waits for the one before.
    pub way: &'static str,
    /// A flat array's conversion: the median.
    pub flat_ns: f64,
    /// Median over the rounds of a model's time by the flat array's of the same round.
    pub ratios: Vec<(Model, f64)>,
}

/// The ways to convert, by the name that a sentence gives them.
const WAYS: [(&str, Way); 4] = [
    ("pfn_to_page", Way { back: false, chained: false }),
    ("pfn_to_page, each with the last one's answer", Way { back: false, chained: true }),
    ("page_to_pfn", Way { back: true, chained: false }),
    ("page_to_pfn, each with the last one's answer", Way { back: true, chained: true }),
];

#[derive(Clone, Copy)]
struct Way {
    back: bool,
    chained: bool,
}

/// Measures `models`, the flat one first among them, on a kernel with the sections of `geometry`.
pub(super) fn all(geometry: &Geometry, models: &[Model]) -> Result<Vec<Figures>, LabError> {
    let most = geometry.nr_mem_sections();
    let mut reaches: Vec<u64> =
        [1, 64 << 30, 16 << 40].map(|bytes: u64| bytes.div_ceil(geometry.section_bytes()).min(most)).to_vec();
    reaches.dedup();
    let mut figures = Vec::new();
    for sections in reaches {
        let tables = models.iter().map(|&model| Ok((model, sections_of(&geometry.with_model(model), sections)?)));
        let tables: Vec<(Model, Sections<VecStore>)> = tables.collect::<Result<_, LabError>>()?;
        let field = Field { shift: 64 - 26, width: 26 };
        let picks = picks(geometry, sections);
        for (name, way) in WAYS {
            let works: Vec<Work> =
                tables.iter().map(|(model, own)| Work::new(*model, own, &picks, field, way)).collect();
            let times: Vec<Vec<f64>> = rounds(&works, &tables);
            let Some(flat) = times.first() else { continue };
            figures.push(Figures {
                reach_bytes: sections * geometry.section_bytes(),
                way: name,
                flat_ns: median(flat.clone()),
                ratios: models.iter().copied().zip(times.iter().map(|own| paired(own, flat))).collect(),
            });
        }
    }
    Ok(figures)
}

/// Sections from the first on, whose descriptors are close together: of each the first is used, in one section the
/// first 64.
fn sections_of(geometry: &Geometry, count: u64) -> Result<Sections<VecStore>, LabError> {
    let mut sections = Sections::new(*geometry, VecStore::new());
    let end = geometry.first_pfn(SectionNr(count));
    sections.memory_present(Nid(0), Pfn(0), end, |_| {}).map_err(kernmem::BootError::from)?;
    let Some(group) = sections.groups().next() else { return Err(LabError::Missing("memory")) };
    let near = |nr: SectionNr| Some(VirtAddr(BASE + nr.0 * geometry.page_bytes()));
    sections.bring_up(group, near).map_err(|_| LabError::Missing("room for section arrays"))?;
    Ok(sections)
}

/// Where descriptors begin: reachable with 32 bits too.
const BASE: u64 = 0xc000_0000;

/// A frame, and which of the descriptors in use is its own.
#[derive(Clone, Copy)]
struct Pick {
    pfn: Pfn,
    nr: SectionNr,
    slot: u32,
}

/// The frames to convert, in a drawn order: a prefetcher follows even a large step if it stays the same.
fn picks(geometry: &Geometry, sections: u64) -> Vec<Pick> {
    let pick = |index: u64| match sections {
        1 => Pick { pfn: Pfn(index % 64), nr: SectionNr(0), slot: (index % 64) as u32 },
        _ => {
            let nr = SectionNr(index % sections);
            Pick { pfn: geometry.first_pfn(nr), nr, slot: nr.0 as u32 }
        }
    };
    let mut picks: Vec<Pick> = (0..CONVERSIONS as u64).map(pick).collect();
    let mut seed = Seed(1);
    for last in (1..picks.len()).rev() {
        picks.swap(last, (seed.draw() % (last as u64 + 1)) as usize);
    }
    picks
}

/// A page descriptor as far as it is read: its flags, alone in a line.
#[derive(Clone, Copy, Default)]
#[repr(align(64))]
struct Descriptor {
    flags: u64,
}

/// What one model converts in a round.
struct Work {
    model: Model,
    way: Way,
    pfns: Vec<Pfn>,
    pages: Vec<(VirtAddr, u32)>,
    descriptors: Vec<Descriptor>,
    section: Field,
}

impl Work {
    fn new(model: Model, sections: &Sections<VecStore>, picks: &[Pick], section: Field, way: Way) -> Self {
        let slots = picks.iter().map(|pick| pick.slot as usize + 1).max().unwrap_or(0);
        let mut descriptors = vec![Descriptor::default(); slots];
        for pick in picks {
            if let Some(own) = descriptors.get_mut(pick.slot as usize) {
                own.flags = section.put(pick.nr.0);
            }
        }
        let page = |pick: &Pick| (memmap(model, sections).pfn_to_page(pick.pfn).unwrap_or_default(), pick.slot);
        let pages = picks.iter().map(page).collect();
        Self { model, way, pfns: picks.iter().map(|pick| pick.pfn).collect(), pages, descriptors, section }
    }
}

fn memmap(model: Model, sections: &Sections<VecStore>) -> Memmap<'_, VecStore> {
    let (page_bytes, variable) = (sections.geometry().page_bytes(), true);
    let frames = sections.geometry().max_pfn().0;
    match model {
        Model::Flat => Memmap::Flat(FlatMap { map: VirtAddr(BASE), first: Pfn(0), frames, page_bytes, variable }),
        Model::Vmemmap => Memmap::Virtual(VirtualMap { base: VirtAddr(BASE), page_bytes, variable }),
        Model::Static | Model::Extreme => Memmap::Sections(sections),
    }
}

impl ConversionJob for &Work {
    type Output = ();

    #[inline(never)]
    fn run(self, conversion: impl Conversion) {
        // Nobody but us knows that it keeps nothing of the last answer.
        let nothing = black_box(0_u64);
        let number = |slot: usize| SectionNr(self.descriptors.get(slot).map_or(0, |own| self.section.get(own.flags)));
        let mut last = 0;
        match (self.way.back, self.way.chained) {
            (false, false) => self.pfns.iter().for_each(|&pfn| {
                black_box(conversion.page(pfn));
            }),
            (false, true) => self.pfns.iter().for_each(|pfn| last = conversion.page(Pfn(pfn.0 + (last & nothing))).0),
            (true, false) => self.pages.iter().for_each(|&(page, slot)| {
                black_box(conversion.pfn(page, || number(slot as usize)));
            }),
            (true, true) => self.pages.iter().for_each(|&(page, slot)| {
                let more = last & nothing;
                last = conversion.pfn(page + more, || number(slot as usize + more as usize)).0;
            }),
        }
        black_box(last);
    }
}

/// Nanoseconds of a conversion by model and round; the first of a round rotates.
fn rounds(works: &[Work], tables: &[(Model, Sections<VecStore>)]) -> Vec<Vec<f64>> {
    let mut times = vec![Vec::with_capacity(ROUNDS); works.len()];
    let mut both: Vec<_> = works.iter().zip(tables).zip(&mut times).collect();
    for _ in 0..ROUNDS {
        for ((work, (_, sections)), times) in &mut both {
            let map = memmap(work.model, sections);
            let start = Instant::now();
            map.convert(*work);
            times.push(start.elapsed().as_nanos() as f64 / CONVERSIONS as f64);
        }
        both.rotate_left(1);
    }
    drop(both);
    times
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn paired(own: &[f64], flat: &[f64]) -> f64 {
    median(own.iter().zip(flat).map(|(own, flat)| own / flat).collect())
}
