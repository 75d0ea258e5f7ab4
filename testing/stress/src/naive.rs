//! Blocks that a set of free frames must be kept in, by the plainest reading of the buddy rule.
//!
//! Two free buddies of one order below the largest are one block. Pageblocks of different types are told apart by the
//! caller's rule.

use kernmem_sparse::MigrateType;

/// Orders that are counted.
pub const ORDERS: usize = 16;

/// Free blocks by order.
pub type Counts = [u64; ORDERS];

/// Free blocks by order of the frames `start..`, of which `is_free` says which are free, with blocks of `max_order` at
/// most. `is_apart` says whether the two halves of a block of a pageblock's size and more stay apart, by their first
/// frames.
pub fn blocks(start: u64, is_free: &[bool], max_order: u8, is_apart: impl Fn(u64, u64) -> bool) -> Counts {
    let mut counts = Counts::default();
    let mut heads: Vec<u64> = (start..).zip(is_free).filter(|&(_, &free)| free).map(|(pfn, _)| pfn).collect();
    for order in 0..max_order {
        let mut larger = Vec::new();
        let mut at = 0;
        while let Some(&head) = heads.get(at) {
            let size = 1 << order;
            let is_pair = head % (2 * size) == 0 && heads.get(at + 1) == Some(&(head + size));
            if is_pair && !is_apart(head, head + size) {
                larger.push(head);
                at += 2;
            } else {
                counts[usize::from(order)] += 1;
                at += 1;
            }
        }
        heads = larger;
    }
    counts[usize::from(max_order)] += heads.len() as u64;
    counts
}

/// Free frames by the type of their pageblock.
pub fn by_type(start: u64, is_free: &[bool], kind_of: impl Fn(u64) -> MigrateType) -> [u64; MigrateType::ALL.len()] {
    let mut frames = [0; MigrateType::ALL.len()];
    for (pfn, _) in (start..).zip(is_free).filter(|&(_, &free)| free) {
        frames[kind_of(pfn) as usize] += 1;
    }
    frames
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By hand: 3 alone; 4..8 is one block of order 2; 8 and 9 a pair; 11 alone.
    #[test]
    fn frames_are_kept_in_the_largest_aligned_blocks() {
        let free = [false, true, true, true, true, true, true, true, false, true];
        let counts = blocks(2, &free, 10, |_, _| false);
        assert_eq!(counts[..4], [2, 1, 1, 0]);
    }

    #[test]
    fn halves_that_are_kept_apart_are_two_blocks_and_the_largest_order_ends_it() {
        let free = [true; 16];
        assert_eq!(blocks(0, &free, 3, |_, _| false)[..5], [0, 0, 0, 2, 0]);
        assert_eq!(blocks(0, &free, 4, |a, b| (a, b) == (0, 8))[..5], [0, 0, 0, 2, 0]);
        assert_eq!(blocks(0, &free, 4, |_, _| false)[..5], [0, 0, 0, 0, 1]);
    }
}
