//! What the host's CPU says about a fault: the one place that looks into a signal's context.
//!
//! The layouts are those of the kernel's interface to programs and never change. The host's architecture is a value
//! here; a host that is not known, or that reports nothing, gives `None`, and no verdict depends on the answer.
//!
//! # Invariants
//! 1. Reads stay inside the context that the kernel writes: 304 bytes at least on x86-64, 4560 on arm64.
//!
//! Source: Linux 6.1 arch/x86/include/uapi/asm/sigcontext.h `sigcontext_64`; arch/arm64/include/uapi/asm/sigcontext.h
//! `esr_context`.
#![allow(unsafe_code)]

use core::ffi::c_void;

use kernmem_arch::arm64::esr::Abort;
use kernmem_arch::x86::error_code::ErrorCode;
use kernmem_base::Access;

/// x86-64: where the error code and the number of the exception stand.
const X86_ERROR: usize = 192;
const X86_EXCEPTION: usize = 200;
const X86_PAGE_FAULT: u64 = 14;

/// arm64: the records behind the registers, and the mark of the one with the syndrome.
const ARM64_RECORDS: usize = 464;
const ARM64_END: usize = ARM64_RECORDS + 4096;
const ARM64_SYNDROME: u32 = 0x4553_5201;

/// The kind of access that faulted.
///
/// # Safety
/// `context` is the third argument of a signal handler that was installed with `SA_SIGINFO`, and the handler runs.
pub(crate) unsafe fn access(context: *const c_void) -> Option<Access> {
    let word = |offset: usize| -> u64 {
        // SAFETY:
        // 1. `offset` is one of those below, inside the context (the contract; invariant 1).
        let place = unsafe { context.cast::<u8>().add(offset) };
        // SAFETY:
        // 1. Eight bytes there are initialised by the kernel (invariant 1); unaligned reads ask for no alignment.
        unsafe { place.cast::<u64>().read_unaligned() }
    };
    match std::env::consts::ARCH {
        "x86_64" if word(X86_EXCEPTION) == X86_PAGE_FAULT => Some(ErrorCode(word(X86_ERROR) as u32).access()),
        "aarch64" => arm64_syndrome(word).and_then(Abort::of_esr).map(|abort| abort.access),
        _ => None,
    }
}

/// The syndrome among the records, each headed by a mark and its size.
fn arm64_syndrome(word: impl Fn(usize) -> u64) -> Option<u64> {
    let mut at = ARM64_RECORDS;
    while at + 16 <= ARM64_END {
        let head = word(at);
        let (mark, bytes) = (head as u32, (head >> 32) as usize);
        if mark == ARM64_SYNDROME {
            return Some(word(at + 8));
        }
        if mark == 0 || bytes < 16 {
            return None;
        }
        at = at.checked_add(bytes)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_syndrome_is_found_behind_other_records() {
        let mut words = vec![0_u64; ARM64_END / 8];
        words[ARM64_RECORDS / 8] = 0x210 << 32 | 0x4650_8001; // vector registers, 528 bytes
        words[(ARM64_RECORDS + 0x210) / 8] = 16 << 32 | u64::from(ARM64_SYNDROME);
        words[(ARM64_RECORDS + 0x218) / 8] = 0x9200_0047;
        assert_eq!(arm64_syndrome(|at| words[at / 8]), Some(0x9200_0047));
        words[ARM64_RECORDS / 8] = 0;
        assert_eq!(arm64_syndrome(|at| words[at / 8]), None);
    }
}
