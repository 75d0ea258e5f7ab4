//! Any text as a command line: each question is answered, and words without quotes inside survive being joined.
#![no_main]

use kernmem_base::{Era, Granule};
use kernmem_config::{Arch, CommandLine};
use libfuzzer_sys::fuzz_target;

fn ask(line: &CommandLine, era: Era) {
    for arch in [Arch::Arm64, Arch::X86_64, Arch::I386] {
        let _ = line.rodata(era, arch, true);
        let _ = line.mem(era, arch, Granule::K4);
        let _ = line.nokaslr(era, arch);
    }
    let plan = line.crashkernel(era, 4 << 30).value;
    assert!(plan.simple.is_none_or(|simple| simple.size > 0));
    let huge = line.huge_pages(era, &[2 << 20, 1 << 30], 2 << 20).value;
    for (nr, pool) in huge.pools.iter().enumerate() {
        assert!(pool.size == 2 << 20 || pool.size == 1 << 30);
        assert!(huge.pools.iter().skip(nr + 1).all(|other| other.size != pool.size));
    }
    let _ = (line.debug_pagealloc(era, false), line.kfence_sample_interval(100), line.kpti(era), line.pti(era));
    let _ = (line.kernelcore(era), line.movablecore(era), line.cma(era), line.initrd(era), line.noexec(era));
    let _ = (line.hugetlb_free_vmemmap(era, false), line.maxcpus(), line.possible_cpus(), line.gbpages(true));
    let _ =
        (line.vmalloc(era), line.highmem(era), line.reservetop(era), line.reservelow(era, 64 << 10), line.nolva(era));
    let _ = (line.map_edits().count(), line.crashkernel_words().len(), line.numa_fake(), line.nopentium());
    assert!((1..=64).contains(&line.nr_cpus(64)));
}

fuzz_target!(|text: &str| {
    let line = CommandLine::parse(text);
    for era in Era::ALL {
        ask(&line, era);
    }
    assert!(line.words().len() + line.init_words().len() <= text.len());
    assert!(line.unread_words().len() <= line.words().len());
    let is_plain = !text.contains('"') && !line.words().iter().any(|word| word.name.starts_with('='));
    if is_plain {
        let joined: Vec<String> = line.words().iter().map(ToString::to_string).collect();
        assert_eq!(CommandLine::parse(&joined.join(" ")).words(), line.words());
    }
});
