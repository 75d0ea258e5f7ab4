//! One PC and one image of 6.1, booted as kernels of other eras: what differs, line by line.
//!
//! Expected lines are those of recorded boots of the same PC, or are counted by hand from its map: memory up to 640 KiB,
//! from 1 MiB to bffdffff and from 4 GiB to 5 GiB, an initrd of one page at bffdf000, an image from 16 MiB on.

use std::path::{Path, PathBuf};

use kernmem::{Boot, Isa};
use kernmem_base::Era;
use kernmem_report::{boot_log, ptdump};
use kernmem_sim::Memory;
use kernmem_source::{Options, Source};
use kernmem_view::{BootRecord, KernelView, RootKind};

const ERAS: [Era; 4] = [Era::V5_10, Era::V6_1, Era::V6_12, Era::V7_2];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings").join(name)
}

/// What a boot tells: its log with `memblock=debug`, the kernel's listing, and what the direct map counts.
struct Told {
    log: Vec<String>,
    listing: Vec<String>,
    direct_map: [u64; 3],
    entry_slots: Vec<u64>,
    managed: u64,
}

impl Told {
    /// The log from the first line that starts so.
    fn from(&self, start: &str) -> &[String] {
        let at = self.log.iter().position(|line| line.starts_with(start));
        &self.log[at.unwrap_or_else(|| panic!("no line `{start}`"))..]
    }

    fn place(&self, start: &str) -> usize {
        self.log.len() - self.from(start).len()
    }
}

fn boot(recording: &str, options: &Options) -> Told {
    let source = Source::open_with(folder(recording).to_str().expect("a path of text"), options).expect("inputs");
    let boot = Boot::new(&source.machine, &source.config);
    let memory = Memory::new(kernmem::memory_ranges(&boot)).expect("memory");
    let mut record = BootRecord::default();
    let kernel = kernmem_live::boot(&memory, &boot, &mut record).expect("a kernel that boots");
    let mut listing = String::new();
    ptdump::linux(&kernel, RootKind::Kernel, &mut listing).expect("a listing");
    let Isa::X86(state) = &kernel.isa else { panic!("a PC") };
    let (direct_map, entry_slots, format) = (state.counters.kib(), state.entry_slots.clone(), kernel.format());
    let zones = kernel.nodes.nodes.iter().flat_map(|node| &node.zones);
    let managed = zones.map(|zone| zone.managed.at_end).sum();
    drop(kernel);
    let mut log = String::new();
    boot_log::print(&record, format, source.config.era, true, &mut log).expect("a log");
    let lines = |text: String| text.lines().map(str::to_owned).collect();
    Told { log: lines(log), listing: lines(listing), direct_map, entry_slots, managed }
}

fn of_era(recording: &str, era: Era) -> Told {
    boot(recording, &Options { era: Some(era), ..Options::default() })
}

fn with_line(recording: &str, era: Era, line: &str) -> Told {
    boot(recording, &Options { era: Some(era), cmdline: Some(line.to_owned()), ..Options::default() })
}

/// Recorded logs of 5.10, 6.12 and 7.2: 5.10 finds where the others allocate, and takes the BIOS late.
#[test]
fn low_memory_is_taken_by_era() {
    let behind_first_dump = |era, lines: usize| {
        let told = of_era("x86/x-memblock", era);
        let at = told.place(" reserved.cnt") + 5; // four regions
        told.log[at..at + lines].to_vec()
    };
    let reserve = |from: &str, to: &str| format!("memblock_reserve: [0x{from:0>16}-0x{to:0>16}]");
    assert_eq!(
        behind_first_dump(Era::V5_10, 6),
        [
            reserve("9f000", "fffff"),
            reserve("99000", "9efff"),
            reserve("0", "ffff"),
            reserve("13ffff000", "13fffffff"),
            reserve("13fffe000", "13fffefff"),
            reserve("13fffd000", "13fffdfff"),
        ]
    );
    let phys = |bytes: u64, align: &str, from: &str, to: &str| {
        format!("memblock_phys_alloc_range: {bytes} bytes align={align} from=0x{from:0>16} max_addr=0x{to:0>16}")
    };
    let free = "memblock_phys_free: [0x000000013fe00000-0x000000013fffffff]".to_owned();
    assert_eq!(
        behind_first_dump(Era::V6_12, 8),
        [
            phys(24_576, "0x1000", "0", "100000"),
            reserve("99000", "9efff"),
            reserve("0", "fffff"),
            phys(2 << 20, "0x200000", "100000", "140000000"),
            reserve("13fe00000", "13fffffff"),
            free,
            phys(4096, "0x1000", "120000000", "140000000"),
            reserve("13ffff000", "13fffffff"),
        ]
    );
    let with_taker = |line: String, flags: &str| format!("__{line} nid=-1 flags={flags}");
    assert_eq!(
        behind_first_dump(Era::V7_2, 3),
        [
            phys(24_576, "0x1000", "0", "100000"),
            with_taker(reserve("99000", "9efff"), "20"),
            with_taker(reserve("0", "fffff"), "0"),
        ]
    );
}

/// Recorded dumps: the first pages of brk are 12 or 16, and 7.2 marks the first MiB as scratch until the trampoline is
/// placed.
#[test]
fn the_first_dump_shows_what_was_taken_early() {
    let dump = |era, line: &str| {
        let told = of_era("x86/x-memblock", era);
        told.from(line)[0].rsplit_once("], ").expect("a region").1.to_owned()
    };
    assert_eq!(dump(Era::V5_10, " reserved[0x0]"), "0x0000000000001000 bytes flags: 0x0");
    assert_eq!(dump(Era::V5_10, " reserved[0x2]"), "0x0000000000e0c000 bytes flags: 0x0");
    assert_eq!(dump(Era::V6_12, " reserved[0x0]"), "0x0000000000010000 bytes flags: 0x0");
    assert_eq!(dump(Era::V6_12, " reserved[0x2]"), "0x0000000000e10000 bytes flags: 0x0");
    assert_eq!(dump(Era::V7_2, " reserved[0x2]"), "0x0000000000e10000 bytes flags: 0x20");
    assert_eq!(dump(Era::V7_2, " memory[0x0]"), "0x000000000009e000 bytes flags: 0x40");
    let told = of_era("x86/x-memblock", Era::V7_2);
    let second = &told.log[told.place("NODE_DATA(0)")..];
    let first_memory = second.iter().find(|line| line.starts_with(" memory[0x0]")).expect("a second dump");
    assert!(first_memory.ends_with("0x000000000009e000 bytes on node 0 flags: 0x0"), "{first_memory}");
}

/// 15808 bytes end below the third table, 13fffd000: in whole pages, or from 6.12 on in whole cache lines; and from 6.12 on
/// page 0, which is no memory, has no node.
#[test]
fn a_node_takes_pages_or_cache_lines() {
    let line = |era| of_era("x86/x-memblock", era).from("NODE_DATA(0)")[0].clone();
    assert_eq!([Era::V5_10, Era::V6_1].map(line), ["NODE_DATA(0) allocated [mem 0x13fff9000-0x13fffcfff]"; 2]);
    assert_eq!([Era::V6_12, Era::V7_2].map(line), ["NODE_DATA(0) allocated [mem 0x13fff9240-0x13fffcfff]"; 2]);
    let first = |era| {
        let told = of_era("x86/x-memblock", era);
        let dump = &told.log[told.place("NODE_DATA(0)")..];
        dump.iter().find(|line| line.starts_with(" reserved[0x0]")).expect("a second dump").clone()
    };
    assert!(first(Era::V6_1).contains("-0x00000000000fffff], 0x0000000000100000 bytes on node 0"));
    for era in [Era::V6_12, Era::V7_2] {
        assert!(first(era).contains("-0x0000000000000fff], 0x0000000000001000 bytes flags: 0x0"), "{era}");
    }
}

/// 32 sections: 7.2 asks for 2 MiB each, downwards from the highest that are whole, and 88 bytes of usage map each; the
/// others ask for 64 MiB at once and 56 bytes each.
#[test]
fn the_memory_map_comes_at_once_or_piece_by_piece() {
    for era in [Era::V5_10, Era::V6_1, Era::V6_12] {
        let told = of_era("x86/x-memblock", era);
        let usage =
            "memblock_alloc_try_nid: 1792 bytes align=0x40 nid=0 from=0x0000000138000000 max_addr=0x0000000140000000";
        let at = told.place(usage);
        let map = &told.log[at + 2..at + 4];
        assert!(
            map[0].starts_with(
                "memblock_alloc_exact_nid_raw: 67108864 bytes align=0x200000 nid=0 from=0x0000000001000000"
            )
        );
        assert_eq!(map[1], "memblock_reserve: [0x000000013be00000-0x000000013fdfffff]", "{era}");
    }
    let told = of_era("x86/x-memblock", Era::V7_2);
    let usage =
        "memblock_alloc_try_nid: 2816 bytes align=0x40 nid=0 from=0x0000000000000000 max_addr=0x0000000000000000";
    let map = &told.log[told.place(usage) + 2..];
    let raw = |bytes: u64| {
        format!(
            "memblock_alloc_try_nid_raw: {bytes} bytes align={bytes:#x} nid=0 from=0x0000000001000000 max_addr=0x0000000000000001"
        )
    };
    assert_eq!((&map[0], &map[2]), (&raw(4096), &raw(4096)));
    for section in 0..32 {
        let start = 0x1_3fc0_0000_u64 - section as u64 * (2 << 20);
        let pair = &map[4 + 2 * section..];
        assert_eq!(pair[0], raw(2 << 20));
        let last = start + (2 << 20) - 1;
        assert_eq!(pair[1], format!("__memblock_reserve: [{start:#018x}-{last:#018x}] nid=0 flags=20"));
    }
    assert!(told.place("Zone ranges:") > told.place(usage), "the zones come after the map");
}

/// The order of recorded logs.
#[test]
fn steps_are_told_in_the_order_of_their_era() {
    let places = |era, lines: &[&str]| {
        let told = of_era("x86/x-memblock", era);
        lines.iter().map(|line| told.place(line)).collect::<Vec<_>>()
    };
    let order: [(Era, &[&str]); 4] = [
        (
            Era::V5_10,
            &[
                "Zone ranges:",
                "memblock_alloc_try_nid: 73 bytes",
                "percpu: ",
                "Built 1",
                "Dentry cache",
                "mem auto-init",
                "Memory: ",
                "Freeing SMP",
                "Mount-cache",
                "Freeing initrd",
                "software IO TLB: mapped",
                "Freeing unused",
            ],
        ),
        (
            Era::V6_1,
            &[
                "Zone ranges:",
                "memblock_alloc_try_nid: 73 bytes",
                "percpu: ",
                "Built 1",
                "Dentry cache",
                "mem auto-init",
                "software IO TLB: area",
                "Memory: ",
                "Freeing SMP",
                "Mount-cache",
                "software IO TLB: mapped",
                "Freeing initrd",
                "Freeing unused",
            ],
        ),
        (
            Era::V6_12,
            &[
                "Zone ranges:",
                "memblock_alloc_try_nid: 73 bytes",
                "percpu: ",
                "Dentry cache",
                "Built 1",
                "mem auto-init",
                "software IO TLB: area",
                "Freeing SMP",
                "Mount-cache",
                "Memory: ",
                "software IO TLB: mapped",
                "Freeing initrd",
                "Freeing unused",
            ],
        ),
        (
            Era::V7_2,
            &[
                "memblock_alloc_try_nid: 73 bytes",
                "Zone ranges:",
                "percpu: ",
                "Dentry cache",
                "software IO TLB: area",
                "Built 1",
                "mem auto-init",
                "Mount-cache",
                "Memory: ",
                "Freeing SMP",
                "software IO TLB: mapped",
                "Freeing initrd",
                "Freeing unused",
            ],
        ),
    ];
    for (era, lines) in order {
        let places = places(era, lines);
        assert!(places.is_sorted(), "{era}: {places:?}");
    }
}

/// Present pages are 158 + 786400 + 262144 - 256 + … as the zones tell; before 6.12 the descriptors and what x86 reserves
/// below 16 MiB are taken off. 5.10's recorded kernel on this PC told 1032041, 6.12's and 7.2's told 1048446.
#[test]
fn expected_pages_are_counted_by_era() {
    let total = |era| {
        let told = of_era("x86/x-memblock", era);
        told.from("Built 1")[0].rsplit_once(' ').expect("a number").1.parse::<u64>().expect("a number")
    };
    assert_eq!((total(Era::V5_10), total(Era::V6_12), total(Era::V7_2)), (1_032_041, 1_048_446, 1_048_446));
    // 158 pages instead of 21 are taken below 16 MiB.
    assert_eq!(total(Era::V6_1), 1_032_041 - 158 + 21);
}

#[test]
fn reservelow_is_a_word_of_5_10() {
    let line = "console=ttyS0 nokaslr memblock=debug reservelow=128K";
    let has = |era, line: &str, last: &str| {
        let told = with_line("x86/x-memblock", era, line);
        told.log.iter().any(|line| line.ends_with(&format!("memblock_reserve: [0x0000000000000000-{last}]")))
    };
    assert!(has(Era::V5_10, line, "0x000000000001ffff"));
    assert!(!has(Era::V6_1, line, "0x000000000001ffff"));
}

/// The highest 256 MiB below the initrd that start at a multiple of 16 MiB.
#[test]
fn a_crash_kernel_is_told_in_the_words_of_its_era() {
    let source = std::fs::read_to_string(folder("kernels/x61-64/config")).expect("a configuration");
    let kconfig = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("crash-reserve.config");
    std::fs::write(&kconfig, format!("{source}CONFIG_CRASH_RESERVE=y\n")).expect("a copy");
    let told =
        |era| boot("x86/x-crash", &Options { era: Some(era), kconfig: Some(kconfig.clone()), ..Options::default() });
    let by_size = "Reserving 256MB of memory at 2800MB for crashkernel (System RAM: 4095MB)";
    let by_place = "crashkernel reserved: 0x00000000af000000 - 0x00000000bf000000 (256 MB)";
    for (era, line) in ERAS.into_iter().zip([by_size, by_size, by_place, by_place]) {
        assert_eq!(told(era).from(&line[..20])[0], line, "{era}");
    }
    let low = "Reserving the low 1M of memory for crashkernel";
    assert!(told(Era::V5_10).log.iter().any(|line| line == low));
    assert!(told(Era::V6_1).log.iter().all(|line| line != low));
}

#[test]
fn only_5_10_gives_up_no_execute_when_told() {
    let executes = |era| {
        let told = with_line("x86/x-4G", era, "console=ttyS0 nokaslr noexec=off");
        told.listing.iter().any(|line| line.contains(" NX "))
    };
    assert_eq!(ERAS.map(executes), [false, true, true, true]);
}

/// A page that must stay small is a line of its own in 7.2, where KASLR keeps the landmark away from it.
#[test]
fn the_first_page_of_7_2_stands_alone() {
    let first = |era| {
        let told = of_era("x86/x-4G-kaslr", era);
        let at = told.listing.iter().position(|line| line.contains("Low Kernel Mapping")).expect("a landmark");
        told.listing[at + 1].split_whitespace().nth(1).expect("a size").to_owned()
    };
    assert_eq!(ERAS.map(first), ["612K", "612K", "612K", "4K"]);
}

#[test]
fn entry_areas_are_drawn_from_6_12_on_with_kaslr() {
    let slots = |recording, era| of_era(recording, era).entry_slots;
    for era in ERAS {
        assert_eq!(slots("x86/x-4G", era), [0, 1], "{era}");
    }
    assert_eq!([Era::V5_10, Era::V6_1].map(|era| slots("x86/x-4G-kaslr", era)), [[0, 1], [0, 1]]);
    for era in [Era::V6_12, Era::V7_2] {
        let drawn = slots("x86/x-4G-kaslr", era);
        assert_eq!(drawn, slots("x86/x-4G-kaslr", era), "what was drawn for the regions is the seed");
        // 512 GiB less a page, in areas of 59 pages.
        assert!(drawn.len() == 2 && drawn[0] != drawn[1] && drawn.iter().all(|slot| *slot < 2_274_876), "{drawn:?}");
    }
}

/// 1 GiB: 262144 pages of the direct map, none of them large, and init memory that nobody gets.
#[test]
fn debugging_free_pages_maps_small_pages_in_every_era() {
    for era in ERAS {
        let told = of_era("x86/x-dpa", era);
        assert_eq!(told.direct_map[1..], [0, 0], "{era}");
        assert!(told.log.iter().any(|line| line.starts_with("debug: unmapping init [mem ")), "{era}");
    }
}

/// From 6.12 on `possible_cpus=` limits, before it says how many.
#[test]
fn possible_cpus_is_a_limit_from_6_12_on() {
    let cpus = |era, line: &str| with_line("x86/x-4G", era, line).entry_slots.len();
    assert_eq!(ERAS.map(|era| cpus(era, "nokaslr possible_cpus=4")), [4, 4, 2, 2]);
    assert_eq!(ERAS.map(|era| cpus(era, "nokaslr possible_cpus=1")), [1; 4]);
    assert_eq!(ERAS.map(|era| cpus(era, "nokaslr nosmp")), [1; 4]);
    assert_eq!(ERAS.map(|era| cpus(era, "nokaslr maxcpus=1")), [2; 4]);
}

/// Two pages of 1 GiB with 4096 pages of descriptors each: 6.1 keeps the first of them, 6.12 copies it and gives it back
/// too. 5.10 knows nothing of this.
#[test]
fn shared_descriptors_give_pages_back() {
    let managed = |era, word: &str| {
        let line = format!("console=ttyS0 nokaslr hugepagesz=1G hugepages=2 hugetlb_free_vmemmap={word}");
        with_line("x86/x-hvo-gigantic", era, &line).managed
    };
    let given = |era| managed(era, "on") - managed(era, "off");
    assert_eq!([Era::V5_10, Era::V6_1, Era::V6_12].map(given), [0, 2 * 4095, 2 * 4096]);
}
