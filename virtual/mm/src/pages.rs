//! The pages of a range of one space, in address order, with the place of each entry.

use core::ops::ControlFlow;

use kernmem_arch::{Entry, EntryFormat};
use kernmem_base::{BusError, Level, PhysAddr, PhysRead, VirtAddr, VirtRange};
use kernmem_pgtable::{Visitor, visit};

/// An entry of the last level that is not empty.
#[derive(Clone, Copy)]
pub(crate) struct PageSlot {
    pub va: VirtAddr,
    /// The table that it stands in.
    pub table: PhysAddr,
    pub index: usize,
    pub raw: u64,
}

/// Hands every entry of the last level that is not empty to `each`, until it breaks. An entry above the last level
/// that is no table has no place in a space of base pages and is handed over too, with the place of the root.
pub(crate) fn each_page<F: EntryFormat, M: PhysRead, B: From<BusError>>(
    mem: &M,
    root: PhysAddr,
    range: VirtRange,
    each: impl FnMut(PageSlot) -> ControlFlow<B>,
) -> ControlFlow<B> {
    let mut walk = PageWalk { each, table: root, done: ControlFlow::Continue(()) };
    visit::<F, M>(mem, root, range, &mut walk);
    walk.done
}

struct PageWalk<B, E> {
    each: E,
    table: PhysAddr,
    done: ControlFlow<B>,
}

impl<F: EntryFormat, B: From<BusError>, E: FnMut(PageSlot) -> ControlFlow<B>> Visitor<F> for PageWalk<B, E> {
    fn table(&mut self, _va: VirtAddr, _level: Level, _raw: u64, next: PhysAddr) -> bool {
        self.table = next;
        self.done.is_continue()
    }

    fn slot(&mut self, va: VirtAddr, level: Level, raw: u64, _entry: Entry<F::Attrs>) {
        if raw != 0 && self.done.is_continue() {
            let index = F::shape().level(level).index(va);
            self.done = (self.each)(PageSlot { va, table: self.table, index, raw });
        }
    }

    fn unreadable(&mut self, _va: VirtAddr, _level: Level, error: BusError) {
        if self.done.is_continue() {
            self.done = ControlFlow::Break(error.into());
        }
    }
}
