//! Counters of a zone.
//!
//! Source: Linux 5.10–7.2 mm/vmstat.c `vmstat_text`; include/linux/mmzone.h `zone_stat_item`, `numa_stat_item`.

use kernmem_base::Era;

use super::{CounterKind, TextConfig};

counter_names! {
    /// Counters of a zone.
    ZoneCounter {
        NrFreePages = "nr_free_pages",
        NrFreePagesBlocks = "nr_free_pages_blocks",
        NrZoneInactiveAnon = "nr_zone_inactive_anon",
        NrZoneActiveAnon = "nr_zone_active_anon",
        NrZoneInactiveFile = "nr_zone_inactive_file",
        NrZoneActiveFile = "nr_zone_active_file",
        NrZoneUnevictable = "nr_zone_unevictable",
        NrZoneWritePending = "nr_zone_write_pending",
        NrMlock = "nr_mlock",
        NrPageTablePages = "nr_page_table_pages",
        NrBounce = "nr_bounce",
        NrZspages = "nr_zspages",
        NrFreeCma = "nr_free_cma",
        NrUnaccepted = "nr_unaccepted",
    }
}

counter_names! {
    /// Where the requests of CPUs were served from, by zone.
    NumaCounter {
        NumaHit = "numa_hit",
        NumaMiss = "numa_miss",
        NumaForeign = "numa_foreign",
        NumaInterleave = "numa_interleave",
        NumaLocal = "numa_local",
        NumaOther = "numa_other",
    }
}

impl CounterKind for ZoneCounter {
    const ALL: &'static [Self] = Self::ALL;

    fn name(self) -> &'static str {
        self.name()
    }

    /// Whether that kernel has the counter.
    ///
    /// | counter | eras | configuration |
    /// |---|---|---|
    /// | `nr_free_pages_blocks` | 7.2 | |
    /// | `nr_page_table_pages` | 4.14 (UNVERIFIED), 5.10; later the node has it | |
    /// | `nr_bounce` | up to 6.12 | |
    /// | `nr_zspages` | all | zsmalloc |
    /// | `nr_unaccepted` | from 6.12 | unaccepted memory |
    ///
    /// Source: Linux 5.10–7.2 mm/vmstat.c `vmstat_text`.
    fn is_in(self, era: Era, config: &TextConfig) -> bool {
        match self {
            Self::NrFreePagesBlocks => era >= Era::V7_2,
            Self::NrPageTablePages => era <= Era::V5_10,
            Self::NrBounce => era <= Era::V6_12,
            Self::NrZspages => config.zsmalloc,
            Self::NrUnaccepted => era >= Era::V6_12 && config.unaccepted_memory,
            _ => true,
        }
    }
}

impl CounterKind for NumaCounter {
    const ALL: &'static [Self] = Self::ALL;

    fn name(self) -> &'static str {
        self.name()
    }

    fn is_in(self, _: Era, config: &TextConfig) -> bool {
        config.numa
    }
}
