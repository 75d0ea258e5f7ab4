//! Every lab runs as it is, and `docs/claims.md` tells what it found.

use std::collections::BTreeMap;
use std::path::Path;

use crate::common::{lab, options, recording};
use kernmem_base::Era;
use kernmem_labs::{LABS, LabError, LabOptions, Language, find, run};

#[test]
fn every_lab_judges_the_claims_that_it_names() {
    for one in LABS {
        for reverse in [false, true] {
            let found = lab(one.name, &options(None, reverse));
            let mut judged: Vec<_> = found.verdicts.iter().map(|verdict| verdict.claim).collect();
            judged.dedup();
            assert_eq!(judged, one.claims, "{}", one.name);
        }
    }
}

/// A preset and a moved kernel of each architecture; a lab of one architecture refuses the other's.
#[test]
fn every_lab_runs_both_ways_on_two_machines() {
    let moved = ["arm64/a-kaslr-rodata-off", "x86/x-4G-kaslr"].map(recording);
    let machines = ["arm64-4g", "x86-4g"].map(str::to_owned).into_iter().chain(moved);
    let machines: Vec<String> = machines.collect();
    let i386 = ["i386-2g".to_owned(), recording("x86/i386-2G")];
    for one in LABS {
        let mut served = 0;
        let more: &[String] = if one.name.ends_with("i386") { &i386 } else { &[] };
        for machine in machines.iter().chain(more) {
            let both = [false, true].map(|reverse| {
                let mut told = String::new();
                run(one, &options(Some(machine.clone()), reverse), &mut told)
            });
            match both {
                [Ok(forward), Ok(backward)] => {
                    for verdicts in [forward, backward] {
                        let mut judged: Vec<_> = verdicts.iter().map(|verdict| verdict.claim).collect();
                        judged.dedup();
                        assert_eq!(judged, one.claims, "{} on {machine}", one.name);
                    }
                    served += 1;
                }
                [Err(LabError::Architecture { .. }), _] | [_, Err(LabError::Architecture { .. })] => {}
                other => panic!("{} on {machine}: {other:?}", one.name),
            }
        }
        assert!(served >= 2, "{} runs on {served} of these machines", one.name);
    }
}

/// Claim and era to lab and cell of the tables.
fn cells() -> BTreeMap<(String, &'static str), (String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/claims.md");
    let text = std::fs::read_to_string(path).expect("the document of claims");
    let mut cells = BTreeMap::new();
    for line in text.lines() {
        let row: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [claim, _, lab, verdicts @ ..] = row.as_slice() else { continue };
        if verdicts.len() != Era::ALL.len() || !claim.starts_with("00") {
            continue;
        }
        for (era, verdict) in Era::ALL.into_iter().zip(verdicts) {
            cells.insert(((*claim).to_owned(), era.name()), ((*lab).to_owned(), (*verdict).to_owned()));
        }
    }
    cells
}

#[test]
fn the_document_of_claims_tells_every_verdict() {
    let mut cells = cells();
    assert_eq!(cells.len(), 39 * 5);
    for one in LABS {
        for verdict in lab(one.name, &options(None, false)).verdicts {
            let key = (verdict.claim.to_string(), verdict.era.name());
            let (name, cell) = cells.remove(&key).unwrap_or_else(|| panic!("{key:?} is not in the document"));
            let word = verdict.holds.word().trim_start_matches("only ");
            assert_eq!((name.as_str(), cell.as_str()), (one.name, word), "{key:?}");
        }
    }
    let untested: Vec<_> = cells.iter().filter(|(_, (_, cell))| cell != "–").collect();
    assert!(untested.is_empty(), "{untested:?}");
}

#[test]
fn a_verdict_tells_its_condition_with_its_numbers() {
    let found = lab("flip", &options(None, false));
    let because = found.verdict("001.3", Era::V5_10).because(Language::English).unwrap();
    assert!(because.contains("ffff800010000000") && because.contains("ffffa00010000000"), "{because}");
    assert_eq!(found.verdict("001.1", Era::V6_1).because(Language::English), None);
    assert!(found.told.contains("4.14: yes (UNVERIFIED)"), "{}", found.told);
}

#[test]
fn claims_about_arm64_refuse_another_machine() {
    let options = options(Some("x86-4g".to_owned()), false);
    for name in ["linear-map", "flip", "ttbr", "boot-tables"] {
        let error = run(find(name).unwrap(), &options, &mut String::new()).unwrap_err();
        assert!(!error.is_beyond() && error.to_string().contains("arm64"), "{name}: {error}");
    }
}

#[test]
fn a_kernel_that_does_not_boot_is_beyond_or_told_by_rules() {
    let mut options = LabOptions::default();
    options.parts.cmdline = Some("percpu_alloc=page".to_owned());
    let error = run(find("walk").unwrap(), &options, &mut String::new()).unwrap_err();
    assert!(error.is_beyond(), "{error}");
    assert!(find("nothing").is_none());
}
