//! The kernel image's segments, and the identity map that stays.
//!
//! Source: Linux 5.10, 6.1 arch/arm64/mm/mmu.c `map_kernel`; 6.12, 7.2 arch/arm64/kernel/pi/map_kernel.c `map_kernel`;
//! 5.10–7.2 arch/arm64/mm/mmu.c `create_idmap`.

use alloc::vec::Vec;

use kernmem_arch::arm64::{Arm64Attrs, Arm64Format, prot};
use kernmem_arch::{Born, Bound, Reason};
use kernmem_base::{Era, FrameSource, PhysAddr, PhysMem, PhysRange, VirtAddr, VirtRange};
use kernmem_config::Rodata;
use kernmem_pgtable::{Mapping, Sizes, Tables};

use super::boot::Booting;
use super::early::{CarveOut, with_identity};
use crate::frames::Ask;
use crate::witness::Segment;
use crate::{Area, BootError, EarlyFrames, Mapped, Witness};

/// A segment of the image: its symbols, its rights, and whether its pages may form contiguous groups.
pub(super) struct ImageSegment {
    pub segment: Segment,
    pub start: &'static str,
    pub end: &'static str,
    pub attrs: Arm64Attrs,
    pub reason: Reason,
    pub contiguous: bool,
}

/// The symbol at which the image begins for the linear map, for reservations and for the kernel's own map.
///
/// | era | symbol |
/// |---|---|
/// | 4.14 (UNVERIFIED), 5.10 | `_text` |
/// | 6.1 | `_stext`, 64 KiB behind it |
/// | 6.12, 7.2 | `_text` |
///
/// Source: Linux 5.10–7.2 arch/arm64/mm/init.c `arm64_memblock_init`; arch/arm64/mm/mmu.c `map_mem`.
pub(super) const fn image_start(era: Era) -> &'static str {
    match era {
        Era::V6_1 => "_stext",
        Era::V4_14 | Era::V5_10 | Era::V6_12 | Era::V7_2 => "_text",
    }
}

/// Rights of executable text, and why.
pub(super) const fn text_prot(rodata: Rodata) -> (Arm64Attrs, Reason) {
    match rodata {
        Rodata::Off => (prot::PAGE_KERNEL_EXEC, Reason::Born(Born::TextWritable)),
        Rodata::On | Rodata::Full => (prot::PAGE_KERNEL_ROX, Reason::Born(Born::Text)),
    }
}

/// The image's segments in the order in which they are mapped.
///
/// | era | head | contiguous groups |
/// |---|---|---|
/// | 4.14 (UNVERIFIED), 5.10 | part of the text | all but read-only data |
/// | 6.1 | not mapped | all but read-only data |
/// | 6.12, 7.2 | writable at first, as read-only data | text and data |
///
/// Source: Linux 5.10, 6.1 arch/arm64/mm/mmu.c `map_kernel`; 6.12, 7.2 arch/arm64/kernel/pi/map_kernel.c `map_kernel`.
pub(super) fn segments(era: Era, rodata: Rodata) -> Vec<ImageSegment> {
    let text = text_prot(rodata);
    let data = (prot::PAGE_KERNEL, Reason::Born(Born::Data));
    let constant = match rodata {
        Rodata::Off => (prot::PAGE_KERNEL, Reason::RodataOff),
        Rodata::On | Rodata::Full => data,
    };
    let (head, from, init) = match era {
        Era::V4_14 | Era::V5_10 => (None, "_text", true),
        Era::V6_1 => (None, "_stext", true),
        Era::V6_12 | Era::V7_2 => (Some((Segment::Head, "_text", "_stext", constant, false)), "_stext", false),
    };
    let rest = [
        (Segment::Text, from, "_etext", text, true),
        (Segment::Rodata, "__start_rodata", "__inittext_begin", constant, false),
        (Segment::InitText, "__inittext_begin", "__inittext_end", text, init),
        (Segment::InitData, "__initdata_begin", "__initdata_end", data, init),
        (Segment::Data, "_data", "_end", data, true),
    ];
    let all = head.into_iter().chain(rest);
    all.map(|(segment, start, end, (attrs, reason), contiguous)| ImageSegment {
        segment,
        start,
        end,
        attrs,
        reason,
        contiguous,
    })
    .collect()
}

/// A run to map: where, onto what, how and why.
pub(super) struct Run<'a> {
    pub va: VirtAddr,
    pub range: PhysRange,
    pub attrs: Arm64Attrs,
    pub no_exec: bool,
    pub area: Area,
    pub edges: (Reason, Reason),
    pub limits: &'a [(Reason, Sizes)],
    pub rights: &'a [Reason],
}

/// All sizes but contiguous groups.
pub(super) fn no_contiguous<F: Arm64Format>() -> Sizes {
    Sizes::only(F::shape(), |leaf| !leaf.contiguous)
}

impl<F: Arm64Format, M: PhysMem, W: Witness> Booting<'_, '_, F, M, W> {
    /// Maps a run with tables from the boot allocator and tells the witness.
    pub(super) fn map(&mut self, run: &Run<'_>) -> Result<(), BootError> {
        let Some(range) = VirtRange::of_size(run.va, run.range.size()) else { return Ok(()) };
        let sizes = run.limits.iter().fold(Sizes::ALL, |sizes, (_, allowed)| sizes.and(*allowed));
        let attrs = self.state.prot(run.attrs);
        let table = prot::table(self.config.era, run.no_exec);
        let mapping = Mapping::<F>::new(run.range.start, attrs, sizes).with_table_attrs(table);
        let mut frames = EarlyFrames::new(&mut self.memblock, F::shape().granule, Ask::Anywhere);
        self.tables.cursor(range).map(&mut frames, &mapping)?.forgive("nothing was mapped there");
        self.tell(run);
        Ok(())
    }

    /// Tells the witness of a run that is mapped.
    pub(super) fn tell(&mut self, run: &Run<'_>) {
        let Some(range) = VirtRange::of_size(run.va, run.range.size()) else { return };
        let mut rights = Vec::from(run.rights);
        rights.extend(self.not_global);
        self.memblock.observer().mapped(&Mapped {
            range,
            pa: run.range.start,
            area: run.area,
            start: run.edges.0,
            end: run.edges.1,
            limits: run.limits,
            rights: &rights,
        });
    }

    /// The image's segments, each with its rights, in tables from the boot allocator.
    pub(super) fn map_kernel(&mut self) -> Result<(), BootError> {
        for segment in segments(self.config.era, self.rodata) {
            let range = self.image.phys_range(segment.start, segment.end)?;
            let edge = |at| Reason::Edge { bound: Bound::Segment, at };
            let limit = [(Reason::NoContiguous, no_contiguous::<F>())];
            self.map(&Run {
                va: self.image.virt(segment.start)?,
                range,
                attrs: segment.attrs,
                no_exec: false,
                area: Area::Image(segment.segment),
                edges: (edge(range.start), edge(range.end)),
                limits: if segment.contiguous { &[] } else { &limit },
                rights: &[segment.reason],
            })?;
        }
        Ok(())
    }

    /// Gives the first tables back, where others have taken their place.
    pub(super) fn leave_early_tables(&mut self) -> Result<(), BootError> {
        let early = self.image.phys_range("init_pg_dir", "init_pg_end")?;
        self.memblock.phys_free(early.start, early.size())?;
        Ok(())
    }

    /// The identity map that stays: the text that switches tables, and a flag that it waits for.
    ///
    /// | era | tables | the flag's page |
    /// |---|---|---|
    /// | 4.14 (UNVERIFIED), 5.10 | as the first instructions made them | none |
    /// | 6.1 | of the boot allocator | if the kernel can be unmapped for user mode |
    /// | 6.12 | in the image, of 48 bits | the same, unless mappings belong to an ASID from the start |
    /// | 7.2 | the same | the same, or if the linear map relies on BBML2 |
    ///
    /// Source: Linux 6.1–7.2 arch/arm64/mm/mmu.c `create_idmap`.
    pub(super) fn create_idmap(&mut self) -> Result<PhysAddr, BootError> {
        let unmaps = self.config.kconfig.is_set("UNMAP_KERNEL_AT_EL0");
        match self.config.era {
            Era::V4_14 | Era::V5_10 => Ok(self.state.early.identity),
            Era::V6_1 => with_identity!(self, idmap_from_memblock(unmaps)),
            Era::V6_12 => with_identity!(self, idmap_in_arrays(unmaps && !self.state.not_global)),
            Era::V7_2 => {
                let waits = self.linear_needs_bbml2();
                with_identity!(self, idmap_in_arrays(unmaps && !self.state.not_global || waits))
            }
        }
    }

    fn idmap_from_memblock<G: Arm64Format>(&mut self, with_flag: bool) -> Result<PhysAddr, BootError> {
        let root = self.image.phys("idmap_pg_dir")?;
        for (range, attrs) in self.idmap_pages(with_flag)? {
            let mut frames = EarlyFrames::new(&mut self.memblock, G::shape().granule, Ask::Anywhere);
            let table = prot::table(self.config.era, false);
            idmap_run::<G, M>(self.mem, root, (range, self.state.prot(attrs), table), &mut frames)?;
        }
        Ok(root)
    }

    /// Each part of the map has an array of one table for each level below the root.
    fn idmap_in_arrays<G: Arm64Format>(&mut self, with_flag: bool) -> Result<PhysAddr, BootError> {
        const ARRAYS: [&[&str]; 2] = [&["idmap_ptes"], &["kpti_ptes", "kpti_bbml2_ptes"]];
        let root = self.image.phys("idmap_pg_dir")?;
        let (page, below) = (self.page(), G::shape().levels.len() as u64 - 1);
        for ((range, attrs), array) in self.idmap_pages(with_flag)?.into_iter().zip(ARRAYS) {
            let start = self.image.phys_any(array)?;
            let pages = PhysRange::new(start, start + below * page);
            let (attrs, table) = (self.state.prot(attrs), prot::table_early(self.config.era));
            let mut frames = CarveOut { pages, page, witness: self.memblock.observer() };
            idmap_run::<G, M>(self.mem, root, (range, attrs, table), &mut frames)?;
        }
        Ok(root)
    }

    /// The pages of the identity map with their rights.
    fn idmap_pages(&self, with_flag: bool) -> Result<Vec<(PhysRange, Arm64Attrs)>, BootError> {
        let page = self.page();
        let text = self.image.phys_range("__idmap_text_start", "__idmap_text_end")?;
        let text = PhysRange::new(text.start.align_down(page), text.end.align_up(page).unwrap_or(text.end));
        let mut pages = alloc::vec![(text, prot::PAGE_KERNEL_ROX)];
        if with_flag && let Ok(flag) = self.image.phys_any(&["__idmap_kpti_flag", "idmap_kpti_bbml2_flag"]) {
            let start = flag.align_down(page);
            pages.push((PhysRange::new(start, start + page), prot::PAGE_KERNEL));
        }
        Ok(pages)
    }
}

fn idmap_run<G: Arm64Format, M: PhysMem>(
    mem: &M,
    root: PhysAddr,
    (range, attrs, table): (PhysRange, Arm64Attrs, Arm64Attrs),
    frames: &mut impl FrameSource,
) -> Result<(), BootError> {
    let Some(va) = VirtRange::of_size(VirtAddr(range.start.0), range.size()) else { return Ok(()) };
    let mapping = Mapping::<G>::new(range.start, attrs, Sizes::ALL).with_table_attrs(table);
    Tables::<G, M>::new(mem, root).cursor(va).map(frames, &mapping)?.forgive("nothing was mapped there");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn starts(era: Era) -> Vec<(&'static str, bool)> {
        segments(era, Rodata::Full).iter().map(|segment| (segment.start, segment.contiguous)).collect()
    }

    /// Facts: the image's segments by era.
    #[test]
    fn segments_begin_at_the_head_or_behind_it() {
        let old = |first| {
            let rest =
                [("__start_rodata", false), ("__inittext_begin", true), ("__initdata_begin", true), ("_data", true)];
            [&[(first, true)][..], &rest].concat()
        };
        assert_eq!(starts(Era::V5_10), old("_text"));
        assert_eq!(starts(Era::V6_1), old("_stext"));
        let later = [
            ("_text", false),
            ("_stext", true),
            ("__start_rodata", false),
            ("__inittext_begin", false),
            ("__initdata_begin", false),
            ("_data", true),
        ];
        assert_eq!((starts(Era::V6_12), starts(Era::V7_2)), (later.to_vec(), later.to_vec()));
    }

    #[test]
    fn only_text_is_executable_and_only_rodata_off_makes_it_writable() {
        for era in [Era::V5_10, Era::V6_1, Era::V6_12, Era::V7_2] {
            for (rodata, text) in [(Rodata::On, prot::PAGE_KERNEL_ROX), (Rodata::Off, prot::PAGE_KERNEL_EXEC)] {
                for segment in segments(era, rodata) {
                    let is_text = matches!(segment.segment, Segment::Text | Segment::InitText);
                    assert_eq!(segment.attrs, if is_text { text } else { prot::PAGE_KERNEL }, "{}", segment.start);
                }
            }
        }
    }

    #[test]
    fn the_image_begins_at_stext_in_6_1_alone() {
        let eras = [Era::V5_10, Era::V6_1, Era::V6_12, Era::V7_2];
        assert_eq!(eras.map(image_start), ["_text", "_stext", "_text", "_text"]);
    }
}
