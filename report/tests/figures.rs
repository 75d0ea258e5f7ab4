//! The figures of every recorded boot, computed from its zones' sizes and held against what its kernel printed.
//!
//! Taken from a recording: sizes of zones, the lines of the boot log about memory that was freed late, CPUs.
//! Compared: watermarks, protection, batch and limits of per-CPU lists, the threshold of counters.

mod common;

use std::path::Path;

use common::{Recorded, boots, told, tree};
use kernmem_base::{Era, Granule};
use kernmem_page_alloc::Watermarks;
use kernmem_page_alloc::figures::{
    BootFigures, LOWMEM_RESERVE_RATIO, Thp, ZoneCpus, ZoneFacts, boot_watermarks, lowmem_reserve, pcp_limits,
    stat_threshold, total_reserve,
};
use kernmem_view::proc::{MemField, Pageset, ZoneText, parse};

/// Zones of a boot at one moment, in the order of zoneinfo.
type Zones = Vec<ZoneFacts>;

fn granule(boot: &Recorded) -> Granule {
    let kconfig = boot.kconfig();
    let set = |name| kconfig.is_set(name);
    match (set("ARM64_16K_PAGES"), set("ARM64_64K_PAGES")) {
        (true, _) => Granule::K16,
        (_, true) => Granule::K64,
        _ => Granule::K4,
    }
}

fn last_zones(zones: &[ZoneText]) -> Zones {
    let facts = |zone: &ZoneText| ZoneFacts {
        kind: zone.kind,
        node: zone.node,
        spanned: zone.spanned,
        present: zone.present,
        managed: zone.managed,
    };
    zones.iter().map(facts).collect()
}

/// Index of the zone that holds the frame `pfn`.
fn zone_of(zones: &[ZoneText], pfn: u64) -> usize {
    let holds = |zone: &ZoneText| {
        zone.populated.as_ref().is_some_and(|own| (own.start_pfn.0..own.start_pfn.0 + zone.spanned).contains(&pfn))
    };
    zones.iter().position(holds).unwrap_or_else(|| panic!("no zone holds frame {pfn:#x}"))
}

/// KiB of a log line that begins with `what` and ends with `memory: NK`.
fn freed_kib(console: &str, what: &str) -> u64 {
    let line = |line: &str| {
        let rest = line.split_once(what)?.1;
        rest.split_once("memory: ")?.1.trim_end().strip_suffix('K')?.parse::<u64>().ok()
    };
    console.lines().filter_map(line).sum()
}

/// An address that a loader chose, from the recording's description.
fn given(boot: &Recorded, key: &str) -> Option<u64> {
    let json = boot.file("boot.json")?;
    let rest = json.split_once(&format!("\"{key}\":"))?.1;
    u64::from_str_radix(rest.split('"').nth(1)?.strip_prefix("0x")?, 16).ok()
}

/// Where the initial RAM disk was moved to, because it lay outside the memory in use.
fn moved_initrd(console: &str) -> Option<u64> {
    let line = console.lines().find(|line| line.contains("Move RAMDISK"))?;
    let to = line.split_once("] to [mem 0x")?.1;
    u64::from_str_radix(to.split('-').next()?, 16).ok()
}

/// The zones before the last memory of the boot was freed: initial RAM disk, init memory, gaps of the image.
fn before_freeing(boot: &Recorded, zones: &[ZoneText], granule: Granule) -> Zones {
    let console = boot.file("console.txt").expect("every boot has its log");
    let mut facts = last_zones(zones);
    let mut take = |kib: u64, at: Option<u64>| {
        if kib != 0 {
            let at = at.expect("the recording tells where this memory lies");
            facts[zone_of(zones, at >> granule.shift())].managed -= kib / (granule.bytes() >> 10);
        }
    };
    take(freed_kib(&console, "Freeing unused kernel"), given(boot, "text_phys"));
    take(freed_kib(&console, "Freeing initrd"), moved_initrd(&console).or_else(|| given(boot, "initrd")));
    facts
}

/// The zones when the least free memory is computed first: before gigantic pages of the boot entered, which lie highest
/// with what their optimization gave back; in 7.2 also before the locks of alternatives were freed.
fn at_first(boot: &Recorded, zones: &[ZoneText], later: &Zones, granule: Granule) -> Zones {
    let console = boot.file("console.txt").expect("every boot has its log");
    let mut facts = later.clone();
    let count = |line: &str| line.split_once("1.00 GiB page size, pre-allocated ")?.1.split(' ').next()?.parse().ok();
    let count: u64 = console.lines().find_map(count).unwrap_or(0);
    let freed = |line: &str| {
        let rest = line.split_once("HugeTLB: ")?.1;
        rest.split_once(" KiB vmemmap can be freed for a 1.00 GiB")?.0.parse::<u64>().ok()
    };
    let freed = console.lines().find_map(freed).unwrap_or(0);
    let freed = if boot.cmdline.contains("hugetlb_free_vmemmap=on") { freed } else { 0 };
    if let Some(zone) = facts.iter_mut().rev().find(|zone| zone.is_populated()) {
        zone.managed -= count * ((1 << 20) + freed) / (granule.bytes() >> 10);
    }
    let alternatives = match boot.era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 | Era::V6_12 => 0,
        Era::V7_2 => freed_kib(&console, "Freeing SMP alternatives"),
    };
    if let Some(text) = given(boot, "text_phys").filter(|_| alternatives != 0) {
        facts[zone_of(zones, text >> granule.shift())].managed -= alternatives / (granule.bytes() >> 10);
    }
    facts
}

fn thp(boot: &Recorded, zones: &Zones, granule: Granule) -> Thp {
    let pages: u64 = zones.iter().map(|zone| zone.managed).sum();
    let has_cpu = boot.text_config().hugetlb;
    let is_large = pages >= (512 << 20) / granule.bytes();
    if has_cpu && is_large && boot.text_config().thp { Thp::Enabled } else { Thp::Absent }
}

/// What was held against the recording.
#[derive(Default, Debug)]
struct Tally {
    boots: usize,
    zones: usize,
    figures: usize,
    differences: Vec<String>,
}

impl Tally {
    fn same<T: PartialEq + core::fmt::Debug>(&mut self, what: &str, boot: &Recorded, recorded: &T, ours: &T) {
        self.figures += 1;
        if recorded != ours {
            let place = boot.folder.display();
            self.differences.push(format!("{place} {what}: recorded {recorded:?}, ours {ours:?}"));
        }
    }
}

fn check(boot: &Recorded, tally: &mut Tally) {
    let Some(text) = boot.file("zoneinfo") else { return };
    let zones = parse::zoneinfo(&text).expect("zoneinfo is read").zones;
    let blocks = parse::pagetypeinfo(&boot.file("pagetypeinfo").expect("beside zoneinfo")).expect("it is read");
    let granule = granule(boot);
    let last = last_zones(&zones);
    let then = before_freeing(boot, &zones, granule);
    let early = at_first(boot, &zones, &then, granule);
    let thp = thp(boot, &early, granule);
    let facts = BootFigures { era: boot.era, granule, pageblock_pages: blocks.pageblock_pages, thp };
    let mut marks = vec![Watermarks::default(); zones.len()];
    boot_watermarks(&facts, &then, &early, &mut marks);
    let kept_of = match boot.era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 | Era::V6_12 => &early,
        Era::V7_2 => &last,
    };
    let when_marked = if thp == Thp::Absent { &early } else { &then };
    for (index, zone) in zones.iter().enumerate() {
        tally.zones += 1;
        let name = |what: &str| format!("node {} {} {what}", zone.node, zone.kind);
        let own = &marks[index];
        tally.same(&name("min"), boot, &zone.min, &own.min);
        tally.same(&name("low"), boot, &zone.low, &own.low);
        tally.same(&name("high"), boot, &zone.high, &own.high);
        if boot.era >= Era::V6_12 {
            tally.same(&name("promo"), boot, &zone.promo, &own.promo);
        }
        let first = zones.iter().position(|other| other.node == zone.node).unwrap_or(0);
        let end = zones.iter().rposition(|other| other.node == zone.node).unwrap_or(0) + 1;
        let kept = lowmem_reserve(&kept_of[first..end], index - first, &LOWMEM_RESERVE_RATIO);
        tally.same(&name("protection"), boot, &zone.protection, &kept[..end - first].to_vec());
        let Some(populated) = &zone.populated else { continue };
        for set in &populated.pagesets {
            let cpus = cpus(boot, &zones, populated.pagesets.len());
            let limits = pcp_limits(boot.era, granule, when_marked[index].managed, own.low, cpus, 0);
            tally.same(&name("batch"), boot, &set.batch, &limits.batch);
            tally.same(&name("limits"), boot, &true, &are_limits(boot.era, set, limits.high_min, limits.high_max));
            let threshold = stat_threshold(granule, zone.managed, cpus.online as u32);
            tally.same(&name("threshold"), boot, &set.threshold, &Some(threshold));
        }
    }
    tally.same("total reserve", boot, &told_reserve(boot, &marks, granule), &reserve(&marks, kept_of));
    tally.boots += 1;
}

/// Pages no program may count on.
fn reserve(marks: &[Watermarks], zones: &Zones) -> u64 {
    let high: Vec<u64> = marks.iter().map(|marks| marks.high).collect();
    total_reserve(zones, &high, &LOWMEM_RESERVE_RATIO)
}

/// The same out of meminfo: what is free, and half of what can be given back, less what is available.
fn told_reserve(boot: &Recorded, marks: &[Watermarks], granule: Granule) -> u64 {
    let text = boot.file("meminfo").expect("beside zoneinfo");
    let info = parse::meminfo(&text).expect("it is read").fields;
    let pages = |field| info.get(field).expect("every kernel has the line") / (granule.bytes() >> 10);
    let low: u64 = marks.iter().map(|marks| marks.low).sum();
    let half = |pages: u64| pages - (pages / 2).min(low);
    let file = pages(MemField::ActiveFile) + pages(MemField::InactiveFile);
    pages(MemField::MemFree) + half(file) + half(pages(MemField::KReclaimable)) - pages(MemField::MemAvailable)
}

/// What a pageset shows of its limits: from 6.12 on the limit itself moves, from 0 on; 6.12 shows it alone.
fn are_limits(era: Era, set: &Pageset, high_min: u64, high_max: u64) -> bool {
    match era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 => set.high == high_min,
        Era::V6_12 => set.high <= high_max,
        Era::V7_2 => set.high <= high_max && (set.high_min, set.high_max) == (high_min, high_max),
    }
}

/// The recorded machines with several nodes have as many CPUs in each.
fn cpus(boot: &Recorded, zones: &[ZoneText], online: usize) -> ZoneCpus {
    let nodes = zones.last().map_or(1, |zone| zone.node + 1);
    assert_eq!(online % nodes as usize, 0, "{}", boot.folder.display());
    ZoneCpus { of_node: (online / nodes as usize) as u64, online: online as u64 }
}

#[track_caller]
fn compare(root: &Path) -> Tally {
    let mut tally = Tally::default();
    for boot in boots(root) {
        check(&boot, &mut tally);
    }
    println!("{} boots, {} zones, {} figures", tally.boots, tally.zones, tally.figures);
    assert!(tally.differences.is_empty(), "{}", tally.differences.join("\n"));
    tally
}

#[test]
fn figures_of_every_recorded_zone_follow_from_its_sizes() {
    let tally = compare(&tree());
    assert!(tally.boots >= 60 && tally.figures > 1900, "{tally:?}");
}

#[test]
#[ignore = "reads the folder of recordings that KERNMEM_RECORDINGS names"]
fn figures_of_another_folder_follow_too() {
    compare(&told().expect("KERNMEM_RECORDINGS names a folder of recordings"));
}
