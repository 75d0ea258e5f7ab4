//! Drawn numbers: a stream that is fixed by the seed, the CPU and the number of the operation, whatever came before it.

/// A stream of words.
#[derive(Clone, Debug)]
pub struct Draw(u64);

/// Mixes the bits of a word so that neighbours have nothing in common.
const fn mixed(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

impl Draw {
    /// The stream of one operation of one CPU.
    #[must_use]
    pub const fn new(seed: u64, cpu: u32, operation: u64) -> Self {
        let place = mixed((cpu as u64 + 1) << 48 ^ operation);
        Self(mixed(seed ^ place))
    }

    /// The next word.
    pub const fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed(self.0)
    }

    /// A number below `end`; 0 if there is none.
    pub fn below(&mut self, end: u64) -> u64 {
        self.word().checked_rem(end).unwrap_or(0)
    }

    /// One of some values.
    pub fn one_of<T: Copy, const N: usize>(&mut self, values: [T; N]) -> T {
        values[self.below(N as u64) as usize]
    }

    /// The place of one weight among several, each as likely as it is heavy.
    pub fn weighed(&mut self, weights: &[u32]) -> usize {
        let mut left = self.below(weights.iter().map(|&weight| u64::from(weight)).sum());
        let is_it = |&weight: &u32| match left.checked_sub(u64::from(weight)) {
            Some(rest) => {
                left = rest;
                false
            }
            None => true,
        };
        weights.iter().position(is_it).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_fixed_by_its_three_numbers_and_differs_with_each() {
        let first = |seed, cpu, operation| Draw::new(seed, cpu, operation).word();
        assert_eq!(first(1, 2, 3), first(1, 2, 3));
        let others = [first(2, 2, 3), first(1, 3, 3), first(1, 2, 4)];
        assert!(others.iter().all(|&other| other != first(1, 2, 3)), "{others:x?}");
    }

    #[test]
    fn weights_decide_how_often_each_place_comes() {
        let mut found = [0; 3];
        for operation in 0..10_000 {
            found[Draw::new(7, 0, operation).weighed(&[1, 0, 9])] += 1;
        }
        assert_eq!(found[1], 0);
        assert!((800..1200).contains(&found[0]), "{found:?}");
    }
}
