//! A host of which no vectors are known here: everything is the rest that base does.

use core::sync::atomic::{AtomicU32, AtomicU64};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Width;

impl Width {
    pub(super) const BASELINE: Self = Self;

    pub(super) fn widest() -> Self {
        Self
    }

    pub(super) fn fill_wide(self, _: &[AtomicU64], _: (u64, u64)) -> usize {
        0
    }

    pub(super) fn fill_narrow(self, _: &[AtomicU32], _: (u32, u32)) -> usize {
        0
    }

    pub(super) fn rewrite_wide(self, _: &[AtomicU64], _: (u64, u64, u64)) -> usize {
        0
    }

    pub(super) fn rewrite_narrow(self, _: &[AtomicU32], _: (u32, u32, u32)) -> usize {
        0
    }

    pub(super) fn empty_wide(self, _: &[AtomicU64], (): ()) -> usize {
        0
    }

    pub(super) fn empty_narrow(self, _: &[AtomicU32], (): ()) -> usize {
        0
    }

    pub(super) fn replace_wide(self, _: &[AtomicU64], _: (u64, u64)) -> usize {
        0
    }

    pub(super) fn replace_narrow(self, _: &[AtomicU32], _: (u32, u32)) -> usize {
        0
    }
}
