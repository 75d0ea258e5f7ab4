//! Dumps of real kernels: a walk through the dumped tables leads to the kernel's own words.
//!
//! What the recordings give: the addresses of symbols as the kernel printed them, and where its image was loaded.
#![allow(clippy::unwrap_used, reason = "a test stops where an answer is missing")]

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use kernmem_arch::EntryFormat;
use kernmem_arch::arm64::Arm64Granule4K;
use kernmem_arch::x86::X86Level4;
use kernmem_base::{BusFault, PhysAddr, VirtAddr};
use kernmem_dump::{ElfDump, Machine};
use kernmem_pgtable::{Walk, translate};

const MIB: u64 = 1 << 20;

struct Recorded {
    dump: ElfDump,
    symbols: String,
    text: PhysAddr,
}

impl Recorded {
    fn open(name: &str) -> Self {
        let folder: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testing/recordings/dumps").join(name);
        let packed = File::open(folder.join("kallsyms.zst")).unwrap();
        let mut symbols = String::new();
        ruzstd::decoding::StreamingDecoder::new(packed).unwrap().read_to_string(&mut symbols).unwrap();
        let boot = fs::read_to_string(folder.join("boot.json")).unwrap();
        let text = boot.split("\"text_phys\": \"0x").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
        let text = PhysAddr(u64::from_str_radix(text, 16).unwrap());
        Self { dump: ElfDump::open(&folder.join("vmcore.elf.zst")).unwrap(), symbols, text }
    }

    fn symbol(&self, name: &str) -> VirtAddr {
        let line = self.symbols.lines().find(|line| line.split(' ').nth(2) == Some(name)).unwrap();
        VirtAddr(u64::from_str_radix(line.split(' ').next().unwrap(), 16).unwrap())
    }

    /// Where a symbol of the kernel's image lies.
    fn phys(&self, name: &str) -> PhysAddr {
        self.text + (self.symbol(name) - self.symbol("_text"))
    }

    /// Walks to the kernel's banner and reads it there.
    fn banner<F: EntryFormat>(&self, root: &str) -> String {
        let va = self.symbol("linux_banner");
        let walk = translate::<F, _>(&self.dump, self.phys(root), va).unwrap();
        let Walk::Mapped { pa, .. } = walk else { panic!("no page at {va}") };
        assert_eq!(pa, self.phys("linux_banner"));
        let mut text = [0; 21];
        self.dump.read(pa, &mut text).unwrap();
        String::from_utf8_lossy(&text).into_owned()
    }
}

#[test]
fn a_walk_through_an_arm64_dump_finds_the_banner() {
    for name in ["a61-4k48", "a61-4k48-kaslr"] {
        let ours = Recorded::open(name);
        assert_eq!(ours.dump.machine(), Machine::Arm64);
        assert_eq!(ours.banner::<Arm64Granule4K>("swapper_pg_dir"), "Linux version 6.1.192");
    }
}

#[test]
fn a_walk_through_an_x86_64_dump_finds_the_banner() {
    let ours = Recorded::open("x61-64");
    assert_eq!(ours.dump.machine(), Machine::X86_64);
    assert_eq!(ours.banner::<X86Level4>("init_top_pgt"), "Linux version 6.1.192");
}

#[test]
fn an_x86_64_dump_tells_the_control_registers_of_both_cpus() {
    let ours = Recorded::open("x61-64");
    let cpus: Vec<_> = ours.dump.notes().filter_map(|note| note.x86_control()).collect();
    assert_eq!(cpus.len(), 2);
    for cpu in cpus {
        assert_eq!((cpu.cr0 >> 31 & 1, cpu.cr4 >> 5 & 1, cpu.cr4 >> 12 & 1), (1, 1, 0), "{cpu:x?}");
        let top = PhysAddr(cpu.cr3 & 0x000f_ffff_ffff_f000);
        let va = ours.symbol("linux_banner");
        let walk = translate::<X86Level4, _>(&ours.dump, top, va).unwrap();
        assert!(matches!(walk, Walk::Mapped { pa, .. } if pa == ours.phys("linux_banner")), "{walk:?}");
    }
}

#[test]
fn a_dump_holds_the_recorded_ram_and_no_byte_more() {
    let ours = Recorded::open("a61-4k48");
    let end = 0x4000_0000 + 128 * MIB;
    let mut word = [0; 8];
    ours.dump.read(PhysAddr(end - 8), &mut word).unwrap();
    let beyond = ours.dump.read(PhysAddr(end - 4), &mut word).unwrap_err();
    assert_eq!((beyond.pa, beyond.fault), (PhysAddr(end), BusFault::Hole));
    let x86 = Recorded::open("x61-64");
    let video = x86.dump.read(PhysAddr(0xa_0000), &mut word).unwrap_err();
    assert_eq!(video.fault, BusFault::Hole);
    assert_eq!(x86.dump.ranges().map(|range| range.size()).sum::<u64>(), 0xa_0000 + 0x7f4_0000 + 16 * MIB + 0x4_0000);
}
