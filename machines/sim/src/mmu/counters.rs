//! What one CPU counts.

/// Numbers since the CPU was made, or since they were taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Look-ups that found a usable entry in the TLB; its rights may still refuse.
    pub hits: u64,
    /// Look-ups that needed a walk: nothing was found, or a clean entry had to be marked dirty.
    pub misses: u64,
    /// Table entries that walks read.
    pub references: u64,
    /// Walks that began below the root, at a table that the walk cache remembered.
    pub short_walks: u64,
    /// Entries of tables in which walks set accessed or dirty marks.
    pub marks: u64,
    /// Translations that came into the TLB.
    pub fills: u64,
    /// Live translations that made room for others.
    pub evictions: u64,
    /// Flushes of any kind, and new roots that dropped translations.
    pub flushes: u64,
    /// Translations that flushes dropped.
    pub dropped: u64,
    /// Refused accesses.
    pub faults: u64,
    /// Words of data that were read.
    pub data_reads: u64,
    /// Words of data that were written.
    pub data_writes: u64,
}

impl Counters {
    /// Words of data that were read or written.
    #[must_use]
    pub const fn data_references(&self) -> u64 {
        self.data_reads + self.data_writes
    }
}
