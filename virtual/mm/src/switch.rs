//! Switching a CPU to a space, or to a thread of the kernel.
//!
//! Source: Linux 6.1 arch/arm64/include/asm/mmu_context.h `cpu_set_reserved_ttbr0`, arch/arm64/mm/context.c;
//! arch/x86/mm/tlb.c `switch_mm_irqs_off`, `enter_lazy_tlb`.

use kernmem_arch::UserFormat;
use kernmem_base::{Asid, Cpu, Half, PhysAddr, VirtRange};

use crate::{AsidSwitch, Region, Space, Store, pcid::PcidSwitch};

/// What the allocator of the architecture's numbers said about a switch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Switch {
    /// The number to load.
    pub asid: Asid,
    /// What the CPU must forget before it translates: everything, or all that belongs to the number.
    pub flush: Option<Forget>,
}

/// What a CPU forgets at a switch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Forget {
    /// Its whole TLB.
    All,
    /// The translations of the number that is loaded.
    Own,
}

impl From<AsidSwitch> for Switch {
    fn from(switch: AsidSwitch) -> Self {
        Self { asid: switch.asid, flush: switch.flush_local.then_some(Forget::All) }
    }
}

impl From<PcidSwitch> for Switch {
    fn from(switch: PcidSwitch) -> Self {
        Self { asid: switch.kernel_pcid(), flush: switch.flush.then_some(Forget::Own) }
    }
}

/// Lets `cpu` translate with the tables of `space` from now on, under the number of `switch`, which becomes the
/// space's. arm64 loads the lower half alone; x86 loads both. What must be forgotten is forgotten first, through the
/// CPU's own [`kernmem_base::Tlb`]: that may forget more than this CPU's part.
pub fn switch_to<F: UserFormat, S: Store<Region>>(cpu: &mut impl Cpu, space: &mut Space<F, S>, switch: Switch) {
    match switch.flush {
        Some(Forget::All) => cpu.flush(VirtRange::ALL, true),
        Some(Forget::Own) => cpu.flush_space(switch.asid, None, true),
        None => {}
    }
    space.retag(switch.asid);
    let half = if F::KERNEL_SLOT.is_some() { Half::Both } else { Half::Lower };
    cpu.load_root(half, space.root(), switch.asid);
}

/// Lets `cpu` run a thread of the kernel, which has no lower half.
///
/// arm64 loads `reserved`, a table without entries, under the number that nobody has. x86 keeps the root that is
/// loaded: its kernel's half is as good as any, and the next switch back costs nothing. Returns whether a root was
/// loaded.
pub fn to_kernel_thread<F: UserFormat>(cpu: &mut impl Cpu, reserved: PhysAddr) -> bool {
    let has_own_root = F::KERNEL_SLOT.is_none();
    if has_own_root {
        cpu.load_root(Half::Lower, reserved, Asid(0));
    }
    has_own_root
}
