//! Words about rights, isolation and debugging.
//!
//! Source: Linux 5.10–7.2 init/main.c `set_debug_rodata`; arch/arm64/include/asm/setup.h `arch_parse_debug_rodata`;
//! 5.10 arch/arm64/mm/mmu.c `parse_rodata`; mm/page_alloc.c `early_debug_pagealloc`; mm/kfence/core.c
//! `param_set_sample_interval`; arch/x86/mm/pti.c `pti_check_boottime_disable`.

use alloc::borrow::ToOwned;

use kernmem_base::Era;
use kernmem_firmware::Arch;

use super::{Answer, CommandLine, Warning, is_space, kstrtobool};
use crate::number::whole_number;

/// How read-only data is protected.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Rodata {
    /// Also in the linear map's alias (arm64).
    Full,
    /// In the image's own mapping.
    On,
    /// Not at all.
    Off,
}

/// What the line says about page-table isolation on x86.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pti {
    /// Isolate in any case.
    On,
    /// Never isolate.
    Off,
    /// Isolate if the CPU leaks.
    Auto,
}

impl CommandLine {
    /// Protection of read-only data; `full_default` is arm64's default before the line is read.
    ///
    /// | era | arm64 words | x86-64 words |
    /// |---|---|---|
    /// | 4.14 | booleans (UNVERIFIED) | booleans (UNVERIFIED) |
    /// | 5.10 | booleans, `full` | booleans |
    /// | 6.1, 6.12 | `full`, `on`, `off` | `on`, `off` |
    /// | 7.2 | `on` (full), `noalias`, `off` | `on`, `off` |
    #[must_use]
    pub fn rodata(&self, era: Era, arch: Arch, full_default: bool) -> Answer<Rodata> {
        let full = arch == Arch::Arm64 && full_default;
        let mut answer = Answer::new(if full { Rodata::Full } else { Rodata::On });
        for word in self.named("rodata") {
            let value = word.value.as_deref().unwrap_or("");
            match rodata_word(value, era, arch) {
                Some(rodata) => answer.value = rodata,
                None if era == Era::V5_10 && arch == Arch::Arm64 => {
                    let (name, value) = (word.name.clone(), word.value.clone());
                    answer.warnings.push(Warning::Malformed { name, value });
                }
                None => answer.warnings.push(Warning::InvalidRodata(value.to_owned())),
            }
        }
        answer
    }

    /// Whether free pages are unmapped, `default` without a word.
    #[must_use]
    pub fn debug_pagealloc(&self, era: Era, default: bool) -> Answer<bool> {
        self.early_bool("debug_pagealloc", era, default)
    }

    /// Milliseconds between KFENCE samples: a whole number, without unit.
    #[must_use]
    pub fn kfence_sample_interval(&self, default: u64) -> Answer<u64> {
        let mut answer = Answer::new(default);
        for word in self.named("kfence.sample_interval") {
            match word.value.as_deref().and_then(whole_number) {
                Some(value) => answer.value = value,
                None => {
                    let (name, value) = (word.name.clone(), word.value.clone());
                    answer.warnings.push(Warning::InvalidParameter { name, value });
                }
            }
        }
        answer
    }

    /// Whether the line turns KASLR off.
    ///
    /// | era | arm64 | x86-64 |
    /// |---|---|---|
    /// | 4.14, 5.10 | `nokaslr` at the start of the line or behind a space, whatever follows it | a word |
    /// | 6.1–7.2 | a word (`-` and `_` are equal), or `kaslr.disabled=1`, before `--` | a word |
    #[must_use]
    pub fn nokaslr(&self, era: Era, arch: Arch) -> bool {
        let mut words = self.text().split(|c: char| c.is_ascii() && is_space(c as u8));
        match (arch, era) {
            (Arch::X86_64 | Arch::I386, _) => words.any(|word| word == "nokaslr"),
            (Arch::Arm64, Era::V4_14 | Era::V5_10) => {
                self.text().starts_with("nokaslr") || self.text().contains(" nokaslr")
            }
            (Arch::Arm64, Era::V6_1 | Era::V6_12 | Era::V7_2) => {
                words.take_while(|word| *word != "--").any(|word| matches!(word, "nokaslr" | "kaslr.disabled=1"))
            }
        }
    }

    /// arm64: page-table isolation forced on or off.
    #[must_use]
    pub fn kpti(&self, era: Era) -> Answer<Option<bool>> {
        self.early("kpti", None, |value| value.and_then(|value| kstrtobool(value, era)).map(Some))
    }

    /// x86: what the line says about isolation, `mitigations=off` included.
    ///
    /// | era | rule |
    /// |---|---|
    /// | 4.14, 5.10, 6.1 | the last `pti=` if it is on, off or auto; else `nopti` or `mitigations=off`; else auto |
    /// | 6.12, 7.2 | early parameters in order; `mitigations=off` only where they leave auto (UNVERIFIED order) |
    #[must_use]
    pub fn pti(&self, era: Era) -> Pti {
        let by_word = |value: &str| match value {
            "on" => Some(Pti::On),
            "off" => Some(Pti::Off),
            "auto" => Some(Pti::Auto),
            _ => None,
        };
        match era {
            Era::V4_14 | Era::V5_10 | Era::V6_1 => match self.last_value("pti").and_then(by_word) {
                Some(pti) => pti,
                None if self.has("nopti") || self.mitigations_off() => Pti::Off,
                None => Pti::Auto,
            },
            Era::V6_12 | Era::V7_2 => {
                let mut pti = Pti::Auto;
                for word in self.words() {
                    if word.is_named("nopti") {
                        pti = Pti::Off;
                    } else if word.is_named("pti") {
                        pti = word.value.as_deref().and_then(by_word).unwrap_or(pti);
                    }
                }
                if pti == Pti::Auto && self.mitigations_off() { Pti::Off } else { pti }
            }
        }
    }

    /// Whether `mitigations=off` is in force.
    #[must_use]
    pub fn mitigations_off(&self) -> bool {
        let known = |value: &&str| matches!(*value, "off" | "auto" | "auto,nosmt");
        let words = self.named("mitigations").rev().filter_map(|word| word.value.as_deref());
        words.into_iter().find(known) == Some("off")
    }

    /// x86, 5.10 and before: whether pages may be made not executable.
    #[must_use]
    pub fn noexec(&self, era: Era) -> bool {
        match era {
            Era::V4_14 | Era::V5_10 => {
                let words = self.named("noexec").rev().filter_map(|word| word.value.as_deref());
                words
                    .into_iter()
                    .find(|value| value.starts_with("on") || value.starts_with("off"))
                    .is_none_or(|value| value.starts_with("on"))
            }
            Era::V6_1 | Era::V6_12 | Era::V7_2 => true,
        }
    }

    /// x86: whether the direct map may use 1 GiB pages; the last of the two words wins.
    #[must_use]
    pub fn gbpages(&self, default: bool) -> bool {
        let words = self.words().iter().rev().filter(|word| word.value.is_none());
        let mut answers = words.filter_map(|word| match word.name.as_str() {
            "gbpages" => Some(true),
            "nogbpages" => Some(false),
            _ => None,
        });
        answers.next().unwrap_or(default)
    }

    /// x86-64: whether the boot stub stays with four levels.
    #[must_use]
    pub fn no5lvl(&self) -> bool {
        self.has("no5lvl")
    }

    /// x86-64: whether process-context identifiers are left off.
    #[must_use]
    pub fn nopcid(&self) -> bool {
        self.named("nopcid").any(|word| word.value.is_none())
    }
}

fn rodata_word(value: &str, era: Era, arch: Arch) -> Option<Rodata> {
    let boolean = || kstrtobool(value, era).map(|on| if on { Rodata::On } else { Rodata::Off });
    let exact = || match value {
        "on" => Some(Rodata::On),
        "off" => Some(Rodata::Off),
        _ => None,
    };
    match (arch, era) {
        (Arch::Arm64, Era::V5_10) if value == "full" => Some(Rodata::Full),
        (_, Era::V4_14 | Era::V5_10) => boolean(),
        (Arch::Arm64, Era::V6_1 | Era::V6_12) if value == "full" => Some(Rodata::Full),
        (Arch::Arm64, Era::V7_2) => match value {
            "on" => Some(Rodata::Full),
            "noalias" => Some(Rodata::On),
            "off" => Some(Rodata::Off),
            _ => None,
        },
        (_, Era::V6_1 | Era::V6_12 | Era::V7_2) => exact(),
    }
}
