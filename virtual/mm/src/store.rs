//! Ordered lists whose memory is lent: regions of a space, roots of all spaces.
//!
//! Source: the lists stand for what Linux 6.1 keeps in mm/mmap.c's maple tree and arch/x86/mm/pgtable.c `pgd_list`.

use core::fmt;

/// An ordered list of small values.
pub trait Store<T: Copy> {
    /// The values, in order.
    fn items(&self) -> &[T];

    /// The values, in order, for changing them in place.
    fn items_mut(&mut self) -> &mut [T];

    /// How many more values fit.
    fn room(&self) -> usize;

    /// Puts a value before the one at `at`, or at the end.
    ///
    /// # Errors
    /// [`Full`]; the list is unchanged.
    fn insert(&mut self, at: usize, item: T) -> Result<(), Full>;

    /// Takes the value at `at` out; `None` behind the end.
    fn take(&mut self, at: usize) -> Option<T>;
}

/// The list has no room left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the list has no room left")
    }
}

impl core::error::Error for Full {}

/// A list in an array that the caller lends.
#[derive(Debug)]
pub struct Lent<'a, T> {
    slots: &'a mut [T],
    len: usize,
}

impl<'a, T> Lent<'a, T> {
    /// An empty list with room for as many values as `slots` has; what they hold does not matter.
    #[must_use]
    pub const fn new(slots: &'a mut [T]) -> Self {
        Self { slots, len: 0 }
    }
}

impl<T: Copy> Store<T> for Lent<'_, T> {
    fn items(&self) -> &[T] {
        &self.slots[..self.len]
    }

    fn items_mut(&mut self) -> &mut [T] {
        &mut self.slots[..self.len]
    }

    fn room(&self) -> usize {
        self.slots.len() - self.len
    }

    fn insert(&mut self, at: usize, item: T) -> Result<(), Full> {
        if self.room() == 0 {
            return Err(Full);
        }
        let at = at.min(self.len);
        self.slots.copy_within(at..self.len, at + 1);
        self.slots[at] = item;
        self.len += 1;
        Ok(())
    }

    fn take(&mut self, at: usize) -> Option<T> {
        let item = *self.items().get(at)?;
        self.slots.copy_within(at + 1..self.len, at);
        self.len -= 1;
        Some(item)
    }
}

#[cfg(feature = "alloc")]
impl<T: Copy> Store<T> for alloc::vec::Vec<T> {
    fn items(&self) -> &[T] {
        self
    }

    fn items_mut(&mut self) -> &mut [T] {
        self
    }

    fn room(&self) -> usize {
        usize::MAX - self.len()
    }

    fn insert(&mut self, at: usize, item: T) -> Result<(), Full> {
        self.try_reserve(1).map_err(|_| Full)?;
        Self::insert(self, at.min(self.len()), item);
        Ok(())
    }

    fn take(&mut self, at: usize) -> Option<T> {
        (at < self.len()).then(|| self.remove(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lent_list_keeps_its_order_and_says_when_it_is_full() {
        let mut slots = [0_u8; 3];
        let mut list = Lent::new(&mut slots);
        assert_eq!((list.insert(0, 3), list.insert(0, 1), list.insert(1, 2)), (Ok(()), Ok(()), Ok(())));
        assert_eq!(list.insert(0, 9), Err(Full));
        assert_eq!(list.take(3), None);
        assert_eq!(list.items(), [1, 2, 3]);
        assert_eq!(list.take(1), Some(2));
        assert_eq!((list.items(), list.room()), (&[1, 3][..], 1));
    }
}
