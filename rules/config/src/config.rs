//! One kernel: all that was configured, told and drawn.

use alloc::collections::BTreeSet;
use alloc::string::String;

use kernmem_base::Era;
use kernmem_firmware::Arch;

use crate::cmdline::{Answer, CommandLine, Pti, Rodata};
use crate::{Cpu, Given, KernelConfig, KptiFacts, Sizes, Symbols};

/// What a boot needs to know about its kernel.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// The branch of Linux.
    pub era: Era,
    /// The architecture.
    pub arch: Arch,
    /// The command line as the kernel parses it.
    pub cmdline: CommandLine,
    /// The configuration it was built with.
    pub kconfig: KernelConfig,
    /// The CPU it boots on.
    pub cpu: Cpu,
    /// Its symbols as linked.
    pub symbols: Symbols,
    /// Sizes of its structures.
    pub sizes: Sizes,
    /// What a loader chose or chance drew.
    pub given: Given,
    /// CPUs that may ever come up.
    pub possible_cpus: u32,
}

impl Config {
    /// Protection of the kernel's read-only data.
    ///
    /// Until 6.12 arm64's default is full protection only if the configuration says so; 7.2's default is full.
    #[must_use]
    pub fn rodata(&self) -> Answer<Rodata> {
        let full = match self.era {
            Era::V4_14 | Era::V5_10 | Era::V6_1 | Era::V6_12 => self.kconfig.is_set("RODATA_FULL_DEFAULT_ENABLED"),
            Era::V7_2 => true,
        };
        self.cmdline.rodata(self.era, self.arch, full)
    }

    /// Whether free pages are unmapped.
    #[must_use]
    pub fn debug_pagealloc(&self) -> Answer<bool> {
        let mut answer = self.cmdline.debug_pagealloc(self.era, self.kconfig.is_set("DEBUG_PAGEALLOC_ENABLE_DEFAULT"));
        answer.value &= self.kconfig.is_set("DEBUG_PAGEALLOC");
        answer
    }

    /// Milliseconds between KFENCE samples; `None` if KFENCE is not built in, 0 if it is off at boot.
    #[must_use]
    pub fn kfence_sample_interval(&self) -> Answer<Option<u64>> {
        if !self.kconfig.is_set("KFENCE") {
            return Answer { value: None, warnings: alloc::vec::Vec::new() };
        }
        let default = self.kconfig.number("KFENCE_SAMPLE_INTERVAL").unwrap_or(100);
        self.cmdline.kfence_sample_interval(default).map(Some)
    }

    /// Pages of the KFENCE pool.
    #[must_use]
    pub fn kfence_pool_pages(&self) -> u64 {
        2 * (self.kconfig.number("KFENCE_NUM_OBJECTS").unwrap_or(255) + 1)
    }

    /// Whether the kernel runs user code on tables without itself. `kaslr` is whether the image was moved (arm64).
    ///
    /// Source: see [`crate::Arm64Cpu::kpti_needed`]; Linux 5.10–7.2 arch/x86/mm/pti.c `pti_check_boottime_disable`.
    #[must_use]
    pub fn isolates_page_tables(&self, kaslr: bool) -> bool {
        match &self.cpu {
            Cpu::Arm64(cpu) => cpu.kpti_needed(KptiFacts {
                unmap_built_in: self.kconfig.is_set("UNMAP_KERNEL_AT_EL0"),
                e0pd_built_in: self.kconfig.is_set("ARM64_E0PD"),
                forced: self.cmdline.kpti(self.era).value,
                kaslr,
                mitigations_off: self.cmdline.mitigations_off(),
            }),
            Cpu::X86(cpu) => {
                let option = match self.era {
                    Era::V4_14 | Era::V5_10 | Era::V6_1 => "PAGE_TABLE_ISOLATION",
                    Era::V6_12 | Era::V7_2 => "MITIGATION_PAGE_TABLE_ISOLATION",
                };
                let wanted = match self.cmdline.pti(self.era) {
                    Pti::On => true,
                    Pti::Off => false,
                    Pti::Auto => cpu.has_bug("cpu_meltdown"),
                };
                self.kconfig.is_set(option) && wanted
            }
        }
    }

    /// How many nodes the kernel was built for.
    #[must_use]
    pub fn max_nodes(&self) -> u32 {
        const MOST_BITS: u64 = 10;
        let by_option = || 1 << self.kconfig.number("NODES_SHIFT").unwrap_or(0).min(MOST_BITS);
        self.sizes.get("MAX_NUMNODES").and_then(|nodes| u32::try_from(nodes).ok()).unwrap_or_else(by_option)
    }

    /// The names on the command line that no question of this crate reads.
    #[must_use]
    pub fn unread_words(&self) -> BTreeSet<String> {
        self.cmdline.unread_words()
    }
}
