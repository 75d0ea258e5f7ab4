//! What the boot of a PC does, whatever the width of its table entries.
//!
//! * [`reserve`]: what is taken of memory before it is mapped, and after.
//! * [`given`]: what boot gives to the page allocator after the hand-over.
//! * [`cpus`]: how many CPUs may come up.
//! * [`lacking`]: why kernel leaves lack bits of rights.
//!
//! Not here: tables (`x86`, `i386`), changes of rights (`crate::cpa`).
//!
//! Source: Linux 5.10–7.2 arch/x86/kernel/setup.c `setup_arch`; init/main.c `kernel_init`.

pub(crate) mod cpus;
pub(crate) mod given;
pub(crate) mod reserve;

use alloc::vec::Vec;

use kernmem_arch::Reason;
use kernmem_arch::x86::prot::CpuFacts;
use kernmem_arch::x86::pti::why_not_global;

/// Reasons that every kernel leaf shares: why it is not global, and that the CPU knows no global pages or no NX.
pub(crate) fn lacking(pti: bool, cpu: CpuFacts) -> Vec<Reason> {
    let mut reasons = Vec::new();
    if pti {
        reasons.push(why_not_global(true));
    }
    if !cpu.pge || !cpu.nx {
        reasons.push(Reason::CpuLacks);
    }
    reasons
}
