//! `/sys/devices/system/memory`: a line `FILE:CONTENT` for each file, as `grep -r .` shows a folder of such files.
//!
//! Source: Linux 5.10–7.2 drivers/base/memory.c.

use core::fmt;

use kernmem_base::Era;
use kernmem_view::proc::{BlockState, MemoryBlock, MemoryBlocks};

/// The content of `block_size_bytes`.
///
/// # Errors
/// The writer failed.
pub fn block_size_bytes(bytes: u64, out: &mut impl fmt::Write) -> fmt::Result {
    writeln!(out, "{bytes:x}")
}

/// Every file of the folder and of its blocks.
///
/// | era | files of the folder |
/// |---|---|
/// | 4.14 (UNVERIFIED), 5.10, 6.1 | `block_size_bytes`, `auto_online_blocks` |
/// | 6.12, 7.2 | and `crash_hotplug` |
///
/// # Errors
/// The writer failed.
///
/// Source: Linux 5.10–7.2 drivers/base/memory.c `memory_memblk_attrs`, `memory_root_attrs`.
pub fn memory_blocks(era: Era, info: &MemoryBlocks, out: &mut impl fmt::Write) -> fmt::Result {
    out.write_str("block_size_bytes:")?;
    block_size_bytes(info.block_bytes, out)?;
    writeln!(out, "auto_online_blocks:{}", info.auto_online)?;
    match era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 => {}
        Era::V6_12 | Era::V7_2 => writeln!(out, "crash_hotplug:{}", u8::from(info.crash_hotplug))?,
    }
    info.blocks.iter().try_for_each(|block| print_block(block, out))
}

fn print_block(block: &MemoryBlock, out: &mut impl fmt::Write) -> fmt::Result {
    let nr = block.number;
    writeln!(out, "memory{nr}/phys_index:{nr:08x}")?;
    writeln!(out, "memory{nr}/removable:{}", u8::from(block.removable))?;
    writeln!(out, "memory{nr}/state:{}", block.state.name())?;
    writeln!(out, "memory{nr}/phys_device:{}", block.phys_device)?;
    write!(out, "memory{nr}/valid_zones:")?;
    match (block.state, block.valid_zones.as_slice()) {
        (BlockState::Online | BlockState::GoingOffline, []) => out.write_str("none")?,
        (_, zones) => {
            for (at, zone) in zones.iter().enumerate() {
                write!(out, "{}{zone}", if at == 0 { "" } else { " " })?;
            }
        }
    }
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use alloc::string::String;
    use alloc::vec;

    use kernmem_view::proc::ZoneKind;

    use super::*;

    #[test]
    fn a_block_that_lies_in_several_zones_names_none() {
        let block =
            |number, state, valid_zones| MemoryBlock { number, state, removable: true, phys_device: 0, valid_zones };
        let info = MemoryBlocks {
            block_bytes: 0x800_0000,
            auto_online: "offline",
            crash_hotplug: true,
            blocks: vec![
                block(7, BlockState::Online, vec![]),
                block(32, BlockState::Offline, vec![ZoneKind::Normal, ZoneKind::Movable]),
            ],
        };
        let mut text = String::new();
        memory_blocks(Era::V6_12, &info, &mut text).unwrap();
        assert_eq!(
            text,
            "block_size_bytes:8000000\nauto_online_blocks:offline\ncrash_hotplug:1\n\
             memory7/phys_index:00000007\nmemory7/removable:1\nmemory7/state:online\nmemory7/phys_device:0\n\
             memory7/valid_zones:none\n\
             memory32/phys_index:00000020\nmemory32/removable:1\nmemory32/state:offline\nmemory32/phys_device:0\n\
             memory32/valid_zones:Normal Movable\n"
        );
    }
}
