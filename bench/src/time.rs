//! The timed region of a row.

use core::hint::black_box;
use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::OnceLock;
use std::time::Instant;

use rustix::time::{ClockId, clock_gettime};

/// Operations of all regions: what an instruction counter divides by.
///
/// Relaxed: written and read by the thread that runs the rows.
static OPERATIONS: AtomicU64 = AtomicU64::new(0);

/// CPU time of the calling thread in nanoseconds: time in which the scheduler ran somebody else does not count.
#[must_use]
pub fn cpu_ns() -> u64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// What reading the clock adds to every region: the least that two readings with nothing in between were apart.
static CLOCK: OnceLock<u64> = OnceLock::new();

/// Finds out, once for the program, what reading the clock costs: half a microsecond on some machines, which in the
/// shortest rows is more than what they measure.
pub fn weigh_clock() {
    CLOCK.get_or_init(|| {
        let empty = |_| {
            let begun = cpu_ns();
            cpu_ns() - begun
        };
        (0..1000).map(empty).min().unwrap_or(0)
    });
}

/// Runs the timed region of a row with one thread; returns CPU nanoseconds an operation, less what reading the clock
/// costs if that was weighed.
///
/// Never inlined, so that an instruction counter can collect from its entry to its exit.
#[inline(never)]
pub fn roi<R>(operations: u64, region: impl FnOnce() -> R) -> f64 {
    let begun = cpu_ns();
    black_box(region());
    let ns = (cpu_ns() - begun).saturating_sub(CLOCK.get().copied().unwrap_or(0)) as f64;
    OPERATIONS.fetch_add(operations, Ordering::Relaxed);
    ns / operations as f64
}

/// Runs a region by the wall clock; returns its seconds.
pub fn wall_seconds<R>(region: impl FnOnce() -> R) -> f64 {
    let begun = Instant::now();
    black_box(region());
    begun.elapsed().as_secs_f64()
}

/// Operations of all regions that [`roi`] ran.
#[must_use]
pub fn operations() -> u64 {
    OPERATIONS.load(Ordering::Relaxed)
}
