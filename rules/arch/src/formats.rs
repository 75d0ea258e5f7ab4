//! Entry formats as values: the one place that goes from a [`Format`] to its type.

use crate::arm64::Arm64Granule4K;
use crate::i386::{I386Level2, I386Pae};
use crate::x86::X86Level4;
use crate::{EntryFormat, Shape, UserFormat};

/// The entry format of a kernel's tables: a value, matched once per public operation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum Format {
    /// arm64, 4K pages, 48 bits.
    Arm64Granule4K,
    /// x86-64, four levels.
    X86Level4,
    /// i386, 64-bit entries in three levels.
    I386Pae,
    /// i386, 32-bit entries in two levels.
    I386Level2,
}

/// What is done with a format once its type is known.
pub trait WithFormat {
    /// What comes out.
    type Output;

    /// Does it.
    fn run<F: UserFormat>(self) -> Self::Output;
}

struct ShapeOf;

impl WithFormat for ShapeOf {
    type Output = &'static Shape;

    fn run<F: EntryFormat>(self) -> &'static Shape {
        F::shape()
    }
}

impl Format {
    /// Calls `then` with the type of this format.
    pub fn with<T: WithFormat>(self, then: T) -> T::Output {
        match self {
            Self::Arm64Granule4K => then.run::<Arm64Granule4K>(),
            Self::X86Level4 => then.run::<X86Level4>(),
            Self::I386Pae => then.run::<I386Pae>(),
            Self::I386Level2 => then.run::<I386Level2>(),
        }
    }

    /// Levels, index widths and leaf sizes.
    #[must_use]
    pub fn shape(self) -> &'static Shape {
        self.with(ShapeOf)
    }

    /// Whether the two halves of the address space have a root each (arm64), chosen by bit 55.
    #[must_use]
    pub const fn has_root_per_half(self) -> bool {
        match self {
            Self::Arm64Granule4K => true,
            Self::X86Level4 | Self::I386Pae | Self::I386Level2 => false,
        }
    }

    /// Whether one instruction flushes the TLBs of all CPUs (arm64); else each CPU is asked by a message.
    #[must_use]
    pub const fn broadcasts_flushes(self) -> bool {
        match self {
            Self::Arm64Granule4K => true,
            Self::X86Level4 | Self::I386Pae | Self::I386Level2 => false,
        }
    }
}
