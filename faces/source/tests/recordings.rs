//! Every recorded machine against what its kernel printed about it.
#![allow(clippy::unwrap_used, reason = "functions that tests share fail as tests do")]

use std::fs;
use std::path::{Path, PathBuf};

use kernmem_base::{Granule, PhysRange};
use kernmem_config::cmdline::MemoryLimit;
use kernmem_config::{Arch, Config, Rodata};
use kernmem_firmware::Machine;
use kernmem_source::Source;

fn folders(set: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testing/recordings").join(set);
    let mut folders: Vec<PathBuf> = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    folders
}

fn open(folder: &Path) -> Source {
    let source = Source::open(folder.to_str().unwrap());
    source.unwrap_or_else(|error| panic!("{error}"))
}

fn console(folder: &Path) -> String {
    fs::read_to_string(folder.join("console.txt")).unwrap()
}

fn hex(text: &str) -> u64 {
    u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap()
}

/// What the boot allocator knows as memory: whole pages, cut by `mem=`, split where mapping is forbidden or the node
/// changes.
fn memory(machine: &Machine, config: &Config) -> Vec<(u64, u64)> {
    let limit = config.cmdline.mem(config.era, config.arch, Granule::K4).value;
    let mut left = match limit {
        Some(MemoryLimit::Amount(bytes)) => bytes,
        _ => u64::MAX,
    };
    let mut banks: Vec<_> = machine.memory.iter().collect();
    banks.sort_by_key(|bank| bank.range.start);
    let holes: Vec<PhysRange> =
        machine.reserved.iter().filter(|entry| entry.no_map).flat_map(|entry| entry.ranges.clone()).collect();
    let mut ranges = Vec::new();
    for bank in banks {
        let Some(pages) = bank.whole_pages(Granule::K4) else { continue };
        let end = pages.start.0 + pages.size().min(left);
        left -= end - pages.start.0;
        let mut cuts = vec![pages.start.0, end];
        cuts.extend(
            holes.iter().flat_map(|hole| [hole.start.0, hole.end.0]).filter(|at| (pages.start.0..end).contains(at)),
        );
        cuts.sort_unstable();
        cuts.dedup();
        ranges.extend(cuts.windows(2).map(|cut| (cut[0], cut[1] - 1)));
    }
    ranges
}

/// Lines `N: 0xFIRST..0xLAST`.
fn recorded_memory(folder: &Path) -> Vec<(u64, u64)> {
    let text = fs::read_to_string(folder.join("memblock_memory")).unwrap();
    let ranges = text.lines().map(|line| line.split_once(": ").unwrap().1.split_once("..").unwrap());
    ranges.map(|(start, last)| (hex(start), hex(last))).collect()
}

#[test]
fn arm64_memory_is_what_the_kernel_had() {
    let folders = folders("arm64");
    assert!(folders.len() >= 35);
    for folder in folders {
        let source = open(&folder);
        assert_eq!(memory(&source.machine, &source.config), recorded_memory(&folder), "{}", folder.display());
    }
}

#[test]
fn arm64_command_lines_are_those_of_the_devicetree() {
    for folder in folders("arm64") {
        let source = open(&folder);
        let printed = fs::read_to_string(folder.join("cmdline")).unwrap();
        assert_eq!(source.config.cmdline.text(), printed.trim_end(), "{}", folder.display());
        let recorded: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(folder.join("boot.json")).unwrap()).unwrap();
        assert_eq!(u64::from(source.config.possible_cpus), recorded["smp"].as_u64().unwrap(), "{}", folder.display());
    }
}

#[test]
fn x86_command_lines_and_cpus_are_those_recorded() {
    for folder in folders("x86") {
        let source = open(&folder);
        let printed = fs::read_to_string(folder.join("cmdline")).unwrap();
        assert_eq!(source.config.cmdline.text(), printed.trim_end(), "{}", folder.display());
        let recorded: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(folder.join("boot.json")).unwrap()).unwrap();
        assert_eq!(u64::from(source.config.possible_cpus), recorded["smp"].as_u64().unwrap(), "{}", folder.display());
    }
}

#[test]
fn arm64_nodes_are_what_the_kernel_printed() {
    for folder in folders("arm64") {
        let source = open(&folder);
        let printed: Vec<(u32, u64)> = console(&folder)
            .lines()
            .filter_map(|line| line.strip_prefix("  node ")?.split_once(": [mem "))
            .map(|(node, range)| (node.trim().parse().unwrap(), hex(range.split('-').next().unwrap())))
            .collect();
        for (node, start) in printed {
            let bank =
                source.machine.memory.iter().find(|bank| bank.range.start.0 <= start && start < bank.range.end.0);
            assert_eq!(bank.unwrap().nid.unwrap_or(0), node, "{}", folder.display());
        }
    }
}

#[test]
fn rejected_rodata_words_are_those_the_kernel_named() {
    for folder in folders("arm64").into_iter().chain(folders("x86")) {
        let source = open(&folder);
        let told = console(&folder).contains("Invalid option string for rodata");
        let rodata = source.config.rodata();
        assert_eq!(!rodata.warnings.is_empty(), told, "{}", folder.display());
        let off = source.config.cmdline.text().contains("rodata=off");
        assert_eq!(rodata.value == Rodata::Off, off, "{}", folder.display());
    }
}

#[test]
fn isolation_is_what_the_kernel_said() {
    for folder in folders("arm64") {
        let log = console(&folder);
        let isolates = open(&folder).config.isolates_page_tables(log.contains("KASLR enabled"));
        assert_eq!(isolates, log.contains("detected: Kernel page table isolation"), "{}", folder.display());
    }
    for folder in folders("x86") {
        let isolates = open(&folder).config.isolates_page_tables(false);
        let told = console(&folder).contains("page tables isolation: enabled");
        assert_eq!(isolates, told, "{}", folder.display());
    }
}

#[test]
fn the_unpacked_tree_has_the_size_that_was_asked_for() {
    let mut compared = 0;
    for folder in folders("arm64") {
        let source = open(&folder);
        let log = console(&folder);
        let asked = log.lines().find(|line| line.contains("early_init_dt_alloc_memory_arch"));
        let Some(asked) = asked.and_then(|line| line.split_once("alloc_try_nid: ")?.1.split(' ').next()) else {
            continue;
        };
        let sizes = &source.config.sizes;
        // Some kernels were recorded without sizes.
        let both = sizes.get("sizeof_device_node").zip(sizes.get("sizeof_property"));
        let Some((node, property)) = both else { continue };
        let size = source.machine.tree.unwrap().unflattened_size(node, property);
        assert_eq!(size.to_string(), asked, "{}", folder.display());
        compared += 1;
    }
    assert!(compared >= 1);
}

/// The lines `WHO: [mem …] NAME` as first, last and name.
fn map_lines(log: &str, who: &str) -> Vec<(u64, u64, String)> {
    let prefix = format!("{who}: [mem ");
    let lines = log.lines().filter_map(|line| line.strip_prefix(prefix.as_str()));
    let fields = lines.map(|line| {
        let (range, name) = line.split_once("] ").unwrap();
        let (start, last) = range.split_once('-').unwrap();
        (hex(start), hex(last), name.to_owned())
    });
    fields.collect()
}

#[test]
fn x86_maps_end_where_the_kernel_said() {
    let folders = folders("x86");
    assert!(folders.len() >= 20);
    for folder in folders {
        let source = open(&folder);
        let log = console(&folder);
        let (era, mut map) = (source.config.era, source.machine.e820.clone());
        let edits = map.apply_user(source.config.cmdline.map_edits(), era).unwrap();
        let user = map_lines(&log, "user");
        assert_eq!(edits.is_user_defined, !user.is_empty(), "{}", folder.display());
        if edits.is_user_defined {
            let ours: Vec<(u64, u64)> = map.entries().iter().map(|e| (e.start, e.start + e.size - 1)).collect();
            let printed: Vec<(u64, u64)> = user.iter().map(|(start, last, _)| (*start, *last)).collect();
            assert_eq!(ours, printed, "{}", folder.display());
        }
        let text = source.config.symbols.address("_text").unwrap();
        let end = source.config.symbols.address("_end").unwrap();
        let start = source.config.given.text_phys.unwrap().0;
        map.add_kernel(start, start + (end - text));
        map.trim_bios();
        let told: Vec<u64> =
            log.lines().filter_map(|line| line.strip_prefix("last_pfn = ")?.split(' ').next()).map(hex).collect();
        let max_arch = 1 << 34;
        let max_pfn = map.end_pfn(era, u64::MAX, max_arch);
        assert_eq!(max_pfn, told[0], "{}", folder.display());
        if let Some(low) = told.get(1) {
            assert_eq!(map.end_pfn(era, 1 << 20, max_arch), *low, "{}", folder.display());
        }
    }
}

#[test]
fn x86_affinity_is_read() {
    let folder = folders("x86").into_iter().find(|folder| folder.ends_with("x-2node")).unwrap();
    let machine = open(&folder).machine;
    assert_eq!((machine.numa.len(), machine.cpu_nodes), (4, vec![0, 1]));
}

#[test]
fn a_boot_log_alone_describes_the_machine() {
    for folder in folders("arm64").into_iter().chain(folders("x86")) {
        let source = open(&folder);
        if ["mem", "memmap"].iter().any(|name| source.config.cmdline.has(name)) {
            continue;
        }
        let seen = Source::open(folder.join("console.txt").to_str().unwrap()).unwrap();
        assert_eq!(seen.config.cmdline, source.config.cmdline, "{}", folder.display());
        assert_eq!(seen.machine.e820, source.machine.e820, "{}", folder.display());
        let ranges = |machine: &Machine| {
            let mut ranges: Vec<PhysRange> = machine.memory.iter().map(|bank| bank.range).collect();
            ranges.sort();
            ranges
        };
        assert_eq!(ranges(&seen.machine), ranges(&source.machine), "{}", folder.display());
    }
}

#[test]
fn dumps_come_with_their_machines() {
    let folders = folders("dumps");
    assert_eq!(folders.len(), 16);
    for folder in folders {
        let source = open(&folder);
        let bytes: u64 = source.machine.memory.iter().map(|bank| bank.range.size()).sum();
        assert!(bytes > 120 << 20 && bytes <= 128 << 20, "{}: {bytes}", folder.display());
    }
}

#[test]
fn the_running_kernels_resources_describe_the_machine() {
    for set in ["arm64", "x86"] {
        for folder in folders(set) {
            let source = open(&folder);
            if ["mem", "memmap"].iter().any(|name| source.config.cmdline.has(name)) {
                continue;
            }
            let seen = Source::open(folder.join("iomem").to_str().unwrap()).unwrap().machine;
            // The resources of i386 look like those of x86-64.
            let arch = if source.machine.arch == Arch::I386 { Arch::X86_64 } else { source.machine.arch };
            assert_eq!(seen.arch, arch, "{}", folder.display());
            let end = |machine: &Machine| machine.memory.iter().map(|bank| bank.range.end).max();
            assert_eq!(end(&seen), end(&source.machine), "{}", folder.display());
        }
    }
}
