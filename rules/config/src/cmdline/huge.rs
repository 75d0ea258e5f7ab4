//! Words about huge pages.
//!
//! Here: which pools the line asks for, and what is refused on the way. Not here: whether memory suffices.
//!
//! Source: Linux 5.10–7.2 mm/hugetlb.c `hugepages_setup`, `hugepagesz_setup`, `default_hugepagesz_setup`.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

use kernmem_base::Era;

use super::{Answer, CommandLine, Warning};
use crate::number::memparse;

/// Pages of one size that the line asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HugePagePool {
    /// Bytes of one page.
    pub size: u64,
    /// Pages in all.
    pub pages: u64,
    /// Pages by node, if the line gives them so.
    pub by_node: Vec<(u32, u64)>,
}

/// All that the line says about huge pages.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HugePages {
    /// The default size, if the line sets it.
    pub default_size: Option<u64>,
    /// Pools in the order of their sizes' first mention.
    pub pools: Vec<HugePagePool>,
}

/// Why a word about huge pages was passed over.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum HugeFault {
    /// `hugepagesz=` names a size that this kernel lacks.
    UnsupportedSize(String),
    /// `hugepagesz=` names a size for the second time.
    SizeTwice(String),
    /// `default_hugepagesz=` names a size that this kernel lacks.
    UnsupportedDefault(String),
    /// A second `default_hugepagesz=`.
    DefaultTwice(String),
    /// `hugepages=` behind a size that was refused.
    NoValidSize(String),
    /// A second `hugepages=` for one size.
    CountTwice(String),
    /// `hugepages=` that is no count.
    InvalidCount(String),
}

/// Where a count goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Target {
    /// The default size, whatever it will be.
    Default,
    /// A size that the line named.
    Size(u64),
}

/// State while the words are read in order.
struct Reader<'a> {
    era: Era,
    sizes: &'a [u64],
    built_in_default: u64,
    default: Option<u64>,
    /// Whether the last size named was accepted; one refused count makes up for a refused size.
    is_valid: bool,
    /// The last size that was new, or named again as the default.
    parsed: Option<u64>,
    /// Sizes named so far.
    named: Vec<u64>,
    /// Where the last count went.
    counted: Option<Target>,
    /// A count before any size: it follows the default.
    for_default: Option<HugePagePool>,
    pools: Vec<HugePagePool>,
    faults: Vec<HugeFault>,
}

impl CommandLine {
    /// The pools that the line asks for on a kernel with huge pages of `sizes` and the default `built_in_default`.
    ///
    /// A count before any size belongs to the default size, also to one that is set later, and beats a count that
    /// names that size. Forms by node are read from 6.1 on.
    #[must_use]
    pub fn huge_pages(&self, era: Era, sizes: &[u64], built_in_default: u64) -> Answer<HugePages> {
        let mut reader = Reader {
            era,
            sizes,
            built_in_default,
            default: None,
            is_valid: true,
            parsed: None,
            named: Vec::new(),
            counted: None,
            for_default: None,
            pools: Vec::new(),
            faults: Vec::new(),
        };
        for word in self.words() {
            let value = word.value.as_deref().unwrap_or("");
            if word.is_named("hugepagesz") {
                reader.size(value);
            } else if word.is_named("default_hugepagesz") {
                reader.default_size(value);
            } else if word.is_named("hugepages") {
                reader.count(value);
            }
        }
        let warnings = core::mem::take(&mut reader.faults).into_iter().map(Warning::HugePages).collect();
        Answer { value: reader.finish(), warnings }
    }
}

impl Reader<'_> {
    fn supported(&self, value: &str) -> Option<u64> {
        let (size, _) = memparse(value, self.era);
        self.sizes.contains(&size).then_some(size)
    }

    fn has_count(&self, size: u64) -> bool {
        self.pools.iter().any(|pool| pool.size == size && pool.pages != 0)
    }

    fn size(&mut self, value: &str) {
        self.is_valid = false;
        let Some(size) = self.supported(value) else {
            return self.faults.push(HugeFault::UnsupportedSize(value.to_owned()));
        };
        // A second time is allowed for the default size while it has no count.
        if self.named.contains(&size) && (self.default != Some(size) || self.has_count(size)) {
            return self.faults.push(HugeFault::SizeTwice(value.to_owned()));
        }
        self.named.push(size);
        self.parsed = Some(size);
        self.is_valid = true;
    }

    fn default_size(&mut self, value: &str) {
        self.is_valid = false;
        if self.default.is_some() {
            return self.faults.push(HugeFault::DefaultTwice(value.to_owned()));
        }
        let Some(size) = self.supported(value) else {
            return self.faults.push(HugeFault::UnsupportedDefault(value.to_owned()));
        };
        // A size that was named before does not become the one that counts go to.
        if !self.named.contains(&size) {
            self.named.push(size);
            self.parsed = Some(size);
        }
        self.is_valid = true;
        self.default = Some(size);
        if let Some(pool) = self.for_default.take().filter(|pool| pool.pages != 0) {
            self.set(HugePagePool { size, ..pool });
        }
    }

    fn count(&mut self, value: &str) {
        if !self.is_valid {
            self.is_valid = true;
            return self.faults.push(HugeFault::NoValidSize(value.to_owned()));
        }
        let target = self.parsed.map_or(Target::Default, Target::Size);
        if self.counted == Some(target) {
            return self.faults.push(HugeFault::CountTwice(value.to_owned()));
        }
        let Some((pages, by_node)) = counts(value, self.era) else {
            return self.faults.push(HugeFault::InvalidCount(value.to_owned()));
        };
        self.counted = Some(target);
        match target {
            Target::Default => self.for_default = Some(HugePagePool { size: 0, pages, by_node }),
            Target::Size(size) => self.set(HugePagePool { size, pages, by_node }),
        }
    }

    fn set(&mut self, pool: HugePagePool) {
        match self.pools.iter_mut().find(|other| other.size == pool.size) {
            Some(other) => *other = pool,
            None => self.pools.push(pool),
        }
    }

    fn finish(mut self) -> HugePages {
        if let Some(pool) = self.for_default.take().filter(|pool| pool.pages != 0) {
            let size = self.default.unwrap_or(self.built_in_default);
            self.set(HugePagePool { size, ..pool });
        }
        HugePages { default_size: self.default, pools: self.pools }
    }
}

/// The decimal number at the start of a text, and what follows it.
fn decimal(text: &str) -> Option<(u64, &str)> {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at_checked(end)?;
    digits.parse().ok().map(|number| (number, rest))
}

/// A count, or `node:count[,node:count…]`.
///
/// | era | no number | by node |
/// |---|---|---|
/// | 4.14, 5.10 | is 0 | no |
/// | 6.1–7.2 | is refused | yes |
fn counts(value: &str, era: Era) -> Option<(u64, Vec<(u32, u64)>)> {
    let first = decimal(value);
    match era {
        Era::V4_14 | Era::V5_10 => return Some((first.map_or(0, |(pages, _)| pages), Vec::new())),
        Era::V6_1 | Era::V6_12 | Era::V7_2 if value.is_empty() => return Some((0, Vec::new())),
        Era::V6_1 | Era::V6_12 | Era::V7_2 => {}
    }
    let (pages, rest) = first?;
    if !rest.starts_with(':') {
        return Some((pages, Vec::new()));
    }
    let (mut nodes, mut text) = (Vec::new(), value);
    while !text.is_empty() {
        let (node, rest) = decimal(text)?;
        let (pages, rest) = decimal(rest.strip_prefix(':')?)?;
        nodes.push((u32::try_from(node).ok()?, pages));
        text = rest.strip_prefix(',').unwrap_or("");
    }
    let pages = nodes.iter().fold(0u64, |sum, (_, count)| sum.saturating_add(*count));
    Some((pages, nodes))
}
