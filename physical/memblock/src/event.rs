//! What memblock tells while it works: plain data, no text.
//!
//! Here: [`Event`], one value per line that `memblock=debug` prints (and per warning), and [`Observer`].
//! Not here: the text of a line (`kernmem-report`), events that own their lists (`log`).
//!
//! Source: Linux 5.10–7.2 mm/memblock.c `memblock_dbg`.

use kernmem_base::PhysAddr;

use crate::{Flags, ListKind, Nid, Region, UpTo};

/// The interface whose name an allocation's line starts with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Api {
    /// `memblock_alloc_try_nid`, and `memblock_alloc`, `_from`, `_low`, `_node`, `_or_panic`, which end there.
    TryNid,
    /// `memblock_alloc_try_nid_raw` and `memblock_alloc_raw`.
    TryNidRaw,
    /// `memblock_alloc_exact_nid_raw`.
    ExactNidRaw,
}

/// Something that memblock did or was asked for. Sizes are those of the call, before they are cut to the address
/// space, so `base + size` may wrap.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// Memory was added without a node.
    Add {
        /// First byte.
        base: PhysAddr,
        /// Bytes.
        size: u64,
    },
    /// Memory was added with a node (6.1 and later).
    AddNode {
        /// First byte.
        base: PhysAddr,
        /// Bytes.
        size: u64,
        /// The node.
        nid: Option<Nid>,
        /// The flags.
        flags: Flags,
    },
    /// Memory was removed.
    Remove {
        /// First byte.
        base: PhysAddr,
        /// Bytes.
        size: u64,
    },
    /// Memory was taken.
    Reserve {
        /// First byte.
        base: PhysAddr,
        /// Bytes.
        size: u64,
        /// The node, which only 7.2 records.
        nid: Option<Nid>,
        /// The flags, which only 7.2 gives.
        flags: Flags,
    },
    /// Taken memory was given back.
    Free {
        /// First byte.
        base: PhysAddr,
        /// Bytes.
        size: u64,
    },
    /// Memory was given back after the hand-over (up to 6.12).
    FreeLate {
        /// First byte.
        base: PhysAddr,
        /// Bytes.
        size: u64,
    },
    /// A virtual interface was asked for memory.
    Alloc {
        /// The interface.
        api: Api,
        /// Bytes.
        size: u64,
        /// Alignment in bytes, 0 if none was given.
        align: u64,
        /// The node asked for.
        nid: Option<Nid>,
        /// Lowest address.
        from: PhysAddr,
        /// Upper bound, as given.
        max: UpTo,
    },
    /// The physical interface was asked for memory (6.1 and later).
    PhysAllocRange {
        /// Bytes.
        size: u64,
        /// Alignment in bytes, 0 if none was given.
        align: u64,
        /// Lowest address.
        from: PhysAddr,
        /// Upper bound, as given.
        max: UpTo,
    },
    /// A list has grown to twice its size.
    Doubled {
        /// The list.
        list: ListKind,
        /// Regions that fit now.
        entries: usize,
        /// First byte of the new storage.
        base: PhysAddr,
        /// Bytes of the new storage, not rounded to pages.
        size: u64,
    },
    /// A list could not grow: there is no free memory for it. Printed without `memblock=debug` too.
    DoubleFailed {
        /// The list.
        list: ListKind,
        /// Regions that fit.
        from: usize,
        /// Regions that should have fitted.
        to: usize,
    },
    /// No mirrored memory was left; other memory is tried. Printed without `memblock=debug` too.
    MirrorExhausted {
        /// Bytes asked for.
        size: u64,
    },
    /// A limit was set before any memory was added (6.1 and later). Printed without `memblock=debug` too.
    CapWithoutMemory,
    /// Too much memory has no node (6.12 and later). Printed without `memblock=debug` too.
    Uncovered {
        /// Bytes in whole pages without a node.
        bytes: u64,
        /// Bytes of all memory.
        total: u64,
    },
    /// Both lists, whole.
    Dump(Dump<'a>),
}

impl Event<'_> {
    /// Whether the line appears only with `memblock=debug`.
    #[must_use]
    pub const fn needs_debug(&self) -> bool {
        !matches!(
            self,
            Self::DoubleFailed { .. } | Self::MirrorExhausted { .. } | Self::CapWithoutMemory | Self::Uncovered { .. }
        )
    }
}

/// Both lists at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Dump<'a> {
    /// Memory that exists.
    pub memory: &'a [Region],
    /// Memory that is taken.
    pub reserved: &'a [Region],
    /// Bytes of memory, as Linux counts them.
    pub memory_size: u64,
    /// Bytes taken.
    pub reserved_size: u64,
}

/// Who listens.
pub trait Observer {
    /// Takes notice of `event`.
    fn event(&mut self, event: Event<'_>);

    /// Whether a request for `size` bytes may be served; one that may not fails as if there were no memory. Who wants
    /// to see what a failure comes to refuses one request after the other.
    fn permits(&mut self, _size: u64) -> bool {
        true
    }
}

/// Nobody listens.
impl Observer for () {
    fn event(&mut self, _event: Event<'_>) {}
}

impl<O: Observer + ?Sized> Observer for &mut O {
    fn event(&mut self, event: Event<'_>) {
        (**self).event(event);
    }

    fn permits(&mut self, size: u64) -> bool {
        (**self).permits(size)
    }
}
