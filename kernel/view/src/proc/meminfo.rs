//! `/proc/meminfo`.
//!
//! Source: Linux 5.10–7.2 fs/proc/meminfo.c `meminfo_proc_show`; mm/hugetlb.c `hugetlb_report_meminfo`; arch/x86/mm/pat
//! `arch_report_meminfo`.

use kernmem_base::Era;

use super::counters::counter_names;
use super::{CounterKind, Counters, TextConfig};

/// `/proc/meminfo`: sizes in KiB, huge pages in pages.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemInfo {
    /// The lines in order.
    pub fields: Counters<MemField>,
}

impl MemInfo {
    /// All lines of that kernel, at 0.
    #[must_use]
    pub fn zero(era: Era, config: &TextConfig) -> Self {
        Self { fields: Counters::zero(era, config) }
    }
}

counter_names! {
    /// Lines of `/proc/meminfo`.
    MemField {
        MemTotal = "MemTotal",
        MemFree = "MemFree",
        MemAvailable = "MemAvailable",
        Buffers = "Buffers",
        Cached = "Cached",
        SwapCached = "SwapCached",
        Active = "Active",
        Inactive = "Inactive",
        ActiveAnon = "Active(anon)",
        InactiveAnon = "Inactive(anon)",
        ActiveFile = "Active(file)",
        InactiveFile = "Inactive(file)",
        Unevictable = "Unevictable",
        Mlocked = "Mlocked",
        HighTotal = "HighTotal",
        HighFree = "HighFree",
        LowTotal = "LowTotal",
        LowFree = "LowFree",
        SwapTotal = "SwapTotal",
        SwapFree = "SwapFree",
        Zswap = "Zswap",
        Zswapped = "Zswapped",
        Dirty = "Dirty",
        Writeback = "Writeback",
        AnonPages = "AnonPages",
        Mapped = "Mapped",
        Shmem = "Shmem",
        KReclaimable = "KReclaimable",
        Slab = "Slab",
        SReclaimable = "SReclaimable",
        SUnreclaim = "SUnreclaim",
        KernelStack = "KernelStack",
        ShadowCallStack = "ShadowCallStack",
        PageTables = "PageTables",
        SecPageTables = "SecPageTables",
        NfsUnstable = "NFS_Unstable",
        Bounce = "Bounce",
        WritebackTmp = "WritebackTmp",
        CommitLimit = "CommitLimit",
        CommittedAs = "Committed_AS",
        VmallocTotal = "VmallocTotal",
        VmallocUsed = "VmallocUsed",
        VmallocChunk = "VmallocChunk",
        Percpu = "Percpu",
        EarlyMemtestBad = "EarlyMemtestBad",
        HardwareCorrupted = "HardwareCorrupted",
        AnonHugePages = "AnonHugePages",
        ShmemHugePages = "ShmemHugePages",
        ShmemPmdMapped = "ShmemPmdMapped",
        FileHugePages = "FileHugePages",
        FilePmdMapped = "FilePmdMapped",
        CmaTotal = "CmaTotal",
        CmaFree = "CmaFree",
        Unaccepted = "Unaccepted",
        Balloon = "Balloon",
        GpuActive = "GPUActive",
        GpuReclaim = "GPUReclaim",
        HugePagesTotal = "HugePages_Total",
        HugePagesFree = "HugePages_Free",
        HugePagesRsvd = "HugePages_Rsvd",
        HugePagesSurp = "HugePages_Surp",
        Hugepagesize = "Hugepagesize",
        Hugetlb = "Hugetlb",
        DirectMap4k = "DirectMap4k",
        DirectMap2M = "DirectMap2M",
        DirectMap4M = "DirectMap4M",
        DirectMap1G = "DirectMap1G",
    }
}

impl MemField {
    /// The line that counts leaves of `bytes` bytes in the direct map.
    #[must_use]
    pub const fn of_direct_map(bytes: u64) -> Self {
        match bytes {
            0x1000 => Self::DirectMap4k,
            0x20_0000 => Self::DirectMap2M,
            0x40_0000 => Self::DirectMap4M,
            _ => Self::DirectMap1G,
        }
    }
}

impl CounterKind for MemField {
    const ALL: &'static [Self] = Self::ALL;

    fn name(self) -> &'static str {
        self.name()
    }

    /// Whether that kernel prints the line.
    ///
    /// | line | eras | when |
    /// |---|---|---|
    /// | `HighTotal` to `LowFree` | all | memory mapped on demand is configured |
    /// | `Zswap`, `Zswapped` | from 6.1 | zswap |
    /// | `ShadowCallStack` | all | shadow call stack |
    /// | `SecPageTables` | from 6.1 | |
    /// | `EarlyMemtestBad` | from 6.12 | a test of memory ran |
    /// | `HardwareCorrupted` | all | memory failure |
    /// | `AnonHugePages` to `FilePmdMapped` | all | transparent huge pages |
    /// | `CmaTotal`, `CmaFree` | all | contiguous areas |
    /// | `Unaccepted` | from 6.12 | unaccepted memory |
    /// | `Balloon`, `GPUActive`, `GPUReclaim` | 7.2 | |
    /// | `HugePages_*`, `Hugepagesize`, `Hugetlb` | all | huge pages, and the CPU has them |
    /// | `DirectMap*` | all | x86, by its page sizes |
    ///
    /// 4.14 is taken to be as 5.10 (UNVERIFIED).
    ///
    /// Source: Linux 5.10–7.2 fs/proc/meminfo.c `meminfo_proc_show`.
    fn is_in(self, era: Era, config: &TextConfig) -> bool {
        use MemField as F;
        match self {
            F::HighTotal | F::HighFree | F::LowTotal | F::LowFree => config.highmem,
            F::Zswap | F::Zswapped => era >= Era::V6_1 && config.zswap,
            F::ShadowCallStack => config.shadow_call_stack,
            F::SecPageTables => era >= Era::V6_1,
            F::EarlyMemtestBad => era >= Era::V6_12 && config.memtest_ran,
            F::HardwareCorrupted => config.memory_failure,
            F::AnonHugePages | F::ShmemHugePages | F::ShmemPmdMapped | F::FileHugePages | F::FilePmdMapped => {
                config.thp
            }
            F::CmaTotal | F::CmaFree => config.cma,
            F::Unaccepted => era >= Era::V6_12 && config.unaccepted_memory,
            F::Balloon | F::GpuActive | F::GpuReclaim => era >= Era::V7_2,
            F::HugePagesTotal
            | F::HugePagesFree
            | F::HugePagesRsvd
            | F::HugePagesSurp
            | F::Hugepagesize
            | F::Hugetlb => config.hugetlb,
            F::DirectMap4k => config.direct_map,
            F::DirectMap2M => config.direct_map && config.direct_map_2m,
            F::DirectMap4M => config.direct_map && !config.direct_map_2m,
            F::DirectMap1G => config.direct_map && config.direct_map_1g,
            _ => true,
        }
    }
}
