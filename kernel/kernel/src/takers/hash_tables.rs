//! Hash tables whose size grows with memory.
//!
//! Here: how many entries a table gets, where it comes from, and the tables of the virtual file system.
//! Not here: the counts of pages (`page_counts`).
//!
//! Source: Linux 6.1 mm/page_alloc.c `alloc_large_system_hash`, `fixup_hashdist`; fs/dcache.c, fs/inode.c,
//! fs/namespace.c.

use kernmem_base::{Era, Granule};
use kernmem_config::{Arch, Config};
use kernmem_memblock::{Memblock, RegionArray};

use super::page_counts::PageCounts;
use super::{Taker, allocate_lines};
use crate::{BootError, LogEntry, Witness};

/// A kind of hash table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HashTable {
    /// Its name in the log.
    pub name: &'static str,
    /// The word that sets the number of entries.
    pub word: &'static str,
    /// Bytes of an entry.
    pub bucket_bytes: u64,
    /// One entry for each `2^scale` bytes of memory.
    pub scale: u32,
    /// The fewest entries.
    pub low_limit: u64,
}

/// Directory entries.
///
/// | era | fewest entries |
/// |---|---|
/// | 4.14, 5.10 | no limit |
/// | 6.1 and later | 2 |
#[must_use]
pub const fn dentry_cache(era: Era) -> HashTable {
    let low_limit = match era {
        Era::V4_14 | Era::V5_10 => 0,
        Era::V6_1 | Era::V6_12 | Era::V7_2 => 2,
    };
    HashTable { name: "Dentry cache", word: "dhash_entries", bucket_bytes: 8, scale: 13, low_limit }
}

/// Inodes.
pub const INODE_CACHE: HashTable =
    HashTable { name: "Inode-cache", word: "ihash_entries", bucket_bytes: 8, scale: 14, low_limit: 0 };

/// Mounts.
pub const MOUNT_CACHE: HashTable =
    HashTable { name: "Mount-cache", word: "mhash_entries", bucket_bytes: 8, scale: 19, low_limit: 0 };

/// Points where something is mounted.
pub const MOUNTPOINT_CACHE: HashTable =
    HashTable { name: "Mountpoint-cache", word: "mphash_entries", bucket_bytes: 8, scale: 19, low_limit: 0 };

/// Where a table lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HashMemory {
    /// Contiguous memory.
    Linear,
    /// Pages of vmalloc.
    Vmalloc,
    /// Large leaves of vmalloc.
    VmallocHuge,
}

impl HashTable {
    /// log2 of the entries; `asked` is a number that the command line gives, which replaces the number by memory.
    #[must_use]
    pub fn log2_entries(&self, granule: Granule, counts: PageCounts, asked: Option<u64>) -> u32 {
        let asked = asked.filter(|entries| *entries > 0);
        let entries = asked.unwrap_or_else(|| self.entries_by_memory(granule, counts.nr_kernel_pages));
        let entries = entries.clamp(1, 1 << 63).next_power_of_two();
        let sixteenth = u128::from(counts.nr_all_pages) << granule.shift() >> 4;
        let most = (sixteenth / u128::from(self.bucket_bytes)).min(0x8000_0000) as u64;
        entries.max(self.low_limit).min(most.max(1)).ilog2()
    }

    /// One entry for each so many bytes of all kernel pages in whole MiB; sparser by half with each fourfold of memory
    /// above 64 GiB.
    fn entries_by_memory(&self, granule: Granule, kernel_pages: u64) -> u64 {
        const ADAPT_BYTES: u64 = 64 << 30;
        let shift = granule.shift();
        let pages = kernel_pages.next_multiple_of(((1 << 20) >> shift).max(1));
        let mut scale = self.scale;
        let mut adapt = ADAPT_BYTES >> shift;
        while adapt < pages {
            scale += 1;
            adapt <<= 2;
        }
        let entries = if scale > shift { pages >> (scale - shift) } else { pages << (shift - scale) };
        if entries * self.bucket_bytes < granule.bytes() { granule.bytes() / self.bucket_bytes } else { entries }
    }

    /// The table of a kernel of that architecture: an entry is a pointer.
    const fn on(self, arch: Arch) -> Self {
        let bucket_bytes = match arch {
            Arch::Arm64 | Arch::X86_64 => 8,
            Arch::I386 => 4,
        };
        Self { bucket_bytes, ..self }
    }

    fn asked(&self, config: &Config) -> Option<u64> {
        let value = config.cmdline.last_value(self.word)?;
        Some(kernmem_config::number::leading_number(value).value)
    }
}

/// What decides where tables come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HashFacts {
    /// The page size.
    pub granule: Granule,
    /// Pages that the kernel counts on.
    pub counts: PageCounts,
    /// Nodes with memory.
    pub nodes: u64,
    /// Whether vmalloc may use large leaves.
    pub huge_vmalloc: bool,
}

/// Whether large tables are spread over the nodes: then they come from vmalloc, and late.
#[must_use]
pub fn hashdist(config: &Config, nodes: u64) -> bool {
    if !config.kconfig.is_set("NUMA") || nodes <= 1 {
        return false;
    }
    let word = config.cmdline.last_value("hashdist");
    word.is_none_or(|value| kernmem_config::number::leading_number(value).value != 0)
}

/// Whether vmalloc may use large leaves.
///
/// | architecture | if |
/// |---|---|
/// | arm64 | the kernel cannot list its page tables |
/// | x86-64 | the CPU has large pages |
///
/// Source: Linux 6.1 arch/arm64/include/asm/vmalloc.h, arch/x86/include/asm/vmalloc.h `arch_vmap_pmd_supported`.
#[must_use]
pub fn huge_vmalloc(config: &Config, pse: bool) -> bool {
    let set = |name| config.kconfig.is_set(name);
    let supported = match config.arch {
        Arch::Arm64 => !set("PTDUMP_DEBUGFS"),
        Arch::X86_64 => pse,
        Arch::I386 => pse && set("X86_PAE"),
    };
    supported && set("HAVE_ARCH_HUGE_VMALLOC") && !config.cmdline.has("nohugevmalloc")
}

/// Takes the early tables from the boot allocator, unless they are spread over nodes.
///
/// # Errors
/// The boot allocator has no memory for one page.
pub fn early<A: RegionArray, W: Witness>(
    config: &Config,
    facts: &HashFacts,
    memblock: &mut Memblock<A, W>,
) -> Result<(), BootError> {
    if hashdist(config, facts.nodes) {
        return Ok(());
    }
    for table in [dentry_cache(config.era), INODE_CACHE].map(|table| table.on(config.arch)) {
        let log2 = table.log2_entries(facts.granule, facts.counts, table.asked(config));
        take_linear(&table, log2, facts.granule, memblock)?;
    }
    Ok(())
}

/// Takes a table of `2^log2` entries from the boot allocator, or the largest smaller one that it has memory for.
pub(super) fn take_linear<A: RegionArray, W: Witness>(
    table: &HashTable,
    mut log2: u32,
    granule: Granule,
    memblock: &mut Memblock<A, W>,
) -> Result<(), BootError> {
    loop {
        let bytes = table.bucket_bytes << log2;
        match allocate_lines(memblock, Taker::HashTable, bytes) {
            Ok(_) => break,
            Err(_) if bytes > granule.bytes() => log2 -= 1,
            Err(error) => return Err(error),
        }
    }
    tell(memblock.observer(), granule, table, log2, HashMemory::Linear);
    Ok(())
}

/// Tells the log of the tables that come from the page allocator: those that `early` left, then mounts.
pub fn late(config: &Config, facts: &HashFacts, log: &mut impl Witness) {
    let spread = hashdist(config, facts.nodes);
    let left = [dentry_cache(config.era), INODE_CACHE].into_iter().filter(|_| spread);
    for table in left.chain([MOUNT_CACHE, MOUNTPOINT_CACHE]).map(|table| table.on(config.arch)) {
        let log2 = table.log2_entries(facts.granule, facts.counts, table.asked(config));
        let memory = late_memory(facts, spread, table.bucket_bytes << log2);
        tell(log, facts.granule, &table, log2, memory);
    }
}

/// A table that is spread, or too large for the page allocator, comes from vmalloc; in large leaves if each node's share
/// fills one.
fn late_memory(facts: &HashFacts, spread: bool, bytes: u64) -> HashMemory {
    const LARGEST_ORDER: u32 = 10;
    let largest = facts.granule.bytes() << LARGEST_ORDER;
    let leaf = facts.granule.bytes() << (facts.granule.shift() - 3);
    match () {
        () if !spread && bytes <= largest => HashMemory::Linear,
        () if facts.huge_vmalloc && bytes / facts.nodes.max(1) >= leaf => HashMemory::VmallocHuge,
        () => HashMemory::Vmalloc,
    }
}

fn tell(log: &mut impl Witness, granule: Granule, table: &HashTable, log2_entries: u32, memory: HashMemory) {
    let bytes = table.bucket_bytes << log2_entries;
    let order = bytes.div_ceil(granule.bytes()).next_power_of_two().ilog2();
    log.log(LogEntry::HashTable { name: table.name, entries: 1 << log2_entries, order, bytes, memory });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(pages: u64) -> PageCounts {
        PageCounts { nr_kernel_pages: pages, nr_all_pages: pages, managed: pages }
    }

    /// Lines of recorded boots of 6.1 with 4K pages: total pages, then entries of dentry and inode tables.
    #[test]
    fn tables_grow_with_memory() {
        let recorded = [
            (32_256, 16_384, 8_192),
            (258_048, 131_072, 65_536),
            (516_096, 262_144, 131_072),
            (756_000, 524_288, 262_144),
            (1_032_192, 524_288, 262_144),
            (16_515_072, 8_388_608, 4_194_304),
        ];
        for (pages, dentries, inodes) in recorded {
            let entries = |table: HashTable| 1u64 << table.log2_entries(Granule::K4, counts(pages), None);
            assert_eq!((entries(dentry_cache(Era::V6_1)), entries(INODE_CACHE)), (dentries, inodes), "{pages} pages");
        }
    }

    #[test]
    fn a_table_has_a_page_of_entries_at_least() {
        assert_eq!(1u64 << MOUNT_CACHE.log2_entries(Granule::K4, counts(32_256), None), 512);
    }

    /// 256 GiB are 2^26 pages: above 64 GiB by a factor of four, so one entry for each 16 KiB.
    #[test]
    fn beyond_64_gib_tables_become_sparser() {
        let entries = |pages| 1u64 << dentry_cache(Era::V6_1).log2_entries(Granule::K4, counts(pages), None);
        assert_eq!(entries(1 << 24), 1 << 23);
        assert_eq!(entries(1 << 26), 1 << 24);
    }

    #[test]
    fn a_number_that_is_asked_for_is_rounded_up_and_limited_by_memory() {
        let asked = |entries| 1u64 << dentry_cache(Era::V6_1).log2_entries(Granule::K4, counts(32_256), Some(entries));
        assert_eq!(asked(1000), 1024);
        assert_eq!(asked(1), 2);
        // A sixteenth of 126 MiB in entries of 8 bytes.
        assert_eq!(asked(1 << 40), 1 << (32_256u64 * 4096 / 16 / 8).ilog2());
    }
}
