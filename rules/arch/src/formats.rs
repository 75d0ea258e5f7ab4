//! Entry formats as values: the one place that goes from a [`Format`] to its type.

use crate::arm64::{Arm64Format, Geometry, WithArm64};
use crate::i386::{I386Level2, I386Pae};
use crate::x86::layout::Paging;
use crate::x86::{X86Level4, X86Level5};
use crate::{EntryFormat, Shape, UserFormat};

/// The entry format of a kernel's tables: a value, matched once per public operation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum Format {
    /// arm64, by page size and bits.
    Arm64(Geometry),
    /// x86-64, four levels.
    X86Level4,
    /// x86-64, five levels.
    X86Level5,
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

/// What is done with any format, done with arm64's.
struct Arm64Tables<T>(T);

impl<T: WithFormat> WithArm64 for Arm64Tables<T> {
    type Output = T::Output;

    fn run<F: Arm64Format>(self) -> T::Output {
        self.0.run::<F>()
    }
}

struct ShapeOf;

impl WithFormat for ShapeOf {
    type Output = &'static Shape;

    fn run<F: EntryFormat>(self) -> &'static Shape {
        F::shape()
    }
}

impl Format {
    /// arm64 with 4K pages and 48 bits: what most kernels are built with.
    pub const ARM64_4K_48: Self = match Geometry::of(12, 48) {
        Some(geometry) => Self::Arm64(geometry),
        None => panic!("arm64 has such tables"),
    };

    /// The format of an x86-64 kernel's tables.
    #[must_use]
    pub const fn x86(paging: Paging) -> Self {
        match paging {
            Paging::Level4 => Self::X86Level4,
            Paging::Level5 => Self::X86Level5,
        }
    }

    /// Calls `then` with the type of this format.
    pub fn with<T: WithFormat>(self, then: T) -> T::Output {
        match self {
            Self::Arm64(geometry) => geometry.with(Arm64Tables(then)),
            Self::X86Level4 => then.run::<X86Level4>(),
            Self::X86Level5 => then.run::<X86Level5>(),
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
            Self::Arm64(_) => true,
            Self::X86Level4 | Self::X86Level5 | Self::I386Pae | Self::I386Level2 => false,
        }
    }

    /// Whether one instruction flushes the TLBs of all CPUs (arm64); else each CPU is asked by a message.
    #[must_use]
    pub const fn broadcasts_flushes(self) -> bool {
        match self {
            Self::Arm64(_) => true,
            Self::X86Level4 | Self::X86Level5 | Self::I386Pae | Self::I386Level2 => false,
        }
    }
}
