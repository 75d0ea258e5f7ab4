//! `kernmem-pgtable` in row P7: one tree that the threads share, each with a handle, cursors and frames of its own.

use kernmem_base::{NoTlb, PhysAddr};
use kernmem_pgtable::{CpuSlot, CpuTables, Failed, MapError, Mapping, SharedTables, Sizes, Stale};

use super::formats::Measured;
use super::memory::{ArenaFrames, HostMem};
use super::tables::{empty, range, refused};
use crate::arena;
use crate::tables::{Crew, PA, Spent, Worker, in_threads};

/// A thread's handle of the shared tree.
struct Cpu<'s, 'm, F: Measured> {
    tables: CpuTables<'s, 'm, F, HostMem>,
    frames: ArenaFrames,
    mapping: Mapping<F>,
}

impl<F: Measured> Cpu<'_, '_, F> {
    fn settle(&mut self, done: Result<Stale, Failed>) {
        match done {
            Ok(stale) => self.tables.pay(stale, &mut NoTlb, &mut self.frames),
            Err(failed) => refused(F::NAME, failed.error),
        }
    }
}

/// The 2 MiB at `va`.
const SIZE: u64 = 2 << 20;

impl<F: Measured> Worker for Cpu<'_, '_, F> {
    fn map(&mut self, va: u64) {
        let cursor = self.tables.cursor(range(va, SIZE));
        let done = cursor.map_err(failed).and_then(|mut cursor| cursor.map(&mut self.frames, &self.mapping));
        self.settle(done);
    }

    fn unmap(&mut self, va: u64) {
        let done = self.tables.cursor(range(va, SIZE)).map_err(failed).and_then(|mut cursor| cursor.unmap());
        self.settle(done);
    }
}

/// No cursor was made, so nothing is owed.
fn failed(error: MapError) -> Failed {
    error.into()
}

/// P7 without an outer lock. A thread that waits long for another gives its CPU away: there may be more threads than
/// CPUs.
pub fn threads<F: Measured>(crew: Crew) -> Spent {
    arena::reset(F::PAGE_SHIFT);
    let mut slots: Vec<CpuSlot> = (0..crew.threads).map(|_| CpuSlot::default()).collect();
    let tables = SharedTables::new(empty::<F>(&mut ArenaFrames), &mut slots).expect("an empty tree");
    let tables = tables.with_wait(|looks| if looks < 64 { core::hint::spin_loop() } else { std::thread::yield_now() });
    in_threads(crew, |thread| {
        let mapping = Mapping::new(PhysAddr(PA), F::attrs(F::DATA), Sizes::PAGES);
        let mapping = mapping.with_table_attrs(F::attrs(F::LINK));
        Cpu { tables: tables.cpu(thread).expect("a slot for each thread"), frames: ArenaFrames, mapping }
    })
}

#[cfg(test)]
mod tests {
    use kernmem_arch::EntryFormat;
    use kernmem_arch::arm64::Arm64;
    use kernmem_base::VirtAddr;
    use kernmem_pgtable::Walk;

    use super::*;

    #[test]
    fn a_worker_maps_and_unmaps_its_two_megabytes() {
        type F = Arm64<12, 48>;
        arena::reset(12);
        let mut slots = [CpuSlot::default()];
        let tables = SharedTables::new(empty::<F>(&mut ArenaFrames), &mut slots).unwrap();
        let mapping = Mapping::new(PhysAddr(PA), F::attrs(F::DATA), Sizes::PAGES);
        let mut cpu = Cpu { tables: tables.cpu(0).unwrap(), frames: ArenaFrames, mapping };
        let va = VirtAddr(F::FIRST + 0x1f_f008);
        cpu.map(F::FIRST);
        let walk = cpu.tables.translate(va).unwrap();
        assert!(matches!(walk, Walk::Mapped { pa, .. } if pa == PhysAddr(PA + 0x1f_f008)), "{walk:?}");
        cpu.unmap(F::FIRST);
        assert!(matches!(cpu.tables.translate(va), Ok(Walk::Hole { .. })));
    }
}
