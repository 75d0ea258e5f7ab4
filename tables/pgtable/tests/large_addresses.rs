//! Memory whose addresses have more bits than 48: their parts stand apart in an entry, and runs go over the seam.
#![allow(clippy::unwrap_used, reason = "a test stops where an answer is missing")]

use kernmem_arch::EntryFormat;
use kernmem_arch::arm64::Arm64;
use kernmem_base::{PhysAddr, PhysRange, VirtRange};
use kernmem_pgtable::heap::HeapMem;
use kernmem_pgtable::{Mapping, Sizes, Tables, Walk, translate};

/// Maps `pages` pages around `seam`, in a table that is there or in a new one, and reads each.
fn over<F: EntryFormat>(seam: u64, attrs: u64, is_fresh: bool) {
    let granule = F::shape().granule;
    let page = granule.bytes();
    let mem = HeapMem::with_frames(PhysRange::new(PhysAddr(0), PhysAddr(8 * page)), granule);
    let mut tables = Tables::<F, _>::new(&mem, mem.take_root());
    let start = F::shape().root_range(1, true).start;
    let mut map = |first: u64, pages: u64, pa: u64| {
        let run = VirtRange::of_size(start + first * page, pages * page).unwrap();
        let mapping = Mapping::<F>::new(PhysAddr(pa), F::attrs(attrs), Sizes::PAGES);
        tables.cursor(run).map(&mut mem.frames(), &mapping).unwrap().forgive("nothing was mapped there");
    };
    if !is_fresh {
        map(20, 1, 0);
    }
    map(0, 6, seam - 3 * page);
    for number in 0..6 {
        let walk = translate::<F, _>(&mem, tables.root(), start + number * page + 5).unwrap();
        let Walk::Mapped { pa, attrs: found, .. } = walk else { panic!("{walk:?}") };
        assert_eq!((pa.0, F::bits(found)), (seam - 3 * page + number * page + 5, attrs), "{seam:#x}");
    }
}

#[test]
fn a_run_goes_over_the_end_of_a_part_of_the_address() {
    for is_fresh in [true, false] {
        over::<Arm64<16, 52>>(1 << 48, 0x00e8_0000_0000_0703, is_fresh);
        over::<Arm64<16, 48>>(0xf << 48, 0x00e8_0000_0000_0703, is_fresh);
        over::<Arm64<12, 52>>(1 << 50, 0x00e8_0000_0000_0403, is_fresh);
        over::<Arm64<14, 52>>(3 << 50, 0x00e8_0000_0000_0403, is_fresh);
    }
}
