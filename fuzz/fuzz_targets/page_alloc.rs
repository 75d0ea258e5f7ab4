//! Any bytes as operations of three CPUs on one page allocator and one tree of tables, in either placement: no frame is
//! given twice or lost, figures and free blocks are those of the free frames, and everything comes back.
#![no_main]

use kernmem_base::Era;
use kernmem_page_alloc::Placement;
use kernmem_stress::{BYTES, Format, Length, Machine, Mix, Plan, play};
use libfuzzer_sys::fuzz_target;

/// Operations that one input may hold: bounds the time of a run.
const MOST: usize = 512;

const ERAS: [Era; 4] = [Era::V5_10, Era::V6_1, Era::V6_12, Era::V7_2];

fuzz_target!(|data: &[u8]| {
    let Some((&how, data)) = data.split_first() else { return };
    let placement = if how & 1 == 0 { Placement::Dense } else { Placement::Linux };
    let machine = Machine::new(ERAS[usize::from(how >> 1 & 3)], placement, 3).small();
    let plan = Plan {
        machine,
        format: if how & 8 == 0 { Format::X86 } else { Format::Arm64 },
        mix: if how & 16 == 0 { Mix::All } else { Mix::Typed },
        seed: 0,
        steps: 0,
        length: Length::Rounds(1),
    };
    let Ok(allocator) = machine.allocator() else { return };
    if let Err(broken) = play(&allocator, &plan, &data[..data.len().min(MOST * BYTES)]) {
        panic!("{broken}");
    }
});
