//! What is known of a slab: five words for each of its frames, beside the memory and never in it.
//!
//! Here: how records are reached ([`SlabPages`]), what their words hold. Not here: lists of slabs (`list`), free chains
//! (`chain`).
//!
//! # Invariants
//! 1. A frame of a slab names its first frame, cache and order; a frame of nobody has an empty identity.
//! 2. The state word belongs to the CPU that owns the slab, or to who holds the slab allocator exclusively.
//! 3. The remote word holds owner and remote chain together, so that nobody frees to an owner that has gone.
//!
//! Source: Linux 6.1 mm/slab.h `struct slab`: what a page descriptor holds for a slab; the remote chain is ours.

use kernmem_base::sync::atomic::{AtomicU64, Ordering};
use kernmem_base::{Order, Pfn};
#[cfg(not(loom))]
use kernmem_sparse::Descriptors;

/// Words of a record.
pub const RECORD_WORDS: usize = 5;

/// The record of one frame; zeros for a frame that is none of the slab allocator's.
pub type Record = [AtomicU64; RECORD_WORDS];

/// Where the slab allocator keeps what it knows of frames.
pub trait SlabPages {
    /// The record of a frame; `None` if it has none.
    fn record(&self, pfn: Pfn) -> Option<&Record>;
}

impl<R: SlabPages + ?Sized> SlabPages for &R {
    fn record(&self, pfn: Pfn) -> Option<&Record> {
        (**self).record(pfn)
    }
}

/// Records in page descriptors: their words 1 to 5, as Linux keeps a slab there. Words 0, 6 and 7 are left alone.
#[derive(Debug)]
pub struct DescriptorPages<'d, D: ?Sized>(pub &'d D);

#[cfg(not(loom))]
impl<D: Descriptors + ?Sized> SlabPages for DescriptorPages<'_, D> {
    fn record(&self, pfn: Pfn) -> Option<&Record> {
        self.0.words(pfn).ok()?.get(1..=RECORD_WORDS)?.try_into().ok()
    }
}

/// Records in an array that the caller lends: that of `first`, and those after it.
#[derive(Clone, Copy, Debug)]
pub struct LentPages<'r> {
    first: Pfn,
    records: &'r [Record],
}

impl<'r> LentPages<'r> {
    /// `records` are those of the frames from `first`; all zero at the beginning.
    #[must_use]
    pub const fn new(first: Pfn, records: &'r [Record]) -> Self {
        Self { first, records }
    }
}

impl SlabPages for LentPages<'_> {
    fn record(&self, pfn: Pfn) -> Option<&Record> {
        self.records.get(usize::try_from(pfn.0.checked_sub(self.first.0)?).ok()?)
    }
}

const IDENT: usize = 0;
const STATE: usize = 1;
const REMOTE: usize = 2;
const NEXT: usize = 3;
const PREV: usize = 4;

/// Marks a word as an identity of ours: page descriptors have other users.
const MAGIC: u64 = 0x51ab << 48;
const MAGIC_MASK: u64 = 0xffff << 48;

/// What a frame is to the slab allocator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ident {
    /// Nothing.
    None,
    /// The first frame of a slab.
    Head { cache: u16, generation: u16, order: Order },
    /// A later frame of a slab: its first lies `back` frames before it.
    Tail { back: u16 },
    /// The first frame of a request that was too large for a cache.
    Large { order: Order },
}

impl Ident {
    fn to_word(self) -> u64 {
        match self {
            Self::None => 0,
            Self::Head { cache, generation, order } => {
                MAGIC | u64::from(generation) << 32 | 1 << 24 | u64::from(order.0) << 16 | u64::from(cache)
            }
            Self::Tail { back } => MAGIC | 2 << 24 | u64::from(back),
            Self::Large { order } => MAGIC | 3 << 24 | u64::from(order.0) << 16,
        }
    }

    fn of_word(word: u64) -> Self {
        let order = Order((word >> 16) as u8);
        match (word & MAGIC_MASK == MAGIC, word as u32 >> 24) {
            (true, 1) => Self::Head { cache: word as u16, generation: (word >> 32) as u16, order },
            (true, 2) => Self::Tail { back: word as u16 },
            (true, 3) => Self::Large { order },
            _ => Self::None,
        }
    }

    /// Relaxed: who asks for the frame of a live object got that object from its allocator, and with it all that was
    /// written before.
    pub(crate) fn load(record: &Record) -> Self {
        Self::of_word(record[IDENT].load(Ordering::Relaxed))
    }

    /// Relaxed: as for `load`.
    pub(crate) fn store(self, record: &Record) {
        record[IDENT].store(self.to_word(), Ordering::Relaxed);
    }
}

/// On which list of its node a slab is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum OnList {
    /// On none: full, or a CPU's.
    None,
    /// Some objects are free, perhaps all.
    Partial,
    /// Full slab of a checked cache.
    Full,
}

/// The state word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct State {
    /// Offset of the first free object, plus 1; 0 if none is free.
    pub(crate) head: u32,
    /// Objects that are not on the free chain.
    pub(crate) inuse: u16,
    /// Node that the slab counts for.
    pub(crate) node: u8,
    /// Where it is listed.
    pub(crate) list: OnList,
}

impl State {
    /// Relaxed: invariant 2 leaves one reader.
    pub(crate) fn load(record: &Record) -> Self {
        let word = record[STATE].load(Ordering::Relaxed);
        let list = match word >> 56 {
            1 => OnList::Partial,
            2 => OnList::Full,
            _ => OnList::None,
        };
        Self { head: word as u32, inuse: (word >> 32) as u16, node: (word >> 48) as u8, list }
    }

    /// Relaxed: invariant 2 leaves one writer; a change of owner publishes it.
    pub(crate) fn store(self, record: &Record) {
        let list = match self.list {
            OnList::None => 0,
            OnList::Partial => 1,
            OnList::Full => 2u64,
        };
        let word = u64::from(self.head) | u64::from(self.inuse) << 32 | u64::from(self.node) << 48 | list << 56;
        record[STATE].store(word, Ordering::Relaxed);
    }
}

/// The remote word: whose slab it is, and what others freed into it meanwhile.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Remote {
    /// Offset of the first object of the remote chain, plus 1; 0 if it is empty.
    pub(crate) head: u32,
    /// Objects on it.
    pub(crate) count: u16,
    /// Number of the owning CPU plus 1; 0 if no CPU owns the slab.
    pub(crate) owner: u16,
}

impl Remote {
    pub(crate) const UNOWNED: Self = Self::owned_by(0);

    /// Owned by `owner`, with nothing freed.
    pub(crate) const fn owned_by(owner: u16) -> Self {
        Self { head: 0, count: 0, owner }
    }

    fn to_word(self) -> u64 {
        u64::from(self.head) | u64::from(self.count) << 32 | u64::from(self.owner) << 48
    }

    fn of_word(word: u64) -> Self {
        Self { head: word as u32, count: (word >> 32) as u16, owner: (word >> 48) as u16 }
    }

    /// Relaxed: a CPU finds itself as the owner only if it made itself so; whatever else is found is confirmed by
    /// `exchange` or under the allocator's exclusive borrow.
    pub(crate) fn load(record: &Record) -> Self {
        Self::of_word(record[REMOTE].load(Ordering::Relaxed))
    }

    /// Replaces the word. Acquire: pairs with `exchange` of those who freed, whose links are read next. Release: the
    /// state word of a slab that changes its owner was written before.
    pub(crate) fn swap(self, record: &Record) -> Self {
        Self::of_word(record[REMOTE].swap(self.to_word(), Ordering::AcqRel))
    }

    /// Replaces the word if it is still `self`. Release: the link of the object that is freed was written before, and
    /// pairs with `swap`. A failure gives what is there now.
    pub(crate) fn exchange(self, new: Self, record: &Record) -> Result<(), Self> {
        let word = &record[REMOTE];
        let done = word.compare_exchange(self.to_word(), new.to_word(), Ordering::Release, Ordering::Relaxed);
        done.map(drop).map_err(Self::of_word)
    }
}

fn to_link(pfn: Option<Pfn>) -> u64 {
    pfn.map_or(0, |pfn| pfn.0 + 1)
}

/// The neighbours on a list. Relaxed: lists belong to one CPU, or to who holds the slab allocator exclusively.
pub(crate) fn next(record: &Record) -> Option<Pfn> {
    record[NEXT].load(Ordering::Relaxed).checked_sub(1).map(Pfn)
}

pub(crate) fn prev(record: &Record) -> Option<Pfn> {
    record[PREV].load(Ordering::Relaxed).checked_sub(1).map(Pfn)
}

pub(crate) fn set_next(record: &Record, pfn: Option<Pfn>) {
    record[NEXT].store(to_link(pfn), Ordering::Relaxed);
}

pub(crate) fn set_prev(record: &Record, pfn: Option<Pfn>) {
    record[PREV].store(to_link(pfn), Ordering::Relaxed);
}

/// Forgets everything about a frame.
pub(crate) fn clear(record: &Record) {
    record.iter().for_each(|word| word.store(0, Ordering::Relaxed));
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::vec::Vec;

    use kernmem_base::{BusError, BusFault, PhysAddr};

    use super::*;

    #[test]
    fn words_say_what_was_stored() {
        let record = Record::default();
        assert_eq!(Ident::load(&record), Ident::None);
        for ident in [
            Ident::Head { cache: 0xffff, generation: 0xabcd, order: Order(10) },
            Ident::Tail { back: 1023 },
            Ident::Large { order: Order(10) },
        ] {
            ident.store(&record);
            assert_eq!(Ident::load(&record), ident);
        }
        let state = State { head: u32::MAX, inuse: 32767, node: 255, list: OnList::Full };
        state.store(&record);
        assert_eq!(State::load(&record), state);
        let remote = Remote { head: 1 << 26, count: 32767, owner: 1024 };
        assert_eq!(remote.swap(&record), Remote::UNOWNED);
        assert_eq!(Remote::UNOWNED.exchange(remote, &record), Err(remote));
        assert_eq!(remote.exchange(Remote::owned_by(3), &record), Ok(()));
    }

    struct Table(Vec<[AtomicU64; 8]>);

    impl Descriptors for Table {
        fn words(&self, pfn: Pfn) -> Result<&[AtomicU64], BusError> {
            let hole = BusError { pa: PhysAddr(0), fault: BusFault::Hole };
            self.0.get(pfn.0 as usize).map(|words| &words[..]).ok_or(hole)
        }
    }

    #[test]
    fn records_in_descriptors_leave_three_words_alone() {
        let table = Table((0..2).map(|_| Default::default()).collect());
        let pages = DescriptorPages(&table);
        let record = pages.record(Pfn(1)).unwrap();
        record.iter().for_each(|word| word.store(7, Ordering::Relaxed));
        let words = table.0[1].each_ref().map(|word| word.load(Ordering::Relaxed));
        assert_eq!(words, [0, 7, 7, 7, 7, 7, 0, 0]);
        assert!(pages.record(Pfn(2)).is_none());
    }
}

/// The remote word in every order that the memory model allows:
/// `RUSTFLAGS="--cfg loom" cargo test -p kernmem-slab --lib --release model`.
#[cfg(all(test, loom))]
mod model {
    use std::vec::Vec;

    use kernmem_base::sync::explore;
    use loom::sync::Arc;
    use loom::thread;

    use super::*;

    const OWNER: u16 = 1;

    /// A slab's record, and the link in each of its objects; object `at` has the offset `at`.
    struct Shared {
        record: Record,
        links: [AtomicU64; 2],
    }

    impl Shared {
        fn owned() -> Arc<Self> {
            let shared = Self { record: Default::default(), links: Default::default() };
            shared.links.iter().for_each(|link| link.store(u64::from(u32::MAX), Ordering::Relaxed));
            Remote::owned_by(OWNER).swap(&shared.record);
            Arc::new(shared)
        }

        /// As `Freed::to_remote`, with links that the model checker watches.
        fn free(&self, at: u32) -> bool {
            let mut remote = Remote::load(&self.record);
            while remote.owner != 0 {
                self.links[at as usize].store(u64::from(remote.head), Ordering::Relaxed);
                let new = Remote { head: at + 1, count: remote.count + 1, ..remote };
                match remote.exchange(new, &self.record) {
                    Ok(()) => return true,
                    Err(now) => remote = now,
                }
            }
            false
        }

        /// Takes the remote chain over; the objects on it.
        fn take(&self) -> Vec<u32> {
            let remote = Remote::owned_by(OWNER).swap(&self.record);
            let (mut objects, mut head) = (Vec::new(), remote.head);
            while let Some(at) = head.checked_sub(1) {
                objects.push(at);
                head = self.links[at as usize].load(Ordering::Relaxed) as u32;
            }
            assert_eq!(objects.len(), usize::from(remote.count));
            objects
        }
    }

    #[test]
    fn what_two_cpus_free_reaches_the_owner_once_and_linked() {
        explore(None, || {
            let shared = Shared::owned();
            let free = |at| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || assert!(shared.free(at), "the owner stays"))
            };
            let threads = [free(0), free(1)];
            let mut objects = shared.take();
            for thread in threads {
                thread.join().expect("a thread that ends");
            }
            objects.extend(shared.take());
            objects.sort_unstable();
            assert_eq!(objects, [0, 1]);
        });
    }

    #[test]
    fn an_owner_lets_go_only_of_a_slab_into_which_nobody_freed() {
        explore(None, || {
            let shared = Shared::owned();
            let other = {
                let shared = Arc::clone(&shared);
                thread::spawn(move || shared.free(0))
            };
            let left = Remote::owned_by(OWNER).exchange(Remote::UNOWNED, &shared.record).is_ok();
            let freed = other.join().expect("a thread that ends");
            assert_ne!(left, freed, "an object is on the chain of a slab with an owner, or the allocator is asked");
            if freed {
                assert_eq!(shared.take(), [0]);
            }
        });
    }
}
