//! `kernmem-sparse` in rows S1 and S2: frame to page descriptor and back, in each memory model.
//!
//! Frames lie in one section, or one in each section of 64 GiB or 16 TiB, in a drawn order. The model is chosen once
//! a pass, as [`Memmap::convert`] has it. The contender `nothing` runs the same loop over the same lists
//! without a conversion: what a model costs is its figure less that one.
//!
//! # Invariants
//! 1. The descriptors in use lie close together in every model with sections, so that the way back shows what tables
//!    cost, and flags as many lines as there are descriptors.

use core::hint::black_box;

use kernmem_base::{Era, Granule, Pfn, VirtAddr};
use kernmem_sparse::page::Field;
use kernmem_sparse::{
    Conversion, ConversionJob, FlatMap, Geometry, GeometryFacts, Memmap, Model, Nid, SectionNr, Sections, SparseArch,
    VecStore, VirtualMap,
};

use crate::rng::Rng;
use crate::time::roi;

/// Conversions of a round at least.
const CONVERSIONS: usize = 1 << 17;

/// Frames in use of one section.
const HOT: u64 = 64;

/// Where descriptors begin: reachable with 32 bits too.
const BASE: u64 = 0xc000_0000;

/// The section's number in a descriptor's flags, with room for every geometry.
const SECTION: Field = Field { shift: 64 - 26, width: 26 };

/// Who converts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Who {
    /// A model on an architecture.
    Model(Model, SparseArch, Granule),
    /// Nobody: the loop alone.
    Nothing,
}

/// What is converted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Way {
    /// Bytes of memory; one section if they are fewer.
    pub reach: u64,
    /// From descriptor to frame.
    pub back: bool,
    /// Each conversion needs the answer of the one before.
    pub chained: bool,
}

/// One round; returns the nanoseconds of a conversion.
///
/// # Panics
/// The geometry does not exist: a mistake in the list of contenders.
#[must_use]
pub fn round(who: Who, way: Way) -> f64 {
    let (model, arch, granule) = match who {
        Who::Model(model, arch, granule) => (model, arch, granule),
        Who::Nothing => (Model::Flat, SparseArch::X86_64, Granule::K4),
    };
    let facts = GeometryFacts { model, ..GeometryFacts::new(arch, Era::V6_1, granule) };
    let geometry = Geometry::new(facts).expect("a geometry that exists");
    let count = way.reach.div_ceil(geometry.section_bytes());
    let sections = sections(geometry, count);
    let map = memmap(&sections);
    let picks = picks(&geometry, count);
    let work = Work::new(map, &picks, way);
    let passes = CONVERSIONS.div_ceil(picks.len());
    let pass = || match who {
        Who::Model(..) => map.convert(&work),
        Who::Nothing => work.run(Nothing),
    };
    pass();
    roi((passes * picks.len()) as u64, || (0..passes).for_each(|_| pass()))
}

/// The first `count` sections, brought up: of each the first descriptor is used, of a single one the first few.
fn sections(geometry: Geometry, count: u64) -> Sections<VecStore> {
    let mut sections = Sections::new(geometry, VecStore::new());
    let end = geometry.first_pfn(SectionNr(count));
    sections.memory_present(Nid(0), Pfn(0), end, |_| {}).expect("a heap");
    let group = sections.groups().next().expect("one group");
    let near = |nr: SectionNr| Some(VirtAddr(BASE + nr.0 * geometry.page_bytes()));
    sections.bring_up(group, near).expect("aligned arrays");
    sections
}

fn memmap(sections: &Sections<VecStore>) -> Memmap<'_, VecStore> {
    let geometry = sections.geometry();
    let (page_bytes, variable) = (geometry.page_bytes(), true);
    let frames = geometry.max_pfn().0;
    match geometry.model() {
        Model::Flat => Memmap::Flat(FlatMap { map: VirtAddr(BASE), first: Pfn(0), frames, page_bytes, variable }),
        Model::Vmemmap => Memmap::Virtual(VirtualMap { base: VirtAddr(BASE), page_bytes, variable }),
        Model::Static | Model::Extreme => Memmap::Sections(sections),
    }
}

/// A frame, its section, and which of the descriptors in use is its own.
#[derive(Clone, Copy)]
struct Pick {
    pfn: Pfn,
    nr: SectionNr,
    slot: u32,
}

/// The frames in use, each once or more, in a drawn order: a prefetcher follows even a large step if it stays the same.
fn picks(geometry: &Geometry, count: u64) -> Vec<Pick> {
    let pick = |index: u64| match count {
        1 => Pick { pfn: Pfn(index % HOT), nr: SectionNr(0), slot: (index % HOT) as u32 },
        _ => {
            let nr = SectionNr(index % count);
            Pick { pfn: geometry.first_pfn(nr), nr, slot: nr.0 as u32 }
        }
    };
    let mut picks: Vec<Pick> = (0..count.max(4096)).map(pick).collect();
    let mut rng = Rng::new(1);
    for last in (1..picks.len()).rev() {
        picks.swap(last, rng.below(last + 1));
    }
    picks
}

/// A page descriptor as far as it is read: its flags, alone in a line.
#[derive(Clone, Copy, Default)]
#[repr(align(64))]
struct Descriptor {
    flags: u64,
}

/// What a pass converts.
struct Work {
    way: Way,
    pfns: Vec<Pfn>,
    pages: Vec<(VirtAddr, u32)>,
    descriptors: Vec<Descriptor>,
}

impl Work {
    fn new(map: Memmap<'_, VecStore>, picks: &[Pick], way: Way) -> Self {
        let slots = picks.iter().map(|pick| pick.slot).max().map_or(0, |slot| slot as usize + 1);
        let mut descriptors = vec![Descriptor::default(); slots];
        for pick in picks {
            descriptors[pick.slot as usize].flags = SECTION.put(pick.nr.0);
        }
        let page = |pick: &Pick| (map.pfn_to_page(pick.pfn).expect("a descriptor"), pick.slot);
        Self {
            way,
            pfns: picks.iter().map(|pick| pick.pfn).collect(),
            pages: picks.iter().map(page).collect(),
            descriptors,
        }
    }

    /// The section that a descriptor's flags name: one load.
    #[inline]
    fn section(&self, slot: usize) -> SectionNr {
        SectionNr(self.descriptors.get(slot).map_or(0, |own| SECTION.get(own.flags)))
    }
}

impl ConversionJob for &Work {
    type Output = ();

    #[inline(never)]
    fn run(self, conversion: impl Conversion) {
        // The compiler does not know that nothing is kept of the last answer.
        let nothing = black_box(0_u64);
        let mut last = 0;
        match (self.way.back, self.way.chained) {
            (false, false) => self.pfns.iter().for_each(|&pfn| {
                black_box(conversion.page(pfn));
            }),
            (false, true) => self.pfns.iter().for_each(|pfn| {
                last = conversion.page(Pfn(pfn.0.wrapping_add(last & nothing))).0;
            }),
            (true, false) => self.pages.iter().for_each(|&(page, slot)| {
                black_box(conversion.pfn(page, || self.section(slot as usize)));
            }),
            (true, true) => self.pages.iter().for_each(|&(page, slot)| {
                let more = last & nothing;
                let page = page.wrapping_add(more);
                last = conversion.pfn(page, || self.section((slot as usize).wrapping_add(more as usize))).0;
            }),
        }
        black_box(last);
    }
}

/// The loop alone.
#[derive(Clone, Copy)]
struct Nothing;

impl Conversion for Nothing {
    #[inline]
    fn page(&self, pfn: Pfn) -> VirtAddr {
        VirtAddr(pfn.0)
    }

    #[inline]
    fn pfn(&self, page: VirtAddr, _section_in_flags: impl FnOnce() -> SectionNr) -> Pfn {
        Pfn(page.0)
    }

    fn pfn_to_page(&self, pfn: Pfn) -> Option<VirtAddr> {
        Some(self.page(pfn))
    }

    fn page_to_pfn(&self, page: VirtAddr, section_in_flags: impl FnOnce() -> SectionNr) -> Option<Pfn> {
        Some(self.pfn(page, section_in_flags))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each pass visits each section, and what is converted comes back.
    #[test]
    fn every_section_is_visited_and_every_page_is_its_frames() {
        for (arch, granule) in [(SparseArch::X86_64, Granule::K4), (SparseArch::Arm64, Granule::K64)] {
            for model in Model::ALL {
                let facts = GeometryFacts { model, ..GeometryFacts::new(arch, Era::V6_1, granule) };
                let geometry = Geometry::new(facts).unwrap();
                for count in [1, 128, 512] {
                    let sections = sections(geometry, count);
                    let picks = picks(&geometry, count);
                    let work = Work::new(memmap(&sections), &picks, Way { reach: 0, back: true, chained: false });
                    let mut seen: Vec<u64> = picks.iter().map(|pick| pick.nr.0).collect();
                    seen.sort_unstable();
                    seen.dedup();
                    assert_eq!(seen.len() as u64, count);
                    for (pick, &(page, slot)) in picks.iter().zip(&work.pages) {
                        assert_eq!(work.section(slot as usize), pick.nr);
                        assert_eq!(memmap(&sections).page_to_pfn(page, || pick.nr), Some(pick.pfn));
                    }
                }
            }
        }
    }
}
