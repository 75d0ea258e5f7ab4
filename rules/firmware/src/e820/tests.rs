//! Maps worked out by hand.

use super::*;

use alloc::vec;

const RAM: u32 = 1;
const RESERVED: u32 = 2;

fn table(entries: &[(u64, u64, u32)]) -> E820Table {
    let entries =
        entries.iter().map(|&(start, end, kind)| E820Entry { start, size: end - start, kind: E820Type(kind) });
    E820Table::from_entries(entries)
}

fn shown(table: &E820Table) -> Vec<(u64, u64, u32)> {
    table.entries().iter().map(|entry| (entry.start, entry.end(), entry.kind.0)).collect()
}

#[test]
fn the_largest_type_wins_and_neighbours_merge() {
    let mut map = table(&[(0x3000, 0x6000, RAM), (0, 0x4000, RAM), (0x2000, 0x3000, RESERVED), (0x9000, 0x9000, 4)]);
    map.sanitise().unwrap();
    assert_eq!(shown(&map), [(0, 0x2000, RAM), (0x2000, 0x3000, RESERVED), (0x3000, 0x6000, RAM)]);
}

#[test]
fn persistent_neighbours_stay_apart() {
    let mut map = table(&[(0, 0x1000, 12), (0x1000, 0x2000, 12)]);
    map.sanitise().unwrap();
    assert_eq!(shown(&map), [(0, 0x1000, 12), (0x1000, 0x2000, 12)]);
}

#[test]
fn one_entry_and_wrapping_entries_are_left_alone() {
    assert_eq!(table(&[(0, 0x1000, RAM)]).sanitise(), Err(Unsanitised::TooFew));
    let mut map = table(&[(0, 0x1000, RAM)]);
    map.add(u64::MAX, 2, E820Type::RAM);
    assert_eq!(map.sanitise(), Err(Unsanitised::Wraps));
    assert_eq!(map.entries().len(), 2);
}

#[test]
fn an_update_inside_an_entry_makes_three() {
    let mut map = table(&[(0, 0x10000, RAM)]);
    map.range_update(0x4000, 0x1000, E820Type::RAM, E820Type::RESERVED);
    assert_eq!(shown(&map), [(0, 0x4000, RAM), (0x4000, 0x5000, RESERVED), (0x5000, 0x10000, RAM)]);
    map.range_update(0, 0x1000, E820Type::RAM, E820Type::RESERVED);
    map.sanitise().unwrap();
    let expected = [(0, 0x1000, RESERVED), (0x1000, 0x4000, RAM), (0x4000, 0x5000, RESERVED), (0x5000, 0x10000, RAM)];
    assert_eq!(shown(&map), expected);
}

#[test]
fn a_removal_leaves_an_empty_entry_until_sanitised() {
    let mut map = table(&[(0, 0x1000, RAM), (0x2000, 0x8000, RAM), (0x9000, 0xa000, RESERVED)]);
    map.range_remove(0x2000, 0x2000, None);
    map.range_remove(0, 0x1000, Some(E820Type::RAM));
    assert_eq!(shown(&map), [(0, 0, 0), (0x4000, 0x8000, RAM), (0x9000, 0xa000, RESERVED)]);
    map.sanitise().unwrap();
    assert_eq!(shown(&map), [(0x4000, 0x8000, RAM), (0x9000, 0xa000, RESERVED)]);
}

fn pc() -> E820Table {
    table(&[
        (0, 0x9_fc00, RAM),
        (0x9_fc00, 0xa_0000, RESERVED),
        (0xf_0000, 0x10_0000, RESERVED),
        (0x10_0000, 0xbffe_0000, RAM),
        (0xbffe_0000, 0xc000_0000, RESERVED),
        (0x1_0000_0000, 0x1_4000_0000, RAM),
    ])
}

fn edited(words: &[(bool, &str)], era: Era) -> Result<(E820Table, UserEdits), UserFault> {
    let mut map = pc();
    let edits = map.apply_user(words.iter().map(|&(is_mem, value)| (is_mem, Some(value))), era)?;
    Ok((map, edits))
}

#[test]
fn mem_cuts_at_an_address() {
    let (map, edits) = edited(&[(true, "1G")], Era::V6_1).unwrap();
    assert!(edits.is_user_defined && edits.refused.is_empty());
    assert_eq!(map.end_pfn(Era::V6_1, u64::MAX, u64::MAX), 0x4_0000);
    let (map, edits) = edited(&[(true, "0")], Era::V6_1).unwrap();
    assert_eq!((map, edits.is_user_defined, edits.refused), (pc(), true, vec![0]));
}

#[test]
fn memmap_items_of_each_form() {
    let (map, _) = edited(&[(false, "64M@16M,1M$0x10000000")], Era::V6_1).unwrap();
    assert!(shown(&map).contains(&(0x1000_0000, 0x1010_0000, RESERVED)));
    let (map, _) = edited(&[(false, "4G!4G")], Era::V6_1).unwrap();
    // Persistent memory is cut wherever another entry began or ended.
    assert!(shown(&map).contains(&(0x1_0000_0000, 0x1_4000_0000, 12)));
    assert!(shown(&map).contains(&(0x1_4000_0000, 0x2_0000_0000, 12)));
    let (map, _) = edited(&[(false, "1M%16M-1+2")], Era::V6_1).unwrap();
    assert!(shown(&map).contains(&(0x100_0000, 0x110_0000, RESERVED)));
    let (map, _) = edited(&[(false, "1M%16M-1")], Era::V6_1).unwrap();
    assert!(
        shown(&map).contains(&(0x10_0000, 0x100_0000, RAM)) && shown(&map).contains(&(0x110_0000, 0xbffe_0000, RAM))
    );
    let (map, _) = edited(&[(false, "1M%3584M+3")], Era::V6_1).unwrap();
    assert!(shown(&map).contains(&(0xe000_0000, 0xe010_0000, 3)));
    let (map, _) = edited(&[(false, "2G")], Era::V6_1).unwrap();
    assert_eq!(map.end_pfn(Era::V6_1, u64::MAX, u64::MAX), 0x8_0000);
}

#[test]
fn an_exact_map_needs_two_regions() {
    assert_eq!(edited(&[(false, "exactmap,640K@0")], Era::V6_1), Err(UserFault::Map(Unsanitised::TooFew)));
    let (map, _) = edited(&[(false, "exactmap"), (false, "640K@0"), (false, "1G@1M")], Era::V6_1).unwrap();
    assert_eq!(shown(&map), [(0, 0xa_0000, RAM), (0x10_0000, 0x4010_0000, RAM)]);
}

#[test]
fn bad_items_are_refused_and_the_others_count() {
    let (map, edits) = edited(&[(false, "x,1M$16M")], Era::V6_1).unwrap();
    assert_eq!(edits.refused, [0]);
    assert!(shown(&map).contains(&(0x100_0000, 0x110_0000, RESERVED)));
    assert_eq!(edited(&[(false, "1M%16M-1+1")], Era::V6_1), Err(UserFault::SameType { word: 0 }));
}

#[test]
fn the_bios_keeps_its_places() {
    let mut map = table(&[(0, 0x100_0000, RAM), (0x200_0000, 0x300_0000, 3)]);
    map.trim_bios();
    let expected =
        [(0, 0x1000, RESERVED), (0x1000, 0xa_0000, RAM), (0x10_0000, 0x100_0000, RAM), (0x200_0000, 0x300_0000, 3)];
    assert_eq!(shown(&map), expected);
    assert_eq!(map.end_pfn(Era::V6_1, u64::MAX, u64::MAX), 0x1000);
    assert_eq!(map.end_pfn(Era::V6_12, u64::MAX, u64::MAX), 0x3000);
}

#[test]
fn a_kernel_outside_memory_is_added() {
    let mut map = pc();
    assert!(!map.add_kernel(0x100_0000, 0x200_0000));
    assert!(map.add_kernel(0xbffd_0000, 0xbfff_0000));
    map.sanitise().unwrap();
    assert!(map.is_all(0xbffd_0000, 0xbfff_0000, E820Type::RAM));
}

#[test]
fn ends_are_capped() {
    let map = pc();
    assert_eq!(map.end_pfn(Era::V6_1, u64::MAX, 1 << 34), 0x14_0000);
    assert_eq!(map.end_pfn(Era::V6_1, 1 << 20, 1 << 34), 0xb_ffe0);
    assert_eq!(map.end_pfn(Era::V6_1, u64::MAX, 1 << 20), 1 << 20);
}

#[test]
fn logs_with_and_without_time_stamps() {
    let log = "[    0.000000] BIOS-e820: [mem 0x0000000000000000-0x000000000009fbff] usable\n\
               BIOS-e820: [mem 0x00000000fffc0000-0x00000000ffffffff]  device reserved\n\
               BIOS-e820: [gap 0x00000000000a0000-0x00000000000effff]\n\
               user: [mem 0x0000000000000000-0x000000000009fbff] usable\n\
               BIOS-e820: [mem 0x1000-0x0fff] usable\nBIOS-e820: [mem 0x1000-0x1fff] type 20\n\
               kernel: BIOS-e820: [mem 0x0-0xffffffffffffffff] persistent (type 12)\n";
    let entries = [(0, 0x9_fc00, 1), (0xfffc_0000, 0x1_0000_0000, 2), (0x1000, 0x2000, 20)];
    let map = parse_e820(log);
    assert_eq!(shown(&map)[..3], entries);
    assert_eq!(map.entries()[3], E820Entry { start: 0, size: u64::MAX, kind: E820Type::PRAM });
}

#[test]
fn affinity_lines() {
    let log = "SRAT: PXM 1 -> APIC 0x01 -> Node 1\nACPI: SRAT: Node 1 PXM 1 [mem 0x60000000-0xbfffffff] hotplug\n";
    let srat = parse_srat(log);
    assert_eq!(srat.cpu_nodes, [1]);
    let range = PhysRange { start: PhysAddr(0x6000_0000), end: PhysAddr(0xc000_0000) };
    assert_eq!(srat.blocks, [NumaBlock { node: 1, range, hotplug: true }]);
}

#[test]
fn replaced_memory_lies_as_on_a_pc() {
    let mut map = pc();
    map.replace_memory(64 << 40);
    assert!(map.is_all(0x10_0000, 0xbffe_0000, E820Type::RAM));
    assert_eq!(map.end_pfn(Era::V6_1, u64::MAX, u64::MAX), (64u64 << 40 >> 12) + (1 << 18));
    map.replace_memory(1 << 30);
    assert_eq!(map.end_pfn(Era::V6_1, u64::MAX, u64::MAX), 1 << 18);
}
