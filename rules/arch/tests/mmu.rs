//! Rights of a leaf under each register that changes them, written out by hand for both architectures.

use kernmem_arch::arm64::{Arm64Attrs, Arm64Granule4K, bit as arm, mmu as arm64};
use kernmem_arch::i386::{I386Level2, I386Pae};
use kernmem_arch::x86::{X86Attrs, X86Level4, bit as x86_bit, mmu as x86};
use kernmem_arch::{Entry, EntryFormat, FaultKind, MmuFormat, Rights};
use kernmem_base::{Access, Half, Level, PhysAddr, Privilege, VirtAddr};

/// Rights as they are printed: user, then kernel.
fn rights(user: &str, kernel: &str) -> Rights {
    let mut rights = Rights::NONE;
    for (privilege, text) in [(Privilege::User, user), (Privilege::Kernel, kernel)] {
        for (letter, access) in [('r', Access::Read), ('w', Access::Write), ('x', Access::Execute)] {
            rights = rights.with_if(text.contains(letter), access, privilege);
        }
    }
    rights
}

fn arm64_rights(control: arm64::Control, bits: u64) -> Rights {
    Arm64Granule4K::rights(&control, Arm64Attrs(bits))
}

#[test]
fn arm64_leaf_bits_give_these_rights() {
    let plain = arm64::Control::default();
    let both = arm::UXN | arm::PXN;
    assert_eq!(arm64_rights(plain, both), rights("", "rw"));
    assert_eq!(arm64_rights(plain, both | arm::RDONLY), rights("", "r"));
    assert_eq!(arm64_rights(plain, arm::UXN | arm::RDONLY), rights("", "rx"));
    assert_eq!(arm64_rights(plain, both | arm::USER), rights("rw", "rw"));
    assert_eq!(arm64_rights(plain, both | arm::USER | arm::RDONLY), rights("r", "r"));
    assert_eq!(arm64_rights(plain, arm::PXN | arm::USER | arm::RDONLY), rights("rx", "r"));
    // What user mode may only execute, and what it may write the kernel never executes.
    assert_eq!(arm64_rights(plain, arm::PXN | arm::RDONLY), rights("x", "r"));
    assert_eq!(arm64_rights(plain, arm::USER), rights("rwx", "rw"));
}

#[test]
fn arm64_registers_take_and_give_rights() {
    let plain = arm64::Control::default();
    let pan = arm64::Control { pan: true, ..plain };
    assert_eq!(arm64_rights(pan, arm::PXN | arm::USER), rights("rwx", ""));
    assert_eq!(arm64_rights(pan, arm::PXN | arm::RDONLY), rights("x", "r"));
    assert_eq!(arm64_rights(arm64::Control { epan: true, ..pan }, arm::PXN | arm::RDONLY), rights("x", ""));
    let wxn = arm64::Control { wxn: true, ..plain };
    assert_eq!(arm64_rights(wxn, arm::UXN), rights("", "rw"));
    assert_eq!(arm64_rights(wxn, arm::UXN | arm::RDONLY), rights("", "rx"));
    assert_eq!(arm64_rights(wxn, arm::USER | arm::PXN), rights("rw", "rw"));
    let clean = arm::UXN | arm::PXN | arm::RDONLY | arm::DBM;
    assert_eq!(arm64_rights(plain, clean), rights("", "r"));
    assert_eq!(arm64_rights(arm64::Control { sets_dirty: true, ..plain }, clean), rights("", "rw"));
}

#[test]
fn arm64_tables_take_rights_for_good() {
    let inherit = |above, bits| Arm64Granule4K::inherit(above, Arm64Attrs(bits));
    let leaf = Arm64Attrs(arm::USER | arm::DBM);
    let narrow = |above| Arm64Granule4K::narrow(leaf, above).0;
    assert_eq!(narrow(inherit(inherit(Arm64Granule4K::OPEN, 1 << 61), 0b11)), arm::DBM);
    assert_eq!(narrow(inherit(inherit(Arm64Granule4K::OPEN, 0b11), 1 << 62)), arm::USER | arm::RDONLY);
    assert_eq!(narrow(inherit(Arm64Granule4K::OPEN, 1 << 59)), arm::USER | arm::DBM | arm::PXN);
    assert_eq!(narrow(inherit(Arm64Granule4K::OPEN, 1 << 60)), arm::USER | arm::DBM | arm::UXN);
    // NSTable and software's bits take nothing.
    assert_eq!(narrow(inherit(Arm64Granule4K::OPEN, 1 << 63 | 0xf << 55)), leaf.0);
}

#[test]
fn arm64_marks_what_it_used() {
    let software = arm64::Control::default();
    let flag = arm64::Control { sets_access_flag: true, ..software };
    let dirty = arm64::Control { sets_dirty: true, ..flag };
    let clean = arm::DBM | arm::RDONLY;
    let mark = |control, raw, access| Arm64Granule4K::mark(&control, raw, Level::Pte, true, access);
    assert_eq!(mark(software, clean, Access::Read), Err(FaultKind::AccessFlag));
    assert_eq!(mark(flag, clean, Access::Read), Ok(clean | arm::AF));
    assert_eq!(mark(flag, clean, Access::Write), Ok(clean | arm::AF));
    assert_eq!(mark(dirty, clean, Access::Read), Ok(clean | arm::AF));
    assert_eq!(mark(dirty, clean, Access::Write), Ok(arm::DBM | arm::AF));
    assert_eq!(Arm64Granule4K::mark(&software, 0b11, Level::Pmd, false, Access::Write), Ok(0b11));
}

#[test]
fn arm64_addresses_choose_a_half_and_lose_ignored_bits() {
    let tags = arm64::Control {
        translation: kernmem_arch::arm64::ttbr::TranslationControl::of_kernel(48, true),
        compares_fetched_tags: true,
        ..arm64::Control::default()
    };
    let enter = |va, access| Arm64Granule4K::enter(&tags, VirtAddr(va), access, Privilege::Kernel);
    assert_eq!(enter(0xf0ff_0000_0000_1000, Access::Read), Ok((Half::Upper, VirtAddr(0xffff_0000_0000_1000))));
    assert_eq!(enter(0xab00_0000_0000_1000, Access::Write), Ok((Half::Lower, VirtAddr(0x1000))));
    let fetched = enter(0xf0ff_0000_0000_1000, Access::Execute).unwrap_err();
    assert_eq!((fetched.kind, fetched.level), (FaultKind::Translation, Some(Level::Pgd)));
}

fn x86_rights(control: x86::Control, bits: u64) -> Rights {
    X86Level4::rights(&control, X86Attrs(bits))
}

#[test]
fn x86_leaf_bits_give_these_rights() {
    let all = x86::Control::default();
    assert_eq!(x86_rights(all, x86_bit::RW | x86_bit::NX), rights("", "rw"));
    assert_eq!(x86_rights(all, 0), rights("", "rx"));
    assert_eq!(x86_rights(all, x86_bit::USER | x86_bit::RW), rights("rwx", ""));
    assert_eq!(x86_rights(x86::Control { smap: false, ..all }, x86_bit::USER | x86_bit::RW), rights("rwx", "rw"));
    assert_eq!(x86_rights(x86::Control { smap: false, ..all }, x86_bit::USER), rights("rx", "r"));
    assert_eq!(x86_rights(x86::Control { smep: false, ..all }, x86_bit::USER), rights("rx", "x"));
    assert_eq!(x86_rights(x86::Control { wp: false, ..all }, x86_bit::NX), rights("", "rw"));
    let old = x86::Control { wp: false, smap: false, smep: false, ..all };
    assert_eq!(x86_rights(old, x86_bit::USER), rights("rx", "rwx"));
}

#[test]
fn x86_tables_must_all_allow() {
    let inherit = |above, bits| X86Level4::inherit(above, X86Attrs(bits));
    let leaf = X86Attrs(x86_bit::PRESENT | x86_bit::RW | x86_bit::USER);
    let through = |bits| X86Level4::narrow(leaf, inherit(inherit(X86Level4::OPEN, 0x67), bits)).0;
    assert_eq!(through(0x67), leaf.0);
    assert_eq!(through(0x65), x86_bit::PRESENT | x86_bit::USER);
    assert_eq!(through(0x63), x86_bit::PRESENT | x86_bit::RW);
    assert_eq!(through(0x67 | x86_bit::NX), leaf.0 | x86_bit::NX);
    // A leaf's own refusal stays.
    assert_eq!(X86Level4::narrow(X86Attrs(0x61), inherit(X86Level4::OPEN, 0x67)).0, 0x61);
}

#[test]
fn x86_bits_that_must_be_zero() {
    let control = x86::Control { physical_bits: 40, ..x86::Control::default() };
    let read = |control: &x86::Control, raw, level| X86Level4::read(control, raw, level);
    let reserved = Err(FaultKind::ReservedBit);
    for bit in 40..52 {
        for level in [Level::Pgd, Level::Pud, Level::Pmd, Level::Pte] {
            assert_eq!(read(&control, 0x63 | 1 << bit, level), reserved, "bit {bit} at {level}");
        }
    }
    assert_eq!(read(&control, 0xe3, Level::Pgd), reserved);
    for bit in 13..21 {
        assert_eq!(read(&control, 0xe3 | 1 << bit, Level::Pmd), reserved, "bit {bit}");
    }
    for bit in 13..30 {
        assert_eq!(read(&control, 0xe3 | 1 << bit, Level::Pud), reserved, "bit {bit}");
    }
    let pat = Entry::Leaf { base: PhysAddr(0), attrs: X86Attrs(0xe3 | 1 << 12) };
    assert_eq!(read(&control, 0xe3 | 1 << 12, Level::Pmd), Ok(pat));
    assert_eq!(read(&x86::Control { has_gib_pages: false, ..control }, 0xe3, Level::Pud), reserved);
    assert_eq!(read(&x86::Control { nxe: false, ..control }, 0x63 | 1 << 63, Level::Pte), reserved);
    // Without P nothing is looked at.
    assert_eq!(read(&control, 0xffff_ffff_ffff_fffe, Level::Pgd), Err(FaultKind::Translation));
}

#[test]
fn x86_canonical_addresses_have_equal_upper_bits() {
    let enter = |va| X86Level4::enter(&x86::Control::default(), VirtAddr(va), Access::Read, Privilege::User).is_ok();
    assert!(enter(0x0000_7fff_ffff_ffff) && enter(0xffff_8000_0000_0000));
    for bit in 47..64 {
        assert!(!enter(1 << bit), "bit {bit}");
        assert!(!enter(!(1 << bit)), "bit {bit}");
    }
}

/// Laws of every format: what is read is a table or a leaf, at every level; a mark changes neither kind nor address and
/// is set once; rights only shrink through tables.
fn laws<F: MmuFormat>(control: F::Control, words: u64) -> usize {
    let mut seed = kernmem_base::Seed(5);
    let mut read = 0;
    for _ in 0..200_000 {
        let (raw, above) =
            (seed.draw() & !(seed.draw() & seed.draw()) & words, F::inherit(F::OPEN, F::attrs(seed.draw())));
        for level in Level::ALL {
            let Ok(entry) = F::read(&control, raw, level) else { continue };
            read += 1;
            same_kind_and_address::<F>(entry, F::decode(raw, level));
            let is_leaf = matches!(entry, Entry::Leaf { .. });
            let Ok(marked) = F::mark(&control, raw, level, is_leaf, Access::Write) else { continue };
            assert_eq!(F::mark(&control, marked, level, is_leaf, Access::Write), Ok(marked));
            match (entry, F::decode(marked, level)) {
                (Entry::Table { next, .. }, Entry::Table { next: same, .. }) => assert_eq!(next, same),
                (Entry::Leaf { base, attrs }, Entry::Leaf { base: same, .. }) => {
                    assert_eq!(base, same);
                    shrinks::<F>(&control, attrs, above);
                }
                (before, after) => panic!("{before:?} became {after:?}"),
            }
        }
    }
    read
}

/// A table's attributes may be read as fewer limits than they say; nothing else may differ.
fn same_kind_and_address<F: MmuFormat>(read: Entry<F::Attrs>, decoded: Entry<F::Attrs>) {
    match (read, decoded) {
        (Entry::Table { next, .. }, Entry::Table { next: same, .. }) => assert_eq!(next, same),
        (read, decoded) => assert_eq!(read, decoded),
    }
}

fn shrinks<F: MmuFormat>(control: &F::Control, attrs: F::Attrs, above: u64) {
    assert_eq!(F::narrow(attrs, F::OPEN), attrs, "nothing is taken before a table was read");
    let (full, narrow) = (F::rights(control, attrs), F::rights(control, F::narrow(attrs, above)));
    let user = [Access::Read, Access::Write, Access::Execute].map(|access| (access, Privilege::User));
    for (access, privilege) in user.into_iter().chain([(Access::Write, Privilege::Kernel)]) {
        assert!(full.allow(access, privilege) || !narrow.allow(access, privilege), "{attrs:?} {above:#x}");
    }
}

/// The same laws for entries that have 32 bits.
fn laws_of_32_bits(control: x86::Control) -> usize {
    let mut seed = kernmem_base::Seed(6);
    let mut read = 0;
    for _ in 0..200_000 {
        let raw = seed.draw() & !(seed.draw() & seed.draw()) & 0xffff_ffff;
        for level in [Level::Pmd, Level::Pte] {
            let Ok(entry) = I386Level2::read(&control, raw, level) else { continue };
            read += 1;
            let is_leaf = matches!(entry, Entry::Leaf { .. });
            let marked = I386Level2::mark(&control, raw, level, is_leaf, Access::Write).expect("this CPU marks");
            assert_eq!(marked, raw | 0x20 | if is_leaf { 0x40 } else { 0 });
            same_kind_and_address::<I386Level2>(entry, I386Level2::decode(raw, level));
        }
    }
    read
}

/// PAE's root has no rights to give or take, and the CPU writes nothing there; its addresses end at 4 GiB.
#[test]
fn the_root_of_pae_limits_nothing_and_is_not_marked() {
    let control = x86::Control::default();
    let Ok(Entry::Table { next, attrs }) = I386Pae::read(&control, 0x1234_5001, Level::Pgd) else { panic!("a table") };
    assert_eq!(next, PhysAddr(0x1234_5000));
    assert_eq!(I386Pae::inherit(I386Pae::OPEN, attrs), I386Pae::OPEN);
    assert_eq!(I386Pae::mark(&control, 0x1234_5001, Level::Pgd, false, Access::Write), Ok(0x1234_5001));
    // RW, USER, A, D, PSE, G and NX are reserved there.
    for bit in [1, 2, 5, 6, 7, 8, 63] {
        let raw = 0x1234_5001 | 1 << bit;
        assert_eq!(I386Pae::read(&control, raw, Level::Pgd), Err(FaultKind::ReservedBit), "bit {bit}");
    }
    let enter = |va| I386Pae::enter(&control, VirtAddr(va), Access::Read, Privilege::Kernel).is_ok();
    assert!(enter(0xffff_ffff) && enter(0xc000_0000) && !enter(1 << 32) && !enter(0xffff_ffff_c000_0000));
}

/// Bits that are zero in each present entry of PAE: hardly a random word is one.
const PAE_ZEROS: u64 = 0x7ff0_0000_0000_0000;

#[test]
fn every_format_keeps_the_laws_of_walks() {
    let dirty = arm64::Control { sets_access_flag: true, sets_dirty: true, ..arm64::Control::default() };
    assert!(laws::<Arm64Granule4K>(dirty, !0) > 10_000);
    assert!(laws::<Arm64Granule4K>(arm64::Control::default(), !0) > 10_000);
    let plain = x86::Control { smap: false, physical_bits: 52, ..x86::Control::default() };
    assert!(laws::<X86Level4>(plain, !0) > 10_000);
    assert!(laws::<kernmem_arch::x86::X86Level5>(plain, !0) > 10_000);
    assert!(laws::<I386Pae>(plain, !PAE_ZEROS) > 10_000);
    let narrow = laws_of_32_bits(x86::Control { nxe: false, ..plain });
    assert!(narrow > 10_000, "{narrow}");
}
