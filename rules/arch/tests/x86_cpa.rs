//! Changed attributes, worked out by hand for single leaves.

use kernmem_arch::x86::X86Attrs;
use kernmem_arch::x86::bit::{GLOBAL, NX, PRESENT, RW};
use kernmem_arch::x86::cpa::{AliasFacts, Decision, Mapped, Masking, Protections, Target};
use kernmem_arch::x86::cpa::{alias_change, decide, split_attrs};
use kernmem_arch::x86::prot::Masks;
use kernmem_base::{Era, Level, PhysAddr, PhysRange, VirtAddr, VirtRange};

const TEXT: u64 = 0xffff_ffff_8100_0000;
const DIRECT: u64 = 0xffff_8880_0000_0000;
const M2: u64 = 1 << 21;
const OPEN: Masks = Masks::new(true, true, false);

fn va(start: u64, bytes: u64) -> VirtRange {
    VirtRange { start: VirtAddr(start), last: VirtAddr(start + bytes - 1) }
}

fn pa(start: u64, bytes: u64) -> PhysRange {
    PhysRange::new(PhysAddr(start), PhysAddr(start + bytes))
}

/// A kernel at 16M: text 6M+, read-only data from 8M on.
fn protections(rodata_is_readonly: bool) -> Protections {
    Protections {
        text: va(TEXT, 0x60_0100),
        text_and_rodata: va(TEXT, 0xa0_0000),
        rodata: pa(0x180_0000, 0xd_a000),
        rodata_is_readonly,
        pci_bios: false,
    }
}

fn leaf(start: u64, base: u64, level: Level, attrs: u64) -> Target {
    let bytes = if level == Level::Pte { 4096 } else { M2 };
    Target { attrs: X86Attrs(attrs), level, whole: Mapped { va: va(start, bytes), pa: pa(base, bytes) } }
}

fn decided(leaf: &Target, asked: VirtRange, change: Masking, readonly: bool) -> Decision {
    decide(leaf, asked, change, &protections(readonly), OPEN, false)
}

#[test]
fn a_leaf_that_has_the_attributes_stays_whole() {
    let data = leaf(DIRECT + 0x200_0000, 0x200_0000, Level::Pmd, 0x8000_0000_0000_01e3);
    assert_eq!(decided(&data, va(DIRECT + 0x200_1000, 4096), Masking::NX, true), Decision::Nothing);
    assert_eq!(decided(&data, va(DIRECT + 0x200_1000, 4096), Masking::RW, true), Decision::Nothing);
    // asked before any protection: the frames are read-only data, the wanted bit is there already
    let rodata = leaf(DIRECT + 0x180_0000, 0x180_0000, Level::Pmd, 0x8000_0000_0000_01e3);
    assert_eq!(decided(&rodata, va(DIRECT + 0x180_1000, 4096), Masking::RW, true), Decision::Nothing);
}

#[test]
fn part_of_a_leaf_splits_it_and_the_whole_is_rewritten() {
    let data = leaf(DIRECT + 0x200_0000, 0x200_0000, Level::Pmd, 0x8000_0000_0000_01e3);
    let ro = Masking::ro(Era::V6_1);
    assert_eq!(decided(&data, va(DIRECT + 0x200_0000, M2 - 4096), ro, true), Decision::Split);
    let whole = decided(&data, va(DIRECT + 0x1ff_f000, M2 + 8192), ro, true);
    assert_eq!(whole, Decision::Rewrite(X86Attrs(0x8000_0000_0000_01e1)));
    let clean = decided(&data, va(DIRECT + 0x200_0000, M2), Masking::ro(Era::V6_12), true);
    assert_eq!(clean, Decision::Rewrite(X86Attrs(0x8000_0000_0000_01a1)));
    // a part of read-only data made writable splits, though the frame rule would forbid the bit
    let rodata = leaf(DIRECT + 0x180_0000, 0x180_0000, Level::Pmd, 0x8000_0000_0000_01e1);
    assert_eq!(decided(&rodata, va(DIRECT + 0x18d_a000, 0x12_6000), Masking::RW, true), Decision::Split);
}

#[test]
fn a_whole_leaf_that_is_protected_is_split() {
    // NX over a text leaf; RW over a leaf of read-only frames
    let text = leaf(TEXT, 0x100_0000, Level::Pmd, 0x1e1);
    assert_eq!(decided(&text, va(TEXT, M2), Masking::NX, true), Decision::Split);
    let rodata = leaf(DIRECT + 0x180_0000, 0x180_0000, Level::Pmd, 0x8000_0000_0000_01e1);
    assert_eq!(decided(&rodata, va(DIRECT + 0x180_0000, M2), Masking::RW, true), Decision::Split);
    assert_eq!(
        decided(&rodata, va(DIRECT + 0x180_0000, M2), Masking::RW, false),
        Decision::Rewrite(X86Attrs(0x8000_0000_0000_01e3))
    );
    // text is no read-only frame: a whole leaf of it may become writable
    assert_eq!(decided(&text, va(TEXT, M2), Masking::RW, true), Decision::Rewrite(X86Attrs(0x1e3)));
}

#[test]
fn a_page_gets_what_is_not_protected() {
    let rodata = leaf(DIRECT + 0x180_0000, 0x180_0000, Level::Pte, 0x8000_0000_0000_0161);
    assert_eq!(decided(&rodata, rodata.whole.va, Masking::RW, true), Decision::Nothing);
    let gap = leaf(DIRECT + 0x18d_a000, 0x18d_a000, Level::Pte, 0x8000_0000_0000_0161);
    assert_eq!(decided(&gap, gap.whole.va, Masking::RW, true), Decision::Rewrite(X86Attrs(0x8000_0000_0000_0163)));
    let text = leaf(TEXT + 0x60_0000, 0x160_0000, Level::Pte, 0x161);
    assert_eq!(decided(&text, text.whole.va, Masking::NX, true), Decision::Nothing);
    let behind = leaf(TEXT + 0x60_1000, 0x160_1000, Level::Pte, 0x161);
    assert_eq!(
        decided(&behind, behind.whole.va, Masking::NX, true),
        Decision::Rewrite(X86Attrs(0x8000_0000_0000_0161))
    );
}

#[test]
fn the_pci_bios_keeps_execution_where_it_is_used() {
    let bios = leaf(DIRECT + 0xf_0000, 0xf_0000, Level::Pte, 0x163);
    let used = Protections { pci_bios: true, ..protections(false) };
    let decision = |facts| decide(&bios, bios.whole.va, Masking::NX, facts, OPEN, false);
    assert_eq!(decision(&used), Decision::Nothing);
    assert_eq!(decision(&protections(false)), Decision::Rewrite(X86Attrs(0x8000_0000_0000_0163)));
}

#[test]
fn what_is_made_absent_loses_its_global_mark() {
    let page = leaf(DIRECT + 0x200_0000, 0x200_0000, Level::Pte, 0x8000_0000_0000_0163);
    let absent = Masking::unmapped(Era::V6_1);
    assert_eq!(decided(&page, page.whole.va, absent, true), Decision::Rewrite(X86Attrs(0x8000_0000_0000_0060)));
    assert_eq!(
        decided(&page, page.whole.va, Masking::unmapped(Era::V6_12), true),
        Decision::Rewrite(X86Attrs(0x8000_0000_0000_0020))
    );
    // and does not get it back
    let gone = leaf(DIRECT + 0x200_0000, 0x200_0000, Level::Pte, 0x8000_0000_0000_0060);
    assert_eq!(
        decided(&gone, gone.whole.va, Masking::MAPPED, true),
        Decision::Rewrite(X86Attrs(0x8000_0000_0000_0063))
    );
}

#[test]
fn what_the_cpu_lacks_goes_where_a_change_comes() {
    let no_pge = Masks::new(true, false, false);
    let born = X86Attrs(0x1e3);
    assert_eq!(split_attrs(born, Level::Pmd, no_pge), X86Attrs(0x63));
    assert_eq!(split_attrs(born, Level::Pmd, OPEN), X86Attrs(0x163));
    assert_eq!(split_attrs(X86Attrs(0x8000_0000_0000_11e3), Level::Pud, OPEN), X86Attrs(0x8000_0000_0000_11e3));
    assert_eq!(split_attrs(X86Attrs(0x8000_0000_0000_11e3), Level::Pmd, OPEN), X86Attrs(0x8000_0000_0000_01e3));
    let data = leaf(TEXT + 0xc0_0000, 0x1c0_0000, Level::Pmd, 0x1e3);
    let decision = decide(&data, data.whole.va, Masking::NX, &protections(false), no_pge, false);
    assert_eq!(decision, Decision::Rewrite(X86Attrs(0x8000_0000_0000_00e3)));
    let no_nx = Masks::new(false, true, false);
    assert_eq!((Masking::NX.on(no_nx), Masking::X.on(no_nx)), (None, None));
    assert_eq!(Masking::rox(Era::V6_1).on(no_nx), Some(Masking { set: 0, clear: RW }));
}

#[test]
fn forced_pages_split_whatever_they_hold() {
    let data = leaf(DIRECT, 0, Level::Pmd, 0x8000_0000_0000_01e3);
    let nothing = Masking { set: 0, clear: 0 };
    assert_eq!(decide(&data, va(DIRECT, 4096), nothing, &protections(false), OPEN, true), Decision::Split);
    let page = leaf(DIRECT, 0, Level::Pte, 0x8000_0000_0000_0163);
    assert_eq!(decide(&page, va(DIRECT, 4096), nothing, &protections(false), OPEN, true), Decision::Nothing);
}

#[test]
fn aliases_follow_but_not_into_execution() {
    for era in Era::ALL {
        assert_eq!(alias_change(era, Masking::NX), None, "{era}");
        assert_eq!(alias_change(era, Masking::X), None, "{era}");
        assert_eq!(alias_change(era, Masking::RW), Some(Masking::RW), "{era}");
        assert_eq!(alias_change(era, Masking::GLOBAL), Some(Masking { set: GLOBAL, clear: 0 }), "{era}");
        assert_eq!(alias_change(era, Masking::NP), Some(Masking { set: 0, clear: PRESENT }), "{era}");
    }
    // a mixed change takes its NX along only in the older eras
    assert_eq!(alias_change(Era::V6_1, Masking::rox(Era::V6_1)), Some(Masking { set: 0, clear: RW | NX }));
    assert_eq!(alias_change(Era::V6_12, Masking::rox(Era::V6_12)), Some(Masking::ro(Era::V6_12)));
}

#[test]
fn aliases_are_the_other_map_of_the_same_frame() {
    let facts = AliasFacts {
        page_offset: VirtAddr(DIRECT),
        mapped_end: PhysAddr(0x1_4000_0000),
        image: va(TEXT, 0xe1_0000),
        image_frames: pa(0x100_0000, 0x100_0000),
    };
    let aliases = |va, pa| facts.aliases(VirtAddr(va), PhysAddr(pa), true);
    let of_image = aliases(TEXT + 0x5000, 0x100_5000);
    assert_eq!((of_image.direct, of_image.image), (Some(VirtAddr(DIRECT + 0x100_5000)), None));
    let of_direct = aliases(DIRECT + 0x100_5000, 0x100_5000);
    assert_eq!((of_direct.direct, of_direct.image), (None, Some(VirtAddr(TEXT + 0x5000))));
    // behind _brk_end in the image's map: both, the second being itself
    let of_tail = aliases(TEXT + 0xe2_0000, 0x1e2_0000);
    assert_eq!(
        (of_tail.direct, of_tail.image),
        (Some(VirtAddr(DIRECT + 0x1e2_0000)), Some(VirtAddr(TEXT + 0xe2_0000)))
    );
    let elsewhere = aliases(0xffff_c900_0000_0000, 0x4000_0000);
    assert_eq!((elsewhere.direct, elsewhere.image), (Some(VirtAddr(DIRECT + 0x4000_0000)), None));
    let device = facts.aliases(VirtAddr(0xffff_c900_0000_0000), PhysAddr(0xfec0_0000), false);
    assert_eq!((device.direct, device.image), (None, None));
}
