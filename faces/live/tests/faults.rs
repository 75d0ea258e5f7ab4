//! Accesses that a running kernel does not permit: each is a real fault that kills a process of its own.
//!
//! A child runs the kernel, tells which fault is to come, and makes the access; the parent compares. Where the fault
//! lies and at which level follow from what the kernel was asked for and from a walk of its tables.

use crate::child::{is_child, run_child};
use crate::common::{entries_of, run, source};
use kernmem_base::{Access, CpuId, Level, Order, PhysAddr, VirtAddr, VirtRange};
use kernmem_live::Live;

const CPU: CpuId = CpuId(0);
const PAGE: u64 = 4096;

/// In the child: tells which fault is to come.
fn announce(live: &Live<'_>, va: VirtAddr, access: Access, kind: &str) {
    let entries = entries_of(live.running.facts.format, live.memory, live.running.kernel.roots.kernel, va);
    let level = match entries.last().expect("an entry").0 {
        Level::Pgd => "pgd",
        Level::P4d => "p4d",
        Level::Pud => "pud",
        Level::Pmd => "pmd",
        Level::Pte => "pte",
    };
    let access = if access == Access::Write { "write" } else { "read" };
    eprintln!("to-come va={va} access={access} kind={kind} level={level}");
}

/// The child must die by the signal, at the place and for the reason that it announced.
#[track_caller]
fn dies(name: &str, preset: &str, kind: &str, access: impl FnOnce(&mut Live<'_>)) {
    if is_child() {
        run(&source(preset, None, None), access);
        return;
    }
    let death = run_child(&format!("faults::{name}"));
    let line = death.stderr.lines().find_map(|line| line.strip_prefix("to-come "));
    let line = line.unwrap_or_else(|| panic!("nothing was announced: {death:?}"));
    assert!(line.contains(&format!("kind={kind} ")), "{line}");
    let fault = death.fault().and_then(|fault| fault.strip_prefix("kernmem-window-fault "));
    assert_eq!((death.signal, fault), (Some(libc::SIGSEGV), Some(line)), "{death:?}");
}

/// Writes over the end of an area of two pages.
fn guard_page(live: &mut Live<'_>) {
    let va = live.on(CPU, |running, on| running.vmalloc(on, 2 * PAGE)).0.expect("an area");
    let window = live.window(VirtRange::of_size(va, 3 * PAGE).expect("with its guard")).expect("a window");
    window.write(va, &[1; 2 * PAGE as usize]).expect("the area is writable to its last byte");
    announce(live, va + 2 * PAGE, Access::Write, "translation");
    let _ = window.write(va + (2 * PAGE - 8), &[2; 16]);
}

/// Reads an area that was freed and purged.
fn freed_area(live: &mut Live<'_>) {
    let va = live.on(CPU, |running, on| running.vmalloc(on, PAGE)).0.expect("an area");
    let window = live.window(VirtRange::of_size(va, PAGE).expect("a page")).expect("a window");
    window.write(va, b"here").expect("writable");
    live.on(CPU, |running, on| running.vfree(on, va)).0.expect("the area");
    live.on(CPU, |running, on| running.purge(on)).0.expect("something waited");
    announce(live, va + 16, Access::Read, "translation");
    let _ = window.word(va + 16);
}

/// Writes through an address that shows descriptors of a huge page a second time.
fn shared_descriptors(live: &mut Live<'_>) {
    live.running.optimize_new(true);
    let index = live.running.pool_of(Order(9)).expect("a pool");
    live.on(CPU, |running, on| running.resize_pool(on, index, 1)).0.expect("a pool");
    let head = live.running.map.page(live.running.pools[index].pages()[0].pfn);
    let window = live.window(VirtRange::of_size(head, 8 * PAGE).expect("descriptors")).expect("a window");
    let first = window.word(head).expect("readable");
    assert_eq!(window.word(head + 3 * PAGE), Ok(first), "the alias shows the head's frame");
    window.write(head, &first.to_le_bytes()).expect("the head's page is writable");
    announce(live, head + 3 * PAGE, Access::Write, "permission");
    let _ = window.write(head + 3 * PAGE, &[0; 8]);
}

/// Writes to memory that the linear map does not have: behind the last bank.
fn behind_memory(live: &mut Live<'_>) {
    let end = live.running.kernel.memblock.memory().regions().last().expect("memory").end();
    let last = live.linear_address(PhysAddr(end.0 - PAGE));
    let range = VirtRange::of_size(last, 2 * PAGE).expect("two pages");
    let window = live.window(range).expect("a window");
    window.word(last).expect("the last page");
    announce(live, last + PAGE, Access::Read, "translation");
    let _ = window.word(last + PAGE);
}

#[test]
fn the_guard_page_of_an_area_of_arm64() {
    dies("the_guard_page_of_an_area_of_arm64", "arm64-4g", "translation", guard_page);
}

#[test]
fn the_guard_page_of_an_area_of_x86() {
    dies("the_guard_page_of_an_area_of_x86", "x86-4g", "translation", guard_page);
}

#[test]
fn an_area_of_arm64_that_was_freed_and_purged() {
    dies("an_area_of_arm64_that_was_freed_and_purged", "arm64-4g", "translation", freed_area);
}

#[test]
fn an_area_of_x86_that_was_freed_and_purged() {
    dies("an_area_of_x86_that_was_freed_and_purged", "x86-4g", "translation", freed_area);
}

#[test]
fn shared_descriptors_of_arm64_are_read_only() {
    dies("shared_descriptors_of_arm64_are_read_only", "arm64-4g", "permission", shared_descriptors);
}

#[test]
fn shared_descriptors_of_x86_are_read_only() {
    dies("shared_descriptors_of_x86_are_read_only", "x86-4g", "permission", shared_descriptors);
}

#[test]
fn the_linear_map_of_arm64_ends_with_memory() {
    dies("the_linear_map_of_arm64_ends_with_memory", "arm64-4g", "translation", behind_memory);
}

#[test]
fn the_linear_map_of_x86_ends_with_memory() {
    dies("the_linear_map_of_x86_ends_with_memory", "x86-4g", "translation", behind_memory);
}
