//! Words about zones, nodes, CMA and CPUs.
//!
//! Source: Linux 5.10–7.2 mm/page_alloc.c, 7.2 mm/mm_init.c `cmdline_parse_core`; kernel/dma/contiguous.c `early_cma`;
//! kernel/smp.c `nrcpus`, `maxcpus`, `nosmp`.

use kernmem_base::Era;

use super::{Answer, CommandLine, Warning};
use crate::number::{leading_number, memparse};

/// Memory for one side of the movable zone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CoreMemory {
    /// So many bytes.
    Bytes(u64),
    /// So many per cent of all pages.
    Percent(u64),
    /// What is mirrored (only `kernelcore`).
    Mirror,
}

/// The default CMA area that the line asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CmaWish {
    /// Bytes; 0 turns the area off.
    pub size: u64,
    /// Its lowest address.
    pub base: u64,
    /// The end of where it may lie; 0 for anywhere. Equal to base plus size if the place is fixed.
    pub limit: u64,
    /// Whether the place is fixed.
    pub fixed: bool,
}

impl CommandLine {
    fn core(&self, name: &str, era: Era, mirror: bool) -> Answer<Option<CoreMemory>> {
        self.early(name, None, |value| {
            let value = value?;
            if mirror && value.starts_with("mirror") {
                return Some(Some(CoreMemory::Mirror));
            }
            let (bytes, rest) = memparse(value, era);
            Some(Some(if rest.starts_with('%') { CoreMemory::Percent(bytes) } else { CoreMemory::Bytes(bytes) }))
        })
    }

    /// Memory that is not movable; mirror, once given, stays.
    #[must_use]
    pub fn kernelcore(&self, era: Era) -> Answer<Option<CoreMemory>> {
        let mut answer = self.core("kernelcore", era, true);
        let is_mirror = |value: &str| value.starts_with("mirror");
        if self.named("kernelcore").any(|word| word.value.as_deref().is_some_and(is_mirror)) {
            answer.value = Some(CoreMemory::Mirror);
        }
        answer
    }

    /// Memory that is movable.
    #[must_use]
    pub fn movablecore(&self, era: Era) -> Answer<Option<CoreMemory>> {
        self.core("movablecore", era, false)
    }

    /// Whether memory that may be unplugged is movable.
    #[must_use]
    pub fn movable_node(&self) -> bool {
        self.has("movable_node")
    }

    /// The default CMA area: `size[@base[-limit]]`, the last word wins.
    #[must_use]
    pub fn cma(&self, era: Era) -> Answer<Option<CmaWish>> {
        self.early("cma", None, |value| {
            let (size, rest) = memparse(value?, era);
            let Some(place) = rest.strip_prefix('@') else {
                return Some(Some(CmaWish { size, base: 0, limit: 0, fixed: false }));
            };
            let (base, rest) = memparse(place, era);
            let wish = match rest.strip_prefix('-') {
                Some(limit) => CmaWish { size, base, limit: memparse(limit, era).0, fixed: false },
                None => CmaWish { size, base, limit: base.wrapping_add(size), fixed: true },
            };
            Some(Some(wish))
        })
    }

    /// Whether nodes are ignored.
    #[must_use]
    pub fn numa_off(&self) -> bool {
        self.named("numa").any(|word| word.value.as_deref().is_some_and(|value| value.starts_with("off")))
    }

    /// What `numa=fake=` asks for, as written.
    #[must_use]
    pub fn numa_fake(&self) -> Option<&str> {
        self.named("numa").rev().find_map(|word| word.value.as_deref()?.strip_prefix("fake="))
    }

    /// CPUs that may exist at most; `built` is the configuration's limit. A word above it changes nothing.
    #[must_use]
    pub fn nr_cpus(&self, built: u32) -> u32 {
        let words = self.named("nr_cpus").filter_map(|word| word.value.as_deref());
        words.fold(built, |limit, value| match leading_number(value).value {
            0 => limit,
            wanted => u32::try_from(wanted).map_or(limit, |wanted| wanted.min(limit)),
        })
    }

    /// CPUs that boot brings up; `None` if the line sets no limit. `nosmp` is 0: the boot CPU alone.
    #[must_use]
    pub fn maxcpus(&self) -> Option<u32> {
        let mut limit = None;
        for word in self.words() {
            if word.is_named("nosmp") {
                limit = Some(0);
            } else if word.is_named("maxcpus") {
                let value = word.value.as_deref().map(leading_number);
                limit = value.and_then(|number| u32::try_from(number.value).ok()).or(limit);
            }
        }
        limit
    }

    /// x86: CPUs that may come up later too, if the line says so.
    #[must_use]
    pub fn possible_cpus(&self) -> Option<u32> {
        let value = self.last_value("possible_cpus").map(leading_number)?;
        u32::try_from(value.value).ok()
    }

    /// Whether the pages of a huge page's descriptors are given back.
    ///
    /// 4.14 and 5.10 do not know the word.
    #[must_use]
    pub fn hugetlb_free_vmemmap(&self, era: Era, default: bool) -> Answer<bool> {
        match era {
            Era::V4_14 | Era::V5_10 => Answer::new(false),
            Era::V6_1 | Era::V6_12 | Era::V7_2 => {
                let mut answer = Answer::new(default);
                for word in self.named("hugetlb_free_vmemmap") {
                    match word.value.as_deref().and_then(|value| super::kstrtobool(value, era)) {
                        Some(on) => answer.value = on,
                        None => answer
                            .warnings
                            .push(Warning::InvalidParameter { name: word.name.clone(), value: word.value.clone() }),
                    }
                }
                answer
            }
        }
    }

    /// The RAM disk's place by the line: `initrdmem=start,size` or `initrd=start,size`, first and size in bytes.
    #[must_use]
    pub fn initrd(&self, era: Era) -> Option<(u64, u64)> {
        let words = self.words().iter().rev().filter(|word| word.is_named("initrd") || word.is_named("initrdmem"));
        let mut places = words.filter_map(|word| {
            let (start, rest) = memparse(word.value.as_deref()?, era);
            Some((start, memparse(rest.strip_prefix(',')?, era).0))
        });
        places.next()
    }

    /// Whether the RAM disk is ignored.
    #[must_use]
    pub fn noinitrd(&self) -> bool {
        self.has("noinitrd")
    }

    /// arm64: 52-bit addresses stay off although the CPU has them, 6.12 and later.
    #[must_use]
    pub fn nolva(&self, era: Era) -> bool {
        match era {
            Era::V4_14 | Era::V5_10 | Era::V6_1 => false,
            Era::V6_12 | Era::V7_2 => self.has("arm64.nolva"),
        }
    }
}
