//! Rules of takers that the boots in the tree do not reach: words that size things, CPUs that enlarge the log's buffer,
//! pools that do not fit.

use kernmem::takers::auto_init::{StackInit, auto_init};
use kernmem::takers::{hash_tables, log_buffer, swiotlb, unknown_words};
use kernmem_base::{Era, Granule, Pfn, PhysAddr};
use kernmem_config::{Arch, CommandLine, Config, Cpu, Given, KernelConfig, Sizes, Symbols, X86Cpu};
use kernmem_memblock::{Limits, Memblock, VecArray};

/// An x86-64 kernel of 6.1 with that command line and those options.
fn config(line: &str, options: &str) -> Config {
    Config {
        era: Era::V6_1,
        arch: Arch::X86_64,
        cmdline: CommandLine::parse(line),
        kconfig: KernelConfig::parse(options),
        cpu: Cpu::X86(X86Cpu::from_features("GenuineIntel", "pse pge nx")),
        symbols: Symbols::parse(""),
        sizes: Sizes::parse(""),
        given: Given::default(),
        possible_cpus: 2,
    }
}

/// Free memory from 1 MiB on, so much of it.
fn memblock(bytes: u64) -> Memblock<VecArray, ()> {
    let lists = || VecArray::with_capacity(128);
    let mut memblock = Memblock::new(Era::V6_1, Limits::new_64bit(Granule::K4), lists(), lists(), ());
    memblock.add(PhysAddr(1 << 20), bytes).expect("room in the list");
    memblock
}

#[test]
fn the_log_grows_with_more_than_half_of_it_for_other_cpus() {
    let config = config("", "CONFIG_SMP=y\nCONFIG_LOG_BUF_SHIFT=17\nCONFIG_LOG_CPU_MAX_BUF_SHIFT=12\n");
    // 16 other CPUs are 64 KiB, half of 128 KiB: not more.
    assert_eq!(log_buffer::new_log_buffer(&config, 17, true), None);
    // 68 KiB and 128 KiB, rounded up.
    assert_eq!(log_buffer::new_log_buffer(&config, 18, true), Some(256 << 10));
    assert_eq!(log_buffer::new_log_buffer(&config, 18, false), None);
}

#[test]
fn a_word_sizes_the_log_if_it_is_larger_than_what_is_built_in() {
    let options = "CONFIG_SMP=y\nCONFIG_LOG_BUF_SHIFT=17\n";
    let sized = |line: &str| log_buffer::new_log_buffer(&config(line, options), 64, false);
    assert_eq!(sized("log_buf_len=1M"), Some(1 << 20));
    assert_eq!(sized("log_buf_len=1M log_buf_len=300K"), Some(512 << 10));
    assert_eq!(sized("log_buf_len=128K"), None);
    assert_eq!(sized("log_buf_len=1M log_buf_len=4K"), Some(1 << 20));
}

#[test]
fn a_log_that_does_not_fit_leaves_nothing_taken() {
    let config = config("log_buf_len=16M", "CONFIG_SMP=y\n");
    // Text alone fits, its descriptors (12 MiB) too; the infos (44 MiB) do not.
    let mut memblock = memblock(32 << 20);
    assert!(!log_buffer::setup(&config, &mut memblock, 1, false).unwrap());
    assert_eq!(memblock.reserved().total_size(), 0);
}

#[test]
fn words_of_the_bounce_pool_are_read_part_by_part() {
    let wish = |line: &str| swiotlb::wish(&config(line, ""));
    assert_eq!(wish("").slots, 32_768);
    assert_eq!(wish("swiotlb=65536").slots, 65_536);
    let parts = wish("swiotlb=1000,4,force");
    assert_eq!((parts.slots, parts.areas, parts.force), (1024, Some(4), true));
    assert!(wish("swiotlb=noforce").off);
    assert_eq!(wish("swiotlb=force").slots, 32_768);
}

#[test]
fn numbers_beyond_all_memory_are_no_accident() {
    let config = config(
        "swiotlb=18446744073709551615,18446744073709551615 dhash_entries=18446744073709551615",
        "CONFIG_SWIOTLB=y\n",
    );
    let mut memblock = memblock(40 << 20);
    // Halved until it fits: 2^44 slots of 2 KiB become 2^14.
    let pool = swiotlb::init(&config, &mut memblock, true, 2).unwrap().unwrap();
    assert_eq!(pool.size(), 32 << 20);
}

#[test]
fn symbols_with_too_many_variables_are_refused() {
    let nodes = [kernmem_memblock::Nid(0)];
    let facts = kernmem::takers::percpu::PercpuFacts {
        static_bytes: u64::MAX,
        modules: true,
        room: kernmem::takers::percpu::ModulesRoom::Beside,
        factor: 1,
        atom: 2 << 20,
        page: 4096,
        from: PhysAddr(0),
        nodes: &nodes,
    };
    let mut memblock = memblock(40 << 20);
    assert!(kernmem::takers::percpu::first_chunk(&mut memblock, &facts).is_err());
    assert_eq!(memblock.reserved().total_size(), 0);
}

#[test]
fn a_bounce_pool_that_does_not_fit_becomes_smaller() {
    let config = config("", "CONFIG_SWIOTLB=y\n");
    let mut memblock = memblock(40 << 20);
    let pool = swiotlb::init(&config, &mut memblock, true, 2).unwrap().unwrap();
    assert_eq!(pool.size(), 32 << 20);
    // 16384 slots of 24 bytes and two areas of 16 beside it.
    assert_eq!(memblock.reserved().total_size(), (32 << 20) + 393_216 + 32);
}

#[test]
fn a_machine_without_room_for_the_least_pool_has_none() {
    let config = config("", "CONFIG_SWIOTLB=y\n");
    let mut memblock = memblock(512 << 10);
    assert_eq!(swiotlb::init(&config, &mut memblock, true, 2).unwrap(), None);
    assert_eq!(memblock.reserved().total_size(), 0);
}

#[test]
fn nobody_needs_a_pool_where_memory_ends_at_4_gib() {
    assert!(!swiotlb::x86_needs(Pfn(1 << 20), false));
    assert!(swiotlb::x86_needs(Pfn((1 << 20) + 1), false));
    assert!(!swiotlb::x86_needs(Pfn(1 << 22), true));
}

/// The first list is a recorded line of 6.1; the others follow from the rules.
#[test]
fn words_without_a_value_come_first_and_names_with_a_dot_are_silent() {
    let words = |line: &str, options: &str| unknown_words::unknown_words(&config(line, options)).join(" ");
    assert_eq!(words("console=ttyS0 nokaslr pti=on rec=none", ""), "nokaslr pti=on rec=none");
    assert_eq!(words("rec=none nokaslr", ""), "nokaslr rec=none");
    assert_eq!(words("foo.bar=1 rec=a rec=b", ""), "rec=b");
    assert_eq!(words("cma=64M", ""), "cma=64M");
    assert_eq!(words("cma=64M", "CONFIG_DMA_CMA=y\n"), "");
    assert_eq!(words("one init=/bin/sh two", ""), "two");
    assert_eq!(words("TERM=vt100 rec=none -- three", ""), "rec=none");
}

/// Recorded lines of 6.1, 6.12 and 7.2 with `nokaslr pti=on rec=none`.
#[test]
fn isolation_is_a_known_word_from_6_12_on() {
    let words = |era| {
        let options = "CONFIG_PAGE_TABLE_ISOLATION=y\nCONFIG_MITIGATION_PAGE_TABLE_ISOLATION=y\n";
        let config = Config { era, ..config("console=ttyS0 nokaslr pti=on rec=none", options) };
        unknown_words::unknown_words(&config).join(" ")
    };
    assert_eq!(words(Era::V5_10), "");
    assert_eq!(words(Era::V6_1), "nokaslr pti=on rec=none");
    assert_eq!([Era::V6_12, Era::V7_2].map(words), ["nokaslr rec=none"; 2]);
}

#[test]
fn one_node_has_its_tables_in_one_piece() {
    let numa = "CONFIG_NUMA=y\n";
    assert!(!hash_tables::hashdist(&config("", numa), 1));
    assert!(hash_tables::hashdist(&config("", numa), 2));
    assert!(!hash_tables::hashdist(&config("hashdist=0", numa), 2));
    assert!(!hash_tables::hashdist(&config("hashdist=1", ""), 2));
}

#[test]
fn poisoning_beats_clearing() {
    let options = "CONFIG_PAGE_POISONING=y\nCONFIG_INIT_STACK_ALL_ZERO=y\n";
    let init = auto_init(&config("init_on_alloc=1 init_on_free=1", options));
    assert_eq!((init.stack, init.heap_alloc, init.heap_free), (StackInit::Zero, true, true));
    let init = auto_init(&config("init_on_alloc=1 page_poison=on", options));
    assert!(!init.heap_alloc);
}
