//! The lines of `/proc/iomem` that follow from memory, reservations and image, held against every recorded file.
//!
//! Taken from a recording: its boot allocator's lists, its machine, its symbols, and the lines of its log about memory
//! for a crash kernel.
//! Lines of devices are nobody's business here: they are left out by their names, and counted.

mod common;

use std::path::Path;

use common::{Recorded, boots, told, tree};
use kernmem_base::{Granule, PhysAddr, PhysRange};
use kernmem_firmware::e820::E820Entry;
use kernmem_memblock::{Flags, Region};
use kernmem_report::proc;
use kernmem_source::Source;
use kernmem_view::proc::{
    CRASH_KERNEL, FirmwareEntry, IoMem, Named, Segment, X86_SEGMENTS, arm64_iomem_of_boot, arm64_segments, parse,
    x86_iomem_of_boot,
};

/// The names of what is compared.
const OURS: [&str; 8] =
    ["System RAM", "reserved", "Reserved", "Kernel code", "Kernel rodata", "Kernel data", "Kernel bss", CRASH_KERNEL];

fn hex(text: &str) -> Option<PhysAddr> {
    u64::from_str_radix(text.trim().strip_prefix("0x")?, 16).ok().map(PhysAddr)
}

/// A list of the boot allocator: ` 0: 0xFIRST..0xLAST`, from 6.12 on with node and flags.
fn list(text: &str) -> Vec<Region> {
    let region = |line: &str| {
        let (_, rest) = line.split_once(": ")?;
        let range = rest.split_whitespace().next()?;
        let (first, last) = range.split_once("..")?;
        let (base, last) = (hex(first)?, hex(last)?);
        let flags = if rest.contains("NOMAP") { Flags::NOMAP } else { Flags::NONE };
        Some(Region { base, size: last - base + 1, nid: None, flags })
    };
    text.lines().filter_map(region).collect()
}

/// Ranges that the log names as a crash kernel's.
fn crash_kernels(console: &str) -> Vec<Named> {
    let of_arm64 = |line: &str| {
        let rest = line.strip_prefix("crashkernel ")?.split_once("reserved: ")?.1;
        let (start, rest) = rest.split_once(" - ")?;
        Some(PhysRange::new(hex(start)?, hex(rest.split(' ').next()?)?))
    };
    let of_x86 = |line: &str| {
        let (size, rest) = line.strip_prefix("Reserving ")?.split_once("MB of memory at ")?;
        let start: u64 = rest.split_once("MB for crashkernel")?.0.parse().ok()?;
        PhysRange::of_size(PhysAddr(start << 20), size.parse::<u64>().ok()? << 20)
    };
    console
        .lines()
        .filter_map(|line| of_arm64(line).or_else(|| of_x86(line)))
        .map(|range| (CRASH_KERNEL, range))
        .collect()
}

fn image(source: &Source, segments: &[Segment]) -> Vec<Named> {
    let symbols = &source.config.symbols;
    let text = symbols.address("_text").expect("an image has its text");
    let start = source.config.given.text_phys.expect("a recording tells where its image lay");
    let phys = |name| start + (symbols.address(name).expect("the symbols of a segment") - text);
    segments.iter().map(|own| (own.name, PhysRange::new(phys(own.start), phys(own.end)))).collect()
}

fn arm64(boot: &Recorded, source: &Source, crash: &[Named]) -> Option<IoMem> {
    let mut memory = list(&boot.file("memblock_memory")?);
    let mut reserved = list(&boot.file("memblock_reserved")?);
    let no_map: Vec<PhysRange> = source
        .machine
        .reserved
        .iter()
        .filter(|reserved| reserved.no_map)
        .flat_map(|reserved| reserved.ranges.iter().copied())
        .collect();
    for region in memory.iter_mut().filter(|region| no_map.contains(&region.range())) {
        region.flags = Flags::NOMAP;
    }
    let granule = source.config.kconfig.arm64_granule();
    let mut named = image(source, &arm64_segments(boot.era));
    // The recorded list is the last one: the RAM disk and the image's init memory were freed after the lines were made.
    let whole = named.first().zip(named.last()).map(|((_, code), (_, data))| PhysRange::new(code.start, data.end));
    for range in source.machine.initrd.into_iter().chain(whole) {
        reserved.push(Region { base: range.start, size: range.size(), nid: None, flags: Flags::NONE });
    }
    reserved.sort_by_key(|region| region.base);
    // A kernel without support for crash kernels shows no line for one.
    named.extend_from_slice(crash);
    Some(arm64_iomem_of_boot(boot.era, granule, &memory, &reserved, &named))
}

fn x86(boot: &Recorded, source: &Source, crash: &[Named]) -> Option<IoMem> {
    let mut map = source.machine.e820.clone();
    map.apply_user(source.config.cmdline.map_edits(), boot.era).ok()?;
    map.trim_bios();
    let entry = |own: &E820Entry| FirmwareEntry {
        name: own.kind.resource_name(),
        range: own.range(),
        is_busy: own.kind.is_busy(),
    };
    let entries: Vec<FirmwareEntry> = map.entries().iter().map(entry).collect();
    let mut named = image(source, &X86_SEGMENTS);
    named.extend_from_slice(crash);
    Some(x86_iomem_of_boot(source.config.kconfig.is_set("PCI"), &entries, &named))
}

#[derive(Default, Debug)]
struct Tally {
    files: usize,
    equal: usize,
    devices: usize,
    left_out: usize,
}

/// Lines as they are printed, those of devices left out.
fn lines(boot: &Recorded, iomem: &IoMem) -> Vec<String> {
    let own = iomem.resources.iter().filter(|resource| OURS.contains(&resource.name.as_str())).cloned().collect();
    let mut text = String::new();
    proc::iomem(boot.era, &IoMem { resources: own }, &mut text).expect("a string takes everything");
    text.lines().map(str::to_owned).collect()
}

fn check(boot: &Recorded, tally: &mut Tally) {
    let recorded = parse::iomem(&boot.file("iomem").unwrap_or_default()).expect("it is read");
    let source = boot.folder.to_str().and_then(|folder| Source::open(folder).ok());
    let Some(source) = source.filter(|_| !recorded.resources.is_empty()) else {
        tally.left_out += 1;
        return;
    };
    let crash = crash_kernels(&boot.file("console.txt").unwrap_or_default());
    let ours = if boot.is_x86 { x86(boot, &source, &crash) } else { arm64(boot, &source, &crash) };
    let Some(ours) = ours else {
        tally.left_out += 1;
        return;
    };
    let (theirs, ours) = (lines(boot, &recorded), lines(boot, &ours));
    assert_eq!(theirs, ours, "{}", boot.folder.display());
    tally.files += 1;
    tally.equal += theirs.len();
    tally.devices += recorded.resources.len() - theirs.len();
}

fn compare(root: &Path) -> Tally {
    let mut tally = Tally::default();
    for boot in boots(root) {
        check(&boot, &mut tally);
    }
    println!("{tally:?}");
    tally
}

#[test]
fn every_line_about_memory_follows_from_memory_reservations_and_image() {
    let tally = compare(&tree());
    assert!(tally.files >= 60 && tally.equal > 700, "{tally:?}");
}

#[test]
#[ignore = "reads the folder of recordings that KERNMEM_RECORDINGS names"]
fn every_line_of_another_folder_follows_too() {
    compare(&told().expect("KERNMEM_RECORDINGS names a folder of recordings"));
}

#[test]
fn a_page_that_two_reservations_share_is_listed_once() {
    let page = |base, size| Region { base: PhysAddr(base), size, nid: None, flags: Flags::NONE };
    let memory = [page(0x4000_0000, 0x10_0000)];
    let reserved = [page(0x4000_2480, 0x100), page(0x4000_2900, 0x1000), page(0x4000_3a00, 0x80)];
    let iomem = arm64_iomem_of_boot(kernmem_base::Era::V6_1, Granule::K4, &memory, &reserved, &[]);
    let mut text = String::new();
    proc::iomem(kernmem_base::Era::V6_1, &iomem, &mut text).unwrap();
    assert_eq!(
        text,
        "40000000-400fffff : System RAM\n  40002000-40002fff : reserved\n  40003000-40003fff : reserved\n"
    );
}
