//! Windows over every kind of format: what is read and written through them, aliases, staleness, eviction, threads.
#![allow(clippy::unwrap_used, reason = "a test stops where an answer is missing")]

mod support;

use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use kernmem_arch::{EntryFormat, FaultKind};
use kernmem_base::{Access, Level, LinearMem, NoTlb, PhysAddr, PhysRange, Tlb, VirtAddr, VirtRange};
use kernmem_pgtable::Sizes;
use kernmem_sim::{AccessError, Memory, WindowError, WindowFault, WindowFaultKind, Windows};
use support::{
    Arm64, BYTES, DATA, Kernel, Kind, PAGE, RAM, X86, X86Of5, mark, mark_all, memory, memory_of, pages, phys_word,
};

/// Makes a test of a generic function for each format.
macro_rules! for_each {
    ($($test:ident => $of:ident),* $(,)?) => {
        mod arm64 {
            $(#[test] fn $test() { super::$of::<super::Arm64>(); })*
        }
        mod x86 {
            $(#[test] fn $test() { super::$of::<super::X86>(); })*
        }
        mod x86_with_five_levels {
            $(#[test] fn $test() { super::$of::<super::X86Of5>(); })*
        }
    };
}

fn mmu(kind: FaultKind) -> WindowFaultKind {
    WindowFaultKind::Mmu(kind)
}

for_each! {
    three_frames_that_are_apart_read_as_one => scattered_frames,
    what_one_alias_writes_every_other_one_reads => aliases,
    a_window_is_stale_until_it_is_flushed => staleness,
    rights_that_were_given_need_no_flush_and_rights_that_were_taken_do => rights,
    the_tlb_of_a_machine_is_all_of_its_windows => tlb,
    evicted_fills_come_back_with_the_same_data => eviction,
    many_threads_share_a_window_that_is_flushed_meanwhile => threads,
    a_window_over_a_program_obeys_the_programs_rights => user,
    another_root_shows_another_space => roots,
    probes_tell_kind_and_level => probes,
}

fn scattered_frames<K: Kind>() {
    let memory = memory();
    let mut kernel = Kernel::<K>::new(&memory);
    let frames = [DATA + 7 * PAGE, DATA + 3 * PAGE, DATA + 9 * PAGE];
    mark_all(&memory, &frames);
    kernel.map_frames(K::BASE, &frames, K::data());
    let linear_map = VirtAddr(K::BASE.0 + (1 << 30));
    let ram = VirtRange::of_size(linear_map, BYTES).unwrap();
    kernel.map(ram, RAM, K::data(), Sizes::ALL);

    let windows = Windows::new(&memory).unwrap();
    let vmalloc = windows.open(pages(K::BASE, 64), kernel.root(), K::FORMAT).unwrap();
    let linear = windows.open_linear(ram, kernel.root(), K::FORMAT, PhysAddr(RAM)).unwrap();
    let words = vmalloc.words(K::BASE, 3 * 512).unwrap();
    for (index, word) in words.iter().enumerate() {
        let pa = frames[index / 512] + (index % 512) as u64 * 8;
        assert_eq!(word.load(Ordering::Relaxed), pa);
        assert_eq!(linear.window().word(linear_map + (pa - RAM)), Ok(pa));
    }
    // Nothing joins the three; the linear map is one run, whatever its leaves are.
    assert_eq!((vmalloc.counters().fills, vmalloc.counters().mapped_pages), (3, 3));
    assert_eq!((linear.window().counters().fills, linear.window().counters().mapped_pages), (1, BYTES / PAGE));
}

fn aliases<K: Kind>() {
    let memory = memory();
    let mut kernel = Kernel::<K>::new(&memory);
    let (first, second) = (K::BASE, K::BASE + (4 << 20));
    kernel.map_frames(first, &[DATA, DATA + PAGE], K::data());
    kernel.map_frames(second, &[DATA + PAGE, DATA], K::read_only());
    let windows = Windows::new(&memory).unwrap();
    let window = windows.open(pages(K::BASE, 2048), kernel.root(), K::FORMAT).unwrap();

    // Across the border of two pages, which the other alias has the other way round.
    window.write(first + (PAGE - 3), b"kernel").unwrap();
    let (mut tail, mut head) = ([0; 3], [0; 3]);
    window.read(second + (2 * PAGE - 3), &mut tail).unwrap();
    window.read(second, &mut head).unwrap();
    assert_eq!((&tail, &head), (b"ker", b"nel"));
    assert_eq!(phys_word(&memory, DATA + PAGE), u64::from_le_bytes(*b"nel\0\0\0\0\0"));

    mark(&memory, DATA);
    assert_eq!(window.word(first + 16), Ok(DATA + 16));
    assert_eq!(window.word(second + PAGE + 16), Ok(DATA + 16));
    assert_eq!(window.counters().fills, 3, "two frames that follow one another, and two that do not");
}

fn staleness<K: Kind>() {
    let memory = memory();
    let mut kernel = Kernel::<K>::new(&memory);
    mark_all(&memory, &[DATA, DATA + 5 * PAGE]);
    kernel.map_frames(K::BASE, &[DATA], K::data());
    let windows = Windows::new(&memory).unwrap();
    let window = windows.open(pages(K::BASE, 16), kernel.root(), K::FORMAT).unwrap();
    assert_eq!(window.word(K::BASE), Ok(DATA));

    kernel.unmap_without_flush(pages(K::BASE, 1));
    let gone = WindowFault {
        va: K::BASE,
        access: Some(Access::Read),
        kind: mmu(FaultKind::Translation),
        level: Some(Level::Pte),
    };
    assert_eq!(window.probe(K::BASE, Access::Read), Err(gone));
    assert_eq!(window.word(K::BASE), Ok(DATA), "as a TLB that was not flushed");

    kernel.map_frames(K::BASE, &[DATA + 5 * PAGE], K::data());
    assert_eq!(window.word(K::BASE), Ok(DATA), "still the old frame");
    window.flush(pages(K::BASE + PAGE, 1));
    assert_eq!(window.word(K::BASE), Ok(DATA), "a flush beside it");
    window.flush(pages(K::BASE, 1));
    assert_eq!(window.counters().live, 0);
    assert_eq!(window.word(K::BASE), Ok(DATA + 5 * PAGE));
}

fn rights<K: Kind>() {
    let memory = memory();
    let mut kernel = Kernel::<K>::new(&memory);
    kernel.map_frames(K::BASE, &[DATA, DATA + PAGE], K::read_only());
    let windows = Windows::new(&memory).unwrap();
    let window = windows.open(pages(K::BASE, 16), kernel.root(), K::FORMAT).unwrap();
    assert_eq!(window.word(K::BASE), Ok(0));
    assert_eq!(window.probe(K::BASE, Access::Write).unwrap_err().kind, mmu(FaultKind::Permission));

    kernel.protect_without_flush(pages(K::BASE, 1), K::unseal());
    window.write(K::BASE, &[7]).unwrap();
    assert_eq!((window.word(K::BASE), window.word(K::BASE + PAGE)), (Ok(7), Ok(0)));
    assert_eq!(window.counters().live, 2, "pages with unequal rights are two runs");

    kernel.protect_without_flush(pages(K::BASE, 1), K::seal());
    window.write(K::BASE, &[8]).unwrap();
    assert_eq!(phys_word(&memory, DATA), 8, "the right that was taken is still cached");
    assert_eq!(window.probe(K::BASE, Access::Write).unwrap_err().kind, mmu(FaultKind::Permission));
}

fn tlb<K: Kind>() {
    let memory = memory();
    let mut kernel = Kernel::<K>::new(&memory);
    kernel.map_frames(K::BASE, &[DATA], K::data());
    kernel.map_frames(K::BASE + (1 << 30), &[DATA + PAGE], K::data());
    mark_all(&memory, &[DATA, DATA + PAGE]);
    let windows = Windows::new(&memory).unwrap();
    let low = windows.open(pages(K::BASE, 1), kernel.root(), K::FORMAT).unwrap();
    let high = windows.open(pages(K::BASE + (1 << 30), 1), kernel.root(), K::FORMAT).unwrap();
    assert_eq!((low.word(K::BASE), high.word(K::BASE + (1 << 30))), (Ok(DATA), Ok(DATA + PAGE)));

    // The debt of an unmap is paid through the windows, as through any TLB.
    let stale = kernel.tables.cursor(pages(K::BASE, 1)).unmap().unwrap();
    stale.pay(&mut &windows, &mut kernel.tables, &mut kernel.frames);
    assert_eq!((low.counters().live, high.counters().live), (0, 1));
    let mut all = windows;
    Tlb::flush(&mut all, VirtRange::ALL, false);
    assert_eq!(high.counters().live, 0);
    assert_eq!(high.word(K::BASE + (1 << 30)), Ok(DATA + PAGE));
}

fn eviction<K: Kind>() {
    let memory = memory();
    let mut kernel = Kernel::<K>::new(&memory);
    // Backwards, so that no two pages make a run.
    let frames: Vec<u64> = (0..300).rev().map(|frame| DATA + frame * PAGE).collect();
    mark_all(&memory, &frames);
    kernel.map_frames(K::BASE, &frames, K::data());
    let windows = Windows::with_cap(&memory, 0).unwrap();
    let window = windows.open(pages(K::BASE, 300), kernel.root(), K::FORMAT).unwrap();
    for round in 0..3 {
        for (index, pa) in frames.iter().enumerate() {
            let va = K::BASE + index as u64 * PAGE;
            let expected = if round == 0 { pa + 8 } else { pa + 8 + round - 1 };
            assert_eq!(window.word(va + 8), Ok(expected));
            window.words(va + 8, 1).unwrap()[0].store(pa + 8 + round, Ordering::Relaxed);
        }
    }
    let counters = window.counters();
    assert_eq!((counters.live, counters.mapped_pages), (Windows::MIN_CAP, Windows::MIN_CAP as u64));
    // Each round finds nothing that the last one left: 300 pages through 64 places, oldest out.
    assert_eq!((counters.fills, counters.evictions), (900, 900 - Windows::MIN_CAP as u64));
    assert_eq!(phys_word(&memory, frames[299] + 8), frames[299] + 8 + 2);
}

fn threads<K: Kind>() {
    let memory = memory();
    let mut kernel = Kernel::<K>::new(&memory);
    let frames: Vec<u64> = (0..256).map(|frame| DATA + (frame * 37 % 256) * PAGE).collect();
    mark_all(&memory, &frames);
    kernel.map_frames(K::BASE, &frames, K::read_only());
    let windows = Windows::with_cap(&memory, 100).unwrap();
    let window = windows.open(pages(K::BASE, 256), kernel.root(), K::FORMAT).unwrap();
    let (is_done, root) = (AtomicBool::new(false), kernel.root());
    thread::scope(|scope| {
        let readers: Vec<_> = (0..6)
            .map(|reader: usize| {
                let (window, frames) = (&window, &frames);
                scope.spawn(move || {
                    for step in 0..3000 {
                        let page = (step * 97 + reader * 41) % 256;
                        let va = K::BASE + page as u64 * PAGE + 24;
                        assert_eq!(window.word(va), Ok(frames[page] + 24));
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                windows.flush(pages(K::BASE + 64 * PAGE, 128));
                // Windows that come and go beside it, which the handler must step over.
                let other = windows.open(pages(K::BASE, 4), root, K::FORMAT).unwrap();
                assert_eq!(other.word(K::BASE), Ok(frames[0]));
            }
        });
        let ends: Vec<_> = readers.into_iter().map(thread::ScopedJoinHandle::join).collect();
        is_done.store(true, Ordering::Relaxed);
        assert!(ends.iter().all(Result::is_ok));
    });
}

fn user<K: Kind>() {
    let memory = memory();
    let mut kernel = Kernel::<K>::new(&memory);
    let code = VirtAddr(0x40_0000);
    kernel.map_frames(code, &[DATA], K::user_data());
    kernel.map_frames(code + PAGE, &[DATA + PAGE], K::data());
    let windows = Windows::new(&memory).unwrap();
    let program = windows.open_user(pages(code, 16), kernel.root(), K::FORMAT).unwrap();
    let kernels = windows.open(pages(code, 16), kernel.root(), K::FORMAT).unwrap();
    program.write(code, &[1, 2, 3]).unwrap();
    assert_eq!(kernels.word(code), Ok(0x03_0201));
    let fault = program.probe(code + PAGE, Access::Read).unwrap_err();
    assert_eq!((fault.kind, fault.level), (mmu(FaultKind::Permission), Some(Level::Pte)));
    assert_eq!(kernels.probe(code + PAGE, Access::Write), Ok(()));
}

fn roots<K: Kind>() {
    let memory = memory();
    let mut first = Kernel::<K>::new(&memory);
    let mut second = Kernel::<K>::with_root(&memory, RAM + (1 << 20));
    let code = VirtAddr(0x40_0000);
    mark_all(&memory, &[DATA, DATA + PAGE]);
    first.map_frames(code, &[DATA], K::user_data());
    second.map_frames(code, &[DATA + PAGE], K::user_data());
    let windows = Windows::new(&memory).unwrap();
    let window = windows.open_user(pages(code, 16), first.root(), K::FORMAT).unwrap();
    assert_eq!(window.word(code), Ok(DATA));
    window.set_root(second.root());
    assert_eq!(window.word(code), Ok(DATA + PAGE));
    window.set_root(first.root());
    assert_eq!(window.word(code), Ok(DATA));
}

fn probes<K: Kind>() {
    let memory = memory();
    let mut kernel = Kernel::<K>::new(&memory);
    kernel.map_frames(K::BASE, &[DATA], K::read_only());
    // A frame behind the end of memory.
    kernel.map_frames(K::BASE + 2 * PAGE, &[RAM + BYTES], K::data());
    let windows = Windows::new(&memory).unwrap();
    let window = windows.open(pages(K::BASE, 16), kernel.root(), K::FORMAT).unwrap();
    let references = memory.references();
    let verdict = |va: VirtAddr, access| window.probe(va, access).map_err(|fault| (fault.kind, fault.level));
    assert_eq!(verdict(K::BASE + 8, Access::Read), Ok(()));
    assert_eq!(verdict(K::BASE, Access::Write), Err((mmu(FaultKind::Permission), Some(Level::Pte))));
    assert_eq!(verdict(K::BASE, Access::Execute), Err((mmu(FaultKind::Permission), Some(Level::Pte))));
    assert_eq!(verdict(K::BASE + PAGE, Access::Write), Err((mmu(FaultKind::Translation), Some(Level::Pte))));
    assert_eq!(verdict(K::BASE + 2 * PAGE, Access::Read), Err((mmu(FaultKind::External), None)));
    assert_eq!(verdict(K::BASE + (2 << 20), Access::Read), Err((mmu(FaultKind::Translation), Some(Level::Pmd))));
    assert_eq!(verdict(K::BASE + (1 << 30), Access::Read), Err((mmu(FaultKind::Translation), Some(Level::Pud))));
    let next_root_slot = K::BASE + K::F::shape().levels[0].bytes();
    assert_eq!(verdict(next_root_slot, Access::Read), Err((mmu(FaultKind::Translation), Some(Level::Pgd))));
    assert_eq!(memory.references(), references, "the host's own reads are no references of a walk");
    assert_eq!(window.counters().fills, 0, "a probe maps nothing");
}

/// arm64 maps this run by 4K pages, a contiguous group of 64K, 2M blocks, a contiguous group of 32M and a 1G block.
#[test]
fn leaves_of_every_size_make_one_run() {
    let memory = memory_of(3 << 30);
    let mut kernel = Kernel::<Arm64>::new(&memory);
    // 0x4000_0000 + 1 GiB - 36 MiB - 68 KiB, congruent to the address modulo 1 GiB.
    let start = (36 << 20) + (68 << 10);
    let (va, pa) = (VirtAddr(0xffff_0000_4000_0000 - start), 0x8000_0000 - start);
    let run = VirtRange::of_size(va, start + (1 << 30)).unwrap();
    kernel.map(run, pa, Arm64::data(), Sizes::ALL);
    let size_at = |offset: u64| {
        let walk = kernmem_pgtable::translate::<kernmem_arch::arm64::Arm64Granule4K, _>(
            &memory,
            kernel.root(),
            VirtAddr(va.0 + offset),
        );
        let Ok(kernmem_pgtable::Walk::Mapped { level, attrs, .. }) = walk else { panic!("mapped") };
        (level, attrs.0 & 1 << 52 != 0)
    };
    let leaves = [0, 4 << 10, 68 << 10, (4 << 20) + (68 << 10), start].map(size_at);
    let expected =
        [(Level::Pte, false), (Level::Pte, true), (Level::Pmd, false), (Level::Pmd, true), (Level::Pud, false)];
    assert_eq!(leaves, expected);

    let windows = Windows::new(&memory).unwrap();
    let window = windows.open(run, kernel.root(), Arm64::FORMAT).unwrap();
    for offset in [5 << 20, 0, 4 << 10, 80 << 10, start + (1 << 30) - 8] {
        let place = window.words(VirtAddr(va.0 + offset), 1).unwrap();
        place[0].store(offset + 1, Ordering::Relaxed);
        assert_eq!(phys_word(&memory, pa + offset), offset + 1);
    }
    assert_eq!((window.counters().fills, window.counters().mapped_pages), (1, (start + (1 << 30)) / PAGE));
    assert!(memory.allocated_bytes() < 1 << 20, "a large run costs what is touched");
}

#[test]
fn x86_blocks_next_to_pages_make_one_run() {
    let memory = memory_of(3 << 30);
    let mut kernel = Kernel::<X86>::new(&memory);
    let run = VirtRange::of_size(VirtAddr(0xffff_8880_401f_f000), 0x1000 + (62 << 20) + (1 << 30)).unwrap();
    // 4K, then 2M pages up to the gigabyte, then one of 1G: va and pa are congruent modulo 1 GiB.
    let run = VirtRange { start: run.start, last: VirtAddr(0xffff_8880_bfff_ffff) };
    kernel.map(run, RAM + 0x1f_f000, X86::data(), Sizes::ALL);
    let windows = Windows::new(&memory).unwrap();
    let window = windows.open(run, kernel.root(), X86::FORMAT).unwrap();
    window.write(VirtAddr(0xffff_8880_8000_0010), &[9]).unwrap();
    window.write(VirtAddr(0xffff_8880_401f_f010), &[8]).unwrap();
    assert_eq!((phys_word(&memory, 0x8000_0010), phys_word(&memory, RAM + 0x1f_f010)), (9, 8));
    assert_eq!((window.counters().fills, window.counters().mapped_pages), (1, run.size() / PAGE));
}

#[test]
fn two_machines_run_side_by_side_and_one_survives_the_other() {
    let (memory, other_memory) = (memory(), memory_of(BYTES));
    let mut kernel = Kernel::<X86>::new(&memory);
    kernel.map_frames(X86::BASE, &[DATA], X86::data());
    mark(&memory, DATA);
    let windows = Windows::new(&memory).unwrap();
    let window = windows.open(pages(X86::BASE, 16), kernel.root(), X86::FORMAT).unwrap();
    {
        let mut kernel = Kernel::<Arm64>::new(&other_memory);
        kernel.map_frames(X86::BASE, &[DATA], Arm64::data());
        let others = Windows::new(&other_memory).unwrap();
        let other = others.open(pages(X86::BASE, 16), kernel.root(), Arm64::FORMAT).unwrap();
        other.write(X86::BASE, &[1]).unwrap();
        assert_eq!((other.word(X86::BASE), window.word(X86::BASE)), (Ok(1), Ok(DATA)));
        others.flush(VirtRange::ALL);
        assert_eq!((other.counters().live, window.counters().live), (0, 1));
        assert_eq!(other.word(X86::BASE), Ok(1));
    }
    drop(other_memory);
    window.flush(VirtRange::ALL);
    assert_eq!(window.word(X86::BASE + 8), Ok(DATA + 8));
}

#[test]
fn a_window_outlives_the_set_that_opened_it() {
    let memory = memory();
    let mut kernel = Kernel::<Arm64>::new(&memory);
    kernel.map_frames(Arm64::BASE, &[DATA], Arm64::data());
    let windows = Windows::new(&memory).unwrap();
    let window = windows.open(pages(Arm64::BASE, 1), kernel.root(), Arm64::FORMAT).unwrap();
    drop(windows);
    assert_eq!(window.word(Arm64::BASE), Ok(0));
}

#[test]
fn the_linear_map_gives_pointers_to_frames_and_back() {
    let memory = Memory::new([
        PhysRange::new(PhysAddr(RAM), PhysAddr(RAM + BYTES)),
        PhysRange::new(PhysAddr(RAM + 2 * BYTES), PhysAddr(RAM + 3 * BYTES)),
    ])
    .unwrap();
    let mut kernel = Kernel::<Arm64>::new(&memory);
    let start = VirtAddr(0xffff_0000_0000_0000);
    let (low, high) =
        (VirtRange::of_size(start, BYTES).unwrap(), VirtRange::of_size(start + 2 * BYTES, BYTES).unwrap());
    kernel.map(low, RAM, Arm64::data(), Sizes::ALL);
    kernel.map(high, RAM + 2 * BYTES, Arm64::data(), Sizes::ALL);
    let windows = Windows::new(&memory).unwrap();
    let region = VirtRange { start, last: high.last };
    let linear = windows.open_linear(region, kernel.root(), Arm64::FORMAT, PhysAddr(RAM)).unwrap();
    assert_eq!(linear.frames(), PhysRange::new(PhysAddr(RAM), PhysAddr(RAM + 3 * BYTES)));

    let object = LinearMem::ptr(&linear, PhysAddr(DATA + 64), 128).unwrap();
    // SAFETY:
    // 1. 128 bytes of a frame that is mapped writable and that nobody else uses.
    unsafe { object.cast::<u64>().write(0x6b6b_6b6b) };
    assert_eq!(phys_word(&memory, DATA + 64), 0x6b6b_6b6b);
    assert_eq!(LinearMem::pa(&linear, object), Some(PhysAddr(DATA + 64)));
    assert_eq!(linear.window().va(object), Some(start + (DATA + 64 - RAM)));
    assert_eq!(linear.window().ptr(start + (DATA + 64 - RAM)), Some(object));

    let end = PhysAddr(RAM + BYTES);
    assert!(LinearMem::ptr(&linear, end - 8, 8).is_some());
    assert_eq!(LinearMem::ptr(&linear, end - 8, 9), None, "the second half is a hole");
    assert_eq!(LinearMem::ptr(&linear, end, 1), None);
    assert_eq!(LinearMem::ptr(&linear, PhysAddr(RAM - 1), 1), None);
    assert!(LinearMem::ptr(&linear, PhysAddr(RAM + 3 * BYTES - 1), 1).is_some());
    assert_eq!(LinearMem::pa(&linear, NonNull::from(&memory).cast()), None);
}

#[test]
fn a_linear_map_that_names_other_frames_is_refused() {
    let memory = memory();
    let mut kernel = Kernel::<X86>::new(&memory);
    kernel.map_frames(X86::BASE, &[RAM, RAM + 2 * PAGE, RAM + PAGE], X86::data());
    let windows = Windows::new(&memory).unwrap();
    let linear = windows.open_linear(pages(X86::BASE, 16), kernel.root(), X86::FORMAT, PhysAddr(RAM)).unwrap();
    assert_eq!(linear.window().probe(X86::BASE, Access::Write), Ok(()));
    assert_eq!(linear.window().probe(X86::BASE + PAGE, Access::Read).unwrap_err().kind, WindowFaultKind::NotLinear);
    assert!(linear.window().word(X86::BASE).is_ok());
    assert_eq!(linear.window().counters().mapped_pages, 1, "the run ends at the first frame out of place");
}

#[test]
fn a_block_over_the_end_of_memory_is_mapped_up_to_it() {
    let memory = memory_of(BYTES + 3 * PAGE);
    let mut kernel = Kernel::<Arm64>::new(&memory);
    let run = VirtRange::of_size(VirtAddr(0xffff_0000_0000_0000), 1 << 30).unwrap();
    kernel.map(run, RAM, Arm64::data(), Sizes::ALL);
    let windows = Windows::new(&memory).unwrap();
    let window = windows.open(run, kernel.root(), Arm64::FORMAT).unwrap();
    let end = run.start + BYTES + 3 * PAGE;
    window.write(end - 1, &[5]).unwrap();
    assert_eq!(window.counters().mapped_pages, BYTES / PAGE + 3);
    assert_eq!(window.probe(end, Access::Read).unwrap_err().kind, mmu(FaultKind::External));
}

#[test]
fn a_page_that_arm64_has_not_marked_as_accessed_faults() {
    let memory = memory();
    let mut kernel = Kernel::<Arm64>::new(&memory);
    let old = kernmem_arch::arm64::Arm64Attrs(0x00e8_0000_0000_0303);
    kernel.map_frames(Arm64::BASE, &[DATA], old);
    let windows = Windows::new(&memory).unwrap();
    let window = windows.open(pages(Arm64::BASE, 1), kernel.root(), Arm64::FORMAT).unwrap();
    assert_eq!(window.probe(Arm64::BASE, Access::Read).unwrap_err().kind, mmu(FaultKind::AccessFlag));
}

#[test]
fn memory_that_was_given_back_reads_as_zero_through_a_window() {
    let memory = memory();
    let mut kernel = Kernel::<Arm64>::new(&memory);
    kernel.map_frames(Arm64::BASE, &[DATA, DATA + PAGE], Arm64::data());
    mark_all(&memory, &[DATA, DATA + PAGE]);
    let windows = Windows::new(&memory).unwrap();
    let window = windows.open(pages(Arm64::BASE, 2), kernel.root(), Arm64::FORMAT).unwrap();
    assert_eq!((window.word(Arm64::BASE), window.word(Arm64::BASE + PAGE)), (Ok(DATA), Ok(DATA + PAGE)));
    let held = memory.allocated_bytes();
    memory.release(PhysRange::new(PhysAddr(DATA), PhysAddr(DATA + PAGE))).unwrap();
    assert_eq!(held - memory.allocated_bytes(), PAGE);
    assert_eq!((window.word(Arm64::BASE + 8), window.word(Arm64::BASE + PAGE)), (Ok(0), Ok(DATA + PAGE)));
}

#[test]
fn regions_that_cannot_be_windows_are_refused_with_a_reason() {
    let memory = memory();
    let kernel = Kernel::<Arm64>::new(&memory);
    let windows = Windows::new(&memory).unwrap();
    let open = |start: u64, last: u64| {
        let region = VirtRange { start: VirtAddr(start), last: VirtAddr(last) };
        windows.open(region, kernel.root(), Arm64::FORMAT).map(|_| ()).map_err(|error| (error, error.to_string()))
    };
    let (error, text) = open(0xffff_0000_0000_0000, 0xffff_ffff_ffff_ffff).unwrap_err();
    assert!(matches!(error, WindowError::NoAddressSpace { .. }), "256 TiB are more than a host process has");
    assert!(text.contains("no address space for a window of 268435456 MiB"), "{text}");
    assert!(matches!(open(0x1800, 0x2fff).unwrap_err().0, WindowError::Misaligned { .. }));
    assert!(matches!(open(0x1000, 0x2ffe).unwrap_err().0, WindowError::Misaligned { .. }));
    assert!(matches!(open(0, 0xffff_ffff_ffff_ffff).unwrap_err().0, WindowError::BeyondRoot { .. }));
    let odd = windows.open_linear(pages(Arm64::BASE, 1), kernel.root(), Arm64::FORMAT, PhysAddr(0x800));
    assert!(matches!(odd, Err(WindowError::Misaligned { .. })));
    assert!(open(0xffff_ffff_ffff_f000, 0xffff_ffff_ffff_ffff).is_ok(), "the last page of all");
}

#[test]
fn addresses_outside_a_window_are_told_before_anything_is_touched() {
    let memory = memory();
    let kernel = Kernel::<Arm64>::new(&memory);
    let windows = Windows::new(&memory).unwrap();
    let window = windows.open(pages(Arm64::BASE, 2), kernel.root(), Arm64::FORMAT).unwrap();
    let end = Arm64::BASE + 2 * PAGE;
    let outside = |va| AccessError::Outside { va };
    assert_eq!(window.word(end), Err(outside(end)));
    assert_eq!(window.word(end - 8 - (2 * PAGE)), Err(outside(Arm64::BASE - 8)));
    assert_eq!(window.word(end - 4), Err(AccessError::Misaligned { va: end - 4 }));
    assert_eq!(window.read(end - 1, &mut [0; 2]), Err(outside(end - 1)));
    assert_eq!(window.write(end - 1, &[0; 2]), Err(outside(end - 1)));
    assert_eq!((window.read(end, &mut []), window.write(VirtAddr(0), &[])), (Ok(()), Ok(())));
    assert!(window.words(Arm64::BASE, usize::MAX).is_err());
    assert_eq!((window.ptr(end), window.ptr(end - 1).and_then(|ptr| window.va(ptr))), (None, Some(end - 1)));
    let mut no_tlb = NoTlb;
    no_tlb.flush(VirtRange::ALL, false);
    assert_eq!(window.counters().fills, 0);
}
