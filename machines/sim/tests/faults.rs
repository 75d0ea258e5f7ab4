//! Every kind of fault at every level, with the registers as the manuals' tables have them.
//!
//! arm64: EC in bits 31:26 (0x20 and 0x21 fetch, 0x24 and 0x25 data; the even one from user mode), IL bit 25, WnR
//! bit 6, then the status code, whose last two bits are the level. x86: P 1, W 2, U 4, RSVD 8, I 16.
#![allow(clippy::unwrap_used, reason = "a test stops where an answer is missing")]

mod common;

use common::*;
use kernmem_arch::arm64::{Arm64Granule4K, bit, mmu as arm64};
use kernmem_arch::x86::{X86Level4, bit as x86_bit, mmu as x86};
use kernmem_arch::{Fault, FaultKind, MmuFormat, Syndrome};
use kernmem_base::{Access, Level, PhysAddr, Privilege, VirtAddr};
use kernmem_sim::{Memory, Mmu};

use Access::{Execute, Read, Write};
use Privilege::{Kernel, User};

type Arm = Arm64Granule4K;
type X86 = X86Level4;

const LEVELS: [Level; 4] = [Level::Pgd, Level::Pud, Level::Pmd, Level::Pte];
const LEAVES: [Level; 3] = [Level::Pud, Level::Pmd, Level::Pte];

/// A kernel's data page, and links of its tables.
const ARM_DATA: u64 = 0x00e8_0000_0000_0703;
const ARM_LINK: u64 = 0b11;
const X86_DATA: u64 = 0x8000_0000_0000_0163;
const X86_LINK: u64 = 0x67;

/// A hole of the memory that every format can name.
const HOLE: u64 = 1 << 32;

#[track_caller]
fn refused<F: MmuFormat>(mmu: &mut Mmu<F>, mem: &Memory, access: Access, privilege: Privilege) -> Fault {
    refused_at(mmu, mem, VA, access, privilege)
}

#[track_caller]
fn refused_at<F: MmuFormat>(
    mmu: &mut Mmu<F>,
    mem: &Memory,
    va: VirtAddr,
    access: Access,
    privilege: Privilege,
) -> Fault {
    let fault = mmu.access(mem, va, access, privilege).unwrap_err();
    assert_eq!((fault.va, fault.access, fault.privilege), (va, access, privilege));
    fault
}

#[track_caller]
fn check_arm(fault: Fault, kind: FaultKind, level: Option<Level>, esr: u64) {
    assert_eq!((fault.kind, fault.level, fault.esr()), (kind, level, Some(esr)), "{:#x?}", fault.esr());
    assert_eq!(fault.error_code(), None);
}

#[track_caller]
fn check_x86(fault: Fault, kind: FaultKind, level: Level, code: u32) {
    assert_eq!((fault.kind, fault.level, fault.error_code()), (kind, Some(level), Some(code)));
    assert_eq!(fault.esr(), None);
}

#[test]
fn arm64_translation_faults_name_the_level_of_the_empty_entry() {
    let esrs = [0x9600_0004, 0x9600_0005, 0x9600_0006, 0x9600_0007];
    for (level, esr) in LEVELS.into_iter().zip(esrs) {
        let (mem, mut mmu) = (memory(), mmu::<Arm>());
        chain::<Arm>(&mem, ARM_LINK, Level::Pte, ARM_DATA);
        put::<Arm>(&mem, VA, level, 0xffff_ffff_ffff_fffe); // all but valid
        check_arm(refused(&mut mmu, &mem, Read, Kernel), FaultKind::Translation, Some(level), esr);
        check_arm(refused(&mut mmu, &mem, Write, Kernel), FaultKind::Translation, Some(level), esr | 0x40);
        check_arm(refused(&mut mmu, &mem, Execute, User), FaultKind::Translation, Some(level), esr - 0x1400_0000);
    }
    // A block where none can be, and a page of the block type.
    for (level, esr) in [(Level::Pgd, 0x9600_0004), (Level::Pte, 0x9600_0007)] {
        let (mem, mut mmu) = (memory(), mmu::<Arm>());
        chain::<Arm>(&mem, ARM_LINK, Level::Pte, ARM_DATA);
        put::<Arm>(&mem, VA, level, ARM_DATA & !0b10);
        check_arm(refused(&mut mmu, &mem, Read, Kernel), FaultKind::Translation, Some(level), esr);
    }
}

#[test]
fn arm64_address_size_faults_name_the_level_of_the_entry_that_points_too_far() {
    let esrs = [0x9600_0000, 0x9600_0001, 0x9600_0002, 0x9600_0003];
    let small = arm64::Control { output_bits: 36, ..Default::default() };
    for (level, esr) in LEVELS.into_iter().zip(esrs) {
        let (mem, mut mmu) = (memory(), mmu::<Arm>());
        mmu.set_control(small);
        chain::<Arm>(&mem, ARM_LINK, Level::Pte, ARM_DATA);
        put::<Arm>(&mem, VA, level, 1 << 36 | ARM_LINK); // also without the access flag: the size comes first
        check_arm(refused(&mut mmu, &mem, Read, Kernel), FaultKind::AddressSize, Some(level), esr);
    }
    for (level, esr) in [(Level::Pud, 0x9600_0001), (Level::Pmd, 0x9600_0002)] {
        let (mem, mut mmu) = (memory(), mmu::<Arm>());
        mmu.set_control(small);
        chain::<Arm>(&mem, ARM_LINK, level, ARM_DATA);
        put::<Arm>(&mem, VA, level, 1 << 36 | ARM_DATA & !0b10);
        check_arm(refused(&mut mmu, &mem, Read, Kernel), FaultKind::AddressSize, Some(level), esr);
    }
    let (mem, mut mmu) = (memory(), mmu::<Arm>());
    mmu.set_control(small);
    mmu.load_root(kernmem_base::Half::Upper, PhysAddr(1 << 40), kernmem_base::Asid(0));
    check_arm(refused(&mut mmu, &mem, Read, Kernel), FaultKind::AddressSize, Some(Level::Pgd), 0x9600_0000);
    assert_eq!((mmu.counters().references, mem.references()), (0, 0));
}

#[test]
fn arm64_access_flag_faults_come_before_permission_faults() {
    let esrs = [0x9600_0049, 0x9600_004a, 0x9600_004b];
    for (level, esr) in LEAVES.into_iter().zip(esrs) {
        let (mem, mut mmu) = (memory(), mmu::<Arm>());
        chain::<Arm>(&mem, ARM_LINK, level, (ARM_DATA | bit::RDONLY) & !bit::AF);
        check_arm(refused(&mut mmu, &mem, Write, Kernel), FaultKind::AccessFlag, Some(level), esr);
        assert_eq!((mmu.held(), get::<Arm>(&mem, VA, level) & bit::AF), (0, 0));
    }
}

#[test]
fn arm64_permission_faults_of_each_access_and_mode() {
    let low_bits = [0x0d, 0x0e, 0x0f];
    for (level, low) in LEAVES.into_iter().zip(low_bits) {
        let (mem, mut mmu) = (memory(), mmu::<Arm>());
        chain::<Arm>(&mem, ARM_LINK, level, ARM_DATA | bit::RDONLY);
        let permission = FaultKind::Permission;
        check_arm(refused(&mut mmu, &mem, Write, Kernel), permission, Some(level), 0x9600_0040 | low);
        check_arm(refused(&mut mmu, &mem, Execute, Kernel), permission, Some(level), 0x8600_0000 | low);
        check_arm(refused(&mut mmu, &mem, Read, User), permission, Some(level), 0x9200_0000 | low);
        check_arm(refused(&mut mmu, &mem, Write, User), permission, Some(level), 0x9200_0040 | low);
        check_arm(refused(&mut mmu, &mem, Execute, User), permission, Some(level), 0x8200_0000 | low);
        // The same from the TLB.
        assert!(!mmu.access(&mem, VA, Read, Kernel).unwrap().hit);
        check_arm(refused(&mut mmu, &mem, Write, Kernel), permission, Some(level), 0x9600_0040 | low);
        assert!(mmu.access(&mem, VA, Read, Kernel).unwrap().hit);
    }
}

#[test]
fn arm64_rights_that_a_table_takes_fault_at_the_leaf() {
    for level in [Level::Pgd, Level::Pud, Level::Pmd] {
        let next = match level {
            Level::Pgd => Level::Pud,
            Level::Pud => Level::Pmd,
            _ => Level::Pte,
        };
        let link = table::<Arm>(next).0 | ARM_LINK;
        let check = |taken: u64, access, privilege, esr| {
            let (mem, mut mmu) = (memory(), mmu::<Arm>());
            chain::<Arm>(&mem, ARM_LINK, Level::Pte, bit::USER | bit::AF | 0b11);
            mmu.access(&mem, VA, access, privilege).unwrap();
            kernmem_base::Tlb::flush(&mut mmu, kernmem_base::VirtRange::ALL, false);
            put::<Arm>(&mem, VA, level, link | taken);
            let fault = refused(&mut mmu, &mem, access, privilege);
            check_arm(fault, FaultKind::Permission, Some(Level::Pte), esr);
        };
        check(1 << 61, Read, User, 0x9200_000f);
        check(1 << 62, Write, User, 0x9200_004f);
        check(1 << 60, Execute, User, 0x8200_000f);
        // PXNTable needs a page that the kernel may execute.
        let (mem, mut mmu) = (memory(), mmu::<Arm>());
        chain::<Arm>(&mem, ARM_LINK, Level::Pte, bit::RDONLY | bit::AF | 0b11);
        put::<Arm>(&mem, VA, level, link | 1 << 59);
        check_arm(refused(&mut mmu, &mem, Execute, Kernel), FaultKind::Permission, Some(Level::Pte), 0x8600_000f);
    }
}

#[test]
fn arm64_addresses_that_no_root_translates_fault_at_level_0_without_a_reference() {
    let (mem, mut mmu) = (memory(), mmu::<Arm>());
    chain::<Arm>(&mem, ARM_LINK, Level::Pte, ARM_DATA);
    let check = |mmu: &mut Mmu<Arm>, va: u64, privilege, esr| {
        let fault = refused_at(mmu, &mem, VirtAddr(va), Read, privilege);
        check_arm(fault, FaultKind::Translation, Some(Level::Pgd), esr);
    };
    check(&mut mmu, VA.0 ^ 1 << 48, Kernel, 0x9600_0004);
    check(&mut mmu, VA.0 ^ 1 << 63, Kernel, 0x9600_0004); // the kernel's half compares its top byte
    check(&mut mmu, 1 << 48, User, 0x9200_0004);
    let mut control = *mmu.control();
    control.upper.refuses_user = true;
    mmu.set_control(control);
    check(&mut mmu, VA.0, User, 0x9200_0004);
    control.upper.is_off = true;
    mmu.set_control(control);
    check(&mut mmu, VA.0, Kernel, 0x9600_0004);
    assert_eq!((mmu.counters().references, mem.references()), (0, 0));
}

#[test]
fn arm64_walks_off_still_use_what_the_tlb_holds() {
    let (mem, mut mmu) = (memory(), mmu::<Arm>());
    chain::<Arm>(&mem, ARM_LINK, Level::Pte, ARM_DATA);
    mmu.access(&mem, VA, Read, Kernel).unwrap();
    let mut control = *mmu.control();
    control.upper.is_off = true;
    mmu.set_control(control);
    assert!(mmu.access(&mem, VA, Read, Kernel).unwrap().hit);
}

#[test]
fn arm64_external_aborts_tell_walks_from_data() {
    let esrs = [0x9600_0015, 0x9600_0016, 0x9600_0017];
    for (above, esr) in [Level::Pgd, Level::Pud, Level::Pmd].into_iter().zip(esrs) {
        let (mem, mut mmu) = (memory(), mmu::<Arm>());
        chain::<Arm>(&mem, ARM_LINK, Level::Pte, ARM_DATA);
        put::<Arm>(&mem, VA, above, HOLE | ARM_LINK);
        let fault = refused(&mut mmu, &mem, Read, Kernel);
        assert_eq!((fault.kind, fault.esr()), (FaultKind::External, Some(esr)));
        assert_eq!(mmu.counters().references, mem.references());
    }
    let (mem, mut mmu) = (memory(), mmu::<Arm>());
    mmu.load_root(kernmem_base::Half::Upper, PhysAddr(HOLE), kernmem_base::Asid(0));
    check_arm(refused(&mut mmu, &mem, Read, Kernel), FaultKind::External, Some(Level::Pgd), 0x9600_0014);
    // A page of a hole is translated; its data is not there.
    chain::<Arm>(&mem, ARM_LINK, Level::Pte, ARM_DATA);
    put::<Arm>(&mem, VA, Level::Pte, HOLE | ARM_DATA);
    mmu.load_root(kernmem_base::Half::Upper, PhysAddr(ROOT), kernmem_base::Asid(0));
    assert_eq!(mmu.access(&mem, VA, Write, Kernel).unwrap().pa, PhysAddr(HOLE | 0x238));
    let stopped = mmu.write_u64(&mem, VA, 7, Kernel).unwrap_err();
    assert_eq!(stopped.done, 0);
    check_arm(stopped.fault, FaultKind::External, None, 0x9600_0050);
    check_arm(mmu.read_u64(&mem, VA, Kernel).unwrap_err().fault, FaultKind::External, None, 0x9600_0010);
}

#[test]
fn x86_not_present_at_each_level() {
    let accesses = [(Read, Kernel, 0x0), (Write, Kernel, 0x2), (Execute, Kernel, 0x10), (Read, User, 0x4)];
    let more = [(Write, User, 0x6), (Execute, User, 0x14)];
    for level in LEVELS {
        for (access, privilege, code) in accesses.into_iter().chain(more) {
            let (mem, mut mmu) = (memory(), mmu::<X86>());
            chain::<X86>(&mem, X86_LINK, Level::Pte, X86_DATA);
            put::<X86>(&mem, VA, level, 0xffff_ffff_ffff_fffe);
            check_x86(refused(&mut mmu, &mem, access, privilege), FaultKind::Translation, level, code);
        }
    }
}

#[test]
fn x86_reserved_bits_at_each_level_come_before_rights() {
    for level in LEVELS {
        let (mem, mut mmu) = (memory(), mmu::<X86>());
        chain::<X86>(&mem, X86_LINK, Level::Pte, X86_DATA);
        let raw = get::<X86>(&mem, VA, level);
        put::<X86>(&mem, VA, level, (raw | 1 << 46) & !x86_bit::RW); // beyond the 46 bits of the CPU
        check_x86(refused(&mut mmu, &mem, Write, Kernel), FaultKind::ReservedBit, level, 0xb);
        check_x86(refused(&mut mmu, &mem, Read, User), FaultKind::ReservedBit, level, 0xd);
        check_x86(refused(&mut mmu, &mem, Execute, Kernel), FaultKind::ReservedBit, level, 0x19);
    }
    let (mem, mut mmu) = (memory(), mmu::<X86>());
    chain::<X86>(&mem, X86_LINK, Level::Pte, X86_DATA);
    put::<X86>(&mem, VA, Level::Pgd, table::<X86>(Level::Pud).0 | X86_LINK | x86_bit::PSE);
    check_x86(refused(&mut mmu, &mem, Read, Kernel), FaultKind::ReservedBit, Level::Pgd, 0x9);
    chain::<X86>(&mem, X86_LINK, Level::Pte, X86_DATA);
    mmu.set_control(x86::Control { nxe: false, smep: false, ..Default::default() });
    check_x86(refused(&mut mmu, &mem, Read, Kernel), FaultKind::ReservedBit, Level::Pte, 0x9);
    // A CPU that knows no execution rights does not tell fetches.
    check_x86(refused(&mut mmu, &mem, Execute, Kernel), FaultKind::ReservedBit, Level::Pte, 0x9);
}

#[test]
fn x86_rights_must_be_given_at_every_level() {
    const USER_PAGE: u64 = 0x67;
    for leaf in LEAVES {
        for taker in LEVELS.into_iter().filter(|&level| level <= leaf) {
            let check = |take: fn(u64) -> u64, access, privilege, code| {
                let (mem, mut mmu) = (memory(), mmu::<X86>());
                chain::<X86>(&mem, X86_LINK, leaf, USER_PAGE);
                mmu.access(&mem, VA, access, privilege).unwrap();
                kernmem_base::Tlb::flush(&mut mmu, kernmem_base::VirtRange::ALL, false);
                put::<X86>(&mem, VA, taker, take(get::<X86>(&mem, VA, taker)));
                check_x86(refused(&mut mmu, &mem, access, privilege), FaultKind::Permission, leaf, code);
            };
            check(|raw| raw & !x86_bit::RW, Write, User, 0x7);
            check(|raw| raw & !x86_bit::USER, Read, User, 0x5);
            check(|raw| raw & !x86_bit::USER, Write, User, 0x7);
            check(|raw| raw | x86_bit::NX, Execute, User, 0x15);
        }
        let (mem, mut mmu) = (memory(), mmu::<X86>());
        chain::<X86>(&mem, X86_LINK, leaf, X86_DATA & !x86_bit::RW);
        check_x86(refused(&mut mmu, &mem, Write, Kernel), FaultKind::Permission, leaf, 0x3);
        check_x86(refused(&mut mmu, &mem, Execute, Kernel), FaultKind::Permission, leaf, 0x11);
        chain::<X86>(&mem, X86_LINK, leaf, USER_PAGE);
        check_x86(refused(&mut mmu, &mem, Read, Kernel), FaultKind::Permission, leaf, 0x1); // SMAP
        check_x86(refused(&mut mmu, &mem, Execute, Kernel), FaultKind::Permission, leaf, 0x11); // SMEP
    }
}

#[test]
fn x86_faults_that_are_no_page_faults() {
    let (mem, mut mmu) = (memory(), mmu::<X86>());
    chain::<X86>(&mem, X86_LINK, Level::Pte, X86_DATA);
    let fault = refused_at(&mut mmu, &mem, VirtAddr(VA.0 ^ 1 << 63), Read, User);
    assert_eq!(
        (fault.kind, fault.level, fault.syndrome),
        (FaultKind::NonCanonical, None, Syndrome::X86GeneralProtection)
    );
    assert_eq!(mem.references(), 0);
    put::<X86>(&mem, VA, Level::Pmd, HOLE | X86_LINK);
    let fault = refused(&mut mmu, &mem, Read, Kernel);
    assert_eq!((fault.kind, fault.level), (FaultKind::External, Some(Level::Pte)));
    assert_eq!(fault.syndrome, Syndrome::X86MachineCheck);
}

#[test]
fn a_fault_leaves_the_tables_and_the_tlb_as_they_were() {
    let (mem, mut mmu) = (memory(), mmu::<X86>());
    chain::<X86>(&mem, 0x03, Level::Pte, X86_DATA & !(x86_bit::RW | x86_bit::ACCESSED | x86_bit::DIRTY));
    let before = LEVELS.map(|level| get::<X86>(&mem, VA, level));
    refused(&mut mmu, &mem, Write, Kernel);
    assert_eq!(LEVELS.map(|level| get::<X86>(&mem, VA, level)), before);
    let counters = mmu.counters();
    assert_eq!((mmu.held(), counters.fills, counters.marks, counters.faults), (0, 0, 0, 1));
    assert_eq!((counters.references, mem.references()), (4, 4));
}
