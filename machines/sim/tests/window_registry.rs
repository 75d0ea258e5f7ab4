//! The registry of a process: alone in its program, since it is filled here.
#![allow(clippy::unwrap_used, reason = "a test stops where an answer is missing")]

mod support;

use kernmem_sim::{WindowError, Windows};
use support::{Arm64, DATA, Kernel, Kind, memory, pages};

#[test]
fn a_full_registry_refuses_and_a_closed_window_makes_room() {
    let memory = memory();
    let mut kernel = Kernel::<Arm64>::new(&memory);
    kernel.map_frames(Arm64::BASE, &[DATA], Arm64::data());
    let windows = Windows::with_cap(&memory, 64).unwrap();
    let open = || windows.open(pages(Arm64::BASE, 2), kernel.root(), Arm64::FORMAT);
    let mut opened: Vec<_> = (0..256).map(|_| open().unwrap()).collect();
    assert!(matches!(open(), Err(WindowError::TooMany { limit: 256 })));
    for (index, window) in opened.iter().enumerate() {
        assert_eq!(window.word(Arm64::BASE), Ok(index as u64));
        window.write(Arm64::BASE, &(index as u64 + 1).to_le_bytes()).unwrap();
    }
    opened.remove(100);
    let again = open().unwrap();
    assert_eq!(again.word(Arm64::BASE), Ok(256));
}
