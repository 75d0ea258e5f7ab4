//! Translation with four and five levels: the registers as values, and the rules of the walk.
//!
//! Source: Intel SDM volume 3, chapter 4 "Paging".

use kernmem_base::{Access, Half, Level, PhysAddr, Privilege, VirtAddr};

use super::bit::{ACCESSED, DIRTY, FRAME, GLOBAL, NX, PSE, RW, USER};
use super::error_code::ErrorCode;
use super::{X86, X86Attrs};
use crate::{Entry, EntryFormat, FaultKind, MmuFormat, Refusal, Rights, Shape, Syndrome};

/// The registers and features that decide a translation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Control {
    /// MAXPHYADDR: bits of a physical address, at most 52.
    pub physical_bits: u32,
    /// Leaves of 1G exist.
    pub has_gib_pages: bool,
    /// EFER.NXE: pages may be not executable.
    pub nxe: bool,
    /// CR0.WP: read-only pages bind the kernel too.
    pub wp: bool,
    /// CR4.SMEP: the kernel may not execute pages of user mode.
    pub smep: bool,
    /// CR4.SMAP without EFLAGS.AC: the kernel may not reach data of user mode.
    pub smap: bool,
    /// CR4.PGE: global pages survive a new root.
    pub pge: bool,
    /// CR4.PCIDE: TLB entries carry the number of their space. A root is then loaded without a flush (bit 63 of CR3).
    pub pcid: bool,
}

impl Default for Control {
    /// A CPU of today under a kernel: 46 bits, 1G leaves, NX, WP, SMEP, SMAP, global pages and PCID.
    fn default() -> Self {
        Self {
            physical_bits: 46,
            has_gib_pages: true,
            nxe: true,
            wp: true,
            smep: true,
            smap: true,
            pge: true,
            pcid: true,
        }
    }
}

/// The bits that must be zero in a present entry of `level`, besides those that make it [`Entry::Reserved`].
#[must_use]
pub const fn reserved_bits(control: &Control, level: Level) -> u64 {
    let beyond = if control.physical_bits < 52 { FRAME & !0 << control.physical_bits } else { 0 };
    let nx = if control.nxe { 0 } else { NX };
    let size = match level {
        Level::Pgd | Level::P4d => PSE,
        Level::Pud if !control.has_gib_pages => PSE,
        Level::Pud | Level::Pmd | Level::Pte => 0,
    };
    beyond | nx | size
}

/// The MMU of a format whose attributes are [`X86Attrs`]: `$reads` looks at an entry that decodes to a table or a leaf,
/// and `$marks` says which bits the hardware sets in an entry of a level.
macro_rules! x86_mmu {
    ([$($generics:tt)*] $format:ty, $reads:expr, $marks:expr) => {
        impl<$($generics)*> MmuFormat for $format {
            type Control = Control;
            const HAS_HALVES: bool = false;
            const OPEN: u64 = RW | USER;
            const FAULT_FORGETS: bool = true;
            const SPACE_FLUSH_TAKES_GLOBALS: bool = false;
            const FLUSH_DROPS_WALKS: bool = true;

            #[inline]
            fn enter(
                _control: &Control,
                va: VirtAddr,
                _access: Access,
                _privilege: Privilege,
            ) -> Result<(Half, VirtAddr), Refusal> {
                if is_canonical(Self::shape(), va) {
                    Ok((Half::Both, va))
                } else {
                    Err(Refusal { kind: FaultKind::NonCanonical, level: None })
                }
            }

            #[inline]
            fn open(_control: &Control, _half: Half, _root: PhysAddr) -> Result<(), Refusal> {
                Ok(())
            }

            #[inline]
            fn read(control: &Control, raw: u64, level: Level) -> Result<Entry<X86Attrs>, FaultKind> {
                let entry = Self::decode(raw, level);
                match entry {
                    Entry::Absent { .. } => Err(FaultKind::Translation),
                    Entry::Reserved { .. } => Err(FaultKind::ReservedBit),
                    _ if raw & reserved_bits(control, level) != 0 => Err(FaultKind::ReservedBit),
                    Entry::Table { .. } | Entry::Leaf { .. } => Ok($reads(entry, level)),
                }
            }

            // The walk keeps RW and US as long as every entry has them, and NX once one has it.
            #[inline]
            fn inherit(above: u64, table: X86Attrs) -> u64 {
                above & table.0 & (RW | USER) | (above | table.0) & NX
            }

            #[inline]
            fn narrow(leaf: X86Attrs, above: u64) -> X86Attrs {
                X86Attrs(leaf.0 & (above | !(RW | USER)) | above & NX)
            }

            #[inline]
            fn mark(
                _control: &Control,
                raw: u64,
                level: Level,
                is_leaf: bool,
                access: Access,
            ) -> Result<u64, FaultKind> {
                let dirty = if is_leaf && access == Access::Write { DIRTY } else { 0 };
                Ok(raw | ($marks(level) & (ACCESSED | dirty)))
            }

            #[inline]
            fn rights(control: &Control, attrs: X86Attrs) -> Rights {
                use Access::{Execute, Read, Write};
                use Privilege::{Kernel, User};
                let (is_user, is_writable, is_executable) = (attrs.has(USER), attrs.has(RW), !attrs.has(NX));
                let is_guarded = is_user && control.smap;
                Rights::NONE
                    .with_if(is_user, Read, User)
                    .with_if(is_user && is_writable, Write, User)
                    .with_if(is_user && is_executable, Execute, User)
                    .with_if(!is_guarded, Read, Kernel)
                    .with_if(!is_guarded && (is_writable || !control.wp), Write, Kernel)
                    .with_if(is_executable && !(is_user && control.smep), Execute, Kernel)
            }

            #[inline]
            fn is_clean(_control: &Control, attrs: X86Attrs) -> bool {
                !attrs.has(DIRTY)
            }

            #[inline]
            fn is_global(control: &Control, attrs: X86Attrs) -> bool {
                control.pge && attrs.has(GLOBAL)
            }

            #[inline]
            fn has_spaces(control: &Control) -> bool {
                control.pcid
            }

            fn names_space(_control: &Control, _half: Half) -> bool {
                true
            }

            fn syndrome(control: &Control, refusal: Refusal, access: Access, privilege: Privilege) -> Syndrome {
                match (ErrorCode::of(refusal.kind, access, privilege, control.nxe || control.smep), refusal.kind) {
                    (Some(code), _) => Syndrome::X86PageFault { code: code.0 },
                    (None, FaultKind::NonCanonical) => Syndrome::X86GeneralProtection,
                    (None, _) => Syndrome::X86MachineCheck,
                }
            }
        }
    };
}

pub(crate) use x86_mmu;

const fn as_it_is(entry: Entry<X86Attrs>, _level: Level) -> Entry<X86Attrs> {
    entry
}

const fn all_marks(_level: Level) -> u64 {
    ACCESSED | DIRTY
}

x86_mmu!([const LEVELS: usize] X86<LEVELS>, as_it_is, all_marks);

/// Whether the bits of `va` that are not translated repeat the highest one that is; where every bit is translated, they
/// are zero.
pub(crate) const fn is_canonical(shape: &Shape, va: VirtAddr) -> bool {
    let unused = 64 - shape.va_bits();
    if shape.has_halves() { (va.0 << unused) as i64 >> unused == va.0 as i64 } else { va.0 >> shape.va_bits() == 0 }
}
