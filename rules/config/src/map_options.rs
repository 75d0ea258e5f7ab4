//! Options of a configuration and features of a CPU that can change a kernel's page tables.
//!
//! Here: which of them are worth trying where a listing is to be explained. Not here: what they do, and options that
//! move the image or change the format, since no other image would fit them: page size, address bits, KASAN.
//!
//! Source: the options and features are those that the rules of a boot ask for.

use kernmem_firmware::Arch;

/// Options by the names without `CONFIG_`, each on or off.
#[must_use]
pub const fn map_options(arch: Arch) -> &'static [&'static str] {
    match arch {
        Arch::Arm64 => &[
            "RODATA_FULL_DEFAULT_ENABLED",
            "DEBUG_PAGEALLOC",
            "DEBUG_PAGEALLOC_ENABLE_DEFAULT",
            "KFENCE",
            "KEXEC_CORE",
            "UNMAP_KERNEL_AT_EL0",
            "ARM64_E0PD",
            "RANDOMIZE_BASE",
            "ZONE_DMA",
            "ZONE_DMA32",
            "NUMA",
        ],
        Arch::I386 => &[
            "DEBUG_PAGEALLOC",
            "DEBUG_PAGEALLOC_ENABLE_DEFAULT",
            "HIGHMEM",
            "PAGE_TABLE_ISOLATION",
            "MITIGATION_PAGE_TABLE_ISOLATION",
        ],
        Arch::X86_64 => &[
            "DEBUG_PAGEALLOC",
            "DEBUG_PAGEALLOC_ENABLE_DEFAULT",
            "KFENCE",
            "X86_DIRECT_GBPAGES",
            "PAGE_TABLE_ISOLATION",
            "MITIGATION_PAGE_TABLE_ISOLATION",
            "X86_5LEVEL",
            "RANDOMIZE_MEMORY",
            "HUGETLB_PAGE_OPTIMIZE_VMEMMAP",
            "HUGETLB_PAGE_OPTIMIZE_VMEMMAP_DEFAULT_ON",
            "NUMA",
        ],
    }
}

/// Features of x86 CPUs as `/proc/cpuinfo` names them; a fault begins with `bug:`.
pub const MAP_FEATURES: [&str; 7] = ["pse", "pdpe1gb", "pge", "nx", "pcid", "la57", "bug:cpu_meltdown"];
