//! What a CPU takes blocks from, one by one: two open words and a short stack.

use kernmem_base::Pfn;

use super::give::Doubled;
use super::word::{WORD_FRAMES, Word, block_mask, runs};

/// The largest order that an open word serves.
pub(super) const OPEN_ORDER: u8 = 5;

/// The order of blocks that are kept on a stack.
pub(super) const STACK_ORDER: u8 = 9;

/// Blocks of a stack.
const STACK: usize = 2;

/// No word and no frame has this number.
pub(super) const NONE: u64 = u64::MAX;

/// No word.
pub(super) const NO_WORD: Word = Word { number: NONE, mask: 0 };

/// What one column of one zone keeps open.
#[derive(Clone, Copy, Debug)]
pub(super) struct Open {
    /// For single frames.
    pub single: Word,
    /// For blocks of orders 1 to 5.
    pub small: Word,
    /// First frames of blocks of order 9.
    stack: [u64; STACK],
    height: usize,
}

impl Open {
    pub const EMPTY: Self = Self { single: NO_WORD, small: NO_WORD, stack: [0; STACK], height: 0 };

    /// Frames of all.
    pub fn frames(&self) -> u64 {
        let words = self.single.frames() + self.small.frames();
        u64::from(words) + ((self.height as u64) << STACK_ORDER)
    }

    #[inline]
    pub fn take_single(&mut self) -> Option<Pfn> {
        let mask = self.single.mask;
        if mask == 0 {
            return None;
        }
        self.single.mask = mask & (mask - 1);
        Some(Word { mask, ..self.single }.first())
    }

    /// Takes a block of an order from 1 to 5.
    #[inline]
    pub fn take_small(&mut self, order: u8) -> Option<Pfn> {
        let found = runs(self.small.mask, order);
        if found == 0 {
            return None;
        }
        let at = found.trailing_zeros();
        self.small.mask &= !(block_mask(order) << at);
        Some(Pfn(self.small.number * WORD_FRAMES + u64::from(at)))
    }

    #[inline]
    pub fn take_stacked(&mut self) -> Option<Pfn> {
        self.height = self.height.checked_sub(1)?;
        Some(Pfn(self.stack[self.height % STACK]))
    }

    /// Puts a block of order 9 on the stack; false if it is full.
    #[inline]
    pub fn stack(&mut self, pfn: Pfn) -> bool {
        if self.height >= STACK {
            return false;
        }
        self.stack[self.height % STACK] = pfn.0;
        self.height += 1;
        true
    }

    /// Whether the block of a word is on the stack.
    #[inline]
    pub fn is_stacked(&self, number: u64) -> bool {
        self.height != 0 && self.search_stack(number)
    }

    #[cold]
    fn search_stack(&self, number: u64) -> bool {
        let mut stacked = self.stack.iter().take(self.height);
        stacked.any(|first| first >> STACK_ORDER == number >> (STACK_ORDER - 6))
    }

    /// The open word of a number.
    #[inline]
    pub fn word(&mut self, number: u64) -> Option<&mut Word> {
        if self.single.number == number {
            Some(&mut self.single)
        } else if self.small.number == number {
            Some(&mut self.small)
        } else {
            None
        }
    }

    /// Which frames of a word are here.
    pub fn has(&self, number: u64) -> u64 {
        let words = [self.single, self.small];
        let stacked = if self.is_stacked(number) { !0 } else { 0 };
        words.iter().fold(stacked, |mask, word| if word.number == number { mask | word.mask } else { mask })
    }

    /// The numbers of the open words.
    pub fn numbers(&self) -> impl Iterator<Item = u64> {
        [self.single.number, self.small.number].into_iter().filter(|&number| number != NONE)
    }

    /// The first words' numbers of the blocks on the stack.
    pub fn stacked(&self) -> impl Iterator<Item = u64> {
        self.stack.into_iter().take(self.height).map(|first| first / WORD_FRAMES)
    }

    /// All that is open, as words.
    pub fn words(&self) -> impl Iterator<Item = Word> {
        let stacked = self.stack.into_iter().take(self.height);
        let numbers = stacked.flat_map(|first| first / WORD_FRAMES..(first + (1 << STACK_ORDER)) / WORD_FRAMES);
        let open = [self.single, self.small].into_iter().filter(|word| word.mask != 0);
        open.chain(numbers.map(|number| Word { number, mask: !0 }))
    }
}

/// Puts frames back into an open word.
///
/// # Errors
/// The lowest of them that is there already; nothing was changed.
#[inline]
pub(super) fn put_back(open: &mut Word, word: Word) -> Result<(), Doubled> {
    let doubled = open.mask & word.mask;
    if doubled != 0 {
        return Err(Doubled { pfn: Word { mask: doubled, ..word }.first() });
    }
    open.mask |= word.mask;
    Ok(())
}
