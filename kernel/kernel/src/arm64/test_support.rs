//! What tests of this folder share.

use kernmem_base::{Era, Granule, PhysAddr};
use kernmem_config::{Arm64Cpu, CommandLine, Config, Cpu, Given, KernelConfig, Sizes, Symbols};
use kernmem_firmware::Arch;
use kernmem_memblock::{Limits, Memblock, VecArray};

/// A kernel of `era` with these words and options on one CPU.
pub(super) fn config(era: Era, line: &str, options: &str) -> Config {
    Config {
        era,
        arch: Arch::Arm64,
        cmdline: CommandLine::parse(line),
        kconfig: KernelConfig::parse(options),
        cpu: Cpu::Arm64(Arm64Cpu::by_model("cortex-a72").unwrap()),
        symbols: Symbols::default(),
        sizes: Sizes::default(),
        given: Given::default(),
        possible_cpus: 1,
    }
}

/// A boot allocator with one bank, of which nothing is taken.
pub(super) fn memblock(era: Era, start: u64, bytes: u64) -> Memblock<VecArray, ()> {
    let lists = || VecArray::with_capacity(16);
    let mut memblock = Memblock::new(era, Limits::new_64bit(Granule::K4), lists(), lists(), ());
    memblock.add(PhysAddr(start), bytes).unwrap();
    memblock
}
