//! The kernels that are built in, and the rule that chooses one.
//!
//! Here: one row for each kernel, whose files are those of the recordings, and the choice by architecture, era, page
//! size and bits of virtual addresses. Not here: the machines ([`crate::presets`]), where a caller's own files replace
//! these ([`crate::assemble`]).

use kernmem_base::{Era, Granule, Size};
use kernmem_config::{Arch, Cpu};

use crate::kernel::KernelFiles;
use crate::{Problem, SourceError};

/// The era of a kernel that nobody has a wish about.
pub(crate) const ERA: Era = Era::V6_1;

/// The bits of virtual addresses that are taken where nobody has a wish and there are such kernels.
const VA_BITS: u32 = 48;

/// One kernel.
pub(crate) struct Builtin {
    /// Its name, as in the recordings.
    pub(crate) name: &'static str,
    arch: Arch,
    pub(crate) era: Era,
    pub(crate) granule: Granule,
    /// Bits of virtual addresses that it can be asked for, the most last: on x86-64 the CPU decides between two.
    va_bits: &'static [u32],
    /// The CPU's feature without which it does not run; may be empty.
    needs: &'static str,
    config: &'static [u8],
    map: &'static [u8],
    sizes: &'static str,
}

macro_rules! kernel {
    ($name:literal, $arch:ident, $era:ident, $granule:ident, $va_bits:expr, $needs:literal) => {
        Builtin {
            name: $name,
            arch: Arch::$arch,
            era: Era::$era,
            granule: Granule::$granule,
            va_bits: &$va_bits,
            needs: $needs,
            config: include_bytes!(concat!("../presets/kernels/", $name, "/config.gz")),
            map: include_bytes!(concat!("../presets/kernels/", $name, "/System.map.zst")),
            sizes: include_str!(concat!("../presets/kernels/", $name, "/sizes.csv")),
        }
    };
}

/// All of them, by architecture, era, page size and bits; of kernels that differ in nothing else the one that is
/// chosen first is the last.
static KERNELS: [Builtin; 24] = [
    kernel!("a510-4k39", Arm64, V5_10, K4, [39], ""),
    kernel!("a510-4k48", Arm64, V5_10, K4, [48], ""),
    kernel!("a510-64k52", Arm64, V5_10, K64, [52], ""),
    kernel!("a61-4k39", Arm64, V6_1, K4, [39], ""),
    kernel!("a61-4k48", Arm64, V6_1, K4, [48], ""),
    kernel!("a61-16k36", Arm64, V6_1, K16, [36], ""),
    kernel!("a61-16k47", Arm64, V6_1, K16, [47], ""),
    kernel!("a61-16k48", Arm64, V6_1, K16, [48], ""),
    kernel!("a61-64k42", Arm64, V6_1, K64, [42], ""),
    kernel!("a61-64k52", Arm64, V6_1, K64, [52], ""),
    kernel!("a612-4k48", Arm64, V6_12, K4, [48], ""),
    kernel!("a612-4k52", Arm64, V6_12, K4, [52], ""),
    kernel!("a612-16k52", Arm64, V6_12, K16, [52], ""),
    kernel!("a612-64k52", Arm64, V6_12, K64, [52], ""),
    kernel!("a72-4k48", Arm64, V7_2, K4, [48], ""),
    kernel!("a72-4k52", Arm64, V7_2, K4, [52], ""),
    kernel!("x510-64", X86_64, V5_10, K4, [48, 57], ""),
    kernel!("x61-64", X86_64, V6_1, K4, [48, 57], ""),
    kernel!("x612-64", X86_64, V6_12, K4, [48, 57], ""),
    kernel!("x72-64", X86_64, V7_2, K4, [48, 57], ""),
    kernel!("i510-pae", I386, V5_10, K4, [32], "pae"),
    kernel!("i61-2l", I386, V6_1, K4, [32], ""),
    kernel!("i61-pae", I386, V6_1, K4, [32], "pae"),
    kernel!("i612-2l", I386, V6_12, K4, [32], ""),
];

/// What is asked of a kernel.
pub(crate) struct Wish {
    pub(crate) arch: Arch,
    pub(crate) era: Era,
    pub(crate) granule: Option<Granule>,
    pub(crate) va_bits: Option<u32>,
}

fn of_era(arch: Arch, era: Era) -> impl DoubleEndedIterator<Item = &'static Builtin> {
    KERNELS.iter().filter(move |kernel| kernel.arch == arch && kernel.era == era)
}

/// Whether any kernel of that era is built in.
pub(crate) fn has_era(arch: Arch, era: Era) -> bool {
    of_era(arch, era).next().is_some()
}

/// The kernel of that name.
pub(crate) fn named(name: &str) -> Option<&'static Builtin> {
    KERNELS.iter().find(|kernel| kernel.name == name)
}

/// The kernel that is wished for and runs on that CPU. Without a wish the page size is 4K; the bits are 48, or the most
/// that are built in where no kernel has 48.
///
/// # Errors
/// There is none: [`Problem::NoKernel`], which names those of the era.
pub(crate) fn choose(wish: &Wish, cpu: &Cpu) -> Result<&'static Builtin, Problem> {
    let granule = wish.granule.unwrap_or(Granule::K4);
    let runs = |kernel: &Builtin| kernel.needs.is_empty() || cpu.x86().is_some_and(|cpu| cpu.has(kernel.needs));
    let fits = || of_era(wish.arch, wish.era).rev().filter(|kernel| kernel.granule == granule && runs(kernel));
    let with_bits = |bits: u32| fits().find(|kernel| kernel.va_bits.contains(&bits));
    let found = match wish.va_bits {
        Some(bits) => with_bits(bits),
        // In front are the most bits.
        None => with_bits(VA_BITS).or_else(|| fits().next()),
    };
    found.ok_or_else(|| Problem::NoKernel {
        wanted: match (wish.va_bits, fits().next()) {
            (None, None) if wish.arch == Arch::I386 && granule == Granule::K4 => {
                "two levels for a CPU without PAE".to_owned()
            }
            (None, _) => format!("{} pages", Size(granule.bytes())),
            (Some(bits), _) => format!("{} pages and {bits} bits", Size(granule.bytes())),
        },
        built_in: listing(wish.arch, wish.era),
    })
}

/// What is built in for an era: `Linux 7.2 on arm64: 4K pages with 48 or 52 bits`.
fn listing(arch: Arch, era: Era) -> String {
    let sizes = [Granule::K4, Granule::K16, Granule::K64].into_iter().filter_map(|granule| {
        let mut bits: Vec<u32> = of_era(arch, era)
            .filter(|kernel| kernel.granule == granule)
            .flat_map(|kernel| kernel.va_bits.iter().copied())
            .collect();
        bits.dedup();
        let bits: Vec<String> = bits.iter().map(u32::to_string).collect();
        let (last, others) = bits.split_last()?;
        let bits = if others.is_empty() { last.clone() } else { format!("{} or {last}", others.join(", ")) };
        Some(format!("{} pages with {bits} bits", Size(granule.bytes())))
    });
    let sizes: Vec<String> = sizes.collect();
    format!("Linux {era} on {}: {}", arch.name(), sizes.join(", "))
}

impl Builtin {
    /// The kernel of another era with the same page size and the same bits that runs on that CPU.
    pub(crate) fn of_other_era(&self, era: Era, cpu: &Cpu) -> Option<&'static Self> {
        let va_bits = self.va_bits.last().copied();
        choose(&Wish { arch: self.arch, era, granule: Some(self.granule), va_bits }, cpu).ok()
    }

    /// Its files, unpacked.
    pub(crate) fn files(&self) -> Result<KernelFiles, SourceError> {
        KernelFiles::embedded(self.name, self.config, self.map, self.sizes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_what_its_configuration_says() {
        for kernel in &KERNELS {
            let config = kernel.files().unwrap().kconfig;
            let name = kernel.name;
            match kernel.arch {
                Arch::Arm64 => {
                    assert_eq!(config.arm64_granule(), kernel.granule, "{name}");
                    assert_eq!(kernel.va_bits, [config.arm64_va_bits().unwrap()], "{name}");
                }
                Arch::X86_64 => {
                    let five = config.number("PGTABLE_LEVELS") == Some(5);
                    assert_eq!(kernel.va_bits.contains(&57), five, "{name}");
                }
                Arch::I386 => assert_eq!(kernel.needs == "pae", config.is_set("X86_PAE"), "{name}"),
            }
        }
    }

    #[test]
    fn a_listing_names_page_sizes_and_bits() {
        assert_eq!(listing(Arch::Arm64, Era::V7_2), "Linux 7.2 on arm64: 4K pages with 48 or 52 bits");
        let all = "4K pages with 39 or 48 bits, 16K pages with 36, 47 or 48 bits, 64K pages with 42 or 52 bits";
        assert_eq!(listing(Arch::Arm64, Era::V6_1), format!("Linux 6.1 on arm64: {all}"));
        assert_eq!(listing(Arch::I386, Era::V6_1), "Linux 6.1 on i386: 4K pages with 32 bits");
    }
}
