//! Who stands in which row.
//!
//! A contender is one line of one row: a name, a role, and a function that does one round. What a row means, its limit
//! and its aims are in [`crate::aims`].

use core::cell::OnceCell;
use std::rc::Rc;

use crate::aims::{ROWS, Row};
use crate::densest::Densest;
use crate::floor::Floor;
use crate::frames::{self, FRAMES, Frames};
use crate::linux_model::LinuxModel;
use crate::tables::{self, BLOCKS_1G, BLOCKS_2M, COLD, Crew, HOT, PAGES, Spent, Tables};
use crate::time::weigh_clock;

mod ours;

pub use ours::ours;

/// What a contender is in its row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// What this project ships.
    Ours,
    /// Somebody else's, as a kernel would use it.
    Peer,
    /// A peer without the lock that a kernel needs: what its data structure costs.
    Bare,
    /// What cannot be beaten: the straight loop, the bound of a placement. Nobody's product.
    Bound,
}

/// One contender of one row.
pub struct Contender {
    /// The row's id.
    pub row: &'static str,
    /// The contender's name.
    pub name: &'static str,
    /// What it is.
    pub role: Role,
    /// Which way of ours it is, where a row knows several: a key of the row's aims. Empty otherwise.
    pub variant: &'static str,
    run: Box<dyn Fn() -> f64>,
}

impl core::fmt::Debug for Contender {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Contender").field("row", &self.row).field("name", &self.name).finish_non_exhaustive()
    }
}

impl Contender {
    /// A contender whose rounds are `run`.
    pub fn new(row: &'static str, name: &'static str, role: Role, run: impl Fn() -> f64 + 'static) -> Self {
        Self { row, name, role, variant: "", run: Box::new(run) }
    }

    /// The same as one of several ways of ours.
    #[must_use]
    pub fn with_variant(mut self, variant: &'static str) -> Self {
        self.variant = variant;
        self
    }

    /// Its name, with the variant.
    #[must_use]
    pub fn title(&self) -> String {
        if self.variant.is_empty() { self.name.to_owned() } else { format!("{}, {}", self.name, self.variant) }
    }

    /// One round with its own set-up; returns the figure in the row's unit.
    pub fn round(&self) -> f64 {
        weigh_clock();
        (self.run)()
    }

    /// The row that it stands in.
    ///
    /// # Panics
    /// There is none: a mistake in the lists here.
    #[must_use]
    pub fn row(&self) -> &'static Row {
        ROWS.iter().find(|row| row.id == self.row).expect("a row of the table")
    }
}

/// Rows P1 to P6 of one tree.
pub fn one_thread<T: Tables + 'static>(role: Role) -> Vec<Contender> {
    let of = |row, run: Box<dyn Fn() -> f64>| Contender { row, name: T::NAME, role, variant: "", run };
    let mut all = vec![
        of("P1-4K", Box::new(|| tables::map::<T>(PAGES))),
        of("P1-2M", Box::new(|| tables::map::<T>(BLOCKS_2M))),
        of("P1-1G", Box::new(|| tables::map::<T>(BLOCKS_1G))),
        of("P2-4K", Box::new(|| tables::protect::<T>(PAGES))),
        of("P2-2M", Box::new(|| tables::protect::<T>(BLOCKS_2M))),
        of("P2-1G", Box::new(|| tables::protect::<T>(BLOCKS_1G))),
        of("P3-4K", Box::new(|| tables::unmap::<T>(PAGES))),
        of("P3-2M", Box::new(|| tables::unmap::<T>(BLOCKS_2M))),
        of("P3-1G", Box::new(|| tables::unmap::<T>(BLOCKS_1G))),
        of("P4a", Box::new(tables::one_page::<T>)),
        of("P4b", Box::new(tables::unrelated_pages::<T>)),
    ];
    if T::HAS_SPLIT {
        all.push(of("P5", Box::new(tables::split::<T>)));
    }
    all.push(of("P6-hot", Box::new(|| tables::translate::<T>(HOT))));
    all.push(of("P6-chain", Box::new(tables::translate_dependent::<T>)));
    all.push(of("P6-cold", Box::new(|| tables::translate::<T>(COLD))));
    all
}

/// Rows P1 to P7 of one tree, the last behind a lock.
pub fn locked_tables<T: Tables + 'static>(role: Role) -> Vec<Contender> {
    let mut all = one_thread::<T>(role);
    all.extend(threads(T::NAME, role, tables::threads::<T>));
    all
}

/// Rows P7 of a contender: as it was defined, and long enough for the wall clock to see threads run side by side.
pub fn threads(name: &'static str, role: Role, run: fn(Crew) -> Spent) -> [Contender; 3] {
    let of = |row, run: Box<dyn Fn() -> f64>| Contender { row, name, role, variant: "", run };
    [
        of("P7", Box::new(move || run(Crew { threads: 4, rounds: 1 }).cpu_ns)),
        of("P7-one", Box::new(move || run(Crew { threads: 1, rounds: 100 }).wall_ns)),
        of("P7-all", Box::new(move || run(Crew { threads: cpus(), rounds: 100 }).wall_ns)),
    ]
}

/// Rows F1 to F5 of a pool.
pub fn one_cpu<F: Frames + 'static>(role: Role) -> Vec<Contender> {
    let of = |row, run: Box<dyn Fn() -> f64>| Contender { row, name: F::NAME, role, variant: "", run };
    vec![
        of("F1", Box::new(|| frames::hot_pair::<F>(0))),
        of("F2-3", Box::new(|| frames::hot_pair::<F>(3))),
        of("F2-9", Box::new(|| frames::hot_pair::<F>(9))),
        of("F3", Box::new(frames::burst::<F>)),
        of("F4a", Box::new(frames::bulk::<F>)),
        of("F4b", Box::new(frames::drain::<F>)),
        of("F5-50", Box::new(|| frames::churn::<F>(50))),
        of("F5-90", Box::new(|| frames::churn::<F>(90))),
    ]
}

/// Rows F1 to F8 of a pool that CPUs share.
pub fn shared_frames<F: Frames + 'static>(role: Role) -> Vec<Contender> {
    let of = |row, run: Box<dyn Fn() -> f64>| Contender { row, name: F::NAME, role, variant: "", run };
    let mut all = one_cpu::<F>(role);
    all.push(of("F6", Box::new(|| frames::all_cpus::<F>(cpus()))));
    all.extend(huge_blocks::<F>(role, 1));
    all.push(of("F8", Box::new(frames::metadata::<F>)));
    all
}

/// The rows F7, one for each of [`frames::IN_USE`].
const F7: [&str; 3] = ["F7-50", "F7-25", "F7-10"];

/// Row F7 of a pool with `cpus` CPUs: one sequence of operations says what all three rows ask.
pub fn huge_blocks<F: Frames + 'static>(role: Role, cpus: usize) -> Vec<Contender> {
    let figures: Rc<OnceCell<[f64; 3]>> = Rc::default();
    let of = |(at, row): (usize, &'static str)| {
        let figures = Rc::clone(&figures);
        Contender::new(row, F::NAME, role, move || figures.get_or_init(|| frames::free_blocks::<F>(cpus))[at])
    };
    F7.into_iter().enumerate().map(of).collect()
}

/// Row F9 of a pool, with 1 TiB.
pub fn bring_up<F: Frames + 'static>(role: Role) -> Contender {
    Contender::new("F9", F::NAME, role, || frames::bring_up::<F>(FRAMES_1T))
}

/// Row F9 of a pool with a large record for each page: 64 GiB, and the figure times 16.
pub fn bring_up_of_part<F: Frames + 'static>(role: Role) -> Contender {
    Contender::new("F9", F::NAME, role, || 16.0 * frames::bring_up::<F>(FRAMES_1T / 16))
}

/// Frames of 1 TiB.
pub const FRAMES_1T: usize = FRAMES << 8;

/// CPUs that take part in rows with all of them.
#[must_use]
pub fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, core::num::NonZero::get)
}

/// The contenders that are nobody's product.
#[must_use]
pub fn models() -> Vec<Contender> {
    let mut all = locked_tables::<Floor>(Role::Bound);
    all.extend(shared_frames::<LinuxModel>(Role::Peer));
    all.push(bring_up_of_part::<LinuxModel>(Role::Peer));
    all.extend(huge_blocks::<Densest>(Role::Bound, 1));
    all
}
