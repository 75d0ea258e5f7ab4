//! Stage 1 translation: the registers as values, and the rules of the walk.
//!
//! Source: Arm ARM, D8 "The AArch64 Virtual Memory System Architecture"; descriptors in `format`.

use kernmem_base::{Access, Half, Level, PhysAddr, Privilege, VirtAddr};

use super::bit::{AF, DBM, NG, PXN, PXN_TABLE, RDONLY, RDONLY_TABLE, USER, USER_TABLE, UXN, UXN_TABLE};
use super::esr::{Abort, Status};
use super::ttbr::{TranslationControl, Ttbr, root_of};
use super::{Arm64, Arm64Attrs, Geometry};
use crate::{Entry, EntryFormat, FaultKind, MmuFormat, Refusal, Rights, Syndrome};

/// What TCR_EL1 says about walks of one half.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct WalkControl {
    /// EPD: no walks; only what the TLB holds is translated.
    pub is_off: bool,
    /// E0PD: user mode may not use this half.
    pub refuses_user: bool,
}

/// The registers that decide a translation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Control {
    /// SCTLR_EL1.M: the MMU is on.
    pub is_on: bool,
    /// TCR_EL1: bits of an address, and ignored top bytes.
    pub translation: TranslationControl,
    /// TCR_EL1.TBID: top bytes are ignored for data only.
    pub compares_fetched_tags: bool,
    /// TCR_EL1: walks of the lower half.
    pub lower: WalkControl,
    /// TCR_EL1: walks of the upper half.
    pub upper: WalkControl,
    /// TCR_EL1.IPS: bits of a physical address.
    pub output_bits: u32,
    /// TCR_EL1.HA: the hardware sets the access flag.
    pub sets_access_flag: bool,
    /// TCR_EL1.HD: the hardware makes writable-clean leaves dirty.
    pub sets_dirty: bool,
    /// TCR_EL1.A1: the half whose root register holds the current ASID.
    pub asid_half: Half,
    /// PSTATE.PAN: the kernel may not reach data of user mode.
    pub pan: bool,
    /// SCTLR_EL1.EPAN: PAN guards what user mode may only execute, too.
    pub epan: bool,
    /// SCTLR_EL1.WXN: what is writable is not executable.
    pub wxn: bool,
}

impl Default for Control {
    /// MMU on, 48 bits, the lower half's top byte ignored; the access flag is software's business, PAN and WXN are off.
    fn default() -> Self {
        Self {
            is_on: true,
            translation: TranslationControl::of_kernel(48, false),
            compares_fetched_tags: false,
            lower: WalkControl::default(),
            upper: WalkControl::default(),
            output_bits: 48,
            sets_access_flag: false,
            sets_dirty: false,
            asid_half: Half::Lower,
            pan: false,
            epan: false,
            wxn: false,
        }
    }
}

impl Control {
    /// The same for a kernel with these tables that runs with `va_bits` address bits.
    #[must_use]
    pub const fn with_tables(mut self, tables: Geometry, va_bits: u32) -> Self {
        self.translation = TranslationControl::of_kernel(va_bits, self.translation.upper.ignores_top_byte);
        self.output_bits = tables.output().bits();
        self
    }

    const fn of(&self, half: Half) -> &WalkControl {
        match half {
            Half::Lower | Half::Both => &self.lower,
            Half::Upper => &self.upper,
        }
    }

    const fn is_too_large(&self, pa: u64) -> bool {
        self.output_bits < 64 && pa >> self.output_bits != 0
    }
}

const fn at(kind: FaultKind, level: Level) -> Refusal {
    Refusal { kind, level: Some(level) }
}

/// The architecture's number of a level: 3 has the pages, and the root's follows from how many there are.
const fn number(level: Level, levels: usize) -> i8 {
    match level {
        Level::Pgd => 4 - levels as i8,
        Level::P4d => 0,
        Level::Pud => 1,
        Level::Pmd => 2,
        Level::Pte => 3,
    }
}

impl<const PAGE: u32, const VA: u32> MmuFormat for Arm64<PAGE, VA> {
    type Control = Control;
    const HAS_HALVES: bool = true;
    const OPEN: u64 = 0;
    const FAULT_FORGETS: bool = false;
    const SPACE_FLUSH_TAKES_GLOBALS: bool = true;
    const FLUSH_DROPS_WALKS: bool = false;

    fn registers() -> Control {
        Control::default().with_tables(Self::GEOMETRY, VA)
    }

    #[inline]
    fn flat(control: &Control, va: VirtAddr) -> Result<Option<PhysAddr>, Refusal> {
        match (control.is_on, control.is_too_large(va.0)) {
            (true, _) => Ok(None),
            (false, false) => Ok(Some(PhysAddr(va.0))),
            (false, true) => Err(at(FaultKind::AddressSize, Level::Pgd)),
        }
    }

    #[inline]
    fn enter(
        control: &Control,
        va: VirtAddr,
        access: Access,
        privilege: Privilege,
    ) -> Result<(Half, VirtAddr), Refusal> {
        let tags_count = access == Access::Execute && control.compares_fetched_tags;
        let translation = if tags_count { control.translation.without_tags() } else { control.translation };
        let (half, plain) = match root_of(va, &translation) {
            Some(Ttbr::Ttbr0) => (Half::Lower, va.0 & !0 >> 8),
            Some(Ttbr::Ttbr1) => (Half::Upper, va.0 | 0xff << 56),
            None => return Err(at(FaultKind::Translation, Level::Pgd)),
        };
        if control.of(half).refuses_user && privilege == Privilege::User {
            return Err(at(FaultKind::Translation, Level::Pgd));
        }
        Ok((half, VirtAddr(plain)))
    }

    #[inline]
    fn open(control: &Control, half: Half, root: PhysAddr) -> Result<(), Refusal> {
        if control.of(half).is_off {
            return Err(at(FaultKind::Translation, Level::Pgd));
        }
        if control.is_too_large(root.0) {
            return Err(at(FaultKind::AddressSize, Level::Pgd));
        }
        Ok(())
    }

    #[inline]
    fn read(control: &Control, raw: u64, level: Level) -> Result<Entry<Arm64Attrs>, FaultKind> {
        let entry = Self::decode(raw, level);
        match entry {
            Entry::Absent { .. } | Entry::Reserved { .. } => Err(FaultKind::Translation),
            Entry::Table { next: pa, .. } | Entry::Leaf { base: pa, .. } if control.is_too_large(pa.0) => {
                Err(FaultKind::AddressSize)
            }
            Entry::Table { .. } | Entry::Leaf { .. } => Ok(entry),
        }
    }

    #[inline]
    fn inherit(above: u64, table: Arm64Attrs) -> u64 {
        above | table.0 & (RDONLY_TABLE | USER_TABLE | PXN_TABLE | UXN_TABLE)
    }

    #[inline]
    fn narrow(leaf: Arm64Attrs, above: u64) -> Arm64Attrs {
        let mut bits = leaf.0;
        if above & RDONLY_TABLE != 0 {
            bits = bits & !DBM | RDONLY; // the hardware makes nothing writable here
        }
        if above & USER_TABLE != 0 {
            bits &= !USER;
        }
        if above & PXN_TABLE != 0 {
            bits |= PXN;
        }
        if above & UXN_TABLE != 0 {
            bits |= UXN;
        }
        Arm64Attrs(bits)
    }

    #[inline]
    fn mark(control: &Control, raw: u64, _level: Level, is_leaf: bool, access: Access) -> Result<u64, FaultKind> {
        if !is_leaf {
            return Ok(raw);
        }
        if raw & AF == 0 && !control.sets_access_flag {
            return Err(FaultKind::AccessFlag);
        }
        let marks_dirty = access == Access::Write && Self::is_clean(control, Arm64Attrs(raw));
        Ok(if marks_dirty { raw & !RDONLY | AF } else { raw | AF })
    }

    /// Writable-clean counts as writable where the hardware makes it dirty.
    #[inline]
    fn rights(control: &Control, attrs: Arm64Attrs) -> Rights {
        use Access::{Execute, Read, Write};
        use Privilege::{Kernel, User};
        let has = |bit: u64| attrs.0 & bit != 0;
        let is_user = has(USER);
        let is_writable = !has(RDONLY) || Self::is_clean(control, attrs);
        let is_user_writable = is_user && is_writable;
        let is_guarded = control.pan && (is_user || control.epan && !has(UXN));
        let user_executes = !(has(UXN) || control.wxn && is_user_writable);
        let kernel_executes = !(has(PXN) || is_user_writable || control.wxn && is_writable);
        Rights::NONE
            .with_if(is_user, Read, User)
            .with_if(is_user_writable, Write, User)
            .with_if(user_executes, Execute, User)
            .with_if(!is_guarded, Read, Kernel)
            .with_if(!is_guarded && is_writable, Write, Kernel)
            .with_if(kernel_executes, Execute, Kernel)
    }

    #[inline]
    fn is_clean(control: &Control, attrs: Arm64Attrs) -> bool {
        control.sets_dirty && attrs.0 & (DBM | RDONLY) == DBM | RDONLY
    }

    #[inline]
    fn is_global(_control: &Control, attrs: Arm64Attrs) -> bool {
        attrs.0 & NG == 0
    }

    #[inline]
    fn has_spaces(_control: &Control) -> bool {
        true
    }

    fn names_space(control: &Control, half: Half) -> bool {
        half == Half::Both || half == control.asid_half
    }

    fn syndrome(_control: &Control, refusal: Refusal, access: Access, privilege: Privilege) -> Syndrome {
        let level = refusal.level.map_or(0, |level| number(level, Self::SHAPE.levels.len()));
        let status = match refusal.kind {
            FaultKind::Translation | FaultKind::NonCanonical | FaultKind::ReservedBit => Status::Translation(level),
            FaultKind::AddressSize => Status::AddressSize(level),
            FaultKind::AccessFlag => Status::AccessFlag(level),
            FaultKind::Permission => Status::Permission(level),
            FaultKind::External if refusal.level.is_some() => Status::ExternalOnWalk(level),
            FaultKind::External => Status::External,
            FaultKind::TlbConflict => Status::TlbConflict,
        };
        Syndrome::Arm64 { esr: Abort { access, privilege, status }.esr() }
    }
}
