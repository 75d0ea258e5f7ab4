//! arm64's ASIDs beside a naive model: who runs where, and under which number.
//!
//! After each switch:
//! 1. Contexts that run on different CPUs have different ASIDs; one that runs on two CPUs has one, and knows it.
//! 2. No context runs under ASID 0, and with pairs none under an odd one.
//! 3. A CPU that has not flushed since a number was last somebody else's does not run under it.
#![allow(clippy::unwrap_used, reason = "a test stops where an answer is missing")]

use std::collections::{BTreeMap, BTreeSet};

use kernmem_arch::arm64::Arm64Granule4K;
use kernmem_arch::x86::X86Level4;
use kernmem_base::{Asid, Cpu, CpuId, Era, Granule, Half, Pfn, PhysAddr, PhysRange, Tlb, VirtAddr, VirtRange};
use kernmem_mm::{
    AsidAllocator, AsidCpu, AsidError, ContextId, KernelHalf, KernelSharing, Limits, PcidSlots, Region, Space,
    switch_to, to_kernel_thread,
};
use kernmem_page_alloc::pool::FramePool;
use kernmem_pgtable::heap::HeapMem;
use proptest::prelude::*;

const CPUS: usize = 4;

fn play(bits: u32, has_pairs: bool, spaces: usize, switches: impl IntoIterator<Item = (u8, u16)>) -> u64 {
    let mut map = vec![0; AsidAllocator::map_words(bits)];
    let mut cpus = [AsidCpu::default(); CPUS];
    let mut allocator = AsidAllocator::new(bits, has_pairs, &mut map, &mut cpus).unwrap();
    let mut contexts = vec![ContextId::default(); spaces];
    let mut running: [Option<(usize, Asid)>; CPUS] = [None; CPUS];
    // Whose translations each CPU may hold, by number.
    let mut held = vec![BTreeMap::<Asid, usize>::new(); CPUS];
    for (cpu, space) in switches {
        let (cpu, space) = (usize::from(cpu) % CPUS, usize::from(space) % spaces);
        let switch = allocator.switch_to(CpuId(cpu as u32), &mut contexts[space]).unwrap();
        if switch.flush_local {
            held[cpu].clear();
        }
        running[cpu] = Some((space, switch.asid));
        assert_eq!(switch.asid, contexts[space].asid());
        assert_ne!(switch.asid, Asid(0));
        assert!(u64::from(switch.asid.0) < 1 << bits && !(has_pairs && switch.asid.0 % 2 == 1));
        let owner = *held[cpu].entry(switch.asid).or_insert(space);
        assert_eq!(owner, space, "CPU {cpu} holds translations of another space under {:?}", switch.asid);
        exclusive(&running, &contexts);
    }
    allocator.generation()
}

fn exclusive(running: &[Option<(usize, Asid)>; CPUS], contexts: &[ContextId]) {
    let loaded: BTreeSet<(usize, Asid)> = running.iter().flatten().copied().collect();
    let spaces: BTreeSet<usize> = loaded.iter().map(|(space, _)| *space).collect();
    let numbers: BTreeSet<Asid> = loaded.iter().map(|(_, asid)| *asid).collect();
    assert_eq!((numbers.len(), loaded.len()), (spaces.len(), spaces.len()), "a number is shared, or a space has two");
    assert!(loaded.iter().all(|(space, asid)| contexts[*space].asid() == *asid));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn spaces_that_run_never_share_a_number(
        has_pairs in any::<bool>(),
        switches in proptest::collection::vec(any::<(u8, u16)>(), 1..2000),
    ) {
        play(8, has_pairs, 300, switches);
    }
}

/// By hand: 255 spaces take all numbers of the first generation, with pairs 127; the next one begins the second.
#[test]
fn a_generation_ends_when_every_number_is_taken() {
    for (has_pairs, numbers) in [(false, 255_u16), (true, 127)] {
        let all = (0..numbers).map(|space| (0, space));
        assert_eq!(play(8, has_pairs, 300, all.clone()), 1);
        assert_eq!(play(8, has_pairs, 300, all.chain([(0, numbers)])), 2);
    }
    assert_eq!(play(16, false, 0x1_0000, (0..0xffff).map(|space| (0, space))), 1);
    assert_eq!(play(16, true, 0x1_0000, (0..0x8000).map(|space| (0, space))), 2);
}

/// By hand: CPU 1 runs space 0 while CPU 0 uses up all numbers; space 0 keeps its number, in the new generation, and
/// CPU 1 flushes at its next switch and not at the one behind it.
#[test]
fn what_runs_at_a_roll_over_keeps_its_number() {
    let mut map = vec![0; AsidAllocator::map_words(8)];
    let mut cpus = [AsidCpu::default(); 2];
    let mut allocator = AsidAllocator::new(8, false, &mut map, &mut cpus).unwrap();
    let mut contexts = vec![ContextId::default(); 256];
    let first = allocator.switch_to(CpuId(1), &mut contexts[0]).unwrap();
    assert_eq!((first.asid, first.flush_local), (Asid(1), false));
    for context in &mut contexts[1..255] {
        allocator.switch_to(CpuId(0), context).unwrap();
    }
    assert_eq!((contexts[254].asid(), contexts[254].generation()), (Asid(255), 1));
    let over = allocator.switch_to(CpuId(0), &mut contexts[255]).unwrap();
    // 1 is reserved for space 0, 255 was running on CPU 0 itself.
    assert_eq!((over.asid, over.flush_local, contexts[255].generation()), (Asid(2), true, 2));
    let again = allocator.switch_to(CpuId(1), &mut contexts[0]).unwrap();
    assert_eq!((again.asid, again.flush_local, contexts[0].generation()), (Asid(1), true, 2));
    let more = allocator.switch_to(CpuId(1), &mut contexts[0]).unwrap();
    assert!(!more.flush_local);
    // Its number was free in the new generation: space 9 (ASID 10) takes it again.
    assert_eq!(allocator.switch_to(CpuId(1), &mut contexts[9]).unwrap().asid, Asid(10));
}

#[test]
fn the_boot_line_s_numbers_and_what_cannot_be() {
    let entries = |bits, has_pairs| {
        let mut map = vec![0; AsidAllocator::map_words(bits)];
        AsidAllocator::new(bits, has_pairs, &mut map, &mut [AsidCpu::default(); 2]).unwrap().entries()
    };
    assert_eq!(
        [(16, false), (16, true), (8, false), (8, true)].map(|(bits, pairs)| entries(bits, pairs)),
        [65536, 32768, 256, 128]
    );
    let mut map = [0; 4];
    let refused = |bits, map: &mut [u64], cpus: &mut [AsidCpu]| AsidAllocator::new(bits, true, map, cpus).unwrap_err();
    assert_eq!(refused(12, &mut map, &mut []), AsidError::Width { bits: 12 });
    assert_eq!(refused(16, &mut map, &mut []), AsidError::Map { words: 4 });
    let mut many = [AsidCpu::default(); 127];
    assert_eq!(refused(8, &mut map, &mut many), AsidError::TooManyCpus { cpus: 127 });
    let mut cpus = [AsidCpu::default(); 1];
    let mut allocator = AsidAllocator::new(8, true, &mut map, &mut cpus).unwrap();
    assert_eq!(allocator.user_asid(Asid(6)), Asid(7));
    assert_eq!(allocator.switch_to(CpuId(1), &mut ContextId::default()), Err(AsidError::NoCpu(CpuId(1))));
}

/// A CPU that writes down what it is told.
#[derive(Debug, Default)]
struct Told(Vec<String>);

impl Tlb for Told {
    fn flush(&mut self, range: VirtRange, _tables: bool) {
        self.0.push(format!("flush {}", if range == VirtRange::ALL { "all" } else { "some" }));
    }

    fn flush_space(&mut self, asid: Asid, _range: Option<VirtRange>, _tables: bool) {
        self.0.push(format!("flush {}", asid.0));
    }
}

impl Cpu for Told {
    fn id(&self) -> CpuId {
        CpuId(0)
    }

    fn load_root(&mut self, half: Half, root: PhysAddr, asid: Asid) {
        self.0.push(format!("{half:?} {root} {}", asid.0));
    }

    fn flush_local(&mut self, _va: VirtAddr) {}
}

#[test]
fn a_switch_loads_one_half_on_arm64_and_both_on_x86() {
    let mem = HeapMem::new(PhysRange::new(PhysAddr(0), PhysAddr(0x8000)));
    let mut pool = FramePool::new(Granule::K4, Pfn(1), Pfn(8));
    let vmalloc = VirtRange { start: VirtAddr(0xffff_c900_0000_0000), last: VirtAddr(0xffff_e8ff_ffff_ffff) };
    let mut kernel =
        KernelHalf::<X86Level4, Vec<_>>::new(PhysAddr(0), KernelSharing::Preallocated, Era::V6_1, vmalloc, Vec::new());
    let (one, two) = (kernel.new_root(&mem, &mut pool).unwrap(), kernel.new_root(&mem, &mut pool).unwrap());

    let (mut x86, mut slots) = (Told::default(), PcidSlots::new(true));
    let mut space = Space::<X86Level4, Vec<Region>>::new(one, Limits::x86_64(), Vec::new());
    for _ in 0..2 {
        let switch = slots.switch_to(77, space.tlb_gen());
        switch_to(&mut x86, &mut space, switch.into());
    }
    assert!(!to_kernel_thread::<X86Level4>(&mut x86, PhysAddr(0x7000)));
    assert_eq!(x86.0, ["flush 1", "Both 0x1000 1", "Both 0x1000 1"]);

    let (mut map, mut cpus) = (vec![0; 4], [AsidCpu::default()]);
    let mut allocator = AsidAllocator::new(8, false, &mut map, &mut cpus).unwrap();
    let mut arm64 = Told::default();
    let mut space = Space::<Arm64Granule4K, Vec<Region>>::new(two, Limits::arm64_48(), Vec::new());
    let switch = allocator.switch_to(CpuId(0), space.context_mut()).unwrap();
    switch_to(&mut arm64, &mut space, switch.into());
    assert_eq!(space.asid(), space.context().asid());
    assert!(to_kernel_thread::<Arm64Granule4K>(&mut arm64, PhysAddr(0x7000)));
    assert_eq!(arm64.0, ["Lower 0x2000 1", "Lower 0x7000 0"]);
}
