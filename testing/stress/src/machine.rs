//! The machine of the stress: two nodes, five zones, holes, and ends that are no multiple of anything.
//!
//! ```text
//! node 0  DMA      0x00000..0x01000   hole 0x0009f..0x00100
//!         DMA32    0x01000..0x06400   hole 0x03ffd..0x04003
//!         Normal   0x06400..0x0bf3d   hole 0x08123..0x08456
//! node 1  Normal   0x10000..0x14000
//!         Movable  0x14000..0x1c123   hole 0x17200..0x17400
//! ```

use kernmem_base::{Era, Pfn};
use kernmem_page_alloc::{
    BuildError, Facts, HeapStore, PageAllocator, PcpLimits, Placement, Topology, Watermarks, ZoneKind, ZoneSpan,
};

use crate::subject::Allocator;

/// Where frames are, and which kernel has them.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// What the allocator is made from.
    pub facts: Facts,
    /// CPUs; every other one belongs to node 1.
    pub cpus: u32,
    layout: &'static Layout,
}

/// Node, kind, first frame and frame past the last.
type Place = (u32, ZoneKind, u64, u64);

/// Where memory lies. Holes lie in one zone each, inside it.
#[derive(Debug)]
struct Layout {
    zones: [Place; 5],
    holes: [(u64, u64); 4],
}

const LARGE: Layout = Layout {
    zones: [
        (0, ZoneKind::Dma, 0, 0x1000),
        (0, ZoneKind::Dma32, 0x1000, 0x6400),
        (0, ZoneKind::Normal, 0x6400, 0xbf3d),
        (1, ZoneKind::Normal, 0x1_0000, 0x1_4000),
        (1, ZoneKind::Movable, 0x1_4000, 0x1_c123),
    ],
    holes: [(0x9f, 0x100), (0x3ffd, 0x4003), (0x8123, 0x8456), (0x1_7200, 0x1_7400)],
};

/// The same shape with a twelfth of the frames.
const SMALL: Layout = Layout {
    zones: [
        (0, ZoneKind::Dma, 0, 0x400),
        (0, ZoneKind::Dma32, 0x400, 0xc00),
        (0, ZoneKind::Normal, 0xc00, 0x113d),
        (1, ZoneKind::Normal, 0x1400, 0x1800),
        (1, ZoneKind::Movable, 0x1800, 0x1f23),
    ],
    holes: [(0x9f, 0x100), (0x7fd, 0x803), (0xd23, 0xd56), (0x1a00, 0x1c00)],
};

impl Layout {
    fn ranges_of(&self, start: u64, end: u64) -> impl Iterator<Item = (u64, u64)> + use<> {
        let inside = move |&(from, to): &(u64, u64)| start < from && to < end;
        let starts = core::iter::once(start).chain(self.holes.into_iter().filter(inside).map(|(_, to)| to));
        let ends = self.holes.into_iter().filter(inside).map(|(from, _)| from).chain(core::iter::once(end));
        starts.zip(ends)
    }
}

impl Machine {
    /// A machine with `cpus` CPUs and a kernel of one era.
    #[must_use]
    pub const fn new(era: Era, placement: Placement, cpus: u32) -> Self {
        Self { facts: Facts { cma: true, ..Facts::of(era, placement) }, cpus, layout: &LARGE }
    }

    /// The same with a twelfth of the memory, where a run is to be short.
    #[must_use]
    pub const fn small(self) -> Self {
        Self { layout: &SMALL, ..self }
    }

    /// Frames, those in holes and between nodes too.
    #[must_use]
    pub const fn frames(&self) -> usize {
        self.layout.zones[4].3 as usize
    }

    /// The node of a CPU.
    #[must_use]
    pub const fn nid(&self, cpu: u32) -> u32 {
        cpu % 2
    }

    /// The zones.
    pub fn spans(&self) -> impl Iterator<Item = ZoneSpan> + use<> {
        let layout = self.layout;
        layout.zones.into_iter().map(move |(nid, kind, start, end)| ZoneSpan {
            nid,
            kind,
            start: Pfn(start),
            end: Pfn(end),
            present: layout.ranges_of(start, end).map(|(start, end)| end - start).sum(),
        })
    }

    /// The zone of a frame.
    #[must_use]
    pub fn span_of(&self, pfn: Pfn) -> Option<ZoneSpan> {
        self.spans().find(|span| span.start <= pfn && pfn < span.end)
    }

    /// The memory of a zone, without its holes.
    pub fn ranges(&self, span: ZoneSpan) -> impl Iterator<Item = (Pfn, Pfn)> + use<> {
        self.layout.ranges_of(span.start.0, span.end.0).map(|(start, end)| (Pfn(start), Pfn(end)))
    }

    /// An allocator with all memory free, small reserves, and lists that are used at once.
    ///
    /// # Errors
    /// [`BuildError`]: the machine is not one.
    pub fn allocator(&self) -> Result<Allocator, BuildError> {
        let topology = Topology { nodes: 2, distances: &[], has_cpus: &[], max_numnodes: 16, cpus: self.cpus };
        let spans: Vec<ZoneSpan> = self.spans().collect();
        let allocator = PageAllocator::new(&mut HeapStore, self.facts, &topology, &spans)?;
        for span in spans {
            for (start, end) in self.ranges(span) {
                allocator.add_free(span.nid, start, end).map_err(|_| BuildError::Span(span))?;
            }
        }
        for zone in allocator.zones() {
            zone.set_watermarks(Watermarks { min: 64, low: 80, high: 96, promo: 112 });
            zone.set_reserve(ZoneKind::Normal, 32);
            zone.set_reserve(ZoneKind::Movable, 64);
            zone.set_pcp(PcpLimits { batch: 31, high_min: 128, high_max: 512 });
        }
        Ok(allocator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By hand: 0x1000 - 0x61, 0x5400 - 6, 0x5b3d - 0x333, 0x4000, 0x8123 - 0x200.
    #[test]
    fn zones_have_their_memory_without_holes() {
        let machine = Machine::new(Era::V6_12, Placement::Linux, 2);
        let present: Vec<u64> = machine.spans().map(|span| span.present).collect();
        assert_eq!(present, [0xf9f, 0x53fa, 0x580a, 0x4000, 0x7f23]);
        let managed = machine.allocator().map(|allocator| allocator.managed());
        assert_eq!(managed, Ok(present.iter().sum()));
        assert_eq!(machine.span_of(Pfn(0xbf3d)), None);
    }
}
