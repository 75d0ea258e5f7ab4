//! How a run goes: CPUs, operations, seed, length.

use core::time::Duration;

use crate::machine::Machine;
use crate::op::Mix;
use crate::tables::Format;

/// How long a run takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Length {
    /// A number of rounds: with one CPU the same run each time.
    Rounds(u64),
    /// Rounds until the time is up.
    Time(Duration),
}

/// How a run goes.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The machine.
    pub machine: Machine,
    /// The format of the tree of page tables.
    pub format: Format,
    /// What is drawn from.
    pub seed: u64,
    /// Which operations there are.
    pub mix: Mix,
    /// Operations of each CPU between two pauses.
    pub steps: u32,
    /// When it ends.
    pub length: Length,
}
