//! Lab `fallback`: the order of zones by the zonelist's rule, and what stays by the rules of watermarks and reserves.

use crate::common::{Found, lab, options};
use kernmem_base::Era;
use kernmem_labs::{LabOptions, Value};

/// A zone's row of the lab.
#[derive(Clone, Debug)]
struct Row {
    nid: u64,
    zone: String,
    managed: u64,
    used: u64,
    got: u64,
    left: u64,
    min: u64,
    reserve: u64,
}

/// The rows of each request, in order.
fn rows(found: &Found) -> Vec<Vec<Row>> {
    let mut wishes = Vec::new();
    for line in found.told.lines().map(str::trim) {
        if line.starts_with("GFP_") {
            wishes.push(Vec::new());
        }
        let Some((place, numbers)) = line.strip_prefix("node ").and_then(|line| line.split_once(": managed ")) else {
            continue;
        };
        let (nid, zone) = place.split_once(' ').expect("a node and a zone");
        let numbers: Vec<u64> = numbers
            .split(|c: char| !c.is_ascii_digit())
            .filter(|word| !word.is_empty())
            .map(|word| word.parse().expect("a number"))
            .collect();
        let [managed, used, got, left, min, reserve] = numbers[..] else { panic!("{line}") };
        let (nid, zone) = (nid.parse().expect("a node"), zone.trim().to_owned());
        let row = Row { nid, zone, managed, used, got, left, min, reserve };
        assert_eq!(row.used + row.got + row.left, row.managed, "{row:?}");
        wishes.last_mut().expect("a request").push(row);
    }
    wishes
}

#[track_caller]
fn orders(found: &Found, expected: [&str; 4]) {
    let verdict = found.verdict("002.8", Era::V6_1);
    let names = ["kernel_order", "dma32_order", "dma_order", "user_order"];
    assert_eq!(
        names.map(|name| verdict.value(name).cloned()),
        expected.map(|order| Some(Value::Name(order.to_owned())))
    );
    assert_eq!(found.holds("002.8", Era::V6_1), "only if");
}

/// Facts 4.4: own node first, from the highest zone down; facts 5.2: the highest zone of each request.
const ALL: &str = "0 Normal, 0 DMA32, 0 DMA, 1 Normal";

/// Facts 4.5: a reserve is the managed pages above, by 256; min is the zone's part of the square root of 16 times all
/// memory in KiB.
#[test]
fn zones_keep_their_watermark_and_their_reserve() {
    let found = lab("fallback", &options(None, false));
    orders(&found, [ALL, "0 DMA32, 0 DMA", "0 DMA", ALL]);
    let wishes = rows(&found);
    let [normal, dma32, dma, other] = &wishes[0][..] else { panic!("{wishes:?}") };
    assert_eq!([normal.reserve, other.reserve], [0, 0]);
    assert_eq!(dma32.reserve, normal.managed / 256);
    assert_eq!(dma.reserve, (dma32.managed + normal.managed) / 256);
    // A request for DMA32 is kept from DMA for what lies in DMA32, one for DMA from nothing.
    assert_eq!((wishes[1][1].reserve, wishes[2][0].reserve), (dma32.managed / 256, 0));
    // Init memory came to DMA, where the image is, after watermarks were computed: 448 KiB, as recorded.
    let managed = |row: &Row| row.managed - if row.zone == "DMA" { 448 / 4 } else { 0 };
    let all: u64 = wishes[0].iter().map(managed).sum();
    let pages_min = (all * 4 * 16).isqrt() / 4;
    for row in wishes.iter().flatten() {
        assert_eq!(row.min, pages_min * managed(row) / all, "{row:?}");
        assert_eq!(row.left, row.min + row.reserve, "{row:?}");
        assert!(row.got > 0, "{row:?}");
    }
    // Urgent and without waiting: half of min, then a quarter of the rest.
    let urgent = |row: &Row| row.min - ((row.min - row.min / 2) - (row.min - row.min / 2) / 4);
    assert_eq!(found.number("002.8", "urgent"), wishes[0].iter().map(urgent).sum::<u64>());
}

#[test]
fn without_watermarks_and_reserves_nothing_stays() {
    let found = lab("fallback", &options(None, true));
    orders(&found, [ALL, "0 DMA32, 0 DMA", "0 DMA", ALL]);
    assert!(rows(&found).iter().flatten().all(|row| (row.left, row.min, row.reserve) == (0, 0, 0)));
    assert_eq!(found.number("002.8", "urgent"), 0);
}

/// x86-64 with 16 MiB of DMA, which keeps more from the others than it has: 3840 pages managed, 3930 reserved, as
/// recorded; from requests for DMA32 2977. Requests of sixteen pages.
#[test]
fn a_small_zone_keeps_all_of_itself() {
    let found = lab("fallback", &options(Some("x86-4g".to_owned()), false));
    orders(&found, ["0 Normal, 0 DMA32", "0 DMA32, 0 DMA", "0 DMA", "0 Normal, 0 DMA32"]);
    let wishes = rows(&found);
    let dma = wishes[0].iter().find(|row| row.zone == "DMA").expect("the zone that gives nothing");
    assert_eq!((dma.managed, dma.got, dma.reserve, dma.nid), (3840, 0, 3930, 0));
    assert_eq!((wishes[1][1].reserve, wishes[1][0].reserve), (2977, 0));
    assert!(wishes.iter().flatten().all(|row| row.got == 0 || row.left >= row.min + row.reserve));
    let reversed = lab("fallback", &options(Some("x86-4g".to_owned()), true));
    orders(&reversed, ["0 Normal, 0 DMA32, 0 DMA", "0 DMA32, 0 DMA", "0 DMA", "0 Normal, 0 DMA32, 0 DMA"]);
}

#[test]
fn another_command_line_is_taken() {
    let mut options = LabOptions::default();
    options.parts.cmdline = Some("numa=off swiotlb=512".to_owned());
    // One node: its Normal zone spans both pieces.
    orders(
        &lab("fallback", &options),
        ["0 Normal, 0 DMA32, 0 DMA", "0 DMA32, 0 DMA", "0 DMA", "0 Normal, 0 DMA32, 0 DMA"],
    );
}
