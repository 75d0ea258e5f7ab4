//! The tests of the running kernel, one program: linked once, not once for each file.

mod books;
mod boot;
#[path = "../../../machines/sim/tests/support/child.rs"]
mod child;
mod common;
mod dense;
mod faults;
mod followers;
mod hvo;
mod ioremap;
mod model_running;
mod pointers;
mod proc;
mod references;
mod refused;
mod reserved;
mod sweep;
