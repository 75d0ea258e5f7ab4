//! Any tables, registers and addresses: the software MMU agrees with a second walker written here from the manuals, in
//! what it answers and in every mark that it leaves.
//!
//! The walkers share no code: this one knows bits by number, and reads and marks an array of its own.
#![no_main]

use std::sync::atomic::AtomicU64;

use kernmem_arch::arm64::ttbr::{HalfControl, TranslationControl};
use kernmem_arch::arm64::{Arm64Granule4K, mmu as arm64};
use kernmem_arch::x86::{X86Level4, X86Level5, mmu as x86};
use kernmem_arch::{FaultKind, MmuFormat};
use kernmem_base::{Access, Asid, Half, Level, PhysAddr, PhysMem, PhysRange, PhysRead, Privilege, Slot, VirtAddr};
use kernmem_pgtable::heap::HeapMem;
use kernmem_sim::{Mmu, TlbShape};
use libfuzzer_sys::fuzz_target;

/// Tables at pages 1 to 8.
const TABLES: usize = 8;

/// Entries that inputs fill, so that addresses meet them.
const INDICES: [usize; 4] = [0, 1, 300, 511];

struct Mirror(Box<[[u64; 512]; TABLES]>);

/// Where a walk ended: the byte and the level of the leaf, or the kind and the level of the fault.
type End = Result<(u64, usize), (FaultKind, Option<usize>)>;

/// An access: `user`, and what.
#[derive(Clone, Copy)]
struct Wish {
    va: u64,
    access: Access,
    user: bool,
}

fn bit(raw: u64, number: u32) -> bool {
    raw >> number & 1 == 1
}

impl Mirror {
    /// The entry of `va` in the table at `table` with `below` levels below it, if that is one of ours.
    fn at(&mut self, table: u64, va: u64, below: usize) -> Option<&mut u64> {
        let number = (table >> 12).checked_sub(1)? as usize;
        let index = va >> (12 + 9 * below) & 511;
        Some(&mut self.0.get_mut(number)?[index as usize])
    }

    fn arm64(&mut self, wish: Wish, control: &arm64::Control) -> End {
        let Wish { va, access, user } = wish;
        let none = (FaultKind::Translation, Some(0));
        let high = bit(va, 55);
        let (half, walks) = match high {
            true => (control.translation.upper, control.upper),
            false => (control.translation.lower, control.lower),
        };
        let is_fetch = access == Access::Execute;
        let ignores = half.ignores_top_byte && !(is_fetch && control.compares_fetched_tags);
        if (48..if ignores { 56 } else { 64 }).any(|number| bit(va, number) != high) {
            return Err(none);
        }
        if user && walks.refuses_user || walks.is_off {
            return Err(none);
        }
        let (mut table, mut taken) = (0x1000, 0);
        for level in 0..4 {
            let fault = |kind| (kind, Some(level));
            let raw = *self.at(table, va, 3 - level).ok_or(fault(FaultKind::External))?;
            let is_table = raw & 3 == 3 && level < 3;
            let is_leaf = raw & 3 == 3 && level == 3 || raw & 3 == 1 && (level == 1 || level == 2);
            if !is_table && !is_leaf {
                return Err(fault(FaultKind::Translation));
            }
            let size = if is_table { 12 } else { 39 - 9 * level as u32 };
            let address = raw & 0x0000_ffff_ffff_ffff & (!0 << size);
            if control.output_bits < 48 && address >> control.output_bits != 0 {
                return Err(fault(FaultKind::AddressSize));
            }
            if is_table {
                (table, taken) = (address, taken | raw);
                continue;
            }
            if !bit(raw, 10) && !control.sets_access_flag {
                return Err(fault(FaultKind::AccessFlag));
            }
            let is_clean = control.sets_dirty && bit(raw, 51) && bit(raw, 7);
            let can_write = (!bit(raw, 7) || is_clean) && !bit(taken, 62);
            let can_user = bit(raw, 6) && !bit(taken, 61);
            let (uxn, pxn) = (bit(raw, 54) || bit(taken, 60), bit(raw, 53) || bit(taken, 59));
            let kernel_data = !(control.pan && (can_user || control.epan && !uxn));
            let allowed = match (user, access) {
                (true, Access::Read) => can_user,
                (true, Access::Write) => can_user && can_write,
                (true, Access::Execute) => !(uxn || control.wxn && can_user && can_write),
                (false, Access::Read) => kernel_data,
                (false, Access::Write) => kernel_data && can_write,
                (false, Access::Execute) => !(pxn || can_write && (can_user || control.wxn)),
            };
            if !allowed {
                return Err(fault(FaultKind::Permission));
            }
            let dirty = if is_clean && access == Access::Write { 1 << 7 } else { 0 };
            *self.at(table, va, 3 - level).expect("it was read") = (raw | 1 << 10) & !dirty;
            return Ok((address | va & !(!0 << size), level));
        }
        unreachable!("level 3 ends a walk")
    }

    fn x86(&mut self, wish: Wish, control: &x86::Control, levels: usize) -> End {
        let Wish { va, access, user } = wish;
        let sign = 11 + 9 * levels as u32;
        if (sign + 1..64).any(|number| bit(va, number) != bit(va, sign)) {
            return Err((FaultKind::NonCanonical, None));
        }
        let (mut table, mut way) = (0x1000, Vec::new());
        let (mut can_write, mut can_user, mut nx) = (true, true, false);
        for level in 0..levels {
            let fault = |kind| (kind, Some(level));
            let below = levels - 1 - level;
            let raw = *self.at(table, va, below).ok_or(fault(FaultKind::External))?;
            if !bit(raw, 0) {
                return Err(fault(FaultKind::Translation));
            }
            let is_leaf = below == 0 || bit(raw, 7);
            let size = if is_leaf { 12 + 9 * below as u32 } else { 12 };
            let too_high = (control.physical_bits..52).any(|number| bit(raw, number));
            let too_low = is_leaf && below < 3 && (13..size).any(|number| bit(raw, number));
            let no_leaf = is_leaf && (below >= 3 || below == 2 && !control.has_gib_pages);
            if too_high || too_low || no_leaf || bit(raw, 63) && !control.nxe {
                return Err(fault(FaultKind::ReservedBit));
            }
            can_write &= bit(raw, 1);
            can_user &= bit(raw, 2);
            nx |= bit(raw, 63);
            way.push((table, raw));
            let address = raw & 0x000f_ffff_ffff_ffff & (!0 << size);
            if !is_leaf {
                table = address;
                continue;
            }
            let allowed = match (user, access) {
                (true, Access::Read) => can_user,
                (true, Access::Write) => can_user && can_write,
                (true, Access::Execute) => can_user && !nx,
                (false, Access::Read) => !(can_user && control.smap),
                (false, Access::Write) => !(can_user && control.smap) && (can_write || !control.wp),
                (false, Access::Execute) => !(nx || can_user && control.smep),
            };
            if !allowed {
                return Err(fault(FaultKind::Permission));
            }
            for (depth, &(table, _)) in way.iter().enumerate() {
                let dirty = if depth == level && access == Access::Write { 1 << 6 } else { 0 };
                *self.at(table, va, levels - 1 - depth).expect("it was read") |= 1 << 5 | dirty;
            }
            return Ok((address | va & !(!0 << size), level));
        }
        unreachable!("the last level ends a walk")
    }
}

fn arm64_control(flags: u16, bits: u8) -> arm64::Control {
    let has = |number: u32| bit(flags.into(), number);
    let half = |number| HalfControl { bits: 48, ignores_top_byte: has(number) };
    let walks = |number| arm64::WalkControl { is_off: has(number) && has(number + 1), refuses_user: has(number + 1) };
    arm64::Control {
        translation: TranslationControl { lower: half(0), upper: half(1) },
        compares_fetched_tags: has(2),
        lower: walks(3),
        upper: walks(5),
        output_bits: [48, 40, 36, 32][usize::from(bits % 4)],
        sets_access_flag: has(7),
        sets_dirty: has(8),
        pan: has(9),
        epan: has(10),
        wxn: has(11),
        ..Default::default()
    }
}

fn x86_control(flags: u16, bits: u8) -> x86::Control {
    let has = |number: u32| bit(flags.into(), number);
    x86::Control {
        physical_bits: [52, 46, 36, 32][usize::from(bits % 4)],
        has_gib_pages: has(0),
        nxe: has(1),
        wp: has(2),
        smep: has(3),
        smap: has(4),
        ..Default::default()
    }
}

/// Entries of 10 bytes, in memory and in the mirror.
fn fill(data: &[u8]) -> (HeapMem, Mirror) {
    let mem = HeapMem::new(PhysRange::new(PhysAddr(0x1000), PhysAddr(0x1000 * (TABLES as u64 + 1))));
    let mut mirror = Mirror(Box::new([[0; 512]; TABLES]));
    for bytes in data.chunks_exact(10).take(64) {
        let (table, index) = (usize::from(bytes[0]) % TABLES, INDICES[usize::from(bytes[1] % 4)]);
        let raw = u64::from_le_bytes(std::array::from_fn(|at| bytes[2 + at]));
        // Many entries name one of our tables.
        let raw = if bytes[1] & 4 == 0 { raw & 0xfff0_0000_0000_0fff | (1 + (raw >> 12 & 7)) << 12 } else { raw };
        mirror.0[table][index] = raw;
        mem.table_mut::<AtomicU64>(PhysAddr((table as u64 + 1) << 12), 512).expect("a table")[index]
            .store(raw, std::sync::atomic::Ordering::Relaxed);
    }
    (mem, mirror)
}

/// The MMU's answer in the mirror's words.
fn ask<F: MmuFormat>(mem: &HeapMem, control: F::Control, wish: Wish) -> End {
    let mut mmu = Mmu::<F>::new(&TlbShape::default());
    mmu.set_control(control);
    mmu.load_root(Half::Both, PhysAddr(0x1000), Asid(0));
    let number = |level: Level| F::shape().depth(level);
    let privilege = if wish.user { Privilege::User } else { Privilege::Kernel };
    let first = mmu.access(mem, VirtAddr(wish.va), wish.access, privilege);
    if let Ok(to) = first {
        let again = mmu.access(mem, VirtAddr(wish.va), wish.access, privilege).expect("the TLB has it");
        assert_eq!((again.pa, again.hit), (to.pa, true));
    }
    first.map(|to| (to.pa.0, number(to.leaf.level))).map_err(|fault| (fault.kind, fault.level.map(number)))
}

fuzz_target!(|data: &[u8]| {
    let Some((&[which, flags_low, flags_high, bits], data)) = data.split_first_chunk() else { return };
    let Some((wishes, data)) = data.split_first_chunk::<24>() else { return };
    let flags = u16::from_le_bytes([flags_low, flags_high]);
    let (mem, mut mirror) = fill(data);
    for wish in wishes.chunks_exact(6) {
        let levels = if which % 3 == 2 { 5 } else { 4 };
        let chosen = u16::from(wish[0]) | u16::from(wish[3]) << 8;
        let indices =
            (0..levels).map(|level| (INDICES[usize::from(chosen >> (2 * level) & 3)] as u64) << (12 + 9 * level));
        let low = indices.fold(u64::from(wish[1]) << 4, |va, index| va | index);
        let high = match wish[2] % 4 {
            0 => 0,
            1 => 0xffff,
            2 if bit(low, 11 + 9 * levels as u32) => 0xffff,
            2 => 0,
            _ => u64::from(u16::from_le_bytes([wish[3], wish[4]])),
        };
        let access = [Access::Read, Access::Write, Access::Execute][usize::from(wish[5] % 3)];
        let wish = Wish { va: high << (12 + 9 * levels) | low, access, user: wish[5] & 0x80 != 0 };
        let (arm64, x86) = (arm64_control(flags, bits), x86_control(flags, bits));
        let (expected, got) = match which % 3 {
            0 => (mirror.arm64(wish, &arm64), ask::<Arm64Granule4K>(&mem, arm64, wish)),
            1 => (mirror.x86(wish, &x86, levels), ask::<X86Level4>(&mem, x86, wish)),
            _ => (mirror.x86(wish, &x86, levels), ask::<X86Level5>(&mem, x86, wish)),
        };
        assert_eq!(got, expected, "{:#x} {:?}", wish.va, wish.access);
        for (number, table) in mirror.0.iter().enumerate() {
            let slots = mem.table::<AtomicU64>(PhysAddr((number as u64 + 1) << 12), 512).expect("a table");
            for index in INDICES {
                assert_eq!(Slot::load(&slots[index]), table[index], "table {number}, entry {index}");
            }
        }
    }
});
