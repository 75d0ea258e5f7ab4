//! What the descriptors of huge pages take and give back, by size and era.
//!
//! Here: a table of ours; Linux has none. The rules are those of `kernmem_arch::hugetlb`.

use core::fmt;

use kernmem_arch::hugetlb::{HugeArch, HvoSaving, hvo_saving, hvo_saving_keeping};
use kernmem_base::{Era, Granule, Size};

use crate::json::Json;

/// Bytes of a page descriptor that the table counts with.
const PAGE_BYTES: u64 = 64;

const fn name(arch: HugeArch) -> &'static str {
    match arch {
        HugeArch::Arm64 => "arm64",
        HugeArch::X86_64 => "x86_64",
        HugeArch::I386Pae => "i386 with PAE",
        HugeArch::I386 => "i386",
    }
}

const fn granules(arch: HugeArch) -> &'static [Granule] {
    match arch {
        HugeArch::Arm64 => &[Granule::K4, Granule::K16, Granule::K64],
        HugeArch::X86_64 | HugeArch::I386Pae | HugeArch::I386 => &[Granule::K4],
    }
}

/// A table for each base page of `arch`: a row for each size of huge page, a column for each era.
///
/// # Errors
/// The writer failed.
pub fn print(arch: HugeArch, out: &mut impl fmt::Write) -> fmt::Result {
    for (at, granule) in granules(arch).iter().enumerate() {
        if at > 0 {
            writeln!(out)?;
        }
        table(arch, *granule, out)?;
    }
    Ok(())
}

fn table(arch: HugeArch, granule: Granule, out: &mut impl fmt::Write) -> fmt::Result {
    let page = Size(granule.bytes());
    writeln!(
        out,
        "{}, {page} pages, {PAGE_BYTES} bytes of descriptor each: bytes given back per huge page",
        name(arch)
    )?;
    write!(out, "{:>9} {:>12}", "huge page", "descriptors")?;
    for era in Era::ALL {
        write!(out, " {era:>8}")?;
    }
    writeln!(out, " {:>13}", "if 1 is kept")?;
    for huge in arch.sizes(granule) {
        let all = hvo_saving_keeping(1, granule, *huge, PAGE_BYTES);
        write!(out, "{:>9} {:>12}", shown(*huge), shown(all.map_bytes))?;
        for era in Era::ALL {
            write!(out, " {:>8}", freed(granule, &hvo_saving(era, arch, granule, *huge, PAGE_BYTES)))?;
        }
        writeln!(out, " {:>13}", freed(granule, &all))?;
    }
    Ok(())
}

/// A size, padded by its own width.
fn shown(bytes: u64) -> Padded {
    Padded(Size(bytes))
}

fn freed(granule: Granule, saving: &HvoSaving) -> Padded {
    shown(saving.freed_pages << granule.shift())
}

/// A size that minds the width of its column.
struct Padded(Size);

impl fmt::Display for Padded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.0 == 0 {
            return f.pad("-");
        }
        f.pad(&alloc::format!("{}", self.0))
    }
}

/// The same for programs.
///
/// # Errors
/// The writer failed.
pub fn json<W: fmt::Write>(arch: HugeArch, json: &mut Json<'_, W>) -> fmt::Result {
    json.open(Some("hugepages"), '[')?;
    for granule in granules(arch) {
        for huge in arch.sizes(*granule) {
            row(arch, *granule, *huge, json)?;
        }
    }
    json.close(']')
}

fn row<W: fmt::Write>(arch: HugeArch, granule: Granule, huge: u64, json: &mut Json<'_, W>) -> fmt::Result {
    json.open(None, '{')?;
    json.number("page_bytes", granule.bytes())?;
    json.number("huge_page_bytes", huge)?;
    json.number("descriptor_bytes", hvo_saving_keeping(1, granule, huge, PAGE_BYTES).map_bytes)?;
    json.open(Some("given_back_bytes"), '{')?;
    for era in Era::ALL {
        let saving = hvo_saving(era, arch, granule, huge, PAGE_BYTES);
        json.number(era.name(), saving.freed_pages << granule.shift())?;
    }
    json.close('}')?;
    json.close('}')
}

#[cfg(test)]
mod tests {
    use alloc::string::String;

    use super::*;

    #[test]
    fn x86_64_gives_back_from_6_1_on() {
        let mut text = String::new();
        print(HugeArch::X86_64, &mut text).unwrap();
        assert_eq!(
            text,
            "x86_64, 4K pages, 64 bytes of descriptor each: bytes given back per huge page\n\
             huge page  descriptors     4.14     5.10      6.1     6.12      7.2  if 1 is kept\n\
             \x20      1G          16M        -        -   16380K   16380K   16380K        16380K\n\
             \x20      2M          32K        -        -      28K      28K      28K           28K\n"
        );
    }

    #[test]
    fn arm64_gives_nothing_back_whatever_its_pages() {
        let mut text = String::new();
        print(HugeArch::Arm64, &mut text).unwrap();
        assert_eq!(text.lines().count(), 3 * 2 + 4 + 3 + 3 + 2);
        assert!(
            text.contains("      16G          16M        -        -        -        -        -        16320K\n"),
            "{text}"
        );
    }
}
