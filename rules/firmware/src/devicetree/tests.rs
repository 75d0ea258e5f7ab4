//! Trees written by hand, whole and damaged.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use kernmem_base::{Granule, PhysAddr, PhysRange};

use super::*;
use crate::{Bank, Machine};

/// Writes a blob of version 17 by hand: one block behind the other.
#[derive(Default)]
struct Writer {
    structure: Vec<u8>,
    strings: Vec<u8>,
    reservations: Vec<(u64, u64)>,
}

impl Writer {
    fn word(&mut self, word: u32) {
        self.structure.extend(word.to_be_bytes());
    }

    fn padded(&mut self, bytes: &[u8]) {
        self.structure.extend(bytes);
        self.structure.resize(align4(self.structure.len()), 0);
    }

    fn begin(&mut self, name: &str) -> &mut Self {
        self.word(BEGIN_NODE);
        let name: Vec<u8> = name.bytes().chain([0]).collect();
        self.padded(&name);
        self
    }

    fn end(&mut self) -> &mut Self {
        self.word(END_NODE);
        self
    }

    fn bytes(&mut self, name: &str, value: &[u8]) -> &mut Self {
        let at = self.strings.len() as u32;
        self.strings.extend(name.bytes().chain([0]));
        self.word(PROP);
        self.word(value.len() as u32);
        self.word(at);
        self.padded(value);
        self
    }

    fn cells(&mut self, name: &str, cells: &[u32]) -> &mut Self {
        let bytes: Vec<u8> = cells.iter().flat_map(|cell| cell.to_be_bytes()).collect();
        self.bytes(name, &bytes)
    }

    fn text(&mut self, name: &str, text: &str) -> &mut Self {
        let bytes: Vec<u8> = text.bytes().chain([0]).collect();
        self.bytes(name, &bytes)
    }

    fn blob(&mut self) -> Vec<u8> {
        self.word(END);
        let reservations = 40;
        let structure = reservations + 16 * (self.reservations.len() + 1);
        let strings = structure + self.structure.len();
        let total = strings + self.strings.len();
        let header = [MAGIC, total as u32, structure as u32, strings as u32, reservations as u32, 17, 16, 0];
        let mut blob: Vec<u8> = header.iter().flat_map(|word| word.to_be_bytes()).collect();
        blob.extend((self.strings.len() as u32).to_be_bytes());
        blob.extend((self.structure.len() as u32).to_be_bytes());
        for (start, size) in self.reservations.iter().chain([&(0, 0)]) {
            blob.extend(start.to_be_bytes());
            blob.extend(size.to_be_bytes());
        }
        blob.extend(&self.structure);
        blob.extend(&self.strings);
        blob
    }
}

/// A root with two address and two size cells.
fn root() -> Writer {
    let mut writer = Writer::default();
    writer.begin("").cells("#address-cells", &[2]).cells("#size-cells", &[2]);
    writer
}

fn machine(writer: &mut Writer) -> Machine {
    Devicetree::parse(&writer.end().blob()).unwrap().machine()
}

fn range(start: u64, end: u64) -> PhysRange {
    PhysRange { start: PhysAddr(start), end: PhysAddr(end) }
}

fn banks(writer: &mut Writer) -> Vec<PhysRange> {
    machine(writer).memory.iter().map(|bank| bank.range).collect()
}

fn fault(blob: &[u8]) -> TreeError {
    Devicetree::parse(blob).unwrap_err()
}

#[test]
fn an_empty_blob_is_too_short_for_a_header() {
    let error = fault(&[]);
    assert_eq!(error, TreeError { offset: 0, fault: TreeFault::Truncated { what: "header", needed: 40 } });
}

#[test]
fn memory_nodes_keep_their_order_node_and_hotplug() {
    let mut tree = root();
    tree.begin("memory@80000000").text("device_type", "memory");
    tree.cells("reg", &[0, 0x8000_0000, 0, 0x1000_0000, 1, 0, 0, 0, 1, 0, 0, 0x2000]).cells("numa-node-id", &[1]);
    tree.bytes("hotpluggable", &[]).end();
    tree.begin("ram-with-another-name").text("device_type", "memory").cells("reg", &[0, 0x4000_0000, 0, 0x800]).end();
    let machine = machine(&mut tree);
    let expected = [
        Bank { range: range(0x8000_0000, 0x9000_0000), nid: Some(1), hotplug: true },
        Bank { range: range(0x1_0000_0000, 0x1_0000_2000), nid: Some(1), hotplug: true },
        Bank { range: range(0x4000_0000, 0x4000_0800), nid: None, hotplug: false },
    ];
    assert_eq!(machine.memory, expected);
    assert_eq!(expected[2].whole_pages(Granule::K4), None);
}

#[test]
fn what_is_no_memory_is_left_out() {
    let mut tree = root();
    tree.begin("memory@0").cells("reg", &[0, 0, 0, 0x1000]).end();
    tree.begin("memory@1")
        .text("device_type", "memory")
        .text("status", "disabled")
        .cells("reg", &[0, 0, 0, 0x1000])
        .end();
    tree.begin("memory@2").text("device_type", "memory").cells("reg", &[0, 0, 0]).end();
    tree.begin("bus").begin("memory@3").text("device_type", "memory").cells("reg", &[0, 0, 0, 0x1000]).end().end();
    assert_eq!(banks(&mut tree), []);
}

#[test]
fn usable_memory_beats_reg_and_a_rest_is_ignored() {
    let mut tree = root();
    tree.begin("memory@0").text("device_type", "memory").cells("reg", &[0, 0, 0, 0x10000]);
    tree.cells("linux,usable-memory", &[0, 0x4000, 0, 0x1000, 0, 0x9000]).end();
    assert_eq!(banks(&mut tree), [range(0x4000, 0x5000)]);
}

#[test]
fn cells_of_one_none_and_three_words() {
    let mut silent = Writer::default();
    silent.begin("").begin("memory").text("device_type", "memory").cells("reg", &[0x1000, 0x2000]).end();
    assert_eq!(banks(&mut silent), [range(0x1000, 0x3000)]);
    let mut none = Writer::default();
    none.begin("").cells("#address-cells", &[0]).cells("#size-cells", &[0]);
    none.begin("memory").text("device_type", "memory").cells("reg", &[1, 2]).end();
    assert_eq!(banks(&mut none), []);
    let mut wide = Writer::default();
    wide.begin("").cells("#address-cells", &[3]).cells("#size-cells", &[1]);
    wide.begin("memory").text("device_type", "memory").cells("reg", &[7, 1, 0x1000, 0x2000]).end();
    assert_eq!(banks(&mut wide), [range(0x1_0000_1000, 0x1_0000_3000)]);
}

#[test]
fn memory_past_the_last_address_is_cut() {
    let mut tree = root();
    let end = u32::MAX;
    tree.begin("memory").text("device_type", "memory").cells("reg", &[end, 0xffff_0000, end, end]).end();
    assert_eq!(banks(&mut tree), [range(0xffff_ffff_ffff_0000, u64::MAX)]);
}

#[test]
fn reserved_nodes_of_each_kind() {
    let mut tree = root();
    tree.reservations = vec![(0x5000, 0x1000), (0x9000, 0)];
    tree.begin("reserved-memory").cells("#address-cells", &[2]).cells("#size-cells", &[2]).bytes("ranges", &[]);
    tree.begin("fw@90001000").cells("reg", &[0, 0x9000_1000, 0, 0x3000]).bytes("no-map", &[]).end();
    tree.begin("pool").text("compatible", "shared-dma-pool").bytes("reusable", &[]).bytes("linux,cma-default", &[]);
    tree.cells("size", &[0, 0x400_0000]).cells("alignment", &[0, 0x20_0000]);
    tree.cells("alloc-ranges", &[0, 0x4000_0000, 0, 0x4000_0000]).end();
    tree.begin("off").cells("reg", &[0, 0, 0, 0x1000]).text("status", "disabled").end().end();
    let machine = machine(&mut tree);
    assert_eq!(machine.memory_reservations, [range(0x5000, 0x6000)]);
    let [firmware, pool] = machine.reserved.as_slice() else { panic!("two nodes expected") };
    assert_eq!((firmware.name.as_str(), firmware.no_map), ("fw@90001000", true));
    assert_eq!(firmware.ranges, [range(0x9000_1000, 0x9000_4000)]);
    assert_eq!((pool.size, pool.alignment), (Some(0x400_0000), Some(0x20_0000)));
    assert_eq!(pool.alloc_ranges, [range(0x4000_0000, 0x8000_0000)]);
    assert!(pool.reusable && pool.cma_default && pool.shared_dma_pool && !pool.no_map);
}

#[test]
fn a_reserved_node_of_the_wrong_length_is_skipped() {
    let mut tree = root();
    tree.begin("reserved-memory").cells("#address-cells", &[2]).cells("#size-cells", &[2]).bytes("ranges", &[]);
    tree.begin("a").cells("reg", &[0, 0x1000, 0]).end();
    tree.begin("b").cells("size", &[0x1000]).end();
    tree.begin("c").cells("reg", &[0, 0x1000, 0, 0x1000]).cells("size", &[0, 0x5000]).end().end();
    let machine = machine(&mut tree);
    let [only] = machine.reserved.as_slice() else { panic!("one node expected") };
    assert_eq!((only.name.as_str(), only.size), ("c", None));
}

#[test]
fn reserved_memory_with_other_cells_is_ignored_whole() {
    let mut tree = root();
    tree.begin("reserved-memory").cells("#address-cells", &[1]).cells("#size-cells", &[1]).bytes("ranges", &[]);
    tree.begin("a").cells("reg", &[0x1000, 0x1000]).end().end();
    assert_eq!(machine(&mut tree).reserved, []);
}

#[test]
fn chosen_in_32_and_64_bits() {
    let mut tree = root();
    tree.begin("chosen").text("bootargs", "a b").cells("linux,initrd-start", &[0x4800_0000]);
    tree.cells("linux,initrd-end", &[0, 0x4800_0ee9]).cells("kaslr-seed", &[0x1b2c_3d4e, 0x5f60_7182]);
    tree.cells("linux,usable-memory-range", &[0, 0x1000, 0, 0x1000]).cells("linux,elfcorehdr", &[0, 0x8000, 0, 0x400]);
    tree.end();
    let machine = machine(&mut tree);
    assert_eq!(machine.bootargs.as_deref(), Some("a b"));
    assert_eq!(machine.initrd, Some(range(0x4800_0000, 0x4800_0ee9)));
    assert_eq!(machine.kaslr_seed, Some(0x1b2c_3d4e_5f60_7182));
    assert_eq!(
        (machine.usable_ranges.as_slice(), machine.elfcorehdr),
        ([range(0x1000, 0x2000)].as_slice(), Some(range(0x8000, 0x8400)))
    );
}

#[test]
fn a_short_seed_and_a_backward_initrd_do_not_count() {
    let mut tree = root();
    tree.begin("chosen")
        .cells("kaslr-seed", &[1])
        .cells("linux,initrd-start", &[9])
        .cells("linux,initrd-end", &[8])
        .end();
    let machine = machine(&mut tree);
    assert_eq!((machine.kaslr_seed, machine.initrd, machine.bootargs), (None, None, None));
}

#[test]
fn the_narrowest_bus_limits_dma() {
    let mut tree = root();
    assert_eq!(Devicetree::parse(&root().end().blob()).unwrap().dma_limit(), u64::MAX);
    // A bus that sees the first GiB of memory at 0xc0000000 (a Raspberry Pi 4's), and one that sees 4 GiB.
    tree.begin("soc").cells("#address-cells", &[1]).cells("#size-cells", &[1]);
    tree.cells("dma-ranges", &[0xc000_0000, 0, 0, 0x4000_0000]).end();
    tree.begin("scb").cells("#address-cells", &[2]).cells("#size-cells", &[2]);
    tree.cells("dma-ranges", &[0, 0, 0, 0, 1, 0]).end();
    assert_eq!(machine(&mut tree).dma_limit, 0x3fff_ffff);
}

#[test]
fn inner_windows_are_translated_and_disabled_buses_do_not_count() {
    let mut tree = root();
    tree.begin("outer").cells("#address-cells", &[2]).cells("#size-cells", &[2]);
    tree.cells("dma-ranges", &[0, 0, 1, 0, 0, 0x8000_0000]);
    tree.begin("inner").cells("#address-cells", &[1]).cells("#size-cells", &[1]);
    tree.cells("dma-ranges", &[0, 0, 0x1000, 0x1000]).end().end();
    tree.begin("off").text("status", "disabled").cells("#address-cells", &[1]).cells("#size-cells", &[1]);
    tree.cells("dma-ranges", &[0, 0, 0, 0x1000]).end();
    assert_eq!(machine(&mut tree).dma_limit, 0x1_0000_1fff);
}

#[test]
fn cpus_and_their_nodes() {
    let mut tree = root();
    tree.begin("cpus").begin("cpu@0").text("device_type", "cpu").end();
    tree.begin("cpu@1").cells("numa-node-id", &[1]).end().begin("cpu@2").text("status", "fail").end();
    tree.begin("cpu-map").end().end();
    let machine = machine(&mut tree);
    assert_eq!((machine.cpus, machine.cpu_nodes), (2, vec![0, 1]));
}

#[test]
fn the_unpacked_size_by_hand() {
    // Root: 208 + 1 = 209, two properties: 216 + 96 = 312, 312 + 96 = 408, no name: 408 + 96 + 1 = 505.
    // a@1: 512 + 208 + 4 = 724; no name, "a": 728 + 96 + 2 = 826. To 4: 828, and 4 more.
    let mut tree = root();
    tree.begin("a@1").end();
    let shape = machine(&mut tree).tree.unwrap();
    assert_eq!((shape.nodes(), shape.properties()), (2, 2));
    assert_eq!(shape.unflattened_size(208, 96), 832);
}

#[test]
fn lookups_follow_the_tree() {
    let mut tree = root();
    tree.begin("a@1").text("x", "1").begin("b").end().begin("c").end().end().begin("d").end();
    let blob = tree.end().blob();
    let tree = Devicetree::parse(&blob).unwrap();
    let names = |node| {
        tree.children(node).map(|child| String::from_utf8_lossy(tree.name(child)).into_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(tree.root()), ["a@1", "d"]);
    let a = tree.child(tree.root(), "a").unwrap();
    assert_eq!(names(a), ["b", "c"]);
    assert_eq!((tree.property(a, "x"), tree.property(a, "y")), (Some(b"1\0".as_slice()), None));
    assert_eq!(tree.parent(tree.child(a, "c").unwrap()), a);
}

#[test]
fn each_truncation_is_an_error_with_its_place() {
    let mut tree = root();
    tree.begin("chosen").text("bootargs", "a").end();
    let blob = tree.end().blob();
    assert!(Devicetree::parse(&blob).is_ok());
    for len in 0..blob.len() {
        let error = fault(&blob[..len]);
        assert!(error.offset <= blob.len(), "{len}");
    }
}

#[test]
fn no_flipped_byte_makes_a_panic() {
    let mut tree = root();
    tree.begin("memory").text("device_type", "memory").cells("reg", &[0, 1, 0, 1]).end();
    let blob = tree.end().blob();
    for at in 0..blob.len() {
        for value in [0, 1, 2, 3, 4, 9, 0x7f, 0x80, 0xff] {
            let mut damaged = blob.clone();
            damaged[at] = value;
            if let Ok(tree) = Devicetree::parse(&damaged) {
                let _ = tree.machine();
            }
        }
    }
}

#[test]
fn broken_structures_are_named() {
    fn broken(write: impl FnOnce(&mut Writer)) -> TreeFault {
        let mut writer = Writer::default();
        write(&mut writer);
        fault(&writer.blob()).fault
    }
    let expected = |fault| match fault {
        TreeFault::Structure { expected } => expected,
        other => panic!("{other:?}"),
    };
    let tree = broken(|w| {
        w.begin("");
    });
    assert_eq!(expected(tree), "the end of each node first");
    let tree = broken(|w| {
        w.end();
    });
    assert_eq!(expected(tree), "a node before its end");
    let tree = broken(|w| {
        w.text("a", "b");
    });
    assert_eq!(expected(tree), "a node around the property");
    let tree = broken(|w| {
        w.begin("").end().begin("x").end();
    });
    assert_eq!(expected(tree), "the end of the tree");
    assert_eq!(broken(|w| w.word(7)), TreeFault::Token { found: 7 });
    let tree = broken(|w| {
        for _ in 0..65 {
            w.begin("");
        }
    });
    assert_eq!(tree, TreeFault::TooDeep);
}

#[test]
fn headers_that_lie_are_refused() {
    let blob = root().end().blob();
    let with = |at: usize, word: u32| {
        let mut blob = blob.clone();
        blob[at..at + 4].copy_from_slice(&word.to_be_bytes());
        fault(&blob)
    };
    assert_eq!(with(0, 1).fault, TreeFault::NotATree { found: 1 });
    assert_eq!(with(20, 15).fault, TreeFault::Version { version: 15, compatible: 16 });
    assert_eq!(with(24, 18).fault, TreeFault::Version { version: 17, compatible: 18 });
    assert_eq!(with(8, 57), TreeError { offset: 8, fault: TreeFault::Misaligned { what: "structure block" } });
    assert!(matches!(with(4, 1 << 30).fault, TreeFault::Truncated { what: "total size", .. }));
    assert!(matches!(with(12, u32::MAX).fault, TreeFault::Truncated { what: "strings block", .. }));
    assert!(matches!(with(16, 1 << 30).fault, TreeFault::Truncated { what: "memory reservation block", .. }));
}
