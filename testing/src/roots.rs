//! Where a dump has its root tables: from the kernel's symbols and the place where the image was loaded.

use kernmem_arch::EntryFormat;
use kernmem_base::{Level, PhysAddr};
use kernmem_dump::ElfDump;
use kernmem_source::Source;
use kernmem_view::{KernelView, RootKind};

/// Names of the kernel's root, by architecture and era.
const ROOTS: [&str; 2] = ["init_top_pgt", "swapper_pg_dir"];

/// The physical address of the kernel's root in a dump of this kernel.
#[must_use]
pub fn dumped_root(source: &Source) -> Option<PhysAddr> {
    let symbols = &source.config.symbols;
    let root = ROOTS.into_iter().find_map(|name| symbols.address(name))?;
    Some(source.config.given.text_phys? + (root - symbols.address("_text")?))
}

/// The roots of a kernel that stay: which, where it lies in ours, and where in a dump. The others lie beside the
/// kernel's in the image.
///
/// # Panics
/// The kernel has no tables, or its symbols name no root.
pub fn roots<V: KernelView>(kernel: &V, source: &Source) -> Vec<(RootKind, PhysAddr, PhysAddr)> {
    let own = kernel.root(RootKind::Kernel).known().expect("a kernel has tables");
    let theirs = dumped_root(source).expect("the symbols name a root");
    let place = |kind| {
        let root = kernel.root(kind).known()?;
        Some((kind, root, PhysAddr(theirs.0.wrapping_add(root.0.wrapping_sub(own.0)))))
    };
    [RootKind::Kernel, RootKind::User, RootKind::Idmap].into_iter().filter_map(place).collect()
}

/// The roots that the CPUs of a dump had loaded, as far as their notes tell.
pub fn loaded_roots(dump: &ElfDump) -> impl Iterator<Item = PhysAddr> {
    // The lower bits are the number of the space, or, with a root of 32 bytes, part of its address.
    dump.notes().filter_map(|note| note.x86_control()).map(|control| PhysAddr(control.cr3 & 0x000f_ffff_ffff_ffe0))
}

/// An entry of a dump without the mark "accessed" of PAE's root: the emulator that wrote the dumps sets it there, where
/// the architecture has a zero and no CPU marks anything.
#[must_use]
pub fn without_mark<F: EntryFormat>(raw: u64, level: Level) -> u64 {
    const ACCESSED: u64 = 1 << 5;
    if F::shape().arch == "ia32_pae" && level == Level::Pgd { raw & !ACCESSED } else { raw }
}
