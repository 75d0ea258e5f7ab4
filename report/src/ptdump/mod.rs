//! Page-table listings.
//!
//! * [`linux`]: byte for byte what that kernel's debugfs file says.
//!
//! Here: walking, and the choice of the architecture's printer. Not here: the printers (`arm64`, `x86`).

use core::fmt;
use core::sync::atomic::AtomicU64;

use kernmem::kasan::ZeroShadow;
use kernmem_arch::arm64::Layout;
use kernmem_arch::i386::{self, I386Level2, I386Pae};
use kernmem_arch::x86::markers::listed_ranges;
use kernmem_arch::x86::{X86Level4, X86Level5};
use kernmem_arch::{UserFormat, WithFormat};
use kernmem_base::{Era, Level, PhysAddr, PhysRead};
use kernmem_view::{Format, KernelView, LayoutView, RootKind};

mod arm64;
mod unit;
mod wx;
mod x86;

pub use unit::{Bytes, Kib};
pub use wx::Wx;

/// The tables that all zero shadow of KASAN shares, and the entry of its page: a listing looks at that alone.
///
/// Source: Linux 6.1 mm/ptdump.c `note_kasan_page_table`.
#[derive(Clone, Copy)]
struct SharedShadow {
    zero: ZeroShadow,
    page: u64,
}

impl SharedShadow {
    fn of<V: KernelView>(view: &V) -> Option<Self> {
        let zero = view.zero_shadow().known()?;
        let page = view.mem().entry::<AtomicU64>(zero.table(Level::Pte)?, 0).ok()?;
        Some(Self { zero, page })
    }
}

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
    listed(view, root, out).map(drop)
}

/// What the kernel's check for writable and executable mappings finds in one tree.
///
/// # Errors
/// There is no such tree.
pub fn check_wx<V: KernelView>(view: &V, root: RootKind) -> Result<Wx, ListingError> {
    listed(view, root, &mut wx::Nowhere)
}

fn listed<V: KernelView>(view: &V, root: RootKind, out: &mut impl fmt::Write) -> Result<Wx, ListingError> {
    if matches!(root, RootKind::Idmap | RootKind::EarlyIdentity | RootKind::EarlyKernel) {
        return Err(ListingError::NoRoot("Linux lists no such tree; ask for the table or fold format"));
    }
    let root = root_table(view, root)?;
    let shadow = SharedShadow::of(view);
    match (view.format(), view.layout()) {
        (Format::Arm64(_), LayoutView::Arm64 { layout, .. }) => {
            let tables = Arm64Tables { mem: view.mem(), root, layout, shadow, era: view.era(), out };
            view.format().with(tables)
        }
        (Format::X86Level4, LayoutView::X86 { layout, markers, .. }) => {
            x86::print::<X86Level4, _>(view.mem(), root, (&listed_ranges(layout), markers), shadow, view.era(), out)
        }
        (Format::X86Level5, LayoutView::X86 { layout, markers, .. }) => {
            x86::print::<X86Level5, _>(view.mem(), root, (&listed_ranges(layout), markers), shadow, view.era(), out)
        }
        (Format::I386Pae, LayoutView::I386 { markers, .. }) => {
            let all = [i386::layout::Layout::all()];
            x86::print::<I386Pae, _>(view.mem(), root, (&all, markers), None, view.era(), out)
        }
        (Format::I386Level2, LayoutView::I386 { markers, .. }) => {
            let all = [i386::layout::Layout::all()];
            x86::print::<I386Level2, _>(view.mem(), root, (&all, markers), None, view.era(), out)
        }
        _ => unreachable!("a kernel's format and layout belong to one architecture"),
    }
}

/// An arm64 listing whose format is known as a value.
struct Arm64Tables<'a, M, W> {
    mem: &'a M,
    root: PhysAddr,
    layout: &'a Layout,
    shadow: Option<SharedShadow>,
    era: Era,
    out: &'a mut W,
}

impl<M: PhysRead, W: fmt::Write> WithFormat for Arm64Tables<'_, M, W> {
    type Output = Result<Wx, ListingError>;

    fn run<F: UserFormat>(self) -> Self::Output {
        arm64::print::<F, M>(self.mem, self.root, (self.layout, self.shadow), self.era, self.out)
    }
}

fn root_table<V: KernelView>(view: &V, root: RootKind) -> Result<PhysAddr, ListingError> {
    match view.root(root) {
        kernmem_view::Answer::Known(table) => Ok(table),
        kernmem_view::Answer::Absent(why) => Err(ListingError::NoRoot(why)),
    }
}
