//! Which pages descriptors call reserved: those that the page allocator never got.

use core::sync::atomic::Ordering;

use crate::common::{PRESETS, run, source};
use kernmem_base::Pfn;
use kernmem_sparse::Descriptors;
use kernmem_sparse::page::PageFlag;

/// The image's init part and the whole pages of a RAM disk were freed behind the hand-over; the disk's last page, which
/// is not whole, was not.
#[test]
fn a_page_is_reserved_unless_the_page_allocator_got_it() {
    for preset in PRESETS {
        run(&source(preset, None, Some(160 << 20)), |live| {
            let kernel = &live.running.kernel;
            let mask = PageFlag::Reserved.mask(kernel.era);
            for pfn in kernel.nodes.memory.iter().flat_map(|(_, span)| span.start.0..span.end.0).map(Pfn) {
                let flags = live.running.map.words(pfn).expect("a descriptor")[0].load(Ordering::Relaxed);
                let managed = kernel.pages.allocator.manages(pfn);
                assert_eq!(flags & mask == 0, managed, "{preset}: {:#x}", pfn.0);
            }
        });
    }
}
