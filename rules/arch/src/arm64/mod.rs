//! arm64: formats, layout, kernel protections and boot decisions.

mod format;

pub use format::{Arm64Attrs, Arm64Granule4K, bit};
