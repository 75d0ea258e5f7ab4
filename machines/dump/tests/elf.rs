//! Small ELF dumps made by hand: what is there, what is missing and why, and what damage does.
#![allow(clippy::unwrap_used, reason = "a test stops where an answer is missing")]

use core::sync::atomic::{AtomicU32, AtomicU64};
use std::fs;
use std::path::Path;

use kernmem_base::{BusError, BusFault, PhysAddr, PhysRead, Slot};
use kernmem_dump::{DumpFault, ElfDump, Machine};
use proptest::prelude::*;
use proptest::test_runner::Config;

/// A program header: type, offset, physical address, bytes in the file, bytes in memory.
type Header = (u32, u64, u64, u64, u64);

const LOAD: u32 = 1;
const NOTE: u32 = 4;

/// An arm64 core file with program headers at 64 and `data` behind them.
fn elf(headers: &[Header], data: &[u8]) -> Vec<u8> {
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(64, 0);
    file[16] = 4;
    file[18] = 183;
    file[32] = 64;
    file[54] = 56;
    file[56..58].copy_from_slice(&(headers.len() as u16).to_le_bytes());
    for &(kind, offset, pa, in_file, in_memory) in headers {
        file.extend(kind.to_le_bytes());
        file.extend([0; 4]);
        for word in [offset, 0, pa, in_file, in_memory, 0] {
            file.extend(word.to_le_bytes());
        }
    }
    file.extend(data);
    file
}

/// Where the data of a file with `headers` headers begins.
const fn data_at(headers: u64) -> u64 {
    64 + headers * 56
}

fn open(file: Vec<u8>) -> ElfDump {
    ElfDump::from_bytes(file).unwrap()
}

fn fault(dump: &ElfDump, pa: u64) -> (u64, BusFault) {
    let BusError { pa, fault } = dump.read(PhysAddr(pa), &mut [0; 4]).unwrap_err();
    (pa.0, fault)
}

#[test]
fn memory_is_read_as_slots_of_both_widths() {
    let data: Vec<u8> = (0..32).collect();
    let dump = open(elf(&[(LOAD, data_at(1), 0x4000_0000, 32, 32)], &data));
    assert_eq!(dump.machine(), Machine::Arm64);
    let table = dump.table::<AtomicU64>(PhysAddr(0x4000_0008), 2).unwrap();
    assert_eq!([Slot::load(&table[0]), Slot::load(&table[1])], [0x0f0e_0d0c_0b0a_0908, 0x1716_1514_1312_1110]);
    let narrow = dump.table::<AtomicU32>(PhysAddr(0x4000_0004), 1).unwrap();
    assert_eq!(Slot::load(&narrow[0]), 0x0706_0504);
    assert_eq!(dump.entry::<AtomicU64>(PhysAddr(0x4000_0000), 3), Ok(0x1f1e_1d1c_1b1a_1918));
    assert!(dump.table::<AtomicU64>(PhysAddr(0x4000_0000), 0).unwrap().is_empty());
    let misaligned = BusError { pa: PhysAddr(0x4000_0004), fault: BusFault::Misaligned };
    assert_eq!(dump.table::<AtomicU64>(PhysAddr(0x4000_0004), 1).err(), Some(misaligned));
    let hole = BusError { pa: PhysAddr(0x4000_0020), fault: BusFault::Hole };
    assert_eq!(dump.table::<AtomicU64>(PhysAddr(0x4000_0018), 2).err(), Some(hole));
    assert_eq!(dump.entry::<AtomicU64>(PhysAddr(0x4000_0000), 4).err(), Some(hole));
    assert!(dump.table::<AtomicU64>(PhysAddr(0x4000_0000), usize::MAX).is_err());
    assert!(dump.entry::<AtomicU64>(PhysAddr(0x4000_0000), usize::MAX).is_err());
}

#[test]
fn each_reason_for_missing_memory_is_told_apart() {
    let at = data_at(2);
    let headers = [(LOAD, at, 0x1000, 0x10, 0x20), (LOAD, at + 0x10, 0x2000, 0x10, 0x10)];
    let mut file = elf(&headers, &[7; 0x18]); // cut in the middle of the second segment
    let dump = open(file.clone());
    assert_eq!(fault(&dump, 0x0ffc), (0x0ffc, BusFault::Hole));
    assert_eq!(fault(&dump, 0x100e), (0x1010, BusFault::Excluded));
    assert_eq!(fault(&dump, 0x1020), (0x1020, BusFault::Hole));
    assert_eq!(fault(&dump, 0x2006), (0x2008, BusFault::Truncated));
    assert_eq!(fault(&dump, u64::MAX), (u64::MAX, BusFault::Hole));
    file[48] = 1;
    assert_eq!(fault(&open(file), 0x2006), (0x2008, BusFault::Lost));
}

#[test]
fn a_read_crosses_segments_that_touch() {
    let at = data_at(2);
    let dump = open(elf(&[(LOAD, at + 4, 0x1004, 4, 4), (LOAD, at, 0x1000, 4, 4)], b"abcdefgh"));
    let mut buf = [0; 8];
    dump.read(PhysAddr(0x1000), &mut buf).unwrap();
    assert_eq!(&buf, b"abcdefgh");
    assert_eq!(dump.ranges().map(|range| range.size()).sum::<u64>(), 8);
}

#[test]
fn where_segments_overlap_data_wins_and_then_the_earlier() {
    let at = data_at(4);
    let headers = [
        (LOAD, at, 0x1004, 0, 0x20),    // all excluded
        (LOAD, at, 0x1008, 4, 4),       // "abcd"
        (LOAD, at + 4, 0x1000, 16, 16), // "ABCDEFGHIJKLMNOP"
        (LOAD, at, u64::MAX, 4, 4),     // virtual only
    ];
    let dump = open(elf(&headers, b"abcdABCDEFGHIJKLMNOP"));
    let mut buf = [0; 16];
    dump.read(PhysAddr(0x1000), &mut buf).unwrap();
    assert_eq!(&buf, b"ABCDEFGHabcdMNOP");
    assert_eq!(fault(&dump, 0x1010), (0x1010, BusFault::Excluded));
    assert_eq!(fault(&dump, 0x1024), (0x1024, BusFault::Hole));
    assert_eq!(dump.segments().len(), 4);
}

#[test]
fn the_note_of_the_kernel_is_found() {
    let text = b"OSRELEASE=6.1.192\n";
    let mut note = Vec::new();
    note.extend([11, 0, 0, 0, text.len() as u8, 0, 0, 0, 0, 0, 0, 0]);
    note.extend(b"VMCOREINFO\0\0");
    note.extend(text);
    let at = data_at(2);
    let headers = [(NOTE, at, 0, note.len() as u64, 0), (LOAD, 0, 0x1000, 8, 8)];
    let dump = open(elf(&headers, &note));
    assert_eq!(dump.vmcoreinfo().unwrap().release(), Some("6.1.192"));
    assert_eq!(dump.notes().count(), 1);
    let beyond = [(NOTE, u64::MAX - 9, 0, 9, 0), (LOAD, 0, 0x1000, 8, 8)];
    assert!(open(elf(&beyond, &[])).vmcoreinfo().is_none());
}

#[test]
fn the_count_of_very_many_segments_is_in_the_first_section_header() {
    let mut file = elf(&[(LOAD, 0, 0x1000, 8, 8), (LOAD, 0, 0x2000, 8, 8)], &[0; 64]);
    let section = data_at(2);
    file[40] = section as u8;
    file[section as usize + 44] = 2;
    file[56..58].copy_from_slice(&[0xff, 0xff]);
    assert_eq!(open(file).segments().len(), 2);
}

/// The place of the error that opening `file` gives, if its fault is the expected one.
#[track_caller]
fn check_error(file: Vec<u8>, offset: u64, is_expected: fn(&DumpFault) -> bool) {
    let error = ElfDump::from_bytes(file).unwrap_err();
    assert!(error.offset == offset && is_expected(&error.fault), "{error}");
}

#[test]
fn damage_is_named_with_its_place() {
    let good = || elf(&[(LOAD, 0, 0x1000, 8, 8)], &[]);
    let with = |at: usize, byte: u8| {
        let mut file = good();
        file[at] = byte;
        file
    };
    check_error(Vec::new(), 0, |fault| matches!(fault, DumpFault::NoElf));
    check_error(b"KDUMP   ".to_vec(), 0, |fault| matches!(fault, DumpFault::OtherContainer { .. }));
    check_error(good()[..40].to_vec(), 0, |fault| matches!(fault, DumpFault::Short { wanted: 64 }));
    check_error(with(4, 1), 4, |fault| matches!(fault, DumpFault::OtherElf));
    check_error(with(5, 2), 4, |fault| matches!(fault, DumpFault::OtherElf));
    check_error(with(16, 2), 16, |fault| matches!(fault, DumpFault::NoCore { kind: 2 }));
    check_error(with(54, 55), 54, |fault| matches!(fault, DumpFault::HeaderSize { bytes: 55 }));
    check_error(with(56, 2), 64, |fault| matches!(fault, DumpFault::Short { wanted: 112 }));
    check_error(with(39, 0xff), 0xff00_0000_0000_0040, |fault| matches!(fault, DumpFault::Short { .. }));
    check_error(elf(&[], &[]), 0, |fault| matches!(fault, DumpFault::NoMemory));
    let wraps = elf(&[(LOAD, 0, 0x1000, 8, 8), (LOAD, 0, u64::MAX - 7, 8, 9)], &[]);
    check_error(wraps, 120, |fault| matches!(fault, DumpFault::SegmentWraps { segment: 1 }));
    let offset = elf(&[(LOAD, u64::MAX, 0x1000, 8, 8)], &[]);
    check_error(offset, 64, |fault| matches!(fault, DumpFault::SegmentWraps { segment: 0 }));
    check_error(vec![0x28, 0xb5, 0x2f, 0xfd, 1], 0, |fault| matches!(fault, DumpFault::Packed(_)));
}

#[test]
fn a_file_on_disk_reads_as_the_same_bytes_in_memory() {
    let data: Vec<u8> = (0..200).collect();
    let file = elf(&[(LOAD, data_at(1), 0x1000, 200, 200)], &data);
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("small.elf");
    fs::write(&path, &file).unwrap();
    let dumps = [ElfDump::open(&path).unwrap(), open(file)];
    for (start, len) in [(0x1000, 200), (0x1010, 7), (0x10c7, 1)] {
        let [disk, memory] = dumps.each_ref().map(|dump| {
            let mut buf = vec![0; len];
            dump.read(PhysAddr(start), &mut buf).unwrap();
            buf
        });
        assert_eq!(disk, memory);
    }
}

#[test]
fn a_file_that_does_not_exist_is_an_error() {
    let error = ElfDump::open("no/such/file".as_ref()).unwrap_err();
    assert!(matches!(error.fault, DumpFault::Io(_)));
}

proptest! {
    #![proptest_config(Config { failure_persistence: None, ..Config::default() })]

    #[test]
    fn overlapping_segments_agree_with_a_map_of_bytes(
        segments in prop::collection::vec((0..64_u64, 0..48_u64, 0..16_u64, 0..64_u64), 1..12),
        cut in 0..64_u64,
    ) {
        let at = data_at(segments.len() as u64);
        let data: Vec<u8> = (0..64 - cut as u8).collect();
        let headers: Vec<Header> =
            segments.iter().map(|&(pa, offset, file, memory)| (LOAD, at + offset, pa, file, memory)).collect();
        let Ok(dump) = ElfDump::from_bytes(elf(&headers, &data)) else {
            prop_assert!(segments.iter().all(|&(_, _, file, memory)| file.max(memory) == 0));
            return Ok(());
        };
        for address in 0..160_u64 {
            let inside = |start: u64, len: u64| address >= start && address - start < len;
            let present = segments.iter().find(|&&(pa, offset, file, _)| {
                inside(pa, file) && offset + (address - pa) < data.len() as u64
            });
            let named = segments.iter().any(|&(pa, _, file, _)| inside(pa, file));
            let excluded = segments.iter().any(|&(pa, _, _, memory)| inside(pa, memory));
            let expected = match present {
                Some(&(pa, offset, ..)) => Ok(data[(offset + address - pa) as usize]),
                None if named => Err(BusFault::Truncated),
                None if excluded => Err(BusFault::Excluded),
                None => Err(BusFault::Hole),
            };
            let mut byte = [0];
            let got = dump.read(PhysAddr(address), &mut byte).map(|()| byte[0]).map_err(|error| error.fault);
            prop_assert_eq!(got, expected, "at {:#x}", address);
        }
    }

    #[test]
    fn no_damage_panics(
        segments in prop::collection::vec(any::<(u64, u64, u64, u64)>(), 0..6),
        damage in prop::collection::vec((0..400_usize, any::<u8>()), 0..20),
        address: u64,
    ) {
        let headers: Vec<Header> = segments.iter().map(|&(pa, offset, file, memory)| (LOAD, offset, pa, file, memory)).collect();
        let mut file = elf(&headers, &[1; 64]);
        for (at, byte) in damage {
            if let Some(old) = file.get_mut(at) {
                *old = byte;
            }
        }
        if let Ok(dump) = ElfDump::from_bytes(file) {
            let _ = (dump.read(PhysAddr(address), &mut [0; 64]), dump.table::<AtomicU64>(PhysAddr(address & !7), 512));
            let _ = (dump.notes().count(), dump.ranges().count());
        }
    }
}
