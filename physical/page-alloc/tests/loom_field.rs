//! The dense frame field in every order that the memory model allows: what is taken and given by two CPUs at once, and the
//! hints of the index.
//!
//! Blocks are of 64 frames, one word each, unless a model is about several words of a block.
//!
//! `cargo xtask loom kernmem-page-alloc`
#![cfg(loom)]
#![allow(clippy::unwrap_used, reason = "a test stops where an answer is missing")]

use kernmem_base::Pfn;
use kernmem_base::sync::atomic::{AtomicU8, AtomicU16, AtomicU64, Ordering};
use kernmem_base::sync::explore;
use kernmem_page_alloc::dense::mem::{Line, Mem, Needs};
use kernmem_page_alloc::dense::{Field, Kinds, Shape, Word};
use kernmem_sparse::MigrateType;
use loom::sync::Arc;
use loom::thread;

const MOVABLE: MigrateType = MigrateType::Movable;

struct Few {
    lines: Vec<Line>,
    entries: Vec<AtomicU16>,
    index: Vec<AtomicU64>,
}

impl Mem for Few {
    fn chunk(&self, chunk: usize) -> Option<&[Line]> {
        (chunk == 0).then_some(&self.lines)
    }

    fn entries(&self) -> &[AtomicU16] {
        &self.entries
    }

    fn index(&self, word: usize) -> Option<&AtomicU64> {
        self.index.get(word)
    }

    fn open(&self, _chunk: usize) -> bool {
        true
    }
}

/// A field of `blocks` blocks of `2^order` frames, of which the ranges are free; their bits are written.
fn field(order: u8, blocks: u64, free: &[(u64, u64)]) -> Field<Few> {
    let shape = Shape { start: Pfn(0), end: Pfn(blocks << order), max_order: order + 1, pageblock_order: order };
    let needs = Needs::of(&shape);
    let few = Few {
        lines: (0..(blocks << order).div_ceil(512)).map(|_| Line::default()).collect(),
        entries: (0..needs.entries).map(|_| AtomicU16::new(0)).collect(),
        index: (0..needs.index).map(|_| AtomicU64::new(0)).collect(),
    };
    let field = Field::new(few, shape).unwrap();
    for &(start, end) in free {
        field.add_free(&MOVABLE, Pfn(start), Pfn(end), true).unwrap();
    }
    field
}

/// The lowest words, until there are `want` frames.
fn words(field: &Field<Few>, want: u32) -> Vec<Word> {
    let mut taken = Vec::new();
    field.take_words(&MOVABLE, MOVABLE, want, &mut |word| taken.push(word));
    taken
}

/// Sets of frames as sorted numbers; no frame may be in two of them.
fn frames(taken: &[Word]) -> Vec<u64> {
    let bits =
        taken.iter().flat_map(|word| (0..64).filter(|bit| word.mask >> bit & 1 != 0).map(|bit| word.number * 64 + bit));
    let mut frames: Vec<u64> = bits.collect();
    frames.sort_unstable();
    assert!(frames.windows(2).all(|pair| pair[0] != pair[1]), "a frame was taken twice: {frames:?}");
    frames
}

/// What is left is found through the index, all of it, and with `taken` it is what there should be.
fn check(field: &Field<Few>, mut taken: Vec<Word>, all: impl IntoIterator<Item = u64>) {
    taken.extend(words(field, u32::MAX));
    assert_eq!(frames(&taken), all.into_iter().collect::<Vec<_>>());
    assert_eq!((field.level(), field.free_of(&MOVABLE, MOVABLE)), (0, 0));
}

/// A word is taken while frames of it come back.
#[test]
fn a_word_is_taken_while_frames_of_it_are_given() {
    explore(None, || {
        let field = Arc::new(field(6, 1, &[(0, 8)]));
        let giver = Arc::clone(&field);
        let task = thread::spawn(move || giver.give_word(&MOVABLE, Word { number: 0, mask: 0xf00 }).unwrap());
        let taken = words(&field, 1);
        task.join().unwrap();
        check(&field, taken, 0..12);
    });
}

/// A block is taken whole while its last frames come back: it is taken with all its frames or not at all.
#[test]
fn a_block_is_taken_whole_while_its_last_frames_are_given() {
    explore(None, || {
        let field = Arc::new(field(6, 1, &[(0, 62)]));
        let giver = Arc::clone(&field);
        let task = thread::spawn(move || giver.give_word(&MOVABLE, Word { number: 0, mask: 3 << 62 }).unwrap());
        let block = field.take_run(&MOVABLE, MOVABLE, 6);
        task.join().unwrap();
        match block {
            Some(pfn) => {
                assert_eq!(pfn, Pfn(0));
                check(&field, vec![Word { number: 0, mask: !0 }], 0..64);
            }
            None => {
                assert_eq!(field.counts(&MOVABLE)[6][MOVABLE as usize], 1);
                check(&field, Vec::new(), 0..64);
            }
        }
    });
}

/// Two CPUs complete a block together: it is found as a whole one afterwards.
#[test]
fn two_cpus_complete_a_block() {
    explore(None, || {
        let field = Arc::new(field(6, 1, &[(0, 62)]));
        let giver = Arc::clone(&field);
        let task = thread::spawn(move || giver.give_word(&MOVABLE, Word { number: 0, mask: 1 << 62 }).unwrap());
        field.give_word(&MOVABLE, Word { number: 0, mask: 1 << 63 }).unwrap();
        task.join().unwrap();
        assert_eq!(field.take_run(&MOVABLE, MOVABLE, 6), Some(Pfn(0)));
        check(&field, Vec::new(), []);
    });
}

/// Two CPUs fill two words of one block: it is found as a whole one afterwards.
#[test]
fn two_cpus_fill_the_last_words_of_a_block() {
    explore(None, || {
        let field = Arc::new(field(7, 1, &[(1, 127)]));
        let giver = Arc::clone(&field);
        let task = thread::spawn(move || giver.give_word(&MOVABLE, Word { number: 0, mask: 1 }).unwrap());
        field.give_word(&MOVABLE, Word { number: 1, mask: 1 << 63 }).unwrap();
        task.join().unwrap();
        assert_eq!(field.take_run(&MOVABLE, MOVABLE, 7), Some(Pfn(0)));
        check(&field, Vec::new(), []);
    });
}

/// A block becomes whole while a frame of it is taken: what is left is found, singly and as a run.
#[test]
fn a_block_that_is_filled_while_a_frame_of_it_is_taken_is_found() {
    explore(None, || {
        let field = Arc::new(field(6, 1, &[(0, 63)]));
        let giver = Arc::clone(&field);
        let task = thread::spawn(move || giver.give_word(&MOVABLE, Word { number: 0, mask: 1 << 63 }).unwrap());
        let single = field.take_run(&MOVABLE, MOVABLE, 0);
        task.join().unwrap();
        let run = field.take_run(&MOVABLE, MOVABLE, 3).unwrap();
        let taken = single.map(|pfn| Word::of(pfn, 0)).into_iter().chain([Word::of(run, 3)]).collect();
        check(&field, taken, 0..64);
    });
}

/// Two CPUs open words of one block of two words.
#[test]
fn two_cpus_open_words_of_one_block() {
    explore(None, || {
        let field = Arc::new(field(7, 1, &[(0, 2), (64, 66)]));
        let other = Arc::clone(&field);
        let task = thread::spawn(move || words(&other, 1));
        let mut taken = words(&field, 1);
        taken.extend(task.join().unwrap());
        check(&field, taken, [0, 1, 64, 65]);
    });
}

/// One CPU takes a block of which another opens a word.
#[test]
fn a_block_is_taken_whole_while_a_word_of_it_is_opened() {
    explore(None, || {
        let field = Arc::new(field(7, 1, &[(0, 128)]));
        let other = Arc::clone(&field);
        let task = thread::spawn(move || words(&other, 1));
        let block = field.take_run(&MOVABLE, MOVABLE, 7);
        let mut taken = task.join().unwrap();
        if block.is_some() {
            taken.extend([Word { number: 0, mask: !0 }, Word { number: 1, mask: !0 }]);
        }
        check(&field, taken, 0..128);
    });
}

/// Two blocks are taken as one while a word of the second is opened: what was taken of the first comes back.
#[test]
fn a_pair_of_blocks_is_taken_while_a_word_of_one_is_opened() {
    explore(None, || {
        let field = Arc::new(field(6, 2, &[(0, 128)]));
        let other = Arc::clone(&field);
        let task = thread::spawn(move || {
            let taken = other.take_range(&MOVABLE, Pfn(70), Pfn(72));
            taken.map(|()| Word { number: 1, mask: 3 << 6 }).into_iter().collect::<Vec<_>>()
        });
        let pair = field.take_run(&MOVABLE, MOVABLE, 7);
        let mut taken = task.join().unwrap();
        if pair.is_some() {
            taken.extend([Word { number: 0, mask: !0 }, Word { number: 1, mask: !0 }]);
        }
        check(&field, taken, 0..128);
    });
}

/// Two CPUs write the bits of one lazy block.
#[test]
fn two_cpus_break_a_lazy_block() {
    explore(Some(3), || {
        let field = Arc::new(field(6, 1, &[]));
        field.add_free(&MOVABLE, Pfn(0), Pfn(64), false).unwrap();
        let other = Arc::clone(&field);
        let task = thread::spawn(move || other.take_run(&MOVABLE, MOVABLE, 1));
        let own = field.take_run(&MOVABLE, MOVABLE, 1);
        let pairs = [own, task.join().unwrap()];
        let taken = pairs.iter().flatten().map(|&pfn| Word::of(pfn, 1)).collect();
        check(&field, taken, 0..64);
    });
}

/// One CPU takes the last frame of a block while another gives one: the block has its bit in the index afterwards.
#[test]
fn a_block_that_empties_while_it_is_given_to_is_found() {
    explore(None, || {
        let field = Arc::new(field(6, 1, &[(5, 6)]));
        let giver = Arc::clone(&field);
        let task = thread::spawn(move || giver.give_word(&MOVABLE, Word { number: 0, mask: 1 }).unwrap());
        let taken = field.take_run(&MOVABLE, MOVABLE, 0);
        task.join().unwrap();
        check(&field, taken.map(|pfn| Word::of(pfn, 0)).into_iter().collect(), [0, 5]);
    });
}

/// The same through two levels: the last bit of a word of the index goes while another of it comes.
#[test]
fn a_word_of_the_index_that_empties_while_a_bit_comes_is_found() {
    explore(None, || {
        let field = Arc::new(field(6, 65, &[(5, 6)]));
        let giver = Arc::clone(&field);
        let task = thread::spawn(move || giver.give_word(&MOVABLE, Word { number: 7, mask: 1 }).unwrap());
        let taken = field.take_run(&MOVABLE, MOVABLE, 0);
        task.join().unwrap();
        check(&field, taken.map(|pfn| Word::of(pfn, 0)).into_iter().collect(), [5, 7 * 64]);
    });
}

/// A run of eight frames forms while a search finds that there was none: the index has it afterwards.
#[test]
fn a_run_that_forms_while_it_is_looked_for_is_found() {
    explore(None, || {
        let field = Arc::new(field(6, 1, &[(0, 8), (9, 16)]));
        assert_eq!(field.take_run(&MOVABLE, MOVABLE, 0), Some(Pfn(0)), "the bit that was set for the run stays");
        let giver = Arc::clone(&field);
        let task = thread::spawn(move || giver.give_word(&MOVABLE, Word { number: 0, mask: 1 << 8 }).unwrap());
        let early = field.take_run(&MOVABLE, MOVABLE, 3);
        task.join().unwrap();
        let run = early.or_else(|| field.take_run(&MOVABLE, MOVABLE, 3));
        assert_eq!(run, Some(Pfn(8)));
        check(&field, vec![Word::of(Pfn(0), 0), Word::of(Pfn(8), 3)], 0..16);
    });
}

/// One byte a block, shared.
struct Types(Vec<AtomicU8>);

impl Kinds for Types {
    fn kind(&self, pfn: Pfn) -> MigrateType {
        MigrateType::ALL[usize::from(self.0[pfn.0 as usize / 64].load(Ordering::Relaxed))]
    }
}

/// A block changes its type while a frame of it comes back: it is found under the new type.
#[test]
fn a_block_that_changes_its_type_while_it_is_given_to_is_found() {
    explore(None, || {
        let types = Types(vec![AtomicU8::new(MOVABLE as u8)]);
        let shared = Arc::new((field(6, 1, &[]), types));
        let giver = Arc::clone(&shared);
        let task = thread::spawn(move || giver.0.give_word(&giver.1, Word { number: 0, mask: 1 }).unwrap());
        shared.1.0[0].store(MigrateType::Unmovable as u8, Ordering::Relaxed);
        shared.0.retyped(&shared.1, Pfn(0), MOVABLE);
        task.join().unwrap();
        assert_eq!(shared.0.take_run(&shared.1, MigrateType::Unmovable, 0), Some(Pfn(0)));
        assert_eq!(shared.0.take_run(&shared.1, MOVABLE, 0), None);
    });
}

/// Two CPUs give one frame: one is told, and it is free once.
#[test]
fn of_two_who_give_a_frame_one_is_told() {
    explore(None, || {
        let field = Arc::new(field(6, 1, &[]));
        let other = Arc::clone(&field);
        let task = thread::spawn(move || other.give_word(&MOVABLE, Word { number: 0, mask: 4 }));
        let answers = [field.give_word(&MOVABLE, Word { number: 0, mask: 6 }), task.join().unwrap()];
        assert_eq!(answers.iter().filter(|answer| **answer == Err(4)).count(), 1, "{answers:?}");
        check(&field, Vec::new(), [1, 2]);
    });
}

/// What a CPU wrote into a frame's place before it gave the frame is seen by the CPU that takes it.
#[test]
fn who_takes_a_frame_sees_what_was_done_before_it_was_given() {
    explore(None, || {
        let shared = Arc::new((field(6, 1, &[]), AtomicU64::new(0)));
        let giver = Arc::clone(&shared);
        let task = thread::spawn(move || {
            giver.1.store(7, Ordering::Relaxed);
            giver.0.give_word(&MOVABLE, Word { number: 0, mask: 1 }).unwrap();
        });
        if shared.0.take_run(&MOVABLE, MOVABLE, 0).is_some() {
            assert_eq!(shared.1.load(Ordering::Relaxed), 7);
        }
        task.join().unwrap();
    });
}

/// Blocks are handed over while another CPU takes: it gets frames whose past it sees, and all others are found later.
fn taken_during_hand_over(eager: bool) {
    explore(None, move || {
        let shared = Arc::new((field(6, 2, &[]), AtomicU64::new(0)));
        let boot = Arc::clone(&shared);
        let task = thread::spawn(move || {
            boot.1.store(7, Ordering::Relaxed);
            boot.0.add_free(&MOVABLE, Pfn(0), Pfn(128), eager).unwrap();
        });
        let taken = words(&shared.0, 1);
        if !taken.is_empty() {
            assert_eq!(shared.1.load(Ordering::Relaxed), 7);
        }
        task.join().unwrap();
        check(&shared.0, taken, 0..128);
    });
}

#[test]
fn blocks_are_noted_while_somebody_takes() {
    taken_during_hand_over(false);
}

#[test]
fn blocks_are_written_while_somebody_takes() {
    taken_during_hand_over(true);
}

/// A block changes its type while it is handed over: it is found under the new type.
#[test]
fn a_block_that_changes_its_type_while_it_is_handed_over_is_found() {
    explore(None, || {
        let types = Types(vec![AtomicU8::new(MOVABLE as u8)]);
        let shared = Arc::new((field(6, 1, &[]), types));
        let boot = Arc::clone(&shared);
        let task = thread::spawn(move || boot.0.add_free(&boot.1, Pfn(0), Pfn(64), false).unwrap());
        shared.1.0[0].store(MigrateType::Unmovable as u8, Ordering::Relaxed);
        shared.0.retyped(&shared.1, Pfn(0), MOVABLE);
        task.join().unwrap();
        assert_eq!(shared.0.take_run(&shared.1, MOVABLE, 6), None);
        assert_eq!(shared.0.take_run(&shared.1, MigrateType::Unmovable, 6), Some(Pfn(0)));
    });
}

/// An isolated block becomes movable while a frame of it comes back: the giver finds no bitmap of its type, the other no
/// free frame, or at least one of them is told better.
#[test]
fn a_block_that_is_isolated_no_more_while_a_frame_comes_back_is_found() {
    explore(None, || {
        let types = Types(vec![AtomicU8::new(MigrateType::Isolate as u8)]);
        let shared = Arc::new((field(6, 1, &[]), types));
        let giver = Arc::clone(&shared);
        let task = thread::spawn(move || giver.0.give_word(&giver.1, Word { number: 0, mask: 1 }).unwrap());
        shared.1.0[0].store(MOVABLE as u8, Ordering::Relaxed);
        shared.0.retyped(&shared.1, Pfn(0), MigrateType::Isolate);
        task.join().unwrap();
        assert_eq!(shared.0.take_run(&shared.1, MOVABLE, 0), Some(Pfn(0)));
    });
}
