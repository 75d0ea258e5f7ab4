//! The largest machines: what is not touched costs nothing.
#![allow(clippy::unwrap_used, reason = "functions that tests share fail as tests do")]

use crate::common::{kernmem, program};
use core::time::Duration;
use std::io::Read;
use std::process::Stdio;
use std::time::Instant;

/// Most memory that the program may have held at once.
const LIMIT_KIB: u64 = 200 << 10;

/// The most memory that a process has held, in KiB, by what Linux tells about it.
fn peak_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Lists the tables of a machine; once output comes, the boot is over, and the program waits for its reader.
fn check(args: &[&str]) {
    let start = Instant::now();
    let args = [&["ptdump", "--format", "csv"], args].concat();
    let mut child = program(&args).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut first = [0; 1];
    stdout.read_exact(&mut first).unwrap();
    let peak = peak_kib(child.id());
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(peak < LIMIT_KIB, "{args:?} held {peak} KiB");
    // More than the pipe and the buffer hold: the program was still there when it was asked.
    assert!(rest.len() > 128 << 10, "{} bytes", rest.len());
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
}

#[test]
fn sixty_four_tebibytes_of_arm64_cost_what_is_touched() {
    check(&["arm64-4g", "--memory", "64T", "--cmdline", "rodata=off"]);
    let report = kernmem(&["boot", "--memory", "64T", "--cmdline", "rodata=off"]).good();
    assert!(report.contains("64T of memory"), "{report}");
}

/// 64 TiB with the hole below 4 GiB reach a GiB over the 46 bits of four levels: the direct map ends at 2^46.
#[test]
fn sixty_four_tebibytes_of_x86_cost_what_is_touched_and_end_at_46_bits() {
    let args = ["x86-4g", "--memory", "64T", "--cmdline", "rodata=off nokaslr", "--cpu", "+pdpe1gb"];
    check(&args);
    let listing = kernmem(&[&["ptdump"], &args[..]].concat()).good();
    // The direct map starts at ffff888000000000; 2^46 further is ffffc88000000000.
    let end = listing.lines().rfind(|line| line.contains(" NX pud") && line.contains("PSE"));
    assert!(end.is_some_and(|line| line.contains("-0xffffc88000000000 ")), "{end:?}");
}

/// Pages of 4K for 64 TiB need 128 GiB of tables: that is said, in one line, before the host ends the program.
#[test]
fn more_tables_than_the_host_can_lend_are_refused() {
    let line = kernmem(&["boot", "--memory", "64T", "--cmdline", "rodata=full"]).refused(2);
    assert!(line.contains("arm64-4g") && line.contains("page tables") && line.contains("rodata=off"), "{line}");
}

#[test]
fn the_small_machine_is_told_at_once() {
    let start = Instant::now();
    kernmem(&[]).good();
    // Two seconds are the promise; a loaded machine gets more.
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}
