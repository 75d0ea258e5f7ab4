//! Any log and any memory words: a sanitised map is sorted, free of overlaps, and stays as it is.
#![no_main]

use kernmem_base::Era;
use kernmem_config::CommandLine;
use kernmem_firmware::bootlog::{command_line, parse_arm64_log};
use kernmem_firmware::e820::{E820Table, parse_e820, parse_srat};
use libfuzzer_sys::fuzz_target;

fn is_sane(map: &E820Table) {
    for pair in map.entries().windows(2) {
        let [a, b] = pair else { unreachable!("windows of two") };
        assert!(a.size > 0 && b.size > 0);
        assert!(a.start + a.size <= b.start, "{a:?} {b:?}");
    }
}

fuzz_target!(|text: &str| {
    let _ = (parse_srat(text), command_line(text));
    if let Some(machine) = parse_arm64_log(text) {
        assert!(machine.memory.iter().all(|bank| bank.range.start < bank.range.end));
    }
    let mut map = parse_e820(text);
    let covered = map.memory().count();
    if map.sanitise().is_ok() {
        is_sane(&map);
        let again = map.clone();
        if map.sanitise().is_ok() {
            assert_eq!(map, again);
        }
        assert!(covered > 0 || map.memory().count() == 0);
    }
    // The last line is a command line.
    let line = CommandLine::parse(text.lines().last().unwrap_or(""));
    for era in Era::ALL {
        let mut edited = map.clone();
        if edited.apply_user(line.map_edits(), era).is_ok_and(|edits| edits.is_user_defined) {
            is_sane(&edited);
        }
        edited.add_kernel(0x100_0000, 0x200_0000);
        edited.trim_bios();
        assert!(edited.end_pfn(era, 1 << 20, 1 << 34) <= 1 << 20);
    }
});
