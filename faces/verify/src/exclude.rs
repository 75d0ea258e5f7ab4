//! What cannot follow from a boot's inputs, as predicates on region and event.

use kernmem_base::{VirtAddr, VirtRange};

use crate::listing::{Line, Listing};

/// A reason for leaving something out of a comparison.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Exclusion {
    /// Lines that touch the vmalloc area and map no part of the image: which areas live there depends on drivers and
    /// threads. The hole behind it as well, as far as it shares a root entry with it: areas at its end have made tables
    /// there or not.
    VmallocArea,
    /// KASAN's shadow of the vmalloc area, beyond that of the image: memory comes with the areas that live there.
    VmallocShadow,
    /// debug_pagealloc unmaps free pages, and which are free depends on the moment: in the linear map a page is
    /// compared as if it was mapped (arm64), or left out beyond the first MiB and the image (x86).
    FreePages,
    /// Objects of the KFENCE pool that were freed are unmapped: even pages of the pool are compared as if mapped.
    KfenceObjects,
    /// Pages of the pool of huge pages were chosen at run time: lines of vmemmap after the pool was filled.
    HugePool,
    /// The user half belongs to the process that read the file.
    UserHalf,
    /// Messages that got into the file.
    Foreign,
    /// The log had lost its head before it could be read.
    LostLogHead,
    /// CPUs' entry areas lie in slots that were drawn: what an area maps is compared by its place in the slot, holes
    /// around areas are left out.
    EntrySlots,
    /// The line of the log about memory comes when all CPUs run: how much of it is free then depends on what they took.
    AvailableMemory,
}

impl Exclusion {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::VmallocArea,
        Self::VmallocShadow,
        Self::FreePages,
        Self::KfenceObjects,
        Self::HugePool,
        Self::UserHalf,
        Self::Foreign,
        Self::LostLogHead,
        Self::EntrySlots,
        Self::AvailableMemory,
    ];

    /// A word for the tally.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::VmallocArea => "vmalloc area",
            Self::VmallocShadow => "shadow of vmalloc",
            Self::FreePages => "free pages",
            Self::KfenceObjects => "KFENCE objects",
            Self::HugePool => "huge-page pool",
            Self::UserHalf => "user half",
            Self::Foreign => "foreign lines",
            Self::LostLogHead => "lost head of the log",
            Self::EntrySlots => "entry slots",
            Self::AvailableMemory => "available memory",
        }
    }
}

/// The regions and events of one boot that exclusions look at; taken from our own boot.
#[derive(Clone, Debug)]
pub struct Context {
    /// The vmalloc area.
    pub vmalloc: VirtRange,
    /// The last address whose root entry is that of the end of the vmalloc area.
    pub vmalloc_tables_last: VirtAddr,
    /// KASAN's shadow of the vmalloc area.
    pub vmalloc_shadow: Option<VirtRange>,
    /// The pages of it that boot maps for the image, where the image lies in the vmalloc area.
    pub image_shadow: Option<VirtRange>,
    /// The image, where it lies in the vmalloc area.
    pub image: Option<VirtRange>,
    /// The linear map.
    pub linear: VirtRange,
    /// With debug_pagealloc: parts of the linear map whose state is known all the same.
    pub known_pages: Option<Vec<VirtRange>>,
    /// The KFENCE pool in the linear map.
    pub kfence_pool: Option<VirtRange>,
    /// The memory map.
    pub vmemmap: VirtRange,
    /// CPUs' entry areas, if their slots were drawn.
    pub entry_slots: Option<EntrySlots>,
    /// Whether absent pages print their other attributes (arm64).
    pub absent_pages_have_rights: bool,
    /// The first address of the kernel's half.
    pub kernel: VirtAddr,
    /// Whether the file shows the user half of a process.
    pub user_half: bool,
    /// Whether the file was read after a pool of huge pages had been filled at run time.
    pub huge_pool: bool,
}

/// Slots for the entry areas of CPUs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EntrySlots {
    /// All of them.
    pub range: VirtRange,
    /// Bytes of one.
    pub bytes: u64,
}

/// Applies the exclusions in `active` to a listing; returns how many lines each of them touched.
pub(crate) fn apply(listing: &mut Listing, context: &Context, active: &[Exclusion]) -> Vec<(Exclusion, usize)> {
    let mut touched = Vec::new();
    for &exclusion in active {
        let count = match exclusion {
            Exclusion::VmallocArea => {
                drop_lines(listing, |line| is_vmalloc(line, context)) + hole_behind_vmalloc(listing, context)
            }
            Exclusion::VmallocShadow => vmalloc_shadow(listing, context),
            Exclusion::FreePages => free_pages(listing, context),
            Exclusion::KfenceObjects => kfence_objects(listing, context),
            Exclusion::HugePool if context.huge_pool => drop_lines(listing, |line| within(line, context.vmemmap)),
            Exclusion::UserHalf if context.user_half => drop_lines(listing, |line| is_user_half(line, context.kernel)),
            Exclusion::Foreign => drop_lines(listing, |line| matches!(line, Line::Foreign(_))),
            Exclusion::EntrySlots => entry_slots(listing, context),
            Exclusion::HugePool | Exclusion::UserHalf | Exclusion::LostLogHead | Exclusion::AvailableMemory => 0,
        };
        if count > 0 {
            touched.push((exclusion, count));
        }
    }
    touched
}

fn drop_lines(listing: &mut Listing, mut excluded: impl FnMut(&Line) -> bool) -> usize {
    let before = listing.lines.len();
    listing.lines.retain(|line| !excluded(line));
    before - listing.lines.len()
}

fn is_vmalloc(line: &Line, context: &Context) -> bool {
    let Line::Range { range, rest } = line else { return false };
    let maps_image = context.image.is_some_and(|image| image.start <= range.start && range.last <= image.last);
    range.overlaps(&context.vmalloc) && !(maps_image && is_mapped(rest))
}

/// Cuts the hole behind the vmalloc area, up to the next mapped line or root entry, out of the lines; markers stay.
fn hole_behind_vmalloc(listing: &mut Listing, context: &Context) -> usize {
    let mut touched = 0;
    let mut is_behind = true;
    listing.lines.retain_mut(|line| {
        let Line::Range { range, rest } = line else { return true };
        if range.start <= context.vmalloc.last || range.start > context.vmalloc_tables_last {
            return true;
        }
        is_behind &= !is_mapped(rest);
        if !is_behind {
            return true;
        }
        touched += 1;
        if range.last <= context.vmalloc_tables_last {
            return false;
        }
        range.start = context.vmalloc_tables_last + 1;
        true
    });
    touched
}

/// Cuts the lines of the shadow of vmalloc down to what boot maps of it; returns how many were cut or dropped.
fn vmalloc_shadow(listing: &mut Listing, context: &Context) -> usize {
    let Some(shadow) = context.vmalloc_shadow else { return 0 };
    let mut touched = 0;
    let cut = |line: Line| {
        let Line::Range { range, rest } = &line else { return Some(line) };
        if !range.overlaps(&shadow) || context.image_shadow.is_some_and(|image| contains(image, *range)) {
            return Some(line);
        }
        touched += 1;
        let image = context.image_shadow.filter(|image| image.overlaps(range))?;
        let range = VirtRange { start: image.start.max(range.start), last: image.last.min(range.last) };
        Some(Line::Range { range, rest: rest.clone() })
    };
    listing.lines = core::mem::take(&mut listing.lines).into_iter().filter_map(cut).collect();
    touched
}

const fn contains(outer: VirtRange, inner: VirtRange) -> bool {
    outer.start.0 <= inner.start.0 && inner.last.0 <= outer.last.0
}

/// Whether a line says rights, not only its level.
fn is_mapped(rest: &str) -> bool {
    rest.split_ascii_whitespace().count() > 1
}

/// Lines of the user half, with the first line of the kernel half's hole, which starts where the process's last
/// table ends, and the marker before it all.
fn is_user_half(line: &Line, kernel: VirtAddr) -> bool {
    match line {
        Line::Range { range, .. } => range.start < kernel,
        Line::Marker(text) => text.contains("User Space"),
        Line::Foreign(_) => false,
    }
}

fn within(line: &Line, region: VirtRange) -> bool {
    matches!(line, Line::Range { range, .. } if region.contains(range.start) && region.contains(range.last))
}

fn free_pages(listing: &mut Listing, context: &Context) -> usize {
    let Some(known) = &context.known_pages else { return 0 };
    if !context.absent_pages_have_rights {
        return keep_known(listing, context.linear, known);
    }
    let mut touched = 0;
    let is_global = maps_globally(listing, context.linear);
    for line in &mut listing.lines {
        if within(line, context.linear)
            && let Line::Range { rest, .. } = line
            && let Some(mapped) = as_if_mapped(rest, is_global)
        {
            *rest = mapped;
            touched += 1;
        }
    }
    listing.join(context.linear);
    touched
}

/// Cuts the lines of the linear map down to the parts whose state is known; returns how many were cut or dropped.
fn keep_known(listing: &mut Listing, linear: VirtRange, known: &[VirtRange]) -> usize {
    let mut lines = Vec::with_capacity(listing.lines.len());
    let mut touched = 0;
    for line in listing.lines.drain(..) {
        let Line::Range { range, rest } = &line else {
            lines.push(line);
            continue;
        };
        if !linear.contains(range.start) {
            lines.push(line);
            continue;
        }
        let shared = |part: &VirtRange| {
            let cut = VirtRange { start: part.start.max(range.start), last: part.last.min(range.last) };
            part.overlaps(range).then_some(cut)
        };
        let parts: Vec<VirtRange> = known.iter().filter_map(shared).collect();
        touched += usize::from(parts != [*range]);
        lines.extend(parts.into_iter().map(|range| Line::Range { range, rest: rest.clone() }));
    }
    listing.lines = lines;
    touched
}

/// arm64: ` PTE F     RW` becomes ` PTE       RW`; where mappings are global, a mark that only absent pages have goes as
/// well (7.2: the bit that says otherwise).
fn as_if_mapped(rest: &str, is_global: bool) -> Option<String> {
    let at = rest.find(ABSENT)? + 1;
    let mut text = rest.to_owned();
    text.replace_range(at..=at, " ");
    Some(if is_global { text.replacen(NOT_GLOBAL, "    ", 1) } else { text })
}

const ABSENT: &str = " F ";
const NOT_GLOBAL: &str = " NG ";

/// Whether the mapped pages of a region belong to no address space.
fn maps_globally(listing: &Listing, region: VirtRange) -> bool {
    !listing.lines.iter().any(|line| match line {
        Line::Range { rest, .. } => within(line, region) && !rest.contains(ABSENT) && rest.contains(NOT_GLOBAL),
        Line::Marker(_) | Line::Foreign(_) => false,
    })
}

/// The first two pages of the pool and every odd one are guards; any other may hold a freed object.
fn kfence_objects(listing: &mut Listing, context: &Context) -> usize {
    const PAGE: u64 = 4096;
    let Some(pool) = context.kfence_pool else { return 0 };
    let is_global = maps_globally(listing, context.linear);
    let mut lines = Vec::with_capacity(listing.lines.len());
    let mut touched = 0;
    for line in listing.lines.drain(..) {
        let Line::Range { range, rest } = &line else {
            lines.push(line);
            continue;
        };
        let Some(mapped) =
            as_if_mapped(rest, is_global).filter(|_| pool.contains(range.start) && pool.contains(range.last))
        else {
            lines.push(line);
            continue;
        };
        touched += 1;
        for va in (range.start.0..=range.last.0).step_by(PAGE as usize) {
            let index = (va - pool.start.0) / PAGE;
            let guard = index == 0 || index % 2 == 1;
            let range = VirtRange { start: VirtAddr(va), last: VirtAddr(va + (PAGE - 1)) };
            lines.push(Line::Range { range, rest: if guard { rest.clone() } else { mapped.clone() } });
        }
    }
    listing.lines = lines;
    listing.join(pool);
    touched
}

/// Moves every line that maps something into the first slot, and drops those that map nothing. A page without rights
/// counts as nothing.
fn entry_slots(listing: &mut Listing, context: &Context) -> usize {
    let Some(slots) = context.entry_slots else { return 0 };
    let mut touched = drop_lines(
        listing,
        |line| matches!(line, Line::Range { rest, .. } if within(line, slots.range) && !is_mapped(rest)),
    );
    for line in &mut listing.lines {
        let is_area = within(line, slots.range);
        if let Line::Range { range, .. } = line
            && is_area
        {
            let place = (range.start - slots.range.start) % slots.bytes;
            let start = slots.range.start + place;
            *range = VirtRange { start, last: start + (range.size() - 1) };
            touched += 1;
        }
    }
    touched
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, pages: u64) -> VirtRange {
        VirtRange { start: VirtAddr(start), last: VirtAddr(start + pages * 4096 - 1) }
    }

    fn context(kfence_pool: Option<VirtRange>) -> Context {
        Context {
            vmalloc: range(0x10_0000, 1),
            vmalloc_tables_last: VirtAddr(0x10_ffff),
            vmalloc_shadow: None,
            image_shadow: None,
            image: None,
            linear: range(0x1000, 64),
            known_pages: None,
            kfence_pool,
            vmemmap: range(0x20_0000, 1),
            entry_slots: None,
            absent_pages_have_rights: true,
            kernel: VirtAddr(1 << 63),
            user_half: false,
            huge_pool: false,
        }
    }

    /// Pages 0, 1 and 3 of the pool are guards; page 4 holds an object that was freed, page 2 one that was not.
    #[test]
    fn freed_objects_are_compared_as_mapped_and_guards_are_not() {
        let mut listing = Listing::parse(
            "0x1000-0x3000           8K PTE F     RW NX\n0x3000-0x4000           4K PTE       RW NX\n\
             0x4000-0x7000          12K PTE F     RW NX\n",
        );
        let touched = apply(&mut listing, &context(Some(range(0x1000, 6))), &[Exclusion::KfenceObjects]);
        assert_eq!(touched, [(Exclusion::KfenceObjects, 2)]);
        let rests = listing.lines.iter().map(|line| match line {
            Line::Range { range, rest } => (range.start.0, range.size() / 4096, rest.contains(" F ")),
            other => panic!("{other:?}"),
        });
        let expected =
            [(0x1000, 2, true), (0x3000, 1, false), (0x4000, 1, true), (0x5000, 1, false), (0x6000, 1, true)];
        assert_eq!(rests.collect::<Vec<_>>(), expected);
    }

    /// The shadow of the image, from 0x3000 to 0x5000, was mapped together with that of areas on both sides.
    #[test]
    fn of_the_shadow_of_vmalloc_that_of_the_image_stays() {
        let text = "0x1000-0x2000           4K PTE       ro NX\n0x2000-0x6000          16K PTE       RW NX\n\
                    0x6000-0x9000          12K PTE\n0x9000-0xa000           4K PTE       ro NX\n";
        let mut listing = Listing::parse(text);
        let shadow =
            Context { vmalloc_shadow: Some(range(0x2000, 7)), image_shadow: Some(range(0x3000, 2)), ..context(None) };
        assert_eq!(apply(&mut listing, &shadow, &[Exclusion::VmallocShadow]), [(Exclusion::VmallocShadow, 2)]);
        let expected = "0x1000-0x2000           4K PTE       ro NX\n0x3000-0x5000           8K PTE       RW NX\n\
                        0x9000-0xa000           4K PTE       ro NX\n";
        assert_eq!(listing, Listing::parse(expected));
    }

    /// Slots of three pages from 0x31000 on: two areas in other slots map the same, one more page is another.
    #[test]
    fn areas_in_drawn_slots_are_compared_by_their_place() {
        let slots = EntrySlots { range: range(0x3_1000, 30), bytes: 0x3000 };
        let context = Context { entry_slots: Some(slots), ..context(None) };
        let settled = |text: &str| {
            let mut listing = Listing::parse(text);
            let touched = apply(&mut listing, &context, &[Exclusion::EntrySlots]);
            (listing, touched)
        };
        let idt = "0x30000-0x31000           4K     ro NX pte\n";
        let area = |first: u64| {
            let (gdt, stack) = (first + 0x1000, first + 0x2000);
            format!(
                "0x31000-{first:#x}          12K pte\n{first:#x}-{gdt:#x}           4K     ro NX pte\n{gdt:#x}-{stack:#x}           4K     RW NX pte\n"
            )
        };
        let (ours, touched) = settled(&format!("{idt}{}", area(0x3_4000)));
        assert_eq!(touched, [(Exclusion::EntrySlots, 3)]);
        assert_eq!(ours.lines.len(), 3, "the page before the slots, and two of an area");
        assert_eq!(ours, settled(&format!("{idt}{}", area(0x3_a000))).0);
        assert_ne!(ours, settled(&format!("{idt}{}", area(0x3_b000))).0, "an area starts where a slot starts");
    }

    /// The vmalloc area ends at 0x101000 and its root entry at 0x110000: what is mapped behind it counts, and so does the
    /// rest of a hole beyond the entry.
    #[test]
    fn the_hole_behind_vmalloc_is_cut_at_its_root_entry() {
        let cut = |text: &str| {
            let mut listing = Listing::parse(text);
            let touched = apply(&mut listing, &context(None), &[Exclusion::VmallocArea]);
            (listing.texts().collect::<Vec<_>>(), touched)
        };
        let end = "0x110000-0x130000         128K PMD";
        let split = format!(
            "0x101000-0x102000           4K PTE\n0x102000-0x108000          24K PMD\n{}",
            "0x108000-0x130000         160K PMD\n"
        );
        assert_eq!(cut(&split), (vec![end.to_owned()], vec![(Exclusion::VmallocArea, 3)]));
        assert_eq!(cut("0x0f0000-0x110000         128K PGD\n0x110000-0x130000         128K PMD\n").0, [end]);
        let mapped = "0x101000-0x102000           4K PTE       RW\n0x102000-0x103000           4K PTE\n";
        assert_eq!(cut(mapped).0.len(), 2, "a hole behind something that is mapped");
    }

    /// Linux 7.2 marks absent pages with the bit that says that a page is not global.
    #[test]
    fn an_absent_page_is_compared_without_its_mark_where_pages_are_global() {
        let settled = |text: &str| {
            let mut listing = Listing::parse(text);
            let context = Context { known_pages: Some(Vec::new()), ..context(None) };
            apply(&mut listing, &context, &[Exclusion::FreePages]);
            listing.lines.len()
        };
        let global = "0x1000-0x2000           4K PTE       RW NX SHD AF            UXN\n\
                      0x2000-0x3000           4K PTE F     RW NX SHD AF NG         UXN\n";
        let not = "0x1000-0x2000           4K PTE       RW NX SHD AF NG         UXN\n\
                   0x2000-0x3000           4K PTE F     RW NX SHD AF NG         UXN\n";
        assert_eq!((settled(global), settled(not)), (1, 1));
    }

    #[test]
    fn messages_of_the_kernel_are_dropped_and_counted() {
        let mut listing = Listing::parse("0x1000-0x2000           4K PTE\nhrtimer: interrupt took 5 ns\n");
        assert_eq!(apply(&mut listing, &context(None), &[Exclusion::Foreign]), [(Exclusion::Foreign, 1)]);
        assert_eq!(listing.lines.len(), 1);
    }
}
