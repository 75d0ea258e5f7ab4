//! Lab `memblock-to-zones` against the lists and zones that recorded kernels printed.

use crate::common::{Found, lab, options, recorded, recording};
use kernmem_base::Era;

/// Whole frames of the regions of a recorded list, rounded inward or outward.
fn frames(text: &str, inward: bool) -> Vec<(u64, u64)> {
    let hex = |word: &str| u64::from_str_radix(word.trim_start_matches("0x"), 16).expect("an address");
    let regions = text.lines().filter_map(|line| line.split_once(": ")?.1.trim().split_once(".."));
    let frames = regions.map(|(start, last)| match inward {
        true => (hex(start).div_ceil(4096), (hex(last) + 1) >> 12),
        false => (hex(start) >> 12, (hex(last) + 1).div_ceil(4096)),
    });
    frames.collect()
}

/// Memory and free pages by the recorded lists, frame by frame.
fn by_lists(name: &str) -> (u64, u64) {
    let memory = frames(&recorded(name, "memblock_memory"), true);
    let reserved = frames(&recorded(name, "memblock_reserved"), false);
    let all = || memory.iter().flat_map(|&(start, end)| start..end);
    let is_free = |frame: &u64| !reserved.iter().any(|&(start, end)| start <= *frame && *frame < end);
    (all().count() as u64, all().filter(is_free).count() as u64)
}

/// The sum of a row of all zones of a recorded `zoneinfo`.
fn sum(name: &str, row: &str) -> u64 {
    let text = recorded(name, "zoneinfo");
    let values = text.lines().filter_map(|line| line.trim().strip_prefix(row)?.strip_prefix(' '));
    values.map(|value| value.trim().parse::<u64>().expect("a number")).sum()
}

#[track_caller]
fn adds_up(found: &Found, present: u64, managed: u64) {
    assert_eq!(found.numbers("002.5", ["memory", "present"]), [present << 12; 2]);
    assert_eq!(found.number("002.5", "given"), found.number("002.9", "free"));
    assert_eq!(found.number("002.9", "managed"), managed);
    let [handed_over, late, now, used] = found.numbers("002.9", ["handed_over", "late", "now", "used"]);
    assert_eq!((handed_over + late, now + used), (managed, managed));
    assert_eq!(found.number("002.9", "free"), handed_over << 12);
    assert_eq!(found.number("002.9", "free") + found.number("002.9", "reserved"), present << 12);
    let [before, between] = found.numbers("002.5", ["before", "between"]);
    assert!(before > 0 && between > 0, "{before} {between}");
    assert_eq!((found.holds("002.5", Era::V6_1), found.holds("002.9", Era::V6_1)), ("only if", "only if"));
}

/// Facts 9.4: 4050092 KiB at the hand-over, 448 KiB of init memory later; the lists have the initrd's page free, which
/// Linux never gives back. Nine tables of the linear map, three of the identity map, two of the memory map.
#[test]
fn a_recorded_machine_manages_what_its_lists_left_free() {
    let name = "arm64/a-4G-rodata-off";
    let found = lab("memblock-to-zones", &options(Some(recording(name)), false));
    let (memory, free) = by_lists(name);
    assert_eq!((memory, free), (1 << 20, 4_050_092 / 4 + 1));
    adds_up(&found, sum(name, "present"), sum(name, "managed"));
    assert_eq!(found.numbers("002.9", ["handed_over", "late"]), [free - 1, 448 / 4]);
    assert_eq!(found.numbers("002.5", ["regions", "tables"]), [1, 9 + 3 + 2]);
    // The first tables are in the image, which is there before memblock is.
    let image = found.number("002.5", "image_tables");
    assert!(found.told.contains(&format!("14 of memblock's pages, {image} inside the kernel image")), "{}", found.told);
    assert!(image > 0, "{}", found.told);
    assert_eq!(found.numbers("002.6", ["nodes", "local", "cpus"]), [1, 2, 2]);
    assert_eq!(found.holds("002.6", Era::V6_1), "yes");
}

#[test]
fn two_recorded_nodes_have_a_cpu_each() {
    let name = "arm64/a-2node-rodata-off";
    let found = lab("memblock-to-zones", &options(Some(recording(name)), false));
    adds_up(&found, sum(name, "present"), sum(name, "managed"));
    assert_eq!(found.numbers("002.6", ["nodes", "of_nodes", "local", "cpus"]), [2, 4 << 30, 2, 2]);
    assert!(found.told.contains("node 0: 1536M in zones DMA; its requests look at nodes 0, 1"), "{}", found.told);
    assert!(
        found.told.contains("node 1: 2560M in zones DMA, Normal; its requests look at nodes 1, 0"),
        "{}",
        found.told
    );
    assert!(found.told.contains("CPU 1 of node 1 asks for a page"), "{}", found.told);
}

#[test]
fn without_numa_the_same_memory_is_one_node() {
    for (reverse, nodes) in [(false, 2), (true, 1)] {
        let found = lab("memblock-to-zones", &options(None, reverse));
        assert_eq!(found.numbers("002.6", ["nodes", "of_nodes", "local", "cpus"]), [nodes, 4 << 30, 2, 2]);
        assert_eq!(found.holds("002.6", Era::V6_1), "yes");
        assert_eq!(found.numbers("002.5", ["memory", "present"]), [4 << 30; 2]);
    }
}

#[test]
fn x86_64_manages_what_a_recorded_kernel_manages() {
    let name = "x86/x-4G";
    for reverse in [false, true] {
        let found = lab("memblock-to-zones", &options(Some(recording(name)), reverse));
        adds_up(&found, sum(name, "present"), sum(name, "managed"));
        assert_eq!(found.numbers("002.6", ["nodes", "local", "cpus"]), [1, 2, 2]);
    }
}

/// Pages of 1G that boot set aside are managed by their zones, though the page allocator never had them.
#[test]
fn gigantic_pages_of_boot_do_not_spoil_the_sum() {
    let found = lab("memblock-to-zones", &options(Some(recording("x86/x-hvo-gigantic")), false));
    assert_eq!(found.number("002.9", "free"), found.number("002.9", "handed_over") << 12);
    assert_eq!(found.holds("002.9", Era::V6_1), "only if");
    assert!(found.told.contains("alloc_bootmem_huge_page: 2G"), "{}", found.told);
}
