//! Accesses that the tables do not permit: each is a real fault that kills a process of its own.
//!
//! A test runs this program again with itself alone; the child makes the access, the parent looks at its end.
#![allow(clippy::unwrap_used, reason = "a test stops where an answer is missing")]

mod support;

use core::sync::atomic::{AtomicU64, Ordering};

use kernmem_base::{PhysAddr, VirtRange};
use kernmem_sim::{Memory, Windows};
use support::{Arm64, BYTES, DATA, Death, Kernel, Kind, PAGE, RAM, X86, is_child, memory, pages, run_child};

const KILLED: Option<i32> = Some(libc::SIGSEGV);

/// Runs `access` in a child and returns its end; in the child, runs it.
#[track_caller]
fn end_of(name: &str, access: impl FnOnce()) -> Option<Death> {
    if !is_child() {
        return Some(run_child(name));
    }
    access();
    None
}

/// The child must die by the signal and tell `line`.
#[track_caller]
fn dies(name: &str, line: &str, access: impl FnOnce()) {
    let Some(death) = end_of(name, access) else { return };
    assert_eq!((death.signal, death.fault()), (KILLED, Some(line)), "{death:?}");
}

/// A kernel with two pages, writable and read only, and a hole behind them.
fn with_pages<K: Kind>(memory: &Memory) -> Kernel<'_, K> {
    let mut kernel = Kernel::new(memory);
    kernel.map_frames(K::BASE, &[DATA], K::data());
    kernel.map_frames(K::BASE + PAGE, &[DATA], K::read_only());
    kernel
}

#[test]
fn reading_a_guard_page() {
    let line = "kernmem-window-fault va=0xffff800010002010 access=read kind=translation level=pte";
    dies("reading_a_guard_page", line, || {
        let memory = memory();
        let kernel = with_pages::<Arm64>(&memory);
        let windows = Windows::new(&memory).unwrap();
        let window = windows.open(pages(Arm64::BASE, 16), kernel.root(), Arm64::FORMAT).unwrap();
        assert_eq!((window.word(Arm64::BASE), window.word(Arm64::BASE + PAGE)), (Ok(0), Ok(0)));
        let _ = window.word(Arm64::BASE + 2 * PAGE + 16);
    });
}

#[test]
fn running_over_the_end_of_an_area() {
    let line = "kernmem-window-fault va=0xffffc90000001000 access=write kind=translation level=pte";
    dies("running_over_the_end_of_an_area", line, || {
        let memory = memory();
        let mut kernel = Kernel::<X86>::new(&memory);
        kernel.map_frames(X86::BASE, &[DATA], X86::data());
        let windows = Windows::new(&memory).unwrap();
        let window = windows.open(pages(X86::BASE, 16), kernel.root(), X86::FORMAT).unwrap();
        window.write(X86::BASE, &[1; 5000]).unwrap();
    });
}

#[test]
fn a_hole_higher_up_names_its_level() {
    let line = "kernmem-window-fault va=0xffffc90000400000 access=read kind=translation level=pmd";
    dies("a_hole_higher_up_names_its_level", line, || {
        let memory = memory();
        let kernel = with_pages::<X86>(&memory);
        let windows = Windows::new(&memory).unwrap();
        let window = windows.open(pages(X86::BASE, 4096), kernel.root(), X86::FORMAT).unwrap();
        let _ = window.word(X86::BASE + (4 << 20));
    });
}

#[test]
fn writing_to_a_read_only_alias_of_arm64() {
    let line = "kernmem-window-fault va=0xffff800010001008 access=write kind=permission level=pte";
    dies("writing_to_a_read_only_alias_of_arm64", line, read_only_alias::<Arm64>);
}

#[test]
fn writing_to_a_read_only_alias_of_x86() {
    let line = "kernmem-window-fault va=0xffffc90000001008 access=write kind=permission level=pte";
    dies("writing_to_a_read_only_alias_of_x86", line, read_only_alias::<X86>);
}

fn read_only_alias<K: Kind>() {
    let memory = memory();
    let kernel = with_pages::<K>(&memory);
    let windows = Windows::new(&memory).unwrap();
    let window = windows.open(pages(K::BASE, 16), kernel.root(), K::FORMAT).unwrap();
    let aliases = window.words(K::BASE, 1024).unwrap();
    aliases[1].store(5, Ordering::Relaxed);
    assert_eq!(aliases[513].load(Ordering::Relaxed), 5, "the alias may be read");
    aliases[513].store(6, Ordering::Relaxed);
}

#[test]
fn the_first_access_to_a_read_only_page_may_be_the_write() {
    let line = "kernmem-window-fault va=0xffff800010001000 access=write kind=permission level=pte";
    dies("the_first_access_to_a_read_only_page_may_be_the_write", line, || {
        let memory = memory();
        let kernel = with_pages::<Arm64>(&memory);
        let windows = Windows::new(&memory).unwrap();
        let window = windows.open(pages(Arm64::BASE, 16), kernel.root(), Arm64::FORMAT).unwrap();
        let place = window.ptr(Arm64::BASE + PAGE).unwrap();
        // SAFETY:
        // 1. The address belongs to the window; the store is meant to fault.
        unsafe { place.write_volatile(1) };
    });
}

#[test]
fn a_use_after_unmap_and_flush() {
    let line = "kernmem-window-fault va=0xffffc90000000000 access=read kind=translation level=pte";
    dies("a_use_after_unmap_and_flush", line, || {
        let memory = memory();
        let mut kernel = with_pages::<X86>(&memory);
        let windows = Windows::new(&memory).unwrap();
        let window = windows.open(pages(X86::BASE, 16), kernel.root(), X86::FORMAT).unwrap();
        assert_eq!(window.word(X86::BASE), Ok(0));
        kernel.unmap_without_flush(pages(X86::BASE, 1));
        assert_eq!(window.word(X86::BASE), Ok(0), "not flushed yet");
        windows.flush(pages(X86::BASE, 1));
        let _ = window.word(X86::BASE);
    });
}

#[test]
fn a_right_that_was_taken_is_gone_after_the_flush() {
    let line = "kernmem-window-fault va=0xffff800010000000 access=write kind=permission level=pte";
    dies("a_right_that_was_taken_is_gone_after_the_flush", line, || {
        let memory = memory();
        let mut kernel = with_pages::<Arm64>(&memory);
        let windows = Windows::new(&memory).unwrap();
        let window = windows.open(pages(Arm64::BASE, 16), kernel.root(), Arm64::FORMAT).unwrap();
        window.write(Arm64::BASE, &[1]).unwrap();
        kernel.protect_without_flush(pages(Arm64::BASE, 1), Arm64::seal());
        window.write(Arm64::BASE, &[2]).unwrap();
        windows.flush(VirtRange::ALL);
        assert_eq!(window.word(Arm64::BASE), Ok(2));
        window.write(Arm64::BASE, &[3]).unwrap();
    });
}

#[test]
fn a_program_that_reads_the_kernel() {
    let line = "kernmem-window-fault va=0xffffc90000000000 access=read kind=permission level=pte";
    dies("a_program_that_reads_the_kernel", line, || {
        let memory = memory();
        let kernel = with_pages::<X86>(&memory);
        let windows = Windows::new(&memory).unwrap();
        let window = windows.open_user(pages(X86::BASE, 16), kernel.root(), X86::FORMAT).unwrap();
        let _ = window.word(X86::BASE);
    });
}

#[test]
fn a_frame_that_is_no_memory() {
    let line = "kernmem-window-fault va=0xffff800010000000 access=write kind=external level=none";
    dies("a_frame_that_is_no_memory", line, || {
        let memory = memory();
        let mut kernel = Kernel::<Arm64>::new(&memory);
        kernel.map_frames(Arm64::BASE, &[RAM + BYTES], Arm64::data());
        let windows = Windows::new(&memory).unwrap();
        let window = windows.open(pages(Arm64::BASE, 16), kernel.root(), Arm64::FORMAT).unwrap();
        window.write(Arm64::BASE, &[1]).unwrap();
    });
}

#[test]
fn a_linear_map_with_a_frame_out_of_place() {
    let line = "kernmem-window-fault va=0xffff800010001000 access=read kind=not-linear level=pte";
    dies("a_linear_map_with_a_frame_out_of_place", line, || {
        let memory = memory();
        let kernel = with_pages::<Arm64>(&memory);
        let windows = Windows::new(&memory).unwrap();
        let window = windows.open_linear(pages(Arm64::BASE, 16), kernel.root(), Arm64::FORMAT, PhysAddr(DATA)).unwrap();
        let window = window.window();
        assert_eq!(window.word(Arm64::BASE), Ok(0));
        let _ = window.word(Arm64::BASE + PAGE);
    });
}

#[test]
fn running_data_as_code() {
    let line = "kernmem-window-fault va=0xffff800010000000 access=execute kind=permission level=pte";
    dies("running_data_as_code", line, || {
        let memory = memory();
        let kernel = with_pages::<Arm64>(&memory);
        let windows = Windows::new(&memory).unwrap();
        let window = windows.open(pages(Arm64::BASE, 16), kernel.root(), Arm64::FORMAT).unwrap();
        assert_eq!(window.word(Arm64::BASE), Ok(0));
        let place = window.ptr(Arm64::BASE).unwrap().as_ptr();
        // SAFETY:
        // 1. The address is not executable: the call is meant to fault before anything runs.
        let code = unsafe { core::mem::transmute::<*mut u8, extern "C" fn()>(place) };
        code();
    });
}

#[test]
fn a_fault_on_another_thread() {
    let line = "kernmem-window-fault va=0xffff800010002000 access=write kind=translation level=pte";
    dies("a_fault_on_another_thread", line, || {
        let memory = memory();
        let kernel = with_pages::<Arm64>(&memory);
        let windows = Windows::new(&memory).unwrap();
        let window = windows.open(pages(Arm64::BASE, 16), kernel.root(), Arm64::FORMAT).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| window.write(Arm64::BASE + 2 * PAGE, &[1]));
        });
    });
}

/// Reads the word at an address that no mapping has.
fn read_wild() {
    static WILD: AtomicU64 = AtomicU64::new(64);
    let wild = core::ptr::with_exposed_provenance::<u64>(WILD.load(Ordering::Relaxed) as usize);
    // SAFETY:
    // 1. None: the read is meant to fault.
    let _ = unsafe { wild.read_volatile() };
}

#[test]
fn a_fault_outside_windows_kills_without_a_word() {
    let death = end_of("a_fault_outside_windows_kills_without_a_word", || {
        let memory = memory();
        let kernel = with_pages::<Arm64>(&memory);
        let windows = Windows::new(&memory).unwrap();
        let window = windows.open(pages(Arm64::BASE, 16), kernel.root(), Arm64::FORMAT).unwrap();
        assert_eq!(window.word(Arm64::BASE), Ok(0));
        read_wild();
    });
    let Some(death) = death else { return };
    assert_eq!((death.signal, death.fault()), (KILLED, None), "{death:?}");
}

#[test]
fn a_pointer_kept_beyond_its_window_kills() {
    let death = end_of("a_pointer_kept_beyond_its_window_kills", || {
        let memory = memory();
        let kernel = with_pages::<Arm64>(&memory);
        let windows = Windows::new(&memory).unwrap();
        let window = windows.open(pages(Arm64::BASE, 16), kernel.root(), Arm64::FORMAT).unwrap();
        let place = window.ptr(Arm64::BASE).unwrap();
        assert_eq!(window.word(Arm64::BASE), Ok(0));
        drop(window);
        // SAFETY:
        // 1. None: the read is meant to fault.
        let _ = unsafe { place.read_volatile() };
    });
    let Some(death) = death else { return };
    assert_eq!((death.signal, death.fault()), (KILLED, None), "{death:?}");
}

#[inline(never)]
fn deeper(depth: u64) -> u64 {
    let room = core::hint::black_box([depth; 64]);
    if core::hint::black_box(depth) == u64::MAX {
        return 0;
    }
    deeper(depth + 1) + core::hint::black_box(room[3])
}

#[test]
fn an_overflow_of_the_stack_is_still_told_by_name() {
    let death = end_of("an_overflow_of_the_stack_is_still_told_by_name", || {
        let memory = memory();
        let _windows = Windows::new(&memory).unwrap();
        let _ = deeper(0);
    });
    let Some(death) = death else { return };
    assert_eq!((death.signal, death.fault()), (Some(libc::SIGABRT), None), "{death:?}");
    assert!(death.stderr.contains("has overflowed its stack"), "{death:?}");
}

extern "C" fn leave(_signal: libc::c_int) {
    // SAFETY:
    // 1. Ends the process at once, which is allowed in handlers.
    unsafe { libc::_exit(42) };
}

/// Installs a handler of the plain kind, as a crash reporter would before windows are opened.
fn install_reporter() {
    // SAFETY:
    // 1. `leave` only ends the process.
    unsafe { libc::signal(libc::SIGSEGV, leave as extern "C" fn(libc::c_int) as libc::sighandler_t) };
}

#[test]
fn the_handler_that_was_there_gets_what_windows_refuse() {
    let death = end_of("the_handler_that_was_there_gets_what_windows_refuse", || {
        install_reporter();
        let memory = memory();
        let kernel = with_pages::<Arm64>(&memory);
        let windows = Windows::new(&memory).unwrap();
        let window = windows.open(pages(Arm64::BASE, 16), kernel.root(), Arm64::FORMAT).unwrap();
        let _ = window.word(Arm64::BASE + 2 * PAGE);
    });
    let Some(death) = death else { return };
    let line = "kernmem-window-fault va=0xffff800010002000 access=read kind=translation level=pte";
    assert_eq!((death.signal, death.code, death.fault()), (None, Some(42), Some(line)), "{death:?}");
}

#[test]
fn the_handler_that_was_there_gets_what_lies_outside() {
    let death = end_of("the_handler_that_was_there_gets_what_lies_outside", || {
        install_reporter();
        let memory = memory();
        let _windows = Windows::new(&memory).unwrap();
        read_wild();
    });
    let Some(death) = death else { return };
    assert_eq!((death.signal, death.code, death.fault()), (None, Some(42), None), "{death:?}");
}

#[test]
fn a_signal_that_was_sent_kills_too() {
    let death = end_of("a_signal_that_was_sent_kills_too", || {
        let memory = memory();
        let _windows = Windows::new(&memory).unwrap();
        // SAFETY:
        // 1. Sends a signal to this thread.
        unsafe { libc::raise(libc::SIGSEGV) };
        // Rust's own handler takes a signal that was sent for a fault that will come again: send it once more.
        // SAFETY:
        // 1. As above.
        unsafe { libc::raise(libc::SIGSEGV) };
    });
    let Some(death) = death else { return };
    assert_eq!((death.signal, death.fault()), (KILLED, None), "{death:?}");
}
