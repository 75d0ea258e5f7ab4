//! Vectors of the words that a 32-bit x86 kernel knows, worked out by hand.

use super::*;

const M: u64 = 1 << 20;

fn line(text: &str) -> CommandLine {
    CommandLine::parse(text)
}

#[test]
fn the_last_vmalloc_counts_in_bytes() {
    assert_eq!(line("quiet").vmalloc(Era::V6_1), None);
    assert_eq!(line("vmalloc=256M").vmalloc(Era::V6_1), Some(256 * M));
    assert_eq!(line("vmalloc=256M vmalloc=0x8000000").vmalloc(Era::V6_1), Some(128 * M));
}

#[test]
fn high_memory_is_counted_in_whole_pages() {
    assert_eq!(line("highmem=300M").highmem(Era::V5_10), Some(300 * 256));
    assert_eq!(line("highmem=0").highmem(Era::V5_10), Some(0));
    assert_eq!(line("highmem=8191").highmem(Era::V5_10), Some(1));
    assert_eq!(line("").highmem(Era::V5_10), None);
}

#[test]
fn nothing_is_reserved_at_the_top_unless_the_line_says_so() {
    assert_eq!(line("").reservetop(Era::V6_1), 0);
    assert_eq!(line("reservetop=16M").reservetop(Era::V6_1), 16 * M);
}

#[test]
fn nopentium_is_a_word_of_mem_among_others() {
    assert!(line("mem=nopentium").nopentium());
    assert!(line("mem=nopentium mem=512M").nopentium());
    assert!(!line("mem=512M").nopentium());
    assert!(!line("nopentium").nopentium());
}
