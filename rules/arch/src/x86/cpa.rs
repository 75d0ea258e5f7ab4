//! Changes of attributes: what becomes of one leaf, which bits may not change, and which aliases follow.
//!
//! A change is a set mask and a clear mask over a virtual range. For each leaf in it [`decide`] says: nothing, split
//! (into [`split_attrs`], then again with the smaller leaf), or rewrite.
//!
//! # Invariants
//! 1. "Nothing to do" is asked before any protection of the image: a leaf that has the wanted attributes stays
//!    whole, whatever part of it was asked for.
//! 2. What is written is cut to what the CPU has: a leaf born with a bit that it lacks loses it here.
//!
//! Source: Linux 5.10–7.2 arch/x86/mm/pat/set_memory.c `__should_split_large_page`, `__change_page_attr`,
//! `static_protections`, `cpa_process_alias`.

use kernmem_base::{Era, Level, PhysAddr, PhysRange, VirtAddr, VirtRange};

use super::X86Attrs;
use super::format::bit::{DIRTY, GLOBAL, NX, PRESENT, PSE, RW};
use super::prot::{Masks, clear_protnone};

/// What to set and what to clear, in the form of base pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Masking {
    /// Bits to set.
    pub set: u64,
    /// Bits to clear.
    pub clear: u64,
}

impl Masking {
    /// `set_memory_ro`.
    ///
    /// | era | clears |
    /// |---|---|
    /// | to 6.1 | RW (4.14 UNVERIFIED) |
    /// | 6.12, 7.2 | RW, D |
    ///
    /// Source: Linux 5.10–7.2 arch/x86/mm/pat/set_memory.c `set_memory_ro`.
    #[must_use]
    pub const fn ro(era: Era) -> Self {
        Self { set: 0, clear: write_bits(era) }
    }

    /// `set_memory_rw`: sets RW only; the CPU sets D with the next write.
    pub const RW: Self = Self { set: RW, clear: 0 };
    /// `set_memory_nx`.
    pub const NX: Self = Self { set: NX, clear: 0 };
    /// `set_memory_x`.
    pub const X: Self = Self { set: 0, clear: NX };
    /// `set_memory_np`.
    pub const NP: Self = Self { set: 0, clear: PRESENT };
    /// `set_memory_p`.
    pub const P: Self = Self { set: PRESENT, clear: 0 };
    /// `set_memory_global`.
    pub const GLOBAL: Self = Self { set: GLOBAL, clear: 0 };
    /// `set_memory_nonglobal`.
    pub const NONGLOBAL: Self = Self { set: 0, clear: GLOBAL };

    /// `set_memory_rox`.
    #[must_use]
    pub const fn rox(era: Era) -> Self {
        Self { set: 0, clear: write_bits(era) | NX }
    }

    /// Takes pages from the direct map (`set_direct_map_invalid_noflush`, page-alloc debugging); no alias follows.
    #[must_use]
    pub const fn unmapped(era: Era) -> Self {
        Self { set: 0, clear: PRESENT | write_bits(era) }
    }

    /// Puts them back; no alias follows.
    pub const MAPPED: Self = Self { set: PRESENT | RW, clear: 0 };

    /// The change on this CPU: a bit that it lacks is not set, and execution is not given back where none can be
    /// taken. `None` if nothing is left.
    ///
    /// Source: Linux 5.10–7.2 arch/x86/mm/pat/set_memory.c `change_page_attr_set_clr`, `set_memory_x`.
    #[must_use]
    pub const fn on(self, masks: Masks) -> Option<Self> {
        let clear = if masks.supported & NX == 0 { self.clear & !NX } else { self.clear };
        let change = Self { set: self.set & masks.supported, clear };
        if change.set | change.clear == 0 { None } else { Some(change) }
    }

    /// The wanted attributes of a leaf.
    const fn apply(self, attrs: X86Attrs) -> X86Attrs {
        X86Attrs(attrs.0 & !self.clear | self.set)
    }
}

/// What write protection clears.
const fn write_bits(era: Era) -> u64 {
    match era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 => RW,
        Era::V6_12 | Era::V7_2 => RW | DIRTY,
    }
}

/// What the image protects from changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Protections {
    /// [_text, _etext) in the image's own map.
    pub text: VirtRange,
    /// [_text, __end_rodata_hpage_align) there.
    pub text_and_rodata: VirtRange,
    /// Frames of read-only data, under any alias.
    pub rodata: PhysRange,
    /// Whether read-only data has been protected.
    pub rodata_is_readonly: bool,
    /// Whether the PCI BIOS is in use.
    pub pci_bios: bool,
}

/// Frames that the PCI BIOS executes.
const PCI_BIOS: PhysRange = PhysRange::new(PhysAddr(0xa_0000), PhysAddr(0x10_0000));

/// Part of a mapping: virtual and physical.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mapped {
    /// Where it is mapped.
    pub va: VirtRange,
    /// What is mapped there.
    pub pa: PhysRange,
}

impl Protections {
    /// The bits that a change of `part`, lying in a leaf of `level`, may not set. The same in all eras.
    ///
    /// | bit | where | when |
    /// |---|---|---|
    /// | NX | text | always |
    /// | RW | frames of read-only data | once they are protected |
    /// | RW | text to the end of read-only data | the same, in a large leaf that the change does not fill |
    /// | NX | frames a0–ff | the PCI BIOS is in use |
    ///
    /// Source: Linux 5.10–7.2 arch/x86/mm/pat/set_memory.c `static_protections`.
    #[must_use]
    pub const fn forbidden(&self, part: Mapped, level: Level, fills_leaf: bool) -> u64 {
        let mut bits = 0;
        if part.va.overlaps(&self.text) {
            bits |= NX;
        }
        if self.rodata_is_readonly {
            let large = !matches!(level, Level::Pte);
            if part.pa.overlaps(&self.rodata) || (large && !fills_leaf && part.va.overlaps(&self.text_and_rodata)) {
                bits |= RW;
            }
        }
        if self.pci_bios && part.pa.overlaps(&PCI_BIOS) {
            bits |= NX;
        }
        bits
    }

    /// Attributes without the bits that are forbidden; what is not present is not checked.
    const fn apply(&self, attrs: X86Attrs, part: Mapped, level: Level, fills_leaf: bool) -> X86Attrs {
        if attrs.has(PRESENT) { X86Attrs(attrs.0 & !self.forbidden(part, level, fills_leaf)) } else { attrs }
    }
}

/// A leaf that a change meets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Target {
    /// Its attributes.
    pub attrs: X86Attrs,
    /// Its level.
    pub level: Level,
    /// What it maps.
    pub whole: Mapped,
}

/// What becomes of one leaf.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decision {
    /// It has the wanted attributes.
    Nothing,
    /// It becomes a table of 512 smaller leaves, with `0x63` in its own entry; then ask again for those.
    Split,
    /// It gets these attributes.
    Rewrite(X86Attrs),
}

/// What becomes of `leaf` when the part `asked` of its addresses is to change. The same in all eras.
///
/// | # | a large leaf | then |
/// |---|---|---|
/// | 0 | pages of 4 KiB are forced | split |
/// | 1 | has the wanted attributes already | nothing |
/// | 2 | is not asked for as a whole | split |
/// | 3 | is protected from what is wanted, as a whole | split |
/// | 4 | else | rewrite |
///
/// A base page is rewritten with what is wanted less what is protected, unless that is what it has.
///
/// Source: Linux 5.10–7.2 arch/x86/mm/pat/set_memory.c `__should_split_large_page`, `__change_page_attr`.
#[must_use]
pub fn decide(
    leaf: &Target,
    asked: VirtRange,
    change: Masking,
    protections: &Protections,
    masks: Masks,
    force_pages: bool,
) -> Decision {
    if leaf.level == Level::Pte {
        let wanted = protections.apply(change.apply(leaf.attrs), leaf.whole, leaf.level, false);
        let new = masks.supported(clear_protnone(wanted));
        return if new == leaf.attrs { Decision::Nothing } else { Decision::Rewrite(new) };
    }
    if force_pages {
        return Decision::Split;
    }
    let wanted = large_form(change.apply(leaf.attrs.large_to_page()));
    if wanted == leaf.attrs {
        return Decision::Nothing;
    }
    let covers = asked.start <= leaf.whole.va.start && leaf.whole.va.last <= asked.last;
    if !covers || protections.apply(wanted, leaf.whole, leaf.level, true) != wanted {
        return Decision::Split;
    }
    Decision::Rewrite(masks.supported(wanted))
}

/// Attributes of a base page as a larger leaf has them; without its size mark if nothing is present there.
const fn large_form(page: X86Attrs) -> X86Attrs {
    let large = clear_protnone(page).page_to_large();
    if large.has(PRESENT) { large } else { X86Attrs(large.0 & !PSE) }
}

/// The attributes of the 512 leaves that replace a leaf of `level`.
///
/// Source: Linux 5.10–7.2 arch/x86/mm/pat/set_memory.c `__split_large_page`.
#[must_use]
pub const fn split_attrs(leaf: X86Attrs, level: Level, masks: Masks) -> X86Attrs {
    let page = clear_protnone(leaf.large_to_page());
    let smaller = match level {
        Level::Pud => large_form(page),
        Level::Pgd | Level::P4d | Level::Pmd | Level::Pte => page,
    };
    masks.supported(smaller)
}

/// The change that aliases get; `None` if they are left alone.
///
/// | era | aliases |
/// |---|---|
/// | to 6.1 | the whole change, unless it is exactly about NX (4.14 UNVERIFIED) |
/// | 6.12, 7.2 | the change without NX |
///
/// Source: Linux 5.10–7.2 arch/x86/mm/pat/set_memory.c `__change_page_attr_set_clr`, `cpa_process_alias`.
#[must_use]
pub const fn alias_change(era: Era, change: Masking) -> Option<Masking> {
    let rest = match era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 if change.set | change.clear == NX => return None,
        Era::V4_14 | Era::V5_10 | Era::V6_1 => change,
        Era::V6_12 | Era::V7_2 => Masking { set: change.set & !NX, clear: change.clear & !NX },
    };
    if rest.set | rest.clear == 0 { None } else { Some(rest) }
}

/// Where memory can be mapped a second time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AliasFacts {
    /// Physical address 0 in the direct map.
    pub page_offset: VirtAddr,
    /// One past the last address that the direct map holds.
    pub mapped_end: PhysAddr,
    /// [_text, _brk_end) in the image's own map.
    pub image: VirtRange,
    /// Frames from `_text` to the end of `_brk_end`'s 2 MiB.
    pub image_frames: PhysRange,
}

/// The aliases of one page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Aliases {
    /// In the direct map.
    pub direct: Option<VirtAddr>,
    /// In the image's own map; errors there do not count.
    pub image: Option<VirtAddr>,
}

impl AliasFacts {
    /// The aliases of the page at `va`, which maps `pa`; `direct_mapped` says whether the direct map holds it.
    ///
    /// | alias | changed when |
    /// |---|---|
    /// | direct map | the change was made elsewhere |
    /// | image | the frame is the image's, and the change was made outside [_text, _brk_end) |
    ///
    /// Source: Linux 5.10–7.2 arch/x86/mm/pat/set_memory.c `cpa_process_alias`.
    #[must_use]
    pub fn aliases(&self, va: VirtAddr, pa: PhysAddr, direct_mapped: bool) -> Aliases {
        if !direct_mapped {
            return Aliases { direct: None, image: None };
        }
        let in_direct = va >= self.page_offset && va.0 - self.page_offset.0 < self.mapped_end.0;
        let direct = (!in_direct).then(|| self.page_offset + pa.0);
        let image = (!self.image.contains(va) && self.image_frames.contains(pa))
            .then(|| self.image.start + (pa - self.image_frames.start));
        Aliases { direct, image }
    }
}
