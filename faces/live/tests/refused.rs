//! Each request of a boot for memory fails once: of the boot allocator, then of the page allocator. Boot ends with an
//! error that says so, or does without, and never by a panic.

use crate::common::{PRESETS, recording, source};
use kernmem::{Boot, BootError, Witness};
use kernmem_live::Live;
use kernmem_memblock::{Event, Observer};
use kernmem_source::Source;

/// Refuses one request of the boot allocator, and all frames of the page allocator from one on.
struct Refuser {
    before: u64,
    late: u64,
    asked: u64,
}

impl Observer for Refuser {
    fn event(&mut self, _event: Event<'_>) {}

    fn permits(&mut self, _size: u64) -> bool {
        self.asked += 1;
        self.asked != self.before.saturating_add(1)
    }
}

impl Witness for Refuser {
    fn late_frames(&mut self) -> u64 {
        self.late
    }
}

/// What came of a boot, and how often it asked the boot allocator.
fn boots(source: &Source, before: u64, late: u64) -> (Result<u64, BootError>, u64) {
    let boot = Boot::new(&source.machine, &source.config);
    let memory = Live::memory(source).expect("memory of the host");
    let mut refuser = Refuser { before, late, asked: 0 };
    let frames = kernmem_live::boot(&memory, &boot, &mut refuser).map(|kernel| kernel.pages.in_use());
    (frames, refuser.asked)
}

fn sweep(name: &str, source: &Source) {
    let (whole, requests) = boots(source, u64::MAX, u64::MAX);
    let frames = whole.expect("a boot that gets everything");
    assert!(requests > 20 && frames > 0, "{name}: {requests} requests, {frames} frames");
    let mut failures = 0;
    let mut fails = |before, late| match boots(source, before, late).0 {
        Ok(_) => {}
        Err(BootError::Beyond(what)) => panic!("{name}: {what}"),
        Err(error) => {
            failures += 1;
            let said = error.to_string();
            assert!(said.contains("no memory") || said.contains("free bytes") || said.contains("no frame"), "{said}");
        }
    };
    (0..requests).for_each(|nth| fails(nth, u64::MAX));
    (0..frames).for_each(|nth| fails(u64::MAX, nth));
    assert!(failures * 2 > requests + frames, "{name}: {failures} of {requests} and {frames}");
}

#[test]
fn a_preset_whose_nth_request_fails_ends_with_an_error() {
    for preset in PRESETS {
        sweep(preset, &source(preset, None, Some(256 << 20)));
    }
}

#[test]
fn so_does_a_machine_with_nodes_with_isolation_and_with_areas_set_aside() {
    for name in ["x86/x-2node", "arm64/a-hugepages", "x86/x-4G-pti"] {
        sweep(name, &recording(name).1);
    }
}
