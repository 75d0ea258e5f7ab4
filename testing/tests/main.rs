//! The tests against recordings, one program: linked once, not once for each file.

mod arm64_kasan;
mod causal;
mod common;
mod eras_x86;
mod exclusions;
mod inputs_only;
mod live;
mod managed;
#[path = "../../machines/sim/tests/manual/mod.rs"]
mod manual;
mod raw_dump;
mod taken;
mod usable_range;
mod verify;
mod walks;
mod wx;
