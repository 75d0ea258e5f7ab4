//! Free chains: pointers threaded through free objects.
//!
//! A free object holds the address of the next one, as it is or hardened: xor with a secret of the cache and with the
//! byte-swapped address of the place where it is stored. Zero ends a chain.
//!
//! # Invariants
//! 1. An offset that is handed out lies inside the slab with a whole object behind it: a pointer that was damaged is
//!    refused and never followed.
//!
//! Source: Linux 5.10–7.2 mm/slub.c `freelist_ptr`, `get_freepointer`, `check_valid_pointer`.

use kernmem_base::Lent;

use crate::SlotLayout;

/// The shape of a cache's slabs: all that a chain needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Shape {
    /// Bytes that the user may have.
    pub(crate) object: u32,
    /// Where the free pointer lies in an object.
    pub(crate) link: u32,
    /// Bytes in front of the first object.
    pub(crate) left: u32,
    /// Bytes from one object to the next.
    pub(crate) slot: u32,
    /// Which cache of this number it is.
    pub(crate) generation: u16,
    /// Whether every request is checked, so that no CPU keeps slabs of it.
    pub(crate) checked: bool,
    /// The secret of hardened chains.
    pub(crate) secret: Option<u64>,
}

/// A free pointer that leads nowhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Broken;

impl Shape {
    pub(crate) const fn new(layout: &SlotLayout, generation: u16, checked: bool, secret: Option<u64>) -> Self {
        let &SlotLayout { object, link, left, slot, .. } = layout;
        Self { object, link, left, slot, generation, checked, secret }
    }

    /// Objects in a slab of `bytes` bytes.
    pub(crate) const fn objects(&self, bytes: u64) -> u16 {
        let objects = bytes / self.slot as u64;
        if objects > crate::order::MAX_OBJECTS { crate::order::MAX_OBJECTS as u16 } else { objects as u16 }
    }

    /// Offset of the object `index`.
    pub(crate) const fn at(&self, index: u16) -> u32 {
        self.left + self.slot * index as u32
    }

    /// Whether an object begins at `at` in a slab of `bytes` bytes.
    pub(crate) const fn is_object(&self, at: u32, bytes: u64) -> bool {
        at >= self.left
            && (at - self.left).is_multiple_of(self.slot)
            && (at - self.left) / self.slot < self.objects(bytes) as u32
    }

    /// Index of the object at `at`.
    pub(crate) const fn index(&self, at: u32) -> u16 {
        ((at - self.left) / self.slot) as u16
    }

    /// The key of the free pointer that is stored at `place` of the slab.
    fn key(&self, slab: &Lent<'_>, place: usize) -> u64 {
        match self.secret {
            Some(secret) => secret ^ (address(slab) + place as u64).swap_bytes(),
            None => 0,
        }
    }

    /// The object behind the free one at `at`, as offset plus 1, 0 at the end of the chain.
    pub(crate) fn next(&self, slab: &Lent<'_>, at: u32) -> Result<u32, Broken> {
        let place = (at + self.link) as usize;
        let stored = slab.word(place).ok_or(Broken)? ^ self.key(slab, place);
        if stored == 0 {
            return Ok(0);
        }
        let offset = stored.wrapping_sub(address(slab));
        let last = (slab.bytes() as u64).saturating_sub(u64::from(self.object));
        if offset < u64::from(self.left) || offset > last { Err(Broken) } else { Ok(offset as u32 + 1) }
    }

    /// Threads the free object at `at` before `next`, an offset plus 1, or 0 at the end of the chain.
    pub(crate) fn set_next(&self, slab: &Lent<'_>, at: u32, next: u32) -> Result<(), Broken> {
        let place = (at + self.link) as usize;
        let plain = next.checked_sub(1).map_or(0, |next| address(slab) + u64::from(next));
        slab.set_word(place, plain ^ self.key(slab, place)).ok_or(Broken)
    }

    /// Threads all objects of a new slab in ascending order; returns the head.
    pub(crate) fn thread(&self, slab: &Lent<'_>) -> Result<u32, Broken> {
        let objects = self.objects(slab.bytes() as u64);
        for index in 0..objects {
            let next = if index + 1 < objects { self.at(index + 1) + 1 } else { 0 };
            self.set_next(slab, self.at(index), next)?;
        }
        Ok(self.at(0) + 1)
    }

    /// Puts the chain `front` before the chain `back`; returns the head of both.
    pub(crate) fn splice(&self, slab: &Lent<'_>, front: u32, back: u32) -> Result<u32, Broken> {
        let Some(mut at) = front.checked_sub(1) else { return Ok(back) };
        for _ in 0..self.objects(slab.bytes() as u64) {
            match self.next(slab, at)?.checked_sub(1) {
                Some(next) => at = next,
                None => {
                    self.set_next(slab, at, back)?;
                    return Ok(front);
                }
            }
        }
        Err(Broken)
    }
}

fn address(slab: &Lent<'_>) -> u64 {
    slab.base().addr().get() as u64
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use kernmem_base::{HeapArena, PhysAddr};

    use super::*;

    fn shape(secret: Option<u64>) -> Shape {
        Shape { object: 100, link: 48, left: 0, slot: 104, generation: 0, checked: false, secret }
    }

    fn walk(shape: &Shape, slab: &Lent<'_>, head: u32) -> Vec<u32> {
        let step = |&at: &u32| shape.next(slab, at).unwrap().checked_sub(1);
        core::iter::successors(head.checked_sub(1), step).collect()
    }

    #[test]
    fn a_new_slab_is_threaded_in_ascending_order() {
        let arena = HeapArena::new(PhysAddr(0x1000), 0x1000);
        let slab = Lent::new(&arena, PhysAddr(0x1000), 520).unwrap();
        for secret in [None, Some(0x1234_5678_9abc_def0)] {
            let shape = shape(secret);
            let head = shape.thread(&slab).unwrap();
            assert_eq!(walk(&shape, &slab, head), [0, 104, 208, 312, 416]);
        }
    }

    #[test]
    fn a_hardened_pointer_is_stored_under_secret_and_swapped_place() {
        let arena = HeapArena::new(PhysAddr(0x1000), 0x1000);
        let slab = Lent::new(&arena, PhysAddr(0x1000), 520).unwrap();
        shape(Some(0x55)).set_next(&slab, 104, 209).unwrap();
        let base = slab.base().addr().get() as u64;
        assert_eq!(slab.word(104 + 48), Some((base + 208) ^ 0x55 ^ (base + 152).swap_bytes()));
    }

    #[test]
    fn a_damaged_pointer_is_refused() {
        let arena = HeapArena::new(PhysAddr(0x1000), 0x1000);
        let slab = Lent::new(&arena, PhysAddr(0x1000), 520).unwrap();
        slab.set_word(48, 0xdead).unwrap();
        assert_eq!(shape(None).next(&slab, 0), Err(Broken));
        // The last object begins at 416: a pointer to 421 has less than an object behind it.
        slab.set_word(48, slab.base().addr().get() as u64 + 421).unwrap();
        assert_eq!(shape(None).next(&slab, 0), Err(Broken));
    }

    #[test]
    fn chains_are_spliced_at_the_end_of_the_first() {
        let arena = HeapArena::new(PhysAddr(0x1000), 0x1000);
        let slab = Lent::new(&arena, PhysAddr(0x1000), 520).unwrap();
        let shape = shape(None);
        shape.set_next(&slab, 0, 209).and(shape.set_next(&slab, 208, 0)).unwrap();
        shape.set_next(&slab, 104, 0).unwrap();
        assert_eq!(shape.splice(&slab, 1, 105), Ok(1));
        assert_eq!(walk(&shape, &slab, 1), [0, 208, 104]);
        assert_eq!(shape.splice(&slab, 0, 105), Ok(105));
    }
}
