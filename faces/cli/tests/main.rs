//! The tests of the command, one program: linked once, not once for each file.

mod answers;
mod builtin;
mod common;
mod eras;
mod failures;
mod flips;
mod info;
mod large;
mod layout_golden;
mod layout_seeds;
mod layouts;
mod minimal;
mod record;
mod shell;
