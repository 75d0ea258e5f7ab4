//! A store on the heap: each root is made when its first section appears.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use super::{NewRoot, Section, Store, StoreFull, Usage, slot};

/// Section descriptors and usage maps on the heap.
///
/// The list of roots grows to the highest root in use, roots and the usage maps of a group are zeroed memory: a
/// machine of 64 TiB costs what is written to, not what it could hold.
#[derive(Clone, Debug, Default)]
pub struct VecStore {
    roots: Vec<Option<Box<[Section]>>>,
    groups: Vec<Group>,
    next: usize,
    free: Vec<Usage>,
}

#[derive(Clone, Debug)]
struct Group {
    start: usize,
    words: Vec<u64>,
}

impl VecStore {
    /// A store without roots.
    #[must_use]
    pub const fn new() -> Self {
        Self { roots: Vec::new(), groups: Vec::new(), next: 0, free: Vec::new() }
    }

    fn group(&self, index: usize) -> Option<usize> {
        self.groups.partition_point(|group| group.start <= index).checked_sub(1)
    }
}

impl Store for VecStore {
    fn root(&self, root: u64) -> Option<&[Section]> {
        self.roots.get(slot(root))?.as_deref()
    }

    fn root_mut(&mut self, root: u64) -> Option<&mut [Section]> {
        self.roots.get_mut(slot(root))?.as_deref_mut()
    }

    fn add_root(&mut self, new: NewRoot, sections: usize) -> Result<(), StoreFull> {
        let at = slot(new.root);
        if at >= self.roots.len() {
            self.roots.resize_with(at + 1, || None);
        }
        self.roots[at] = Some(vec![Section::default(); sections].into_boxed_slice());
        Ok(())
    }

    fn take_usage(&mut self, sections: u64, words: usize) -> Result<Usage, StoreFull> {
        if sections == 1
            && let Some(usage) = self.free.pop()
        {
            if let Some(map) = self.usage_mut(usage, words) {
                map.fill(0);
            }
            return Ok(usage);
        }
        let full = StoreFull::Usage { sections };
        let len = usize::try_from(sections).ok().and_then(|n| n.checked_mul(words)).ok_or(full)?;
        let usage = Usage::at(self.next);
        self.groups.push(Group { start: self.next, words: vec![0; len] });
        self.next += len;
        Ok(usage)
    }

    fn give_usage(&mut self, usage: Usage, _words: usize) {
        if usage != Usage::NONE {
            self.free.push(usage);
        }
    }

    fn usage(&self, usage: Usage, words: usize) -> Option<&[u64]> {
        let index = usage.index()?;
        let group = self.groups.get(self.group(index)?)?;
        let start = index - group.start;
        group.words.get(start..start.checked_add(words)?)
    }

    fn usage_mut(&mut self, usage: Usage, words: usize) -> Option<&mut [u64]> {
        let index = usage.index()?;
        let at = self.group(index)?;
        let group = self.groups.get_mut(at)?;
        let start = index - group.start;
        group.words.get_mut(start..start.checked_add(words)?)
    }
}
