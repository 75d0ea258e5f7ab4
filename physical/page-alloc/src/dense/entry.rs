//! What is known of a block beside its bits: whether they were written.

/// All frames are free, and the bits, all clear, do not say so yet.
pub(super) const LAZY: u16 = 1 << 15;

/// The bits say which frames are free.
pub(super) const WRITTEN: u16 = 0;

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

impl Class {
    /// The class of a block whose bits were written.
    #[inline]
    pub fn of(words: impl Iterator<Item = u64>) -> Self {
        match words.fold((0, !0), |(any, all), bits| (any | bits, all & bits)) {
            (0, _) => Self::Empty,
            (_, u64::MAX) => Self::Whole,
            _ => Self::Part,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_that_of_all_words() {
        let of = |words: &[u64]| Class::of(words.iter().copied());
        assert_eq!([of(&[0, 0]), of(&[!0, !0]), of(&[0, 4])], [Class::Empty, Class::Whole, Class::Part]);
        assert_eq!([of(&[!0, !1]), of(&[!0, 0])], [Class::Part, Class::Part]);
    }
}
