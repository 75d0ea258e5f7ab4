//! What a request needs of its machine, and how a pointer leads to its slab.

use core::ptr::NonNull;

use kernmem_base::{Granule, Lent, LinearMem, Order, Pfn, PhysAddr, VirtAddr};
use kernmem_page_alloc::PageSource;

use crate::SlabError;
use crate::list::record_of;
use crate::record::{Ident, SlabPages};

/// The machine as a request sees it: passed to each call, never stored.
#[derive(Debug)]
pub struct Env<'e, P, M, R> {
    /// Who lends pages.
    pub pages: &'e mut P,
    /// How pages are reached.
    pub mem: &'e M,
    /// What is known of pages.
    pub records: &'e R,
}

/// What a pointer points into.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// A slab.
    Slab(SlabPlace),
    /// A block that holds one large request.
    Large { pfn: Pfn, order: Order },
}

/// A place in a slab.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SlabPlace {
    pub(crate) pfn: Pfn,
    pub(crate) pa: PhysAddr,
    pub(crate) order: Order,
    pub(crate) bytes: u64,
    pub(crate) cache: u16,
    pub(crate) generation: u16,
    /// Offset in the slab.
    pub(crate) at: u32,
}

/// The node on whose books pages are that were asked for on `asked`: their own, if there is a place for it. A source
/// that has nothing on a node gives pages of another.
///
/// Source: Linux 6.1 mm/slub.c `allocate_slab`, `inc_slabs_node`.
pub(crate) fn node_of<const NODES: usize>(pages: &impl PageSource, pfn: Pfn, asked: usize) -> usize {
    let own = pages.nid_of(pfn).map(|nid| nid as usize);
    own.filter(|own| *own < NODES).unwrap_or(asked)
}

/// The pointer as an address.
pub(crate) fn va(ptr: NonNull<u8>) -> VirtAddr {
    VirtAddr(ptr.addr().get() as u64)
}

/// Finds what a pointer points into.
pub(crate) fn locate<M, R>(mem: &M, records: &R, granule: Granule, ptr: NonNull<u8>) -> Result<Place, SlabError>
where
    M: LinearMem + ?Sized,
    R: SlabPages + ?Sized,
{
    let foreign = SlabError::NotOurs { va: va(ptr) };
    let pa = mem.pa(ptr).ok_or(foreign)?;
    let frame = pa.pfn(granule);
    let ident = |pfn| records.record(pfn).map_or(Ident::None, Ident::load);
    let (pfn, ident) = match ident(frame) {
        Ident::Tail { back } => {
            let head = Pfn(frame.0.checked_sub(u64::from(back)).ok_or(foreign)?);
            (head, ident(head))
        }
        own => (frame, own),
    };
    match ident {
        Ident::Head { cache, generation, order } => {
            let start = pfn.to_phys(granule).ok_or(foreign)?;
            let (bytes, at) = (granule.bytes() << order.0, (pa - start) as u32);
            Ok(Place::Slab(SlabPlace { pfn, pa: start, order, bytes, cache, generation, at }))
        }
        Ident::Large { order } if pa.is_aligned(granule.bytes()) => Ok(Place::Large { pfn, order }),
        Ident::Large { .. } => Err(SlabError::NotAnObject { va: va(ptr) }),
        Ident::None | Ident::Tail { .. } => Err(foreign),
    }
}

/// Where the slab `pfn` lies, read from its records.
pub(crate) fn slab_place<R>(records: &R, granule: Granule, pfn: Pfn) -> Result<SlabPlace, SlabError>
where
    R: SlabPages + ?Sized,
{
    let lost = SlabError::BrokenChain { slab: pfn };
    let Ident::Head { cache, generation, order } = Ident::load(record_of(records, pfn)?) else { return Err(lost) };
    let pa = pfn.to_phys(granule).ok_or(lost)?;
    Ok(SlabPlace { pfn, pa, order, bytes: granule.bytes() << order.0, cache, generation, at: 0 })
}

impl SlabPlace {
    /// The slab's memory.
    pub(crate) fn lent<'m, M: LinearMem + ?Sized>(&self, mem: &'m M) -> Result<Lent<'m>, SlabError> {
        Lent::new(mem, self.pa, self.bytes).ok_or(SlabError::NoMemory { pa: self.pa })
    }

    /// The error of a chain that leads nowhere.
    pub(crate) const fn broken(&self) -> SlabError {
        SlabError::BrokenChain { slab: self.pfn }
    }
}
