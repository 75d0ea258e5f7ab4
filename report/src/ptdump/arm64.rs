//! arm64's `kernel_page_tables`.
//!
//! Source: Linux 5.10–7.2 arch/arm64/mm/ptdump.c `note_page`, `pte_bits`, `address_markers`; mm/ptdump.c.

use alloc::vec::Vec;
use core::fmt;

use kernmem_arch::arm64::{Layout, bit};
use kernmem_arch::{Entry, EntryFormat, Shape};
use kernmem_base::{BusError, Era, Level, PhysAddr, PhysRead, VirtAddr, VirtRange};
use kernmem_pgtable::{Visitor, visit};

use super::wx::Wx;
use super::{Kib, ListingError, SharedShadow};

/// What a column prints when `raw & mask == value`, and otherwise.
struct Column {
    mask: u64,
    value: u64,
    set: &'static str,
    clear: Option<&'static str>,
}

const fn flag(mask: u64, set: &'static str, clear: &'static str) -> Column {
    Column { mask, value: mask, set, clear: Some(clear) }
}

const fn memory_type(index: u64, set: &'static str) -> Column {
    Column { mask: bit::ATTR_INDEX, value: index << bit::ATTR_INDEX_SHIFT, set, clear: None }
}

const BEFORE_BLOCK: [Column; 8] = [
    flag(bit::VALID, " ", "F"),
    flag(bit::USER, "USR", "   "),
    flag(bit::RDONLY, "ro", "RW"),
    flag(bit::PXN, "NX", "x "),
    flag(bit::SHARED, "SHD", "   "),
    flag(bit::AF, "AF", "  "),
    flag(bit::NG, "NG", "  "),
    flag(bit::CONT, "CON", "   "),
];

/// Up to 6.12 whatever has no table bit is a block; 7.2 looks at the whole type field.
const BLOCK_BY_TABLE_BIT: Column = Column { mask: bit::TABLE, value: bit::TABLE, set: "   ", clear: Some("BLK") };
const BLOCK_BY_TYPE: Column =
    Column { mask: bit::TABLE | bit::VALID, value: bit::VALID, set: "BLK", clear: Some("   ") };

const AFTER_BLOCK: [Column; 2] = [flag(bit::UXN, "UXN", "   "), flag(bit::GP, "GP", "  ")];

const TYPES_OLD: [Column; 6] = [
    memory_type(4, "DEVICE/nGnRnE"),
    memory_type(5, "DEVICE/nGnRE"),
    memory_type(6, "DEVICE/GRE"),
    memory_type(2, "MEM/NORMAL-NC"),
    memory_type(0, "MEM/NORMAL"),
    memory_type(1, "MEM/NORMAL-TAGGED"),
];
const TYPES: [Column; 5] = [
    memory_type(3, "DEVICE/nGnRnE"),
    memory_type(4, "DEVICE/nGnRE"),
    memory_type(2, "MEM/NORMAL-NC"),
    memory_type(0, "MEM/NORMAL"),
    memory_type(1, "MEM/NORMAL-TAGGED"),
];

/// The columns of one era, in order.
fn columns(era: Era) -> impl Iterator<Item = &'static Column> + Clone {
    let (block, types): (&Column, &[Column]) = match era {
        Era::V4_14 | Era::V5_10 => (&BLOCK_BY_TABLE_BIT, &TYPES_OLD),
        Era::V6_1 | Era::V6_12 => (&BLOCK_BY_TABLE_BIT, &TYPES),
        Era::V7_2 => (&BLOCK_BY_TYPE, &TYPES),
    };
    BEFORE_BLOCK.iter().chain(core::iter::once(block)).chain(&AFTER_BLOCK).chain(types)
}

/// Where the walk begins, and the memory map's marker: of the bits in use or of those that were configured.
///
/// | era | |
/// |---|---|
/// | 4.14, 5.10, 6.1 | configured |
/// | 6.12, 7.2 | in use |
///
/// Source: Linux 5.10, 6.1 arch/arm64/mm/ptdump.c `kernel_ptdump_info`; 6.12, 7.2 the same `ptdump_init`.
const fn starts(era: Era, layout: &Layout) -> (VirtAddr, VirtAddr) {
    match era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 => (layout.page_offset, layout.vmemmap_start),
        Era::V6_12 | Era::V7_2 => (layout.first_linear(), layout.vmemmap_in_use()),
    }
}

/// A level's name.
///
/// | era | levels that the tables lack |
/// |---|---|
/// | 4.14, 5.10, 6.1 | have the root's name, with blocks in the root as well |
/// | 6.12, 7.2 | the same, but a block in a root of two levels is a PMD |
///
/// Source: Linux 5.10–7.2 arch/arm64/mm/ptdump.c `pg_level`, `note_page`.
const fn level_name(era: Era, levels: usize, level: Level, is_leaf: bool) -> &'static str {
    match (era, level) {
        (Era::V6_12 | Era::V7_2, Level::Pgd) if levels == 2 && is_leaf => Level::Pmd.name(),
        (Era::V4_14 | Era::V5_10 | Era::V6_1 | Era::V6_12 | Era::V7_2, level) => level.name(),
    }
}

/// Marker lines and where they are due, in the listing's order.
fn markers(era: Era, layout: &Layout) -> Vec<(VirtAddr, &'static str)> {
    let vmemmap_start = starts(era, layout).1;
    let mut all = alloc::vec![(layout.page_offset, "Linear Mapping start"), (layout.page_end, "Linear Mapping end"),];
    if let Some((start, end)) = layout.kasan {
        all.extend([(start, "Kasan shadow start"), (end, "Kasan shadow end")]);
    }
    if let Some((start, end)) = layout.bpf {
        all.extend([(start, "BPF start"), (end, "BPF end")]);
    }
    all.extend([
        (layout.modules_start, "Modules start"),
        (layout.modules_end, "Modules end"),
        (layout.kimage, "vmalloc() area"),
        (layout.vmalloc_end, "vmalloc() end"),
    ]);
    let fixmap = [(layout.fixaddr_start, "Fixmap start"), (layout.fixaddr_top, "Fixmap end")];
    let fixmap_all = [(layout.fixaddr_tot_start, "Fixmap start"), (layout.fixaddr_top, "Fixmap end")];
    let pci = [(layout.pci_io_start, "PCI I/O start"), (layout.pci_io_end, "PCI I/O end")];
    let vmemmap = [(vmemmap_start, "vmemmap start"), (layout.vmemmap_end, "vmemmap end")];
    match era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 => all.extend(fixmap.into_iter().chain(pci).chain(vmemmap)),
        Era::V6_12 | Era::V7_2 => all.extend(vmemmap.into_iter().chain(pci).chain(fixmap_all)),
    }
    all.push((VirtAddr(u64::MAX), ""));
    all
}

/// Prints the tree at `root`.
pub(super) fn print<F: EntryFormat, M: PhysRead>(
    mem: &M,
    root: PhysAddr,
    (layout, shadow): (&Layout, Option<SharedShadow>),
    era: Era,
    out: &mut impl fmt::Write,
) -> Result<Wx, ListingError> {
    let mask = columns(era).fold(0, |mask, column| mask | column.mask);
    let (shape, markers) = (F::shape(), markers(era, layout));
    let run = first_run(era);
    let mut listing =
        Listing { out, era, shape, shadow, mask, markers, marker: 0, run, failed: false, wx: Wx::default() };
    let start = starts(era, layout).0;
    visit::<F, M>(mem, root, VirtRange { start, last: VirtAddr(u64::MAX) }, &mut listing);
    listing.note(VirtAddr(0), None, 0);
    if listing.failed { Err(ListingError::Write) } else { Ok(listing.wx) }
}

/// The line that is open when the walk begins.
///
/// | era | line |
/// |---|---|
/// | 5.10 | an unmapped one of the root that starts at address 0, so that the first marker is never printed |
/// | 4.14 (UNVERIFIED), 6.1, 6.12, 7.2 | none |
///
/// Source: Linux 5.10 arch/arm64/mm/ptdump.c `ptdump_walk`; 6.1–7.2 the same.
const fn first_run(era: Era) -> Option<Run> {
    match era {
        Era::V5_10 => Some(Run { start: VirtAddr(0), level: Some(Level::Pgd), prot: 0 }),
        Era::V4_14 | Era::V6_1 | Era::V6_12 | Era::V7_2 => None,
    }
}

/// A line that is not finished.
struct Run {
    start: VirtAddr,
    level: Option<Level>,
    prot: u64,
}

/// The state that turns entries into lines.
struct Listing<'o, W> {
    out: &'o mut W,
    era: Era,
    mask: u64,
    shape: &'static Shape,
    shadow: Option<SharedShadow>,
    markers: Vec<(VirtAddr, &'static str)>,
    marker: usize,
    run: Option<Run>,
    failed: bool,
    wx: Wx,
}

impl<W: fmt::Write> Listing<'_, W> {
    /// Takes notice of one entry; no level ends the listing. At most two markers are printed in one call.
    fn note(&mut self, va: VirtAddr, level: Option<Level>, raw: u64) {
        let prot = raw & self.mask;
        match self.run.take() {
            None => {
                self.run = Some(Run { start: va, level, prot });
                self.print_marker();
            }
            Some(run) if run.prot != prot || run.level != level || va >= self.next_marker() => {
                self.print_line(&run, va);
                self.advance_marker(va);
                self.run = Some(Run { start: va, level, prot });
            }
            same => self.run = same,
        }
        self.advance_marker(va);
    }

    fn next_marker(&self) -> VirtAddr {
        self.markers.get(self.marker + 1).map_or(VirtAddr(u64::MAX), |marker| marker.0)
    }

    fn advance_marker(&mut self, va: VirtAddr) {
        if va >= self.next_marker() && self.marker + 1 < self.markers.len() {
            self.marker += 1;
            self.print_marker();
        }
    }

    fn print_marker(&mut self) {
        let name = self.markers[self.marker].1;
        self.failed |= writeln!(self.out, "---[ {name} ]---").is_err();
    }

    fn print_line(&mut self, run: &Run, end: VirtAddr) {
        if run.prot != 0 {
            let pages = end.0.wrapping_sub(run.start.0) >> self.shape.granule.shift();
            self.wx.non_uxn += if run.prot & bit::UXN == 0 { pages } else { 0 };
            self.wx.pages += if run.prot & (bit::RDONLY | bit::PXN) == 0 { pages } else { 0 };
        }
        self.failed |= self.try_line(run, end).is_err();
    }

    fn try_line(&mut self, run: &Run, end: VirtAddr) -> fmt::Result {
        let size = Kib(end.0.wrapping_sub(run.start.0));
        let level = run.level.map_or("", |level| level_name(self.era, self.shape.levels.len(), level, run.prot != 0));
        write!(self.out, "0x{:016x}-0x{:016x}   {size} {level}", run.start.0, end.0)?;
        if run.prot != 0 {
            for column in columns(self.era) {
                let text = if run.prot & column.mask == column.value { Some(column.set) } else { column.clear };
                if let Some(text) = text {
                    write!(self.out, " {text}")?;
                }
            }
        }
        writeln!(self.out)
    }
}

impl<F: EntryFormat, W: fmt::Write> Visitor<F> for Listing<'_, W> {
    /// A table that all zero shadow shares is noted as one page of it. Linux does not go into those of the last two
    /// levels; into others it does, and finds the same again: that shows only where a marker is due inside.
    fn table(&mut self, va: VirtAddr, level: Level, _raw: u64, next: PhysAddr) -> bool {
        let Some(shadow) = self.shadow.filter(|shadow| shadow.zero.is_shared(next)) else { return true };
        self.note(va, Some(Level::Pte), shadow.page);
        let below = self.shape.levels.get(self.shape.depth(level) + 1).map(|below| below.level);
        let last = VirtAddr(va.0 | (self.shape.level(level).bytes() - 1));
        matches!(below, Some(Level::P4d | Level::Pud)) && self.next_marker() <= last
    }

    fn slot(&mut self, va: VirtAddr, level: Level, raw: u64, entry: Entry<F::Attrs>) {
        // Where shareability gave way to an address, Linux prints the address's bits in its column.
        let bits = if matches!(entry, Entry::Table { .. }) { 0 } else { raw };
        self.note(va, Some(level), bits);
    }

    fn unreadable(&mut self, va: VirtAddr, level: Level, _error: BusError) {
        self.note(va, Some(level), 0);
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::String;

    use kernmem_arch::arm64::{Arm64, Arm64Granule4K, FixmapFacts, Kasan, LayoutFacts, prot};
    use kernmem_base::{Granule, PhysRange};
    use kernmem_pgtable::heap::HeapMem;
    use kernmem_pgtable::{Mapping, Sizes, Tables};

    use super::*;

    fn layout(era: Era, granule: Granule, va_bits: u32, va_bits_actual: u32) -> Layout {
        let fixmap = FixmapFacts {
            era,
            granule,
            relocatable: true,
            unmap_at_el0: true,
            ghes: false,
            sdei: false,
            vncr_slots: 0,
        };
        Layout::new(&LayoutFacts { era, granule, va_bits, va_bits_actual, kasan: Kasan::Off, fixmap })
    }

    /// The listing of a kernel that maps nothing but 1 GiB at `va`.
    fn one_block<F: EntryFormat<Attrs = kernmem_arch::arm64::Arm64Attrs>>(
        era: Era,
        layout: &Layout,
        va: VirtAddr,
    ) -> String {
        let mem = HeapMem::new(PhysRange::new(PhysAddr(0), PhysAddr(16 << 12)));
        let root = mem.take_root();
        let range = VirtRange::of_size(va, 1 << 30).unwrap();
        let attrs = prot::tagged(prot::PAGE_KERNEL);
        let mapping = Mapping::<F>::new(PhysAddr(0x4000_0000), attrs, Sizes::ALL);
        let mut tables = Tables::<F, _>::new(&mem, root);
        tables.cursor(range).map(&mut mem.frames(), &mapping).unwrap().forgive("a test");
        let mut text = String::new();
        print::<F, _>(&mem, root, (layout, None), era, &mut text).unwrap();
        text
    }

    /// Facts: 5.10 begins its walk inside a line of the root from address 0 and prints no first marker; the last marker lies
    /// inside the last hole, and is missing as well.
    #[test]
    fn the_first_line_of_5_10_begins_at_0() {
        let layout = layout(Era::V5_10, Granule::K4, 48, 48);
        let text = one_block::<Arm64Granule4K>(Era::V5_10, &layout, layout.page_offset);
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("0x0000000000000000-0xffff000000000000    16776960T PGD"));
        let block = "0xffff000000000000-0xffff000040000000           1G PUD       RW NX SHD AF        BLK UXN    MEM/NORMAL-TAGGED";
        assert_eq!(lines.next(), Some(block));
        assert!(!text.contains("Linear Mapping start") && !text.contains("vmemmap end"), "{text}");
        assert!(text.contains("---[ BPF start ]---"));
    }

    /// Facts: a linear map that was moved by KASLR leaves one line from 0 to its first table, wider than its column.
    #[test]
    fn holes_of_the_root_join_the_first_line_of_5_10() {
        let layout = layout(Era::V5_10, Granule::K4, 48, 48);
        let text = one_block::<Arm64Granule4K>(Era::V5_10, &layout, VirtAddr(0xffff_0d95_c000_0000));
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("0x0000000000000000-0xffff0d8000000000   17179620864G PGD"));
        assert_eq!(lines.next(), Some("0xffff0d8000000000-0xffff0d95c0000000          87G PUD"));
    }

    #[test]
    fn later_eras_begin_with_a_marker_and_6_12_on_where_the_bits_in_use_begin() {
        let layout = layout(Era::V6_12, Granule::K4, 52, 48);
        let text = one_block::<Arm64Granule4K>(Era::V6_12, &layout, VirtAddr(0xffff_0000_0000_0000));
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("---[ Linear Mapping start ]---"));
        assert!(
            lines
                .next()
                .is_some_and(|line| line.starts_with("0xffff000000000000-0xffff000040000000           1G PUD "))
        );
        // The memory map in use begins at 0xfffffdffc0000000, just below the last root entry but two.
        assert!(
            text.contains("-0xfffffe0000000000      128512G PGD\n---[ vmalloc() end ]---\n---[ vmemmap start ]---\n")
        );
    }

    /// With LPA2 there is no shareability in an entry, and a level more has a name.
    #[test]
    fn five_levels_show_a_p4d_and_no_shareability() {
        let layout = layout(Era::V6_12, Granule::K4, 52, 52);
        let mem = HeapMem::new(PhysRange::new(PhysAddr(0), PhysAddr(16 << 12)));
        let root = mem.take_root();
        let range = VirtRange::of_size(layout.page_offset, 1 << 30).unwrap();
        let attrs = prot::for_output(prot::tagged(prot::PAGE_KERNEL), kernmem_arch::arm64::Output::Lpa2);
        let mapping = Mapping::<Arm64<12, 52>>::new(PhysAddr(0x4000_0000), attrs, Sizes::ALL);
        let mut tables = Tables::<Arm64<12, 52>, _>::new(&mem, root);
        tables.cursor(range).map(&mut mem.frames(), &mapping).unwrap().forgive("a test");
        let mut text = String::new();
        print::<Arm64<12, 52>, _>(&mem, root, (&layout, None), Era::V6_12, &mut text).unwrap();
        let lines: Vec<&str> = text.lines().take(5).collect();
        assert_eq!(
            lines[1..],
            [
                "0xfff0000000000000-0xfff0000040000000           1G PUD       RW NX     AF        BLK UXN    MEM/NORMAL-TAGGED",
                "0xfff0000040000000-0xfff0008000000000         511G PUD",
                "0xfff0008000000000-0xfff1000000000000      261632G P4D",
                "0xfff1000000000000-0x0000000000000000        3840T PGD",
            ]
        );
    }

    /// Facts: a block in a root of two levels is a PGD up to 6.1 and a PMD later; a hole there is a PGD.
    #[test]
    fn a_root_of_two_levels_names_blocks_by_era() {
        let name = |era, is_leaf| level_name(era, 2, Level::Pgd, is_leaf);
        assert_eq!([name(Era::V5_10, true), name(Era::V6_1, true)], ["PGD"; 2]);
        assert_eq!([name(Era::V6_12, true), name(Era::V7_2, true)], ["PMD"; 2]);
        assert_eq!([name(Era::V6_12, false), name(Era::V7_2, false)], ["PGD"; 2]);
        assert_eq!(level_name(Era::V7_2, 3, Level::Pgd, true), "PGD");
    }

    /// Facts: up to 6.12 an entry that is not valid says `BLK` if its table bit is clear; 7.2 looks at the whole type.
    #[test]
    fn an_absent_block_is_no_block_in_7_2() {
        let absent = (prot::PAGE_KERNEL.0 & !(bit::VALID | bit::TABLE)) | 0x4000_0000;
        let says_block = |era| {
            let block = columns(era).nth(BEFORE_BLOCK.len()).unwrap();
            let text = if absent & block.mask == block.value { Some(block.set) } else { block.clear };
            text == Some("BLK")
        };
        assert_eq!([Era::V5_10, Era::V6_1, Era::V6_12, Era::V7_2].map(says_block), [true, true, true, false]);
    }
}
