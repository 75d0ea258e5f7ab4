//! x86-64: formats, layout, protections and boot decisions.
//!
//! Here: entry formats of four and five levels ([`X86`]) and the names of their bits ([`fields`]), protections and masks ([`prot`]),
//! memory types ([`memtype`]), the address space and its drawn bases ([`layout`], [`kaslr`], [`fixmap`],
//! [`cpu_entry_area`]), how the direct map is built and counted ([`direct_map`], [`steps`], [`counters`]), what
//! changes rights later ([`cpa`], [`image`], [`pti`]), what roots share ([`prealloc`]), pages of user mode
//! ([`crate::UserFormat`]), zones ([`zones`]), the landmarks of a listing ([`markers`]), the rules of a walk ([`mmu`])
//! and how it tells a fault ([`error_code`]).
//! Not here: the firmware map (`kernmem-firmware`), tables in memory (`kernmem-pgtable`), texts (`kernmem-report`).

pub mod counters;
pub mod cpa;
pub mod cpu_entry_area;
pub mod direct_map;
pub mod error_code;
pub(crate) mod fields;
pub mod fixmap;
mod format;
pub mod image;
pub mod kaslr;
pub mod layout;
pub mod markers;
pub mod memtype;
pub mod mmu;
pub mod prealloc;
pub mod prot;
pub mod pti;
pub mod steps;
pub(crate) mod user;
pub mod zones;

pub use fields::fields;
pub use format::{X86, X86Attrs, X86Format, X86Level4, X86Level5, bit, listed_as_leaf};
pub(crate) use format::{decode_end, is_present_less, leaf, leaf_frame, table_entry, x86_entries};
pub(crate) use mmu::x86_mmu;
pub(crate) use user::user_format;
