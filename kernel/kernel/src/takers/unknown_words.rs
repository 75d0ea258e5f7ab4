//! Words of the command line that no part of the kernel knows: they go to the first process.
//!
//! Here: the names that kernels from 6.1 on know, by the option that brings them and the era that brought them.
//! Not here: what a word means (`kernmem-config`).
//!
//! Source: Linux 6.1–7.2 init/main.c `unknown_bootoption`, `obsolete_checksetup`, `print_unknown_bootoptions`.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use kernmem_base::Era;
use kernmem_config::Config;
use kernmem_firmware::Arch;

/// Which kernels know a name.
#[derive(Clone, Copy)]
enum When {
    Always,
    Arm64,
    X86,
    I386,
    /// With this option.
    Set(&'static str),
    /// From this era on.
    From(Era),
    /// With this option, from this era on.
    SetFrom(&'static str, Era),
}

/// The words that nobody knows, in the order in which the log lists them: those without a value, then the others.
///
/// | era | listed |
/// |---|---|
/// | 4.14, 5.10 | nothing |
/// | 6.1 and later | yes |
///
/// A name with a dot belongs to a module that may be loaded later, and is not listed. A later word of the same name
/// replaces an earlier one, if they have values.
#[must_use]
pub fn unknown_words(config: &Config) -> Vec<String> {
    match config.era {
        Era::V4_14 | Era::V5_10 => return Vec::new(),
        Era::V6_1 | Era::V6_12 | Era::V7_2 => {}
    }
    let (mut arguments, mut variables): (Vec<String>, Vec<(String, String)>) = (Vec::new(), Vec::new());
    for word in config.cmdline.words() {
        if matches!(word.name.as_str(), "init" | "rdinit") {
            arguments.clear(); // what stands before is for another program
        }
        if word.name.contains('.') || is_known(config, &word.name) {
            continue;
        }
        // The first process has these two anyway.
        let is_preset = matches!(word.name.as_str(), "HOME" | "TERM");
        match &word.value {
            None => arguments.push(word.name.clone()),
            Some(_) if is_preset => {}
            Some(_) => match variables.iter_mut().find(|(name, _)| *name == word.name) {
                Some(known) => known.1 = word.to_string(),
                None => variables.push((word.name.clone(), word.to_string())),
            },
        }
    }
    arguments.extend(variables.into_iter().map(|(_, text)| text));
    arguments
}

fn is_known(config: &Config, name: &str) -> bool {
    let dashed = |byte: u8| if byte == b'-' { b'_' } else { byte };
    let same = |known: &str| known.bytes().eq(name.bytes().map(dashed));
    KNOWN.iter().any(|(when, names)| {
        let applies = match when {
            When::Always => true,
            When::Arm64 => config.arch == Arch::Arm64,
            When::I386 => config.arch == Arch::I386,
            When::X86 => config.arch.is_x86(),
            When::Set(option) => config.kconfig.is_set(option),
            When::From(era) => config.era >= *era,
            When::SetFrom(option, era) => config.era >= *era && config.kconfig.is_set(option),
        };
        applies && names.split_ascii_whitespace().any(same)
    })
}

const KNOWN: [(When, &str); 46] = [
    (
        When::Always,
        "mem memblock kernelcore movablecore mitigations no_hash_pointers init_on_alloc init_on_free log_buf_len \
         dhash_entries ihash_entries mhash_entries mphash_entries percpu_alloc stack_guard_gap norandmaps \
         mminit_loglevel rodata console root rootfstype rootflags rootwait rootdelay ro rw init rdinit quiet debug \
         loglevel ignore_loglevel earlycon panic reboot lpj initcall_debug initcall_blacklist nohugeiomap \
         nohugevmalloc early_ioremap_debug load_ramdisk prompt_ramdisk reset_devices nohlt hlt clocksource \
         keep_bootcon printk_ratelimit coredump_filter user_debug",
    ),
    (When::Arm64, "hugetlb_cma ssbd nospectre_v2"),
    (
        When::X86,
        "memmap gbpages nogbpages acpi acpi_rsdp noapic nolapic lapic apic pci tsc hpet iommu add_efi_memmap vsyscall \
         vdso nosmap nosmep noxsave clearcpuid spectre_v2 nospectre_v1 nospectre_v2 spec_store_bypass_disable l1tf mds \
         tsx earlyprintk possible_cpus idle noinvpcid nopcid disable_mtrr_cleanup enable_mtrr_cleanup no_timer_check \
         memory_corruption_check_size notsc nopat highres nohz",
    ),
    (When::I386, "vmalloc highmem reservetop userpte"),
    (When::Set("DEBUG_PAGEALLOC"), "debug_pagealloc debug_guardpage_minorder"),
    (When::SetFrom("MITIGATION_PAGE_TABLE_ISOLATION", Era::V6_12), "pti nopti"),
    (When::From(Era::V6_12), "reserve_mem"),
    (When::From(Era::V7_2), "hash_pointers"),
    (When::Set("CRASH_CORE"), "crashkernel"),
    (When::Set("CRASH_RESERVE"), "crashkernel"),
    (When::Set("CRASH_DUMP"), "elfcorehdr"),
    (When::Set("DMA_CMA"), "cma"),
    (When::Set("DMA_PERNUMA_CMA"), "cma_pernuma"),
    (When::Set("MEMORY_HOTPLUG"), "movable_node memhp_default_state"),
    (When::Set("NUMA"), "numa hashdist numa_zonelist_order"),
    (When::Set("NUMA_BALANCING"), "numa_balancing"),
    (When::Set("UNMAP_KERNEL_AT_EL0"), "kpti"),
    (When::Set("SMP"), "nosmp maxcpus nr_cpus"),
    (When::Set("BLK_DEV_INITRD"), "initrd initrdmem noinitrd ramdisk_start retain_initrd"),
    (When::Set("ARCH_HAS_KEEPINITRD"), "keepinitrd"),
    (When::Set("HUGETLBFS"), "hugepages hugepagesz default_hugepagesz"),
    (When::Set("HUGETLB_PAGE_OPTIMIZE_VMEMMAP"), "hugetlb_free_vmemmap"),
    (When::Set("SWIOTLB"), "swiotlb"),
    (When::Set("TRANSPARENT_HUGEPAGE"), "transparent_hugepage"),
    (When::SetFrom("TRANSPARENT_HUGEPAGE", Era::V6_12), "thp_anon"),
    (
        When::SetFrom("TRANSPARENT_HUGEPAGE", Era::V7_2),
        "transparent_hugepage_shmem transparent_hugepage_tmpfs thp_shmem",
    ),
    (When::SetFrom("HUGETLBFS", Era::V7_2), "hugetlb_cma_only hugepage_alloc_threads"),
    (When::Set("PAGE_POISONING"), "page_poison"),
    (When::Set("PAGE_OWNER"), "page_owner"),
    (
        When::Set("SLUB"),
        "slub_nomerge slub_merge slub_min_order slub_max_order slub_min_objects slab_nomerge slab_merge",
    ),
    (When::SetFrom("SLUB", Era::V6_12), "slab_min_order slab_max_order slab_min_objects"),
    (When::Set("SLUB_DEBUG"), "slub_debug"),
    (When::SetFrom("SLUB_DEBUG", Era::V6_12), "slab_debug"),
    (When::Set("MEMTEST"), "memtest"),
    (When::Set("EFI"), "efi noefi"),
    (When::Set("NET"), "thash_entries uhash_entries ip"),
    (When::Set("X86_CHECK_BIOS_CORRUPTION"), "memory_corruption_check memory_corruption_check_period"),
    (When::Set("CGROUPS"), "cgroup_disable cgroup_enable"),
    (When::Set("AUDIT"), "audit audit_backlog_limit"),
    (When::Set("SECURITY"), "lsm security"),
    (When::Set("SECURITY_SELINUX_BOOTPARAM"), "selinux"),
    (When::Set("NO_HZ_COMMON"), "nohz nohz_full"),
    (When::Set("HIGH_RES_TIMERS"), "highres"),
    (When::Set("RANDOMIZE_KSTACK_OFFSET"), "randomize_kstack_offset"),
    (When::Set("KASAN"), "kasan_multi_shot"),
    (When::Set("DEBUG_KMEMLEAK"), "kmemleak"),
];
