//! The host's limit of mappings a process: alone in its program, since it is reached here.
#![allow(clippy::unwrap_used, reason = "a test stops where an answer is missing")]

mod support;

use kernmem_base::VirtRange;
use kernmem_pgtable::Sizes;
use kernmem_sim::Windows;
use support::{DATA, Kernel, Kind, PAGE, X86, mark_all, memory, pages};

/// Pages of one window.
const EACH: u64 = 20_000;

/// Each page of these windows wants a mapping of its own; the host gives a process 65,530 unless told otherwise.
#[test]
fn windows_keep_within_the_mappings_that_the_host_gives_a_process() {
    let memory = memory();
    let frames = [DATA, DATA + 2 * PAGE];
    mark_all(&memory, &frames);
    let mut kernel = Kernel::<X86>::new(&memory);
    let frame_of = |page: u64| frames[(page % 2) as usize];
    for page in 0..4 * EACH {
        kernel.map(pages(X86::BASE + page * PAGE, 1), frame_of(page), X86::data(), Sizes::PAGES);
    }
    let windows = Windows::with_cap(&memory, EACH as usize).unwrap();
    let opened = [0, 1, 2, 3].map(|index| {
        let start = X86::BASE + index * EACH * PAGE;
        (windows.open(pages(start, EACH), kernel.root(), X86::FORMAT).unwrap(), start)
    });
    for (window, start) in opened.iter().chain(&opened[..1]) {
        // Every other page first, so that the pieces between them are mappings as well.
        for page in (0..EACH).step_by(2).chain((1..EACH).step_by(2)) {
            assert_eq!(window.word(*start + (page * PAGE + 8)), Ok(frame_of(page) + 8));
        }
    }
    let counters = opened.each_ref().map(|(window, _)| window.counters());
    let live: usize = counters.iter().map(|counters| counters.live).sum();
    assert!(live <= windows.process_cap() + 4 * Windows::MIN_CAP, "{counters:?}");
    assert!(counters.iter().all(|counters| counters.live >= Windows::MIN_CAP), "{counters:?}");
    let has_evicted = counters.iter().any(|counters| counters.evictions > 0);
    assert_eq!(has_evicted, windows.process_cap() < 4 * EACH as usize, "{counters:?}");
    windows.flush(VirtRange::ALL);
    assert!(opened.iter().all(|(window, _)| window.counters().live == 0));
}
