//! The order in which the direct map is built: from the top of memory down, or bottom up from the kernel.
//!
//! ```text
//! top down:  a free 2 MiB block at the top gives the first tables; then 2 MiB, 512 MiB, 128 GiB … below it, each
//!            step larger once the last ones mapped enough memory to hold its tables; the rest above comes last
//! bottom up: the same growth, upwards from a given address
//! ```
//!
//! Tables of a step come from memory that earlier steps mapped: [`TopDown::mapped_from`] is the lower end of that.
//! Not here: [0, 1 MiB), which every boot maps before, and the search for the block.
//!
//! Source: Linux 5.10–7.2 arch/x86/mm/init.c `memory_map_top_down`, `memory_map_bottom_up`, `get_new_step_size`.

use kernmem_base::{Era, PhysAddr, PhysRange};

use super::layout::ISA_END;

/// The first step: a leaf above the last level.
pub const FIRST_STEP: u64 = 1 << 21;
/// log2 of the growth of a step: a table's worth of leaves, halved.
const GROWTH: u32 = growth(FIRST_STEP);

/// log2 of the growth of steps that begin with one leaf of `large` bytes.
const fn growth(large: u64) -> u32 {
    large.ilog2() - 12 - 1
}

/// The steps downwards. Ask for the next, map the memory in it, and tell how much that was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TopDown {
    last: u64,
    real_end: u64,
    end: u64,
    step: u64,
    mapped: u64,
    above: bool,
    growth: u32,
}

impl TopDown {
    /// Steps over [1 MiB, `end`), where `block` is the highest free aligned 2 MiB block, if there is one.
    ///
    /// | era | without a block |
    /// |---|---|
    /// | to 5.10 | as if it were at address 0 (4.14 UNVERIFIED) |
    /// | 6.1 and later | from the last 2 MiB boundary below the end, with a warning |
    ///
    /// Source: Linux 5.10–7.2 arch/x86/mm/init.c `memory_map_top_down`.
    #[must_use]
    pub fn new(era: Era, block: Option<PhysAddr>, end: PhysAddr) -> Self {
        Self::by(FIRST_STEP, era, block, end)
    }

    /// The same where a leaf above the last level, and with it the first step, has `large` bytes.
    #[must_use]
    pub fn by(large: u64, era: Era, block: Option<PhysAddr>, end: PhysAddr) -> Self {
        let real_end = match (block, era) {
            (Some(block), _) => block.0 + large,
            (None, Era::V4_14 | Era::V5_10) => large,
            (None, Era::V6_1 | Era::V6_12 | Era::V7_2) => end.align_down(large).0.max(ISA_END.0),
        };
        Self { last: real_end, real_end, end: end.0, step: large, mapped: 0, above: false, growth: growth(large) }
    }

    /// Whether a kernel without a block says so.
    #[must_use]
    pub const fn warns_without_block(era: Era) -> bool {
        match era {
            Era::V4_14 | Era::V5_10 => false,
            Era::V6_1 | Era::V6_12 | Era::V7_2 => true,
        }
    }

    /// The next range whose memory is to be mapped.
    pub fn next_range(&mut self) -> Option<PhysRange> {
        if self.last > ISA_END.0 {
            let start = if self.last > self.step {
                PhysAddr(self.last - 1).align_down(self.step).max(ISA_END)
            } else {
                ISA_END
            };
            return Some(PhysRange::new(start, PhysAddr(self.last)));
        }
        if self.above || self.real_end >= self.end {
            return None;
        }
        Some(PhysRange::new(PhysAddr(self.real_end), PhysAddr(self.end)))
    }

    /// Takes note that `range`, the last one asked for, held `bytes` of memory and is mapped now.
    pub fn done(&mut self, range: PhysRange, bytes: u64) {
        if self.last <= ISA_END.0 {
            self.above = true;
            return;
        }
        self.last = range.start.0;
        self.mapped += bytes;
        self.step = grown(self.step, self.mapped, self.growth);
    }

    /// Where mapped memory begins: tables of the next step are taken from there up.
    #[must_use]
    pub const fn mapped_from(&self) -> PhysAddr {
        PhysAddr(self.last)
    }
}

/// The steps upwards: used with `movable_node`, from the kernel's end to the end of memory, then below the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BottomUp {
    at: u64,
    end: u64,
    step: u64,
    mapped: u64,
}

impl BottomUp {
    /// Steps over `range`.
    #[must_use]
    pub const fn new(range: PhysRange) -> Self {
        Self { at: range.start.0, end: range.end.0, step: FIRST_STEP, mapped: 0 }
    }

    /// The next range whose memory is to be mapped.
    pub fn next_range(&mut self) -> Option<PhysRange> {
        if self.at >= self.end {
            return None;
        }
        let next = if self.end - self.at > self.step {
            (self.at + 1).next_multiple_of(self.step).min(self.end)
        } else {
            self.end
        };
        Some(PhysRange::new(PhysAddr(self.at), PhysAddr(next)))
    }

    /// Takes note that `range`, the last one asked for, held `bytes` of memory and is mapped now.
    pub fn done(&mut self, range: PhysRange, bytes: u64) {
        self.at = range.end.0;
        self.mapped += bytes;
        self.step = grown(self.step, self.mapped, GROWTH);
    }
}

/// The next step: larger once the steps so far mapped at least one step's worth of memory.
const fn grown(step: u64, mapped: u64, growth: u32) -> u64 {
    if mapped < step {
        return step;
    }
    match step.checked_mul(1 << growth) {
        Some(larger) => larger,
        None => step,
    }
}

/// Whether the early table buffer may be used while `piece` is mapped: not while it maps the buffer itself.
///
/// Source: Linux 5.10–7.2 arch/x86/mm/init.c `init_range_memory_mapping`.
#[must_use]
pub const fn may_use_early_tables(piece: PhysRange, buffer: PhysRange) -> bool {
    !piece.overlaps(&buffer)
}
