//! Pages and tables of user mode.
//!
//! From 6.12 on a page that is read only and dirty would be a shadow stack: what is known of earlier writes moves to
//! a software bit while a page is write protected ([`settle`]).
//!
//! Source: Linux 5.10–7.2 arch/x86/include/asm/pgtable.h `pte_modify`, `pte_wrprotect`, pgtable_types.h
//! `_PAGE_CHG_MASK`, pgalloc.h `pmd_populate`; 6.12 pgtable.h `mksaveddirty_shift`.

use kernmem_base::{Era, Level, PhysAddr};

use super::bit::{ACCESSED, DIRTY, FRAME, PCD, PRESENT, PROTNONE, PWT, RW, SPECIAL, saved_dirty};
use super::prot::{Masks, Prot, table};
use super::{X86, X86Attrs, X86Format};
use crate::{UserFormat, UserRights};

/// What a change of rights keeps.
const KEPT: u64 = FRAME | PCD | PWT | SPECIAL | ACCESSED | DIRTY;

/// Where the note of a write belongs: in the hardware's bit while the page is writable, else in software's.
pub(crate) fn settle(saved: u64, bits: u64) -> X86Attrs {
    let is_dirty = bits & (DIRTY | saved) != 0;
    let note = if bits & RW != 0 || saved == 0 { DIRTY } else { saved };
    X86Attrs(bits & !(DIRTY | saved) | if is_dirty { note } else { 0 })
}

pub(crate) fn protection(era: Era, rights: UserRights, shared: bool) -> X86Attrs {
    let prot = match (rights.any(), shared && rights.write, rights.execute) {
        (false, _, _) => Prot::UserNone,
        (true, true, false) => Prot::UserShared,
        (true, true, true) => Prot::UserSharedExec,
        (true, false, false) => Prot::UserReadonly,
        (true, false, true) => Prot::UserReadonlyExec,
    };
    prot.raw(era)
}

pub(crate) fn reprotect(saved: u64, attrs: X86Attrs, protection: X86Attrs) -> X86Attrs {
    let kept = KEPT | saved;
    settle(saved, attrs.0 & kept | protection.0 & !kept)
}

/// The user pages of a format: its first kernel slot, the bits that its entries have, its mark of an earlier write.
macro_rules! user_format {
    ([$($generics:tt)*] $format:ty, $kernel_slot:expr, $bits:expr, $saved:expr) => {
        impl<$($generics)*> UserFormat for $format {
            const KERNEL_SLOT: Option<usize> = Some($kernel_slot);

            fn protection(era: Era, rights: UserRights, shared: bool) -> X86Attrs {
                X86Attrs(protection(era, rights, shared).0 & $bits)
            }

            fn table(_era: Era) -> X86Attrs {
                table::PAGE
            }

            fn page_raw(base: PhysAddr, attrs: X86Attrs) -> u64 {
                <Self as X86Format>::raw_leaf(Masks::new(true, true, false), base, attrs, Level::Pte)
            }

            fn page(_era: Era, raw: u64) -> Option<(PhysAddr, X86Attrs)> {
                (raw & (PRESENT | PROTNONE) != 0)
                    .then(|| (<Self as X86Format>::base_of(raw, Level::Pte), X86Attrs(raw & !FRAME)))
            }

            fn is_valid(attrs: X86Attrs) -> bool {
                attrs.has(PRESENT)
            }

            fn is_young(attrs: X86Attrs) -> bool {
                attrs.has(ACCESSED)
            }

            fn is_dirty(era: Era, attrs: X86Attrs) -> bool {
                attrs.0 & (DIRTY | $saved(era)) != 0
            }

            fn is_writable(attrs: X86Attrs) -> bool {
                attrs.has(RW)
            }

            fn is_special(attrs: X86Attrs) -> bool {
                attrs.has(SPECIAL)
            }

            fn make_young(attrs: X86Attrs) -> X86Attrs {
                X86Attrs(attrs.0 | ACCESSED)
            }

            fn make_old(attrs: X86Attrs) -> X86Attrs {
                X86Attrs(attrs.0 & !ACCESSED)
            }

            fn make_special(attrs: X86Attrs) -> X86Attrs {
                X86Attrs(attrs.0 | SPECIAL)
            }

            fn make_written(era: Era, attrs: X86Attrs) -> X86Attrs {
                settle($saved(era), attrs.0 | DIRTY | RW)
            }

            fn write_protect(era: Era, attrs: X86Attrs) -> X86Attrs {
                settle($saved(era), attrs.0 & !RW)
            }

            fn reprotect(era: Era, attrs: X86Attrs, protection: X86Attrs) -> X86Attrs {
                reprotect($saved(era), attrs, protection)
            }
        }
    };
}

pub(crate) use user_format;

user_format!([const LEVELS: usize] X86<LEVELS>, 256, !0, saved_dirty);
