//! How a process comes to see what the kernel maps after the process was made.
//!
//! Source: Linux 5.10–7.2 arch/x86/mm/init_64.c, arch/x86/mm/fault.c; arch/arm64/mm/pgd.c.

use kernmem_base::Era;

/// The way in which the roots of processes follow the kernel's.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum KernelSharing {
    /// The kernel has a root of its own, which no process copies: nothing is ever to be followed (arm64).
    OwnRoot,
    /// A fault in vmalloc's range copies the missing entry into the root that faulted.
    OnFault,
    /// Who makes a new entry in the kernel's root copies it into every other root.
    AtMapping,
    /// Every entry of vmalloc's range is made at boot, before the first process.
    Preallocated,
}

impl KernelSharing {
    /// What x86-64 does.
    ///
    /// | era | way |
    /// |---|---|
    /// | 4.14 | on fault, as every release to 5.7 (UNVERIFIED) |
    /// | 5.10 and later | made at boot, as every release since 5.9 |
    ///
    /// 5.8, which lies between the eras, copied at mapping time.
    ///
    /// Source: Linux 5.10–7.2 arch/x86/mm/init_64.c `preallocate_vmalloc_pages`.
    #[must_use]
    pub const fn of_x86_64(era: Era) -> Self {
        match era {
            Era::V4_14 => Self::OnFault,
            Era::V5_10 | Era::V6_1 | Era::V6_12 | Era::V7_2 => Self::Preallocated,
        }
    }
}

impl KernelSharing {
    /// What i386 does where kernel PMDs are not shared.
    ///
    /// | era | way |
    /// |---|---|
    /// | 4.14 | on fault, as every release to 5.7 (UNVERIFIED) |
    /// | 5.10 and later | at mapping, and on fault until that is done, as every release since 5.8 |
    ///
    /// Source: Linux 5.10–7.2 arch/x86/mm/fault.c `arch_sync_kernel_mappings`, `vmalloc_fault`.
    #[must_use]
    pub const fn of_i386(era: Era) -> Self {
        match era {
            Era::V4_14 => Self::OnFault,
            Era::V5_10 | Era::V6_1 | Era::V6_12 | Era::V7_2 => Self::AtMapping,
        }
    }
}

/// Whether all processes of i386 link the kernel's own PMD table (`SHARED_KERNEL_PMD`): then there is nothing to follow,
/// and no list of roots.
///
/// | era | shared |
/// |---|---|
/// | 4.14 (UNVERIFIED), 5.10, 6.1, 6.12 | with PAE and without page-table isolation |
/// | 7.2 | never |
///
/// Source: Linux 5.10–6.12 arch/x86/include/asm/pgtable-3level_types.h, pgtable-2level_types.h; 7.2 arch/x86/mm/pgtable.c.
#[must_use]
pub const fn shared_kernel_pmd(era: Era, pae: bool, pti: bool) -> bool {
    match era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 | Era::V6_12 => pae && !pti,
        Era::V7_2 => false,
    }
}

/// Whether the rules are followed, or broken as a development kernel once broke them: for experiments.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum History {
    /// As the releases have it.
    #[default]
    Right,
    /// The first version of the preallocation looked into the table that an entry links without asking whether the
    /// entry links any: the address in an empty entry is frame 0. Mended by commit 995909a4e22b.
    DereferencesAbsent,
    /// The fault rule is gone, and nothing has come in its place: a process that is older than a mapping never sees
    /// it.
    NoWay,
}

/// What following the kernel's root has cost so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SharingCounts {
    /// Faults that were taken because a root was behind.
    pub faults: u64,
    /// Entries copied into the roots of processes, at their making not counted.
    pub entries_copied: u64,
    /// Roots that were looked at, one after the other, to copy into.
    pub roots_visited: u64,
    /// Walks over the list of all roots, which Linux does under its lock.
    pub list_walks: u64,
    /// Tables made at boot.
    pub tables_preallocated: u64,
}
