//! Each exclusion is needed: without it a recording that it applies to turns red.

use std::path::Path;

use kernmem_verify::{Exclusion, verify, verify_without};

/// Recordings that an exclusion applies to; the list is the test's, the predicates know no names.
const WITNESSES: [(Exclusion, &str, &str); 6] = [
    (Exclusion::VmallocArea, "arm64", "a-4G"),
    (Exclusion::VmallocShadow, "arm64", "kasan-2G"),
    (Exclusion::FreePages, "arm64", "a-dpa"),
    (Exclusion::HugePool, "x86", "x-hvo"),
    (Exclusion::UserHalf, "x86", "x-4G"),
    (Exclusion::LostLogHead, "arm64", "a-4G-memblock-full"),
];

#[test]
fn without_an_exclusion_its_recording_turns_red() {
    for (exclusion, set, name) in WITNESSES {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings").join(set).join(name);
        let whole = verify(&path).unwrap();
        assert!(whole.is_equal(), "{name}");
        let excluded = whole.files.iter().flat_map(|file| &file.excluded);
        assert!(
            excluded.clone().any(|(one, count)| *one == exclusion && *count > 0),
            "{name}: {exclusion:?} took nothing"
        );
        assert!(!verify_without(&path, Some(exclusion)).unwrap().is_equal(), "{name} is equal without {exclusion:?}");
    }
}

#[test]
fn free_pages_of_x86_are_needed_too() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings/x86/x-dpa");
    assert!(!verify_without(&path, Some(Exclusion::FreePages)).unwrap().is_equal());
}
