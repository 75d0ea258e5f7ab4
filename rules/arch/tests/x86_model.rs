//! The rules played on a naive map, without tables and memory, against what recorded kernels listed: the direct map
//! and the image's own map, and the DirectMap counters.
//!
//! The map is a list of leaves by level and slot. Everything that is drawn or depends on firmware is read from the
//! recording; the image's symbols are those of its kernel (testing/recordings/kernels/x61-64).

use std::collections::BTreeMap;
use std::path::PathBuf;

use kernmem_arch::Entry;
use kernmem_arch::x86::counters::DirectMapCounters;
use kernmem_arch::x86::cpa::{AliasFacts, Decision, Mapped, Masking, Protections, Target};
use kernmem_arch::x86::cpa::{alias_change, decide, split_attrs};
use kernmem_arch::x86::direct_map::{SizeFacts, SlotAction, page_sizes, slot_action, split_mem_range};
use kernmem_arch::x86::image::{FreeFacts, FreedPart, ImageStep, ImageSymbols, Trampoline};
use kernmem_arch::x86::image::{idt_step, rodata_steps, trampoline_steps};
use kernmem_arch::x86::layout::START_KERNEL_MAP;
use kernmem_arch::x86::prot::{Masks, Prot};
use kernmem_arch::x86::pti::{self, GlobalFacts, PtiFacts, PtiOption};
use kernmem_arch::x86::steps::TopDown;
use kernmem_arch::x86::{X86Attrs, bit};
use kernmem_base::{Era, Level, PhysAddr, PhysRange, VirtAddr, VirtRange};

const ERA: Era = Era::V6_1;
const M2: u64 = 1 << 21;
const GIB: u64 = 1 << 30;

struct Recording {
    folder: PathBuf,
    boot: String,
    console: String,
    cpuinfo: String,
}

impl Recording {
    fn open(name: &str) -> Self {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../testing/recordings/x86").join(name);
        let read = |file: &str| std::fs::read_to_string(folder.join(file)).expect("a recorded file");
        Self { boot: read("boot.json"), console: read("console.txt"), cpuinfo: read("cpuinfo"), folder }
    }

    fn file(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.join(name)).expect("a recorded file")
    }

    fn given(&self, key: &str) -> u64 {
        let (_, rest) = self.boot.split_once(&format!("\"{key}\": \"")).expect("a given value");
        hex(rest.split('"').next().expect("a value"))
    }

    fn initrd(&self) -> PhysRange {
        let (_, rest) = self.boot.split_once("\"initrd\": [").expect("an initrd");
        let mut words = rest.split('"').skip(1).step_by(2);
        let mut next = || hex(words.next().expect("two addresses"));
        PhysRange::new(PhysAddr(next()), PhysAddr(next() + 1))
    }

    fn has_cpu(&self, line: &str, word: &str) -> bool {
        let line = self.cpuinfo.lines().find(|l| l.starts_with(line)).unwrap_or("");
        line.split_whitespace().any(|w| w == word)
    }

    fn has_option(&self, word: &str) -> bool {
        let line = self.console.lines().find(|l| l.contains("Command line:")).expect("a command line");
        line.split_whitespace().any(|w| w == word)
    }

    /// RAM as boot maps it: whole pages, without page 0; the user's map if the command line made one.
    fn memory(&self) -> Vec<PhysRange> {
        let edited = self.console.contains("user: [mem ");
        let map = if edited { "user: [mem " } else { "BIOS-e820: [mem " };
        let line = |line: &str| {
            let (_, rest) = line.split_once(map)?;
            let (start, rest) = rest.split_once('-')?;
            let (last, kind) = rest.split_once("] ")?;
            let start = hex(start).max(0x1000).next_multiple_of(0x1000);
            (kind == "usable").then(|| PhysRange::new(PhysAddr(start), PhysAddr((hex(last) + 1) & !0xfff)))
        };
        self.console.lines().filter_map(line).collect()
    }
}

fn hex(text: &str) -> u64 {
    u64::from_str_radix(text.trim().trim_start_matches("0x"), 16).expect("a hexadecimal number")
}

fn symbols(text: u64) -> ImageSymbols {
    let at = |offset: u64| VirtAddr(text + offset);
    ImageSymbols {
        text: at(0),
        etext: at(0x60_0100),
        entry_text_start: at(0x40_0000),
        entry_text_end: at(0x40_1466),
        start_rodata: at(0x80_0000),
        end_rodata: at(0x8d_a000),
        end_rodata_aligned: at(0xa0_0000),
        end_rodata_hpage_align: at(0xa0_0000),
        sdata: at(0xa0_0000),
        init_begin: at(0xc5_1000),
        init_end: at(0xd0_f000),
        smp_locks: at(0xd0_f000),
        smp_locks_end: at(0xd1_2000),
        idt_table: at(0xd1_3000),
        end: at(0xe2_0000),
        brk_end: at(0xe1_0000), // __brk_base and 16 pages for early tables
    }
}

const fn shift(level: Level) -> u32 {
    match level {
        Level::Pud => 30,
        Level::Pmd => 21,
        _ => 12,
    }
}

const fn below(level: Level) -> Level {
    match level {
        Level::Pud => Level::Pmd,
        _ => Level::Pte,
    }
}

/// Leaves and tables by level and slot.
struct Model {
    entries: BTreeMap<(u64, Level), Entry<X86Attrs>>,
    counters: DirectMapCounters,
    masks: Masks,
    protections: Protections,
    aliases: AliasFacts,
    memory: Vec<PhysRange>,
}

impl Model {
    fn entry(&self, va: u64, level: Level) -> Entry<X86Attrs> {
        let slot = va >> shift(level) << shift(level);
        self.entries.get(&(slot, level)).copied().unwrap_or(Entry::Absent { sw: 0 })
    }

    fn set(&mut self, va: u64, level: Level, entry: Entry<X86Attrs>) {
        self.entries.insert((va >> shift(level) << shift(level), level), entry);
    }

    /// One piece of the direct map.
    fn fill(&mut self, level: Level, start: u64, end: u64, base: u64, sizes: kernmem_arch::x86::direct_map::PageSizes) {
        let mut at = start;
        while at < end {
            let bytes = 1 << shift(level);
            let next = (at + 1).next_multiple_of(bytes);
            let va = base + at;
            match slot_action(self.entry(va, level), level, sizes) {
                SlotAction::Keep => self.counters.add(level, 1),
                SlotAction::Leaf => {
                    let prot = if level == Level::Pte { Prot::Kernel } else { Prot::KernelLarge };
                    let attrs = self.masks.kernel(ERA, prot);
                    self.set(va, level, Entry::Leaf { base: PhysAddr(at).align_down(bytes), attrs });
                    self.counters.add(level, 1);
                }
                SlotAction::Table | SlotAction::Descend => {
                    let table = kernmem_arch::x86::prot::table::PAGE;
                    self.set(va, level, Entry::Table { next: PhysAddr(0), attrs: table });
                    self.fill(below(level), at, next.min(end), base, sizes);
                }
                SlotAction::Rebuild(_) => panic!("boot allows ever larger leaves"),
            }
            at = next;
        }
    }

    /// The leaf that maps `va`, with its level and start.
    fn leaf(&self, va: u64) -> Option<(Level, u64, PhysAddr, X86Attrs)> {
        [Level::Pud, Level::Pmd, Level::Pte].into_iter().find_map(|level| match self.entry(va, level) {
            Entry::Leaf { base, attrs } => Some((level, va >> shift(level) << shift(level), base, attrs)),
            _ => None,
        })
    }

    fn change(&mut self, range: VirtRange, change: Masking, aliases: bool, force: bool) {
        let Some(change) = change.on(self.masks).or(force.then_some(change)) else { return };
        let mut at = range.start.0;
        while at <= range.last.0 {
            let Some((level, start, base, attrs)) = self.leaf(at) else {
                at += 0x1000;
                continue;
            };
            let bytes = 1u64 << shift(level);
            let va = VirtRange { start: VirtAddr(start), last: VirtAddr(start + bytes - 1) };
            let whole = Mapped { va, pa: PhysRange::new(base, base + bytes) };
            let asked = VirtRange { start: VirtAddr(at), last: range.last };
            let target = Target { attrs, level, whole };
            match decide(&target, asked, change, &self.protections, self.masks, force) {
                Decision::Split => {
                    self.split(level, start, base, attrs);
                    continue;
                }
                Decision::Rewrite(attrs) => self.set(start, level, Entry::Leaf { base, attrs }),
                Decision::Nothing => {}
            }
            let last = va.last.0.min(range.last.0);
            if aliases {
                self.change_aliases(at, last - at, base + (at - start), change);
            }
            at = last.wrapping_add(1);
        }
    }

    fn change_aliases(&mut self, va: u64, extent: u64, pa: PhysAddr, change: Masking) {
        let Some(change) = alias_change(ERA, change) else { return };
        let is_mapped = pa.0 < 0x10_0000 || self.memory.iter().any(|range| range.contains(pa));
        let aliases = self.aliases.aliases(VirtAddr(va), pa, is_mapped);
        for start in [aliases.direct, aliases.image].into_iter().flatten() {
            self.change(VirtRange { start, last: start + extent }, change, false, false);
        }
    }

    fn split(&mut self, level: Level, start: u64, base: PhysAddr, attrs: X86Attrs) {
        let smaller = split_attrs(attrs, level, self.masks);
        self.set(start, level, Entry::Table { next: PhysAddr(0), attrs: X86Attrs(0x63) });
        let bytes = 1u64 << shift(below(level));
        for index in 0..512 {
            let leaf = Entry::Leaf { base: base + index * bytes, attrs: smaller };
            self.set(start + index * bytes, below(level), leaf);
        }
        self.counters.split(level);
    }

    fn step(&mut self, step: ImageStep) {
        self.change(step.range, step.change, step.aliases, false);
    }

    /// Marks whole 2 MiB leaves global in place.
    fn clone_to_user(&mut self, range: VirtRange) {
        for va in (range.start.0..=range.last.0).step_by(M2 as usize) {
            if let Entry::Leaf { base, attrs } = self.entry(va, Level::Pmd) {
                self.set(va, Level::Pmd, Entry::Leaf { base, attrs: X86Attrs(attrs.0 | bit::GLOBAL) });
            }
        }
    }

    /// Runs of present leaves with equal flags, between two addresses.
    fn runs(&self, from: u64, last: u64) -> Vec<Run> {
        let mut runs = Vec::new();
        for (&(va, level), entry) in self.entries.range((from, Level::Pgd)..=(last, Level::Pte)) {
            if let Entry::Leaf { attrs, .. } = entry
                && attrs.has(bit::PRESENT)
            {
                push(&mut runs, Run { start: va, end: va + (1 << shift(level)), flags: flags(*attrs, level) });
            }
        }
        runs
    }
}

#[derive(Clone, PartialEq, Debug)]
struct Run {
    start: u64,
    end: u64,
    flags: String,
}

fn push(runs: &mut Vec<Run>, run: Run) {
    match runs.last_mut() {
        Some(last) if last.end == run.start && last.flags == run.flags => last.end = run.end,
        _ => runs.push(run),
    }
}

/// The words of a listing for a present kernel leaf.
fn flags(attrs: X86Attrs, level: Level) -> String {
    let words = [
        if attrs.has(bit::RW) { "RW" } else { "ro" },
        if attrs.has(bit::PWT) { "PWT" } else { "" },
        if attrs.has(bit::PCD) { "PCD" } else { "" },
        if level != Level::Pte && attrs.has(bit::PSE) { "PSE" } else { "" },
        if attrs.has(bit::GLOBAL) { "GLB" } else { "" },
        if attrs.has(bit::NX) { "NX" } else { "x" },
        match level {
            Level::Pud => "pud",
            Level::Pmd => "pmd",
            _ => "pte",
        },
    ];
    words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// The recorded runs between two addresses, marker breaks undone.
fn recorded(listing: &str, from: u64, last: u64) -> Vec<Run> {
    let mut runs = Vec::new();
    for line in listing.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let Some((start, end)) = words[0].split_once('-').filter(|_| words.len() > 3) else { continue };
        if !words[0].starts_with("0x") || !(from..=last).contains(&hex(start)) {
            continue;
        }
        push(&mut runs, Run { start: hex(start), end: hex(end), flags: words[2..].join(" ") });
    }
    runs
}

/// The highest free aligned 2 MiB.
fn free_block(memory: &[PhysRange], taken: &[PhysRange]) -> Option<PhysAddr> {
    let fits = |range: &PhysRange, at: u64| {
        let block = PhysRange::new(PhysAddr(at), PhysAddr(at + M2));
        range.start.0 <= at && taken.iter().all(|other| !other.overlaps(&block))
    };
    memory
        .iter()
        .rev()
        .find_map(|range| {
            let top = (range.end.0 & !(M2 - 1)).checked_sub(M2)?;
            (0..=top / M2)
                .rev()
                .map(|index| index * M2)
                .take_while(|at| *at >= range.start.0)
                .find(|at| fits(range, *at))
        })
        .map(PhysAddr)
}

fn boot(recording: &Recording) -> Model {
    let memory = recording.memory();
    let end = memory.last().expect("memory").end;
    let (text, text_phys) = (recording.given("text_virt"), recording.given("text_phys"));
    let (image, page_offset) = (symbols(text), recording.given("page_offset_base"));
    let phys = |va: VirtAddr| PhysAddr(va.0 - text + text_phys);
    let frames = |range: VirtRange| PhysRange::new(phys(range.start), phys(range.last) + 1);
    let between = |start: VirtAddr, end: VirtAddr| VirtRange { start, last: end - 1 };

    let option = if recording.has_option("nopti") {
        PtiOption::Off
    } else if recording.has_option("pti=on") {
        PtiOption::On
    } else {
        PtiOption::Unset
    };
    let meltdown = recording.has_cpu("bugs", "cpu_meltdown");
    let facts = PtiFacts { built: true, option, mitigations_off: false, meltdown, xen_pv: false };
    let isolated = pti::decide(ERA, facts).on;
    assert_eq!(isolated, recording.console.contains("isolation: enabled"));

    let cpu = |word| recording.has_cpu("flags", word);
    let mut model = Model {
        entries: BTreeMap::new(),
        counters: DirectMapCounters::default(),
        masks: Masks::new(cpu("nx"), cpu("pge"), isolated),
        protections: Protections {
            text: between(image.text, image.etext),
            text_and_rodata: between(image.text, image.end_rodata_hpage_align),
            rodata: frames(between(image.start_rodata, image.end_rodata)),
            rodata_is_readonly: false,
            pci_bios: false,
        },
        aliases: AliasFacts {
            page_offset: VirtAddr(page_offset),
            mapped_end: end,
            image: between(image.text, image.brk_end),
            image_frames: frames(image.kept()),
        },
        memory: memory.clone(),
    };
    build_image(&mut model, &image, text_phys);
    build_direct_map(recording, &mut model, &memory, frames(image.kept()), page_offset);
    change_rights(recording, &mut model, &image, isolated, option);
    model
}

fn build_image(model: &mut Model, image: &ImageSymbols, text_phys: u64) {
    let kept = image.kept();
    for (index, va) in (kept.start.0..=kept.last.0).step_by(M2 as usize).enumerate() {
        let base = PhysAddr(text_phys + index as u64 * M2);
        model.set(va, Level::Pmd, Entry::Leaf { base, attrs: ImageSymbols::born(ERA) });
    }
}

fn build_direct_map(
    recording: &Recording,
    model: &mut Model,
    memory: &[PhysRange],
    image: PhysRange,
    page_offset: u64,
) {
    let decision = page_sizes(SizeFacts {
        pse: recording.has_cpu("flags", "pse"),
        gbpages: recording.has_cpu("flags", "pdpe1gb"),
        gbpages_wanted: !recording.has_option("nogbpages"),
        debug_pagealloc: recording.has_option("debug_pagealloc=on"),
    });
    assert_eq!(decision.sizes.g1, recording.console.contains("Using GB pages"));
    let mut map = |range: PhysRange| {
        let one_region = |wide: PhysRange| memory.iter().any(|m| m.start <= wide.start && wide.end <= m.end);
        for piece in split_mem_range(range, decision.sizes, one_region).as_slice() {
            model.fill(Level::Pud, piece.range.start.0, piece.range.end.0, page_offset, piece.sizes);
        }
    };
    map(PhysRange::new(PhysAddr(0), PhysAddr(0x10_0000)));
    let end = memory.last().expect("memory").end;
    let mut steps = TopDown::new(ERA, free_block(memory, &[recording.initrd(), image]), end);
    while let Some(range) = steps.next_range() {
        let pieces = memory.iter().map(|piece| piece.intersect(&range)).filter(|piece| !piece.is_empty());
        let bytes = pieces.inspect(|piece| map(*piece)).map(|piece| piece.size()).sum();
        steps.done(range, bytes);
    }
}

fn change_rights(recording: &Recording, model: &mut Model, image: &ImageSymbols, isolated: bool, option: PtiOption) {
    let trampoline =
        Trampoline { start: model.aliases.page_offset + 0x9_9000, bytes: 0x6000, text_start: 0x1000, ro_end: 4820 };
    trampoline_steps(ERA, &trampoline).into_iter().for_each(|step| model.step(step));
    model.step(idt_step(ERA, image));
    let pcid = recording.has_cpu("flags", "pcid");
    let global = pti::image_may_be_global(GlobalFacts { option, pcid, amd_k8: false, randstruct: false });
    let ranges = pti::image_ranges(image, global);
    if isolated {
        model.change(ranges.nonglobal, Masking::NONGLOBAL, true, false);
        model.clone_to_user(ranges.entry);
    }
    let facts = FreeFacts { pti: isolated, debug_pagealloc: recording.has_option("debug_pagealloc=on") };
    FreedPart::SmpLocks.steps(image, facts).for_each(|step| model.step(step));
    FreedPart::Init.steps(image, facts).for_each(|step| model.step(step));
    if !recording.has_option("rodata=off") {
        let [ro, nx] = rodata_steps(ERA, image);
        model.step(ro);
        model.protections.rodata_is_readonly = true;
        model.step(nx);
        FreedPart::TextGap.steps(image, facts).for_each(|step| model.step(step));
        FreedPart::RodataGap.steps(image, facts).for_each(|step| model.step(step));
    }
    if isolated {
        model.clone_to_user(ranges.entry);
        ranges.shared_text.into_iter().for_each(|range| model.clone_to_user(range));
        ranges.global_text.into_iter().for_each(|range| model.change(range, Masking::GLOBAL, true, false));
    }
}

/// Boots the recorded machine on the naive map and compares it with the listing and the counters.
#[track_caller]
fn check(name: &str) {
    let recording = Recording::open(name);
    let model = boot(&recording);
    let listing = recording.file("page_tables_kernel");
    let page_offset = model.aliases.page_offset.0;
    let direct = (page_offset, page_offset + model.aliases.mapped_end.0.next_multiple_of(GIB) - 1);
    let image = (START_KERNEL_MAP.0, START_KERNEL_MAP.0 + (GIB - 1));
    let mut compared = 0;
    for (from, last) in [direct, image] {
        let (ours, theirs) = (model.runs(from, last), recorded(&listing, from, last));
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert_eq!(
                ours, theirs,
                "{name}: {:#x}-{:#x}, recorded {:#x}-{:#x}",
                ours.start, ours.end, theirs.start, theirs.end
            );
        }
        assert_eq!(ours.len(), theirs.len(), "{name}");
        compared += theirs.len();
    }
    let meminfo = recording.file("meminfo");
    for (key, kib) in ["DirectMap4k:", "DirectMap2M:", "DirectMap1G:"].into_iter().zip(model.counters.kib()) {
        let line = meminfo.lines().find(|line| line.starts_with(key));
        let recorded =
            line.map_or(0, |line| line.split_whitespace().nth(1).expect("a value").parse().expect("a number"));
        assert_eq!(kib, recorded, "{name}: {key}");
    }
    println!("{name}: {compared} runs of leaves, DirectMap counters");
}

#[test]
fn direct_map_and_image_of_a_4g_kernel() {
    check("x-4G");
}

#[test]
fn found_leaves_of_1g_are_counted_again() {
    check("x-4G-1g");
    check("x-16G-1g");
}

#[test]
fn memory_that_ends_anywhere() {
    check("x-1G");
    check("x-odd");
}

#[test]
fn isolation_decides_what_is_global() {
    check("x-4G-nopti");
    check("x-4G-pti");
}

#[test]
fn a_moved_kernel_has_the_same_leaves() {
    check("x-4G-kaslr");
}

#[test]
fn options_that_keep_rights_or_sizes() {
    check("x-rodata-off");
    check("x-4G-nogbpages");
    check("x-nonx");
    check("x-4G-no5lvl");
}

#[test]
fn cpus_nodes_and_reservations_change_nothing_here() {
    for name in ["x-smp8", "x-2node", "x-crash", "x-ptrs", "x-memblock", "x-hvo", "x-hvo-gigantic"] {
        check(name);
    }
}

#[test]
fn memory_that_the_command_line_cut() {
    check("x-mem");
    check("x-memmap-hole");
    check("x-memmap-exact");
}
