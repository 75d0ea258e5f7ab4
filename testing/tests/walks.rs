//! Kernels of every format, booted and read by two walkers: ours, and one written from the manuals
//! (`machines/sim/tests/manual`).
//!
//! Each entry of each tree is compared, and walks of addresses at the edges of what is mapped, of drawn ones, and of
//! ones that no root translates.
#![allow(clippy::unwrap_used, reason = "a test stops where an answer is missing")]

use core::fmt::Write;
use core::sync::atomic::AtomicU64;

use crate::manual::{
    End, Kind, Read, Says, Wish, WithKind, Words, check_access, check_visit, check_walk, number, with,
};
use kernmem::Boot;
use kernmem_arch::arm64::Geometry;
use kernmem_arch::{FaultKind, Format};
use kernmem_base::{Access, Asid, Cpu as _, CpuId, Era, Granule, Half, PhysAddr, PhysRead, Privilege, Seed, VirtAddr};
use kernmem_config::{Arm64Cpu, Cpu, Symbols};
use kernmem_sim::{Memory, TlbShape, Vcpu};
use kernmem_source::Source;
use kernmem_view::entries::root_ranges;
use kernmem_view::{Answer, KernelView, RootKind};

/// Edges and leaves of each tree that are walked.
const MOST: usize = 2_000;

/// Memory seen as plain words.
struct Plain<'m>(&'m Memory);

impl Words for Plain<'_> {
    fn word(&self, pa: u64, bytes: u64) -> Option<u64> {
        let word = self.0.entry::<AtomicU64>(PhysAddr(pa / 8 * 8), 0).ok()?;
        Some(if bytes == 8 { word } else { word >> (pa % 8 * 8) & 0xffff_ffff })
    }
}

/// What a tree was read for.
#[derive(Clone, Copy, Default, Debug)]
struct Tally {
    entries: usize,
    walks: usize,
    mapped: usize,
}

/// One tree of a booted kernel.
struct Tree<'m> {
    memory: &'m Memory,
    /// A CPU of the format as a value, with this root.
    cpu: Vcpu,
    root: u64,
    /// First and last address of each range that the root translates.
    ranges: Vec<(u64, u64)>,
}

impl WithKind for Tree<'_> {
    type Output = Tally;

    fn run<F: Kind>(mut self) -> Tally {
        let mut tally = Tally::default();
        let mut seed = Seed(self.root);
        for (first, last) in self.ranges.clone() {
            let words = Plain(self.memory);
            tally.entries += check_visit::<F>(self.memory, &words, self.root, first, last);
            let all = F::tables().below(&words, self.root, first, last);
            let inside = |(va, read): &(u64, Read)| va | (Seed(*va).draw() % (1 << read.shift));
            let leaves = all.iter().filter(|(_, read)| matches!(read.says, Says::Leaf(_))).map(inside);
            for addresses in [edges(&all), leaves.collect()] {
                let step = addresses.len() / MOST + 1;
                addresses.into_iter().step_by(step).for_each(|va| self.walk::<F>(va, &mut tally));
            }
            for _ in 0..MOST / 4 {
                self.walk::<F>(first + seed.draw() % (last - first), &mut tally);
            }
        }
        tally
    }
}

impl Tree<'_> {
    fn walk<F: Kind>(&mut self, va: u64, tally: &mut Tally) {
        let words = Plain(self.memory);
        let end = check_walk::<F>(self.memory, &words, self.root, va);
        tally.walks += 1;
        tally.mapped += usize::from(matches!(end, End::Byte(_)));
        match (self.cpu.access(self.memory, VirtAddr(va), Access::Read, Privilege::Kernel), end) {
            (Ok(to), End::Byte(byte)) => assert_eq!(to.pa.0, byte, "{va:#x}"),
            // a page of user mode
            (Err(fault), End::Byte(_)) => assert_eq!(fault.kind, FaultKind::Permission, "{va:#x}"),
            (found, _) => assert!(found.is_err(), "{va:#x}: {found:?}"),
        }
        // 52 bits, and every feature that takes no right from a kernel that reads.
        let (control, registers) = F::chosen_registers(0b1111, 0);
        let wish = Wish { va, access: Access::Read, user: false };
        let (answer, marks) = check_access::<F>(self.memory, &words, self.root, wish, control, &registers).unwrap();
        if answer.is_ok() {
            for (at, raw) in marks {
                assert_eq!(words.word(at, F::tables().entry()), Some(raw), "{va:#x}");
            }
        }
    }
}

/// First and last byte of each run of entries that say the same.
fn edges(all: &[(u64, Read)]) -> Vec<u64> {
    let kind = |read: &Read| (core::mem::discriminant(&read.says), read.shift);
    let entries: Vec<_> = all.iter().filter(|(_, read)| !matches!(read.says, Says::Table(_))).collect();
    let pairs = entries.windows(2).filter(|pair| kind(&pair[0].1) != kind(&pair[1].1));
    pairs.flat_map(|pair| [pair[1].0 - 1, pair[1].0]).collect()
}

fn preset(name: &str, edit: impl FnOnce(&mut Source)) -> Source {
    let mut source = Source::open(name).unwrap();
    edit(&mut source);
    source
}

/// The symbols of an image in which every page of 4K has become one of `granule`, with more room for its first tables,
/// as more levels take it, and the arrays of tables that 6.12 has in the image.
fn spread(symbols: &Symbols, granule: Granule) -> Symbols {
    let place = |name: &str| symbols.address(name).unwrap();
    let (text, ends) = (place("_text"), ["init_idmap_pg_end", "init_pg_end"].map(place));
    let spread = |address: VirtAddr| {
        let offset = address.0.saturating_sub(text.0);
        let rooms = ends.into_iter().filter(|end| address >= *end).count() as u64;
        let moved = text.0 + (offset >> 12 << granule.shift() | offset & 0xfff) + (rooms << 21);
        if address < text { address.0 } else { moved }
    };
    let mut map = String::new();
    for symbol in symbols.iter() {
        writeln!(map, "{:x} {} {}", spread(symbol.address), symbol.kind, symbol.name).unwrap();
    }
    let arrays = spread(ends[0]) - (1 << 20);
    writeln!(map, "{arrays:x} B idmap_ptes\n{:x} B kpti_ptes", arrays + (1 << 19)).unwrap();
    Symbols::parse(&map)
}

/// An arm64 kernel with these tables, of an era that has them, on a CPU that has them. Its image is linked behind the
/// modules at the start of the upper half of 48 bits or fewer: 128 MiB in 6.1, 2 GiB in 6.12.
fn arm64(geometry: Geometry) -> Source {
    preset("arm64-4g", |source| {
        source.config.kconfig.set_arm64_pages(geometry.granule());
        source.config.kconfig.set_arm64_va_bits(geometry.va_bits());
        source.config.cpu = Cpu::Arm64(Arm64Cpu::by_model("max").unwrap());
        let needs_lpa2 = geometry.va_bits() == 52 && geometry.granule() != Granule::K64;
        let (era, modules) = if needs_lpa2 { (Era::V6_12, 2 << 30) } else { (Era::V6_1, 128 << 20) };
        let link: u64 = (!0 << (geometry.va_bits().min(48) - 1)) + modules;
        let symbols = core::mem::take(&mut source.config.symbols);
        let text = symbols.address("_text").unwrap();
        let symbols = spread(&symbols, geometry.granule());
        source.config.symbols = symbols.linked_higher(text, link.wrapping_sub(text.0));
        source.config.era = era;
        source.config.kconfig.name_for_all_eras();
    })
}

fn kernels() -> Vec<(Format, Source)> {
    let mut all: Vec<_> = Geometry::ALL.into_iter().map(|it| (Format::Arm64(it), arm64(it))).collect();
    all.push((Format::X86Level4, preset("x86-4g", |_| {})));
    all.push((
        Format::X86Level5,
        preset("x86-4g", |source| {
            let Cpu::X86(cpu) = &source.config.cpu else { panic!("a PC") };
            source.config.cpu = Cpu::X86(cpu.changed("+la57"));
            source.config.kconfig.insert("X86_5LEVEL", "y");
        }),
    ));
    let pae = |is_built| preset("i386-2g", |source| source.config.kconfig.insert("X86_PAE", is_built));
    all.push((Format::I386Pae, pae("y")));
    all.push((Format::I386Level2, pae("n")));
    all
}

#[test]
fn kernels_of_every_format_are_read_as_the_manuals_say() {
    for (format, source) in kernels() {
        let boot = Boot::new(&source.machine, &source.config);
        let memory = Memory::new(kernmem::memory_ranges(&boot)).unwrap();
        let kernel = kernmem_live::boot(&memory, &boot, ()).unwrap_or_else(|error| panic!("{format:?}: {error}"));
        assert_eq!(kernel.format(), format);
        for kind in [RootKind::Kernel, RootKind::User, RootKind::Idmap] {
            let Answer::Known(root) = kernel.root(kind) else { continue };
            let ranges = root_ranges(format, kind).iter().map(|range| (range.start.0, range.last.0)).collect();
            let mut cpu = Vcpu::new(CpuId(0), format, &TlbShape::default());
            cpu.load_root(Half::Both, root, Asid(0));
            let tally = with(number(format), Tree { memory: &memory, cpu, root: root.0, ranges });
            println!("{format:?} {kind:?}: {} entries, {} walks, {} mapped", tally.entries, tally.walks, tally.mapped);
            assert!(kind != RootKind::Kernel || tally.mapped > 500, "{format:?}: {tally:?}");
        }
    }
}
