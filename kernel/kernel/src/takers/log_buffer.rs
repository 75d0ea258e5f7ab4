//! The log's buffer, if it is to be larger than the one that is part of the image.
//!
//! Source: Linux 6.1 kernel/printk/printk.c `setup_log_buf`, `log_buf_add_cpu`, `log_buf_len_update`.

use kernmem_base::Era;
use kernmem_config::Config;
use kernmem_memblock::{Memblock, RegionArray, Request};

use super::{Taker, allocate};
use crate::{BootError, LogEntry, Witness};

/// The built-in buffer's size is a power of two with this exponent, if the configuration does not tell.
const DEFAULT_SHIFT: u64 = 17;
/// What each CPU but the first may add, as an exponent.
const DEFAULT_CPU_SHIFT: u64 = 12;
/// The largest buffer that a word can ask for: 2 GiB.
const MAX_BYTES: u64 = 1 << 31;
/// One record for so many bytes of text.
const BYTES_PER_RECORD: u64 = 32;
/// Where a record's text lies, and what else is known about it.
const DESCRIPTOR_BYTES: u64 = 24;
const INFO_BYTES: u64 = 88;
const ALIGN: u64 = 8;

/// Bytes of the new buffer; `None` if the built-in one stays.
///
/// The last `log_buf_len=` above the built-in size decides; without one, and if `with_cpus`, all CPUs but the first
/// count, once together they exceed half of the built-in size.
#[must_use]
pub fn new_log_buffer(config: &Config, cpus: u32, with_cpus: bool) -> Option<u64> {
    let shift = config.kconfig.number("LOG_BUF_SHIFT").unwrap_or(DEFAULT_SHIFT);
    let built_in = 1 << shift.min(30);
    let larger = |bytes: u64| {
        let bytes = bytes.min(MAX_BYTES).checked_next_power_of_two()?;
        (bytes > built_in).then_some(bytes)
    };
    let words = config.cmdline.named("log_buf_len");
    let mut wished =
        words.filter_map(|word| larger(kernmem_config::number::memparse(word.value.as_deref()?, config.era).0));
    if let Some(bytes) = wished.next_back() {
        return Some(bytes);
    }
    let cpu_shift = config.kconfig.number("LOG_CPU_MAX_BUF_SHIFT").unwrap_or(DEFAULT_CPU_SHIFT);
    let extra = u64::from(cpus.saturating_sub(1)) << cpu_shift.min(30);
    if !with_cpus || !config.kconfig.is_set("SMP") || extra <= built_in / 2 {
        return None;
    }
    larger(extra + built_in)
}

/// Takes the new buffer, if there is to be one: text, then descriptors, then infos.
///
/// | era | descriptors |
/// |---|---|
/// | 4.14 | none: text and records are one |
/// | 5.10 and later | two arrays |
///
/// # Errors
/// The boot allocator's lists cannot grow. Without memory the built-in buffer stays, and what was taken is given back.
pub fn setup<A: RegionArray, W: Witness>(
    config: &Config,
    memblock: &mut Memblock<A, W>,
    cpus: u32,
    with_cpus: bool,
) -> Result<bool, BootError> {
    let Some(text) = new_log_buffer(config, cpus, with_cpus) else { return Ok(false) };
    let records = text / BYTES_PER_RECORD;
    let parts: &[u64] = match config.era {
        Era::V4_14 => &[text],
        Era::V5_10 | Era::V6_1 | Era::V6_12 | Era::V7_2 => &[text, records * DESCRIPTOR_BYTES, records * INFO_BYTES],
    };
    let mut taken = alloc::vec::Vec::with_capacity(parts.len());
    for bytes in parts {
        match allocate(memblock, Taker::LogBuffer, Request::new(*bytes, ALIGN)) {
            Ok(start) => taken.push((start, *bytes)),
            Err(_) => {
                for (start, bytes) in taken.into_iter().rev() {
                    memblock.phys_free(start, bytes)?;
                }
                return Ok(false);
            }
        }
    }
    memblock.observer().log(LogEntry::LogBuffer { bytes: text });
    Ok(true)
}
