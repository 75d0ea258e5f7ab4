//! Our contenders in their rows.

use kernmem_arch::arm64::Arm64;
use kernmem_arch::i386::{I386Level2, I386Pae};
use kernmem_arch::x86::{X86Level4, X86Level5};

use super::{Contender, Role, bring_up, huge_blocks, locked_tables, shared_frames};
use crate::ours::formats::Measured;
use crate::ours::{frames, tables};
use crate::tables as work;
use crate::tables::{HOT, Leaf, PAGES, Span};

/// Rows of a format by its own page size, held against the other formats.
///
/// Mapping and protecting is by entry, with as many entries as in rows P1 and P2. What unmapping costs is one store and
/// one frame for each leaf table, so that row is by table, with as many tables as in P3; a translation reads one entry
/// for each level, so that row is by level.
fn own_pages<F: Measured>() -> Vec<Contender> {
    let of = |row, run: fn() -> f64| Contender::new(row, F::NAME, Role::Ours, run);
    vec![
        of("P1-own", || work::map::<tables::Ours<F>>(PAGES)),
        of("P2-own", || work::protect::<tables::Ours<F>>(PAGES)),
        of("P3-own", || {
            let entries = F::shape().levels[F::shape().levels.len() - 1].entries() as u64;
            entries as f64 * work::unmap::<tables::Ours<F>>(Span { leaf: Leaf::Page, leaves: 512 * entries })
        }),
        of("P6-own", || work::translate::<tables::Ours<F>>(HOT) / F::shape().levels.len() as f64),
    ]
}

/// Our contenders of every row.
#[must_use]
pub fn ours() -> Vec<Contender> {
    let mut all = locked_tables::<tables::Ours<Arm64<12, 48>>>(Role::Ours);
    all.extend(locked_tables::<tables::Ours<X86Level4>>(Role::Ours));
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
    all.extend(shared_frames::<frames::Ours<false>>(Role::Ours));
    all.extend(huge_blocks::<frames::Ours<true>>(Role::Ours, 2).into_iter().map(|one| one.with_variant("2 CPUs")));
    all.push(bring_up::<frames::Ours<true>>(Role::Ours).with_variant("lazy"));
    all
}
