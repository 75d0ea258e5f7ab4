//! A store on the heap: each root is made when its first section appears.

use alloc::vec;
use alloc::vec::Vec;

use super::{NewRoot, Root, Section, Store, StoreFull, Usage, slot};

/// Section descriptors and usage maps on the heap.
///
/// The list of roots grows to the highest root in use, and the usage maps of a group are zeroed memory: a machine of
/// 64 TiB costs what it has, not what it could hold.
#[derive(Clone, Debug, Default)]
pub struct VecStore {
    roots: Vec<Root>,
    sections: Vec<Section>,
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
        Self { roots: Vec::new(), sections: Vec::new(), groups: Vec::new(), next: 0, free: Vec::new() }
    }

    fn group(&self, index: usize) -> Option<usize> {
        self.groups.partition_point(|group| group.start <= index).checked_sub(1)
    }
}

impl Store for VecStore {
    fn sections(&self) -> &[Section] {
        &self.sections
    }

    fn sections_mut(&mut self) -> &mut [Section] {
        &mut self.sections
    }

    fn roots(&self) -> &[Root] {
        &self.roots
    }

    fn add_root(&mut self, new: NewRoot, sections: usize) -> Result<(), StoreFull> {
        let full = StoreFull::Root { root: new.root };
        let place = Root::at(self.sections.len()).ok_or(full)?;
        let at = slot(new.root);
        if at >= self.roots.len() {
            self.roots.resize(at + 1, Root::NONE);
        }
        self.sections.resize(self.sections.len() + sections, Section::default());
        self.roots[at] = place;
        Ok(())
    }

    fn extend(&mut self, sections: usize, _per_root: usize) -> Result<(), StoreFull> {
        if sections > self.sections.len() {
            self.sections.resize(sections, Section::default());
        }
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
