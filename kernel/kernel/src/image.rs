//! Where the kernel image lies: symbols as linked, moved to where it runs and to where it was loaded.

use alloc::format;

use kernmem_base::{PhysAddr, PhysRange, VirtAddr, VirtRange};
use kernmem_config::Symbols;

use crate::BootError;

/// The kernel image of one boot.
#[derive(Clone, Copy, Debug)]
pub struct Image<'c> {
    symbols: &'c Symbols,
    /// `_text` as linked.
    link: VirtAddr,
    /// `_text` where it runs.
    virt: VirtAddr,
    /// `_text` where it was loaded.
    phys: PhysAddr,
}

impl<'c> Image<'c> {
    /// An image whose `_text` runs at `virt` and was loaded at `phys`.
    ///
    /// # Errors
    /// The symbols name no `_text`.
    pub fn new(symbols: &'c Symbols, virt: Option<VirtAddr>, phys: PhysAddr) -> Result<Self, BootError> {
        let link = symbols.address("_text").ok_or_else(|| missing("_text"))?;
        Ok(Self { symbols, link, virt: virt.unwrap_or(link), phys })
    }

    /// The symbols as linked.
    #[must_use]
    pub const fn symbols(&self) -> &'c Symbols {
        self.symbols
    }

    /// How far the image was moved from where it was linked, modulo 2^64.
    #[must_use]
    pub const fn displacement(&self) -> u64 {
        self.virt.0.wrapping_sub(self.link.0)
    }

    /// Where `name` runs.
    ///
    /// # Errors
    /// The symbols do not name it.
    pub fn virt(&self, name: &str) -> Result<VirtAddr, BootError> {
        Ok(self.moved(self.symbols.address(name).ok_or_else(|| missing(name))?))
    }

    /// Where an address of the linked image runs.
    #[must_use]
    pub const fn moved(&self, linked: VirtAddr) -> VirtAddr {
        VirtAddr(linked.0.wrapping_add(self.displacement()))
    }

    /// Where the first of `names` that the symbols know was loaded: some names differ by era.
    ///
    /// # Errors
    /// The symbols name none of them.
    pub fn phys_any(&self, names: &[&str]) -> Result<PhysAddr, BootError> {
        let address = names.iter().find_map(|name| self.symbols.address(name));
        let address = address.ok_or_else(|| missing(names.first().copied().unwrap_or_default()))?;
        Ok(self.phys_of(self.moved(address)))
    }

    /// Where `name` was loaded.
    ///
    /// # Errors
    /// The symbols do not name it, or it lies outside physical memory.
    pub fn phys(&self, name: &str) -> Result<PhysAddr, BootError> {
        Ok(self.phys_of(self.virt(name)?))
    }

    /// The physical address of an address inside the image.
    #[must_use]
    pub const fn phys_of(&self, va: VirtAddr) -> PhysAddr {
        PhysAddr(va.0.wrapping_sub(self.virt.0).wrapping_add(self.phys.0))
    }

    /// The address in the image of a physical address inside it.
    #[must_use]
    pub const fn virt_of(&self, pa: PhysAddr) -> VirtAddr {
        VirtAddr(pa.0.wrapping_sub(self.phys.0).wrapping_add(self.virt.0))
    }

    /// The addresses from symbol `start` up to symbol `end`; `None` if they are the same.
    ///
    /// # Errors
    /// As [`Image::virt`], or the symbols are in the wrong order.
    pub fn range(&self, start: &str, end: &str) -> Result<Option<VirtRange>, BootError> {
        let (first, last) = (self.virt(start)?, self.virt(end)?);
        if last < first {
            return Err(BootError::Input(format!("symbols: {end} lies below {start}")));
        }
        Ok(VirtRange::until(first, last).filter(|_| first != last))
    }

    /// The memory from symbol `start` up to symbol `end`.
    ///
    /// # Errors
    /// As [`Image::range`].
    pub fn phys_range(&self, start: &str, end: &str) -> Result<PhysRange, BootError> {
        Ok(PhysRange::new(self.phys(start)?, self.phys(end)?))
    }
}

fn missing(name: &str) -> BootError {
    BootError::Input(format!("symbols: no `{name}`; give a System.map of this kernel (--symbols)"))
}
