//! Takers of one request: resources, command lines, the list of unknown words.
//!
//! Source: Linux 6.1 arch/arm64/kernel/setup.c `request_standard_resources`; init/main.c `setup_command_line`,
//! `print_unknown_bootoptions`.

use kernmem_config::Config;
use kernmem_memblock::{Memblock, RegionArray};

use super::unknown_words::unknown_words;
use super::{Taker, allocate_lines};
use crate::{BootError, LogEntry, Witness};

/// Bytes of a resource, where the sizes do not tell.
pub(crate) const RESOURCE_BYTES: u64 = 64;

/// One resource for each memory region.
///
/// # Errors
/// The boot allocator has no memory.
pub fn standard_resources<A: RegionArray, W: Witness>(
    config: &Config,
    memblock: &mut Memblock<A, W>,
) -> Result<(), BootError> {
    let resource = config.sizes.get("sizeof_resource").unwrap_or(RESOURCE_BYTES);
    let regions = memblock.memory().len() as u64;
    allocate_lines(memblock, Taker::Resources, resource * regions).map(drop)
}

/// The command line twice: as it was told, and for the parser to cut up.
///
/// # Errors
/// The boot allocator has no memory.
pub fn command_lines<A: RegionArray, W: Witness>(
    config: &Config,
    memblock: &mut Memblock<A, W>,
) -> Result<(), BootError> {
    let bytes = config.cmdline.text().len() as u64 + 1;
    allocate_lines(memblock, Taker::CommandLine, bytes)?;
    allocate_lines(memblock, Taker::CommandLine, bytes).map(drop)
}

/// The words that nobody knows, joined for one line of the log and given back at once. Without memory the line is
/// missing.
///
/// # Errors
/// The boot allocator's list cannot be cut.
pub fn unknown_parameters<A: RegionArray, W: Witness>(
    config: &Config,
    memblock: &mut Memblock<A, W>,
) -> Result<(), BootError> {
    let words = unknown_words(config);
    if words.is_empty() {
        return Ok(());
    }
    let bytes = words.iter().map(|word| word.len() as u64 + 1).sum::<u64>() + 1;
    let Ok(start) = allocate_lines(memblock, Taker::UnknownParameters, bytes) else { return Ok(()) };
    memblock.observer().log(LogEntry::UnknownParameters(words));
    memblock.phys_free(start, bytes)?;
    Ok(())
}
