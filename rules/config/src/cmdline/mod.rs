//! The kernel command line: words in order, and typed questions to them.
//!
//! Here: splitting, the equality of names, what a boot of memory asks. Not here: messages and what follows from the
//! answers.
//!
//! # Invariants
//! 1. All words are kept in order; a question never removes one.
//! 2. Questions see the words before `--` only, as Linux's early pass does.
//!
//! Source: Linux 5.10–7.2 kernel/params.c `parse_args`; lib/cmdline.c `next_arg`; init/main.c `do_early_param`.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use kernmem_base::Era;

mod crash;
mod huge;
mod map_words;
mod memory;
mod narrow;
mod protection;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_narrow;
#[cfg(test)]
mod tests_zones;
mod zones;

pub use crash::{CrashKernel, CrashKernelPlan};
pub use huge::{HugeFault, HugePagePool, HugePages};
pub use map_words::map_words;
pub use memory::MemoryLimit;
pub use protection::{Pti, Rodata};
pub use zones::{CmaWish, CoreMemory};

/// A value that Linux rejects or passes over; the boot goes on.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Warning {
    /// An early parameter's function refused the value.
    Malformed {
        /// The word's name.
        name: String,
        /// The word's value.
        value: Option<String>,
    },
    /// `rodata=` with a word that the era does not know.
    InvalidRodata(String),
    /// A module-style parameter with a value that is no number, or no boolean.
    InvalidParameter {
        /// The word's name.
        name: String,
        /// The word's value.
        value: Option<String>,
    },
    /// A word about huge pages was passed over.
    HugePages(HugeFault),
    /// `crashkernel=` could not be read.
    CrashKernel(CrashFault),
    /// A word that only another architecture understands.
    Ignored(String),
}

/// Why a `crashkernel=` was passed over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum CrashFault {
    /// A number was expected.
    MemoryValueExpected,
    /// A letter behind the number means nothing.
    UnrecognizedChar(char),
    /// A range needs its `-`.
    DashExpected,
    /// A range's end is at or below its start.
    EndBelowStart,
    /// A range needs its `:`.
    ColonExpected,
    /// The size is all of memory or more.
    InvalidSize,
    /// No range holds this machine's memory, or the size is 0.
    ZeroBytes,
}

/// An answer, and what was wrong on the way to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer<T> {
    /// The value in force.
    pub value: T,
    /// Rejected values in the order of the line.
    pub warnings: Vec<Warning>,
}

impl<T> Answer<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self { value, warnings: Vec::new() }
    }

    /// The same warnings with another value.
    #[must_use]
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Answer<U> {
        Answer { value: f(self.value), warnings: self.warnings }
    }
}

/// One word of the line.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Word {
    /// What stands before the first `=`.
    pub name: String,
    /// What stands behind it, without enclosing quotes; `None` without a `=`.
    pub value: Option<String>,
}

impl Word {
    /// Whether the word has this name; `-` and `_` are equal in names.
    #[must_use]
    pub fn is_named(&self, name: &str) -> bool {
        let dashed = |byte: u8| if byte == b'-' { b'_' } else { byte };
        self.name.bytes().map(dashed).eq(name.bytes().map(dashed))
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = |text: &str| text.bytes().any(is_space);
        match &self.value {
            None if quoted(&self.name) => write!(f, "\"{}\"", self.name),
            None => f.write_str(&self.name),
            Some(value) if quoted(&self.name) => write!(f, "\"{}={value}\"", self.name),
            Some(value) if quoted(value) => write!(f, "{}=\"{value}\"", self.name),
            Some(value) => write!(f, "{}={value}", self.name),
        }
    }
}

/// A kernel command line.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CommandLine {
    text: String,
    words: Vec<Word>,
    init_words: Vec<Word>,
}

pub(crate) const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

/// Takes the first word: quotes group and are stripped where they enclose the whole word or its whole value.
fn next_word(text: &str) -> (Word, &str) {
    let quoted = text.starts_with('"');
    let text = text.strip_prefix('"').unwrap_or(text);
    let mut in_quote = quoted;
    let (mut equals, mut end) = (None, text.len());
    for (at, byte) in text.bytes().enumerate() {
        if is_space(byte) && !in_quote {
            end = at;
            break;
        }
        if byte == b'=' && equals.is_none_or(|at| at == 0) {
            equals = Some(at);
        }
        if byte == b'"' {
            in_quote = !in_quote;
        }
    }
    let (word, rest) = text.split_at(end);
    let rest = rest.get(1..).unwrap_or("").trim_start_matches(|c: char| c.is_ascii() && is_space(c as u8));
    let unquoted = |text: &str| text.strip_suffix('"').unwrap_or(text).to_owned();
    let word = match equals.filter(|at| *at != 0) {
        None => Word { name: if quoted { unquoted(word) } else { word.to_owned() }, value: None },
        Some(at) => {
            let (name, value) = word.split_at(at);
            let value = value.get(1..).unwrap_or("");
            let value = match value.strip_prefix('"') {
                Some(inner) => unquoted(inner),
                None if quoted => unquoted(value),
                None => value.to_owned(),
            };
            Word { name: name.to_owned(), value: Some(value) }
        }
    };
    (word, rest)
}

impl CommandLine {
    /// Splits a line into words; a NUL ends it, and line feeds at its end are no part of it.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let text = text.split('\0').next().unwrap_or("").trim_end_matches('\n');
        let mut rest = text.trim_start_matches(|c: char| c.is_ascii() && is_space(c as u8));
        let (mut words, mut init_words) = (Vec::new(), Vec::new());
        let mut for_init = false;
        while !rest.is_empty() {
            let (word, behind) = next_word(rest);
            rest = behind;
            if for_init {
                init_words.push(word);
            } else if word.value.is_none() && word.name == "--" {
                for_init = true;
            } else {
                words.push(word);
            }
        }
        Self { text: text.to_owned(), words, init_words }
    }

    /// The line as the kernel prints it.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The words before `--`, in order.
    #[must_use]
    pub fn words(&self) -> &[Word] {
        &self.words
    }

    /// The words behind `--`: they belong to init.
    #[must_use]
    pub fn init_words(&self) -> &[Word] {
        &self.init_words
    }

    /// The words of that name, in order.
    pub fn named(&self, name: &str) -> impl DoubleEndedIterator<Item = &Word> {
        self.words.iter().filter(move |word| word.is_named(name))
    }

    /// Whether a word of that name is there, with or without a value.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.named(name).next().is_some()
    }

    /// The value of the last word of that name that has one.
    #[must_use]
    pub fn last_value(&self, name: &str) -> Option<&str> {
        self.named(name).rev().find_map(|word| word.value.as_deref())
    }

    /// An early parameter with a boolean value; each bad value is a warning and changes nothing.
    #[must_use]
    pub fn early_bool(&self, name: &str, era: Era, default: bool) -> Answer<bool> {
        self.early(name, default, |value| value.and_then(|value| kstrtobool(value, era)))
    }

    /// An early parameter: `read` gives `None` for a value that Linux refuses.
    pub(crate) fn early<T>(&self, name: &str, default: T, read: impl Fn(Option<&str>) -> Option<T>) -> Answer<T> {
        let mut answer = Answer::new(default);
        for word in self.named(name) {
            match read(word.value.as_deref()) {
                Some(value) => answer.value = value,
                None => {
                    let warning = Warning::Malformed { name: word.name.clone(), value: word.value.clone() };
                    answer.warnings.push(warning);
                }
            }
        }
        answer
    }

    /// The names that no question of this crate reads.
    #[must_use]
    pub fn unread_words(&self) -> BTreeSet<String> {
        let is_read = |word: &&Word| READ.iter().any(|name| word.is_named(name));
        self.words.iter().filter(|word| !is_read(word)).map(|word| word.name.clone()).collect()
    }
}

impl fmt::Display for CommandLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Words that some question reads.
const READ: [&str; 55] = [
    "vmalloc",
    "highmem",
    "reservetop",
    "rodata",
    "debug_pagealloc",
    "kfence.sample_interval",
    "crashkernel",
    "mem",
    "memmap",
    "reservelow",
    "nokaslr",
    "kpti",
    "memblock",
    "hugepages",
    "hugepagesz",
    "default_hugepagesz",
    "hugetlb_free_vmemmap",
    "kernelcore",
    "movablecore",
    "movable_node",
    "cma",
    "numa",
    "nogbpages",
    "gbpages",
    "nopti",
    "pti",
    "mitigations",
    "noexec",
    "no5lvl",
    "nr_cpus",
    "maxcpus",
    "nosmp",
    "possible_cpus",
    "nopcid",
    "initrd",
    "initrdmem",
    "noinitrd",
    "arm64.nolva",
    "kaslr.disabled",
    "no_hash_pointers",
    "log_buf_len",
    "swiotlb",
    "hashdist",
    "dhash_entries",
    "ihash_entries",
    "mhash_entries",
    "mphash_entries",
    "init_on_alloc",
    "init_on_free",
    "page_poison",
    "percpu_alloc",
    "retain_initrd",
    "keepinitrd",
    "nohugevmalloc",
    "iommu",
];

/// A boolean: y, Y, 1 and n, N, 0 by their first letter (t, T, f, F too from 6.1 on), or on and off by their first two.
///
/// Source: Linux 5.10–7.2 lib/kstrtox.c `kstrtobool`.
#[must_use]
pub fn kstrtobool(text: &str, era: Era) -> Option<bool> {
    let knows_true_false = match era {
        Era::V4_14 | Era::V5_10 => false,
        Era::V6_1 | Era::V6_12 | Era::V7_2 => true,
    };
    match text.as_bytes() {
        [b'y' | b'Y' | b'1', ..] => Some(true),
        [b'n' | b'N' | b'0', ..] => Some(false),
        [b't' | b'T', ..] if knows_true_false => Some(true),
        [b'f' | b'F', ..] if knows_true_false => Some(false),
        [b'o' | b'O', b'n' | b'N', ..] => Some(true),
        [b'o' | b'O', b'f' | b'F', ..] => Some(false),
        _ => None,
    }
}
