//! The GFP word against the constants of compiled kernels: every row of `testing/golden/gfp.csv`.

use std::collections::BTreeMap;

use kernmem_base::Era;
use kernmem_page_alloc::{Gfp, GfpFacts, LateBit, ZoneKind, ZoneKinds};
use kernmem_sparse::MigrateType;

const GOLDEN: &str = include_str!("../../../testing/golden/gfp.csv");

fn kind(name: &str) -> ZoneKind {
    *ZoneKind::ALL.iter().find(|kind| kind.name() == name).expect(name)
}

fn kinds(text: &str) -> ZoneKinds {
    let mut kinds = ZoneKinds::EMPTY;
    for (at, part) in text.split(' ').enumerate() {
        let (name, number) = part.split_once('=').expect(part);
        assert_eq!(number.parse::<usize>(), Ok(at), "zones are numbered without gaps: {text}");
        kinds = kinds.with(kind(name));
    }
    for part in text.split(' ') {
        let (name, number) = part.split_once('=').expect(part);
        assert_eq!(kinds.index(kind(name)), number.parse().ok(), "{text}");
    }
    kinds
}

fn flag(name: &str, era: Era, facts: GfpFacts) -> Option<Gfp> {
    Some(match name.trim_start_matches("__GFP_") {
        "DMA" => Gfp::DMA,
        "HIGHMEM" => Gfp::HIGHMEM,
        "DMA32" => Gfp::DMA32,
        "MOVABLE" => Gfp::MOVABLE,
        "RECLAIMABLE" => Gfp::RECLAIMABLE,
        "HIGH" => Gfp::HIGH,
        "IO" => Gfp::IO,
        "FS" => Gfp::FS,
        "ZERO" => Gfp::ZERO,
        "DIRECT_RECLAIM" => Gfp::DIRECT_RECLAIM,
        "KSWAPD_RECLAIM" => Gfp::KSWAPD_RECLAIM,
        "RECLAIM" => Gfp::RECLAIM,
        "WRITE" => Gfp::WRITE,
        "NOWARN" => Gfp::NOWARN,
        "RETRY_MAYFAIL" => Gfp::RETRY_MAYFAIL,
        "NOFAIL" => Gfp::NOFAIL,
        "NORETRY" => Gfp::NORETRY,
        "MEMALLOC" => Gfp::MEMALLOC,
        "COMP" => Gfp::COMP,
        "NOMEMALLOC" => Gfp::NOMEMALLOC,
        "HARDWALL" => Gfp::HARDWALL,
        "THISNODE" => Gfp::THISNODE,
        "ACCOUNT" => Gfp::ACCOUNT,
        "ATOMIC" => return LateBit::Atomic.bit(era, facts),
        "ZEROTAGS" => return LateBit::ZeroTags.bit(era, facts),
        "SKIP_ZERO" => return LateBit::SkipZero.bit(era, facts),
        "SKIP_KASAN" => return LateBit::SkipKasan.bit(era, facts),
        "NO_OBJ_EXT" => return LateBit::NoObjExt.bit(era, facts),
        other => panic!("a bit that nobody knows: {other}"),
    })
}

fn mask(name: &str, era: Era, facts: GfpFacts) -> Gfp {
    match name {
        "GFP_ATOMIC" => Gfp::atomic(era),
        "GFP_KERNEL" => Gfp::KERNEL,
        "GFP_KERNEL_ACCOUNT" => Gfp::KERNEL_ACCOUNT,
        "GFP_NOWAIT" => Gfp::nowait(era),
        "GFP_NOIO" => Gfp::NOIO,
        "GFP_NOFS" => Gfp::NOFS,
        "GFP_USER" => Gfp::USER,
        "GFP_DMA" => Gfp::DMA,
        "GFP_DMA32" => Gfp::DMA32,
        "GFP_HIGHUSER" => Gfp::HIGHUSER,
        "GFP_HIGHUSER_MOVABLE" => Gfp::highuser_movable(era, facts),
        "GFP_TRANSHUGE_LIGHT" => Gfp::transhuge_light(era, facts),
        "GFP_TRANSHUGE" => Gfp::transhuge(era, facts),
        other => panic!("a mask that nobody knows: {other}"),
    }
}

/// The table that a kernel packs its zone choice into, rebuilt from our choice.
fn packed_table(kinds: ZoneKinds, shift: u32) -> (u64, u32) {
    let (mut table, mut bad) = (0, 0);
    for word in 0..16_u32 {
        match Gfp(word).zone(kinds) {
            Ok(kind) => table |= (kinds.index(kind).expect("a configured zone") as u64) << (word * shift),
            Err(_) => bad |= 1 << word,
        }
    }
    (table, bad)
}

fn check_choice(line: &str, gfp: Gfp, kinds: ZoneKinds, zone: &str, kind: &str) {
    let own_zone = gfp.zone(kinds).map_or("BAD", ZoneKind::name);
    assert_eq!(own_zone, zone, "{line}");
    let own_kind = match gfp.migrate_type() {
        Ok(MigrateType::Unmovable) => "Unmovable",
        Ok(MigrateType::Movable) => "Movable",
        Ok(MigrateType::Reclaimable) => "Reclaimable",
        Ok(other) => panic!("no request asks for {other:?}"),
        Err(_) => "INVALID",
    };
    assert_eq!(own_kind, kind, "{line}");
}

#[test]
fn every_row_of_every_kernel_is_ours() {
    let mut zones = BTreeMap::new();
    let mut rows = BTreeMap::new();
    for line in GOLDEN.lines().skip(1) {
        let cells: Vec<&str> = line.split(',').collect();
        let [era, arch, config, what, name, word, zone, kind] = cells[..] else { panic!("{line}") };
        let parsed: Era = era.parse().unwrap();
        let facts = GfpFacts { kasan_hw_tags: config == "4k48hwtags", lockdep: false, slab_obj_ext: true };
        if what == "zones" {
            zones.insert((era, arch, config), kinds(name));
            *rows.entry(era).or_insert(0) += 1;
            continue;
        }
        let kinds = zones[&(era, arch, config)];
        let value = u64::from_str_radix(word.trim_start_matches("0x"), 16).expect(line);
        match what {
            "bits" => check_choice(line, Gfp(value as u32), kinds, zone, kind),
            "flag" => {
                assert_eq!(flag(name, parsed, facts), Some(Gfp(value as u32)), "{line}");
                check_choice(line, Gfp(value as u32), kinds, zone, kind);
            }
            "mask" => {
                assert_eq!(mask(name, parsed, facts), Gfp(value as u32), "{line}");
                check_choice(line, Gfp(value as u32), kinds, zone, kind);
            }
            "table" => {
                let shift = zone.strip_prefix("shift=").and_then(|s| s.parse().ok()).expect(line);
                let bad = u32::from_str_radix(kind.trim_start_matches("bad=0x"), 16).expect(line);
                assert_eq!(packed_table(kinds, shift), (value, bad), "{line}");
            }
            other => panic!("a kind of row that nobody knows: {other}"),
        }
        *rows.entry(era).or_insert(0) += 1;
    }
    let total: usize = rows.values().sum();
    println!("gfp.csv: {total} rows agree, by era {rows:?}");
    assert_eq!(total, GOLDEN.lines().count() - 1, "a row was skipped");
}
