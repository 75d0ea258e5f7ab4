//! The figures of zones: what Linux computes once from the size of a zone and then compares with all day.
//!
//! | figure | function | where Linux prints it |
//! |---|---|---|
//! | the least memory kept free | [`min_free_kbytes`], [`recommended_min_free_kbytes`] | `min_free_kbytes` |
//! | watermarks | [`watermarks`] | `min`, `low`, `high`, `promo` of zoneinfo |
//! | pages kept from requests that could go higher | [`lowmem_reserve`] | `protection` of zoneinfo |
//! | sizes of a CPU's page lists | [`pcp_batch`], [`pcp_limits`] | `batch`, `high`, `high_min`, `high_max` |
//! | drift of a CPU's counters | [`stat_threshold`] | `vm stats threshold` |
//! | pages no program may count on | [`total_reserve`], [`zone_reserve`] | inside `MemAvailable` |
//!
//! [`boot_watermarks`] goes through them in the order of a boot.
//! Not here: when a watermark is compared, boosts, the lists themselves.
//!
//! # Invariants
//! 1. Every function is pure and total: no zone size makes it panic.
//! 2. Zones come in the order of their node and then of their kind, empty ones included.
//!
//! Source: Linux 5.10–7.2 mm/page_alloc.c, mm/khugepaged.c, mm/vmstat.c.

mod boot;
mod min_free;
mod pcp;
mod reserve;
mod stats;
mod watermarks;
mod zone;

pub use boot::{BootFigures, Thp, boot_watermarks};
pub use min_free::{INITIAL_MIN_FREE_KBYTES, free_buffer_pages, min_free_kbytes, recommended_min_free_kbytes};
pub use pcp::{ZoneCpus, pcp_batch, pcp_limits};
pub use reserve::{LOWMEM_RESERVE_RATIO, LowmemRatio, lowmem_reserve, total_reserve, zone_reserve};
pub use stats::stat_threshold;
pub use watermarks::{WATERMARK_SCALE_FACTOR, lowmem_pages, watermarks};
pub use zone::ZoneFacts;
