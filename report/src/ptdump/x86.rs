//! x86's `page_tables/kernel`, `current_kernel` and `current_user`.
//!
//! Every line compares all bits of an entry but its address, though it prints only some; and the rights that hold
//! through all levels take part too.
//!
//! Source: Linux 5.10–7.2 arch/x86/mm/dump_pagetables.c `note_page`, `printk_prot`, `effective_prot`; mm/ptdump.c.

use core::fmt;

use kernmem_arch::x86::markers::{Marker, Markers};
use kernmem_arch::x86::{bit, listed_as_leaf};
use kernmem_arch::{Entry, EntryFormat, Shape};
use kernmem_base::{BusError, Era, Level, PhysAddr, PhysRead, VirtAddr, VirtRange};
use kernmem_pgtable::{Visitor, visit};

use super::wx::Wx;
use super::{ListingError, SharedShadow, unit::Bytes};

/// Bits that hold through all levels: rights are what every level grants, NX what any level says.
const GRANTED: u64 = bit::USER | bit::RW;

/// Columns before the level: mask, when set, when clear; and whether a leaf above the page table alone shows it.
const COLUMNS: [(u64, &str, &str, Shown); 7] = [
    (bit::USER, "USR ", "    ", Shown::Always),
    (bit::RW, "RW ", "ro ", Shown::Always),
    (bit::PWT, "PWT ", "    ", Shown::Always),
    (bit::PCD, "PCD ", "    ", Shown::Always),
    (bit::PSE, "PSE ", "    ", Shown::Large),
    (bit::PAT, "PAT ", "    ", Shown::Page),
    (bit::GLOBAL, "GLB ", "    ", Shown::Always),
];

/// Leaves that can show a column. A large leaf's PAT bit is cut off with its address, so it never shows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown {
    Always,
    Large,
    Page,
}

/// Prints the tree at `root`.
pub(super) fn print<F: EntryFormat, M: PhysRead>(
    mem: &M,
    root: PhysAddr,
    (ranges, markers): (&[VirtRange], &Markers),
    shadow: Option<SharedShadow>,
    era: Era,
    out: &mut impl fmt::Write,
) -> Result<Wx, ListingError> {
    let markers = markers.as_slice();
    let mut listing = Listing {
        out,
        era,
        shape: F::shape(),
        shadow,
        markers,
        marker: 0,
        lines: 0,
        effective: [0; MAX_LEVELS],
        run: None,
        failed: false,
        wx: Wx { is_x86: true, ..Wx::default() },
    };
    for range in ranges {
        visit::<F, M>(mem, root, *range, &mut listing);
    }
    listing.note(VirtAddr(0), None, 0);
    if listing.failed { Err(ListingError::Write) } else { Ok(listing.wx) }
}

const MAX_LEVELS: usize = 5;

/// A line that is not finished.
struct Run {
    start: VirtAddr,
    level: Option<Level>,
    flags: u64,
    effective: u64,
}

/// The state that turns entries into lines.
struct Listing<'o, W> {
    out: &'o mut W,
    era: Era,
    shape: &'static Shape,
    shadow: Option<SharedShadow>,
    markers: &'o [Marker],
    marker: usize,
    /// Lines behind the last marker.
    lines: u32,
    /// Rights down to each level, on the way to the entry at hand.
    effective: [u64; MAX_LEVELS],
    run: Option<Run>,
    failed: bool,
    wx: Wx,
}

impl<W: fmt::Write> Listing<'_, W> {
    /// Works out the rights down to an entry of `level`.
    fn descend(&mut self, level: Level, raw: u64) {
        let depth = self.shape.depth(level);
        let own = raw & !bit::FRAME;
        self.effective[depth] = match depth.checked_sub(1) {
            None => own,
            Some(above) => {
                let above = self.effective[above];
                above & own & GRANTED | (above | own) & bit::NX
            }
        };
    }

    /// Takes notice of one entry; no level ends the listing. At most one marker is printed in one call.
    fn note(&mut self, va: VirtAddr, level: Option<Level>, raw: u64) {
        let flags = raw & !bit::FRAME;
        let effective = match level {
            Some(level) if raw != 0 => self.effective[self.shape.depth(level)],
            Some(_) | None => 0,
        };
        let new = Run { start: va, level, flags, effective };
        match self.run.take() {
            None => {
                self.print_marker();
                self.run = Some(new);
            }
            Some(run) => {
                let due = self.next_marker().is_some_and(|marker| va >= marker.start);
                let differs = (run.flags, run.effective, run.level) != (new.flags, new.effective, new.level);
                if !differs && !due {
                    self.run = Some(run);
                    return;
                }
                self.print_line(&run, va);
                if due {
                    self.print_skipped();
                    self.marker += 1;
                    self.lines = 0;
                    self.print_marker();
                }
                self.run = Some(new);
            }
        }
    }

    /// A hole in the root is the root's, also where the root is the table of a lower level's name.
    fn level_name(&self, level: Level, is_hole: bool) -> &'static str {
        if is_hole && self.shape.depth(level) == 0 { level_name(Level::Pgd) } else { level_name(level) }
    }

    fn next_marker(&self) -> Option<&Marker> {
        self.markers.get(self.marker + 1)
    }

    fn print_marker(&mut self) {
        let Some(marker) = self.markers.get(self.marker) else { return };
        self.failed |= writeln!(self.out, "---[ {} ]---", marker.name).is_err();
    }

    fn limit(&self) -> Option<u32> {
        self.markers.get(self.marker)?.max_lines
    }

    fn print_skipped(&mut self) {
        let Some(skipped) = self.limit().and_then(|limit| self.lines.checked_sub(limit)).filter(|lines| *lines != 0)
        else {
            return;
        };
        let entries = if skipped == 1 { "y" } else { "ies" };
        self.failed |= writeln!(self.out, "... {skipped} entr{entries} skipped ... ").is_err();
    }

    fn print_line(&mut self, run: &Run, end: VirtAddr) {
        if run.effective & (bit::RW | bit::NX) == bit::RW {
            self.wx.pages += end.0.wrapping_sub(run.start.0) >> 12;
        }
        if self.limit().is_none_or(|limit| self.lines < limit) {
            self.failed |= self.try_line(run, end).is_err();
        }
        self.lines += 1;
    }

    /// Addresses are as wide as the architecture's; the end of the last line is 0.
    fn try_line(&mut self, run: &Run, end: VirtAddr) -> fmt::Result {
        let (width, mask) = if self.shape.has_halves() { (16, u64::MAX) } else { (8, u64::from(u32::MAX)) };
        let size = Bytes(end.0.wrapping_sub(run.start.0) & mask);
        write!(self.out, "0x{:0width$x}-0x{:0width$x}   {size} ", run.start.0, end.0 & mask)?;
        if run.flags & bit::PRESENT == 0 {
            write!(self.out, "{:30}", "")?;
        } else {
            let is_page = run.level == Some(Level::Pte);
            for (mask, set, clear, shown) in COLUMNS {
                let can = match shown {
                    Shown::Always => true,
                    Shown::Large => !is_page,
                    Shown::Page => is_page,
                };
                self.out.write_str(if can && run.flags & mask != 0 { set } else { clear })?;
            }
            self.out.write_str(if run.flags & bit::NX != 0 { "NX " } else { "x  " })?;
        }
        writeln!(self.out, "{}", run.level.map_or("", |level| self.level_name(level, run.flags == 0)))
    }
}

const fn level_name(level: Level) -> &'static str {
    match level {
        Level::Pgd => "pgd",
        Level::P4d => "p4d",
        Level::Pud => "pud",
        Level::Pmd => "pmd",
        Level::Pte => "pte",
    }
}

impl<F: EntryFormat, W: fmt::Write> Visitor<F> for Listing<'_, W> {
    /// A table that all zero shadow shares is noted as one page of it. Linux does not go into those of the last two
    /// levels; into others it does, and finds the same again: that shows only where a marker is due inside.
    fn table(&mut self, va: VirtAddr, level: Level, raw: u64, next: PhysAddr) -> bool {
        let Some(shadow) = self.shadow.filter(|shadow| shadow.zero.is_shared(next)) else {
            self.descend(level, raw);
            return true;
        };
        self.note(va, Some(Level::Pte), shadow.page);
        let last = VirtAddr(va.0 | (self.shape.level(level).bytes() - 1));
        matches!(level, Level::Pgd | Level::P4d) && self.next_marker().is_some_and(|marker| marker.start <= last)
    }

    fn slot(&mut self, va: VirtAddr, level: Level, raw: u64, _entry: Entry<F::Attrs>) {
        self.descend(level, raw);
        if raw == 0 || listed_as_leaf(self.era, raw, level) {
            self.note(va, Some(level), raw);
        }
    }

    fn unreadable(&mut self, va: VirtAddr, level: Level, _error: BusError) {
        self.note(va, Some(level), 0);
    }
}
