//! Words that only a 32-bit x86 kernel knows: what it keeps of its address space for what.
//!
//! Source: Linux 5.10–7.2 arch/x86/mm/init_32.c `parse_highmem`; arch/x86/mm/pgtable_32.c `parse_vmalloc`,
//! `parse_reservetop`; arch/x86/kernel/e820.c `parse_memopt`.

use kernmem_base::{Era, Granule};

use super::CommandLine;
use crate::number::memparse;

impl CommandLine {
    /// The last number of bytes that the word gives.
    fn last_bytes(&self, name: &str, era: Era) -> Option<u64> {
        let mut values = self.named(name).filter_map(|word| word.value.as_deref());
        values.next_back().map(|value| memparse(value, era).0)
    }

    /// Bytes that `vmalloc=` asks for.
    #[must_use]
    pub fn vmalloc(&self, era: Era) -> Option<u64> {
        self.last_bytes("vmalloc", era)
    }

    /// Pages that `highmem=` asks for.
    #[must_use]
    pub fn highmem(&self, era: Era) -> Option<u64> {
        self.last_bytes("highmem", era).map(|bytes| bytes >> Granule::K4.shift())
    }

    /// Bytes at the top of the address space that `reservetop=` leaves to others; 0 without it.
    #[must_use]
    pub fn reservetop(&self, era: Era) -> u64 {
        self.last_bytes("reservetop", era).unwrap_or(0)
    }

    /// Whether `mem=nopentium` takes large leaves away from a 32-bit kernel; on others it means nothing.
    #[must_use]
    pub fn nopentium(&self) -> bool {
        self.named("mem").any(|word| word.value.as_deref() == Some("nopentium"))
    }
}
