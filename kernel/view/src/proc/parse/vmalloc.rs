//! Reads `/proc/vmallocinfo`.
//!
//! Source: Linux 5.10–7.2 mm/vmalloc.c `s_show`, `show_purge_info`.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

use kernmem_base::{PhysAddr, VirtAddr};

use super::super::{Shown, VmWords, VmallocInfo, VmallocLine, VmallocUse};
use super::{Line, Lines, ParseError};

/// Reads `/proc/vmallocinfo`; a text without an address tells 64 bits.
///
/// # Errors
/// The first line that is no range of addresses with its words.
pub fn vmallocinfo(text: &str) -> Result<VmallocInfo, ParseError> {
    let mut info = VmallocInfo { virt_digits: 16, phys_digits: 16, lines: Vec::new() };
    for line in Lines::new(text) {
        let read = read(&line, &mut info)?;
        info.lines.push(read);
    }
    Ok(info)
}

fn read(line: &Line<'_>, info: &mut VmallocInfo) -> Result<VmallocLine, ParseError> {
    let (range, rest) = line.text.split_once(' ').ok_or_else(|| line.wrong("`START-END SIZE`"))?;
    let (start, end) = range.split_once('-').ok_or_else(|| line.wrong("`START-END`"))?;
    let rest = rest.trim_start();
    let (bytes, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    Ok(VmallocLine {
        start: shown(line, start, info)?,
        end: shown(line, end, info)?,
        bytes: line.number(bytes)?,
        usage: match rest {
            "vm_map_ram" => VmallocUse::MapRam,
            "unpurged vm_area" => VmallocUse::Unpurged,
            words => area(line, words, info)?,
        },
    })
}

fn shown(line: &Line<'_>, word: &str, info: &mut VmallocInfo) -> Result<Shown, ParseError> {
    let digits = word.strip_prefix("0x").ok_or_else(|| line.wrong("an address with 0x"))?;
    match digits {
        "(____ptrval____)" => info.virt_digits = 16,
        "(ptrval)" => info.virt_digits = 8,
        digits => {
            info.virt_digits = width(digits);
            return u64::from_str_radix(digits, 16)
                .map(|address| Shown::Address(VirtAddr(address)))
                .map_err(|_| line.wrong("an address in hexadecimal"));
        }
    }
    Ok(Shown::Hidden)
}

fn width(digits: &str) -> u8 {
    if digits.len() == 8 { 8 } else { 16 }
}

fn area(line: &Line<'_>, text: &str, info: &mut VmallocInfo) -> Result<VmallocUse, ParseError> {
    let (mut pages, mut phys) = (0, PhysAddr(0));
    let mut words = VmWords::default();
    let mut nodes = Vec::new();
    let mut caller: Option<String> = None;
    for (at, word) in text.split(' ').filter(|word| !word.is_empty()).enumerate() {
        if let Some(count) = word.strip_prefix("pages=") {
            pages = line.number(count)?;
        } else if let Some(address) = word.strip_prefix("phys=0x") {
            info.phys_digits = width(address);
            let address = u64::from_str_radix(address, 16).map_err(|_| line.wrong("a physical address"))?;
            phys = PhysAddr(address);
        } else if let Some((node, count)) = node(word) {
            nodes.push((node, count));
        } else if words.set(word) {
            // The word is set.
        } else if at == 0 {
            caller = Some(word.to_owned());
        } else if let Some(caller) = caller.as_mut().filter(|_| at == 1 && word.starts_with('[')) {
            caller.push(' ');
            caller.push_str(word);
        } else {
            return Err(line.wrong("a word of an area"));
        }
    }
    Ok(VmallocUse::Area { caller, pages, phys, words, nodes })
}

/// `N0=4`: pages on a node.
fn node(word: &str) -> Option<(u32, u64)> {
    let (node, count) = word.strip_prefix('N')?.split_once('=')?;
    Some((node.parse().ok()?, count.parse().ok()?))
}
