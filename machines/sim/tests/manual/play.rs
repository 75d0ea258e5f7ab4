//! Drawn tables, registers and addresses: everything that reads tables, held against the manual (`compare`).

use core::marker::PhantomData;
use core::sync::atomic::{AtomicU64, Ordering};
use std::collections::BTreeMap;

use kernmem_base::{Access, PhysAddr, PhysMem, PhysRange, PhysRead, Slot};
use kernmem_sim::Memory;

use super::{Kind, Tables, Wish, WithKind, Words, bit, check_access, check_visit, check_walk, with};

/// Tables of a play; the walk begins at the first.
const TABLES: u64 = 6;

/// Addresses that are walked.
const WALKS: usize = 16;

/// Plays format number `which`; every choice is a number that `draw` gives. Answers how many accesses reached memory.
pub fn play(which: usize, draw: &mut dyn FnMut() -> u64) -> usize {
    with(which, Drawn(draw))
}

struct Drawn<'d>(&'d mut dyn FnMut() -> u64);

impl WithKind for Drawn<'_> {
    type Output = usize;

    fn run<F: Kind>(self) -> usize {
        Play::<F>::run(self.0)
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
    format: PhantomData<F>,
}

impl<'d, F: Kind> Play<'d, F> {
    fn run(draw: &'d mut dyn FnMut() -> u64) -> usize {
        let tables = F::tables();
        let bytes = TABLES << tables.page();
        let memory = Memory::new([PhysRange::new(PhysAddr(F::RAM), PhysAddr(F::RAM + bytes))]).expect("memory");
        let mirror = Mirror { start: F::RAM, bytes, words: BTreeMap::new() };
        // A root of 32 bytes may begin inside a page.
        let root = F::RAM + if tables == Tables::Pae { 0x60 } else { 0 };
        let mut play = Self { draw, tables, memory, mirror, root, format: PhantomData };
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
            word(at).store(raw, Ordering::Relaxed);
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
        check_walk::<F>(&self.memory, &self.mirror, self.root, va);
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
        check_visit::<F>(&self.memory, &self.mirror, self.root, va, last);
    }

    fn access(&mut self, va: u64) -> bool {
        let (flags, how) = ((self.draw)(), (self.draw)());
        let (control, registers) = F::chosen_registers(flags, how);
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
        let Some((answer, marks)) = check_access::<F>(&self.memory, &self.mirror, self.root, wish, control, &registers)
        else {
            return false;
        };
        for (at, raw) in marks {
            self.mirror.set(at, self.tables.entry(), raw);
        }
        for (&at, &raw) in &self.mirror.words {
            let word = &self.memory.table::<AtomicU64>(PhysAddr(at), 1).expect("memory")[0];
            assert_eq!(Slot::load(word), raw, "{at:#x}, {wish:x?}");
        }
        answer.is_ok()
    }
}
