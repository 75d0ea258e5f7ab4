//! The causal test of reasons: flip exactly the options that a leaf names, and the leaf changes; leaves that do not
//! name them stay as they are.
//!
//! A leaf's claim is its reasons. For each set of options that some leaf names, the machine is booted again with
//! those options flipped; then
//!
//! * a leaf whose size only these options forbid to be larger, or whose rights name one of them, must have changed;
//! * a leaf that names none of them must have the same size and the same rights;
//! * a leaf that names others as well may do either.

use std::collections::BTreeSet;
use std::path::Path;

use kernmem::Boot;
use kernmem_arch::Opt;
use kernmem_base::VirtAddr;
use kernmem_config::{CommandLine, Config, Rodata};
use kernmem_sim::Memory;
use kernmem_source::{Options, Source};
use kernmem_view::entries::root_ranges;
use kernmem_view::explain::{LeafStory, leaves};
use kernmem_view::{Answer, BootRecord, KernelView, RootKind};

/// What a causal test saw.
#[derive(Clone, Debug, Default)]
pub struct CausalTally {
    /// Leaves in the first boot.
    pub leaves: usize,
    /// Sets of options that were flipped.
    pub flips: Vec<BTreeSet<Opt>>,
    /// Leaves that had to change and did.
    pub changed: usize,
    /// Leaves that had to stay and did.
    pub stayed: usize,
    /// What went wrong: at most the first few of each flip.
    pub failures: Vec<String>,
}

/// Boots the machine at `path`, then again with each set of options that a leaf names flipped.
///
/// # Panics
/// A machine of the tree does not boot: the test fails there.
#[must_use]
pub fn causal(path: &Path) -> CausalTally {
    let source = Source::open_with(path.to_str().expect("a path in UTF-8"), &Options::default()).expect("a recording");
    let stories = stories(&source);
    let mut tally = CausalTally { leaves: stories.len(), ..CausalTally::default() };
    for story in &stories {
        if story.size.is_empty() || story.rights.is_empty() {
            tally.fail(format!("{:?} has no reason", story.range));
        }
    }
    let sets: BTreeSet<BTreeSet<Opt>> =
        stories.iter().map(|story| story.options().collect()).filter(|set: &BTreeSet<Opt>| !set.is_empty()).collect();
    for set in sets {
        let flipped = flip(&source, &set);
        let after = self::stories(&flipped);
        compare(&stories, &after, &set, &mut tally);
        tally.flips.push(set);
    }
    tally
}

impl CausalTally {
    fn fail(&mut self, failure: String) {
        if self.failures.len() < 20 {
            self.failures.push(failure);
        }
    }
}

/// Every leaf of the kernel's tables above the user half, sorted by address.
fn stories(source: &Source) -> Vec<LeafStory> {
    let boot = Boot::new(&source.machine, &source.config);
    let memory = Memory::new(kernmem::memory_ranges(&boot)).expect("memory of the simulated machine");
    let kernel = kernmem_live::boot(&memory, &boot, BootRecord::default()).expect("a machine that boots");
    let Answer::Known(root) = kernel.root(RootKind::Kernel) else { unreachable!("a kernel has tables") };
    let upper = *root_ranges(kernel.format(), RootKind::Kernel).last().expect("a format with addresses");
    leaves(&kernel, kernel.witness(), root, upper).expect("readable tables")
}

fn compare(before: &[LeafStory], after: &[LeafStory], set: &BTreeSet<Opt>, tally: &mut CausalTally) {
    let now = |va: VirtAddr| {
        let at = after.partition_point(|story| story.range.last < va);
        after.get(at).filter(|story| story.range.contains(va))
    };
    for story in before {
        let same = now(story.range.start).is_some_and(|other| {
            other.range.size() == story.range.size() && other.level == story.level && other.attrs == story.attrs
        });
        let size_goes = story.size_options().is_some_and(|options| options.iter().all(|option| set.contains(option)));
        let rights_go = story.rights_options().any(|option| set.contains(&option));
        let named = story.options().any(|option| set.contains(&option));
        match (size_goes || rights_go, named, same) {
            (true, _, true) => {
                tally.fail(format!("{:?} names {set:?} but stays: {:?} {:?}", story.range, story.size, story.rights))
            }
            (_, false, false) => tally.fail(format!(
                "{:?} ({:?}) does not name {set:?} but changes: {:?} {:?}; now {:?}",
                story.range,
                story.area,
                story.size,
                story.rights,
                now(story.range.start).map(|other| (other.range, other.attrs ^ story.attrs))
            )),
            (true, _, false) => tally.changed += 1,
            (_, false, true) => tally.stayed += 1,
            (false, true, _) => {}
        }
    }
}

/// The same machine with each of `options` decided the other way.
fn flip(source: &Source, options: &BTreeSet<Opt>) -> Source {
    let mut flipped = source.clone();
    for option in options {
        flip_one(&mut flipped.config, *option);
        if *option == Opt::Kaslr {
            flipped.machine.kaslr_seed = None;
        }
    }
    flipped
}

fn flip_one(config: &mut Config, option: Opt) {
    match option {
        Opt::Rodata => {
            let word = if config.rodata().value == Rodata::Off { "rodata=on" } else { "rodata=off" };
            edit(config, &["rodata"], Some(word));
        }
        Opt::DebugPagealloc => edit(config, &["debug_pagealloc"], None),
        Opt::KfenceInterval => config.kconfig.insert("KFENCE", "n"),
        Opt::Crashkernel => edit(config, &["crashkernel"], None),
        Opt::Kaslr => {
            edit(config, &["nokaslr"], Some("nokaslr"));
            (config.given.text_virt, config.given.linear_start) = (None, None);
            (config.given.page_offset_base, config.given.vmalloc_base, config.given.vmemmap_base) = (None, None, None);
        }
        Opt::Kpti => edit(config, &["kpti"], Some("kpti=off")),
        Opt::Mem => edit(config, &["mem"], None),
        Opt::Memmap => edit(config, &["memmap"], None),
        Opt::Gbpages => edit(config, &["nogbpages"], None),
        Opt::Pti => edit(config, &["pti", "nopti"], Some("pti=off")),
        Opt::Hugepages => {
            edit(config, &["hugepages", "hugepagesz", "default_hugepagesz", "hugetlb_free_vmemmap"], None)
        }
        _ => unreachable!("every option has its opposite here"),
    }
}

/// Drops the words named `names` and adds `word`.
fn edit(config: &mut Config, names: &[&str], word: Option<&str>) {
    let kept = config.cmdline.text().split_ascii_whitespace().filter(|text| {
        let name = text.split('=').next().unwrap_or(text);
        !names.contains(&name)
    });
    let text: Vec<&str> = kept.chain(word).collect();
    config.cmdline = CommandLine::parse(&text.join(" "));
}
