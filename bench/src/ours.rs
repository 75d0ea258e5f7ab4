//! Our own contenders, plugged in as the author of a kernel would: through public API alone.

mod fetch;
pub mod formats;
pub mod frames;
pub mod memory;
pub mod models;
pub mod shared;
pub mod tables;
