//! A crash kernel's devicetree names the memory it may use: nothing else is memory to it.

use kernmem::Boot;
use kernmem_base::{PhysAddr, PhysRange};
use kernmem_sim::Memory;
use kernmem_source::Source;

#[test]
fn memory_is_cut_to_the_first_usable_range_and_the_second_is_added() {
    let range = |start, end| PhysRange::new(PhysAddr(start), PhysAddr(end));
    let mut source = Source::open("arm64-4g").expect("a preset");
    let (first, second) = (range(0x4000_0000, 0x8000_0000), range(0xf000_0000, 0xf800_0000));
    source.machine.usable_ranges = vec![first, second];
    let boot = Boot::new(&source.machine, &source.config);
    let memory = Memory::new(kernmem::memory_ranges(&boot)).expect("memory of the simulated machine");
    let kernel = kernmem_live::boot(&memory, &boot, ()).expect("a machine that boots");
    let regions: Vec<PhysRange> = kernel.memblock.memory().regions().iter().map(|region| region.range()).collect();
    assert_eq!(regions, [first, second]);
}
