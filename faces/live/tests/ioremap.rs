//! Windows of device memory: what is memory is none, as the architecture's Linux sees it, and what no bus has is none.

use crate::books::Books;
use crate::common::{PRESETS, run, source};
use kernmem_arch::Format;
use kernmem_base::{CpuId, Granule, Order, Pfn, PhysAddr, VirtAddr};
use kernmem_live::Live;
use kernmem_page_alloc::{Gfp, PageSource};
use kernmem_vmalloc::VmallocError;

const CPU: CpuId = CpuId(0);
const PAGE: u64 = 4096;

fn ioremap(live: &mut Live<'_>, phys: PhysAddr, size: u64) -> Result<VirtAddr, VmallocError> {
    live.on(CPU, |running, on| running.ioremap(on, phys, size)).0
}

fn close(live: &mut Live<'_>, va: VirtAddr) {
    live.on(CPU, |running, on| running.iounmap(on, va)).0.expect("a window");
    live.on(CPU, |running, on| running.purge(on));
}

fn start_of(pfn: Pfn) -> PhysAddr {
    pfn.to_phys(Granule::K4).expect("an address")
}

/// Runs `work` with a small machine of each preset.
fn on_each(work: impl Fn(&str, &mut Live<'_>)) {
    for preset in PRESETS {
        run(&source(preset, None, Some(160 << 20)), |live| work(preset, live));
    }
}

#[test]
fn memory_of_the_page_allocator_is_no_device() {
    on_each(|preset, live| {
        let pfn = live.running.pages(CPU).expect("the first CPU").alloc(Gfp::KERNEL, Order(0)).expect("a page");
        let before = Books::of(live);
        // In use; any byte of it; free, as its neighbour or the block that it was cut from is.
        assert_eq!(ioremap(live, start_of(pfn), PAGE), Err(VmallocError::Memory { pfn }), "{preset}");
        assert_eq!(ioremap(live, start_of(pfn) + 0xff0, 8), Err(VmallocError::Memory { pfn }), "{preset}");
        live.running.pages(CPU).expect("the first CPU").free(pfn, Order(0)).expect("it was taken");
        assert_eq!(ioremap(live, start_of(pfn), PAGE), Err(VmallocError::Memory { pfn }), "{preset}");
        assert_eq!(ioremap(live, start_of(pfn), 0), Err(VmallocError::Zero), "{preset}");
        let again = live.running.pages(CPU).expect("the first CPU").alloc(Gfp::KERNEL, Order(0));
        assert_eq!(again, Ok(pfn), "{preset}");
        assert_eq!(Books::of(live), before, "{preset}");
        let device = ioremap(live, PhysAddr(1 << 38), PAGE).expect("no memory is there");
        close(live, device);
    });
}

/// x86 asks for each page whether somebody could be given it; arm64 asks what the first page is.
#[test]
fn memory_that_boot_keeps_is_a_device_on_x86_alone() {
    on_each(|preset, live| {
        let kernel = &live.running.kernel;
        let mut frames = kernel.nodes.memory.iter().flat_map(|(_, span)| span.start.0..span.end.0).map(Pfn);
        let is_last_kept =
            |pfn: &Pfn| !kernel.pages.allocator.manages(*pfn) && kernel.pages.allocator.manages(Pfn(pfn.0 + 1));
        let kept = frames.find(is_last_kept).expect("boot keeps pages");
        let (one, two) = (ioremap(live, start_of(kept), PAGE), ioremap(live, start_of(kept), 2 * PAGE));
        if matches!(live.running.facts.format, Format::X86Level4 | Format::X86Level5) {
            close(live, one.expect("a reserved page"));
            assert_eq!(two, Err(VmallocError::Memory { pfn: Pfn(kept.0 + 1) }), "{preset}");
        } else {
            assert_eq!([one, two], [Err(VmallocError::Memory { pfn: kept }); 2], "{preset}");
        }
    });
}

/// Frames behind the end of every bus, also such that no frame follows.
#[test]
fn frames_that_cannot_be_are_not_mapped() {
    on_each(|preset, live| {
        let before = Books::of(live);
        for frames in [[Pfn(u64::MAX), Pfn(0)], [Pfn(0x100), Pfn(u64::MAX)], [Pfn(1 << 52), Pfn((1 << 52) + 1)]] {
            let mapped = live.on(CPU, |running, on| running.vmap(on, &frames)).0;
            assert!(mapped.is_err(), "{preset}: {frames:?}");
            live.on(CPU, |running, on| running.purge(on));
            assert_eq!(Books::of(live), before, "{preset}: {frames:?}");
        }
    });
}

/// A window that no address space of the bus holds is refused by a value.
#[test]
fn a_window_past_the_end_is_refused() {
    on_each(|preset, live| {
        let before = Books::of(live);
        for (phys, size) in [(u64::MAX - 10, 100), (1 << 38, u64::MAX), (1 << 60, PAGE), (u64::MAX, 1)] {
            assert!(ioremap(live, PhysAddr(phys), size).is_err(), "{preset}: {phys:#x} {size:#x}");
            live.on(CPU, |running, on| running.purge(on));
            assert_eq!(Books::of(live), before, "{preset}: {phys:#x} {size:#x}");
        }
    });
}
