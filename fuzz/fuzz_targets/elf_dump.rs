//! Any bytes as an ELF dump: no panic; extents are sorted and apart; what the map has can be read, and nothing else.
#![no_main]

use std::sync::atomic::AtomicU64;

use kernmem_base::{PhysAddr, PhysRead};
use kernmem_dump::{ElfDump, Place};
use libfuzzer_sys::fuzz_target;

/// Long inputs get what every core file has, so that what follows is reached.
fn patched(data: &[u8]) -> Vec<u8> {
    let mut file = data.to_vec();
    if file.len() >= 120 && file[7].is_multiple_of(2) {
        file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        file[16..18].copy_from_slice(&[4, 0]);
        file[32..40].copy_from_slice(&[64, 0, 0, 0, 0, 0, 0, 0]);
        file[54..56].copy_from_slice(&[56, 0]);
        file[56..58].copy_from_slice(&[(data[56] & 7).max(1), 0]);
        file[64..68].copy_from_slice(&[1, 0, 0, 0]);
    }
    file
}

fuzz_target!(|data: &[u8]| {
    if data.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        return; // the unpacker is another project's
    }
    let data = patched(data);
    let Ok(dump) = ElfDump::from_bytes(data.clone()) else { return };
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
