//! The slab allocator as a program's global allocator, behind a lock of the caller's.
//!
//! Here: [`Heap`] (allocator, one CPU's handle and the machine in one value), [`SlabHeap`] (what is declared as
//! `#[global_allocator]`). Not here: the lock, which the kernel has.
//!
//! # Invariants
//! 1. A piece has the size and the alignment of its layout: a layout that wants more than a word's alignment is served
//!    by a power of two, which is aligned to itself.
//! 2. A piece belongs to whom it was given until it is freed: the slab allocator hands out no object twice, and its
//!    pages are its alone (contract of [`HeapLock`]).
#![allow(unsafe_code)]

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{self, NonNull};

use kernmem_base::{CpuId, LINEAR_ALIGN, LinearMem};
use kernmem_page_alloc::{Gfp, PageSource};

use crate::layout::WORD;
use crate::{CpuSlabs, Env, Slab, SlabError, SlabPages, SlabRules};

/// A slab allocator together with its machine.
#[derive(Debug)]
pub struct Heap<P, M, R, const CACHES: usize> {
    slab: Slab<CACHES>,
    cpu: Option<CpuSlabs<CACHES>>,
    pages: P,
    mem: M,
    records: R,
    first_error: Option<SlabError>,
}

impl<P: PageSource, M: LinearMem, R: SlabPages, const CACHES: usize> Heap<P, M, R, CACHES> {
    /// A heap over a machine. Its caches are made at the first request.
    #[must_use]
    pub const fn new(rules: SlabRules, pages: P, mem: M, records: R) -> Self {
        Self { slab: Slab::new(rules), cpu: None, pages, mem, records, first_error: None }
    }

    /// The allocator.
    #[must_use]
    pub const fn slab(&self) -> &Slab<CACHES> {
        &self.slab
    }

    /// The first error of a piece that could not be freed: nobody else hears of it.
    #[must_use]
    pub const fn first_error(&self) -> Option<SlabError> {
        self.first_error
    }

    /// Runs `f` with allocator, handle and machine.
    fn run<T>(
        &mut self,
        f: impl FnOnce(&mut Slab<CACHES>, &mut CpuSlabs<CACHES>, &mut Env<'_, P, M, R>) -> Result<T, SlabError>,
    ) -> Result<T, SlabError> {
        let cpu = match &mut self.cpu {
            Some(cpu) => cpu,
            none => {
                self.slab.create_kmalloc_caches()?;
                none.insert(self.slab.cpu(CpuId(0), 0)?)
            }
        };
        let mut env = Env { pages: &mut self.pages, mem: &self.mem, records: &self.records };
        f(&mut self.slab, cpu, &mut env)
    }

    /// Takes a piece of memory of a layout.
    ///
    /// # Errors
    /// [`SlabError::TooLarge`] for an alignment beyond [`LINEAR_ALIGN`] too; those of [`Slab::kmalloc`].
    pub fn alloc(&mut self, layout: Layout, gfp: Gfp) -> Result<NonNull<u8>, SlabError> {
        let bytes = bytes_for(layout)?;
        self.run(|slab, cpu, env| slab.kmalloc(env, cpu, bytes, gfp))
    }

    /// Frees a piece.
    ///
    /// # Errors
    /// As [`Slab::kfree`].
    pub fn free(&mut self, ptr: NonNull<u8>) -> Result<(), SlabError> {
        let done = self.run(|slab, cpu, env| slab.kfree(env, cpu, ptr));
        self.first_error = self.first_error.or(done.err());
        done
    }

    /// Makes a piece `bytes` bytes long: the same pointer if it is long enough already.
    ///
    /// # Errors
    /// As [`Slab::krealloc`]; the old piece is still there.
    pub fn realloc(&mut self, ptr: NonNull<u8>, layout: Layout, bytes: usize) -> Result<NonNull<u8>, SlabError> {
        let too_large = SlabError::TooLarge { bytes: bytes as u64 };
        let layout = Layout::from_size_align(bytes, layout.align()).map_err(|_| too_large)?;
        let bytes = bytes_for(layout)?;
        self.run(|slab, cpu, env| slab.krealloc(env, cpu, Some(ptr), bytes, Gfp::KERNEL))
    }
}

/// Bytes to ask for, so that the piece has the layout's alignment (invariant 1).
fn bytes_for(layout: Layout) -> Result<u64, SlabError> {
    let (bytes, align) = (layout.size() as u64, layout.align() as u64);
    if align <= u64::from(WORD) {
        return Ok(bytes);
    }
    let bytes = bytes.max(align);
    if align > LINEAR_ALIGN {
        return Err(SlabError::TooLarge { bytes });
    }
    bytes.checked_next_power_of_two().ok_or(SlabError::TooLarge { bytes })
}

/// A lock around a heap: the kernel's own, with interrupts off if handlers allocate.
///
/// # Safety
/// The heap's source of pages gives only frames that nobody else uses, and each one once until it is freed; nobody but
/// the heap writes the records.
pub unsafe trait HeapLock {
    /// What is behind the lock: a [`Heap`].
    type Heap;

    /// Runs `f` while the lock is held. `f` takes no other lock and does not allocate from the same heap.
    fn with<T>(&self, f: impl FnOnce(&mut Self::Heap) -> T) -> T;
}

/// A heap behind a lock, to be declared as the global allocator.
#[derive(Debug)]
pub struct SlabHeap<L>(pub L);

// SAFETY:
// 1. A piece that is given out lies in memory of the heap's machine, has the layout's size and alignment
//    (invariant 1), and is nobody else's until it is freed (invariant 2).
// 2. No method unwinds: errors are null pointers, or are kept in the heap.
unsafe impl<L, P, M, R, const CACHES: usize> GlobalAlloc for SlabHeap<L>
where
    L: HeapLock<Heap = Heap<P, M, R, CACHES>>,
    P: PageSource,
    M: LinearMem,
    R: SlabPages,
{
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.0.with(|heap| heap.alloc(layout, Gfp::KERNEL)).map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        self.0.with(|heap| heap.alloc(layout, Gfp::KERNEL | Gfp::ZERO)).map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, ptr: *mut u8, _layout: Layout) {
        let Some(ptr) = NonNull::new(ptr) else { return };
        // An error is kept by the heap: who frees cannot be told.
        let _ = self.0.with(|heap| heap.free(ptr));
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        let Some(ptr) = NonNull::new(ptr) else { return ptr::null_mut() };
        self.0.with(|heap| heap.realloc(ptr, layout, bytes)).map_or(ptr::null_mut(), NonNull::as_ptr)
    }
}
