//! Counters of a node.
//!
//! Source: Linux 5.10–7.2 mm/vmstat.c `vmstat_text`; include/linux/mmzone.h `node_stat_item`.

use kernmem_base::Era;

use super::{CounterKind, TextConfig};

counter_names! {
    /// Counters of a node.
    NodeCounter {
        NrInactiveAnon = "nr_inactive_anon",
        NrActiveAnon = "nr_active_anon",
        NrInactiveFile = "nr_inactive_file",
        NrActiveFile = "nr_active_file",
        NrUnevictable = "nr_unevictable",
        NrSlabReclaimable = "nr_slab_reclaimable",
        NrSlabUnreclaimable = "nr_slab_unreclaimable",
        NrIsolatedAnon = "nr_isolated_anon",
        NrIsolatedFile = "nr_isolated_file",
        WorkingsetNodes = "workingset_nodes",
        WorkingsetRefaultAnon = "workingset_refault_anon",
        WorkingsetRefaultFile = "workingset_refault_file",
        WorkingsetActivateAnon = "workingset_activate_anon",
        WorkingsetActivateFile = "workingset_activate_file",
        WorkingsetRestoreAnon = "workingset_restore_anon",
        WorkingsetRestoreFile = "workingset_restore_file",
        WorkingsetNodereclaim = "workingset_nodereclaim",
        NrAnonPages = "nr_anon_pages",
        NrMapped = "nr_mapped",
        NrFilePages = "nr_file_pages",
        NrDirty = "nr_dirty",
        NrWriteback = "nr_writeback",
        NrWritebackTemp = "nr_writeback_temp",
        NrShmem = "nr_shmem",
        NrShmemHugepages = "nr_shmem_hugepages",
        NrShmemPmdmapped = "nr_shmem_pmdmapped",
        NrFileHugepages = "nr_file_hugepages",
        NrFilePmdmapped = "nr_file_pmdmapped",
        NrAnonTransparentHugepages = "nr_anon_transparent_hugepages",
        NrVmscanWrite = "nr_vmscan_write",
        NrVmscanImmediateReclaim = "nr_vmscan_immediate_reclaim",
        NrDirtied = "nr_dirtied",
        NrWritten = "nr_written",
        NrThrottledWritten = "nr_throttled_written",
        NrKernelMiscReclaimable = "nr_kernel_misc_reclaimable",
        NrFollPinAcquired = "nr_foll_pin_acquired",
        NrFollPinReleased = "nr_foll_pin_released",
        NrVmalloc = "nr_vmalloc",
        NrKernelStack = "nr_kernel_stack",
        NrShadowCallStack = "nr_shadow_call_stack",
        NrPageTablePages = "nr_page_table_pages",
        NrSecPageTablePages = "nr_sec_page_table_pages",
        NrIommuPages = "nr_iommu_pages",
        NrSwapcached = "nr_swapcached",
        PgpromoteSuccess = "pgpromote_success",
        PgpromoteCandidate = "pgpromote_candidate",
        PgpromoteCandidateNrl = "pgpromote_candidate_nrl",
        PgdemoteKswapd = "pgdemote_kswapd",
        PgdemoteDirect = "pgdemote_direct",
        PgdemoteKhugepaged = "pgdemote_khugepaged",
        PgdemoteProactive = "pgdemote_proactive",
        PgstealKswapd = "pgsteal_kswapd",
        PgstealDirect = "pgsteal_direct",
        PgstealKhugepaged = "pgsteal_khugepaged",
        PgstealProactive = "pgsteal_proactive",
        PgstealAnon = "pgsteal_anon",
        PgstealFile = "pgsteal_file",
        PgscanKswapd = "pgscan_kswapd",
        PgscanDirect = "pgscan_direct",
        PgscanKhugepaged = "pgscan_khugepaged",
        PgscanProactive = "pgscan_proactive",
        PgscanAnon = "pgscan_anon",
        PgscanFile = "pgscan_file",
        Pgrefill = "pgrefill",
        NrHugetlb = "nr_hugetlb",
        NrBalloonPages = "nr_balloon_pages",
        NrKernelFilePages = "nr_kernel_file_pages",
        NrGpuActive = "nr_gpu_active",
        NrGpuReclaim = "nr_gpu_reclaim",
    }
}

impl CounterKind for NodeCounter {
    const ALL: &'static [Self] = Self::ALL;

    fn name(self) -> &'static str {
        self.name()
    }

    /// Whether that kernel has the counter.
    ///
    /// | counter | eras | configuration |
    /// |---|---|---|
    /// | `nr_writeback_temp` | up to 6.12 | |
    /// | `nr_throttled_written`, `nr_page_table_pages`, `nr_sec_page_table_pages` | from 6.1 | |
    /// | `nr_shadow_call_stack` | all | shadow call stack |
    /// | `nr_swapcached` | from 6.1 | swap |
    /// | `pgpromote_success`, `pgpromote_candidate` | from 6.1 | NUMA balancing |
    /// | `nr_iommu_pages` | from 6.12 | IOMMU support |
    /// | `pgdemote_kswapd`, `_direct`, `_khugepaged` | from 6.12 | |
    /// | `nr_vmalloc`, `pgdemote_proactive`, `pgsteal_*`, `pgscan_*`, `pgrefill` and the last four | 7.2 | |
    /// | `pgpromote_candidate_nrl` | 7.2 | NUMA balancing |
    /// | `nr_hugetlb` | 7.2 | huge pages |
    ///
    /// 4.14 is taken to have those of 5.10 (UNVERIFIED).
    ///
    /// Source: Linux 5.10–7.2 mm/vmstat.c `vmstat_text`.
    fn is_in(self, era: Era, config: &TextConfig) -> bool {
        let (first, last) = eras(self);
        first <= era && era <= last && is_built(self, config)
    }
}

/// The first and the last era that has the counter.
const fn eras(counter: NodeCounter) -> (Era, Era) {
    use NodeCounter as N;
    match counter {
        N::NrWritebackTemp => (Era::V4_14, Era::V6_12),
        N::NrThrottledWritten
        | N::NrPageTablePages
        | N::NrSecPageTablePages
        | N::NrSwapcached
        | N::PgpromoteSuccess
        | N::PgpromoteCandidate => (Era::V6_1, Era::V7_2),
        N::NrIommuPages | N::PgdemoteKswapd | N::PgdemoteDirect | N::PgdemoteKhugepaged => (Era::V6_12, Era::V7_2),
        N::NrVmalloc
        | N::PgpromoteCandidateNrl
        | N::PgdemoteProactive
        | N::PgstealKswapd
        | N::PgstealDirect
        | N::PgstealKhugepaged
        | N::PgstealProactive
        | N::PgstealAnon
        | N::PgstealFile
        | N::PgscanKswapd
        | N::PgscanDirect
        | N::PgscanKhugepaged
        | N::PgscanProactive
        | N::PgscanAnon
        | N::PgscanFile
        | N::Pgrefill
        | N::NrHugetlb
        | N::NrBalloonPages
        | N::NrKernelFilePages
        | N::NrGpuActive
        | N::NrGpuReclaim => (Era::V7_2, Era::V7_2),
        _ => (Era::V4_14, Era::V7_2),
    }
}

const fn is_built(counter: NodeCounter, config: &TextConfig) -> bool {
    use NodeCounter as N;
    match counter {
        N::NrShadowCallStack => config.shadow_call_stack,
        N::NrSwapcached => config.swap,
        N::NrIommuPages => config.iommu,
        N::PgpromoteSuccess | N::PgpromoteCandidate | N::PgpromoteCandidateNrl => config.numa_balancing,
        N::NrHugetlb => config.hugetlb,
        _ => true,
    }
}
