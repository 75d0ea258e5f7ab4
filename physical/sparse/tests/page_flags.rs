//! The flags word against the constants that a compiler took out of the kernels' headers.

use std::collections::BTreeMap;

use kernmem_base::Era;
use kernmem_sparse::page::{Field, FlagOptions, FlagsFacts, FlagsLayout, PageFlag, nr_pageflags};

const FLAGS: &str = include_str!("../../../testing/golden/page_flags.csv");
const CONSTANTS: &str = include_str!("../../../testing/golden/zone_consts.csv");

/// Values by configuration and name; a configuration is era, architecture and short name.
type Rows<'t> = BTreeMap<(&'t str, &'t str, &'t str), BTreeMap<&'t str, (&'t str, &'t str)>>;

fn rows(text: &str) -> (Rows<'_>, BTreeMap<(&str, &str, &str), &str>) {
    let (mut rows, mut descriptions) = (Rows::new(), BTreeMap::new());
    for line in text.lines().skip(1) {
        let parts: Vec<&str> = line.split(',').collect();
        let key = (parts[0], parts[1], parts[2]);
        descriptions.insert(key, parts[3]);
        let values = (parts[5], parts.get(6).copied().unwrap_or(""));
        rows.entry(key).or_default().insert(parts[4], values);
    }
    (rows, descriptions)
}

fn tag_bits(era: Era, description: &str) -> u32 {
    match era {
        _ if description.contains("swtags") => 8,
        Era::V6_1 | Era::V6_12 if description.contains("hwtags") => 8,
        Era::V7_2 if description.contains("hwtags") => 4,
        _ => 0,
    }
}

#[test]
fn every_field_of_every_configuration_is_where_the_headers_put_it() {
    let ((flags, descriptions), (constants, _)) = (rows(FLAGS), rows(CONSTANTS));
    let mut compared = 0;
    for (key, fields) in &flags {
        let constant = |name: &str| constants[key].get(name).and_then(|(value, _)| value.parse::<u32>().ok());
        let (era, description) = (key.0.parse::<Era>().unwrap(), descriptions[key]);
        let cpus: u32 = description.split("cpus").nth(1).unwrap().split([' ', '+']).next().unwrap().parse().unwrap();
        let facts = FlagsFacts {
            era,
            word_bits: if key.1 == "i386" { 32 } else { 64 },
            section_bits: match () {
                () if description.contains("VMEMMAP") || description.contains("FLATMEM") => 0,
                () => constant("SECTIONS_SHIFT").unwrap(),
            },
            nodes_shift: constant("NODES_SHIFT").unwrap_or(0),
            zones: constant("MAX_NR_ZONES").unwrap(),
            balancing_cpu_bits: description.contains("numabal").then(|| cpus.next_power_of_two().ilog2()),
            tag_bits: tag_bits(era, description),
            lru_gen: description.contains("lrugen"),
            nr_pageflags: constant("NR_PAGEFLAGS").unwrap(),
        };
        let options = FlagOptions {
            is_64bit: key.1 != "i386",
            uncached: false,
            hwpoison: description.contains("hwpoison"),
            idle: description.contains("idle"),
            arch_flags: description.contains("mte"),
        };
        assert_eq!(nr_pageflags(era, options), facts.nr_pageflags, "{key:?} {description}");
        let layout = FlagsLayout::new(&facts);
        let ours = [
            ("section", layout.section),
            ("node", layout.node),
            ("zone", layout.zone),
            ("lastcpupid", layout.last_cpupid),
            ("kasantag", layout.tag),
            ("lru_gen", layout.lru_gen),
            ("lru_refs", layout.lru_refs),
        ];
        for (name, field) in ours {
            let Some((shift, width)) = fields.get(name) else { continue };
            let recorded = Field { shift: shift.parse().unwrap_or(0), width: width.parse().unwrap() };
            assert_eq!(field, recorded, "{key:?} {name} of {description}");
            compared += 1;
        }
        let bits = [
            ("PG_head", PageFlag::Head),
            ("PG_reserved", PageFlag::Reserved),
            ("PG_slab", PageFlag::Slab),
            ("PG_private", PageFlag::Private),
        ];
        for (name, flag) in bits {
            let recorded = fields.get(name).map(|(shift, _)| shift.parse::<u32>().unwrap());
            assert_eq!(flag.bit(era), recorded, "{key:?} {name}");
            compared += 1;
        }
    }
    println!("{compared} fields and flags of {} configurations", flags.len());
    assert_eq!(flags.len(), 60);
}
