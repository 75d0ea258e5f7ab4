//! Programs' roots follow the kernel's where its top changes, also for an area that nobody asked for by itself.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::common::source;
use kernmem_base::{CpuId, PhysAddr, PhysRead, VirtAddr};
use kernmem_live::{Live, Options};
use kernmem_mm::{History, KernelSharing};
use kernmem_vmalloc::{Caller, Request};

const CPU: CpuId = CpuId(0);
const PAGE: u64 = 4096;
/// What one entry of a root translates.
const SLOT: u64 = 512 << 30;

/// The first slot is filled, so that the array of page pointers gets the second and the area, as asked, one further on.
#[test]
fn the_array_of_a_large_area_is_followed_too() {
    let source = source("x86-4g", None, Some(160 << 20));
    let memory = Live::memory(&source).expect("memory of the host");
    let options = Options { preallocates: false, ..Options::default() };
    let mut live = Live::start(&memory, &source, options).expect("a kernel that runs");
    let shared = live.on(CPU, |running, on| running.share(on, KernelSharing::AtMapping, History::Right)).0;
    assert_eq!(shared, Ok(Some(0)));
    let pid = live.on(CPU, |running, on| running.spawn(on)).0.expect("a program");

    let start = live.running.facts.vmalloc_range().start;
    let second = VirtAddr((start.0 / SLOT + 1) * SLOT);
    let used = live.running.areas.areas().map(|area| area.start + area.size).filter(|end| *end <= second).max();
    let rest = second - used.unwrap_or(start) - PAGE;
    live.on(CPU, |running, on| {
        let filler = Request { end: second, ..running.areas.request(rest, Caller(0)) };
        running.areas.get_vm_area(on.tlb, &filler).expect("the rest of the first slot");
    });
    let asked = Request { start: second + 2 * SLOT, ..live.running.areas.request(513 * PAGE, Caller(0)) };
    let va = live.on(CPU, |running, on| running.vmalloc_request(on, asked)).0.expect("an area");
    let array = live.running.areas.find_vm_area(va).and_then(|area| area.array).expect("an array of its own");
    assert_eq!([array.0 / SLOT, va.0 / SLOT], [second.0 / SLOT, second.0 / SLOT + 2]);

    let root = live.running.processes.root(pid).expect("a program");
    for va in [array, va] {
        let index = (va.0 / SLOT % 512) as usize;
        let raw = |root: PhysAddr| {
            let table = memory.table::<AtomicU64>(root, 512).expect("a table");
            table[index].load(Ordering::Relaxed)
        };
        assert_eq!(raw(root), raw(live.running.kernel.roots.kernel), "{va}");
        assert_ne!(raw(root), 0, "{va}");
    }
}
