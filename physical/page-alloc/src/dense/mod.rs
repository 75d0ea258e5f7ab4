//! The dense frame field: which frames of one zone are free, shared by all CPUs without a lock, and what one CPU keeps
//! of it for itself.
//!
//! * [`mem`]: the memory that a field lives in, lent by the caller.
//! * [`Field`]: bits, block entries and index of one zone; takes words, runs and blocks, the lowest address first.
//! * [`CpuFrames`]: one CPU's own frames, reached through `&mut` alone.
//!
//! ```text
//! line     512 bits, one a frame, 1 = free                 opened in chunks of 64 lines
//! entry    of each block: LAZY if all are free and the bits were not written
//! index    for each migrate type three bitmaps over blocks, each a tree of 64 branches:
//!            partly used    some frames are free, not all
//!            has a run      eight aligned frames may be free, not all
//!            wholly free
//! ```
//! A *block* has 512 frames, or a pageblock's if that is smaller; its bits lie in one line.
//! Not here: what a block is meant for (the caller's map, [`Kinds`]), zones, watermarks, what a request may have.
//!
//! # Protocol
//! The bits alone say what is free, so that a frame costs one atomic operation on its way out and one on its way back, or
//! less where several of a word go together:
//! 1. who clears a bit that was set has the frame; who wants several takes them one word after another, and gives back
//!    what it has if one is missing;
//! 2. who sets a bit that was clear has given the frame; a bit that was set is left alone and the giver is told;
//! 3. who makes a lazy entry a written one owns every frame of the block, and sets the bits of those it does not keep.
//!
//! The index is a hint: a block with free frames has a bit once nobody is at work, partly used or whole. Who sets the
//! first bit of a word, fills a word, or completes a run sets the block's bit afterwards, always by a read-modify-write;
//! who clears a bit of the index looks at the block again and sets what it finds. Of a setter and a clearer the later one
//! has therefore seen what the earlier one saw, and no free block stays without a bit. A bit of another class costs a
//! look, which moves it.
//! A request may fail while another CPU stands between two of its steps; what is missing then is taken by that CPU or
//! comes back.
//!
//! Hand-over is a fourth kind of step (`handover`): frames that were never handed over are in nobody's reach, so their
//! bits or entries are stored, without a read-modify-write; the index is set last, as above.
//!
//! # Orderings
//! | access | ordering | partner |
//! |---|---|---|
//! | bits, `fetch_or` by a giver | `AcqRel` | `fetch_and` by a taker: it sees what the giver did with the frame |
//! | bits, `fetch_and` and `compare_exchange` by a taker | `AcqRel`, `Relaxed` on failure | `fetch_or`, as above |
//! | bits that are handed over, `store` behind a fence | `Release` | a taker, as above |
//! | fence of who fills a word | `SeqCst` | the same of who fills another word of the block: the later one sees both full |
//! | entry, made lazy by a `store`, made written | `Release`, `AcqRel` | who makes it written sees what was done with the frames |
//! | index, set and cleared | `AcqRel` | each other: the clearer's second look at the block sees what the setter saw |
//! | level | `Relaxed` | none: a figure that may be stale |
//! | loads before a read-modify-write | `Acquire` or `Relaxed` | guesses, checked by it |

mod census;
mod cpu;
mod entry;
mod field;
mod give;
mod handover;
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
