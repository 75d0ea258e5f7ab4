//! Who may do what, and the marks that the hardware leaves: the second half of a walk.
//!
//! ```text
//! Arm ARM D8.4, D8.5   AP in 7:6, AF 10, DBM 51, PXN 53, UXN 54; tables: 59 PXN, 60 UXN, 61 and 62 AP
//! SDM 4.6, 4.8         R/W 1, U/S 2, accessed 5, dirty 6, XD 63; an entry of PAE's root has neither rights nor marks
//! ```

use kernmem_arch::FaultKind;
use kernmem_arch::arm64::mmu as arm64;
use kernmem_arch::x86::mmu as x86;
use kernmem_base::Access;

use super::{Read, Says, Tables, Words, bit, part};

/// Registers, whose values are inputs to both walkers.
#[derive(Clone, Copy, Debug)]
pub enum Registers {
    /// arm64's.
    Arm64(arm64::Control),
    /// x86's.
    X86(x86::Control),
}

/// An access: `user`, and what.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    pub va: u64,
    pub access: Access,
    pub user: bool,
}

/// Where an access ended: the byte and log2 of the leaf's bytes; or the kind, and the number of the level counted from
/// the root, where there is one.
pub type Answer = Result<(u64, u32), (FaultKind, Option<usize>)>;

/// An access from `root`, and what it leaves in memory: the address and the new bits of each entry it marks. `None`
/// where the walk meets a leaf of a size that Linux never makes.
pub fn access(
    tables: Tables,
    memory: &impl Words,
    root: u64,
    wish: Wish,
    registers: &Registers,
) -> Option<(Answer, Vec<(u64, u64)>)> {
    let done = match registers {
        Registers::Arm64(control) => arm64_access(tables, memory, root, wish, control),
        Registers::X86(control) => x86_access(tables, memory, root, wish, control),
    };
    match done {
        Ok((byte, shift, marks)) => Some((Ok((byte, shift)), marks)),
        Err(Stop::Fault(kind, level)) => Some((Err((kind, level)), Vec::new())),
        Err(Stop::Huge) => None,
    }
}

/// Why an access does not reach memory.
enum Stop {
    Fault(FaultKind, Option<usize>),
    Huge,
}

type Done = Result<(u64, u32, Vec<(u64, u64)>), Stop>;

/// The reads of a walk; what ends it is looked at entry by entry.
fn way(tables: Tables, memory: &impl Words, root: u64, va: u64) -> impl Iterator<Item = Option<Read>> {
    let (reads, end) = tables.walk(memory, root, va);
    let outside = (end == super::End::Outside).then_some(None);
    reads.into_iter().map(Some).chain(outside)
}

fn arm64_access(tables: Tables, memory: &impl Words, root: u64, wish: Wish, control: &arm64::Control) -> Done {
    let Wish { va, access, user } = wish;
    let nowhere = || Stop::Fault(FaultKind::Translation, Some(0));
    let high = bit(va, 55);
    let (half, walks) = match high {
        true => (control.translation.upper, control.upper),
        false => (control.translation.lower, control.lower),
    };
    let ignores = half.ignores_top_byte && !(access == Access::Execute && control.compares_fetched_tags);
    if (tables.bits()..if ignores { 56 } else { 64 }).any(|number| bit(va, number) != high) {
        return Err(nowhere());
    }
    if user && walks.refuses_user || walks.is_off {
        return Err(nowhere());
    }
    let too_large = |address: u64| control.output_bits < 64 && address >> control.output_bits != 0;
    if too_large(root) {
        return Err(Stop::Fault(FaultKind::AddressSize, Some(0)));
    }
    let mut taken = 0;
    for (level, read) in way(tables, memory, root, va).enumerate() {
        let fault = |kind| Stop::Fault(kind, Some(level));
        let Some(Read { table, index, shift, raw, says }) = read else { return Err(fault(FaultKind::External)) };
        let base = match says {
            Says::Nothing | Says::Malformed => return Err(fault(FaultKind::Translation)),
            Says::Huge => return Err(Stop::Huge),
            Says::Table(next) if too_large(next) => return Err(fault(FaultKind::AddressSize)),
            Says::Table(_) => {
                taken |= raw;
                continue;
            }
            Says::Leaf(base) if too_large(base) => return Err(fault(FaultKind::AddressSize)),
            Says::Leaf(base) => base,
        };
        if !bit(raw, 10) && !control.sets_access_flag {
            return Err(fault(FaultKind::AccessFlag));
        }
        let is_clean = control.sets_dirty && bit(raw, 51) && bit(raw, 7);
        if !arm64_allows(raw, taken, is_clean, wish, control) {
            return Err(fault(FaultKind::Permission));
        }
        let dirty = if is_clean && access == Access::Write { 1 << 7 } else { 0 };
        let marked = (raw | 1 << 10) & !dirty;
        return Ok((base + va % (1 << shift), shift, vec![(table + 8 * index, marked)]));
    }
    unreachable!("a walk ends")
}

/// Rights of a leaf below tables whose bits together are `taken`.
fn arm64_allows(raw: u64, taken: u64, is_clean: bool, wish: Wish, control: &arm64::Control) -> bool {
    let can_write = (!bit(raw, 7) || is_clean) && !bit(taken, 62);
    let can_user = bit(raw, 6) && !bit(taken, 61);
    let (uxn, pxn) = (bit(raw, 54) || bit(taken, 60), bit(raw, 53) || bit(taken, 59));
    let kernel_data = !(control.pan && (can_user || control.epan && !uxn));
    match (wish.user, wish.access) {
        (true, Access::Read) => can_user,
        (true, Access::Write) => can_user && can_write,
        (true, Access::Execute) => !(uxn || control.wxn && can_user && can_write),
        (false, Access::Read) => kernel_data,
        (false, Access::Write) => kernel_data && can_write,
        (false, Access::Execute) => !(pxn || can_write && (can_user || control.wxn)),
    }
}

fn x86_access(tables: Tables, memory: &impl Words, root: u64, wish: Wish, control: &x86::Control) -> Done {
    let (va, bits) = (wish.va, tables.bits());
    let sign = bits > 32 && bit(va, bits - 1);
    if (bits..64).any(|number| bit(va, number) != sign) {
        return Err(Stop::Fault(FaultKind::NonCanonical, None));
    }
    let mut marks = Vec::new();
    let (mut can_write, mut can_user, mut nx) = (true, true, false);
    for (level, read) in way(tables, memory, root, va).enumerate() {
        let fault = |kind| Stop::Fault(kind, Some(level));
        let Some(Read { table, index, shift, raw, says }) = read else { return Err(fault(FaultKind::External)) };
        match says {
            Says::Nothing => return Err(fault(FaultKind::Translation)),
            Says::Malformed => return Err(fault(FaultKind::ReservedBit)),
            Says::Huge | Says::Table(_) | Says::Leaf(_) => {}
        }
        let is_leaf = matches!(says, Says::Leaf(_));
        let too_high = part(raw, 51, 12) >> control.physical_bits != 0;
        let no_leaf = is_leaf && shift == 30 && !control.has_gib_pages;
        let is_wide = tables != Tables::Plain32;
        if is_wide && (too_high || bit(raw, 63) && !control.nxe) || no_leaf {
            return Err(fault(FaultKind::ReservedBit));
        }
        let is_pae_root = tables == Tables::Pae && shift == 30;
        if !is_pae_root {
            can_write &= bit(raw, 1);
            can_user &= bit(raw, 2);
            nx |= is_wide && bit(raw, 63);
            let dirty = if is_leaf && wish.access == Access::Write { 1 << 6 } else { 0 };
            marks.push((table + index * tables.entry(), raw | 1 << 5 | dirty));
        }
        let Says::Leaf(base) = says else { continue };
        if !x86_allows(can_write, can_user, nx, wish, control) {
            return Err(fault(FaultKind::Permission));
        }
        return Ok((base + va % (1 << shift), shift, marks));
    }
    unreachable!("a walk ends")
}

fn x86_allows(can_write: bool, can_user: bool, nx: bool, wish: Wish, control: &x86::Control) -> bool {
    match (wish.user, wish.access) {
        (true, Access::Read) => can_user,
        (true, Access::Write) => can_user && can_write,
        (true, Access::Execute) => can_user && !nx,
        (false, Access::Read) => !(can_user && control.smap),
        (false, Access::Write) => !(can_user && control.smap) && (can_write || !control.wp),
        (false, Access::Execute) => !(nx || can_user && control.smep),
    }
}
