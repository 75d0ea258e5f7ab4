//! Frame allocators of the registry. They are changed through `&mut`, so a kernel uses them behind a spin lock:
//! [`Locked`]. [`Bare`] leaves the lock out: one CPU, no interrupts, the data structure's own cost.

pub mod bitmap;
pub mod buddy_slab;
pub mod buddy_system;

use core::fmt;
use core::marker::PhantomData;

use kernmem_bench::frames::Frames;

/// An allocator that one owner changes.
pub trait FramesMut: Send {
    /// Name in the tables of results.
    const NAME: &'static str;
    /// The same without a lock.
    const BARE: &'static str;

    /// A pool of `frames` free frames.
    fn new(frames: usize) -> Self;
    /// Takes a block of `2^order` frames.
    fn alloc(&mut self, order: u32) -> Option<u64>;
    /// Gives it back.
    fn free(&mut self, pfn: u64, order: u32);
    /// Bytes of records; 0 if nobody knows.
    fn metadata_bytes(&self) -> usize {
        0
    }
    /// Of `frames` frames those that are not lost to records.
    #[must_use]
    fn usable(frames: usize) -> usize {
        frames
    }
}

/// An allocator behind a spin lock.
pub struct Locked<T>(spin::Mutex<T>);

impl<T> fmt::Debug for Locked<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Locked").finish_non_exhaustive()
    }
}

impl<T: FramesMut> Frames for Locked<T> {
    const NAME: &'static str = T::NAME;
    type Cpu = ();
    type Pfn = u64;

    fn new(frames: usize, cpus: usize) -> (Self, Vec<()>) {
        (Self(spin::Mutex::new(T::new(frames))), vec![(); cpus])
    }

    #[inline]
    fn alloc(&self, _cpu: &mut (), order: u32) -> Option<u64> {
        self.0.lock().alloc(order)
    }

    #[inline]
    fn free(&self, _cpu: &mut (), pfn: u64, order: u32) {
        self.0.lock().free(pfn, order);
    }

    fn number(pfn: u64) -> u64 {
        pfn
    }

    fn alloc_bulk(&self, _cpu: &mut (), out: &mut [u64]) -> bool {
        let mut held = self.0.lock();
        out.iter_mut().all(|place| held.alloc(0).map(|pfn| *place = pfn).is_some())
    }

    fn free_bulk(&self, _cpu: &mut (), pfns: &[u64]) {
        let mut held = self.0.lock();
        pfns.iter().for_each(|&pfn| held.free(pfn, 0));
    }

    fn metadata_bytes(&self) -> usize {
        self.0.lock().metadata_bytes()
    }

    fn usable(frames: usize) -> usize {
        T::usable(frames)
    }
}

/// An allocator that one CPU has for itself.
pub struct Bare<T>(PhantomData<fn() -> T>);

impl<T> fmt::Debug for Bare<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bare").finish_non_exhaustive()
    }
}

impl<T: FramesMut> Frames for Bare<T> {
    const NAME: &'static str = T::BARE;
    /// The first CPU's is the allocator; the others do not exist.
    type Cpu = Option<T>;
    type Pfn = u64;

    fn new(frames: usize, cpus: usize) -> (Self, Vec<Option<T>>) {
        let mut all: Vec<Option<T>> = (0..cpus).map(|_| None).collect();
        if let Some(first) = all.first_mut() {
            *first = Some(T::new(frames));
        }
        (Self(PhantomData), all)
    }

    #[inline]
    fn alloc(&self, cpu: &mut Option<T>, order: u32) -> Option<u64> {
        cpu.as_mut()?.alloc(order)
    }

    #[inline]
    fn free(&self, cpu: &mut Option<T>, pfn: u64, order: u32) {
        if let Some(cpu) = cpu {
            cpu.free(pfn, order);
        }
    }

    fn number(pfn: u64) -> u64 {
        pfn
    }

    fn usable(frames: usize) -> usize {
        T::usable(frames)
    }
}
