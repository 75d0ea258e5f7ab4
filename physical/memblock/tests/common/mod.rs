//! The small machine on which Linux's own memblock cases run: 32 KiB of memory at 4 GiB.
//!
//! Cases give addresses as offsets from the start of that memory, so that expectations can be read.
#![allow(dead_code, reason = "each test file uses its part")]

use kernmem_base::{Era, Granule, PhysAddr};
use kernmem_memblock::{Flags, Limits, Memblock, MemblockError, Nid, Recorder, Region, Request, UpTo, VecArray};

/// The allocator under test.
pub type Mb = Memblock<VecArray, Recorder>;

/// The eras whose rules are known.
pub const ERAS: [Era; 4] = [Era::V5_10, Era::V6_1, Era::V6_12, Era::V7_2];

/// First byte of the machine's memory.
pub const BASE: u64 = 0x1_0000_0000;
/// Bytes of memory.
pub const SIZE: u64 = 0x8000;

/// Nodes of different sizes that together are the machine's memory: offset and bytes by node number.
pub const NODES: [(u64, u64); 6] =
    [(0x0, 0x2000), (0x2000, 0x800), (0x2800, 0x1000), (0x3800, 0x1800), (0x5000, 0x800), (0x5800, 0x2800)];

/// Which end of memory allocations prefer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dir {
    /// The highest address.
    TopDown,
    /// The lowest address.
    BottomUp,
}

/// Both directions, for the cases that Linux calls generic.
pub const BOTH: [Dir; 2] = [Dir::TopDown, Dir::BottomUp];

/// No memory, lists of 128 regions.
pub fn empty(era: Era) -> Mb {
    let limits = Limits::new_64bit(Granule::K4);
    Memblock::new(era, limits, VecArray::default(), VecArray::default(), Recorder::default())
}

/// The machine's memory without nodes.
pub fn flat(era: Era) -> Mb {
    let mut mb = empty(era);
    mb.add(PhysAddr(BASE), SIZE).unwrap();
    mb
}

/// The machine's memory with [`NODES`].
pub fn nodes(era: Era) -> Mb {
    let mut mb = empty(era);
    for (nid, (offset, size)) in NODES.into_iter().enumerate() {
        mb.add_node(PhysAddr(BASE + offset), size, Nid(nid as u32), Flags::NONE).unwrap();
    }
    mb
}

/// Base and size of each region.
pub fn pairs(regions: &[Region]) -> Vec<(u64, u64)> {
    regions.iter().map(|region| (region.base.0, region.size)).collect()
}

/// A request with offsets in place of addresses.
pub fn request(size: u64, range: core::ops::Range<u64>, nid: Option<u32>) -> Request {
    let (from, max) = (PhysAddr(BASE.wrapping_add(range.start)), UpTo(BASE + range.end));
    Request::new(size, 64).from(from).up_to(max).on(nid.map(Nid))
}

/// An interface under test.
pub type Alloc = fn(&mut Mb, Request) -> Result<PhysAddr, MemblockError>;

/// One allocation: what is taken before, what is asked, what comes out.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    /// How the machine starts.
    pub machine: fn(Era) -> Mb,
    /// The preferred end.
    pub dir: Dir,
    /// Offsets and sizes of what is taken before.
    pub taken: &'a [(u64, u64)],
    /// The request.
    pub request: Request,
    /// The offset of the answer; `None` if there is none.
    pub found: Option<u64>,
    /// Offsets and sizes of what is taken after.
    pub after: &'a [(u64, u64)],
}

impl Case<'_> {
    /// Runs the case in each era with each interface.
    #[track_caller]
    pub fn run(self, interfaces: &[Alloc]) {
        for era in ERAS {
            for alloc in interfaces {
                self.run_one(era, *alloc);
            }
        }
    }

    #[track_caller]
    fn run_one(self, era: Era, alloc: Alloc) {
        let mut mb = (self.machine)(era);
        mb.set_bottom_up(self.dir == Dir::BottomUp);
        for &(offset, size) in self.taken {
            // As the kernel's own, so that 7.2 can merge it with the allocation.
            mb.reserve_as(PhysAddr(BASE + offset), size, self.request.nid, Flags::RSRV_KERN).unwrap();
        }
        let found = alloc(&mut mb, self.request).ok().map(|pa| pa.0 - BASE);
        assert_eq!(found, self.found, "{era} {:?}", self.dir);
        let absolute: Vec<_> = self.after.iter().map(|&(offset, size)| (BASE + offset, size)).collect();
        assert_eq!(pairs(mb.reserved().regions()), absolute, "{era} {:?}", self.dir);
        assert_eq!(mb.reserved_size(), self.after.iter().map(|&(_, size)| size).sum::<u64>());
    }
}
