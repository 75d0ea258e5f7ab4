//! Many addresses followed at once, so that they wait for memory together.
//!
//! Addresses go down level by level in batches. When a batch knows its tables of pages, the machine is told which leaves
//! it is about to read ([`PhysRead::hint`]), and the batch before it, whose leaves have come meanwhile, is read.

use kernmem_arch::{Entry, EntryFormat, LevelShape};
use kernmem_base::{PhysAddr, PhysRead, VirtAddr};

use crate::walk::{Walk, WalkError, ended, ended_above, levels};

/// Addresses that go down the levels together.
const BATCH: usize = 64;

/// Follows each of `vas` from `root`, level by level, so that the loads of one level wait for memory together; hands
/// each result to `each` with its place in `vas`, in no certain order.
pub fn translate_many<F: EntryFormat, M: PhysRead>(
    mem: &M,
    root: PhysAddr,
    vas: &[VirtAddr],
    mut each: impl FnMut(usize, Result<Walk<F::Attrs>, WalkError>),
) {
    let (above, last) = levels::<F>();
    let mut batches = [Batch { first: 0, vas: &[], tables: [root; BATCH], ended: 0 }; 2];
    // An empty batch at the end, behind which the last one is read.
    for (number, batch) in vas.chunks(BATCH).chain([&[][..]]).enumerate() {
        let [one, other] = &mut batches;
        let (down, done) = if number % 2 == 0 { (one, other) } else { (other, one) };
        (down.first, down.vas, down.ended) = (number * BATCH, batch, 0);
        down.tables.fill(root);
        if let Some((parents, upper)) = above.split_last() {
            for shape in upper {
                down.follow::<F, M>(mem, shape, |_, _| {}, &mut each);
            }
            down.follow::<F, M>(mem, parents, |table, va| mem.hint::<F::Slot>(table, last.index(va)), &mut each);
        }
        done.end::<F, M>(mem, last, &mut each);
    }
}

/// Addresses on the same level.
#[derive(Clone, Copy)]
struct Batch<'v> {
    /// The place of its first address among all.
    first: usize,
    vas: &'v [VirtAddr],
    /// The tables that they have come to.
    tables: [PhysAddr; BATCH],
    /// A bit for each address that ended above the last level.
    ended: u64,
}

const _: () = assert!(BATCH <= u64::BITS as usize, "a bit for each address");

impl Batch<'_> {
    /// Reads the entries of the level of `shape`, which links tables; `found` gets each table with its address.
    #[inline]
    fn follow<F: EntryFormat, M: PhysRead>(
        &mut self,
        mem: &M,
        shape: &LevelShape,
        found: impl Fn(PhysAddr, VirtAddr),
        each: &mut impl FnMut(usize, Result<Walk<F::Attrs>, WalkError>),
    ) {
        let mut ended = self.ended;
        for (number, (va, table)) in self.vas.iter().zip(&mut self.tables).enumerate() {
            if take_lowest(&mut ended) {
                continue;
            }
            let raw = mem.entry::<F::Slot>(*table, shape.index(*va));
            if let Ok(raw) = raw
                && let Entry::Table { next, .. } = F::decode(raw, shape.level)
            {
                *table = next;
                found(next, *va);
                continue;
            }
            self.ended |= 1 << number;
            let raw = raw.map_err(WalkError::from);
            each(self.first + number, raw.and_then(|raw| ended_above::<F>(raw, shape, *va)));
        }
    }

    /// Reads the leaves.
    #[inline]
    fn end<F: EntryFormat, M: PhysRead>(
        &self,
        mem: &M,
        last: &LevelShape,
        each: &mut impl FnMut(usize, Result<Walk<F::Attrs>, WalkError>),
    ) {
        let mut has_ended = self.ended;
        for (number, (va, table)) in self.vas.iter().zip(&self.tables).enumerate() {
            if take_lowest(&mut has_ended) {
                continue;
            }
            let raw = mem.entry::<F::Slot>(*table, last.index(*va)).map_err(WalkError::from);
            each(self.first + number, raw.and_then(|raw| ended::<F>(raw, last, *va)));
        }
    }
}

/// Takes the lowest of `bits`, and says whether it is set.
#[inline]
const fn take_lowest(bits: &mut u64) -> bool {
    let is_set = *bits & 1 != 0;
    *bits >>= 1;
    is_set
}
