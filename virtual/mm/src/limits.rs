//! Where a space may put its regions, and how many it may have.
//!
//! Source: Linux 6.1 mm/mmap.c, mm/util.c `mmap_base`; arch/x86/include/asm/page_64_types.h,
//! arch/arm64/include/asm/processor.h.

use kernmem_base::VirtAddr;

/// The window of a space; all addresses are multiples of the page size.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// End of what a program may use, exclusive.
    pub task_size: VirtAddr,
    /// The search for room goes down from here, exclusive.
    pub mmap_base: VirtAddr,
    /// Where the search goes up from if it finds nothing below.
    pub unmapped_base: VirtAddr,
    /// The lowest address that may be mapped (`vm.mmap_min_addr`).
    pub min_addr: VirtAddr,
    /// The most regions (`vm.max_map_count`).
    pub max_regions: usize,
}

const MIB: u64 = 1 << 20;
const DEFAULT_MIN: VirtAddr = VirtAddr(64 << 10);
const DEFAULT_REGIONS: usize = 65530;

impl Limits {
    /// A window of `task_size` bytes with a stack limit of `stack` bytes and `random` bytes of randomisation taken
    /// off the top; `max_stack_random` is the most by which a stack moves, `guard` the gap below it.
    ///
    /// The gap between the window's end and `mmap_base` is the sum of stack, randomisation and guard, no less than
    /// 128 MiB and no more than five sixths of the window.
    ///
    /// Source: Linux 6.1 mm/util.c `mmap_base`; arch/x86/mm/mmap.c `mmap_base`.
    #[must_use]
    pub const fn of_window(task_size: u64, unmapped_base: VirtAddr, gap: StackGap, random: u64) -> Self {
        let wanted = gap.limit.saturating_add(gap.max_random).saturating_add(gap.guard);
        let most = task_size / 6 * 5;
        let least = 128 * MIB;
        let gap = if wanted < least {
            least
        } else if wanted > most {
            most
        } else {
            wanted
        };
        Self {
            task_size: VirtAddr(task_size),
            mmap_base: VirtAddr((task_size - gap - random + 4095) & !4095),
            unmapped_base,
            min_addr: DEFAULT_MIN,
            max_regions: DEFAULT_REGIONS,
        }
    }

    /// x86-64 with four levels, 8 MiB of stack, nothing randomised but the room that a stack's randomisation needs.
    #[must_use]
    pub const fn x86_64() -> Self {
        const WINDOW: u64 = (1 << 47) - 4096;
        let gap = StackGap { limit: 8 * MIB, max_random: 0x3f_ffff << 12, guard: 256 << 12 };
        Self::of_window(WINDOW, VirtAddr((WINDOW / 3 + 4095) & !4095), gap, 0)
    }

    /// arm64 with 4K pages and 48 bits, 8 MiB of stack, nothing randomised but the room that a stack's randomisation
    /// needs.
    #[must_use]
    pub const fn arm64_48() -> Self {
        const WINDOW: u64 = 1 << 48;
        let gap = StackGap { limit: 8 * MIB, max_random: 0x3_ffff << 12, guard: 256 << 12 };
        Self::of_window(WINDOW, VirtAddr(WINDOW / 4), gap, 0)
    }
}

/// What is kept free above `mmap_base`, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StackGap {
    /// The stack's limit (`RLIMIT_STACK`).
    pub limit: u64,
    /// The most by which a stack's start is randomised.
    pub max_random: u64,
    /// The guard gap below the stack.
    pub guard: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By hand: 8 MiB + 0x3fffff pages + 1 MiB = 0x80_0000 + 0x3_ffff_f000 + 0x10_0000 = 0x4_008f_f000 below
    /// 0x7fff_ffff_f000; on arm64 8 MiB + 0x3ffff pages + 1 MiB = 0x408f_f000 below 2^48.
    #[test]
    fn the_base_of_mmap_is_below_the_largest_stack() {
        assert_eq!(Limits::x86_64().mmap_base, VirtAddr(0x7ffb_ff70_0000));
        assert_eq!(Limits::arm64_48().mmap_base, VirtAddr(0xffff_bf70_1000));
    }

    #[test]
    fn the_gap_is_clamped_on_both_sides() {
        let gap = |limit| StackGap { limit, max_random: 0, guard: 0 };
        let base = |limit| Limits::of_window(6 << 40, VirtAddr(0), gap(limit), 0).mmap_base;
        assert_eq!(base(0), VirtAddr((6 << 40) - (128 << 20)));
        assert_eq!(base(u64::MAX), VirtAddr(1 << 40));
    }
}
