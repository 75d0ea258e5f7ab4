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
use crate::number::{leading_number, memparse};

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

/// State while the words are read in order.
struct Reader<'a> {
    era: Era,
    sizes: &'a [u64],
    built_in_default: u64,
    default: Option<u64>,
    /// The size that a count belongs to; `None` behind a refused one.
    current: Option<u64>,
    /// Sizes named by `hugepagesz=`.
    named: Vec<u64>,
    /// The size of the last count: a second one is refused.
    counted: Option<u64>,
    /// A count before any size: it follows the default.
    for_default: Option<HugePagePool>,
    pools: Vec<HugePagePool>,
    faults: Vec<HugeFault>,
}

impl CommandLine {
    /// The pools that the line asks for on a kernel with huge pages of `sizes` and the default `built_in_default`.
    ///
    /// Counts before any size belong to the default size, also to one that is set later. Forms by node are read from
    /// 6.1 on.
    #[must_use]
    pub fn huge_pages(&self, era: Era, sizes: &[u64], built_in_default: u64) -> Answer<HugePages> {
        let mut reader = Reader {
            era,
            sizes,
            built_in_default,
            default: None,
            current: Some(0),
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
        let warnings = reader.faults.drain(..).map(Warning::HugePages).collect();
        Answer { value: reader.finish(), warnings }
    }
}

impl Reader<'_> {
    fn supported(&self, value: &str) -> Option<u64> {
        let (size, _) = memparse(value, self.era);
        self.sizes.contains(&size).then_some(size)
    }

    fn default_in_force(&self) -> u64 {
        self.default.unwrap_or(self.built_in_default)
    }

    fn size(&mut self, value: &str) {
        self.current = None;
        let Some(size) = self.supported(value) else {
            return self.faults.push(HugeFault::UnsupportedSize(value.to_owned()));
        };
        if self.named.contains(&size) {
            // Allowed once more for the default size while it has no count.
            let has_count = self.for_default.is_some() || self.pools.iter().any(|pool| pool.size == size);
            if self.default != Some(size) || has_count {
                return self.faults.push(HugeFault::SizeTwice(value.to_owned()));
            }
        }
        self.named.push(size);
        self.current = Some(size);
        self.counted = None;
    }

    fn default_size(&mut self, value: &str) {
        self.current = None;
        if self.default.is_some() {
            return self.faults.push(HugeFault::DefaultTwice(value.to_owned()));
        }
        let Some(size) = self.supported(value) else {
            return self.faults.push(HugeFault::UnsupportedDefault(value.to_owned()));
        };
        self.default = Some(size);
        self.named.push(size);
        self.current = Some(size);
        if let Some(pool) = self.for_default.take() {
            self.pools.push(HugePagePool { size, ..pool });
        }
    }

    fn count(&mut self, value: &str) {
        let Some(size) = self.current else {
            self.current = Some(0);
            return self.faults.push(HugeFault::NoValidSize(value.to_owned()));
        };
        let known = size == 0 && self.for_default.is_some() || self.pools.iter().any(|pool| pool.size == size);
        if self.counted == Some(size) || known {
            return self.faults.push(HugeFault::CountTwice(value.to_owned()));
        }
        let Some((pages, by_node)) = counts(value, self.era) else {
            return self.faults.push(HugeFault::InvalidCount(value.to_owned()));
        };
        self.counted = Some(size);
        let pool = HugePagePool { size, pages, by_node };
        if size == 0 { self.for_default = Some(pool) } else { self.pools.push(pool) }
    }

    fn finish(mut self) -> HugePages {
        let size = self.default_in_force();
        if let Some(pool) = self.for_default.take() {
            self.pools.insert(0, HugePagePool { size, ..pool });
        }
        HugePages { default_size: self.default, pools: self.pools }
    }
}

/// A count, or `node:count[,node:count…]` from 6.1 on.
fn counts(value: &str, era: Era) -> Option<(u64, Vec<(u32, u64)>)> {
    let first = leading_number(value);
    if first.rest.len() == value.len() {
        return None;
    }
    let by_node = match era {
        Era::V4_14 | Era::V5_10 => false,
        Era::V6_1 | Era::V6_12 | Era::V7_2 => first.rest.starts_with(':'),
    };
    if !by_node {
        return Some((first.value, Vec::new()));
    }
    let mut nodes = Vec::new();
    for item in value.split(',') {
        let node = leading_number(item);
        let count = leading_number(node.rest.strip_prefix(':')?);
        nodes.push((u32::try_from(node.value).ok()?, count.value));
    }
    let pages = nodes.iter().fold(0u64, |sum, (_, count)| sum.saturating_add(*count));
    Some((pages, nodes))
}
