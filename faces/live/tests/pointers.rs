//! Pointers are real: what the kernel gives is reached through the tables that it made.

use core::sync::atomic::Ordering;

use crate::common::{PRESETS, run, source};
use kernmem_base::{CpuId, Order, Pfn, PhysAddr, VirtRange};
use kernmem_page_alloc::{Gfp, PageSource};

const CPU: CpuId = CpuId(0);

/// Three frames with others between them, mapped one behind the other: one slice, and the linear map's three pieces.
#[test]
fn three_frames_apart_are_one_slice_and_the_linear_map_sees_them_too() {
    for preset in PRESETS {
        run(&source(preset, None, None), |live| {
            let mut pages = live.running.pages(CPU).expect("the first CPU");
            let taken: Vec<Pfn> = (0..6).map(|_| pages.alloc(Gfp::KERNEL, Order(0)).expect("a page")).collect();
            let frames = [taken[4], taken[0], taken[2]];
            assert!(frames.windows(2).all(|pair| pair[0].0.abs_diff(pair[1].0) > 1), "{frames:?} lie apart");
            let va = live.on(CPU, |running, on| running.vmap(on, &frames)).0.expect("an area");
            let range = VirtRange::of_size(va, 3 * 4096).expect("three pages");
            let window = live.window(range).expect("a window");
            for (word, at) in window.words(va, 3 * 512).expect("three pages").iter().zip(0u64..) {
                word.store(0xabcd_0000 + at, Ordering::Relaxed);
            }
            let linear = live.linear().expect("pointers");
            for (frame, page) in frames.iter().zip(0u64..) {
                let pa = PhysAddr(frame.0 << 12);
                let first = linear.window().word(live.linear_address(pa)).expect("a word of the linear map");
                assert_eq!(first, 0xabcd_0000 + page * 512, "{preset} page {page}");
                assert_eq!(live.running.vmalloc_to_pfn(va + page * 4096), Ok(Some(*frame)));
            }
            live.on(CPU, |running, on| running.vunmap(on, va)).0.expect("the area");
        });
    }
}

#[test]
fn an_object_is_reached_by_its_pointer_and_by_its_address() {
    for preset in PRESETS {
        run(&source(preset, None, None), |live| {
            let object = live.kmalloc(CPU, 200).expect("an object");
            let va = live.address_of(object).expect("its address");
            let linear = live.linear().expect("pointers");
            linear.window().write(va, b"kernel object").expect("writable");
            assert_eq!(linear.window().ptr(va).map(|ptr| ptr.as_ptr()), Some(object.as_ptr()), "{preset}");
            let mut bytes = [0; 13];
            linear.window().read(va, &mut bytes).expect("readable");
            assert_eq!(&bytes, b"kernel object");
            live.kfree(CPU, object).expect("freed once");
            assert!(live.kfree(CPU, object).is_err(), "freed twice");
        });
    }
}

/// A window stays as it is until the flush of the purge: then the address is gone for good.
#[test]
fn a_freed_area_is_gone_once_it_is_purged() {
    for preset in PRESETS {
        run(&source(preset, None, None), |live| {
            let va = live.on(CPU, |running, on| running.vmalloc(on, 8192)).0.expect("an area");
            let window = live.window(VirtRange::of_size(va, 3 * 4096).expect("with guard")).expect("a window");
            window.write(va, &[7; 4]).expect("writable");
            assert!(window.probe(va + 8192, kernmem_base::Access::Read).is_err(), "{preset}: the guard page");
            let (freed, flushes) = live.on(CPU, |running, on| running.vfree(on, va));
            freed.expect("an area");
            assert_eq!(flushes, 0, "{preset}: a free waits");
            let (purged, flushes) = live.on(CPU, |running, on| running.purge(on));
            assert_eq!((purged.is_some(), flushes), (true, 1), "{preset}");
            assert!(window.probe(va, kernmem_base::Access::Read).is_err());
        });
    }
}

/// Two kernels of different architectures in one process, each with its own memory.
#[test]
fn two_kernels_run_in_one_process() {
    run(&source("arm64-4g", None, None), |arm| {
        run(&source("x86-4g", None, None), |x86| {
            let first = arm.on(CPU, |running, on| running.vmalloc(on, 4096)).0.expect("an area");
            let second = x86.on(CPU, |running, on| running.vmalloc(on, 4096)).0.expect("an area");
            let range = |va| VirtRange::of_size(va, 4096).expect("a page");
            let (one, two) = (arm.window(range(first)).expect("window"), x86.window(range(second)).expect("window"));
            one.write(first, b"arm").expect("writable");
            two.write(second, b"x86").expect("writable");
            let mut bytes = [0; 3];
            one.read(first, &mut bytes).expect("readable");
            assert_eq!(&bytes, b"arm");
            two.read(second, &mut bytes).expect("readable");
            assert_eq!(&bytes, b"x86");
        });
    });
}
