//! All CPUs on one page allocator and one tree of tables: threads that take, give, pass on and move frames, map and unmap
//! pages, with every frame accounted for.
//!
//! * [`Plan`], [`run`]: how many CPUs, which operations, how long; what comes back is a [`Tally`] or what is [`Broken`].
//! * [`play`]: the same without threads, for fuzzing: somebody else chooses the operations.
//! * [`Machine`]: two nodes with five zones, holes, and edges that are no multiple of anything.
//! * [`Subject`]: the allocator as the CPUs see it; tests plant faults here.
//! * [`Owners`]: who has which frame, in the stress's own books.
//! * [`Format`]: the format of the tree of page tables that all CPUs change, with frames from the allocator.
//! * [`naive`]: blocks that a set of free frames must be kept in.
//!
//! Not here: which threads are drawn at what speed: the order in which CPUs meet is the machine's, and only the operations
//! of each are fixed by the seed. The model checker tries the orders (`LOCKS.md`).

mod account;
mod broken;
mod draw;
mod machine;
pub mod naive;
mod op;
mod owners;
mod payload;
mod plan;
mod play;
mod run;
mod subject;
mod tables;
mod tally;
mod word;
mod worker;

pub use broken::{Account, Broken, What};
pub use draw::Draw;
pub use machine::Machine;
pub use op::{Mix, Sort};
pub use owners::Owners;
pub use payload::hand_on_unordered;
pub use plan::{Length, Plan};
pub use play::{BYTES, play};
pub use run::{Progress, run};
pub use subject::{Allocator, Cpu, Figures, Subject};
pub use tables::Format;
pub use tally::{Outcome, Tally};
