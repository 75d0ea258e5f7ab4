//! The windows of one machine.
//!
//! Locks: `open` is held while the spin lock of one window after the other is taken; the handler never takes `open`.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use kernmem_arch::Format;
use kernmem_base::{PhysAddr, Privilege, Tlb, VirtAddr, VirtRange};

use super::control::Control;
use super::error::WindowError;
use super::handler;
use super::linear::LinearWindow;
use super::region::Limits;
use super::registry::SLOTS;
use super::walk::Space;
use super::window::{Opened, Window};
use crate::Memory;

/// Pages of the host that a window is made of: the smallest frames of any architecture.
const PAGE: u64 = 4096;

/// Mappings that windows leave to the rest of the process.
const OTHERS: usize = 8192;

/// What the host gives a process unless it says otherwise.
const MAPPINGS: usize = 65_530;

/// Fills that the host's limit of mappings bears: each takes two at most, itself and the empty piece behind it. What
/// every window can always have comes on top.
fn process_limit() -> usize {
    let told = std::fs::read_to_string("/proc/sys/vm/max_map_count").ok();
    let mappings = told.and_then(|text| text.trim().parse().ok()).unwrap_or(MAPPINGS);
    (mappings.saturating_sub(OTHERS) / 2).saturating_sub(SLOTS * Windows::MIN_CAP)
}

/// The windows over one memory: opens them and flushes them together.
#[derive(Debug)]
pub struct Windows<'m> {
    memory: &'m Memory,
    limits: Limits,
    open: Mutex<Vec<Weak<Opened<'m>>>>,
}

impl<'m> Windows<'m> {
    /// Fills of a window unless told otherwise.
    pub const DEFAULT_CAP: usize = 4096;

    /// The fewest fills that a window can always have: one instruction may touch that many pages (a gather of sixteen
    /// words, each across two pages) and must get all of them at once.
    pub const MIN_CAP: usize = 32;

    /// No windows yet, over `memory`. The first call in a process installs its handler of memory faults.
    ///
    /// # Errors
    /// The host's pages are larger than the smallest frames, or it takes no handler.
    pub fn new(memory: &'m Memory) -> Result<Self, WindowError> {
        Self::with_cap(memory, Self::DEFAULT_CAP)
    }

    /// As [`Windows::new`]; each window evicts its oldest fill when it has `cap`, at least [`Windows::MIN_CAP`].
    ///
    /// # Errors
    /// As [`Windows::new`].
    pub fn with_cap(memory: &'m Memory, cap: usize) -> Result<Self, WindowError> {
        let bytes = rustix::param::page_size() as u64;
        if bytes != PAGE {
            return Err(WindowError::HostPage { bytes });
        }
        handler::install().map_err(|errno| WindowError::Handler { errno })?;
        let limits = Limits { least: Self::MIN_CAP, window: cap.max(Self::MIN_CAP), process: process_limit() };
        Ok(Self { memory, limits, open: Mutex::new(Vec::new()) })
    }

    /// Fills of all windows of the process together, on all machines. Where there are so many, a window that has
    /// [`Windows::MIN_CAP`] evicts its oldest for a new one.
    #[must_use]
    pub const fn process_cap(&self) -> usize {
        self.limits.process
    }

    /// A window over `region`, whole pages of 4 KiB, with the kernel's rights under the tables at `root`.
    ///
    /// # Errors
    /// See [`WindowError`]; nothing is reserved then.
    pub fn open(&self, region: VirtRange, root: PhysAddr, format: Format) -> Result<Window<'m>, WindowError> {
        self.open_as(region, root, format, Privilege::Kernel, None)
    }

    /// A window over a range of one program's addresses, with the program's rights under the tables at `root`.
    ///
    /// # Errors
    /// As [`Windows::open`].
    pub fn open_user(&self, region: VirtRange, root: PhysAddr, format: Format) -> Result<Window<'m>, WindowError> {
        self.open_as(region, root, format, Privilege::User, None)
    }

    /// A window over a linear map: the first byte of `region` stands for `pa`, every other one accordingly. Tables
    /// that name another frame cause a fault.
    ///
    /// # Errors
    /// As [`Windows::open`]; `pa` must be a multiple of 4 KiB as well.
    pub fn open_linear(
        &self,
        region: VirtRange,
        root: PhysAddr,
        format: Format,
        pa: PhysAddr,
    ) -> Result<LinearWindow<'m>, WindowError> {
        if !pa.is_aligned(PAGE) || pa.checked_add(region.size()).is_none() {
            return Err(WindowError::Misaligned { region });
        }
        let linear = Some((region.start, pa));
        let window = self.open_as(region, root, format, Privilege::Kernel, linear)?;
        Ok(LinearWindow::new(window, pa))
    }

    fn open_as(
        &self,
        region: VirtRange,
        root: PhysAddr,
        format: Format,
        privilege: Privilege,
        linear: Option<(VirtAddr, PhysAddr)>,
    ) -> Result<Window<'m>, WindowError> {
        if !region.start.is_aligned(PAGE) || !region.end().is_aligned(PAGE) {
            return Err(WindowError::Misaligned { region });
        }
        let bits = format.shape().va_bits();
        if region.start.0 >> bits != region.last.0 >> bits {
            return Err(WindowError::BeyondRoot { region });
        }
        let control = Control::of(format).ok_or(WindowError::UnknownFormat { format })?;
        let space = Space { root, control, privilege, linear };
        let opened = Arc::new(Opened::new(self.memory, region, space, self.limits)?);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|window| window.strong_count() != 0);
        open.push(Arc::downgrade(&opened));
        Ok(Window::new(opened))
    }

    /// Empties every window over `range`: the tables are asked again there. Returns when no thread can use what was
    /// mapped any more.
    pub fn flush(&self, range: VirtRange) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for window in open.iter().filter_map(Weak::upgrade) {
            window.region().flush(range);
        }
    }
}

impl Tlb for Windows<'_> {
    fn flush(&mut self, range: VirtRange, _tables: bool) {
        Windows::flush(self, range);
    }
}

impl Tlb for &Windows<'_> {
    fn flush(&mut self, range: VirtRange, _tables: bool) {
        Windows::flush(self, range);
    }
}
