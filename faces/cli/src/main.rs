//! The command `kernmem`.
use kernmem::Boot;
use kernmem_sim::Memory;
use kernmem_source::Source;
use kernmem_view::{BootRecord, RootKind};

fn main() {
    let path = std::env::args().nth(1).unwrap();
    let source = Source::open(&path).unwrap();
    let boot = Boot { machine: &source.machine, config: &source.config };
    let memory = Memory::new(kernmem::memory_ranges(&boot)).unwrap();
    let mut record = BootRecord::default();
    let kernel = kernmem::boot(&memory, &boot, &mut record).unwrap();
    let mut text = String::new();
    kernmem_report::ptdump::linux(&kernel, RootKind::Kernel, &mut text).unwrap();
    print!("{text}");
}
