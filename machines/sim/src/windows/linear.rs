//! A window over the linear map: frames by pointer.
//!
//! # Invariants
//! 1. The window maps at `start + n` the frame of `pa + n` or nothing: others are refused by the handler's walk.
#![allow(unsafe_code)]

use core::ptr::NonNull;

use kernmem_base::{LinearMem, PhysAddr, PhysRange};

use super::window::Window;

/// A window in which an address stands for one physical address, at a fixed offset.
#[derive(Debug)]
pub struct LinearWindow<'m> {
    window: Window<'m>,
    pa: PhysAddr,
}

impl<'m> LinearWindow<'m> {
    /// `window` was opened with the law that its first byte stands for `pa`, and `pa` plus its size does not wrap.
    pub(crate) const fn new(window: Window<'m>, pa: PhysAddr) -> Self {
        Self { window, pa }
    }

    /// The window: for reads and writes by the kernel's addresses, flushes, counters.
    #[must_use]
    pub const fn window(&self) -> &Window<'m> {
        &self.window
    }

    /// The physical addresses that it stands for.
    #[must_use]
    pub fn frames(&self) -> PhysRange {
        PhysRange::new(self.pa, self.pa + self.window.region().size())
    }
}

// SAFETY:
// 1. `ptr` answers only for bytes of one bank of memory inside the window, which lives as long as `self`. What is
//    mapped there are the frames at `pa` and no others (invariant 1): touching them reaches those frames, or, where the
//    tables do not permit it, ends the process and returns nothing.
// 2. Both ways are additions of one offset, so equal addresses give equal pointers and `pa` undoes `ptr`.
unsafe impl LinearMem for LinearWindow<'_> {
    fn ptr(&self, pa: PhysAddr, bytes: u64) -> Option<NonNull<u8>> {
        let last = pa.checked_add(bytes.max(1) - 1)?;
        if !self.window.bank(pa)?.contains(last) {
            return None;
        }
        let offset = pa.0.checked_sub(self.pa.0)?;
        self.window.span(self.window.region().start.checked_add(offset)?, bytes.max(1))
    }

    fn pa(&self, ptr: NonNull<u8>) -> Option<PhysAddr> {
        let offset = self.window.va(ptr)? - self.window.region().start;
        self.pa.checked_add(offset)
    }
}
