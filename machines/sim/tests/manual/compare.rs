//! Everything that reads tables, held against the manual.
//!
//! # Invariants
//! 1. `steps` reads the entries that the manual reads, in its order, and gives them its meaning.
//! 2. `translate` ends where the manual's walk does: at the same byte and level, or for the same reason; no bit of an
//!    entry is lost. So does a walk that expects every link to be like one of those on the way.
//! 3. `visit` hands out every entry of a range that the manual enumerates, and nothing else.
//! 4. The software MMU answers as the manual does, in byte, level or fault, and finds again in its TLB what it found in
//!    the tables.
//!
//! A leaf of a size that Linux never makes is malformed in 1 to 3, and is not asked for in 4.

use kernmem_arch::{Entry, EntryFormat};
use kernmem_base::{Asid, BusError, Half, Level, PhysAddr, PhysRead, Privilege, VirtAddr, VirtRange};
use kernmem_pgtable::{Links, Visitor, Walk, WalkError, steps, translate, visit};
use kernmem_sim::{Memory, Mmu, TlbShape};

use super::{Answer, End, Kind, Registers, Says, Wish, Words, access};

/// Invariants 1 and 2 for one address.
pub fn check_walk<F: Kind>(memory: &impl PhysRead, words: &impl Words, root: u64, va: u64) -> End {
    let (reads, end) = F::tables().walk(words, root, va);
    let mut count = 0;
    for step in steps::<F, _>(memory, PhysAddr(root), VirtAddr(va)) {
        let Ok(step) = step else {
            assert_eq!((end, count), (End::Outside, reads.len()), "{va:#x}");
            break;
        };
        let read = reads[count];
        assert_eq!((step.table.0, step.index as u64, step.raw), (read.table, read.index, read.raw), "{va:#x}");
        assert_eq!(meaning::<F>(step.entry), plain(read.says), "{:#x} of {} bits", read.raw, read.shift);
        count += 1;
    }
    assert_eq!(count, reads.len(), "{va:#x}");

    let bits = |level: Level| F::shape().level(level).shift;
    let last = reads.last().map(|read| (read.shift, read.raw));
    let found = translate::<F, _>(memory, PhysAddr(root), VirtAddr(va));
    for step in steps::<F, _>(memory, PhysAddr(root), VirtAddr(va)).flatten() {
        if let Entry::Table { attrs, .. } = step.entry
            && let Ok(links) = Links::<F>::new(attrs)
        {
            assert_eq!(links.translate(memory, PhysAddr(root), VirtAddr(va)), found, "{va:#x} by {links:?}");
        }
    }
    match (found, end) {
        (Ok(Walk::Mapped { pa, level, attrs }), End::Byte(byte)) => {
            let (shift, raw) = last.expect("a leaf was read");
            assert_eq!((pa.0, bits(level)), (byte, shift), "{va:#x}");
            assert_eq!(F::bits(attrs), raw ^ F::tables().place(byte >> shift << shift), "{raw:#x}");
        }
        (Ok(Walk::Hole { level }), End::Hole) => assert_eq!(Some(bits(level)), last.map(|last| last.0)),
        (Err(WalkError::Malformed { level, raw }), End::Malformed | End::Huge) => {
            assert_eq!(Some((bits(level), raw)), last);
        }
        (Err(WalkError::Bus(_)), End::Outside) => {}
        (found, end) => panic!("{va:#x}: {found:?} but {end:?}"),
    }
    end
}

/// Invariant 3 for `first..=last`, which one root translates; answers how many entries there are.
pub fn check_visit<F: Kind>(memory: &impl PhysRead, words: &impl Words, root: u64, first: u64, last: u64) -> usize {
    let mut seen = Seen::default();
    let range = VirtRange { start: VirtAddr(first), last: VirtAddr(last) };
    visit::<F, _>(memory, PhysAddr(root), range, &mut seen);
    let expected = F::tables().below(words, root, first, last);
    let expected: Vec<_> = expected.iter().map(|(va, read)| (*va, read.shift, read.raw, plain(read.says))).collect();
    assert_eq!(seen.0.len(), expected.len(), "{range:?}");
    for (seen, expected) in seen.0.iter().zip(&expected) {
        assert_eq!(seen, expected, "{range:?}");
    }
    expected.len()
}

/// Invariant 4 for one access: the answer, and the entries that are to be marked, with their new bits. `None` where the
/// walk meets a leaf that Linux never makes.
pub fn check_access<F: Kind>(
    memory: &Memory,
    words: &impl Words,
    root: u64,
    wish: Wish,
    control: F::Control,
    registers: &Registers,
) -> Option<(Answer, Vec<(u64, u64)>)> {
    let (expected, marks) = access(F::tables(), words, root, wish, registers)?;
    let answer = ask::<F>(memory, root, control, wish);
    assert_eq!(answer, expected, "{wish:x?} {registers:x?}");
    Some((answer, marks))
}

/// The MMU's answer in the manual's words.
fn ask<F: Kind>(memory: &Memory, root: u64, control: F::Control, wish: Wish) -> Answer {
    let mut mmu = Mmu::<F>::new(&TlbShape::default());
    mmu.set_control(control);
    mmu.load_root(Half::Both, PhysAddr(root), Asid(0));
    let privilege = if wish.user { Privilege::User } else { Privilege::Kernel };
    let (va, before) = (VirtAddr(wish.va), memory.references());
    let first = mmu.access(memory, va, wish.access, privilege);
    assert_eq!(mmu.counters().references, memory.references() - before, "every read is counted");
    if let Ok(to) = first {
        let again = mmu.access(memory, va, wish.access, privilege).expect("the TLB has it");
        assert_eq!((again.pa, again.hit), (to.pa, true));
    }
    let shape = F::shape();
    first
        .map(|to| (to.pa.0, shape.level(to.leaf.level).shift))
        .map_err(|fault| (fault.kind, fault.level.map(|level| shape.depth(level))))
}

/// The meaning of an entry of the code under test.
fn meaning<F: EntryFormat>(entry: Entry<F::Attrs>) -> Says {
    match entry {
        Entry::Absent { .. } => Says::Nothing,
        Entry::Reserved { .. } => Says::Malformed,
        Entry::Table { next, .. } => Says::Table(next.0),
        Entry::Leaf { base, .. } => Says::Leaf(base.0),
    }
}

/// A leaf that Linux never makes is none to the code under test.
fn plain(says: Says) -> Says {
    if says == Says::Huge { Says::Malformed } else { says }
}

/// First address, log2 of the bytes, bits and meaning of each entry.
#[derive(Default)]
struct Seen(Vec<(u64, u32, u64, Says)>);

impl<F: EntryFormat> Visitor<F> for Seen {
    fn table(&mut self, va: VirtAddr, level: Level, raw: u64, next: PhysAddr) -> bool {
        self.0.push((va.0, F::shape().level(level).shift, raw, Says::Table(next.0)));
        true
    }

    fn slot(&mut self, va: VirtAddr, level: Level, raw: u64, entry: Entry<F::Attrs>) {
        self.0.push((va.0, F::shape().level(level).shift, raw, meaning::<F>(entry)));
    }

    fn unreadable(&mut self, _va: VirtAddr, _level: Level, _error: BusError) {}
}
