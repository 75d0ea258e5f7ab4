//! Our contenders in their rows.

use kernmem_arch::arm64::Arm64;
use kernmem_arch::i386::{I386Level2, I386Pae};
use kernmem_arch::x86::{X86Level4, X86Level5};
use kernmem_base::{Granule, Slot, VirtAddr};
use kernmem_sparse::{Model, SparseArch};

use super::{Contender, Role, bring_up, huge_blocks, one_thread, shared_frames, threads};
use crate::ours::formats::Measured;
use crate::ours::models::{self, Way, Who};
use crate::ours::{frames, ready, shared, tables};
use crate::tables as work;
use crate::tables::{COLD, HOT, Leaf, Span};

/// Rows of a format by its own page size, held against the other formats.
///
/// Mapping and protecting is moving memory: each format has 2 MiB of entries, and these rows are by 8 bytes of them. What
/// unmapping costs is one store and one frame for each leaf table, so that row is by table, with as many tables as in P3.
/// A translation reads one entry for each level, so that row is by level.
fn own_pages<F: Measured>() -> Vec<Contender> {
    const WORDS: u64 = (2 << 20) / 8;
    let of = |row, run: fn() -> f64| Contender::new(row, F::NAME, Role::Ours, run);
    let by_words = 8.0 / F::Slot::BYTES as f64;
    let pages = Span { leaf: Leaf::Page, leaves: WORDS * 8 / F::Slot::BYTES };
    vec![
        Contender::new("P1-own", F::NAME, Role::Ours, move || by_words * work::map::<tables::Ours<F>>(pages)),
        Contender::new("P2-own", F::NAME, Role::Ours, move || by_words * work::protect::<tables::Ours<F>>(pages)),
        of("P3-own", || {
            work::unmap_tables::<tables::Ours<F>>(F::shape().levels[F::shape().levels.len() - 1].entries() as u64)
        }),
        of("P6-own", || work::translate::<tables::Ours<F>>(HOT) / F::shape().levels.len() as f64),
    ]
}

/// Rows P1 to P7 of a format; the tree of P7 has no outer lock.
fn one_tree<F: Measured>() -> Vec<Contender> {
    let mut all = one_thread::<tables::Ours<F>>(Role::Ours);
    all.extend(threads(F::NAME, Role::Ours, shared::threads::<F>));
    all
}

/// Other ways of ours to translate: from a table of pages that is remembered, and in batches.
fn other_translations<F: Measured>() -> Vec<Contender> {
    let of = |row, run: fn() -> f64| Contender::new(row, F::NAME, Role::Ours, run);
    vec![
        of("P6-hot", || work::translate_by(HOT, tables::Ours::<F>::translate_cached)).with_variant("cache"),
        of("P6-chain", || work::translate_dependent_by(tables::Ours::<F>::translate_cached)).with_variant("cache"),
        of("P6-cold", || work::translate_batch(COLD, VirtAddr, tables::Ours::<F>::translate_batch))
            .with_variant("batch"),
    ]
}

/// Rows S1 and S2: the flat array first, since others are told by it. A flat array and a vmemmap know no sections, so
/// they stand there once; i386's sections reach to 64 GiB.
fn conversions() -> Vec<Contender> {
    const X86_64: (SparseArch, Granule) = (SparseArch::X86_64, Granule::K4);
    const ARM64: (SparseArch, Granule) = (SparseArch::Arm64, Granule::K4);
    const ARM64_64K: (SparseArch, Granule) = (SparseArch::Arm64, Granule::K64);
    const I386: (SparseArch, Granule) = (SparseArch::I386Pae, Granule::K4);
    let model = |model, (arch, granule)| Who::Model(model, arch, granule);
    let who = [
        ("flat", "", model(Model::Flat, X86_64)),
        ("any", "vmemmap", model(Model::Vmemmap, X86_64)),
        ("x86-64", "static", model(Model::Static, X86_64)),
        ("x86-64", "extreme", model(Model::Extreme, X86_64)),
        ("arm64 4K", "static", model(Model::Static, ARM64)),
        ("arm64 4K", "extreme", model(Model::Extreme, ARM64)),
        ("arm64 64K", "static", model(Model::Static, ARM64_64K)),
        ("arm64 64K", "extreme", model(Model::Extreme, ARM64_64K)),
        ("i386 PAE", "static", model(Model::Static, I386)),
        ("nothing", "", Who::Nothing),
    ];
    let rows = ["S1-hot", "S1-hot-chain", "S1-64G", "S1-64G-chain", "S1-16T", "S1-16T-chain"].map(|row| (row, false));
    let back = ["S2-hot", "S2-hot-chain", "S2-64G", "S2-64G-chain", "S2-16T", "S2-16T-chain"].map(|row| (row, true));
    let mut all = Vec::new();
    for (row, back) in rows.into_iter().chain(back) {
        let reach = match row {
            _ if row.contains("16T") => 16 << 40,
            _ if row.contains("64G") => 64 << 30,
            _ => 1,
        };
        let way = Way { reach, back, chained: row.ends_with("chain") };
        for (name, variant, who) in who {
            if reach > 64 << 30 && name.contains("i386") {
                continue;
            }
            let role = if who == Who::Nothing { Role::Bound } else { Role::Ours };
            all.push(Contender::new(row, name, role, move || models::round(who, way)).with_variant(variant));
        }
    }
    all
}

/// Our contenders of every row.
#[must_use]
pub fn ours() -> Vec<Contender> {
    let mut all = one_tree::<Arm64<12, 48>>();
    all.extend(one_tree::<X86Level4>());
    all.extend(other_translations::<Arm64<12, 48>>());
    all.extend(other_translations::<X86Level4>());
    all.extend(own_pages::<Arm64<12, 39>>());
    all.extend(own_pages::<Arm64<12, 48>>());
    all.extend(own_pages::<Arm64<12, 52>>());
    all.extend(own_pages::<Arm64<14, 36>>());
    all.extend(own_pages::<Arm64<14, 47>>());
    all.extend(own_pages::<Arm64<14, 48>>());
    all.extend(own_pages::<Arm64<14, 52>>());
    all.extend(own_pages::<Arm64<16, 42>>());
    all.extend(own_pages::<Arm64<16, 48>>());
    all.extend(own_pages::<Arm64<16, 52>>());
    all.extend(own_pages::<X86Level4>());
    all.extend(own_pages::<X86Level5>());
    all.extend(own_pages::<I386Pae>());
    all.extend(own_pages::<I386Level2>());
    all.extend(shared_frames::<frames::Ours<true>>(Role::Ours));
    all.extend(
        shared_frames::<frames::Ours<false>>(Role::Ours).into_iter().map(|one| one.with_variant("Linux's order")),
    );
    all.extend(huge_blocks::<frames::Ours<true>>(Role::Ours, 2).into_iter().map(|one| one.with_variant("2 CPUs")));
    all.push(bring_up::<ready::Ready<false>>(Role::Ours).with_variant("lazy"));
    all.push(bring_up::<ready::Ready<true>>(Role::Ours).with_variant("eager"));
    all.push(bring_up::<frames::Ours<true>>(Role::Ours).with_variant("lazy, on the heap"));
    all.extend(conversions());
    all
}
