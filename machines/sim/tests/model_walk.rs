//! Walks over drawn tables, held against `kernmem_pgtable::translate`.
//!
//! # Invariants
//! 1. With registers that refuse nothing, the MMU translates exactly what `translate` maps, to the same byte and level.
//! 2. A hole is a translation fault at its level; a malformed entry a fault at its level; a table outside memory an
//!    external abort.
//! 3. Both read as many entries; a second access is a hit and reads none.
//! 4. Marks change no translation.
#![allow(clippy::unwrap_used, reason = "a test stops where an answer is missing")]

mod common;

use common::*;
use kernmem_arch::arm64::{Arm64Granule4K, mmu as arm64};
use kernmem_arch::i386::{I386Level2, I386Pae};
use kernmem_arch::x86::{X86Level4, X86Level5, mmu as x86};
use kernmem_arch::{FaultKind, LevelShape, MmuFormat};
use kernmem_base::{Access, Asid, Half, PhysAddr, PhysMem, Privilege, Seed, Slot, VirtAddr};
use kernmem_pgtable::{Walk, WalkError, translate};
use kernmem_sim::{Memory, Mmu, TlbShape};
use proptest::prelude::*;

/// Tables at pages 1 to 8; the first is the root, to which no entry points: a mark in it would be reserved in PAE's.
const TABLES: u64 = 8;

/// Entries of a table that are filled, so that drawn addresses meet them.
const INDICES: [u64; 5] = [0, 1, 2, 300, 511];

/// An entry: mostly a table of ours or a leaf with drawn rights, now and then anything.
fn entry(seed: &mut Seed, low: u64) -> u64 {
    let (kind, drawn) = (seed.draw() % 16, seed.draw());
    let table = (2 + drawn % (TABLES - 1)) << 12;
    match kind {
        0..=8 => table | low,
        9..=11 => drawn & 0x8000_0000_3fff_ffff | 1, // a page or a block, as the low bits have it
        12 => drawn & !1,
        13 => (drawn & 0x0000_ffff_ffff_f000) | low,
        14 => drawn & !0xfff | low,
        _ => drawn,
    }
}

/// Tables of every level in each frame: PAE's root has only four entries.
fn drawn_tables<F: MmuFormat>(seed: &mut Seed, low: u64) -> Memory {
    let mem = memory();
    let most = F::shape().levels.iter().map(|shape| shape.entries()).max().unwrap();
    for table in 1..=TABLES {
        let slots = mem.table_mut::<F::Slot>(PhysAddr(table << 12), most).unwrap();
        let level = F::shape().levels[usize::from(table != 1)].level;
        let low = F::bits(F::table_attrs(F::attrs(low), level));
        for index in INDICES {
            slots[index as usize].store(entry(seed, low));
        }
    }
    mem
}

/// A canonical address through filled entries.
fn drawn_address<F: MmuFormat>(seed: &mut Seed) -> VirtAddr {
    let shapes = F::shape().levels;
    let offset = seed.draw() & 0xfff;
    let mut index = |shape: &LevelShape| INDICES[(seed.draw() % 5) as usize] % shape.entries() as u64;
    let low = shapes.iter().fold(offset, |va, shape| va | index(shape) << shape.shift);
    if !F::shape().has_halves() {
        return VirtAddr(low);
    }
    let unused = 64 - F::shape().va_bits();
    VirtAddr(((low << unused) as i64 >> unused) as u64)
}

/// How many walks reached memory.
fn check<F: MmuFormat>(seed: u64, links: u64, control: F::Control, reserved: FaultKind) -> usize {
    let mut seed = Seed(seed);
    let mem = drawn_tables::<F>(&mut seed, links);
    let mut reached = 0;
    for _ in 0..64 {
        let va = drawn_address::<F>(&mut seed);
        let mut mmu = Mmu::<F>::new(&TlbShape::default());
        mmu.set_control(control);
        mmu.load_root(Half::Both, PhysAddr(0x1000), Asid(0));

        let before = mem.references();
        let expected = translate::<F, _>(&mem, PhysAddr(0x1000), va);
        let read = mem.references() - before;
        let got = mmu.access(&mem, va, Access::Read, Privilege::Kernel);
        assert_eq!(mem.references() - before, 2 * read, "both read the same entries of {va:?}");
        assert_eq!(mmu.counters().references, read);
        match (expected, got) {
            (Ok(Walk::Mapped { pa, level, .. }), Ok(to)) => {
                assert_eq!((to.pa, to.leaf.level), (pa, level));
                let again = mmu.access(&mem, va, Access::Read, Privilege::Kernel).unwrap();
                assert_eq!((again.pa, again.hit, again.references), (pa, true, 0));
                let still = translate::<F, _>(&mem, PhysAddr(0x1000), va).unwrap();
                assert!(matches!(still, Walk::Mapped { pa: same, .. } if same == pa), "marks move nothing");
                reached += 1;
            }
            (Ok(Walk::Hole { level }), Err(fault)) => {
                assert_eq!((fault.kind, fault.level), (FaultKind::Translation, Some(level)));
            }
            (Err(WalkError::Malformed { level, .. }), Err(fault)) => {
                assert_eq!((fault.kind, fault.level), (reserved, Some(level)));
            }
            (Err(WalkError::Bus(_)), Err(fault)) => assert_eq!(fault.kind, FaultKind::External),
            (expected, got) => panic!("{va:?}: {expected:?} but {got:?}"),
        }
    }
    reached
}

fn arm64_control() -> arm64::Control {
    arm64::Control { sets_access_flag: true, ..Default::default() }
}

/// 52 bits and no SMAP: nothing is beyond the CPU, nothing is refused to a reading kernel.
fn x86_control() -> x86::Control {
    x86::Control { physical_bits: 52, smap: false, ..Default::default() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arm64_walks_as_translate_does(seed: u64) {
        check::<Arm64Granule4K>(seed, 0b11, arm64_control(), FaultKind::Translation);
    }

    #[test]
    fn x86_walks_as_translate_does(seed: u64) {
        check::<X86Level4>(seed, 0x67, x86_control(), FaultKind::ReservedBit);
    }

    #[test]
    fn x86_walks_five_levels_as_translate_does(seed: u64) {
        check::<X86Level5>(seed, 0x67, x86_control(), FaultKind::ReservedBit);
    }

    #[test]
    fn pae_walks_as_translate_does(seed: u64) {
        check::<I386Pae>(seed, 0x67, x86_control(), FaultKind::ReservedBit);
    }

    #[test]
    fn i386_walks_as_translate_does(seed: u64) {
        check::<I386Level2>(seed, 0x67, narrow_control(), FaultKind::ReservedBit);
    }
}

fn narrow_control() -> x86::Control {
    x86::Control { nxe: false, ..x86_control() }
}

#[test]
fn many_drawn_walks_reach_memory() {
    let arm64 = (0..50).map(|seed| check::<Arm64Granule4K>(seed, 0b11, arm64_control(), FaultKind::Translation));
    let x86 = (0..50).map(|seed| check::<X86Level4>(seed, 0x67, x86_control(), FaultKind::ReservedBit));
    let pae = (0..50).map(|seed| check::<I386Pae>(seed, 0x67, x86_control(), FaultKind::ReservedBit));
    let i386 = (0..50).map(|seed| check::<I386Level2>(seed, 0x67, narrow_control(), FaultKind::ReservedBit));
    let (arm64, x86): (usize, usize) = (arm64.sum(), x86.sum());
    let (pae, i386): (usize, usize) = (pae.sum(), i386.sum());
    assert!(arm64 > 200 && x86 > 200 && pae > 200 && i386 > 200, "of 3,200 each: {arm64}, {x86}, {pae}, {i386}");
}
