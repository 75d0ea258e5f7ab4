//! A model in every order that the memory model allows, and how many there were: for tests under `cfg(loom)`.

extern crate std;

use std::println;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// Runs `test` in every order with at most `preemptions` switches away from a thread that could go on, or any number of
/// them, and prints, under the name of the test, how many executions there were. `cargo xtask loom` reads that line.
pub fn explore(preemptions: Option<usize>, test: impl Fn() + Send + Sync + 'static) {
    // Counted beside the model, by an atomic that it does not see.
    let executions = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&executions);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.max_branches = 20_000;
    builder.check(move || {
        // Relaxed: one execution follows the other.
        counter.fetch_add(1, Ordering::Relaxed);
        test();
    });
    let thread = thread::current();
    let name = thread.name().unwrap_or("a model");
    let executions = executions.load(Ordering::Relaxed);
    match preemptions {
        Some(most) => println!("\n{name}: {executions} executions, {most} preemptions"),
        None => println!("\n{name}: {executions} executions, any number of preemptions"),
    }
}
