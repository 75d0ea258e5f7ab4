//! Linux's free lists: doubly linked through the records of free blocks.
//!
//! ```text
//! words of a free block's first frame   2n      type + 1 in bits 63:56, next member's frame + 1 below
//!                                       2n + 1  previous member's frame + 1
//! ```
//! 0 in a link is the end of the list.
//!
//! # Invariants
//! 1. A frame is linked exactly while its state is `Free`.
//!
//! Source: Linux 6.1 mm/page_alloc.c `__free_one_page`, `buddy_merge_likely`, `move_freepages`.

use kernmem_base::{Order, Pfn};
use kernmem_sparse::MigrateType;

use super::{Block, Counts, End, KINDS, ORDERS, lists_follow_pageblocks, may_merge};
use crate::ground::{Ground, State};
use crate::store::{CHUNK_SHIFT, States, Words};

const LINK: u64 = (1 << 56) - 1;

/// First and last member, each as frame + 1.
#[derive(Clone, Copy, Debug, Default)]
struct Ends {
    first: u64,
    last: u64,
}

/// The lists of one zone.
#[derive(Debug)]
pub(crate) struct LinuxLists<W> {
    words: W,
    ends: [[Ends; KINDS]; ORDERS],
    counts: Counts,
}

fn base<T: States>(ground: &Ground<T>) -> u64 {
    ground.start.0 >> CHUNK_SHIFT << CHUNK_SHIFT
}

impl<W: Words> LinuxLists<W> {
    pub fn new(words: W) -> Self {
        Self { words, ends: [[Ends::default(); KINDS]; ORDERS], counts: [[0; KINDS]; ORDERS] }
    }

    fn at<T: States>(ground: &Ground<T>, link: u64) -> u64 {
        2 * (link - 1 - base(ground))
    }

    fn next<T: States>(&self, ground: &Ground<T>, link: u64) -> u64 {
        self.words.word(Self::at(ground, link)) & LINK
    }

    fn prev<T: States>(&self, ground: &Ground<T>, link: u64) -> u64 {
        self.words.word(Self::at(ground, link) + 1)
    }

    fn set_next<T: States>(&mut self, ground: &Ground<T>, link: u64, next: u64) {
        let at = Self::at(ground, link);
        self.words.set_word(at, self.words.word(at) & !LINK | next);
    }

    fn set_prev<T: States>(&mut self, ground: &Ground<T>, link: u64, prev: u64) {
        self.words.set_word(Self::at(ground, link) + 1, prev);
    }

    fn list_kind<T: States>(&self, ground: &Ground<T>, pfn: Pfn) -> MigrateType {
        let number = self.words.word(Self::at(ground, pfn.0 + 1)) >> 56;
        MigrateType::ALL[(number.max(1) - 1) as usize % KINDS]
    }

    fn link<T: States>(&mut self, ground: &Ground<T>, block: Block, end: End) {
        let own = block.pfn.0 + 1;
        let ends = self.ends[usize::from(block.order)][block.kind as usize];
        let (prev, next) = match end {
            End::Head => (0, ends.first),
            End::Tail => (ends.last, 0),
        };
        let at = Self::at(ground, own);
        self.words.set_word(at, (block.kind as u64 + 1) << 56 | next);
        self.words.set_word(at + 1, prev);
        self.join(ground, block, prev, own);
        self.join(ground, block, own, next);
    }

    /// Makes two members neighbours; 0 stands for an end of the list.
    fn join<T: States>(&mut self, ground: &Ground<T>, block: Block, left: u64, right: u64) {
        match left {
            0 => self.ends[usize::from(block.order)][block.kind as usize].first = right,
            _ => self.set_next(ground, left, right),
        }
        match right {
            0 => self.ends[usize::from(block.order)][block.kind as usize].last = left,
            _ => self.set_prev(ground, right, left),
        }
    }

    fn unlink<T: States>(&mut self, ground: &Ground<T>, block: Block) {
        let own = block.pfn.0 + 1;
        let (prev, next) = (self.prev(ground, own), self.next(ground, own));
        self.join(ground, block, prev, next);
        let at = Self::at(ground, own);
        self.words.set_word(at, 0);
        self.words.set_word(at + 1, 0);
    }

    /// The free buddy that a block merges with.
    fn mate<T: States>(&self, ground: &Ground<T>, block: Block) -> Option<Block> {
        let pfn = Pfn(block.pfn.0 ^ 1 << block.order);
        if block.order >= ground.max_order || ground.state(pfn) != State::Free(Order(block.order)) {
            return None;
        }
        let is_apart =
            block.order >= ground.pageblock_order && !may_merge(ground.era, ground.kind(block.pfn), ground.kind(pfn));
        (!is_apart).then(|| Block { pfn, order: block.order, kind: self.list_kind(ground, pfn) })
    }

    /// Whether the block will probably become part of a larger one soon: the buddy that it would have then is free.
    fn merge_is_likely<T: States>(ground: &Ground<T>, block: Block) -> bool {
        if block.order + 1 >= ground.max_order {
            return false;
        }
        let above = block.pfn.0 & !(1 << block.order);
        ground.state(Pfn(above ^ 1 << (block.order + 1))) == State::Free(Order(block.order + 1))
    }

    /// Opens the records around a frame; false if there is no memory for them.
    pub fn open<T: States>(&mut self, ground: &Ground<T>, pfn: Pfn) -> bool {
        self.words.open(ground.chunk(pfn), 2 << CHUNK_SHIFT) && ground.open(pfn)
    }

    /// Blocks of exactly this order and type.
    pub fn count(&self, order: u8, kind: MigrateType) -> u64 {
        self.counts[usize::from(order)][kind as usize]
    }

    /// The block of exactly this order and type that would be taken next.
    pub fn first(&self, order: u8, kind: MigrateType) -> Option<Pfn> {
        self.ends[usize::from(order)][kind as usize].first.checked_sub(1).map(Pfn)
    }

    /// The block of this type that a request of `order` would be cut from.
    pub fn choose<T: States>(&self, ground: &Ground<T>, order: u8, kind: MigrateType) -> Option<Block> {
        (order..=ground.max_order).find_map(|order| {
            let pfn = self.first(order, kind)?;
            Some(Block { pfn, order, kind })
        })
    }

    /// Puts a block in without looking at its neighbours.
    pub fn insert<T: States>(&mut self, ground: &Ground<T>, block: Block, end: End) {
        self.link(ground, block, end);
        self.counts[usize::from(block.order)][block.kind as usize] += 1;
        ground.set(block.pfn, State::Free(Order(block.order)));
    }

    /// Puts a block in, merged with its neighbours; answers what became of it. Without `end` Linux's rule decides.
    pub fn give<T: States>(&mut self, ground: &Ground<T>, block: Block, end: Option<End>) -> Block {
        let mut block = block;
        while let Some(mate) = self.mate(ground, block) {
            self.remove(ground, mate);
            if block.order >= ground.pageblock_order && lists_follow_pageblocks(ground.era) {
                for pageblock in (mate.pfn.0..mate.pfn.0 + (1 << mate.order)).step_by(1 << ground.pageblock_order) {
                    ground.set_kind(Pfn(pageblock), block.kind);
                }
            }
            block = Block { pfn: block.pfn.min(mate.pfn), order: block.order + 1, ..block };
        }
        let likely = if Self::merge_is_likely(ground, block) { End::Tail } else { End::Head };
        self.insert(ground, block, end.unwrap_or(likely));
        block
    }

    /// Takes a whole block out.
    pub fn remove<T: States>(&mut self, ground: &Ground<T>, block: Block) {
        self.unlink(ground, block);
        self.counts[usize::from(block.order)][block.kind as usize] -= 1;
        ground.set(block.pfn, State::Nothing);
    }

    /// The free block that a frame lies in.
    pub fn find<T: States>(&self, ground: &Ground<T>, pfn: Pfn) -> Option<Block> {
        (0..=ground.max_order).find_map(|order| {
            let head = Pfn(pfn.0 >> order << order);
            let is_free = ground.state(head) == State::Free(Order(order));
            is_free.then(|| Block { pfn: head, order, kind: self.list_kind(ground, head) })
        })
    }

    /// Moves what is free in a pageblock to the lists of `to`; the pageblock's own type stays.
    pub fn move_free<T: States>(&mut self, ground: &Ground<T>, block_start: Pfn, to: MigrateType) {
        let mut pfn = block_start.max(ground.start);
        let end = block_start.0 + ground.block_frames();
        while pfn.0 < end {
            match ground.state(pfn) {
                State::Free(order) => {
                    let block = Block { pfn, order: order.0, kind: self.list_kind(ground, pfn) };
                    self.remove(ground, block);
                    self.insert(ground, Block { kind: to, ..block }, End::Tail);
                    pfn.0 += 1 << order.0;
                }
                State::Cached(order) | State::Owned(order) | State::OwnedMovable(order) => pfn.0 += 1 << order.0,
                State::Nothing => pfn.0 += 1,
            }
        }
    }

    /// Says what a pageblock is meant for; free blocks in it stay on their lists.
    pub fn retype<T: States>(&mut self, ground: &Ground<T>, block_start: Pfn, to: MigrateType) {
        ground.set_kind(block_start.max(ground.start), to);
    }
}
