//! Vectors of the words about huge pages, zones and CPUs, worked out by hand.

use super::*;

const M: u64 = 1 << 20;
const G: u64 = 1 << 30;

fn line(text: &str) -> CommandLine {
    CommandLine::parse(text)
}

/// Pools as size and count, and the number of refusals, on a kernel with pages of 2 MiB and 1 GiB.
fn huge(text: &str) -> (Vec<(u64, u64)>, usize) {
    let answer = line(text).huge_pages(Era::V6_1, &[2 * M, G], 2 * M);
    let pools = answer.value.pools.iter().map(|pool| (pool.size, pool.pages)).collect();
    (pools, answer.warnings.len())
}

#[test]
fn huge_page_vectors() {
    assert_eq!(huge("hugepages=4 default_hugepagesz=1G"), ([(G, 4)].to_vec(), 0));
    assert_eq!(huge("hugepagesz=2M hugepages=8 hugepagesz=1G hugepages=2"), ([(2 * M, 8), (G, 2)].to_vec(), 0));
    assert_eq!(huge("hugepages=8 hugepages=9"), ([(2 * M, 8)].to_vec(), 1));
    assert_eq!(huge("hugepagesz=3M hugepages=4"), ([].to_vec(), 2));
    assert_eq!(huge("hugepages=0:2,1:4"), ([(2 * M, 6)].to_vec(), 0));
    assert_eq!(huge("hugepages=x"), ([].to_vec(), 1));
}

#[test]
fn counts_follow_the_last_size_that_was_new() {
    assert_eq!(huge("default_hugepagesz=1G hugepagesz=1G hugepages=2"), ([(G, 2)].to_vec(), 0));
    assert_eq!(huge("hugepagesz=2M hugepages=1 hugepagesz=3M hugepages=4 hugepages=5"), ([(2 * M, 1)].to_vec(), 3));
    assert_eq!(huge("hugepages=8 hugepagesz=2M hugepages=3"), ([(2 * M, 8)].to_vec(), 0));
    assert_eq!(huge("hugepagesz=2M hugepagesz=1G default_hugepagesz=2M hugepages=5"), ([(G, 5)].to_vec(), 0));
    assert_eq!(huge("hugepagesz=2M hugepages=1 hugepagesz=2M"), ([(2 * M, 1)].to_vec(), 1));
    assert_eq!(huge("hugepages=0x10"), ([].to_vec(), 0));
}

#[test]
fn the_messages_of_a_recorded_boot() {
    let text = "rodata=0 hugepagesz=3M hugepages=4 hugepagesz=2M hugepages=2 hugepages=3";
    let answer = line(text).huge_pages(Era::V6_1, &[2 * M, G], 2 * M);
    let expected = [
        Warning::HugePages(HugeFault::UnsupportedSize("3M".to_owned())),
        Warning::HugePages(HugeFault::NoValidSize("4".to_owned())),
        Warning::HugePages(HugeFault::CountTwice("3".to_owned())),
    ];
    assert_eq!(answer.warnings, expected);
    assert_eq!(answer.value.pools.first().map(|pool| pool.pages), Some(2));
}

#[test]
fn nodes_are_not_read_in_5_10() {
    let answer = line("hugepages=1:4").huge_pages(Era::V5_10, &[2 * M], 2 * M);
    assert_eq!(answer.value.pools.first().map(|pool| pool.pages), Some(1));
}

#[test]
fn contiguous_memory() {
    let wish = |text| line(text).cma(Era::V6_1).value;
    let expected = CmaWish { size: 64 * M, base: 0, limit: 4 * G, fixed: false };
    assert_eq!(wish("cma=64M@0-4G"), Some(expected));
    assert_eq!(wish("cma=16M"), Some(CmaWish { size: 16 * M, base: 0, limit: 0, fixed: false }));
    let fixed = CmaWish { size: 16 * M, base: G, limit: G + 16 * M, fixed: true };
    assert_eq!(wish("cma=0 cma=16M@1G"), Some(fixed));
    assert_eq!(line("cma").cma(Era::V6_1).warnings.len(), 1);
}

#[test]
fn movable_memory() {
    assert_eq!(line("kernelcore=50%").kernelcore(Era::V6_1).value, Some(CoreMemory::Percent(50)));
    assert_eq!(line("kernelcore=mirror kernelcore=1G").kernelcore(Era::V6_1).value, Some(CoreMemory::Mirror));
    assert_eq!(line("movablecore=1G").movablecore(Era::V6_1).value, Some(CoreMemory::Bytes(G)));
    assert!(line("movable_node").movable_node());
}

#[test]
fn cpu_limits() {
    assert_eq!((line("nr_cpus=2").nr_cpus(8), line("nr_cpus=16").nr_cpus(8), line("nr_cpus=0").nr_cpus(8)), (2, 8, 8));
    assert_eq!((line("maxcpus=2 nosmp").maxcpus(), line("").maxcpus()), (Some(0), None));
}

#[test]
fn nodes_and_1g_pages() {
    assert!(line("numa=off").numa_off());
    assert_eq!(line("numa=fake=4").numa_fake(), Some("4"));
    assert!(!line("gbpages nogbpages").gbpages(true) && line("nogbpages gbpages").gbpages(false));
    assert!(line("hugetlb_free_vmemmap=on").hugetlb_free_vmemmap(Era::V6_1, false).value);
    assert!(!line("hugetlb_free_vmemmap=on").hugetlb_free_vmemmap(Era::V5_10, false).value);
    assert_eq!(line("initrdmem=0x1000,4K").initrd(Era::V6_1), Some((0x1000, 4096)));
}
