//! One option of a kernel, changed: a word, a line of the configuration, a feature of the CPU, the era.
//!
//! Here: what a change does to a source, which changes exclude each other, and which are worth trying. Not here: what
//! follows from them (the boot), which sets are tried (`minimal`).

use core::fmt;
use std::collections::BTreeSet;

use kernmem_base::Era;
use kernmem_config::cmdline::{Word, map_words};
use kernmem_config::{Arch, Arm64Cpu, CommandLine, Config, Cpu, MAP_FEATURES, X86Cpu, map_options};
use kernmem_source::Source;

/// One changed option.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Change {
    /// A word at the end of the command line, in place of those that decide the same.
    Word(Word),
    /// The command line without the words that decide this.
    NoWord(String),
    /// An option of the configuration, on or off.
    Option(&'static str, bool),
    /// A feature or a fault of an x86 CPU, there or not.
    Feature(&'static str, bool),
    /// Another model of arm64.
    Model(String),
    /// Another branch of Linux.
    Era(Era),
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(word) => write!(f, "{word} on the command line"),
            Self::NoWord(decision) => write!(f, "no {decision} on the command line"),
            Self::Option(name, true) => write!(f, "CONFIG_{name}=y"),
            Self::Option(name, false) => write!(f, "CONFIG_{name}=n"),
            Self::Feature(name, true) => write!(f, "a CPU with {name}"),
            Self::Feature(name, false) => write!(f, "a CPU without {name}"),
            Self::Model(model) => write!(f, "the CPU {model}"),
            Self::Era(era) => write!(f, "Linux {era}"),
        }
    }
}

/// A kind of change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Words of the command line.
    Word,
    /// Options of the configuration.
    Config,
    /// The CPU.
    Cpu,
    /// The era.
    Era,
}

impl Change {
    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Word(_) | Self::NoWord(_) => Kind::Word,
            Self::Option(..) => Kind::Config,
            Self::Feature(..) | Self::Model(_) => Kind::Cpu,
            Self::Era(_) => Kind::Era,
        }
    }

    /// What it decides: two changes that decide the same cannot both be made.
    pub(crate) fn subject(&self) -> (u8, &str) {
        match self {
            Self::Word(word) => (0, word.decision()),
            Self::NoWord(decision) => (0, decision),
            Self::Option(name, _) => (1, name),
            Self::Feature(name, _) => (2, name),
            Self::Model(_) => (3, ""),
            Self::Era(_) => (4, ""),
        }
    }

    /// Makes the change.
    pub(crate) fn apply(&self, source: &mut Source) {
        let config = &mut source.config;
        match self {
            Self::Word(word) => {
                let line = config.cmdline.decided(word.decision(), Some(word));
                if word.is_named("nokaslr") {
                    unmove(config);
                }
                source.set_cmdline(line);
            }
            Self::NoWord(decision) => {
                let line = config.cmdline.decided(decision, None);
                source.set_cmdline(line);
            }
            Self::Option(name, on) => config.kconfig.insert(name, if *on { "y" } else { "n" }),
            Self::Feature(name, on) => {
                if *name == "la57" {
                    // Where regions lie with four levels says nothing about five.
                    unmove_regions(config);
                }
                if let Cpu::X86(cpu) = &mut config.cpu {
                    *cpu = cpu.changed(&format!("{}{name}", if *on { '+' } else { '-' }));
                }
            }
            Self::Model(model) => {
                if let Some(cpu) = Arm64Cpu::by_model(model) {
                    config.cpu = Cpu::Arm64(cpu);
                }
            }
            Self::Era(era) => {
                config.era = *era;
                config.kconfig.name_for_all_eras();
            }
        }
    }
}

/// Without KASLR nothing lies where chance put it.
fn unmove(config: &mut Config) {
    unmove_regions(config);
    let given = &mut config.given;
    (given.text_virt, given.linear_start) = (None, None);
    match config.arch {
        Arch::Arm64 => {}
        // Here chance also chooses the memory under the image.
        Arch::X86_64 | Arch::I386 => given.text_phys = None,
    }
}

fn unmove_regions(config: &mut Config) {
    let given = &mut config.given;
    (given.page_offset_base, given.vmalloc_base, given.vmemmap_base) = (None, None, None);
}

/// Changes worth trying on `base`: first those that lead towards `other`, if it is known, then those of the tables.
pub(crate) fn candidates(base: &Source, other: Option<&Source>, amounts: &[String]) -> Vec<Change> {
    let config = &base.config;
    let mut all = Vec::new();
    let line = other.map_or(CommandLine::default(), |other| other.config.cmdline.clone());
    all.extend(line.words().iter().filter(|word| word.is_read()).cloned().map(Change::Word));
    let texts = amounts.iter().map(String::as_str).chain(map_words(config.arch, config.era));
    all.extend(texts.filter_map(|text| CommandLine::parse(text).words().first().cloned()).map(Change::Word));
    let own = config.cmdline.words();
    all.retain(|change| !matches!(change, Change::Word(word) if own.contains(word)));
    all.extend(own.iter().filter(|word| word.is_read()).map(|word| Change::NoWord(word.decision().to_owned())));
    let options = map_options(config.arch).iter();
    all.extend(options.map(|name| Change::Option(name, !config.kconfig.is_set(name))));
    match &config.cpu {
        Cpu::X86(cpu) => all.extend(MAP_FEATURES.map(|name| Change::Feature(name, !has(cpu, name)))),
        Cpu::Arm64(cpu) => {
            let models = Arm64Cpu::models().filter(|model| *model != cpu.model);
            all.extend(models.map(|model| Change::Model(model.to_owned())));
        }
    }
    all.extend(Era::ALL.into_iter().filter(|era| *era != config.era).map(Change::Era));
    let mut seen = BTreeSet::new();
    all.retain(|change| seen.insert(change.clone()));
    all
}

fn has(cpu: &X86Cpu, name: &str) -> bool {
    name.strip_prefix("bug:").map_or_else(|| cpu.has(name), |bug| cpu.has_bug(bug))
}

#[cfg(test)]
mod tests {
    use kernmem_arch::Opt;
    use kernmem_source::Options;

    use super::*;

    fn preset(name: &str, cmdline: &str) -> Source {
        let options = Options { cmdline: Some(cmdline.to_owned()), ..Options::default() };
        Source::open_with(name, &options).expect("a preset")
    }

    fn names(source: &Source) -> Vec<String> {
        candidates(source, None, &[]).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn each_option_that_a_reason_can_name_is_tried() {
        let (arm64, x86) = (names(&preset("arm64-4g", "mem=2G")), names(&preset("x86-4g", "memmap=1M!4G nogbpages")));
        let tried = |option: Opt| match option {
            Opt::Rodata => vec![(&arm64, "rodata=off on the command line"), (&x86, "rodata=off on the command line")],
            Opt::DebugPagealloc => {
                vec![(&arm64, "debug_pagealloc=on on the command line"), (&x86, "CONFIG_DEBUG_PAGEALLOC=n")]
            }
            Opt::KfenceInterval => {
                vec![(&arm64, "CONFIG_KFENCE=y"), (&arm64, "kfence.sample_interval=0 on the command line")]
            }
            Opt::Crashkernel => vec![(&arm64, "crashkernel=256M on the command line")],
            Opt::Kaslr => vec![(&arm64, "nokaslr on the command line"), (&x86, "nokaslr on the command line")],
            Opt::Kpti => vec![(&arm64, "kpti=off on the command line")],
            Opt::Mem => vec![(&arm64, "no mem on the command line")],
            Opt::Memmap => vec![(&x86, "no memmap on the command line")],
            Opt::Gbpages => vec![(&x86, "no gbpages on the command line"), (&x86, "a CPU with pdpe1gb")],
            Opt::Pti => vec![(&x86, "nopti on the command line"), (&x86, "a CPU without bug:cpu_meltdown")],
            Opt::Hugepages => vec![(&x86, "hugetlb_free_vmemmap=on on the command line")],
            _ => unreachable!("every option has its candidates here"),
        };
        use Opt::*;
        for option in
            [Rodata, DebugPagealloc, KfenceInterval, Crashkernel, Kaslr, Kpti, Mem, Memmap, Gbpages, Pti, Hugepages]
        {
            for (names, name) in tried(option) {
                assert!(names.iter().any(|one| one == name), "{option:?}: {name} is not in {names:#?}");
            }
        }
    }

    #[test]
    fn what_stands_already_is_no_change_and_the_other_line_comes_first() {
        let base = preset("x86-4g", "nopti a=b");
        let other = preset("x86-4g", "nopti mem=3G c=d");
        let all = candidates(&base, Some(&other), &[]);
        assert_eq!(all.first().map(ToString::to_string).as_deref(), Some("mem=3G on the command line"));
        let nopti = CommandLine::parse("nopti").words()[0].clone();
        assert!(!all.contains(&Change::Word(nopti)) && all.contains(&Change::NoWord("pti".to_owned())));
        assert!(!all.iter().any(|change| change.to_string().contains("c=d")));
    }

    #[test]
    fn a_change_is_made_and_nothing_else() {
        let base = preset("x86-4g", "a");
        let mut changed = base.clone();
        Change::Feature("bug:cpu_meltdown", true).apply(&mut changed);
        Change::Option("NUMA", false).apply(&mut changed);
        Change::Word(CommandLine::parse("nr_cpus=1").words()[0].clone()).apply(&mut changed);
        let has = |source: &Source| source.config.cpu.x86().is_some_and(|cpu| cpu.has_bug("cpu_meltdown"));
        assert!(has(&changed) && !changed.config.kconfig.is_set("NUMA"));
        assert_eq!((changed.config.cmdline.text(), changed.config.possible_cpus), ("a nr_cpus=1", 1));
        assert_eq!((base.config.possible_cpus, changed.config.era), (2, base.config.era));
    }
}
