//! Protections of arm64 against the constants that a compiler took out of the kernels' headers.

use kernmem_arch::arm64::prot::{self, Prot, ProtFacts};
use kernmem_arch::arm64::{Arm64Attrs, Arm64Granule4K, MemoryType, Output, address, bit, soft, ttbr};
use kernmem_arch::{EntryFormat, UserFormat, UserRights};
use kernmem_base::{Era, Granule, Level};

const ROWS: &str = include_str!("../../../testing/golden/arm64_prot.csv");

/// The conditions of one row.
struct Row<'a> {
    facts: ProtFacts,
    granule: Granule,
    /// Bits of a physical address that the kernel is built for.
    pa_bits: u32,
    name: &'a str,
    value: u64,
}

impl<'a> Row<'a> {
    /// Only kernels of 52 bits have the upper part of an address; they are 64K ones unless LPA2 is active.
    fn parse(line: &'a str) -> Self {
        let (cells, note) = line.rsplit_once(',').expect("a note");
        let cells: Vec<&str> = cells.splitn(4, ',').collect();
        let [era, page, name, value] = cells[..] else { panic!("five cells: {line}") };
        let granule = match page {
            "4K" => Granule::K4,
            "16K" => Granule::K16,
            "64K" => Granule::K64,
            other => panic!("page size {other}"),
        };
        let (condition, build) = note.split_once("; ").unwrap_or((note, ""));
        let (not_global, guarded) = match condition {
            "nG off" | "fall-back: no LPA2/LVA" => (false, false),
            "nG on" => (true, false),
            "kernel BTI" => (false, true),
            other => panic!("condition {other}"),
        };
        // Rows about the upper part of an address exist only where the kernel has one.
        let of_52 = ["PTE_ADDR_HIGH", "PTE_ADDR_HIGH_SHIFT", "TTBR_BADDR_MASK_52"].contains(&name);
        let pa_bits = match build {
            "LPA2 active" | "VA 52 config" => 52,
            "" if of_52 => 52,
            "" | "VA 36 config" | "VA 39 config" | "VA 42 config" => 48,
            other => panic!("build {other}"),
        };
        let output = Output::of(granule, pa_bits);
        let facts = ProtFacts { era: era.parse().expect("an era"), output, not_global, guarded };
        let value = u64::from_str_radix(value.trim_start_matches("0x"), 16).expect("a number");
        Self { facts, granule, pa_bits, name, value }
    }
}

fn prot_of(name: &str) -> Option<Prot> {
    Some(match name.strip_prefix('_').unwrap_or(name) {
        "PROT_DEFAULT" | "PAGE_DEFAULT" => Prot::Default,
        "PROT_SECT_DEFAULT" => Prot::SectDefault,
        "PROT_DEVICE_nGnRnE" => Prot::DeviceNGnRnE,
        "PROT_DEVICE_nGnRE" | "FIXMAP_PAGE_IO" => Prot::DeviceNGnRE,
        "PROT_NORMAL_NC" => Prot::NormalNc,
        "PROT_NORMAL_WT" => Prot::NormalWt,
        "PROT_NORMAL" => Prot::Normal,
        "PROT_NORMAL_TAGGED" => Prot::NormalTagged,
        "PROT_SECT_DEVICE_nGnRE" => Prot::SectDeviceNGnRE,
        "PROT_SECT_NORMAL" => Prot::SectNormal,
        "PROT_SECT_NORMAL_EXEC" => Prot::SectNormalExec,
        "PAGE_KERNEL" | "FIXMAP_PAGE_NORMAL" => Prot::Kernel,
        "PAGE_KERNEL_RO" | "FIXMAP_PAGE_RO" => Prot::KernelRo,
        "PAGE_KERNEL_ROX" => Prot::KernelRox,
        "PAGE_KERNEL_EXEC" => Prot::KernelExec,
        "PAGE_KERNEL_EXEC_CONT" => Prot::KernelExecCont,
        "PAGE_NONE" => Prot::UserNone,
        "PAGE_SHARED" => Prot::UserShared,
        "PAGE_SHARED_EXEC" => Prot::UserSharedExec,
        "PAGE_READONLY" => Prot::UserReadonly,
        "PAGE_READONLY_EXEC" => Prot::UserReadonlyExec,
        "PAGE_EXECONLY" => Prot::UserExecOnly,
        "PAGE_GCS" => Prot::UserGcs,
        "PAGE_GCS_RO" => Prot::UserGcsRo,
        _ => return None,
    })
}

fn protection(row: &Row<'_>) -> Option<u64> {
    let plain = ProtFacts::plain(row.facts.era);
    // The underlined basis is the one without conditions; those of kernel pages have them all the same.
    let facts = match row.name {
        "_PROT_DEFAULT" | "_PROT_SECT_DEFAULT" | "_PAGE_DEFAULT" => &plain,
        _ => &row.facts,
    };
    prot_of(row.name)?.raw(facts).map(|attrs| attrs.0)
}

/// A protection inside parentheses: `mk_pmd_sect_prot(PAGE_KERNEL_RO)`.
fn conversion(row: &Row<'_>) -> Option<u64> {
    let (function, argument) = row.name.strip_suffix(')')?.split_once('(')?;
    let era = row.facts.era;
    let page = prot_of(argument)?.raw(&row.facts)?;
    let block = |level, contiguous| Some(Arm64Granule4K::leaf_attrs(page, level, contiguous));
    let attrs = match function {
        "pgprot_tagged" | "pgprot_mhp" => Some(prot::tagged(page)),
        "pgprot_noncached" => prot::as_memory(page, era, MemoryType::DeviceNGnRnE),
        "pgprot_device" => prot::as_memory(page, era, MemoryType::DeviceNGnRE),
        "pgprot_writecombine" | "pgprot_dmacoherent" => prot::as_memory(page, era, MemoryType::NormalNc),
        "pgprot_nx" => Some(prot::no_exec(page)),
        "mk_pmd_sect_prot" => block(Level::Pmd, false),
        "mk_pud_sect_prot" => block(Level::Pud, false),
        "pte_mkcont" => block(Level::Pte, true),
        "pte_mkspecial" => Some(Arm64Granule4K::make_special(page)),
        _ => None,
    };
    attrs.map(|attrs| attrs.0)
}

fn guarded(row: &Row<'_>) -> Option<u64> {
    let page = row.name.strip_suffix("|PTE_MAYBE_GP")?;
    Some(prot_of(page)?.raw(&row.facts)?.0 | row.facts.maybe_guarded())
}

/// Bits by themselves. A level's name in front of the field's says no more than that the level has it.
fn flag(row: &Row<'_>) -> Option<u64> {
    let era = row.facts.era;
    let (level, field) = row.name.split_once('_')?;
    if !["PTE", "PMD", "PUD", "P4D", "PGD", "S1"].contains(&level) {
        return None;
    }
    Some(match field {
        "VALID" | "SECT_VALID" | "TYPE_SECT" => bit::VALID,
        "TYPE_MASK" | "TYPE_PAGE" | "TYPE_TABLE" => bit::VALID | bit::TABLE,
        "TABLE_BIT" => bit::TABLE,
        "USER" | "SECT_USER" => bit::USER,
        "RDONLY" | "SECT_RDONLY" => bit::RDONLY,
        "SHARED" | "SECT_S" => bit::SHARED,
        "AF" | "SECT_AF" => bit::AF,
        "NG" | "SECT_NG" => bit::NG,
        "GP" => bit::GP,
        "DBM" | "WRITE" => bit::DBM,
        "CONT" | "SECT_CONT" => bit::CONT,
        "PXN" | "SECT_PXN" => bit::PXN,
        "UXN" | "SECT_UXN" => bit::UXN,
        "DIRTY" => bit::DIRTY,
        "SPECIAL" => bit::SPECIAL,
        "ATTRINDX_MASK" => bit::ATTR_INDEX,
        "TABLE_PXN" => bit::PXN_TABLE,
        "TABLE_UXN" => bit::UXN_TABLE,
        "TABLE_AP" => bit::USER_TABLE | bit::RDONLY_TABLE,
        "TABLE_AF" => prot::table(era, false).0 & bit::AF,
        "DEVMAP" => soft::devmap(era),
        "PROT_NONE" => soft::prot_none(era),
        "PRESENT_INVALID" => soft::present_invalid(era),
        "PRESENT_VALID_KERNEL" => soft::present_valid_kernel(era, row.facts.not_global),
        "SWBITS_MASK" => soft::changeable(era),
        "SWP_EXCLUSIVE" => soft::swap_exclusive(era),
        "ADDR_LOW" => address::low_mask(era, row.granule),
        "ADDR_HIGH" => row.facts.output.high_mask(),
        "ADDR_HIGH_SHIFT" => row.facts.output.high_shift().into(),
        "ADDR_MASK" => address::conversion_mask(era, row.granule, Output::of(row.granule, row.pa_bits)),
        _ => return None,
    })
}

fn other(row: &Row<'_>) -> Option<u64> {
    let era = row.facts.era;
    let boot = |writable| {
        let level = if row.granule == Granule::K4 { Level::Pmd } else { Level::Pte };
        Arm64Granule4K::leaf_attrs(prot::boot_map(writable), level, false).0
    };
    Some(match row.name {
        "TTBR_ASID_MASK" => ttbr::ASID_MASK,
        "TTBR_CNP_BIT" => ttbr::CNP,
        "TTBR_BADDR_MASK_52" => address::TTBR_ROOT_OF_52,
        "FIXMAP_PAGE_CLEAR" => 0,
        "SWAPPER_PTE_FLAGS" => prot::boot_map(true).0,
        "SWAPPER_PMD_FLAGS" => Arm64Granule4K::leaf_attrs(prot::boot_map(true), Level::Pmd, false).0,
        "SWAPPER_MM_MMUFLAGS" | "SWAPPER_RW_MMUFLAGS" => boot(true),
        "SWAPPER_RX_MMUFLAGS" => boot(false),
        name => {
            let kind = name.strip_prefix("MT_")?;
            MemoryType::ALL.into_iter().find(|one| one.name() == kind)?.index(era)?
        }
    })
}

/// Bits that these builds leave out: the file has 0 for them, the facts their place when they are built.
fn unbuilt(row: &Row<'_>) -> Option<(u64, u64)> {
    match row.name {
        "PTE_UFFD_WP" => Some((soft::uffd_wp(row.facts.era), 1 << 58)),
        "PTE_SWP_UFFD_WP" => Some((soft::swap_uffd_wp(row.facts.era), 1 << 3)),
        _ => None,
    }
}

#[test]
fn every_protection_row_of_the_headers_follows_from_the_rules() {
    let (mut compared, mut places) = (0, 0);
    for line in ROWS.lines().skip(1) {
        let row = Row::parse(line);
        if let Some((ours, place)) = unbuilt(&row) {
            assert_eq!((row.value, ours), (0, place), "{line}");
            places += 1;
            continue;
        }
        let parts = [protection, conversion, guarded, flag, other];
        let ours = parts.into_iter().find_map(|part| part(&row)).unwrap_or_else(|| panic!("{line}: no rule"));
        assert_eq!(format!("{ours:#018x}"), format!("{:#018x}", row.value), "{line}");
        compared += 1;
    }
    println!("arm64_prot.csv: {compared} rows compared, {places} places of bits that the builds leave out");
    assert_eq!((compared, places), (2606, 20));
}

/// Facts: the column of 4.14 in the table of kernel protections; unverified against vanilla.
#[test]
fn protections_before_5_10_have_the_values_of_the_sheet() {
    let raw = |prot: Prot| prot.raw(&ProtFacts::plain(Era::V4_14)).map(|attrs| attrs.0);
    for (prot, value) in [
        (Prot::Kernel, 0x0068_0000_0000_0713),
        (Prot::KernelRo, 0x0060_0000_0000_0793),
        (Prot::KernelRox, 0x0040_0000_0000_0793),
        (Prot::KernelExec, 0x0048_0000_0000_0713),
        (Prot::KernelExecCont, 0x0058_0000_0000_0713),
        (Prot::Normal, 0x0068_0000_0000_0713),
        (Prot::NormalNc, 0x0068_0000_0000_070f),
        (Prot::DeviceNGnRE, 0x0068_0000_0000_0707),
        (Prot::DeviceNGnRnE, 0x0068_0000_0000_0703),
        (Prot::SectNormal, 0x0060_0000_0000_0711),
        (Prot::SectNormalExec, 0x0040_0000_0000_0711),
    ] {
        assert_eq!(raw(prot), Some(value), "{prot:?}");
    }
    assert_eq!((raw(Prot::NormalTagged), raw(Prot::UserExecOnly), raw(Prot::UserGcs)), (None, None, None));
}

#[test]
fn regions_of_user_mode_get_the_protection_of_the_same_name() {
    for era in [Era::V5_10, Era::V6_1, Era::V6_12, Era::V7_2] {
        let facts = ProtFacts::plain(era);
        for (prot, rights, shared) in [
            (Prot::UserNone, UserRights::NONE, false),
            (Prot::UserShared, UserRights::READ_WRITE, true),
            (Prot::UserReadonly, UserRights::READ, false),
            (Prot::UserReadonlyExec, UserRights::READ_EXECUTE, false),
        ] {
            assert_eq!(prot.raw(&facts), Some(Arm64Granule4K::protection(era, rights, shared)), "{era} {prot:?}");
        }
    }
}

#[test]
fn with_lpa2_no_page_of_user_mode_uses_the_bits_of_the_address() {
    let facts = ProtFacts { output: Output::Lpa2, ..ProtFacts::plain(Era::V6_12) };
    let shared = Prot::UserShared.raw(&facts).expect("a protection of every era");
    assert_eq!((shared.0, facts.in_this_form(shared)), (0x0068_0000_0000_0fc3, Arm64Attrs(0x0068_0000_0000_0cc3)));
}
