//! `/proc/vmallocinfo`.
//!
//! Source: Linux 5.10–7.2 mm/vmalloc.c `s_show`, `show_numa_info`, `show_purge_info`.

use core::fmt;

use kernmem_view::proc::{Shown, VmallocInfo, VmallocUse};

/// `/proc/vmallocinfo`, the same in all eras but for the words that an era has.
///
/// # Errors
/// The writer failed.
pub fn vmallocinfo(info: &VmallocInfo, out: &mut impl fmt::Write) -> fmt::Result {
    for line in &info.lines {
        print_address(line.start, info.virt_digits, out)?;
        out.write_char('-')?;
        print_address(line.end, info.virt_digits, out)?;
        write!(out, " {:7}", line.bytes)?;
        print_use(&line.usage, info.phys_digits, out)?;
        writeln!(out)?;
    }
    Ok(())
}

fn print_address(address: Shown, digits: u8, out: &mut impl fmt::Write) -> fmt::Result {
    match address {
        Shown::Address(va) => write!(out, "0x{va:00$x}", usize::from(digits)),
        Shown::Hidden if digits < 16 => out.write_str("0x(ptrval)"),
        Shown::Hidden => out.write_str("0x(____ptrval____)"),
    }
}

fn print_use(usage: &VmallocUse, digits: u8, out: &mut impl fmt::Write) -> fmt::Result {
    let (caller, pages, phys, words, nodes) = match usage {
        VmallocUse::MapRam => return out.write_str(" vm_map_ram"),
        VmallocUse::Unpurged => return out.write_str(" unpurged vm_area"),
        VmallocUse::Area { caller, pages, phys, words, nodes } => (caller, *pages, *phys, words, nodes),
    };
    if let Some(caller) = caller {
        write!(out, " {caller}")?;
    }
    if pages != 0 {
        write!(out, " pages={pages}")?;
    }
    if phys.0 != 0 {
        write!(out, " phys=0x{phys:00$x}", usize::from(digits))?;
    }
    for (name, _) in words.named().iter().filter(|(_, is_set)| *is_set) {
        write!(out, " {name}")?;
    }
    nodes.iter().try_for_each(|(node, count)| write!(out, " N{node}={count}"))
}
