//! The dense frame field: which frames of one zone are free, shared by all CPUs without a lock, and what one CPU keeps
//! of it for itself.
//!
//! * [`mem`]: the memory that a field lives in, lent by the caller.
//! * [`Field`]: bits, block entries and index of one zone; takes words, runs and blocks, the lowest address first.
//! * [`CpuFrames`]: one CPU's own frames, reached through `&mut` alone.
//!
//! ```text
//! line     512 bits, one a frame, 1 = free                 opened in chunks of 64 lines
//! entry    of each block: free frames, 0 to a whole block; LAZY: all are free, and the bits were not written
//! index    for each migrate type three bitmaps over blocks, each a tree of 64 branches:
//!            partly used    some frames are free, not all
//!            has a run      eight aligned frames may be free, not all
//!            wholly free
//! ```
//! A *block* has 512 frames, or a pageblock's if that is smaller.
//! Not here: what a block is meant for (the caller's map, [`Kinds`]), zones, watermarks, what a request may have.
//!
//! # Protocol
//! Three steps take frames: the entry is lowered by as many as are wanted (they are *promised*), then the bits are
//! cleared, then what was promised and not found is added back. Two steps give: the bits are set, then the entry is
//! raised. So at every moment
//! 1. what an entry counts plus what is promised is at most the number of set bits of its block;
//! 2. an entry that counts a whole block has no promise open and no giver at work: who lowers it to 0 owns every frame;
//! 3. a bit that a giver finds set was free already: it is left alone and not counted, and the giver is told.
//!
//! The index is a hint. Who moves an entry into a class sets the class's bit afterwards, always by a
//! read-modify-write; who clears a bit looks at the entry again and sets what it says. Of a setter and a clearer the
//! later one has therefore seen the earlier one's entry, and no free block stays without its bit. A bit without its
//! block costs a look.
//! A request may fail while another CPU stands between two of its steps; what is counted then is taken by that CPU or
//! comes back.
//!
//! # Orderings
//! | access | ordering | partner |
//! |---|---|---|
//! | bits, `fetch_or` by a giver | `AcqRel` | `fetch_and` by a taker: it sees what the giver did with the frame |
//! | bits, `fetch_and` by a taker | `AcqRel` | `fetch_or`, as above |
//! | bits of a block that is taken whole, `store` | `Release` | a look: who finds a word empty sees its entry lowered |
//! | entry, raised by a giver | `AcqRel` | lowered by a taker: it sees the bits that are counted |
//! | entry, lowered by a taker | `AcqRel`, `Relaxed` on failure | raised, as above |
//! | index, set and cleared | `AcqRel` | each other: the clearer's second look at the entry sees what the setter saw |
//! | level | `Relaxed` | none: a figure that may be stale |
//! | loads before a read-modify-write | `Acquire` or `Relaxed` | guesses, checked by it |

mod census;
mod cpu;
mod entry;
mod field;
mod give;
#[cfg(all(feature = "alloc", not(loom)))]
mod heap;
mod inbox;
mod index;
mod magazine;
pub mod mem;
mod open;
mod search;
mod set;
mod shape;
mod take;
mod word;

pub use census::Counts;
pub use cpu::{At, CpuFrames, Want};
pub use field::{Field, Kinds};
pub use give::Doubled;
pub use set::CpuSet;
pub use shape::Shape;
pub use word::Word;
