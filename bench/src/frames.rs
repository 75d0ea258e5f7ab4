//! Rows F1 to F9: page frames.
//!
//! What a CPU has for itself comes to each call as `&mut`; a contender without such a thing has an empty one. Set-up
//! lies outside [`roi`], and the same seed gives every contender the same operations.

use core::hint::black_box;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::Barrier;

use crate::rng::Rng;
use crate::time::{cpu_ns, roi, wall_seconds};

/// A pool of page frames numbered from 0.
pub trait Frames: Sync + Send + Sized {
    /// Name in the tables of results.
    const NAME: &'static str;
    /// What one CPU has for itself.
    type Cpu: Send;
    /// How it writes a frame number.
    type Pfn: Copy + Default + Send;

    /// What a kernel has before it makes such a pool, and no row times.
    fn prepare(_frames: usize, _cpus: usize) {}
    /// `frames` free frames, and what each of `cpus` CPUs has for itself.
    fn new(frames: usize, cpus: usize) -> (Self, Vec<Self::Cpu>);
    /// Takes a block of `2^order` frames.
    fn alloc(&self, cpu: &mut Self::Cpu, order: u32) -> Option<Self::Pfn>;
    /// Gives a block back.
    fn free(&self, cpu: &mut Self::Cpu, pfn: Self::Pfn, order: u32);
    /// The frame's number.
    fn number(pfn: Self::Pfn) -> u64;
    /// Fills `out` with single frames in one call; false, and nothing kept, if there are too few.
    fn alloc_bulk(&self, cpu: &mut Self::Cpu, out: &mut [Self::Pfn]) -> bool {
        for done in 0..out.len() {
            let Some(pfn) = self.alloc(cpu, 0) else {
                out[..done].iter().for_each(|&pfn| self.free(cpu, pfn, 0));
                return false;
            };
            out[done] = pfn;
        }
        true
    }
    /// Gives single frames back in one call.
    fn free_bulk(&self, cpu: &mut Self::Cpu, pfns: &[Self::Pfn]) {
        pfns.iter().for_each(|&pfn| self.free(cpu, pfn, 0));
    }
    /// Bytes of records for the whole pool; 0 if nobody knows.
    fn metadata_bytes(&self) -> usize {
        0
    }
    /// Of `frames` frames those that are not lost to records.
    #[must_use]
    fn usable(frames: usize) -> usize {
        frames
    }
}

/// Frames of every row but F9: 4 GiB.
pub const FRAMES: usize = 1 << 20;

/// log2 of the frames of a 2 MiB block.
const BLOCK: u32 = 9;

/// A pool with its first CPU.
fn pool<F: Frames>(cpus: usize) -> (F, Vec<F::Cpu>) {
    let (frames, made) = F::new(FRAMES, cpus);
    assert_eq!(made.len(), cpus, "{}", F::NAME);
    (frames, made)
}

/// Takes a block that must be there.
#[inline(always)]
fn take<F: Frames>(frames: &F, cpu: &mut F::Cpu, order: u32) -> F::Pfn {
    frames.alloc(cpu, order).expect("the pool has frames")
}

#[inline(always)]
fn pair<F: Frames>(frames: &F, cpu: &mut F::Cpu, order: u32) {
    let pfn = black_box(frames.alloc(cpu, order)).expect("the pool has frames");
    frames.free(cpu, pfn, order);
}

/// F1 (order 0) and F2 (orders 3 and 9): a block taken and given back at once. ns a pair.
pub fn hot_pair<F: Frames>(order: u32) -> f64 {
    let (frames, mut cpus) = pool::<F>(2);
    let cpu = &mut cpus[0];
    let pairs = if order == 0 { 400_000 } else { 200_000 };
    (0..1000).for_each(|_| pair(&frames, cpu, order));
    roi(pairs, || (0..pairs).for_each(|_| pair(&frames, cpu, order)))
}

/// F3: 512 frames taken, then given back in the same order. ns a pair.
pub fn burst<F: Frames>() -> f64 {
    let (frames, mut cpus) = pool::<F>(2);
    let cpu = &mut cpus[0];
    let mut held = vec![F::Pfn::default(); 512];
    let rounds = 400;
    roi(rounds * held.len() as u64, || {
        for _ in 0..rounds {
            for place in &mut held {
                *place = take(&frames, cpu, 0);
            }
            for &pfn in &held {
                frames.free(cpu, pfn, 0);
            }
        }
    })
}

/// F4a: 512 frames in one call and back in one. ns a frame.
pub fn bulk<F: Frames>() -> f64 {
    let (frames, mut cpus) = pool::<F>(2);
    let cpu = &mut cpus[0];
    let mut held = vec![F::Pfn::default(); 512];
    let rounds = 400;
    roi(rounds * held.len() as u64, || {
        for _ in 0..rounds {
            assert!(frames.alloc_bulk(cpu, &mut held), "the pool has frames");
            frames.free_bulk(cpu, &held);
        }
    })
}

/// F4b: every frame of the pool taken, then all given back in random order. ns a pair.
pub fn drain<F: Frames>() -> f64 {
    let (frames, mut cpus) = pool::<F>(2);
    let cpu = &mut cpus[0];
    let all = F::usable(FRAMES);
    let mut held = Vec::with_capacity(FRAMES);
    let mut order: Vec<u32> = (0..all as u32).collect();
    let mut rng = Rng::new(5);
    for at in (1..order.len()).rev() {
        order.swap(at, rng.below(at + 1));
    }
    roi(all as u64, || {
        while let Some(pfn) = frames.alloc(cpu, 0) {
            held.push(pfn);
        }
        for &at in &order {
            if let Some(&pfn) = held.get(at as usize) {
                frames.free(cpu, pfn, 0);
            }
        }
    })
}

/// Frees random ones of `held` until `left` are left.
fn shrink<F: Frames>(frames: &F, cpu: &mut F::Cpu, held: &mut Vec<F::Pfn>, left: usize, rng: &mut Rng) {
    while held.len() > left {
        let at = rng.below(held.len());
        frames.free(cpu, held.swap_remove(at), 0);
    }
}

/// F5: `percent` of the pool in use by single frames; each step gives a random one back and takes another, and every
/// 64th also takes and gives a block of order 3. ns a step.
pub fn churn<F: Frames>(percent: usize) -> f64 {
    let (frames, mut cpus) = pool::<F>(2);
    let cpu = &mut cpus[0];
    let all = F::usable(FRAMES);
    let mut held: Vec<F::Pfn> = (0..all).map_while(|_| frames.alloc(cpu, 0)).collect();
    let mut rng = Rng::new(9);
    shrink(&frames, cpu, &mut held, all / 100 * percent, &mut rng);
    let steps: u64 = 1_000_000;
    let places: Vec<u32> = (0..steps).map(|_| rng.below(held.len()) as u32).collect();
    roi(steps, || {
        for (step, &at) in places.iter().enumerate() {
            let place = &mut held[at as usize];
            frames.free(cpu, *place, 0);
            *place = take(&frames, cpu, 0);
            if step % 64 == 0
                && let Some(block) = frames.alloc(cpu, 3)
            {
                frames.free(cpu, block, 3);
            }
        }
    })
}

/// F6: each CPU does F1. CPU ns a pair, mean of the CPUs.
pub fn all_cpus<F: Frames>(cpus: usize) -> f64 {
    let (frames, made) = pool::<F>(cpus);
    let barrier = Barrier::new(cpus);
    let cpu_time = AtomicU64::new(0);
    let pairs: u64 = 400_000;
    std::thread::scope(|scope| {
        for mut cpu in made {
            let (frames, barrier, cpu_time) = (&frames, &barrier, &cpu_time);
            scope.spawn(move || {
                barrier.wait();
                let begun = cpu_ns();
                (0..pairs).for_each(|_| pair(frames, &mut cpu, 0));
                // Relaxed: the scope's end orders it before the sum is read.
                cpu_time.fetch_add(cpu_ns() - begun, Relaxed);
            });
        }
    });
    cpu_time.load(Relaxed) as f64 / (cpus as u64 * pairs) as f64
}

/// Percents of the pool in use at which F7 looks, in this order.
pub const IN_USE: [usize; 3] = [50, 25, 10];

/// F7: 90 % of the pool taken, freed at random to 50 %, three times the pool's size of random replacements, then freed
/// at random; the CPUs take turns. Returns wholly free 2 MiB blocks for each thousand blocks at each of [`IN_USE`].
pub fn free_blocks<F: Frames>(cpus: usize) -> [f64; 3] {
    let (frames, mut made) = pool::<F>(cpus);
    let total = F::usable(FRAMES);
    let mut held: Vec<F::Pfn> =
        (0..total / 100 * 90).map_while(|step| frames.alloc(&mut made[step % cpus], 0)).collect();
    let mut rng = Rng::new(21);
    let mut shrink_to = |held: &mut Vec<F::Pfn>, made: &mut [F::Cpu], percent: usize| {
        while held.len() > total / 100 * percent {
            let at = rng.below(held.len());
            let cpu = &mut made[held.len() % cpus];
            frames.free(cpu, held.swap_remove(at), 0);
        }
    };
    shrink_to(&mut held, &mut made, IN_USE[0]);
    let mut other = Rng::new(22);
    for step in 0..3 * total {
        let at = other.below(held.len());
        let cpu = &mut made[step % cpus];
        frames.free(cpu, held[at], 0);
        held[at] = take(&frames, cpu, 0);
    }
    IN_USE.map(|percent| {
        shrink_to(&mut held, &mut made, percent);
        wholly_free(held.iter().map(|&pfn| F::number(pfn)))
    })
}

/// 2 MiB blocks of which no frame is in `held`, for each thousand blocks of the pool.
fn wholly_free(held: impl Iterator<Item = u64>) -> f64 {
    let mut used = vec![false; FRAMES >> BLOCK];
    held.for_each(|pfn| used[(pfn >> BLOCK) as usize] = true);
    used.iter().filter(|used| !**used).count() as f64 * 1000.0 / used.len() as f64
}

/// F8: bytes of records for each page.
pub fn metadata<F: Frames>() -> f64 {
    pool::<F>(2).0.metadata_bytes() as f64 / FRAMES as f64
}

/// F9: seconds until `frames` frames can be asked for.
pub fn bring_up<F: Frames>(frames: usize) -> f64 {
    let mut made = None;
    F::prepare(frames, 2);
    wall_seconds(|| made = Some(F::new(frames, 2)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_without_held_frames_are_counted_in_thousandths() {
        assert_eq!(wholly_free(0..FRAMES as u64 / 2), 500.0);
        assert_eq!(wholly_free([0, 511, 1024].into_iter()), 1000.0 * 2046.0 / 2048.0);
        assert_eq!(wholly_free(core::iter::empty()), 1000.0);
    }
}
