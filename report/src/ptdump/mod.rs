//! Page-table listings.
//!
//! * [`linux`]: byte for byte what that kernel's debugfs file says.
//!
//! Here: walking, and the choice of the architecture's printer. Not here: the printers (`arm64`, `x86`).

use core::fmt;

use kernmem_arch::arm64::Arm64Granule4K;
use kernmem_arch::i386::{self, I386Level2, I386Pae};
use kernmem_arch::x86::X86Level4;
use kernmem_arch::x86::markers::listed_ranges;
use kernmem_base::PhysAddr;
use kernmem_view::{Format, KernelView, LayoutView, RootKind};

mod arm64;
mod unit;
mod x86;

pub use unit::{Bytes, Kib};

/// Why a listing could not be printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ListingError {
    /// There is no such tree, and why.
    NoRoot(&'static str),
    /// The writer failed.
    Write,
}

impl From<fmt::Error> for ListingError {
    fn from(_: fmt::Error) -> Self {
        Self::Write
    }
}

impl fmt::Display for ListingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRoot(why) => f.write_str(why),
            Self::Write => f.write_str("the listing could not be written"),
        }
    }
}

impl core::error::Error for ListingError {}

/// Prints one tree of tables as that Linux does.
///
/// # Errors
/// There is no such tree, or the writer failed.
pub fn linux<V: KernelView>(view: &V, root: RootKind, out: &mut impl fmt::Write) -> Result<(), ListingError> {
    if matches!(root, RootKind::Idmap | RootKind::EarlyIdentity | RootKind::EarlyKernel) {
        return Err(ListingError::NoRoot("Linux lists no such tree; ask for the table or fold format"));
    }
    let root = root_table(view, root)?;
    match (view.format(), view.layout()) {
        (Format::Arm64Granule4K, LayoutView::Arm64 { layout, .. }) => {
            arm64::print::<Arm64Granule4K, _>(view.mem(), root, layout, view.era(), out)
        }
        (Format::X86Level4, LayoutView::X86 { layout, markers, .. }) => {
            x86::print::<X86Level4, _>(view.mem(), root, (&listed_ranges(layout), markers), view.era(), out)
        }
        (Format::I386Pae, LayoutView::I386 { markers, .. }) => {
            let all = [i386::layout::Layout::all()];
            x86::print::<I386Pae, _>(view.mem(), root, (&all, markers), view.era(), out)
        }
        (Format::I386Level2, LayoutView::I386 { markers, .. }) => {
            let all = [i386::layout::Layout::all()];
            x86::print::<I386Level2, _>(view.mem(), root, (&all, markers), view.era(), out)
        }
        _ => unreachable!("a kernel's format and layout belong to one architecture"),
    }
}

fn root_table<V: KernelView>(view: &V, root: RootKind) -> Result<PhysAddr, ListingError> {
    match view.root(root) {
        kernmem_view::Answer::Known(table) => Ok(table),
        kernmem_view::Answer::Absent(why) => Err(ListingError::NoRoot(why)),
    }
}
