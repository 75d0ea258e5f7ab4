//! Files of `/proc` follow what the kernel does: each number by hand.

use crate::common::{PRESETS, run, source};
use kernmem_arch::UserRights;
use kernmem_base::{CpuId, Order};
use kernmem_live::{Live, ProcFile, Program};
use kernmem_mm::Place;
use kernmem_page_alloc::{Gfp, PageSource};

const CPU: CpuId = CpuId(0);

fn text(live: &Live<'_>, file: ProcFile) -> String {
    live.proc(file).expect("a file of a running kernel")
}

/// A number of meminfo.
fn kib(live: &Live<'_>, name: &str) -> u64 {
    let text = text(live, ProcFile::Meminfo);
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).expect("a line of that name");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// The lines that `now` has and `before` has not.
fn added<'t>(before: &str, now: &'t str) -> Vec<&'t str> {
    now.lines().filter(|line| !before.lines().any(|old| old == *line)).collect()
}

#[test]
fn areas_come_with_their_guard_page_and_go_with_the_purge() {
    for preset in PRESETS {
        run(&source(preset, None, None), |live| {
            let (before, used) = (text(live, ProcFile::Vmallocinfo), kib(live, "VmallocUsed"));
            let mut made = Vec::new();
            let mut expected = Vec::new();
            for (bytes, pages) in [(1, 1), (5 * 4096, 5), (4097, 2)] {
                let va = live.on(CPU, |running, on| running.vmalloc(on, bytes)).0.expect("an area");
                let (end, size) = (va + (pages + 1) * 4096, (pages + 1) * 4096);
                expected.push(format!(
                    "0x{:016x}-0x{:016x} {size:7} kernmem pages={pages} vmalloc N0={pages}",
                    va.0, end.0
                ));
                made.push(va);
            }
            let now = text(live, ProcFile::Vmallocinfo);
            let mut lines = added(&before, &now);
            lines.sort_unstable();
            expected.sort_unstable();
            assert_eq!(lines, expected, "{preset}");
            assert_eq!(kib(live, "VmallocUsed"), used + 8 * 4);
            for va in &made {
                live.on(CPU, |running, on| running.vfree(on, *va)).0.expect("an area");
            }
            let freed = text(live, ProcFile::Vmallocinfo);
            let lines = added(&before, &freed);
            assert!(!lines.is_empty() && lines.iter().all(|line| line.ends_with(" unpurged vm_area")), "{freed}");
            let bytes = lines.iter().map(|line| line.split_whitespace().nth(1).expect("bytes"));
            assert_eq!(bytes.map(|bytes| bytes.parse::<u64>().expect("a number")).sum::<u64>(), 11 * 4096, "{preset}");
            live.on(CPU, |running, on| running.purge(on));
            assert_eq!(text(live, ProcFile::Vmallocinfo), before);
            assert_eq!(kib(live, "VmallocUsed"), used);
        });
    }
}

/// A slab of 256-byte slots is one page of 16 objects, and what a CPU has of it counts as used: 40 objects are 3 slabs.
#[test]
fn objects_are_counted_by_whole_slabs_and_large_requests_by_pages() {
    let row =
        "kmalloc-256           48     48    256   16    1 : tunables    0    0    0 : slabdata      3      3      0";
    for preset in PRESETS {
        run(&source(preset, None, None), |live| {
            let before = text(live, ProcFile::Slabinfo);
            assert_eq!(kib(live, "Slab"), 0);
            (0..40).for_each(|_| {
                live.kmalloc(CPU, 200).expect("an object");
            });
            let now = text(live, ProcFile::Slabinfo);
            assert_eq!(added(&before, &now), [row], "{preset}");
            assert_eq!((kib(live, "Slab"), kib(live, "SUnreclaim"), kib(live, "SReclaimable")), (12, 12, 0));
            let large = live.kmalloc(CPU, 40_000).expect("a block of 64 KiB");
            assert_eq!((text(live, ProcFile::Slabinfo), kib(live, "Slab")), (now, 12 + 64));
            assert!(text(live, ProcFile::Zoneinfo).contains("\n      nr_slab_unreclaimable 19\n"));
            live.kfree(CPU, large).expect("freed once");
            assert_eq!(kib(live, "SUnreclaim"), 12);
        });
    }
}

/// Pages in free blocks and in the lists of CPUs.
fn free_pages(live: &Live<'_>) -> u64 {
    let buddy = text(live, ProcFile::Buddyinfo);
    let row = |line: &str| -> u64 {
        let counts = line.split_whitespace().skip(4).map(|count| count.parse::<u64>().expect("a number"));
        counts.enumerate().map(|(order, count)| count << order).sum()
    };
    let zones = text(live, ProcFile::Zoneinfo);
    let kept = zones.lines().filter_map(|line| line.trim_start().strip_prefix("count:"));
    let kept = kept.map(|count| count.trim().parse::<u64>().expect("a number"));
    buddy.lines().map(row).sum::<u64>() + kept.sum::<u64>()
}

#[test]
fn free_and_taken_pages_are_always_as_many() {
    for preset in PRESETS {
        run(&source(preset, None, None), |live| {
            let (total, before) = (kib(live, "MemTotal"), free_pages(live));
            let used = live.running.kernel.pages.in_use();
            assert_eq!(before, total / 4 - used, "{preset}");
            let mut taken = Vec::new();
            for at in 0..60 {
                let order = Order(at % 7);
                let mut pages = live.running.pages(CpuId(u32::from(at) % 2)).expect("a CPU");
                taken.push((pages.alloc(Gfp::KERNEL, order).expect("a block"), order));
                let lent: u64 = taken.iter().map(|(_, order)| 1 << order.0).sum();
                assert_eq!(free_pages(live), before - lent, "{preset} after {at}");
            }
            for (pfn, order) in taken {
                live.running.pages(CPU).expect("a CPU").free(pfn, order).expect("a block that was taken");
            }
            assert_eq!((free_pages(live), kib(live, "MemTotal")), (before, total));
        });
    }
}

/// Eight pages may be written, three are: a table of the lowest level and one above it. A child shares the pages and has
/// tables of its own.
#[test]
fn pages_of_programs_count_once_and_their_tables_each_time() {
    for preset in PRESETS {
        run(&source(preset, None, None), |live| {
            let pid = live.on(CPU, |running, on| running.spawn(on)).0.expect("a program");
            let rights = UserRights { read: true, write: true, execute: false };
            let va = live.on(CPU, |running, on| running.mmap(on, pid, Place::Anywhere, 8 * 4096, rights));
            let va = va.0.expect("a region");
            let mut program = Program::run_on(live, CPU, pid).expect("a program");
            (0..3).for_each(|page| program.write(live, va + page * 4096, 1).expect("may be written"));
            let told = |live: &Live<'_>| {
                let names = ["AnonPages", "Inactive(anon)", "Inactive", "PageTables", "Committed_AS"];
                names.map(|name| kib(live, name))
            };
            assert_eq!(told(live), [12, 12, 12, 8, 32], "{preset}");
            let child = live.on(CPU, |running, on| running.fork(on, pid)).0.expect("a child");
            assert_eq!(told(live), [12, 12, 12, 16, 64], "{preset}");
            let zones = text(live, ProcFile::Zoneinfo);
            assert!(zones.contains("\n      nr_anon_pages 3\n") && zones.contains("\n      nr_page_table_pages 4\n"));
            for pid in [child, pid] {
                live.on(CPU, |running, on| running.exit(on, pid)).0.expect("ends");
            }
            assert_eq!(told(live), [0; 5], "{preset}");
        });
    }
}

#[test]
fn huge_pages_are_told_by_pages_and_taken_off_what_may_be_promised() {
    for preset in PRESETS {
        run(&source(preset, None, None), |live| {
            let (total, limit) = (kib(live, "MemTotal"), kib(live, "CommitLimit"));
            assert_eq!(limit, total / 4 / 2 * 4);
            let index = live.running.pool_of(Order(9)).expect("pages of 2 MiB");
            live.on(CPU, |running, on| running.resize_pool(on, index, 5)).0.expect("a pool");
            live.running.take_huge(index, None, false).expect("a page");
            let names = ["HugePages_Total", "HugePages_Free", "HugePages_Rsvd", "HugePages_Surp", "Hugetlb"];
            assert_eq!(names.map(|name| kib(live, name)), [5, 4, 0, 0, 5 << 11], "{preset}");
            assert_eq!((kib(live, "MemTotal"), kib(live, "CommitLimit")), (total, limit - (5 << 10)), "{preset}");
        });
    }
}

#[test]
fn files_are_found_by_their_names() {
    for file in ProcFile::ALL {
        assert_eq!(ProcFile::of_name(file.name()), Some(file));
    }
    assert_eq!(ProcFile::of_name("cpuinfo"), None);
}
