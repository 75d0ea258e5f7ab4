//! The regions of an address space by name: for options that choose one, and for our own reports.

use alloc::vec::Vec;

use kernmem_arch::{arm64, x86};
use kernmem_base::{VirtAddr, VirtRange};
use kernmem_view::{KernelView, LayoutView};

/// A region.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Region {
    /// The word that chooses it.
    pub key: &'static str,
    /// What it is for.
    pub name: &'static str,
    /// Its addresses.
    pub range: VirtRange,
}

fn push(all: &mut Vec<Region>, key: &'static str, name: &'static str, start: VirtAddr, end: VirtAddr) {
    if let Some(range) = VirtRange::until(start, end) {
        all.push(Region { key, name, range });
    }
}

/// The regions of an arm64 kernel, lowest first.
#[must_use]
pub fn arm64(layout: &arm64::Layout) -> Vec<Region> {
    let mut all = Vec::new();
    push(&mut all, "linear", "linear map", layout.page_offset, layout.page_end);
    if let Some((start, end)) = layout.kasan {
        push(&mut all, "kasan", "KASAN shadow", start, end);
    }
    if let Some((start, end)) = layout.bpf {
        push(&mut all, "bpf", "BPF JIT", start, end);
    }
    push(&mut all, "modules", "modules", layout.modules_start, layout.modules_end);
    push(&mut all, "vmalloc", "vmalloc, kernel image", layout.kimage, layout.vmalloc_end);
    push(&mut all, "fixmap", "fixed mappings", layout.fixaddr_tot_start, layout.fixaddr_top);
    push(&mut all, "pci-io", "PCI I/O", layout.pci_io_start, layout.pci_io_end);
    push(&mut all, "vmemmap", "memory map", layout.vmemmap_start, layout.vmemmap_end);
    all.sort_by_key(|region| region.range.start);
    all
}

/// The regions of an x86-64 kernel, lowest first.
#[must_use]
pub fn x86(layout: &x86::layout::Layout) -> Vec<Region> {
    let mut all = Vec::new();
    let root = 1u64 << layout.paging.root_shift();
    push(&mut all, "user", "user mode", VirtAddr(0), layout.user_last.wrapping_add(1));
    if let Some(ldt) = layout.ldt {
        push(&mut all, "ldt", "descriptor tables of user mode", ldt.start, ldt.end());
    }
    let direct_end = layout.page_offset.wrapping_add(layout.physmem_last.0 + 1).min(layout.vmalloc_start);
    push(&mut all, "linear", "direct map", layout.page_offset, direct_end);
    push(&mut all, "vmalloc", "vmalloc", layout.vmalloc_start, layout.vmemory_last.wrapping_add(1));
    let descriptors = (layout.physmem_last.0 >> 12).saturating_add(1) << 6;
    push(&mut all, "vmemmap", "memory map", layout.vmemmap, layout.vmemmap.wrapping_add(descriptors));
    if let Some(shadow) = layout.kasan_shadow {
        push(&mut all, "kasan", "KASAN shadow", shadow.start, shadow.end());
    }
    let slot = 1u64 << x86::layout::Paging::P4D_SHIFT;
    push(&mut all, "cpu-entry-area", "CPU entry areas", layout.cpu_entry_area, layout.cpu_entry_area + slot);
    push(&mut all, "espfix", "espfix stacks", layout.espfix, layout.espfix + slot.min(root));
    push(&mut all, "efi", "EFI run-time services", layout.efi_end, layout.efi_start);
    let image_end = layout.start_kernel_map + layout.kernel_image_size;
    push(&mut all, "image", "kernel image", layout.start_kernel_map, image_end);
    push(&mut all, "modules", "modules", layout.modules_start, layout.modules_end);
    push(&mut all, "fixmap", "fixed mappings", layout.modules_end, VirtAddr(0));
    all
}

/// The regions of a kernel, lowest first; on arm64 with the image as one of its own behind them.
#[must_use]
pub fn of<V: KernelView>(view: &V) -> Vec<Region> {
    match view.layout() {
        LayoutView::Arm64 { layout, .. } => {
            let mut all = arm64(layout);
            if let Some((range, _)) = view.image().known() {
                all.push(Region { key: "image", name: "kernel image", range });
            }
            all
        }
        LayoutView::X86 { layout, .. } => x86(layout),
        _ => Vec::new(),
    }
}
