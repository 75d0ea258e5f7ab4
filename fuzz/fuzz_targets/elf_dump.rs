//! Any bytes as an ELF dump: no panic; extents are sorted and apart; what the map has can be read, and nothing else.
#![no_main]

use std::sync::atomic::AtomicU64;

use kernmem_base::{PhysAddr, PhysRead};
use kernmem_dump::{ElfDump, Place};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if data.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        return; // the unpacker is another project's
    }
    let Ok(dump) = ElfDump::from_bytes(data.to_vec()) else { return };
    let mut last = 0;
    for extent in dump.map().extents() {
        assert!(extent.range.start.0 >= last && !extent.range.is_empty());
        last = extent.range.end.0;
        let mut byte = [0];
        let got = dump.read(extent.range.start, &mut byte);
        match extent.place {
            Place::File(offset) => assert_eq!(got.map(|()| byte[0]), Ok(data[offset as usize])),
            Place::Missing(fault) => assert_eq!(got.map_err(|error| error.fault), Err(fault)),
        }
        let _ = dump.table::<AtomicU64>(extent.range.start.align_down(4096), 512);
    }
    assert!(dump.read(PhysAddr(last), &mut [0]).is_err());
    let _ = (
        dump.notes().filter_map(|note| note.x86_control()).count(),
        dump.vmcoreinfo().map(|info| info.lines().count()),
    );
});
