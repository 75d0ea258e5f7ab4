//! Our own contenders, plugged in as the author of a kernel would: through public API alone.

pub mod formats;
pub mod frames;
pub mod memory;
pub mod models;
pub mod ready;
pub mod shared;
pub mod tables;
