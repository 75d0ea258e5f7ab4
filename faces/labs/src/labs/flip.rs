//! Document 001: the halves of arm64's kernel address space before and after they were flipped, and the table of
//! the document row by row.

use kernmem_arch::arm64::{FixmapFacts, Kasan, Layout, LayoutFacts};
use kernmem_base::{Era, Granule, VirtAddr, VirtRange};
use kernmem_view::RootKind;
use kernmem_view::census::census;

use crate::bench::{Bench, Booted, Own};
use crate::notebook::Notebook;
use crate::texts::Text;
use crate::{ClaimId, Holds, Lab, LabError, LabOptions, Value};

const FLIPPED: ClaimId = ClaimId::new(1, 1);
const TABLE: ClaimId = ClaimId::new(1, 2);
const VMALLOC: ClaimId = ClaimId::new(1, 3);

pub(crate) const LAB: Lab =
    Lab { name: "flip", title: Text::FlipTitle, reverse: Text::FlipReverse, claims: &[FLIPPED, TABLE, VMALLOC], run };

/// A row of the document's table: name, first and last byte.
type Row = (&'static str, u64, u64);

/// The document's table: arm64, 4K pages, 48 bits, "5.15".
const DOCUMENT: [Row; 13] = [
    ("user", 0x0000_0000_0000_0000, 0x0000_ffff_ffff_ffff),
    ("linear", 0xffff_0000_0000_0000, 0xffff_7fff_ffff_ffff),
    ("kasan", 0xffff_8000_0000_0000, 0xffff_9fff_ffff_ffff),
    ("bpf", 0xffff_a000_0000_0000, 0xffff_a000_07ff_ffff),
    ("modules", 0xffff_a000_0800_0000, 0xffff_a000_0fff_ffff),
    ("vmalloc", 0xffff_a000_1000_0000, 0xffff_fdff_bffe_ffff),
    ("guard_1", 0xffff_fdff_bfff_0000, 0xffff_fdff_fe5f_8fff),
    ("fixmap", 0xffff_fdff_fe5f_9000, 0xffff_fdff_fe9f_ffff),
    ("guard_2", 0xffff_fdff_fea0_0000, 0xffff_fdff_febf_ffff),
    ("pci_io", 0xffff_fdff_fec0_0000, 0xffff_fdff_ffbf_ffff),
    ("guard_3", 0xffff_fdff_ffc0_0000, 0xffff_fdff_ffdf_ffff),
    ("vmemmap", 0xffff_fdff_ffe0_0000, 0xffff_ffff_ffdf_ffff),
    ("guard_4", 0xffff_ffff_ffe0_0000, 0xffff_ffff_ffff_ffff),
];
/// What the document prints as the start of vmalloc on its own kernel, and what it quotes from elsewhere.
const OWN_VMALLOC: u64 = 0xffff_8000_1000_0000;
const QUOTED_VMALLOC: u64 = 0xffff_a000_0000_0000;

fn run(options: &LabOptions, book: &mut Notebook<'_>) -> Result<(), LabError> {
    let bench = Bench::open(options, Own::Preset("arm64-4g"))?.of_arm64(LAB.name)?;
    let kconfig = &bench.source.config.kconfig;
    let build = Build { granule: kconfig.arm64_granule(), va_bits: kconfig.arm64_va_bits().unwrap_or(48) };
    flipped(&bench, build, book)?;
    table(build, options.reverse, book)?;
    vmalloc(build, book)
}

/// What a kernel is built for.
#[derive(Clone, Copy)]
struct Build {
    granule: Granule,
    va_bits: u32,
}

impl Build {
    /// The layout with the fixmap of a kernel that can hide its text from user mode.
    const fn layout(self, era: Era, kasan: Kasan) -> Layout {
        let fixmap = FixmapFacts {
            era,
            granule: self.granule,
            relocatable: true,
            unmap_at_el0: true,
            ghes: false,
            sdei: false,
            vncr_slots: 0,
        };
        Layout::new(&LayoutFacts {
            era,
            granule: self.granule,
            va_bits: self.va_bits,
            va_bits_actual: self.va_bits,
            kasan,
            fixmap,
        })
    }

    /// The first address of the upper half of the kernel's addresses.
    const fn middle(self) -> u64 {
        !0 << (self.va_bits - 1)
    }
}

fn flipped(bench: &Bench, build: Build, book: &mut Notebook<'_>) -> Result<(), LabError> {
    book.claim(FLIPPED, Text::FlippedClaim)?;
    for era in Era::ALL {
        let layout = build.layout(era, Kasan::Off);
        let (start, last) = (layout.page_offset.0, layout.page_end.0.wrapping_sub(1));
        book.say(
            Text::LinearLies,
            &[
                ("era", Value::Name(era.name().to_owned())),
                ("linear_start", Value::Address(start)),
                ("linear_last", Value::Address(last)),
                ("image", Value::Address(layout.kimage.0)),
            ],
        )?;
        if era == bench.era() {
            match bench.boot(|booted| halves(booted, build)) {
                Ok((lower, upper)) => book.say(
                    Text::MappedInHalves,
                    &[("mapped_lower", Value::Bytes(lower)), ("mapped_upper", Value::Bytes(upper))],
                )?,
                Err(error) if error.is_beyond() => book.show(Text::NotBooted, &[])?,
                Err(error) => return Err(error),
            }
        }
        let is_lower = last < build.middle();
        let expected_lower = !matches!(era, Era::V4_14);
        book.conclude(era, if is_lower == expected_lower { Holds::Yes } else { Holds::No(Text::OtherHalf) })?;
    }
    Ok(())
}

/// Bytes that are mapped in the lower and in the upper half of the kernel's addresses.
fn halves(booted: &Booted<'_>, build: Build) -> Result<(u64, u64), LabError> {
    let middle = build.middle();
    let lower = VirtRange { start: VirtAddr(!0 << build.va_bits), last: VirtAddr(middle - 1) };
    let upper = VirtRange { start: VirtAddr(middle), last: VirtAddr(u64::MAX) };
    let mapped = |range| {
        let census = census(&booted.kernel, RootKind::Kernel, &[range]);
        census.map(|census| census.mapped_bytes()).map_err(LabError::Missing)
    };
    Ok((mapped(lower)?, mapped(upper)?))
}

/// The rows of the document as a kernel has them; a region that does not exist has none.
fn rows(layout: &Layout, va_bits: u32) -> Vec<Row> {
    let mut regions: Vec<Row> = Vec::new();
    let mut region = |name, start: VirtAddr, end: VirtAddr| regions.push((name, start.0, end.0.wrapping_sub(1)));
    region("user", VirtAddr(0), VirtAddr(1 << va_bits));
    region("linear", layout.page_offset, layout.page_end);
    if let Some((start, end)) = layout.kasan {
        region("kasan", start, end);
    }
    if let Some((start, end)) = layout.bpf {
        region("bpf", start, end);
    }
    region("modules", layout.modules_start, layout.modules_end);
    region("vmalloc", layout.kimage, layout.vmalloc_end);
    region("fixmap", layout.fixaddr_start, layout.fixaddr_top);
    region("pci_io", layout.pci_io_start, layout.pci_io_end);
    region("vmemmap", layout.vmemmap_start, layout.vmemmap_end);
    let mut all = regions.clone();
    for (guard, before) in
        [("guard_1", "vmalloc"), ("guard_2", "fixmap"), ("guard_3", "pci_io"), ("guard_4", "vmemmap")]
    {
        let Some((_, _, last)) = regions.iter().find(|(name, ..)| *name == before) else { continue };
        let Some(start) = last.checked_add(1) else { continue };
        let next = regions.iter().map(|(_, start, _)| *start).filter(|next| *next >= start).min();
        let end = next.map_or(u64::MAX, |next| next.wrapping_sub(1));
        if start <= end {
            all.push((guard, start, end));
        }
    }
    all
}

fn table(build: Build, without_kasan: bool, book: &mut Notebook<'_>) -> Result<(), LabError> {
    book.claim(TABLE, Text::TableClaim)?;
    let kasan = if without_kasan { Kasan::Off } else { Kasan::Generic };
    for era in Era::ALL {
        let ours = rows(&build.layout(era, kasan), build.va_bits);
        let row_of = |name: &str| ours.iter().find(|(own, ..)| *own == name).copied();
        let equal = |row: &&Row| row_of(row.0) == Some(**row);
        if era == Era::V5_10 {
            book.show(Text::TableHead, &[])?;
            for row in &DOCUMENT {
                show_row(row, row_of(row.0), book)?;
            }
        }
        let same = DOCUMENT.iter().filter(equal).count();
        for row in DOCUMENT.iter().filter(|row| !equal(row)) {
            if let Some((_, start, _)) = row_of(row.0) {
                book.keep((row.0, Value::Address(start)));
            }
        }
        book.say(
            Text::RowsEqual,
            &[
                ("era", Value::Name(era.name().to_owned())),
                ("rows_equal", Value::Count(same as u64)),
                ("rows", Value::Count(DOCUMENT.len() as u64)),
            ],
        )?;
        let holds = match (same == DOCUMENT.len(), era) {
            (true, _) => Holds::OnlyIf(Text::WithKasan),
            (false, Era::V5_10) => Holds::No(Text::OtherBuild),
            (false, _) => Holds::No(Text::OtherLayout),
        };
        book.conclude(era, holds)?;
    }
    Ok(())
}

fn show_row(row: &Row, ours: Option<Row>, book: &mut Notebook<'_>) -> Result<(), LabError> {
    let value = |address: Option<u64>| address.map_or(Value::Name("-".repeat(16)), Value::Address);
    book.show(
        if ours == Some(*row) { Text::RowEqual } else { Text::RowDiffers },
        &[
            ("name", Value::Name(format!("{:8}", row.0))),
            ("start", Value::Address(row.1)),
            ("last", Value::Address(row.2)),
            ("our_start", value(ours.map(|row| row.1))),
            ("our_last", value(ours.map(|row| row.2))),
        ],
    )
}

fn vmalloc(build: Build, book: &mut Notebook<'_>) -> Result<(), LabError> {
    book.claim(VMALLOC, Text::VmallocClaim)?;
    for era in Era::ALL {
        let (off, on) = (build.layout(era, Kasan::Off), build.layout(era, Kasan::Generic));
        let behind_shadow = on.kasan.map_or(0, |(_, end)| end.0);
        book.say(
            Text::VmallocStarts,
            &[
                ("era", Value::Name(era.name().to_owned())),
                ("vmalloc_off", Value::Address(off.kimage.0)),
                ("vmalloc_on", Value::Address(on.kimage.0)),
                ("behind_shadow", Value::Address(behind_shadow)),
            ],
        )?;
        let holds = match (off.kimage.0 == OWN_VMALLOC, behind_shadow == QUOTED_VMALLOC) {
            (true, true) => Holds::OnlyIf(Text::BothAreRight),
            _ => Holds::No(Text::OtherLayout),
        };
        book.conclude(era, holds)?;
    }
    Ok(())
}
