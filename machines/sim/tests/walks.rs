//! References of a walk, marks, sizes of entries, data: by hand, for every format.
#![allow(clippy::unwrap_used, reason = "a test stops where an answer is missing")]

mod common;

use core::cell::Cell;

use common::*;
use kernmem_arch::arm64::{Arm64Granule4K, bit, mmu as arm64};
use kernmem_arch::x86::{X86Level4, X86Level5, bit as x86_bit};
use kernmem_arch::{Format, MmuFormat};
use kernmem_base::{
    Access, Asid, BusError, BusFault, Cpu, CpuId, Half, Level, PhysAddr, PhysMem, PhysRange, PhysRead, Privilege, Slot,
    TableNote, Tlb, VirtAddr, VirtRange,
};
use kernmem_sim::{Memory, TlbShape, Vcpu};

use Access::{Read, Write};
use Privilege::{Kernel, User};

type Arm = Arm64Granule4K;
type X86 = X86Level4;

const ARM_DATA: u64 = 0x00e8_0000_0000_0703;
const ARM_LINK: u64 = 0b11;
const X86_DATA: u64 = 0x8000_0000_0000_0163;
const X86_LINK: u64 = 0x67;

/// Facts 14.1: table reads of a miss, and one more for the data.
fn check_references<F: MmuFormat>(links: u64, page: u64, expected: [u64; 3]) {
    for (level, references) in [Level::Pte, Level::Pmd, Level::Pud].into_iter().zip(expected) {
        let (mem, mut mmu) = (memory(), mmu::<F>());
        chain::<F>(&mem, links, level, page);
        let walked = mmu.access(&mem, VA, Read, Kernel).unwrap();
        assert_eq!((walked.hit, walked.references, walked.pa), (false, references, PhysAddr(PLACE)));
        assert_eq!((walked.leaf.bytes, walked.leaf.level), (F::shape().level(level).bytes(), level));
        assert_eq!((mem.references(), mmu.counters().references), (references, references));

        mmu.flush(VirtRange::ALL, false);
        let before = mem.references();
        assert_eq!(mmu.read_u64(&mem, VA, Kernel), Ok(0));
        assert_eq!(mem.references() - before, references + 1, "the walk and the data");
        assert_eq!(mmu.read_u64(&mem, VA, Kernel), Ok(0));
        assert_eq!(mem.references() - before, references + 2, "the data alone");
        let counters = mmu.counters();
        assert_eq!((counters.hits, counters.misses, counters.fills), (1, 2, 2));
        assert_eq!(counters.references + counters.data_reads, mem.references());
    }
}

#[test]
fn five_references_for_a_page_and_one_for_a_hit() {
    check_references::<Arm>(ARM_LINK, ARM_DATA, [4, 3, 2]);
    check_references::<X86>(X86_LINK, X86_DATA, [4, 3, 2]);
    check_references::<X86Level5>(X86_LINK, X86_DATA, [5, 4, 3]);
}

#[test]
fn the_walk_cache_saves_all_but_the_last_level() {
    let shape = TlbShape { entries: 1, ways: 1, walks: 8, ..TlbShape::default() };
    let near = VirtAddr(VA.0 + 0x1000);
    let (mem, mut mmu) = (memory(), mmu_of::<Arm>(&shape));
    chain::<Arm>(&mem, ARM_LINK, Level::Pte, ARM_DATA);
    put::<Arm>(&mem, near, Level::Pte, 0x5000 | ARM_DATA);
    let references = |mmu: &mut kernmem_sim::Mmu<Arm>, va| mmu.access(&mem, va, Read, Kernel).unwrap().references;
    assert_eq!((references(&mut mmu, VA), references(&mut mmu, near)), (4, 1));
    mmu.flush(VirtRange { start: VA, last: VA }, false);
    assert_eq!(references(&mut mmu, VA), 1, "no table was freed");
    mmu.flush(VirtRange { start: VA, last: VA }, true);
    assert_eq!((references(&mut mmu, near), mmu.counters().short_walks), (4, 2));

    let (mem, mut mmu) = (memory(), mmu_of::<X86>(&shape));
    chain::<X86>(&mem, X86_LINK, Level::Pte, X86_DATA);
    put::<X86>(&mem, near, Level::Pte, 0x5000 | X86_DATA);
    let references = |mmu: &mut kernmem_sim::Mmu<X86>, va| mmu.access(&mem, va, Read, Kernel).unwrap().references;
    assert_eq!((references(&mut mmu, VA), references(&mut mmu, near)), (4, 1));
    mmu.flush_local(VirtAddr(0)); // any invlpg
    assert_eq!(references(&mut mmu, VA), 4);
}

#[test]
fn contiguous_groups_take_one_entry_and_reach_further() {
    let grouped = |level: Level, size: u64| {
        let (mem, mut mmu) = (memory(), mmu::<Arm>());
        let bytes = <Arm as kernmem_arch::EntryFormat>::shape().level(level).bytes();
        let first = VirtAddr(0xffff_8040_4000_0000);
        for at in 0..16 {
            let va = VirtAddr(first.0 + at * bytes);
            chain_at::<Arm>(&mem, va, ARM_LINK, level, ARM_DATA);
            put::<Arm>(&mem, va, level, get::<Arm>(&mem, va, level) | bit::CONT);
        }
        assert!(!mmu.access(&mem, VirtAddr(first.0 + 5 * bytes), Read, Kernel).unwrap().hit);
        let last = mmu.access(&mem, VirtAddr(first.0 + size - 1), Read, Kernel).unwrap();
        assert!(last.hit && last.leaf.contiguous);
        assert_eq!((last.pa, mmu.reach(), mmu.held()), (PhysAddr(size - 1), size, 1));
        assert!(mmu.access(&mem, VirtAddr(first.0 + size), Read, Kernel).is_err());
    };
    grouped(Level::Pte, 64 << 10);
    grouped(Level::Pmd, 32 << 20);
}

#[test]
fn a_tlb_without_groups_takes_the_leaves_of_one_apart() {
    let (mem, mut mmu) = (memory(), mmu_of::<Arm>(&TlbShape { groups: false, ..TlbShape::default() }));
    chain::<Arm>(&mem, ARM_LINK, Level::Pte, ARM_DATA | bit::CONT);
    put::<Arm>(&mem, VA, Level::Pte, get::<Arm>(&mem, VA, Level::Pte) | bit::CONT);
    mmu.access(&mem, VA, Read, Kernel).unwrap();
    assert_eq!(mmu.reach(), 4096);
}

/// A full TLB of each leaf size reaches entries times size.
#[test]
fn reach_grows_with_the_leaf() {
    for (level, bytes) in [(Level::Pte, 4096_u64), (Level::Pmd, 2 << 20), (Level::Pud, 1 << 30)] {
        let (mem, mut mmu) = (memory(), mmu::<X86>());
        for at in 0..64 {
            let va = VirtAddr(0xffff_8000_0000_0000 + at * bytes);
            chain_at::<X86>(&mem, va, X86_LINK, level, X86_DATA);
            mmu.access(&mem, va, Read, Kernel).unwrap();
        }
        assert_eq!((mmu.held(), mmu.reach(), mmu.counters().evictions), (48, 48 * bytes, 16));
    }
}

#[test]
fn x86_marks_each_entry_accessed_and_the_leaf_dirty_on_a_write() {
    const LEVELS: [Level; 4] = [Level::Pgd, Level::Pud, Level::Pmd, Level::Pte];
    let (mem, mut mmu) = (memory(), mmu::<X86>());
    chain::<X86>(&mem, 0x07, Level::Pte, 0x8000_0000_0000_0103);
    let marks = |mem: &_| LEVELS.map(|level| get::<X86>(mem, VA, level) & (x86_bit::ACCESSED | x86_bit::DIRTY));
    mmu.access(&mem, VA, Read, Kernel).unwrap();
    assert_eq!((marks(&mem), mmu.counters().marks), ([0x20; 4], 4));
    // A write through the clean entry walks once more; the next one does not.
    assert_eq!(mmu.access(&mem, VA, Write, Kernel).unwrap().references, 4);
    assert_eq!((marks(&mem), mmu.counters().marks), ([0x20, 0x20, 0x20, 0x60], 5));
    assert!(mmu.access(&mem, VA, Write, Kernel).unwrap().hit);
    assert!(mmu.access(&mem, VA, Read, Kernel).unwrap().hit);
    assert_eq!(mmu.counters().misses, 2);
}

#[test]
fn x86_looks_at_the_tables_again_before_it_marks_a_clean_page() {
    let (mem, mut mmu) = (memory(), mmu::<X86>());
    chain::<X86>(&mem, 0x07, Level::Pte, 0x8000_0000_0000_0103);
    mmu.access(&mem, VA, Read, Kernel).unwrap();
    put::<X86>(&mem, VA, Level::Pte, 0);
    let fault = mmu.access(&mem, VA, Write, Kernel).unwrap_err();
    assert_eq!((fault.error_code(), get::<X86>(&mem, VA, Level::Pte)), (Some(2), 0));
}

#[test]
fn arm64_hardware_marks_where_it_is_told_to() {
    let (mem, mut mmu) = (memory(), mmu::<Arm>());
    let clean = (ARM_DATA | bit::RDONLY) & !bit::AF;
    chain::<Arm>(&mem, ARM_LINK, Level::Pte, clean);
    mmu.set_control(arm64::Control { sets_access_flag: true, sets_dirty: true, ..Default::default() });
    let raw = get::<Arm>(&mem, VA, Level::Pte);
    mmu.access(&mem, VA, Read, Kernel).unwrap();
    assert_eq!(get::<Arm>(&mem, VA, Level::Pte), raw | bit::AF);
    assert!(!mmu.access(&mem, VA, Write, Kernel).unwrap().hit);
    assert_eq!(get::<Arm>(&mem, VA, Level::Pte), (raw | bit::AF) & !bit::RDONLY);
    assert!(mmu.access(&mem, VA, Write, Kernel).unwrap().hit);
    // Without HD the same page is read only.
    put::<Arm>(&mem, VA, Level::Pte, raw | bit::AF);
    mmu.flush(VirtRange::ALL, false);
    mmu.set_control(arm64::Control::default());
    assert!(mmu.access(&mem, VA, Write, Kernel).is_err());
}

#[test]
fn registers_are_asked_at_each_access_not_when_the_entry_came() {
    let (mem, mut mmu) = (memory(), mmu::<Arm>());
    chain::<Arm>(&mem, ARM_LINK, Level::Pte, ARM_DATA | bit::USER);
    mmu.access(&mem, VA, Read, Kernel).unwrap();
    mmu.set_control(arm64::Control { pan: true, ..Default::default() });
    assert!(mmu.access(&mem, VA, Read, Kernel).is_err());
    assert!(mmu.access(&mem, VA, Read, User).unwrap().hit);
    mmu.set_control(arm64::Control::default());
    assert!(mmu.access(&mem, VA, Read, Kernel).unwrap().hit);
}

#[test]
fn an_mmu_that_is_off_passes_addresses_through() {
    let (mem, mut mmu) = (memory(), mmu::<Arm>());
    mmu.set_control(arm64::Control { is_on: false, output_bits: 40, ..Default::default() });
    let to = mmu.access(&mem, VirtAddr(0x1234), Write, Kernel).unwrap();
    assert_eq!((to.pa, to.references), (PhysAddr(0x1234), 0));
    let fault = mmu.access(&mem, VirtAddr(1 << 40), Read, Kernel).unwrap_err();
    assert_eq!(fault.esr(), Some(0x9600_0000));
}

#[test]
fn tagged_addresses_share_one_entry() {
    let (mem, mut mmu) = (memory(), mmu::<Arm>());
    let user = VirtAddr(0x40_4000_0000 | PLACE);
    chain_at::<Arm>(&mem, user, ARM_LINK, Level::Pte, ARM_DATA | bit::USER | bit::NG);
    mmu.access(&mem, VirtAddr(user.0 | 0xab << 56), Read, User).unwrap();
    let to = mmu.access(&mem, VirtAddr(user.0 | 0x12 << 56), Write, User).unwrap();
    assert_eq!((to.hit, to.pa, mmu.held()), (true, PhysAddr(PLACE), 1));
}

#[test]
fn bytes_cross_pages_and_stop_at_the_first_that_refuses() {
    let (mem, mut mmu) = (memory(), mmu::<Arm>());
    let start = VirtAddr((VA.0 & !0xfff) + 0xffd);
    chain::<Arm>(&mem, ARM_LINK, Level::Pte, ARM_DATA);
    put::<Arm>(&mem, VirtAddr(start.0 + 3), Level::Pte, 0x9000 | ARM_DATA);
    mmu.write(&mem, start, b"across pages", Kernel).unwrap();
    let mut back = [0; 12];
    mmu.read(&mem, start, &mut back, Kernel).unwrap();
    assert_eq!(&back, b"across pages");
    let word = mmu.read_u64(&mem, VirtAddr(start.0 + 1), Kernel).unwrap();
    assert_eq!(word.to_le_bytes(), *b"cross pa");
    // 3 bytes in one word, 9 bytes in two.
    assert_eq!((mmu.counters().data_writes, mmu.counters().data_reads), (3, 3 + 2));
    assert_eq!(mem.references(), mmu.counters().references + mmu.counters().data_reads);

    put::<Arm>(&mem, VirtAddr(start.0 + 3), Level::Pte, 0);
    mmu.flush(VirtRange::ALL, false);
    let stopped = mmu.write(&mem, start, b"ACROSS", Kernel).unwrap_err();
    assert_eq!((stopped.done, stopped.fault.va), (3, VirtAddr(start.0 + 3)));
    mmu.read(&mem, start, &mut back[..3], Kernel).unwrap();
    assert_eq!(&back[..3], b"ACR");
}

#[test]
fn a_cpu_of_a_format_that_is_a_value_does_the_same() {
    let formats = [
        (Format::ARM64_4K_48, ARM_LINK, ARM_DATA, 4),
        (Format::X86Level4, X86_LINK, X86_DATA, 4),
        (Format::X86Level5, X86_LINK, X86_DATA, 5),
    ];
    for (format, links, page, references) in formats {
        let mem = memory();
        let mut cpu = Vcpu::new(CpuId(3), format, &TlbShape::default());
        match format {
            Format::Arm64(_) => chain::<Arm>(&mem, links, Level::Pte, page),
            Format::X86Level5 => chain::<X86Level5>(&mem, links, Level::Pte, page),
            _ => chain::<X86>(&mem, links, Level::Pte, page),
        }
        let half = if format.has_root_per_half() { Half::Upper } else { Half::Both };
        cpu.load_root(half, PhysAddr(ROOT), Asid(0));
        cpu.write_u64(&mem, VA, 0x1122_3344_5566_7788, Kernel).unwrap();
        assert_eq!(cpu.read_u64(&mem, VA, Kernel), Ok(0x1122_3344_5566_7788));
        let counters = cpu.counters();
        assert_eq!((counters.references, counters.data_references(), cpu.reach()), (references, 2, 4096));
        assert_eq!(mem.references(), references + 1, "a write of data is no read");
        assert_eq!((cpu.id(), cpu.format(), cpu.root(half)), (CpuId(3), format, PhysAddr(ROOT)));
    }
}

/// Memory in which somebody acts between the reading of an entry and its marking.
struct Meddled<'m, T> {
    mem: &'m Memory,
    before_marking: T,
}

impl<T: Fn() -> Result<(), BusFault>> PhysRead for Meddled<'_, T> {
    type Lent<'l, S: Slot>
        = &'l [S]
    where
        Self: 'l;

    fn table<S: Slot>(&self, pa: PhysAddr, entries: usize) -> Result<&[S], BusError> {
        self.mem.table(pa, entries)
    }

    fn entry<S: Slot>(&self, pa: PhysAddr, index: usize) -> Result<u64, BusError> {
        self.mem.entry::<S>(pa, index)
    }
}

impl<T: Fn() -> Result<(), BusFault>> PhysMem for Meddled<'_, T> {
    fn table_mut<S: Slot>(&self, pa: PhysAddr, entries: usize) -> Result<&[S], BusError> {
        (self.before_marking)().map_err(|fault| BusError { pa, fault })?;
        self.mem.table_mut(pa, entries)
    }

    fn note(&self, pa: PhysAddr) -> Result<&TableNote, BusError> {
        self.mem.note(pa)
    }

    fn zero(&self, range: PhysRange) -> Result<(), BusError> {
        self.mem.zero(range)
    }
}

#[test]
fn a_walk_begins_anew_where_an_entry_changed_before_its_mark() {
    let (mem, mut mmu) = (memory(), mmu::<X86>());
    chain::<X86>(&mem, X86_LINK, Level::Pte, 0x8000_0000_0000_0103);
    let is_first = Cell::new(true);
    let remap = || {
        if is_first.replace(false) {
            put::<X86>(&mem, VA, Level::Pte, 0x8000_0000_0000_9103);
        }
        Ok(())
    };
    let to = mmu.access(&Meddled { mem: &mem, before_marking: remap }, VA, Read, Kernel).unwrap();
    assert_eq!((to.pa, to.references), (PhysAddr(0x9238), 8), "two walks, and the new frame");
    assert_eq!(get::<X86>(&mem, VA, Level::Pte), 0x8000_0000_0000_9123);

    // The entry is gone: the second walk faults, and nothing is marked in its place.
    mmu.flush(VirtRange::ALL, false);
    put::<X86>(&mem, VA, Level::Pte, 0x8000_0000_0000_9103);
    let unmap = || {
        put::<X86>(&mem, VA, Level::Pte, 0);
        Ok(())
    };
    let fault = mmu.access(&Meddled { mem: &mem, before_marking: unmap }, VA, Write, Kernel).unwrap_err();
    assert_eq!((fault.error_code(), get::<X86>(&mem, VA, Level::Pte), mmu.held()), (Some(2), 0, 0));
}

#[test]
fn a_table_that_cannot_be_marked_ends_the_walk() {
    let (mem, mut mmu) = (memory(), mmu::<X86>());
    chain::<X86>(&mem, X86_LINK, Level::Pte, 0x8000_0000_0000_0103);
    let refuse = || Err(BusFault::Lost);
    let fault = mmu.access(&Meddled { mem: &mem, before_marking: refuse }, VA, Read, Kernel).unwrap_err();
    assert_eq!((fault.kind, fault.level), (kernmem_arch::FaultKind::External, Some(Level::Pte)));
}
