//! Drawn tables, registers and addresses: everything that reads tables, held against the manual.
//!
//! # Invariants
//! 1. `steps` reads the entries that the manual reads, in its order, and gives them its meaning.
//! 2. `translate` ends where the manual's walk does: at the same byte and level, or for the same reason; no bit of an
//!    entry is lost.
//! 3. `visit` hands out every entry of a range that the manual enumerates, and nothing else.
//! 4. The software MMU answers as the manual does, in byte, level or fault, leaves the same marks, and finds again in
//!    its TLB what it found in the tables.
//!
//! A leaf of a size that Linux never makes is malformed in 1 to 3, and is not asked for in 4.

use core::sync::atomic::AtomicU64;
use std::collections::BTreeMap;

use kernmem_arch::arm64::Arm64;
use kernmem_arch::i386::{I386Level2, I386Pae};
use kernmem_arch::x86::{X86Level4, X86Level5};
use kernmem_arch::{Entry, EntryFormat};
use kernmem_base::{
    Access, Asid, BusError, Half, Level, PhysAddr, PhysMem, PhysRange, PhysRead, Privilege, Slot, VirtAddr, VirtRange,
};
use kernmem_pgtable::{Visitor, Walk, WalkError, steps, translate, visit};
use kernmem_sim::{Memory, Mmu, TlbShape};

use super::{End, Kind, Says, Tables, Wish, Words, access, bit};

/// Tables of a play; the walk begins at the first.
const TABLES: u64 = 6;

/// Addresses that are walked.
const WALKS: usize = 16;

/// Plays format number `which`; every choice is a number that `draw` gives. Answers how many accesses reached memory.
pub fn play(which: usize, draw: &mut dyn FnMut() -> u64) -> usize {
    match which {
        0 => Play::<Arm64<12, 39>>::run(draw),
        1 => Play::<Arm64<12, 48>>::run(draw),
        2 => Play::<Arm64<12, 52>>::run(draw),
        3 => Play::<Arm64<14, 36>>::run(draw),
        4 => Play::<Arm64<14, 47>>::run(draw),
        5 => Play::<Arm64<14, 48>>::run(draw),
        6 => Play::<Arm64<14, 52>>::run(draw),
        7 => Play::<Arm64<16, 42>>::run(draw),
        8 => Play::<Arm64<16, 48>>::run(draw),
        9 => Play::<Arm64<16, 52>>::run(draw),
        10 => Play::<X86Level4>::run(draw),
        11 => Play::<X86Level5>::run(draw),
        12 => Play::<I386Pae>::run(draw),
        13 => Play::<I386Level2>::run(draw),
        _ => panic!("there is no format {which}"),
    }
}

/// The words of a memory that are not zero.
struct Mirror {
    start: u64,
    bytes: u64,
    words: BTreeMap<u64, u64>,
}

impl Words for Mirror {
    fn word(&self, pa: u64, bytes: u64) -> Option<u64> {
        let within = pa.checked_sub(self.start)?;
        let word = self.words.get(&(pa / 8 * 8)).copied().unwrap_or(0);
        let wanted = if bytes == 8 { word } else { word >> (pa % 8 * 8) & 0xffff_ffff };
        (within + bytes <= self.bytes).then_some(wanted)
    }
}

impl Mirror {
    fn set(&mut self, pa: u64, bytes: u64, value: u64) {
        let word = self.words.entry(pa / 8 * 8).or_default();
        let shift = pa % 8 * 8;
        *word = if bytes == 8 { value } else { *word & !(0xffff_ffff << shift) | value << shift };
    }
}

struct Play<'d, F> {
    draw: &'d mut dyn FnMut() -> u64,
    tables: Tables,
    memory: Memory,
    mirror: Mirror,
    root: u64,
    format: core::marker::PhantomData<F>,
}

impl<'d, F: Kind> Play<'d, F> {
    fn run(draw: &'d mut dyn FnMut() -> u64) -> usize {
        let tables = F::tables();
        let bytes = TABLES << tables.page();
        let memory = Memory::new([PhysRange::new(PhysAddr(F::RAM), PhysAddr(F::RAM + bytes))]).expect("memory");
        let mirror = Mirror { start: F::RAM, bytes, words: BTreeMap::new() };
        // A root of 32 bytes may begin inside a page.
        let root = F::RAM + if tables == Tables::Pae { 0x60 } else { 0 };
        let mut play = Self { draw, tables, memory, mirror, root, format: core::marker::PhantomData };
        play.fill();
        (0..WALKS).filter(|_| play.walk()).count()
    }

    /// Indices that are filled in tables of `bits`, so that drawn addresses meet them.
    fn indices(bits: u32) -> [u64; 4] {
        let entries = 1 << bits;
        [0, 1 % entries, 300 % entries, entries - 1]
    }

    fn fill(&mut self) {
        let (tables, levels) = (self.tables, self.tables.levels());
        for (number, &(_, bits)) in (0..TABLES).flat_map(|number| levels.iter().map(move |level| (number, level))) {
            let is_pae_root = tables == Tables::Pae && bits == 2;
            let table = if is_pae_root { self.root } else { F::RAM + (number << tables.page()) };
            for index in Self::indices(bits) {
                let raw = self.raw(is_pae_root);
                self.mirror.set(table + index * tables.entry(), tables.entry(), raw);
            }
        }
        let word = |at: u64| &self.memory.table_mut::<AtomicU64>(PhysAddr(at), 1).expect("memory")[0];
        for (&at, &raw) in &self.mirror.words {
            word(at).store(raw, core::sync::atomic::Ordering::Relaxed);
        }
    }

    /// An entry: mostly a table of ours or a leaf with drawn rights, now and then anything.
    fn raw(&mut self, is_pae_root: bool) -> u64 {
        let (kind, drawn) = ((self.draw)(), (self.draw)());
        let links = match self.tables {
            Tables::Arm64 { .. } => 3,
            _ if is_pae_root => 1,
            _ => 7,
        };
        let table = self.tables.place(F::RAM + ((drawn % TABLES) << self.tables.page()));
        let rights = if links == 3 { drawn & 0x7800_0000_0000_0000 } else { 0 };
        let raw = match kind % 16 {
            0..=7 => table | links,
            8 => table | links | rights,
            9 | 10 => drawn & !0x7ff0_0000_001f_e000 | 1, // a page or a block, as the low bits have it
            11 => self.tables.place(drawn & 0x000f_ffff_c000_0000) | drawn & 0x7ff | 0x401,
            12 => drawn & !1,
            13 => drawn & 0x0000_ffff_ffff_f000 | links,
            14 => drawn & !0xfff | links,
            _ => drawn,
        };
        if self.tables.entry() == 4 { raw & 0xffff_ffff } else { raw }
    }

    /// Walks one address in every way. Whether the access reached memory.
    fn walk(&mut self) -> bool {
        let va = self.address();
        let (reads, end) = self.tables.walk(&self.mirror, self.root, va);
        let root = PhysAddr(self.root);

        let mut count = 0;
        for step in steps::<F, _>(&self.memory, root, VirtAddr(va)) {
            let Ok(step) = step else {
                assert_eq!((end, count), (End::Outside, reads.len()));
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
        match (translate::<F, _>(&self.memory, root, VirtAddr(va)), end) {
            (Ok(Walk::Mapped { pa, level, attrs }), End::Byte(byte)) => {
                let (shift, raw) = last.expect("a leaf was read");
                assert_eq!((pa.0, bits(level)), (byte, shift), "{va:#x}");
                assert_eq!(F::bits(attrs), raw ^ self.tables.place(byte >> shift << shift), "{raw:#x}");
            }
            (Ok(Walk::Hole { level }), End::Hole) => assert_eq!(Some(bits(level)), last.map(|last| last.0)),
            (Err(WalkError::Malformed { level, raw }), End::Malformed | End::Huge) => {
                assert_eq!(Some((bits(level), raw)), last);
            }
            (Err(WalkError::Bus(_)), End::Outside) => {}
            (found, end) => panic!("{va:#x}: {found:?} but {end:?}"),
        }

        self.visit(va);
        self.access(va)
    }

    /// An address through filled entries, often at the first or last byte of what one maps.
    fn address(&mut self) -> u64 {
        let mut va = 0;
        for (shift, bits) in self.tables.levels() {
            va |= Self::indices(bits)[((self.draw)() % 4) as usize] << shift;
        }
        let offset = (self.draw)();
        let inside = match offset % 4 {
            0 => 0,
            1 => u64::MAX,
            _ => offset >> 8,
        };
        va | inside & ((1 << self.tables.page()) - 1)
    }

    fn visit(&mut self, va: u64) {
        let levels = self.tables.levels();
        let how = (self.draw)();
        // Mostly few pages, so that a play stays short.
        let (shift, _) = levels[levels.len() - 1 - usize::from(how.is_multiple_of(8))];
        let last = va.saturating_add((how >> 8) % (3 << shift)).min((1 << self.tables.bits()) - 1);
        let mut seen = Seen::default();
        let range = VirtRange { start: VirtAddr(va), last: VirtAddr(last) };
        visit::<F, _>(&self.memory, PhysAddr(self.root), range, &mut seen);
        let expected = self.tables.below(&self.mirror, self.root, va, last);
        let expected: Vec<_> =
            expected.iter().map(|(va, read)| (*va, read.shift, read.raw, plain(read.says))).collect();
        assert_eq!(seen.0, expected, "{range:?}");
    }

    fn access(&mut self, va: u64) -> bool {
        let (flags, how) = ((self.draw)(), (self.draw)());
        let (control, registers) = F::registers(flags, how);
        let top = u64::MAX << self.tables.bits();
        let high = match how >> 8 & 7 {
            0 => top,
            1 => 0,
            2 => flags & top,
            3 => top & 0x00ff_ffff_ffff_ffff | flags >> 56 << 56,
            _ if self.tables.bits() == 32 => 0,
            _ if bit(va, self.tables.bits() - 1) => top,
            _ => 0,
        };
        let kind = [Access::Read, Access::Write, Access::Execute][(how >> 16) as usize % 3];
        let wish = Wish { va: va | high, access: kind, user: bit(how, 24) };
        let Some((expected, marks)) = access(self.tables, &self.mirror, self.root, wish, &registers) else {
            return false;
        };
        let answer = self.ask(control, wish);
        assert_eq!(answer, expected, "{wish:x?} {registers:x?}");
        for (at, raw) in marks {
            self.mirror.set(at, self.tables.entry(), raw);
        }
        for (&at, &raw) in &self.mirror.words {
            let word = &self.memory.table::<AtomicU64>(PhysAddr(at), 1).expect("memory")[0];
            assert_eq!(Slot::load(word), raw, "{at:#x}, {wish:x?}");
        }
        answer.is_ok()
    }

    /// The MMU's answer in the manual's words.
    fn ask(&self, control: F::Control, wish: Wish) -> super::rights::Answer {
        let mut mmu = Mmu::<F>::new(&TlbShape::default());
        mmu.set_control(control);
        mmu.load_root(Half::Both, PhysAddr(self.root), Asid(0));
        let privilege = if wish.user { Privilege::User } else { Privilege::Kernel };
        let (va, before) = (VirtAddr(wish.va), self.memory.references());
        let first = mmu.access(&self.memory, va, wish.access, privilege);
        assert_eq!(mmu.counters().references, self.memory.references() - before, "every read is counted");
        if let Ok(to) = first {
            let again = mmu.access(&self.memory, va, wish.access, privilege).expect("the TLB has it");
            assert_eq!((again.pa, again.hit), (to.pa, true));
        }
        let shape = F::shape();
        first
            .map(|to| (to.pa.0, shape.level(to.leaf.level).shift))
            .map_err(|fault| (fault.kind, fault.level.map(|level| shape.depth(level))))
    }
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
