//! What a TLB keeps, and until when: capacity, spaces, globals, flushes, conflicts.
#![allow(clippy::unwrap_used, reason = "a test stops where an answer is missing")]

mod common;

use common::*;
use kernmem_arch::arm64::{Arm64Granule4K, bit};
use kernmem_arch::x86::{X86Level4, bit as x86_bit, mmu as x86};
use kernmem_arch::{FaultKind, MmuFormat};
use kernmem_base::{Access, Asid, Half, Level, PhysAddr, Privilege, Tlb, VirtAddr, VirtRange};
use kernmem_sim::{Conflict, Memory, Mmu, TlbShape};

use Access::{Read, Write};
use Privilege::Kernel;

type Arm = Arm64Granule4K;
type X86 = X86Level4;

const ARM_DATA: u64 = 0x00e8_0000_0000_0703;
const ARM_LINK: u64 = 0b11;
const X86_DATA: u64 = 0x8000_0000_0000_0163;
const X86_LINK: u64 = 0x67;

/// The page `number` pages behind the first of the chain's last table.
fn page(number: u64) -> VirtAddr {
    VirtAddr((VA.0 & !0x1f_ffff) + (number << 12))
}

/// A chain with `count` pages of `attrs`.
fn pages<F: MmuFormat>(links: u64, attrs: u64, count: u64) -> Memory {
    let mem = memory();
    for number in 0..count {
        chain_at::<F>(&mem, page(number), links, Level::Pte, attrs);
    }
    mem
}

fn is_hit<F: MmuFormat>(mmu: &mut Mmu<F>, mem: &Memory, va: VirtAddr) -> bool {
    mmu.access(mem, va, Read, Kernel).unwrap().hit
}

fn one(va: VirtAddr) -> VirtRange {
    VirtRange::of_size(va, 4096).unwrap()
}

#[test]
fn the_entry_that_was_used_longest_ago_makes_room() {
    let mem = pages::<Arm>(ARM_LINK, ARM_DATA, 5);
    let mut mmu = mmu_of::<Arm>(&TlbShape { entries: 4, ways: 4, ..TlbShape::default() });
    for number in 0..4 {
        assert!(!is_hit(&mut mmu, &mem, page(number)));
    }
    assert!(is_hit(&mut mmu, &mem, page(0)));
    assert!(!is_hit(&mut mmu, &mem, page(4))); // in the place of page 1
    assert!([0, 2, 3, 4].into_iter().all(|number| is_hit(&mut mmu, &mem, page(number))));
    assert!(!is_hit(&mut mmu, &mem, page(1))); // in the place of page 0
    assert!(!is_hit(&mut mmu, &mem, page(0)));
    let counters = mmu.counters();
    assert_eq!((mmu.held(), counters.fills, counters.evictions), (4, 7, 3));
}

#[test]
fn pages_of_one_set_compete_and_others_do_not() {
    // Four sets of two: pages 0, 4 and 8 share one.
    let mem = pages::<Arm>(ARM_LINK, ARM_DATA, 9);
    let mut mmu = mmu_of::<Arm>(&TlbShape { entries: 8, ways: 2, ..TlbShape::default() });
    for number in [0, 1, 2, 3, 4, 8] {
        assert!(!is_hit(&mut mmu, &mem, page(number)));
    }
    assert!([1, 2, 3, 4, 8].into_iter().all(|number| is_hit(&mut mmu, &mem, page(number))));
    assert!(!is_hit(&mut mmu, &mem, page(0)));
    assert_eq!(mmu.counters().evictions, 2);
}

#[test]
fn a_stale_translation_is_used_until_it_is_flushed() {
    let mem = pages::<Arm>(ARM_LINK, ARM_DATA, 3);
    let mut mmu = mmu::<Arm>();
    (0..3).for_each(|number| assert!(!is_hit(&mut mmu, &mem, page(number))));
    (0..3).for_each(|number| put::<Arm>(&mem, page(number), Level::Pte, 0));
    assert!((0..3).all(|number| is_hit(&mut mmu, &mem, page(number))));
    mmu.flush(one(page(1)), false);
    assert!(is_hit(&mut mmu, &mem, page(0)) && is_hit(&mut mmu, &mem, page(2)), "others stay");
    let fault = mmu.access(&mem, page(1), Read, Kernel).unwrap_err();
    assert_eq!((fault.kind, fault.level), (FaultKind::Translation, Some(Level::Pte)));
    mmu.flush(VirtRange::ALL, true);
    assert_eq!((mmu.held(), mmu.counters().dropped), (0, 3));
}

#[test]
fn a_flush_of_one_byte_takes_the_block_around_it() {
    let mem = memory();
    chain::<X86>(&mem, X86_LINK, Level::Pmd, X86_DATA);
    let mut mmu = mmu::<X86>();
    mmu.access(&mem, VA, Read, Kernel).unwrap();
    mmu.flush(VirtRange::of_size(VirtAddr((VA.0 & !0x1f_ffff) - 1), 1).unwrap(), false);
    assert_eq!(mmu.held(), 1);
    let last = VirtAddr(VA.0 | 0x1f_ffff);
    mmu.flush(VirtRange { start: last, last }, false);
    assert_eq!(mmu.held(), 0);
}

#[test]
fn what_is_absent_or_refused_is_never_kept() {
    let mem = pages::<Arm>(ARM_LINK, ARM_DATA, 1);
    let mut mmu = mmu::<Arm>();
    put::<Arm>(&mem, page(0), Level::Pte, 0);
    assert!(mmu.access(&mem, page(0), Read, Kernel).is_err());
    put::<Arm>(&mem, page(0), Level::Pte, ARM_DATA & !bit::AF);
    assert!(mmu.access(&mem, page(0), Read, Kernel).is_err());
    // Made present: visible without a flush.
    put::<Arm>(&mem, page(0), Level::Pte, ARM_DATA);
    assert!(!is_hit(&mut mmu, &mem, page(0)));
}

#[test]
fn spaces_are_apart_and_globals_belong_to_all() {
    let mem = pages::<Arm>(ARM_LINK, ARM_DATA | bit::NG, 2);
    put::<Arm>(&mem, page(1), Level::Pte, 0x1000 | ARM_DATA);
    let mut mmu = mmu::<Arm>();
    let enter = |mmu: &mut Mmu<Arm>, asid| mmu.load_root(Half::Lower, PhysAddr(ROOT), Asid(asid));
    enter(&mut mmu, 1);
    assert!(!is_hit(&mut mmu, &mem, page(0)) && !is_hit(&mut mmu, &mem, page(1)));
    enter(&mut mmu, 2);
    assert!(!is_hit(&mut mmu, &mem, page(0)), "another space's entry");
    assert!(is_hit(&mut mmu, &mem, page(1)), "the global one");
    enter(&mut mmu, 1);
    assert!(is_hit(&mut mmu, &mem, page(0)), "kept over the switch");
    mmu.flush_space(Asid(1), None, false);
    assert!(!is_hit(&mut mmu, &mem, page(0)) && is_hit(&mut mmu, &mem, page(1)));
    enter(&mut mmu, 2);
    assert!(is_hit(&mut mmu, &mem, page(0)), "the other space keeps its own");
    mmu.flush_space(Asid(1), Some(one(page(0))), false);
    assert!(is_hit(&mut mmu, &mem, page(0)));
    mmu.flush_space(Asid(1), Some(one(page(1))), false);
    assert!(!is_hit(&mut mmu, &mem, page(1)), "by address, a global one goes whatever the space");
}

#[test]
fn a_root_of_the_upper_half_names_no_space_unless_told_so() {
    let mut mmu = mmu::<Arm>();
    mmu.load_root(Half::Upper, PhysAddr(0x5000), Asid(9));
    assert_eq!((mmu.asid(), mmu.root(Half::Upper), mmu.root(Half::Lower)), (Asid(1), PhysAddr(0x5000), PhysAddr(ROOT)));
    let control = kernmem_arch::arm64::mmu::Control { asid_half: Half::Upper, ..*mmu.control() };
    mmu.set_control(control);
    mmu.load_root(Half::Upper, PhysAddr(0x5000), Asid(9));
    mmu.load_root(Half::Lower, PhysAddr(0x6000), Asid(4));
    assert_eq!(mmu.asid(), Asid(9));
}

#[test]
fn x86_without_pcid_keeps_only_globals_over_a_new_root() {
    let mem = pages::<X86>(X86_LINK, X86_DATA & !x86_bit::GLOBAL, 2);
    put::<X86>(&mem, page(1), Level::Pte, 0x1000 | X86_DATA);
    let mut mmu = mmu::<X86>();
    mmu.set_control(x86::Control { pcid: false, ..Default::default() });
    mmu.load_root(Half::Both, PhysAddr(ROOT), Asid(3));
    assert!(!is_hit(&mut mmu, &mem, page(0)) && !is_hit(&mut mmu, &mem, page(1)));
    mmu.load_root(Half::Both, PhysAddr(ROOT), Asid(4));
    assert!(is_hit(&mut mmu, &mem, page(1)) && !is_hit(&mut mmu, &mem, page(0)));
    mmu.flush_space(Asid(4), None, false);
    assert!(is_hit(&mut mmu, &mem, page(1)) && !is_hit(&mut mmu, &mem, page(0)));
    mmu.flush_local(page(1));
    assert!(!is_hit(&mut mmu, &mem, page(1)), "invlpg takes globals");
}

#[test]
fn x86_with_pcid_keeps_every_space() {
    let mem = pages::<X86>(X86_LINK, X86_DATA & !x86_bit::GLOBAL, 1);
    let mut mmu = mmu::<X86>();
    for asid in [1, 2] {
        mmu.load_root(Half::Both, PhysAddr(ROOT), Asid(asid));
        assert!(!is_hit(&mut mmu, &mem, page(0)));
    }
    mmu.load_root(Half::Lower, PhysAddr(ROOT), Asid(1)); // any half stands for the one register
    assert!(is_hit(&mut mmu, &mem, page(0)));
    mmu.flush_local(page(0));
    mmu.load_root(Half::Both, PhysAddr(ROOT), Asid(2));
    assert!(is_hit(&mut mmu, &mem, page(0)), "invlpg leaves other spaces alone");
}

#[test]
fn wider_rights_fault_once_and_are_seen_after_x86_forgot() {
    let mem = pages::<X86>(X86_LINK, X86_DATA & !x86_bit::RW, 1);
    let mut mmu = mmu::<X86>();
    assert!(!is_hit(&mut mmu, &mem, page(0)));
    put::<X86>(&mem, page(0), Level::Pte, X86_DATA);
    let spurious = mmu.access(&mem, page(0), Write, Kernel).unwrap_err();
    assert_eq!(spurious.error_code(), Some(0x3));
    assert!(mmu.access(&mem, page(0), Write, Kernel).is_ok());

    // arm64 keeps the entry until it is flushed.
    let mem = pages::<Arm>(ARM_LINK, ARM_DATA | bit::RDONLY, 1);
    let mut mmu = mmu_of::<Arm>(&TlbShape::default());
    assert!(!is_hit(&mut mmu, &mem, page(0)));
    put::<Arm>(&mem, page(0), Level::Pte, ARM_DATA);
    assert!(mmu.access(&mem, page(0), Write, Kernel).is_err());
    assert!(mmu.access(&mem, page(0), Write, Kernel).is_err());
    mmu.flush_local(page(0));
    assert!(mmu.access(&mem, page(0), Write, Kernel).is_ok());
}

/// A page is cached, its table is replaced by a block without break-before-make, a neighbour brings the block in.
fn replace_live(conflict: Conflict) -> (Memory, Mmu<Arm>) {
    let mem = pages::<Arm>(ARM_LINK, ARM_DATA, 2);
    let mut mmu = mmu_of::<Arm>(&TlbShape { conflict, ..TlbShape::default() });
    assert!(!is_hit(&mut mmu, &mem, page(0)));
    put::<Arm>(&mem, page(0), Level::Pmd, 0x40_0000 | ARM_DATA & !0b10);
    assert!(!is_hit(&mut mmu, &mem, page(1)));
    (mem, mmu)
}

#[test]
fn a_live_table_replaced_by_a_block_is_a_conflict() {
    let (mem, mut mmu) = replace_live(Conflict::Abort);
    let fault = mmu.access(&mem, page(0), Read, Kernel).unwrap_err();
    assert_eq!((fault.kind, fault.esr()), (FaultKind::TlbConflict, Some(0x9600_0030)));
    assert!(is_hit(&mut mmu, &mem, page(1)), "the rest of the block is no conflict");
    mmu.flush(one(page(0)), false);
    assert!(!is_hit(&mut mmu, &mem, page(0)));

    let (mem, mut mmu) = replace_live(Conflict::Either);
    let pa = mmu.access(&mem, page(0), Read, Kernel).unwrap().pa;
    assert!([PhysAddr(0x20_0000), PhysAddr(0x40_0000)].contains(&pa), "one of the two: {pa}");
}

#[test]
fn counters_can_be_taken() {
    let mem = pages::<Arm>(ARM_LINK, ARM_DATA, 1);
    let mut mmu = mmu::<Arm>();
    is_hit(&mut mmu, &mem, page(0));
    assert_eq!(mmu.take_counters().references, 4);
    assert!(is_hit(&mut mmu, &mem, page(0)));
    assert_eq!((mmu.counters().references, mmu.counters().hits), (0, 1));
}
