//! One recording, booted from its inputs alone and held against what its kernel wrote.

use core::error::Error;
use core::fmt;
use std::path::Path;

use kernmem::{Boot, Isa, Kernel, Witness};
use kernmem_base::{Era, PhysAddr, PhysRange, PhysRead, VirtAddr, VirtRange};
use kernmem_memblock::Region;
use kernmem_report::{boot_log, ptdump};
use kernmem_sim::Memory;
use kernmem_source::{Options, Source};
use kernmem_view::{Answer, BootRecord, Format, KernelView, LayoutView, RootKind};

use crate::console::{
    compare_memblock, compare_memory, has_head, is_memblock, memblock_lines, memory_lines, without_available,
};
use crate::exclude::{Context, EntrySlots, Exclusion, apply};
use crate::listing::Listing;
use crate::missing::{self, Missing};
use crate::tally::FileTally;
use crate::zones;

/// A recording could not be verified at all.
#[derive(Debug)]
pub struct VerifyError {
    recording: String,
    reason: Box<dyn Error + Send + Sync>,
    /// The input is fine, but that kernel is not modelled.
    pub beyond: bool,
}

impl fmt::Display for VerifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.recording, self.reason)
    }
}

impl Error for VerifyError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.reason)
    }
}

/// What was compared.
#[derive(Debug)]
pub struct Verdict {
    /// The recording's folder name.
    pub recording: String,
    /// Its files.
    pub files: Vec<FileTally>,
    /// What was not recorded: those things are not compared, or stand with their usual values.
    pub missing: Vec<Missing>,
}

impl Verdict {
    /// Whether every file is equal.
    #[must_use]
    pub fn is_equal(&self) -> bool {
        self.files.iter().all(|file| file.difference.is_none())
    }
}

/// Boots the machine of the recording at `path` and compares every file that it can.
///
/// # Errors
/// The inputs cannot be read, or the kernel does not boot.
pub fn verify(path: &Path) -> Result<Verdict, VerifyError> {
    verify_without(path, None)
}

/// As [`verify`], with one exclusion taken away: a test that each of them is needed.
///
/// # Errors
/// As [`verify`].
pub fn verify_without(path: &Path, missing: Option<Exclusion>) -> Result<Verdict, VerifyError> {
    let recording = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let failed =
        |reason: Box<dyn Error + Send + Sync>, beyond| VerifyError { recording: recording.clone(), reason, beyond };
    let source = open(path).map_err(|error| failed(error, false))?;
    let boot = Boot::new(&source.machine, &source.config);
    let memory = Memory::new(kernmem::memory_ranges(&boot)).map_err(|error| failed(error.into(), false))?;
    let mut record = BootRecord::default();
    let kernel = match kernmem_live::boot(&memory, &boot, &mut record) {
        Ok(kernel) => kernel,
        Err(error) => {
            let beyond = matches!(error, kernmem::BootError::Beyond(_));
            return Err(failed(error.into(), beyond));
        }
    };
    let active: Vec<Exclusion> = Exclusion::ALL.into_iter().filter(|one| Some(*one) != missing).collect();
    let entry_slots = drawn_slots(&kernel);
    let ours = Ours { source: &source, view: &kernel, active: &active, entry_slots };
    let mut files = Vec::new();
    for file in listing_files(path) {
        files.extend(ours.listing(path, &file));
    }
    files.extend(ours.section_size(path));
    files.extend(ours.direct_map(path));
    let (format, era) = (kernel.format(), source.config.era);
    files.extend(zones::files(&kernel, &boot, path));
    let (memory, reserved) = (kernel.memblock.memory().regions(), kernel.memblock.reserved().regions());
    let lists = [("memblock_memory", memory.to_vec()), ("memblock_reserved", reserved.to_vec())];
    drop(kernel);
    for (file, regions) in lists {
        files.extend(zones::memblock_list(file, &regions, &record, era, path));
    }
    files.extend(compare_log(&source, &record, format, path, &active));
    if files.is_empty() {
        return Err(failed("holds no file of the kernel that could be compared; give one a listing".into(), false));
    }
    Ok(Verdict { recording, files, missing: missing::of(path, source.machine.arch) })
}

fn open(path: &Path) -> Result<Source, Box<dyn Error + Send + Sync>> {
    let path = path.to_str().ok_or("the path is no text")?;
    Ok(Source::open_with(path, &Options::default())?)
}

/// Boots the machine at `path` and prints one listing.
///
/// # Errors
/// As [`verify`].
pub fn listing_of(path: &Path, root: RootKind) -> Result<String, VerifyError> {
    let recording = path.display().to_string();
    let failed =
        |reason: Box<dyn Error + Send + Sync>| VerifyError { recording: recording.clone(), reason, beyond: false };
    let source = open(path).map_err(failed)?;
    let boot = Boot::new(&source.machine, &source.config);
    let memory = Memory::new(kernmem::memory_ranges(&boot)).map_err(|error| failed(error.into()))?;
    let kernel = kernmem_live::boot(&memory, &boot, ()).map_err(|error| failed(error.into()))?;
    let mut text = String::new();
    ptdump::linux(&kernel, root, &mut text).map_err(|error| failed(error.into()))?;
    Ok(text)
}

/// Whether the kernel's tables print as `recorded`, but for what does not follow from its inputs; `None` if they cannot
/// be read.
pub(crate) fn same_listing<M: PhysRead, W: Witness>(
    source: &Source,
    kernel: &Kernel<'_, M, W>,
    recorded: &str,
) -> Option<bool> {
    let ours = Ours { source, view: kernel, active: &Exclusion::ALL, entry_slots: drawn_slots(kernel) };
    let mut text = String::new();
    ptdump::linux(kernel, RootKind::Kernel, &mut text).ok()?;
    let mut context = ours.context();
    context.user_half = true;
    Some(compare_listing("", &text, recorded, &context, ours.active).difference.is_none())
}

/// A listing file, the tree it shows, and the moment.
struct ListingFile {
    name: String,
    root: RootKind,
    user_half: bool,
    huge_pool: bool,
}

/// The listings that a recording has.
fn listing_files(path: &Path) -> Vec<ListingFile> {
    const KINDS: [(&str, RootKind, bool); 4] = [
        ("kernel_page_tables", RootKind::Kernel, false),
        ("page_tables_kernel", RootKind::Kernel, false),
        ("page_tables_current_kernel", RootKind::Kernel, true),
        ("page_tables_current_user", RootKind::User, true),
    ];
    let mut files = Vec::new();
    for (kind, root, user_half) in KINDS {
        for suffix in ["", ".dump", ".hvo-8", ".hvo-0"] {
            let name = format!("{kind}{suffix}");
            if path.join(&name).is_file() {
                // A dump is taken last: what a pool split stays so.
                let had_pool = path.join(format!("{kind}.hvo-8")).is_file();
                let huge_pool = suffix.starts_with(".hvo") || suffix == ".dump" && had_pool;
                files.push(ListingFile { name, root, user_half, huge_pool });
            }
        }
    }
    files
}

/// Our side of the comparison.
struct Ours<'a, V> {
    source: &'a Source,
    view: &'a V,
    active: &'a [Exclusion],
    entry_slots: Option<EntrySlots>,
}

/// The slots of entry areas, if this kernel draws them.
fn drawn_slots<M, W>(kernel: &Kernel<'_, M, W>) -> Option<EntrySlots> {
    use kernmem_arch::x86::cpu_entry_area::{PER_CPU, area_bytes, map_bytes};
    let Isa::X86(state) = &kernel.isa else { return None };
    let end = state.layout.cpu_entry_area + map_bytes(kernel.era, false, state.entry_slots.len() as u64);
    let range = VirtRange { start: PER_CPU, last: end - 1 };
    state.draws_entry_slots.then_some(EntrySlots { range, bytes: area_bytes(false) })
}

impl<V: KernelView<Mem: PhysRead>> Ours<'_, V> {
    fn listing(&self, path: &Path, file: &ListingFile) -> Option<FileTally> {
        let recorded = std::fs::read_to_string(path.join(&file.name)).ok()?;
        let mut ours = String::new();
        // Without page-table isolation user mode runs with the kernel's tables, and the file shows them.
        let has_user = matches!(self.view.root(RootKind::User), Answer::Known(_));
        let root = if has_user { file.root } else { RootKind::Kernel };
        ptdump::linux(self.view, root, &mut ours).ok()?;
        let mut context = self.context();
        context.user_half = file.user_half;
        context.huge_pool = file.huge_pool && !context.absent_pages_have_rights;
        Some(compare_listing(&file.name, &ours, &recorded, &context, self.active))
    }

    /// The regions and events of this boot.
    fn context(&self) -> Context {
        let region =
            |start: VirtAddr, end: VirtAddr| VirtRange::until(start, end).unwrap_or(VirtRange { start, last: start });
        let debug_pagealloc = self.source.config.debug_pagealloc().value;
        match self.view.layout() {
            LayoutView::Arm64 { layout, .. } => Context {
                vmalloc: region(layout.kimage, layout.vmalloc_end),
                vmalloc_tables_last: self.root_entry_last(layout.vmalloc_end - 1),
                vmalloc_shadow: self.vmalloc_shadow(layout),
                image_shadow: self.image_shadow(layout),
                image: self.view.image().known().map(|(image, _)| image),
                linear: region(layout.page_offset, layout.page_end),
                known_pages: debug_pagealloc.then(Vec::new),
                kfence_pool: self.view.kfence_pool().known(),
                vmemmap: region(layout.vmemmap_start, layout.vmemmap_end),
                entry_slots: None,
                absent_pages_have_rights: true,
                kernel: VirtAddr(1 << 63),
                user_half: false,
                huge_pool: false,
            },
            LayoutView::X86 { layout, .. } => Context {
                vmalloc: VirtRange { start: layout.vmalloc_start, last: layout.vmalloc_last },
                vmalloc_tables_last: layout.vmalloc_last,
                vmalloc_shadow: layout.kasan_shadow.map(|_| VirtRange {
                    start: layout.kasan_shadow_of(layout.vmalloc_start),
                    last: layout.kasan_shadow_of(layout.vmalloc_last),
                }),
                image_shadow: None,
                image: None,
                linear: VirtRange { start: layout.page_offset, last: layout.vmalloc_start - 1 },
                known_pages: debug_pagealloc.then(|| self.known_pages(layout.page_offset, layout.vmalloc_start)),
                kfence_pool: None,
                vmemmap: VirtRange { start: layout.vmemmap, last: layout.cpu_entry_area - 1 },
                entry_slots: self.entry_slots,
                absent_pages_have_rights: false,
                kernel: VirtAddr(1 << 63),
                user_half: false,
                huge_pool: false,
            },
            LayoutView::I386 { layout, .. } => Context {
                vmalloc: region(layout.vmalloc_start(), layout.vmalloc_end),
                vmalloc_tables_last: layout.vmalloc_end - 1,
                vmalloc_shadow: None,
                image_shadow: None,
                image: None,
                linear: region(layout.page_offset, layout.vmalloc_start()),
                known_pages: debug_pagealloc.then(|| self.known_pages(layout.page_offset, layout.high_memory)),
                kfence_pool: None,
                vmemmap: region(layout.vmalloc_end, layout.cpu_entry_area),
                entry_slots: None,
                absent_pages_have_rights: false,
                kernel: layout.page_offset,
                user_half: false,
                huge_pool: false,
            },
            _ => unreachable!("every architecture that boots has regions"),
        }
    }

    /// The last address that the root entry of `va` covers.
    fn root_entry_last(&self, va: VirtAddr) -> VirtAddr {
        match self.view.format() {
            Format::Arm64(geometry) => VirtAddr(va.0 | ((1 << geometry.shape().levels[0].shift) - 1)),
            _ => va,
        }
    }

    /// arm64: KASAN's shadow of what comes and goes after boot: modules, and the vmalloc area if its areas bring their
    /// own shadow.
    fn vmalloc_shadow(&self, layout: &kernmem_arch::arm64::Layout) -> Option<VirtRange> {
        let map = layout.shadow_map?;
        let areas_bring_shadow = self.source.config.kconfig.is_set("KASAN_VMALLOC");
        let end = if areas_bring_shadow { layout.vmalloc_end } else { layout.modules_end };
        VirtRange::until(map.of(layout.modules_start), map.of(end))
    }

    /// arm64: the pages of KASAN's shadow of the image, which boot maps from `_text` to `_end`.
    fn image_shadow(&self, layout: &kernmem_arch::arm64::Layout) -> Option<VirtRange> {
        let (image, _) = self.view.image().known()?;
        let symbols = &self.source.config.symbols;
        let bytes = symbols.address("_end")?.0.checked_sub(symbols.address("_text")?.0)?;
        let whole = VirtRange::of_size(VirtAddr(image.end().0.wrapping_sub(bytes)), bytes)?;
        Some(layout.shadow_map?.pages(whole, self.view.granule()))
    }

    /// x86 with debug_pagealloc: of the first MiB what boot did not leave free, and what is reserved around the image, are
    /// never handed out (parts of the image that boot freed apart, which follow), and behind the last memory nothing is
    /// mapped.
    fn known_pages(&self, linear: VirtAddr, linear_end: VirtAddr) -> Vec<VirtRange> {
        let direct = |pa: PhysAddr| linear.wrapping_add(pa.0);
        const FIRST: PhysRange = PhysRange::new(PhysAddr(0), PhysAddr(1 << 20));
        let ranges = |answer: Answer<Vec<Region>>| -> Vec<PhysRange> {
            answer.known().into_iter().flatten().map(|region| region.range()).collect()
        };
        let (memory, reserved) = (ranges(self.view.memory()), ranges(self.view.reserved()));
        let mut known: Vec<VirtRange> = not_free(FIRST, &memory, &reserved)
            .into_iter()
            .filter_map(|part| VirtRange::of_size(direct(part.start), part.size()))
            .collect();
        if let Answer::Known((_, text)) = self.view.image()
            && let Some(image) = reserved.iter().find(|region| region.contains(text))
        {
            known.extend(VirtRange::of_size(direct(text), image.end - text));
        }
        let end = memory.last().map(|region| direct(region.end)).filter(|end| *end < linear_end);
        if let Some(start) = end {
            known.push(VirtRange { start, last: linear_end - 1 });
        }
        known
    }

    /// `block_size_bytes`: one memory section on machines of these sizes.
    fn section_size(&self, path: &Path) -> Option<FileTally> {
        let recorded = std::fs::read_to_string(path.join("memory_block_size_bytes")).ok()?;
        let Answer::Known(bytes) = self.view.memory_block_bytes() else { return None };
        let ours = format!("{bytes:x}\n");
        Some(compare_text("memory_block_size_bytes", &ours, &recorded))
    }

    /// The DirectMap lines of `/proc/meminfo`.
    fn direct_map(&self, path: &Path) -> Option<FileTally> {
        let recorded = std::fs::read_to_string(path.join("meminfo")).ok()?;
        let recorded: String =
            recorded.lines().filter(|line| line.starts_with("DirectMap")).map(|line| format!("{line}\n")).collect();
        if recorded.is_empty() {
            return None;
        }
        let mut ours = String::new();
        kernmem_report::meminfo::direct_map(self.view, &mut ours).ok()?;
        Some(compare_text("meminfo DirectMap", &ours, &recorded))
    }
}

/// The parts of `window`, ascending, whose pages are no free memory: pages that memory does not fill, and those that are
/// reserved in part. Both lists ascend.
fn not_free(window: PhysRange, memory: &[PhysRange], reserved: &[PhysRange]) -> Vec<PhysRange> {
    const PAGE: u64 = 4096;
    let mut parts: Vec<PhysRange> = Vec::new();
    for start in (window.start.0..window.end.0).step_by(PAGE as usize) {
        let page = PhysRange::new(PhysAddr(start), PhysAddr(start + PAGE));
        let is_memory = memory.iter().any(|range| range.start <= page.start && page.end <= range.end);
        if is_memory && !reserved.iter().any(|range| range.overlaps(&page)) {
            continue;
        }
        match parts.last_mut() {
            Some(last) if last.end == page.start => last.end = page.end,
            _ => parts.push(page),
        }
    }
    parts
}

fn compare_listing(file: &str, ours: &str, recorded: &str, context: &Context, active: &[Exclusion]) -> FileTally {
    let (mut left, mut right) = (Listing::parse(ours), Listing::parse(recorded));
    let printed = right.prints_as(recorded);
    apply(&mut left, context, active);
    let excluded = apply(&mut right, context, active);
    let texts: (Vec<String>, Vec<String>) = (left.texts().collect(), right.texts().collect());
    let mut tally = compare_lines(file, &texts.0, &texts.1);
    tally.regions = right.lines_by_region(tally.equal);
    tally.excluded = excluded;
    if !printed && tally.difference.is_none() {
        tally.difference = Some((0, "sizes as the addresses say".to_owned(), "other sizes".to_owned()));
    }
    tally
}

fn compare_text(file: &str, ours: &str, recorded: &str) -> FileTally {
    let lines = |text: &str| text.split_inclusive('\n').map(str::to_owned).collect::<Vec<_>>();
    compare_lines(file, &lines(ours), &lines(recorded))
}

pub(crate) fn compare_lines(file: &str, ours: &[String], recorded: &[String]) -> FileTally {
    let at = ours.iter().zip(recorded).position(|(a, b)| a != b);
    let at = at.or_else(|| (ours.len() != recorded.len()).then_some(ours.len().min(recorded.len())));
    let side = |lines: &[String], at: usize| lines.get(at).map_or("(end)", String::as_str).trim_end().to_owned();
    FileTally {
        file: file.to_owned(),
        equal: at.unwrap_or(recorded.len()),
        regions: Vec::new(),
        excluded: Vec::new(),
        difference: at.map(|at| (at, side(ours, at), side(recorded, at))),
    }
}

/// Zones, nodes and reservations; and the boot allocator's log if it is on.
fn compare_log(
    source: &Source,
    record: &BootRecord,
    format: kernmem_view::Format,
    path: &Path,
    active: &[Exclusion],
) -> Vec<FileTally> {
    let Ok(console) = std::fs::read_to_string(path.join("console.txt")) else { return Vec::new() };
    let debug = source.config.cmdline.memblock_debug();
    let mut ours = String::new();
    if boot_log::print(record, format, source.config.era, debug, &mut ours).is_err() {
        return Vec::new();
    }
    let mut memory: Vec<String> = ours.lines().filter(|line| !is_memblock(line)).map(str::to_owned).collect();
    let mut recorded = memory_lines(&console);
    let comes_late = match source.config.era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 => false,
        Era::V6_12 | Era::V7_2 => true,
    };
    let mut excluded = Vec::new();
    if comes_late && active.contains(&Exclusion::AvailableMemory) {
        without_available(&mut memory);
        excluded.push((Exclusion::AvailableMemory, without_available(&mut recorded)));
    }
    let mut lines = compare_memory(&memory, &recorded, has_head(&console), active);
    lines.excluded.extend(excluded);
    let mut files = vec![lines];
    if debug {
        let lines: Vec<String> = ours.lines().filter(|line| is_memblock(line)).map(str::to_owned).collect();
        let found = compare_memblock(&lines, &memblock_lines(&console), active);
        let excluded = if found.lost > 0 { vec![(Exclusion::LostLogHead, found.lost)] } else { Vec::new() };
        let difference = found.difference;
        let file = "console memblock log".to_owned();
        files.push(FileTally { file, equal: found.compared, regions: Vec::new(), excluded, difference });
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first MiB of a PC: 5.10 reserves 64 KiB, the trampoline and the BIOS, later eras all of it.
    #[test]
    fn what_is_free_of_the_first_mib_goes_by_what_is_reserved() {
        let range = |start, end| PhysRange::new(PhysAddr(start), PhysAddr(end));
        let (first, memory) = (range(0, 1 << 20), [range(0x1000, 0x9_f000)]);
        let of_5_10 = [range(0, 0x1_0000), range(0x9_9000, 0x10_0000)];
        assert_eq!(not_free(first, &memory, &of_5_10), of_5_10);
        assert_eq!(not_free(first, &memory, &[range(0, 1 << 20)]), [first]);
        assert_eq!(not_free(first, &memory, &[]), [range(0, 0x1000), range(0x9_f000, 1 << 20)]);
    }
}
