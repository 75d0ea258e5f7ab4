//! Protections of user pages against the constants that a compiler took out of the kernels' headers, and the laws of
//! [`UserFormat`].

use kernmem_arch::arm64::Arm64Granule4K;
use kernmem_arch::i386::{I386Level2, I386Pae};
use kernmem_arch::x86::{X86Level4, X86Level5};
use kernmem_arch::{UserFormat, UserRights};
use kernmem_base::{Era, PhysAddr};

const ARM64_ROWS: &str = include_str!("../../../testing/golden/arm64_prot.csv");
const X86_ROWS: &str = include_str!("../../../testing/golden/x86_prot.csv");

const ERAS: [(Era, &str); 4] = [(Era::V5_10, "5.10"), (Era::V6_1, "6.1"), (Era::V6_12, "6.12"), (Era::V7_2, "7.2")];

/// The value of the row `era,second,name,value,…`; on arm64 only rows without LPA2 and with nG off.
fn row(rows: &str, era: &str, second: &str, name: &str) -> u64 {
    let prefix = format!("{era},{second},{name},");
    let plain = |rest: &&str| rest.ends_with("nG off") || !rest.contains("nG");
    let rest = rows.lines().filter_map(|line| line.strip_prefix(&prefix)).find(plain);
    let value = rest.unwrap_or_else(|| panic!("a row {prefix}")).split(',').next().unwrap_or_default();
    u64::from_str_radix(value.trim_start_matches("0x"), 16).expect("a hexadecimal value")
}

/// Every combination of rights, private and shared, with the name of the protection that Linux's table has for it.
fn combinations() -> impl Iterator<Item = (UserRights, bool, &'static str)> {
    (0..16_u8).map(|bits| {
        let rights = UserRights { read: bits & 1 != 0, write: bits & 2 != 0, execute: bits & 4 != 0 };
        let shared = bits & 8 != 0;
        let name = match (rights.any(), shared && rights.write, rights.execute) {
            (false, _, _) => "PAGE_NONE",
            (_, true, true) => "PAGE_SHARED_EXEC",
            (_, true, false) => "PAGE_SHARED",
            (_, false, true) => "PAGE_READONLY_EXEC",
            (_, false, false) => "PAGE_READONLY",
        };
        (rights, shared, name)
    })
}

fn check<F: UserFormat>(rows: &str, second: &str) {
    for (era, name) in ERAS {
        for (rights, shared, protection) in combinations() {
            let ours = F::bits(F::protection(era, rights, shared));
            assert_eq!(ours, row(rows, name, second, protection), "{name} {rights:?} shared {shared}");
        }
    }
}

#[test]
fn protections_of_user_pages_are_those_of_the_headers() {
    check::<Arm64Granule4K>(ARM64_ROWS, "4K");
    check::<X86Level4>(X86_ROWS, "x86_64");
    check::<X86Level5>(X86_ROWS, "x86_64");
    check::<I386Pae>(X86_ROWS, "i386pae");
    check::<I386Level2>(X86_ROWS, "i386");
}

#[test]
fn private_copies_on_x86_have_the_bits_of_page_copy() {
    for (era, name) in ERAS {
        let bits = |rights| X86Level4::protection(era, rights, false).0;
        assert_eq!(bits(UserRights::READ_WRITE), row(X86_ROWS, name, "x86_64", "PAGE_COPY"));
        let all = UserRights { execute: true, ..UserRights::READ_WRITE };
        assert_eq!(bits(all), row(X86_ROWS, name, "x86_64", "PAGE_COPY_EXEC"));
    }
}

#[test]
fn tables_of_user_mode_have_the_bits_of_the_headers() {
    for (era, name) in ERAS {
        assert_eq!(X86Level4::table(era).0, row(X86_ROWS, name, "x86_64", "_PAGE_TABLE_NOENC"));
        let plain = row(ARM64_ROWS, name, "4K", "PMD_TYPE_TABLE");
        let ours = Arm64Granule4K::table(era).0;
        match era {
            Era::V4_14 | Era::V5_10 => assert_eq!(ours, plain),
            Era::V6_1 | Era::V6_12 => assert_eq!(ours, plain | row(ARM64_ROWS, name, "4K", "PMD_TABLE_PXN")),
            Era::V7_2 => assert_eq!(ours & !0x400, plain | row(ARM64_ROWS, name, "4K", "PMD_TABLE_PXN")),
        }
    }
}

/// By hand: the golden read-only value, DBM (bit 51) and DIRTY (55) set, RDONLY (7) clear on arm64; RW (1) and D (6)
/// set on x86.
#[test]
fn a_written_private_page_has_the_bits_computed_by_hand() {
    for (era, _) in ERAS {
        let arm64 = Arm64Granule4K::protection(era, UserRights::READ_WRITE, false);
        assert_eq!(Arm64Granule4K::make_written(era, arm64).0, 0x00e8_0000_0000_0f43);
        let x86 = X86Level4::protection(era, UserRights::READ_WRITE, false);
        assert_eq!(X86Level4::make_written(era, x86).0, 0x8000_0000_0000_0067);
    }
}

/// By hand: from 6.12 on D (bit 6) moves to bit 58 while RW is clear.
#[test]
fn a_write_protected_page_of_x86_never_looks_like_a_shadow_stack() {
    for (era, expected) in [
        (Era::V5_10, 0x8000_0000_0000_0065),
        (Era::V6_1, 0x8000_0000_0000_0065),
        (Era::V6_12, 0x8400_0000_0000_0025),
        (Era::V7_2, 0x8400_0000_0000_0025),
    ] {
        let written = X86Level4::make_written(era, X86Level4::protection(era, UserRights::READ_WRITE, false));
        let protected = X86Level4::write_protect(era, written);
        assert_eq!(protected.0, expected);
        assert_eq!(X86Level4::make_written(era, protected), written);
    }
}

fn laws<F: UserFormat>(address_bits: u32) {
    let all = [0, 0x1000, 0x8765_4000, 0xffff_f000, 0x0000_8765_4321_0000, 0x0000_ffff_ffff_f000].map(PhysAddr);
    let bases = || all.into_iter().filter(|base| base.0 >> address_bits == 0);
    for (era, _) in ERAS {
        for (rights, shared, _) in combinations() {
            let born = F::protection(era, rights, shared);
            let made = [born, F::make_old(born), F::make_special(born), F::make_written(era, born)];
            for attrs in made.into_iter().filter(|attrs| F::is_valid(*attrs) || *attrs == born) {
                for base in bases() {
                    assert_eq!(F::page(era, F::page_raw(base, attrs)), Some((base, attrs)), "{era:?} {attrs:?}");
                }
                let protected = F::write_protect(era, attrs);
                assert!(!F::is_writable(protected));
                assert_eq!(F::is_dirty(era, protected), F::is_dirty(era, attrs), "{era:?} {attrs:?}");
                rights_come_and_go::<F>(era, attrs, born);
            }
        }
        assert_eq!(F::page(era, 0), None);
    }
}

/// Taking all rights and giving them back keeps age and dirtiness.
fn rights_come_and_go<F: UserFormat>(era: Era, attrs: F::Attrs, born: F::Attrs) {
    let none = F::reprotect(era, attrs, F::protection(era, UserRights::NONE, false));
    assert!(!F::is_valid(none));
    let base = PhysAddr(0x4000_0000);
    assert_eq!(F::page(era, F::page_raw(base, none)), Some((base, none)));
    let back = F::reprotect(era, none, born);
    let marks = |attrs| (F::is_young(attrs), F::is_dirty(era, attrs), F::is_special(attrs));
    assert_eq!((marks(none), marks(back)), (marks(attrs), marks(attrs)), "{era:?} {attrs:?}");
    assert_eq!(F::is_valid(back), F::is_valid(born));
}

#[test]
fn user_pages_keep_their_marks_through_every_change() {
    laws::<Arm64Granule4K>(48);
    laws::<X86Level4>(48);
    laws::<X86Level5>(48);
    laws::<I386Pae>(48);
    laws::<I386Level2>(32);
}
