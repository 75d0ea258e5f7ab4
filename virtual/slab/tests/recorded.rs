//! The slab listings of recorded kernels: objects and pages of a slab follow from the slot, names from the rules.
#![allow(clippy::unwrap_used, reason = "a test stops where an answer is missing")]

use std::fs;
use std::path::{Path, PathBuf};

use kernmem_base::{Era, Granule};
use kernmem_slab::{Classes, Families, Family, KmallocArch, Slab, SlabRules, slab_order};

struct Recorded {
    folder: PathBuf,
    era: Era,
    granule: Granule,
    cpus: u32,
    is_arm64: bool,
    slabinfo: String,
}

/// A line of a listing: name, slot, objects of a slab, pages of a slab.
struct Line<'t> {
    name: &'t str,
    slot: u64,
    objects: u64,
    pages: u64,
}

fn field<'t>(json: &'t str, name: &str) -> &'t str {
    let rest = json.split_once(&format!("\"{name}\":")).unwrap().1;
    rest.split([',', '\n', '}']).next().unwrap().trim().trim_matches('"')
}

fn recordings() -> Vec<Recorded> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testing/recordings");
    let sets = fs::read_dir(root).unwrap().map(|set| set.unwrap().path()).filter(|set| set.is_dir());
    let folders = sets.flat_map(|set| fs::read_dir(set).unwrap().map(|entry| entry.unwrap().path()));
    folders
        .filter_map(|folder| {
            let slabinfo = fs::read_to_string(folder.join("slabinfo")).ok()?;
            let boot = fs::read_to_string(folder.join("boot.json")).unwrap();
            let kernel = field(&boot, "kernel");
            let granule = match kernel {
                kernel if kernel.contains("-16k") => Granule::K16,
                kernel if kernel.contains("-64k") => Granule::K64,
                _ => Granule::K4,
            };
            let (era, cpus) = (field(&boot, "era").parse().unwrap(), field(&boot, "smp").parse().unwrap());
            let is_arm64 = field(&boot, "arch") == "arm64";
            let config = fs::read_to_string(folder.join("../../kernels").join(kernel).join("config")).unwrap();
            // KASAN puts its own records into each object.
            if config.contains("CONFIG_KASAN=y") {
                return None;
            }
            Some(Recorded { folder, era, granule, cpus, is_arm64, slabinfo })
        })
        .collect()
}

impl Recorded {
    fn lines(&self) -> impl Iterator<Item = Line<'_>> {
        self.slabinfo.lines().skip(2).map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let number = |at: usize| words[at].parse().unwrap();
            Line { name: words[0], slot: number(3), objects: number(4), pages: number(5) }
        })
    }

    fn classes(&self) -> Classes {
        let arch = if self.is_arm64 { KmallocArch::Arm64 { bounce: true, writeback: 64 } } else { KmallocArch::X86 };
        Classes::new(self.era, self.granule, arch)
    }
}

#[test]
fn pages_and_objects_of_every_recorded_cache_follow_from_its_slot() {
    let (mut boots, mut lines) = (0, 0);
    for recorded in recordings() {
        boots += 1;
        for line in recorded.lines() {
            lines += 1;
            let order = slab_order(recorded.era, recorded.granule, line.slot, recorded.cpus).unwrap();
            let pages = 1 << order.0;
            let objects = pages * recorded.granule.bytes() / line.slot;
            let place = format!("{} {}", recorded.folder.display(), line.name);
            assert_eq!((pages, objects), (line.pages, line.objects), "{place}");
        }
    }
    // 40 boots of arm64 and 23 of x86-64, each with some fifty caches.
    assert!(boots >= 63 && lines >= boots * 40, "{boots} boots, {lines} lines");
    println!("{lines} caches of {boots} boots");
}

#[test]
fn size_classes_have_the_recorded_names_in_the_recorded_order() {
    for recorded in recordings() {
        let families = Families { dma: true, rcl: true, cg: false };
        let rules = SlabRules { families, ..SlabRules::new(recorded.classes(), recorded.cpus) };
        let mut slab = Slab::<64>::new(rules);
        slab.create_kmalloc_caches().unwrap();
        let none = kernmem_slab::LentPages::new(kernmem_base::Pfn(0), &[]);
        let ours: Vec<(String, u64, u64, u64)> = slab
            .slabinfo(&none)
            .map(|info| info.unwrap())
            .map(|info| (info.name.to_string(), info.slot.into(), info.per_slab.into(), info.pages.into()))
            .collect();
        let is_class = |line: &Line<'_>| {
            let prefixes = Family::ALL.map(Family::prefix);
            prefixes.iter().any(|prefix| line.name.starts_with(&format!("{prefix}-")))
        };
        let theirs: Vec<(String, u64, u64, u64)> = recorded
            .lines()
            .filter(is_class)
            .map(|line| (line.name.to_owned(), line.slot, line.objects, line.pages))
            .collect();
        assert_eq!(ours, theirs, "{}", recorded.folder.display());
    }
}
