//! What each memory model costs, against hand-computed figures.
#![allow(clippy::unwrap_used, reason = "a test stops where an answer is missing")]

use kernmem_base::{Era, Granule, Pfn, VirtAddr};
use kernmem_sparse::{Geometry, GeometryFacts, Model, SparseArch, Spending, VirtualMap, VmemmapTables};

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;

fn geometry(arch: SparseArch, era: Era, granule: Granule) -> Geometry {
    Geometry::new(GeometryFacts::new(arch, era, granule)).unwrap()
}

fn vmemmap() -> VirtualMap {
    VirtualMap { base: VirtAddr(0xffff_ea00_0000_0000), page_bytes: 64, variable: true }
}

fn spend(geometry: &Geometry, model: Model, ranges: &[(u64, u64)]) -> Spending {
    let shift = geometry.granule().shift();
    let frames = ranges.iter().map(|&(start, end)| (Pfn(start >> shift), Pfn(end >> shift)));
    Spending::of(&geometry.with_model(model), frames, vmemmap(), 48)
}

/// Bytes of descriptors in a flat model and with sections, and the number of sections.
#[track_caller]
fn check(geometry: &Geometry, ranges: &[(u64, u64)], flat: u64, sparse: u64, sections: u64) {
    assert_eq!(spend(geometry, Model::Flat, ranges).memmap_bytes, flat);
    for model in [Model::Static, Model::Extreme, Model::Vmemmap] {
        let ours = spend(geometry, model, ranges);
        assert_eq!((ours.memmap_bytes, ours.sections), (sparse, sections), "{model:?}");
    }
}

#[test]
fn sections_save_the_descriptors_of_large_holes_only() {
    let x86 = geometry(SparseArch::X86_64, Era::V6_1, Granule::K4);
    let arm64 = geometry(SparseArch::Arm64, Era::V6_1, Granule::K4);
    let old = geometry(SparseArch::Arm64, Era::V5_10, Granule::K4);
    let split = [(0, 3 * GIB), (4 * GIB, 5 * GIB)];
    check(&x86, &split, 80 * MIB, 64 * MIB, 32);
    check(&old, &split, 80 * MIB, 64 * MIB, 4);
    check(&x86, &[(0, 2 * GIB), (3 * GIB, 4 * GIB)], 64 * MIB, 48 * MIB, 24);
    check(&arm64, &[(GIB, 3 * GIB)], 32 * MIB, 32 * MIB, 16);
    check(&old, &[(GIB, GIB + 1536 * MIB)], 24 * MIB, 32 * MIB, 2);
    let far = [(0, 512 * MIB), (512 * GIB, 512 * GIB + 512 * MIB)];
    check(&x86, &far, 1025 * GIB / 2 / 64, 16 * MIB, 8);
    check(&x86, &[(0, 200 * MIB), (300 * MIB, 512 * MIB)], 8 * MIB, 8 * MIB, 4);
}

#[test]
fn sections_have_a_price_of_their_own() {
    let x86 = geometry(SparseArch::X86_64, Era::V6_1, Granule::K4);
    let ours = spend(&x86, Model::Vmemmap, &[(0, 3 * GIB), (4 * GIB, 5 * GIB)]);
    assert_eq!((ours.roots_array_bytes, ours.roots, ours.roots_bytes), (16 << 10, 1, 4096));
    assert_eq!(ours.usage_bytes, 32 * 56);
    assert_eq!((ours.table_pages, ours.table_bytes), (2, 8192));
    assert_eq!((ours.memory_bytes, ours.span_bytes), (4 * GIB, 5 * GIB));
    assert_eq!(ours.total_bytes(), (16 << 10) + 4096 + 32 * 56 + 8192 + 64 * MIB);
    let all = spend(&x86, Model::Static, &[(0, GIB)]);
    assert_eq!((all.roots, all.roots_bytes, all.table_pages), (2048, 8 * MIB, 0));
}

#[test]
fn a_full_64_tib_machine_is_counted_without_walking_it() {
    let x86 = geometry(SparseArch::X86_64, Era::V6_1, Granule::K4);
    let ours = spend(&x86, Model::Vmemmap, &[(0, 1 << 46)]);
    assert_eq!((ours.sections, ours.roots, ours.memmap_bytes), (1 << 19, 2048, 1 << 40));
    assert_eq!(ours.table_pages, 1024 + 2); // a PMD table for each GiB of descriptors, a PUD table for each 512 GiB
}

#[test]
fn memory_beyond_the_last_section_is_left_out() {
    let x86 = geometry(SparseArch::X86_64, Era::V6_1, Granule::K4);
    let ours = spend(&x86, Model::Extreme, &[((1 << 46) - GIB, (1 << 46) + GIB), (1 << 50, (1 << 50) + GIB)]);
    assert_eq!((ours.sections, ours.roots), (8, 1));
    assert_eq!(spend(&x86, Model::Vmemmap, &[]).sections, 0);
}

/// Tables below the root for the descriptors of 4 GiB from 1 GiB, as recorded kernels asked for them.
#[track_caller]
fn check_tables(arch: SparseArch, granule: Granule, base: u64, va_bits: u32, tables: u64) {
    let ours = geometry(arch, Era::V6_1, granule);
    let first = Pfn(GIB >> granule.shift());
    let map = VirtualMap::starting_at(VirtAddr(base), first, 64, true);
    let mut count = VmemmapTables::new(&ours, map, va_bits);
    count.add(first, Pfn(((5 * GIB) >> granule.shift()) - 1));
    assert_eq!(count.pages, tables);
}

#[test]
fn four_gib_of_descriptors_need_the_tables_that_kernels_asked_for() {
    check_tables(SparseArch::Arm64, Granule::K4, 0xffff_fc00_0000_0000, 48, 2);
    check_tables(SparseArch::Arm64, Granule::K4, 0xffff_fffe_0000_0000, 39, 1);
    check_tables(SparseArch::Arm64, Granule::K16, 0xffff_ffff_0000_0000, 47, 2);
    check_tables(SparseArch::Arm64, Granule::K64, 0xffff_fff0_0000_0000, 42, 1);
    check_tables(SparseArch::Arm64, Granule::K64, 0xffff_fff0_0000_0000, 52, 2);
    check_tables(SparseArch::X86_64, Granule::K4, 0xffff_ea00_0000_0000, 48, 2);
}
