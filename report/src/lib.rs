//! Placeholder head.

pub mod memblock_log;
