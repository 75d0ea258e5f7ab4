//! Who of the registry stands in which row.

use kernmem_bench::rows::{Contender, Role, bring_up, bring_up_of_part, locked_tables, one_cpu, shared_frames};

use crate::frames::bitmap::{self, Bitmap};
use crate::frames::buddy_slab::BuddySlab;
use crate::frames::buddy_system::BuddySystem;
use crate::frames::{Bare, FramesMut, Locked};
use crate::tables::aarch64::Aarch64;
use crate::tables::generic::Generic;
use crate::tables::multiarch::Multiarch;
use crate::tables::x86::X86;

/// Every contender of the registry.
pub fn peers() -> Vec<Contender> {
    let mut all = locked_tables::<X86>(Role::Peer);
    all.extend(locked_tables::<Multiarch>(Role::Peer));
    all.extend(locked_tables::<Generic>(Role::Peer));
    all.extend(locked_tables::<Aarch64>(Role::Peer));
    all.extend(with_and_without_lock::<BuddySystem>());
    all.extend(with_and_without_lock::<Bitmap>());
    all.extend(with_and_without_lock::<BuddySlab>());
    all.push(bring_up::<Locked<BuddySystem>>(Role::Peer));
    all.push(Contender::new("F9", Bitmap::NAME, Role::Peer, bitmap::bring_up));
    all.push(bring_up_of_part::<Locked<BuddySlab>>(Role::Peer));
    all
}

fn with_and_without_lock<T: FramesMut + 'static>() -> Vec<Contender> {
    let mut all = shared_frames::<Locked<T>>(Role::Peer);
    all.extend(one_cpu::<Bare<T>>(Role::Bare));
    all
}
