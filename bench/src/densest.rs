//! The bound of row F7: always take from the fullest 2 MiB block that has a free frame.
//!
//! It looks at nothing that is to come and moves no frame. With lives that end at random it is the best placement
//! known; that it is optimal is UNVERIFIED.

use crate::frames::Frames;

/// Blocks by how many of their frames are taken.
#[derive(Debug)]
pub struct Blocks {
    free: Vec<[u64; 8]>,
    used: Vec<u16>,
    /// Blocks of each number of taken frames, 0 to 512.
    bucket: Vec<Vec<u32>>,
    /// Where a block stands in its bucket.
    place: Vec<u32>,
    /// No bucket above it, but the last, has a block.
    top: usize,
}

impl Blocks {
    fn new(frames: usize) -> Self {
        let count = frames >> 9;
        let mut blocks = Self {
            free: vec![[!0; 8]; count],
            used: vec![0; count],
            bucket: vec![Vec::new(); 513],
            place: vec![0; count],
            top: 0,
        };
        (0..count).rev().for_each(|block| blocks.link(block));
        blocks
    }

    fn unlink(&mut self, block: usize) {
        let (bucket, place) = (&mut self.bucket[usize::from(self.used[block])], self.place[block]);
        bucket.swap_remove(place as usize);
        if let Some(&moved) = bucket.get(place as usize) {
            self.place[moved as usize] = place;
        }
    }

    fn link(&mut self, block: usize) {
        let used = usize::from(self.used[block]);
        self.place[block] = self.bucket[used].len() as u32;
        self.bucket[used].push(block as u32);
        if used < 512 {
            self.top = self.top.max(used);
        }
    }

    fn take(&mut self) -> Option<u64> {
        while self.bucket[self.top].is_empty() {
            self.top = self.top.checked_sub(1)?;
        }
        let block = *self.bucket[self.top].last()? as usize;
        let word = self.free[block].iter().position(|&word| word != 0)?;
        let bit = self.free[block][word].trailing_zeros() as usize;
        self.unlink(block);
        self.free[block][word] &= !(1 << bit);
        self.used[block] += 1;
        self.link(block);
        Some((block * 512 + word * 64 + bit) as u64)
    }

    fn give(&mut self, pfn: u64) {
        let (block, frame) = (pfn as usize >> 9, pfn as usize & 511);
        self.unlink(block);
        self.free[block][frame >> 6] |= 1 << (frame & 63);
        self.used[block] -= 1;
        self.link(block);
    }
}

/// The bound, for one CPU.
#[derive(Clone, Copy, Debug)]
pub struct Densest;

impl Frames for Densest {
    const NAME: &'static str = "densest-first";
    type Cpu = Blocks;
    type Pfn = u64;

    fn new(frames: usize, cpus: usize) -> (Self, Vec<Blocks>) {
        assert_eq!(cpus, 1, "the bound has one CPU");
        (Self, vec![Blocks::new(frames)])
    }

    fn alloc(&self, blocks: &mut Blocks, order: u32) -> Option<u64> {
        assert_eq!(order, 0, "the bound knows single frames");
        blocks.take()
    }

    fn number(pfn: u64) -> u64 {
        pfn
    }

    fn free(&self, blocks: &mut Blocks, pfn: u64, _order: u32) {
        blocks.give(pfn);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fullest_block_with_room_gives() {
        let mut blocks = Blocks::new(2 << 9);
        let first: Vec<u64> = (0..1024).map_while(|_| blocks.take()).collect();
        assert_eq!((first[0] >> 9, first[511] >> 9, first.len()), (0, 0, 1024));
        assert_eq!(blocks.take(), None);
        (0..10).for_each(|pfn| blocks.give(pfn));
        blocks.give(700);
        assert_eq!(blocks.take(), Some(700));
        assert_eq!(blocks.take(), Some(0));
    }
}
