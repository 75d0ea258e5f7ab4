//! Every lab runs as it is, and `docs/claims.md` tells what it found.

mod common;

use common::{lab, options};
use kernmem_labs::LABS;

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
