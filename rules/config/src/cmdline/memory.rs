//! Words about how much memory there is.
//!
//! Source: Linux 5.10–7.2 arch/arm64/mm/init.c `early_mem`; arch/x86/kernel/e820.c `parse_memopt`, `parse_memmap_opt`;
//! mm/memblock.c `early_memblock`.

use kernmem_base::{Era, Granule};
use kernmem_firmware::Arch;

use super::{Answer, CommandLine, Warning};
use crate::number::memparse;

/// What `mem=` says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MemoryLimit {
    /// arm64: the amount of memory that is kept, whole pages.
    Amount(u64),
    /// x86: the address from which on memory is removed.
    Address(u64),
}

impl CommandLine {
    /// The limit of `mem=`. On arm64 the last word wins; on x86 each cuts, so the lowest is in force.
    #[must_use]
    pub fn mem(&self, era: Era, arch: Arch, granule: Granule) -> Answer<Option<MemoryLimit>> {
        let mut answer = Answer::new(None);
        for word in self.named("mem") {
            let limit = word.value.as_deref().map(|value| memparse(value, era).0);
            answer.value = match (arch, limit) {
                (Arch::Arm64, Some(bytes)) => Some(MemoryLimit::Amount(bytes & !(granule.bytes() - 1))),
                (Arch::X86_64 | Arch::I386, _) if word.value.as_deref() == Some("nopentium") => {
                    answer.warnings.push(Warning::Ignored(alloc::string::String::from("mem=nopentium")));
                    answer.value
                }
                (Arch::X86_64 | Arch::I386, Some(address)) if address != 0 => match answer.value {
                    Some(MemoryLimit::Address(lower)) if lower < address => answer.value,
                    _ => Some(MemoryLimit::Address(address)),
                },
                _ => {
                    let (name, value) = (word.name.clone(), word.value.clone());
                    answer.warnings.push(Warning::Malformed { name, value });
                    answer.value
                }
            };
        }
        answer
    }

    /// The words that edit x86's firmware map, in order: whether it is `mem`, and the value.
    pub fn map_edits(&self) -> impl Iterator<Item = (bool, Option<&str>)> {
        let words = self.words().iter().filter(|word| word.is_named("mem") || word.is_named("memmap"));
        words.map(|word| (word.is_named("mem"), word.value.as_deref()))
    }

    /// x86: bytes of low memory that are left to firmware, whole pages; `default` without a word.
    ///
    /// | era | bytes |
    /// |---|---|
    /// | 4.14 (UNVERIFIED), 5.10 | `reservelow=`, from 4 KiB to 640 KiB |
    /// | 6.1 and later | `default`: the first MiB is left out anyway |
    ///
    /// Source: Linux 5.10 arch/x86/kernel/setup.c `parse_reservelow`, `trim_low_memory_range`.
    #[must_use]
    pub fn reservelow(&self, era: Era, default: u64) -> u64 {
        const PAGE: u64 = 4 << 10;
        const MOST: u64 = 640 << 10;
        match era {
            Era::V4_14 | Era::V5_10 => {}
            Era::V6_1 | Era::V6_12 | Era::V7_2 => return default,
        }
        let words = self.named("reservelow").rev().find_map(|word| word.value.as_deref());
        words.map_or(default, |value| memparse(value, era).0.clamp(PAGE, MOST)).next_multiple_of(PAGE)
    }

    /// Whether the boot allocator logs its operations.
    #[must_use]
    pub fn memblock_debug(&self) -> bool {
        self.named("memblock").any(|word| word.value.as_deref().is_some_and(|value| value.contains("debug")))
    }
}
