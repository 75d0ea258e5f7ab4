//! What single faults do, and what is left when memory is short at any request: computed by hand.
#![allow(clippy::unwrap_used, reason = "a test stops where an answer is missing")]

mod play;

use kernmem_arch::UserRights;
use kernmem_arch::arm64::Arm64Granule4K;
use kernmem_arch::x86::X86Level4;
use kernmem_base::{Access, Era, VirtAddr};
use kernmem_mm::{Handled, Signal, SpaceError, may_reuse};
use kernmem_page_alloc::PageSource;
use play::{BASE, Mmu, Op, PAGE, World, beginning};

const ERAS: [Era; 4] = [Era::V5_10, Era::V6_1, Era::V6_12, Era::V7_2];
/// A page of [`beginning`] that was not written.
const UNTOUCHED: VirtAddr = VirtAddr(BASE.0 + 3 * PAGE);
/// A page of [`beginning`] that was.
const WRITTEN: VirtAddr = VirtAddr(BASE.0 + 21 * PAGE);

fn world<F: Mmu>(era: Era) -> World<F> {
    let mut world = World::<F>::new(era, 128);
    for op in beginning() {
        world.step(op).unwrap();
    }
    world.check();
    world
}

fn in_both_formats(check: impl Fn(Era, &mut dyn Faults)) {
    for era in ERAS {
        check(era, &mut world::<Arm64Granule4K>(era));
        check(era, &mut world::<X86Level4>(era));
    }
}

/// A world of either format.
trait Faults {
    fn fault(&mut self, who: usize, va: VirtAddr, access: Access) -> Result<Handled, Signal>;
    fn read(&mut self, who: usize, va: VirtAddr);
    fn fork(&mut self);
    fn exit(&mut self, who: usize);
    fn check(&mut self);
    fn forget(&mut self);
    fn flushes(&self) -> usize;
    fn anon_pages(&self, who: usize) -> u64;
}

impl<F: Mmu> Faults for World<F> {
    fn fault(&mut self, who: usize, va: VirtAddr, access: Access) -> Result<Handled, Signal> {
        let done = World::fault(self, who, va, access);
        self.check();
        done
    }

    fn read(&mut self, who: usize, va: VirtAddr) {
        self.reach(who, va, Access::Read).unwrap();
    }

    fn fork(&mut self) {
        World::fork(self, 0).unwrap();
    }

    fn exit(&mut self, who: usize) {
        World::exit(self, who);
    }

    fn check(&mut self) {
        World::check(self);
    }

    fn forget(&mut self) {
        self.tlb.flushes.clear();
    }

    fn flushes(&self) -> usize {
        self.tlb.flushes.len()
    }

    fn anon_pages(&self, who: usize) -> u64 {
        self.processes[who].space.anon_pages()
    }
}

#[test]
fn a_read_of_untouched_memory_maps_the_page_of_zeros_and_a_write_then_replaces_it() {
    in_both_formats(|_, world| {
        assert_eq!(world.fault(0, UNTOUCHED, Access::Read), Ok(Handled::ZeroPage));
        assert_eq!(world.anon_pages(0), 8);
        assert_eq!(world.fault(0, UNTOUCHED, Access::Read), Ok(Handled::Spurious));
        world.read(0, UNTOUCHED);
        world.forget();
        assert_eq!(world.fault(0, UNTOUCHED, Access::Write), Ok(Handled::FromZeroPage));
        assert_eq!((world.flushes(), world.anon_pages(0)), (1, 9));
    });
}

#[test]
fn a_write_to_untouched_memory_takes_a_page_and_flushes_nothing() {
    in_both_formats(|_, world| {
        world.forget();
        assert_eq!(world.fault(0, UNTOUCHED, Access::Write), Ok(Handled::NewPage));
        assert_eq!((world.flushes(), world.anon_pages(0)), (0, 9));
        assert_eq!(world.fault(0, UNTOUCHED, Access::Write), Ok(Handled::Spurious));
        assert_eq!(world.flushes(), 1);
    });
}

#[test]
fn after_a_fork_the_first_writer_copies_and_the_last_one_goes_on_in_place() {
    in_both_formats(|_, world| {
        world.forget();
        world.fork();
        assert_eq!(world.flushes(), 1, "the parent's translations are flushed once, at the end");
        world.check();
        world.read(0, WRITTEN);
        world.read(1, WRITTEN);
        world.forget();
        assert_eq!(world.fault(1, WRITTEN, Access::Write), Ok(Handled::Copied));
        assert_eq!(world.flushes(), 1, "between the old translation and the new one");
        assert_eq!(world.fault(0, WRITTEN, Access::Write), Ok(Handled::Reused));
        assert_eq!((world.anon_pages(0), world.anon_pages(1)), (8, 8));
    });
}

#[test]
fn whoever_is_left_alone_by_an_exit_writes_in_place() {
    in_both_formats(|_, world| {
        world.fork();
        world.exit(0);
        world.check();
        assert_eq!(world.fault(0, WRITTEN, Access::Write), Ok(Handled::Reused));
    });
}

#[test]
fn a_child_finds_pages_old_and_marks_them_where_no_hardware_does() {
    in_both_formats(|_, world| {
        world.fork();
        assert_eq!(world.fault(1, WRITTEN, Access::Read), Ok(Handled::Marked));
        assert_eq!(world.fault(1, WRITTEN, Access::Read), Ok(Handled::Spurious));
    });
}

#[test]
fn accesses_outside_and_against_the_rights_are_signals() {
    in_both_formats(|_, world| {
        assert_eq!(world.fault(0, BASE, Access::Read), Err(Signal::MapErr));
        assert_eq!(world.fault(0, VirtAddr(0xffff_ffff_ffff_0000), Access::Read), Err(Signal::MapErr));
        assert_eq!(world.fault(0, WRITTEN, Access::Execute), Err(Signal::AccErr));
    });
}

/// Facts: 5.10 asks for a count of one, 6.1 and later for the mark or a count of one.
#[test]
fn the_rule_of_reuse_by_era() {
    for (era, marked) in [(Era::V5_10, false), (Era::V6_1, true), (Era::V6_12, true), (Era::V7_2, true)] {
        assert!(may_reuse(era, false, 1) && !may_reuse(era, false, 2));
        assert_eq!(may_reuse(era, true, 2), marked);
    }
}

/// Facts: from 6.1 on a change of rights makes an exclusive, dirty page writable at once.
#[test]
fn a_page_that_gets_its_right_to_write_back_faults_up_to_5_10_only() {
    for era in ERAS {
        let mut world = world::<X86Level4>(era);
        for rights in [1, 3] {
            world.step(Op::Mprotect { who: 0, page: 20, pages: 8, rights }).unwrap();
            world.check();
        }
        let expected = if era == Era::V5_10 { Handled::Reused } else { Handled::Spurious };
        assert_eq!(World::fault(&mut world, 0, WRITTEN, Access::Write), Ok(expected), "{era:?}");
    }
}

/// Lets the nth request of `then` fail for n = 0, 1, … until nothing fails; returns how many failed.
fn sweep<F: Mmu>(then: impl Fn(&mut World<F>) -> Result<(), SpaceError>) -> u64 {
    for requests in 0.. {
        let mut world = world::<F>(Era::V6_1);
        world.pool.fail_after(Some(requests));
        let done = then(&mut world);
        world.pool.fail_after(None);
        world.check();
        while !world.processes.is_empty() {
            world.exit(0);
        }
        // The page of zeros and the kernel's root stay.
        assert_eq!(world.pool.free_frames(), 126);
        if done.is_ok() {
            return requests;
        }
    }
    unreachable!("a sweep ends where nothing fails")
}

/// By hand: the eight written pages lie on both sides of a gigabyte's boundary: a root, one pud table, two pmd tables,
/// two page tables.
#[test]
fn a_fork_that_lacks_any_frame_is_undone() {
    assert_eq!(sweep::<X86Level4>(|world| world.fork(0)), 6);
    assert_eq!(sweep::<Arm64Granule4K>(|world| world.fork(0)), 6);
}

/// Writes a page at the top of the window.
fn write_at_the_top<F: Mmu>(world: &mut World<F>) -> Result<(), SpaceError> {
    world.step(Op::Mmap { who: 0, how: 6, page: 0, pages: 1, rights: 3 })?;
    let top = *world.processes[0].pages.keys().next_back().unwrap();
    match world.reach(0, VirtAddr(top), Access::Write) {
        Ok(_) => Ok(()),
        Err(signal) => {
            assert_eq!(signal, Signal::OutOfMemory);
            Err(SpaceError::NoRoom { bytes: PAGE })
        }
    }
}

/// By hand: nothing else lies under that slot of the root: pud table, pmd table, page table, page.
#[test]
fn a_fault_that_lacks_any_frame_loses_nothing() {
    assert_eq!(sweep::<X86Level4>(write_at_the_top), 4);
    assert_eq!(sweep::<Arm64Granule4K>(write_at_the_top), 4);
}

/// By hand: after the fork's six frames each of two writes copies one page.
#[test]
fn a_copy_that_lacks_its_page_leaves_both_sides_as_they_were() {
    let copy = |world: &mut World<X86Level4>| {
        world.fork(0)?;
        world.step(Op::Write { who: 1, page: 21, word: true, value: 1 })?;
        world.step(Op::Write { who: 0, page: 22, word: true, value: 1 })
    };
    assert_eq!(sweep::<X86Level4>(copy), 6 + 2);
}

#[test]
fn all_rights_taken_and_given_back_keep_the_bytes() {
    for era in ERAS {
        let mut world = world::<Arm64Granule4K>(era);
        for rights in [0, 3] {
            world.step(Op::Mprotect { who: 0, page: 20, pages: 8, rights }).unwrap();
            world.step(Op::Read { who: 0, page: 22, word: false }).unwrap();
            world.check();
        }
        assert_eq!(world.processes[0].pages[&WRITTEN.0].rights, UserRights::READ_WRITE);
    }
}
