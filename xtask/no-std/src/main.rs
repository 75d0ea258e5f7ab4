//! A program without `main`, libc and std that uses every crate above `machines/`: it only has to link.
//!
//! What a program must bring itself is in `support`. The crates are named even where nothing of them is called: one
//! that needs the standard library would bring its panic handler, and this program has its own.
#![no_std]
#![no_main]

extern crate alloc;

mod support;

use alloc::format;
use core::hint::black_box;

use kernmem as _;
use kernmem_arch as _;
use kernmem_base::{Era, Granule, Pfn};
use kernmem_config as _;
use kernmem_firmware as _;
use kernmem_hugetlb as _;
use kernmem_memblock as _;
use kernmem_mm as _;
use kernmem_page_alloc as _;
use kernmem_pgtable as _;
use kernmem_report as _;
use kernmem_sparse::{Geometry, GeometryFacts, Nid, Sections, SparseArch, VecStore};
use kernmem_slab as _;
use kernmem_view as _;
use kernmem_vmalloc as _;

/// Where a loader would begin; nothing ever loads this.
#[unsafe(no_mangle)]
extern "C" fn _start() -> ! {
    let facts = GeometryFacts::new(SparseArch::Arm64, Era::V6_1, black_box(Granule::K4));
    if let Ok(geometry) = Geometry::new(facts) {
        let mut sections = Sections::new(geometry, VecStore::new());
        let present = sections.memory_present(Nid(0), Pfn(0x4_0000), Pfn(0x8_0000), |_| {});
        black_box(format!("{present:?} {}", sections.present_count()));
    }
    support::stop()
}
