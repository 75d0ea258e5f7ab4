//! A window against a naive TLB: what each page may show after any sequence of changes, flushes and accesses.
//!
//! The model keeps for each page the frame that the tables name, and every frame that they have named since the page
//! was last flushed. After each step:
//! 1. A page shows one of these frames; right after its own flush, the frame that the tables name now.
//! 2. A probe says what the tables say now.
//! 3. What is written through a page is in the frame that the page shows.
#![allow(clippy::unwrap_used, reason = "a test stops where an answer is missing")]

mod support;

use core::sync::atomic::{AtomicU64, Ordering};

use kernmem_base::{Access, PhysAddr, PhysMem, VirtAddr, VirtRange};
use kernmem_pgtable::{Walk, translate};
use kernmem_sim::{Memory, Window, Windows};
use proptest::prelude::*;
use support::{Arm64, BYTES, DATA, Kernel, Kind, PAGE, RAM, X86, mark_all, memory, pages, phys_word};

const PAGES: u64 = 12;
const FRAMES: u64 = 6;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// Names another frame, or the first one.
    Map {
        page: u64,
        frame: u64,
    },
    Unmap {
        page: u64,
    },
    Flush {
        page: u64,
        count: u64,
    },
    Read {
        page: u64,
    },
    Write {
        page: u64,
        value: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let page = 0..PAGES;
    prop_oneof![
        3 => (page.clone(), 0..FRAMES).prop_map(|(page, frame)| Step::Map { page, frame }),
        2 => page.clone().prop_map(|page| Step::Unmap { page }),
        2 => (page.clone(), 1..4_u64).prop_map(|(page, count)| Step::Flush { page, count }),
        6 => page.clone().prop_map(|page| Step::Read { page }),
        3 => (page, any::<u64>()).prop_map(|(page, value)| Step::Write { page, value }),
    ]
}

fn frame_pa(frame: u64) -> u64 {
    DATA + frame * PAGE
}

/// What one page may show.
#[derive(Clone, Debug, Default)]
struct Shown {
    now: Option<u64>,
    since_flush: Vec<u64>,
}

struct Both<'m, K: Kind> {
    memory: &'m Memory,
    kernel: Kernel<'m, K>,
    window: Window<'m>,
    model: Vec<Shown>,
}

impl<K: Kind> Both<'_, K> {
    fn run(&mut self, step: Step) {
        match step {
            Step::Map { page, frame } => {
                self.unmap(page);
                self.kernel.map_frames(K::BASE + page * PAGE, &[frame_pa(frame)], K::data());
                let shown = &mut self.model[page as usize];
                shown.now = Some(frame);
                shown.since_flush.push(frame);
            }
            Step::Unmap { page } => self.unmap(page),
            Step::Flush { page, count } => {
                self.window.flush(pages(K::BASE + page * PAGE, count));
                for shown in self.model.iter_mut().skip(page as usize).take(count as usize) {
                    shown.since_flush = shown.now.into_iter().collect();
                }
            }
            Step::Read { page } => {
                self.shown_frame(page);
            }
            Step::Write { page, value } => {
                let Some(frame) = self.shown_frame(page) else { return };
                self.window.write(K::BASE + page * PAGE + 8, &value.to_le_bytes()).unwrap();
                assert_eq!(phys_word(self.memory, frame_pa(frame) + 8), value);
            }
        }
        let page = match step {
            Step::Map { page, .. } | Step::Unmap { page } | Step::Flush { page, .. } => page,
            Step::Read { page } | Step::Write { page, .. } => page,
        };
        let is_mapped = self.window.probe(K::BASE + page * PAGE, Access::Read).is_ok();
        assert_eq!(is_mapped, self.model[page as usize].now.is_some());
    }

    fn unmap(&mut self, page: u64) {
        if self.model[page as usize].now.take().is_some() {
            self.kernel.unmap_without_flush(pages(K::BASE + page * PAGE, 1));
        }
    }

    /// The frame that a page shows, where an access cannot kill.
    fn shown_frame(&self, page: u64) -> Option<u64> {
        let shown = &self.model[page as usize];
        shown.now?;
        let frame = (self.window.word(K::BASE + page * PAGE).unwrap() - DATA) / PAGE;
        assert!(shown.since_flush.contains(&frame), "page {page} shows frame {frame}: {shown:?}");
        Some(frame)
    }
}

fn check<K: Kind>(steps: &[Step]) {
    let memory = memory();
    let frames: Vec<u64> = (0..FRAMES).map(frame_pa).collect();
    mark_all(&memory, &frames);
    let kernel = Kernel::<K>::new(&memory);
    let windows = Windows::new(&memory).unwrap();
    let window = windows.open(pages(K::BASE, PAGES), kernel.root(), K::FORMAT).unwrap();
    let mut both = Both { memory: &memory, kernel, window, model: vec![Shown::default(); PAGES as usize] };
    steps.iter().for_each(|step| both.run(*step));
    both.window.flush(VirtRange::ALL);
    for page in 0..PAGES {
        both.model[page as usize].since_flush = both.model[page as usize].now.into_iter().collect();
        both.shown_frame(page);
    }
}

/// An entry for a page of memory, with the bits of `attrs` that are no address.
fn made(page: u64, attrs: u64) -> u64 {
    (RAM + page * PAGE) | (attrs & !0x000f_ffff_ffff_f000)
}

/// An entry of any kind: another of the four tables, a leaf of any rights in memory or beside it, or noise.
fn entry() -> impl Strategy<Value = u64> {
    let attrs = prop_oneof![Just(0x703), Just(0x701), Just(0x67), Just(0xe7), any::<u64>()];
    prop_oneof![
        4 => (0..4_u64, attrs.clone()).prop_map(|(table, attrs)| made(table, attrs)),
        4 => (0..BYTES / PAGE + 4, attrs).prop_map(|(page, attrs)| made(page, attrs)),
        1 => any::<u64>(),
        1 => Just(0),
    ]
}

/// Whatever stands in the tables: a walk ends without a panic, and what may be read is what a plain walk finds.
fn check_tables<K: Kind>(entries: &[u64], accesses: &[(usize, u64)]) {
    let memory = memory();
    for table in 0..4 {
        let slots = memory.table_mut::<AtomicU64>(PhysAddr(RAM + table * PAGE), 512).unwrap();
        for (slot, raw) in slots.iter().zip(entries[table as usize..].iter().cycle()) {
            slot.store(*raw, Ordering::Relaxed);
        }
    }
    let windows = Windows::new(&memory).unwrap();
    let region = VirtRange::of_size(VirtAddr(K::BASE.0 & !0 << 30), 1 << 30).unwrap();
    let window = windows.open(region, PhysAddr(RAM), K::FORMAT).unwrap();
    for (page, offset) in accesses {
        let va = region.start + (*page as u64 * PAGE + offset * 8);
        let walk = translate::<K::F, _>(&memory, PhysAddr(RAM), va);
        match window.probe(va, Access::Read) {
            Ok(()) => {
                let Ok(Walk::Mapped { pa, .. }) = walk else { panic!("{walk:?}") };
                assert_eq!(window.word(va), Ok(phys_word(&memory, pa.0)));
            }
            Err(fault) => assert_eq!(fault.va, va),
        }
        assert!(window.probe(va, Access::Write).is_err() || window.probe(va, Access::Read).is_ok());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_window_over_arm64_tables_is_a_tlb(steps in prop::collection::vec(step(), 1..120)) {
        check::<Arm64>(&steps);
    }

    #[test]
    fn a_window_over_x86_tables_is_a_tlb(steps in prop::collection::vec(step(), 1..120)) {
        check::<X86>(&steps);
    }

    #[test]
    fn any_words_are_tables_of_arm64(
        entries in prop::collection::vec(entry(), 4..40),
        accesses in prop::collection::vec((0..1_usize << 18, 0..512_u64), 20),
    ) {
        check_tables::<Arm64>(&entries, &accesses);
    }

    #[test]
    fn any_words_are_tables_of_x86(
        entries in prop::collection::vec(entry(), 4..40),
        accesses in prop::collection::vec((0..1_usize << 18, 0..512_u64), 20),
    ) {
        check_tables::<X86>(&entries, &accesses);
    }
}
