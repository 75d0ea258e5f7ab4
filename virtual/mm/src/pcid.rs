//! x86's PCIDs: each CPU remembers the last few spaces that it ran, and whether their translations are up to date.
//!
//! Source: Linux 6.1 arch/x86/mm/tlb.c `choose_new_asid`, `switch_mm_irqs_off`, `flush_tlb_func`, `get_flush_tlb_info`;
//! arch/x86/include/asm/tlbflush.h `TLB_NR_DYN_ASIDS`.

use kernmem_base::Asid;

/// Spaces that a CPU remembers.
pub const SLOTS: usize = 6;

/// Pages from which on a whole space is flushed at once: more than these.
pub const SINGLE_PAGE_FLUSH_CEILING: u64 = 33;

/// The bit of a PCID that marks user mode's, under page-table isolation.
const USER: u16 = 1 << 11;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct SlotState {
    /// The space; 0 is none.
    context: u64,
    /// Its generation when the CPU was last up to date.
    tlb_gen: u64,
}

/// What one CPU remembers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PcidSlots {
    slots: [SlotState; SLOTS],
    next: usize,
    has_pcid: bool,
}

/// The slot for a space, and whether the CPU must forget what it holds under it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PcidSwitch {
    /// The slot, 0 to 5.
    pub slot: u16,
    /// Whether the load of CR3 flushes: its no-flush bit (63) is clear.
    pub flush: bool,
}

impl PcidSwitch {
    /// The kernel's PCID: 0 is left to whoever knows no PCID.
    #[must_use]
    pub const fn kernel_pcid(self) -> Asid {
        Asid(self.slot + 1)
    }

    /// User mode's PCID, under page-table isolation.
    #[must_use]
    pub const fn user_pcid(self) -> Asid {
        Asid((self.slot + 1) | USER)
    }
}

impl PcidSlots {
    /// A CPU that remembers nothing; without PCIDs each switch flushes.
    #[must_use]
    pub const fn new(has_pcid: bool) -> Self {
        Self { slots: [SlotState { context: 0, tlb_gen: 0 }; SLOTS], next: 0, has_pcid }
    }

    /// The slot for the space `context`, which is not 0 and never used again, at its generation `tlb_gen`.
    pub fn switch_to(&mut self, context: u64, tlb_gen: u64) -> PcidSwitch {
        if !self.has_pcid {
            return self.take(0, context, tlb_gen);
        }
        if let Some(slot) = self.slots.iter().position(|slot| slot.context == context) {
            let flush = self.slots[slot].tlb_gen < tlb_gen;
            self.slots[slot].tlb_gen = tlb_gen;
            return PcidSwitch { slot: slot as u16, flush };
        }
        let slot = self.next % SLOTS;
        self.next = (slot + 1) % SLOTS;
        self.take(slot, context, tlb_gen)
    }

    fn take(&mut self, slot: usize, context: u64, tlb_gen: u64) -> PcidSwitch {
        self.slots[slot] = SlotState { context, tlb_gen };
        PcidSwitch { slot: slot as u16, flush: true }
    }
}

/// How much of a TLB a request for a flush empties.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Extent {
    /// Nothing: somebody else's flush covered it.
    Nothing,
    /// The pages of the request.
    Pages,
    /// Everything of the space.
    Full,
}

/// What a request for `entries` pages, in steps of its leaf size, asks for.
#[must_use]
pub const fn extent_of(entries: u64) -> Extent {
    if entries > SINGLE_PAGE_FLUSH_CEILING { Extent::Full } else { Extent::Pages }
}

/// What a CPU at generation `local` does about a request that made generation `requested`, where the space is at
/// `current` by now. It is at `current` afterwards, unless it had nothing to do.
///
/// | | |
/// |---|---|
/// | requested ≤ local | nothing |
/// | requested = local + 1 = current, and pages are named | these pages |
/// | else | everything |
#[must_use]
pub const fn catch_up(local: u64, requested: u64, current: u64, asked: Extent) -> Extent {
    if requested <= local {
        return Extent::Nothing;
    }
    match asked {
        Extent::Pages if requested == local + 1 && requested == current => Extent::Pages,
        _ => Extent::Full,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn six_spaces_are_remembered_and_the_seventh_takes_the_oldest_slot() {
        let mut cpu = PcidSlots::new(true);
        for context in 1..=6 {
            assert_eq!(cpu.switch_to(context, 1), PcidSwitch { slot: context as u16 - 1, flush: true });
        }
        assert_eq!(cpu.switch_to(3, 1), PcidSwitch { slot: 2, flush: false });
        assert_eq!(cpu.switch_to(7, 1), PcidSwitch { slot: 0, flush: true });
        assert_eq!(cpu.switch_to(1, 1), PcidSwitch { slot: 1, flush: true });
    }

    #[test]
    fn a_space_that_was_flushed_elsewhere_is_flushed_once_when_it_comes_back() {
        let mut cpu = PcidSlots::new(true);
        cpu.switch_to(1, 1);
        cpu.switch_to(2, 1);
        assert!(cpu.switch_to(1, 4).flush);
        assert!(!cpu.switch_to(1, 4).flush);
    }

    #[test]
    fn without_pcids_each_switch_flushes_slot_0() {
        let mut cpu = PcidSlots::new(false);
        for context in [1, 1, 2, 1] {
            assert_eq!(cpu.switch_to(context, 1), PcidSwitch { slot: 0, flush: true });
        }
    }

    #[test]
    fn pcids_of_a_slot_differ_in_bit_11() {
        let switch = PcidSwitch { slot: 5, flush: false };
        assert_eq!((switch.kernel_pcid(), switch.user_pcid()), (Asid(6), Asid(2054)));
    }

    #[test]
    fn thirty_three_pages_go_one_by_one_and_a_late_cpu_flushes_everything() {
        assert_eq!((extent_of(33), extent_of(34)), (Extent::Pages, Extent::Full));
        assert_eq!(catch_up(5, 6, 6, Extent::Pages), Extent::Pages);
        assert_eq!(catch_up(5, 6, 7, Extent::Pages), Extent::Full);
        assert_eq!(catch_up(4, 6, 6, Extent::Pages), Extent::Full);
        assert_eq!(catch_up(5, 6, 6, Extent::Full), Extent::Full);
        assert_eq!(catch_up(6, 6, 7, Extent::Pages), Extent::Nothing);
    }
}
