//! arm64's ASIDs: numbers that run out, handed out anew in generations.
//!
//! A context is 64 bits wide: its generation, and below it the ASID. When no number is left, the generation moves on:
//! what CPUs run at that moment keeps its number, everything else gets a new one at its next switch, and every CPU
//! forgets its TLB before it uses one.
//!
//! # Invariants
//! 1. Two contexts of the current generation have different ASIDs.
//! 2. ASID 0 belongs to nobody: the kernel's own threads run under it.
//!
//! Not here: pinned ASIDs. One caller at a time: Linux's fast path without a lock is not modelled.
//!
//! Source: Linux 6.1 arch/arm64/mm/context.c `check_and_switch_context`, `new_context`, `flush_context`.

use core::fmt;

use kernmem_base::{Asid, CpuId};

/// Generations count in the bits above the widest ASID.
const GENERATION: u64 = 1 << 16;

/// What a space remembers between its switches: generation and ASID; 0 is none yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ContextId(pub u64);

impl ContextId {
    /// The ASID.
    #[must_use]
    pub const fn asid(self) -> Asid {
        Asid(self.0 as u16)
    }

    /// The generation, 0 for a context that never ran.
    #[must_use]
    pub const fn generation(self) -> u64 {
        self.0 / GENERATION
    }
}

/// What a CPU keeps for the allocator.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AsidCpu {
    /// The context that it runs; 0 since the last change of generation.
    active: u64,
    /// The context that it ran then.
    reserved: u64,
    /// Whether it must forget its TLB before it runs another.
    flush_pending: bool,
}

/// A switch to a context.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AsidSwitch {
    /// The ASID to load.
    pub asid: Asid,
    /// Whether this CPU must forget its whole TLB first.
    pub flush_local: bool,
}

/// The numbers of one machine.
#[derive(Debug)]
pub struct AsidAllocator<'a> {
    bits: u32,
    has_pairs: bool,
    generation: u64,
    /// One bit an ASID: taken in this generation.
    map: &'a mut [u64],
    cpus: &'a mut [AsidCpu],
    cursor: u64,
}

impl<'a> AsidAllocator<'a> {
    /// Words of the map for ASIDs of `bits` bits.
    #[must_use]
    pub const fn map_words(bits: u32) -> usize {
        (1 << bits) / 64
    }

    /// An allocator for ASIDs of 8 or 16 bits, in pairs of a kernel's and a user's where the kernel's tables are
    /// isolated (`has_pairs`); `map` has [`AsidAllocator::map_words`] words, `cpus` one value a CPU.
    ///
    /// # Errors
    /// The width is neither 8 nor 16, the map has another length, or there are too many CPUs for the numbers.
    pub fn new(bits: u32, has_pairs: bool, map: &'a mut [u64], cpus: &'a mut [AsidCpu]) -> Result<Self, AsidError> {
        if bits != 8 && bits != 16 {
            return Err(AsidError::Width { bits });
        }
        if map.len() != Self::map_words(bits) {
            return Err(AsidError::Map { words: map.len() });
        }
        cpus.fill(AsidCpu::default());
        let mut allocator = Self { bits, has_pairs, generation: GENERATION, map, cpus, cursor: 1 };
        if allocator.entries() - 1 <= allocator.cpus.len() as u64 {
            return Err(AsidError::TooManyCpus { cpus: allocator.cpus.len() });
        }
        allocator.reset_map();
        Ok(allocator)
    }

    /// Numbers to hand out, as the boot log counts them: 65536 or 256, half of that in pairs.
    #[must_use]
    pub const fn entries(&self) -> u64 {
        (1 << self.bits) >> self.has_pairs as u32
    }

    /// The number under which user mode runs beside a kernel's `asid`: the odd one of the pair.
    #[must_use]
    pub const fn user_asid(&self, asid: Asid) -> Asid {
        Asid(if self.has_pairs { asid.0 | 1 } else { asid.0 })
    }

    /// The generation, from 1.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation / GENERATION
    }

    /// Lets `cpu` run `context`, which gets a number if its own is out of date.
    ///
    /// # Errors
    /// There is no such CPU.
    pub fn switch_to(&mut self, cpu: CpuId, context: &mut ContextId) -> Result<AsidSwitch, AsidError> {
        let at = cpu.0 as usize;
        let own = *self.cpus.get(at).ok_or(AsidError::NoCpu(cpu))?;
        if own.active == 0 || context.0 / GENERATION != self.generation / GENERATION {
            if context.0 / GENERATION != self.generation / GENERATION {
                context.0 = self.renew(context.0);
            }
            let flush_local = core::mem::take(&mut self.cpus[at].flush_pending);
            self.cpus[at].active = context.0;
            return Ok(AsidSwitch { asid: context.asid(), flush_local });
        }
        self.cpus[at].active = context.0;
        Ok(AsidSwitch { asid: context.asid(), flush_local: false })
    }

    /// A context of the current generation for an old one.
    fn renew(&mut self, old: u64) -> u64 {
        let number = old % GENERATION;
        if number != 0 {
            let renewed = self.generation | number;
            if self.update_reserved(old, renewed) || self.claim(number) {
                return renewed;
            }
        }
        let number = match self.next_free() {
            Some(number) => number,
            None => {
                self.roll_over();
                self.cursor = 1;
                self.next_free().expect("more numbers than CPUs")
            }
        };
        self.claim(number);
        self.cursor = number;
        self.generation | number
    }

    /// Whether a CPU ran `old` at the last change of generation: its number stays its own.
    fn update_reserved(&mut self, old: u64, renewed: u64) -> bool {
        let mut is_reserved = false;
        for cpu in self.cpus.iter_mut().filter(|cpu| cpu.reserved == old) {
            cpu.reserved = renewed;
            is_reserved = true;
        }
        is_reserved
    }

    /// Takes a number; `false` if it was taken.
    fn claim(&mut self, number: u64) -> bool {
        let (word, bit) = (&mut self.map[(number / 64) as usize], 1 << (number % 64));
        let was_free = *word & bit == 0;
        *word |= bit;
        was_free
    }

    fn next_free(&self) -> Option<u64> {
        (self.cursor..1 << self.bits).find(|number| self.map[(number / 64) as usize] & 1 << (number % 64) == 0)
    }

    /// The map without any context: with pairs the odd numbers are never handed out.
    fn reset_map(&mut self) {
        self.map.fill(if self.has_pairs { 0xaaaa_aaaa_aaaa_aaaa } else { 0 });
    }

    /// Begins a generation: what CPUs run keeps its number, and every CPU will flush.
    fn roll_over(&mut self) {
        self.generation += GENERATION;
        self.reset_map();
        for at in 0..self.cpus.len() {
            let cpu = &mut self.cpus[at];
            let running = core::mem::take(&mut cpu.active);
            if running != 0 {
                cpu.reserved = running;
            }
            cpu.flush_pending = true;
            let number = cpu.reserved % GENERATION;
            self.claim(number);
        }
    }
}

/// Why there is no allocator, or no switch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum AsidError {
    /// ASIDs have 8 or 16 bits.
    Width {
        /// What was asked.
        bits: u32,
    },
    /// The map has not one bit for each number.
    Map {
        /// Its words.
        words: usize,
    },
    /// There are not more numbers than CPUs.
    TooManyCpus {
        /// The CPUs.
        cpus: usize,
    },
    /// There is no such CPU.
    NoCpu(CpuId),
}

impl fmt::Display for AsidError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Width { bits } => write!(f, "no CPU has ASIDs of {bits} bits"),
            Self::Map { words } => write!(f, "{words} words are no map of all ASIDs"),
            Self::TooManyCpus { cpus } => write!(f, "{cpus} CPUs need more ASIDs than there are"),
            Self::NoCpu(cpu) => write!(f, "there is no CPU {}", cpu.0),
        }
    }
}

impl core::error::Error for AsidError {}
