//! What 16 bits say of a block: how many of its frames are free, and whether its bits were written.
//!
//! ```text
//! 15      LAZY    all frames are free, the bits were not written
//! 9..0    free frames that nobody was promised
//! ```

const LAZY: u16 = 1 << 15;
const COUNT: u16 = (1 << 10) - 1;

/// An entry's value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Entry(pub u16);

/// Where the index keeps a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Class {
    /// No frame is free.
    Empty,
    /// Some are.
    Part,
    /// All are.
    Whole,
}

impl Entry {
    /// A wholly free block whose bits were not written.
    pub const fn lazy(frames: u32) -> Self {
        Self(LAZY | frames as u16)
    }

    /// Free frames.
    pub const fn count(self) -> u32 {
        (self.0 & COUNT) as u32
    }

    /// Whether the bits were not written.
    pub const fn is_lazy(self) -> bool {
        self.0 & LAZY != 0
    }

    /// The class of a block of `frames` frames.
    pub const fn class(self, frames: u32) -> Class {
        match self.count() {
            0 => Class::Empty,
            count if count < frames => Class::Part,
            _ => Class::Whole,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lazy_block_is_whole() {
        let lazy = Entry::lazy(512);
        assert_eq!((lazy.count(), lazy.is_lazy(), lazy.class(512)), (512, true, Class::Whole));
        assert_eq!(
            (Entry(0).class(64), Entry(63).class(64), Entry(64).class(64)),
            (Class::Empty, Class::Part, Class::Whole)
        );
    }
}
