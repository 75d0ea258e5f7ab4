//! Every recorded text of `/proc` about memory is read into its value and printed again: not a byte differs.

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use common::{Recorded, boots, told, tree};
use kernmem_report::proc as print;
use kernmem_view::proc::parse::{self, ParseError};
use kernmem_view::proc::{CounterKind, Counters, TextConfig};

/// Reads `text` as the file `name` and prints it again.
fn again(boot: &Recorded, name: &str, text: &str) -> Result<String, ParseError> {
    let mut out = String::new();
    let era = boot.era;
    let done = match name {
        "buddyinfo" => print::buddyinfo(&parse::buddyinfo(text)?, &mut out),
        "pagetypeinfo" => print::pagetypeinfo(&parse::pagetypeinfo(text)?, &mut out),
        "zoneinfo" => print::zoneinfo(era, &parse::zoneinfo(text)?, &mut out),
        "meminfo" => print::meminfo(&parse::meminfo(text)?, &mut out),
        "iomem" => print::iomem(era, &parse::iomem(text)?, &mut out),
        "vmallocinfo" => print::vmallocinfo(&parse::vmallocinfo(text)?, &mut out),
        "slabinfo" => print::slabinfo(&parse::slabinfo(text)?, &mut out),
        _ => panic!("{name} is no file that is printed"),
    };
    done.expect("a string takes everything");
    Ok(out)
}

const FILES: [&str; 7] = ["buddyinfo", "pagetypeinfo", "zoneinfo", "meminfo", "iomem", "vmallocinfo", "slabinfo"];

/// A file with its later readings `NAME.2`, `NAME.3`.
fn readings(boot: &Recorded, name: &str) -> Vec<(String, String)> {
    let names = ["", ".2", ".3"].map(|suffix| format!("{name}{suffix}"));
    names.into_iter().filter_map(|name| Some((name.clone(), boot.file(&name)?))).collect()
}

#[track_caller]
fn assert_same(place: &Path, name: &str, recorded: &str, ours: &str) {
    let differs = recorded.lines().zip(ours.lines()).enumerate().find(|(_, (one, other))| one != other);
    if let Some((at, (one, other))) = differs {
        panic!("{} {name}:{}\nrecorded {one:?}\nours     {other:?}", place.display(), at + 1);
    }
    assert_eq!(recorded, ours, "{} {name}", place.display());
}

/// Prints every recorded file below `root` again; how many of each name there were.
fn round_trip(root: &Path) -> BTreeMap<&'static str, usize> {
    let mut tally = BTreeMap::new();
    for boot in boots(root) {
        for file in FILES {
            for (name, text) in readings(&boot, file) {
                let ours = again(&boot, file, &text);
                let ours = ours.unwrap_or_else(|error| panic!("{} {name}: {error}", boot.folder.display()));
                assert_same(&boot.folder, &name, &text, &ours);
                *tally.entry(file).or_default() += 1;
            }
        }
    }
    tally
}

/// The counters of a text are those that follow from era and configuration, in that order.
fn same_counters<K: CounterKind + core::fmt::Debug>(boot: &Recorded, config: &TextConfig, found: &Counters<K>) {
    let names = |counters: &Counters<K>| counters.values.iter().map(|(kind, _)| *kind).collect::<Vec<_>>();
    let ours = Counters::zero(boot.era, config);
    assert_eq!(names(found), names(&ours), "{}", boot.folder.display());
}

/// Lines whose presence was checked.
fn counters_follow(root: &Path) -> usize {
    let mut checked = 0;
    for boot in boots(root) {
        let config = boot.text_config();
        let Some((zoneinfo, meminfo)) = boot.file("zoneinfo").zip(boot.file("meminfo")) else { continue };
        for zone in parse::zoneinfo(&zoneinfo).expect("it is printed again").zones {
            if let Some(counters) = &zone.node_counters {
                same_counters(&boot, &config, counters);
                checked += counters.values.len();
            }
            if let Some(own) = &zone.populated {
                same_counters(&boot, &config, &own.counters);
                same_counters(&boot, &config, &own.numa);
                checked += own.counters.values.len() + own.numa.values.len();
            }
        }
        let meminfo = parse::meminfo(&meminfo).expect("it is printed again");
        same_counters(&boot, &config, &meminfo.fields);
        checked += meminfo.fields.values.len();
    }
    checked
}

#[test]
fn every_recorded_text_is_printed_again_byte_for_byte() {
    let tally = round_trip(&tree());
    println!("{tally:?}");
    for file in FILES {
        assert!(tally.get(file).is_some_and(|count| *count >= 60), "{file}: {tally:?}");
    }
}

#[test]
fn which_counters_there_are_follows_from_era_and_configuration() {
    let checked = counters_follow(&tree());
    println!("{checked} lines");
    assert!(checked > 5000);
}

#[test]
#[ignore = "reads the folder of recordings that KERNMEM_RECORDINGS names"]
fn texts_of_another_folder_are_printed_again() {
    let root = told().expect("KERNMEM_RECORDINGS names a folder of recordings");
    println!("{:?}, {} lines", round_trip(&root), counters_follow(&root));
}
