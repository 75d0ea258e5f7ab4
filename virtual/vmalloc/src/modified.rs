//! Which levels an operation changed, and a source of frames that watches it.
//!
//! Source: Linux 6.1 include/linux/pgtable.h `pgtbl_mod_mask`.

use kernmem_base::{Frame, FrameSource, Level, NoFrame, PhysAddr};

/// A set of levels whose entries changed: an entry that links a new table, or a leaf.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Modified(u8);

impl Modified {
    /// No level.
    pub const NONE: Self = Self(0);

    /// Adds a level.
    pub const fn add(&mut self, level: Level) {
        self.0 |= 1 << level as u8;
    }

    /// Whether entries of `level` changed.
    #[must_use]
    pub const fn contains(self, level: Level) -> bool {
        self.0 & 1 << level as u8 != 0
    }

    /// The levels, root first.
    pub fn levels(self) -> impl Iterator<Item = Level> {
        Level::ALL.into_iter().filter(move |&level| self.contains(level))
    }
}

/// A source that notes which levels get an entry for the frames that it lends.
pub(crate) struct Watched<'f, P> {
    pub frames: &'f mut P,
    pub modified: &'f mut Modified,
    /// Levels of the tables' format, root first.
    pub levels: &'static [kernmem_arch::LevelShape],
}

impl<P: FrameSource> FrameSource for Watched<'_, P> {
    fn take(&mut self, level: Level) -> Result<Frame, NoFrame> {
        let frame = self.frames.take(level)?;
        if let Some(parent) = self.levels.iter().take_while(|shape| shape.level != level).last() {
            self.modified.add(parent.level);
        }
        Ok(frame)
    }

    fn give_back(&mut self, frame: PhysAddr) {
        self.frames.give_back(frame);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_kept_apart_and_come_root_first() {
        let mut modified = Modified::NONE;
        modified.add(Level::Pte);
        modified.add(Level::Pgd);
        assert!(modified.levels().eq([Level::Pgd, Level::Pte]));
        assert!(!modified.contains(Level::Pmd));
    }
}
