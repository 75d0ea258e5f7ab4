//! The table of the stack depot, in which KASAN and others keep the stacks of their reports.
//!
//! Source: Linux 6.1 lib/stackdepot.c `stack_depot_early_init`.

use kernmem_base::Era;
use kernmem_config::Config;
use kernmem_memblock::{Memblock, RegionArray};

use super::hash_tables::{HashFacts, HashTable, take_linear};
use crate::{BootError, Witness};

/// log2 of the fewest and the most buckets.
const LEAST: u32 = 12;
const MOST: u32 = 20;

/// The table, where it is no part of the image.
///
/// | era | bytes of a bucket |
/// |---|---|
/// | 4.14, 5.10 | a part of the image (4.14 UNVERIFIED) |
/// | 6.1 | 8 |
/// | 6.12, 7.2 | 16 (UNVERIFIED) |
#[must_use]
pub const fn table(era: Era) -> Option<HashTable> {
    let bucket_bytes = match era {
        Era::V4_14 | Era::V5_10 => return None,
        Era::V6_1 => 8,
        Era::V6_12 | Era::V7_2 => 16,
    };
    Some(HashTable { name: "stackdepot", word: "", bucket_bytes, scale: 14, low_limit: 1 << LEAST })
}

/// Takes the table from the boot allocator, if someone wants it from the start: as large as can be for KASAN, else by
/// memory.
///
/// # Errors
/// The boot allocator has no memory for one page.
pub fn early<A: RegionArray, W: Witness>(
    config: &Config,
    facts: &HashFacts,
    memblock: &mut Memblock<A, W>,
) -> Result<(), BootError> {
    let refused = config.cmdline.early_bool("stack_depot_disable", config.era, false).value;
    let wanted = config.kconfig.is_set("STACKDEPOT_ALWAYS_INIT") && !refused;
    let Some(table) = table(config.era).filter(|_| wanted) else { return Ok(()) };
    let by_memory = || table.log2_entries(facts.granule, facts.counts, None).clamp(LEAST, MOST);
    let log2 = if config.kconfig.is_set("KASAN") { MOST } else { by_memory() };
    take_linear(&table, log2, facts.granule, memblock)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the log of a recorded 6.1 kernel with KASAN: 1048576 entries, 8388608 bytes.
    #[test]
    fn the_largest_table_has_the_recorded_size() {
        assert_eq!(table(Era::V6_1).map(|table| table.bucket_bytes << MOST), Some(8_388_608));
        assert_eq!(table(Era::V5_10), None);
    }
}
