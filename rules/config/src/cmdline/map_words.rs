//! Words that can change a kernel's page tables, and the editing of a line.
//!
//! Here: which words are worth trying where a listing is to be explained, which of them exclude each other, a line with
//! words dropped and added. Not here: what the words mean (their own modules).
//!
//! Source: the words are those whose questions the other modules of this folder answer.

use alloc::borrow::ToOwned;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use kernmem_base::Era;
use kernmem_firmware::Arch;

use super::{CommandLine, READ, Word};

/// Words with the values worth trying, for all architectures and eras. Words whose value is an amount of the
/// machine (`mem=`, `memmap=`) are not here: no value of theirs is more likely than another.
const COMMON: [&str; 9] = [
    "rodata=off",
    "rodata=on",
    "debug_pagealloc=on",
    "debug_pagealloc=off",
    "crashkernel=256M",
    "crashkernel=512M",
    "nokaslr",
    "mitigations=off",
    "numa=off",
];

/// Words that are spellings of one decision: the last one on a line, or one of them, counts.
const SAME_DECISION: [&[&str]; 3] = [&["pti", "nopti"], &["gbpages", "nogbpages"], &["kernelcore", "movablecore"]];

/// Words that can change page tables, each with a value worth trying.
///
/// | era | arm64 has also | x86-64 has also (i386: `nopti`, `pti=on`, sizes of its regions; to 5.10 `noexec=off`) |
/// |---|---|---|
/// | 4.14, 5.10 | `rodata=full`, `kpti=` | `noexec=off`, `nogbpages`, `nopti`, `nopcid`, `no5lvl`, `pti=on` |
/// | 6.1, 6.12 | the same, and `kfence.sample_interval=` | without `noexec=`, with HVO and KFENCE |
/// | 7.2 | `rodata=noalias` instead of `rodata=full` | the same |
///
/// i386 has `nopti`, `pti=on`, `noexec=off`, `vmalloc=` and `highmem=` in every era.
#[must_use]
pub fn map_words(arch: Arch, era: Era) -> Vec<&'static str> {
    const X86: [&str; 6] = ["nogbpages", "gbpages", "nopti", "pti=on", "nopcid", "no5lvl"];
    const NARROW: [&str; 4] = ["nopti", "pti=on", "vmalloc=256M", "highmem=256M"];
    const KFENCE: [&str; 2] = ["kfence.sample_interval=0", "kfence.sample_interval=100"];
    const HVO: [&str; 2] = ["hugetlb_free_vmemmap=on", "hugepages=64"];
    let own: [&[&str]; 2] = match (arch, era) {
        (Arch::Arm64, Era::V4_14 | Era::V5_10) => [&["rodata=full", "kpti=on", "kpti=off"], &[]],
        (Arch::Arm64, Era::V6_1 | Era::V6_12) => [&["rodata=full", "kpti=on", "kpti=off"], &KFENCE],
        (Arch::Arm64, Era::V7_2) => [&["rodata=noalias", "kpti=on", "kpti=off"], &KFENCE],
        (Arch::I386, Era::V4_14 | Era::V5_10) => [&NARROW, &["noexec=off"]],
        (Arch::I386, Era::V6_1 | Era::V6_12 | Era::V7_2) => [&NARROW, &[]],
        (Arch::X86_64, Era::V4_14 | Era::V5_10) => [&X86, &["noexec=off"]],
        (Arch::X86_64, Era::V6_1 | Era::V6_12 | Era::V7_2) => {
            return COMMON.into_iter().chain(X86).chain(KFENCE).chain(HVO).collect();
        }
    };
    COMMON.into_iter().chain(own.concat()).collect()
}

impl Word {
    /// The name of the decision that this word takes part in: its own, or that of the words beside which it counts.
    #[must_use]
    pub fn decision(&self) -> &str {
        let group = SAME_DECISION.into_iter().find(|group| group.iter().any(|name| self.is_named(name)));
        group.and_then(|group| group.first().copied()).unwrap_or(&self.name)
    }

    /// Whether some question of this crate reads words of this name.
    #[must_use]
    pub fn is_read(&self) -> bool {
        READ.iter().any(|name| self.is_named(name))
    }
}

impl CommandLine {
    /// The line without the words that take part in `decision`, and with `word` at its end, before `--`.
    #[must_use]
    pub fn decided(&self, decision: &str, word: Option<&Word>) -> Self {
        let kept = self.words.iter().filter(|other| other.decision() != decision);
        let mut words: Vec<String> = kept.chain(word).map(ToString::to_string).collect();
        if !self.init_words.is_empty() {
            words.push("--".to_owned());
            words.extend(self.init_words.iter().map(ToString::to_string));
        }
        Self::parse(&words.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_of_the_table_is_read_and_stands_once() {
        for arch in [Arch::Arm64, Arch::X86_64, Arch::I386] {
            for era in Era::ALL {
                let words = map_words(arch, era);
                for (nr, text) in words.iter().enumerate() {
                    let line = CommandLine::parse(text);
                    assert!(line.words().len() == 1 && line.words()[0].is_read(), "{text}");
                    assert!(!words[..nr].contains(text), "{text} twice");
                }
            }
        }
        assert!(map_words(Arch::Arm64, Era::V7_2).contains(&"rodata=noalias"));
        assert!(!map_words(Arch::Arm64, Era::V7_2).contains(&"rodata=full"));
    }

    #[test]
    fn a_decision_is_replaced_whole_and_init_keeps_its_words() {
        let line = CommandLine::parse("a pti=on nopti b=\"c d\" -- e nopti");
        let word = CommandLine::parse("nopti").words()[0].clone();
        assert_eq!(word.decision(), "pti");
        assert_eq!(line.decided("pti", Some(&word)).text(), "a b=\"c d\" nopti -- e nopti");
        assert_eq!(line.decided("pti", None).text(), "a b=\"c d\" -- e nopti");
        assert_eq!(line.decided("b", None).text(), "a pti=on nopti -- e nopti");
    }
}
