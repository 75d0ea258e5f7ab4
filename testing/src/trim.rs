//! A dump with nothing but page tables in it: what the raw check reads, small enough for the tree.
//!
//! Kept are the notes, the segments as the writer had them, and every page that is a table of one of the kernel's roots
//! or of a root that a CPU had loaded. All other memory is left out as makedumpfile does it: a segment without bytes in the
//! file, so that a reader says "excluded" and never zeros.
//!
//! ```text
//! file header | one program header for each run | notes | kept pages
//! ```

use core::ops::Range;
use std::collections::BTreeSet;
use std::path::Path;

use kernmem::Boot;
use kernmem_arch::{Entry, EntryFormat, Format, UserFormat, WithFormat};
use kernmem_base::{BusError, PhysAddr, PhysRead, Slot};
use kernmem_dump::{ElfDump, Machine};
use kernmem_sim::Memory;
use kernmem_source::{Options, Source};
use kernmem_view::KernelView;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use crate::roots::{loaded_roots, roots, without_mark};

const HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;
const LOAD: u32 = 1;
const NOTE: u32 = 4;

/// Pages that a trim keeps or leaves are this large; larger pages are several.
const PAGE: u64 = 4096;

/// Writes a trimmed copy of the dump of the recording `from`, packed, into the folder `to`; answers how many pages are
/// kept.
///
/// # Panics
/// The recording cannot be read or does not boot, or the copy cannot be written.
#[must_use]
pub fn trim(from: &Path, to: &Path) -> usize {
    let source = Source::open_with(from.to_str().expect("a path in UTF-8"), &Options::default()).expect("a recording");
    let boot = Boot::new(&source.machine, &source.config);
    let memory = Memory::new(kernmem::memory_ranges(&boot)).expect("memory of the simulated machine");
    let kernel = kernmem_live::boot(&memory, &boot, ()).expect("a machine that boots");
    let dump = ElfDump::open(&from.join("vmcore.elf.zst")).expect("a dump");
    let known = roots(&kernel, &source).into_iter().map(|(_, _, root)| root);
    let pages = tables(&dump, kernel.format(), known.chain(loaded_roots(&dump)));
    let trimmed = file(&dump, &pages);
    let packed = compress_to_vec(trimmed.as_slice(), CompressionLevel::Fastest);
    std::fs::write(to.join("vmcore.elf.zst"), packed).expect("a file that can be written");
    pages.len()
}

/// The pages that hold a table of one of `roots`.
fn tables(dump: &ElfDump, format: Format, roots: impl IntoIterator<Item = PhysAddr>) -> BTreeSet<u64> {
    let mut found = Tables { dump, pages: BTreeSet::new(), seen: BTreeSet::new() };
    for root in roots {
        format.with(OneRoot { found: &mut found, root }).expect("a root in memory");
    }
    found.pages
}

struct Tables<'d> {
    dump: &'d ElfDump,
    pages: BTreeSet<u64>,
    seen: BTreeSet<(u64, usize)>,
}

struct OneRoot<'a, 'd> {
    found: &'a mut Tables<'d>,
    root: PhysAddr,
}

impl WithFormat for OneRoot<'_, '_> {
    type Output = Result<(), BusError>;

    fn run<F: UserFormat>(self) -> Self::Output {
        self.found.add::<F>(self.root, 0)
    }
}

impl Tables<'_> {
    /// Adds a table `depth` levels below the root, and those below it that are in memory.
    fn add<F: EntryFormat>(&mut self, table: PhysAddr, depth: usize) -> Result<(), BusError> {
        let shape = F::shape().levels[depth];
        let slots = self.dump.table::<F::Slot>(table, shape.entries())?;
        if !self.seen.insert((table.0, depth)) {
            return Ok(());
        }
        let last = table.0 + shape.entries() as u64 * F::Slot::BYTES - 1;
        self.pages.extend((table.0 / PAGE..=last / PAGE).map(|page| page * PAGE));
        for slot in &slots {
            if let Entry::Table { next, .. } = F::decode(without_mark::<F>(slot.load(), shape.level), shape.level) {
                let _ = self.add::<F>(next, depth + 1); // a table outside memory is no page of the dump
            }
        }
        Ok(())
    }
}

/// A run of addresses of one segment, kept or left out.
struct Run {
    range: Range<u64>,
    is_kept: bool,
}

/// The runs of all segments.
fn runs(dump: &ElfDump, pages: &BTreeSet<u64>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for segment in dump.segments() {
        let mut at = segment.pa;
        let end = segment.pa + segment.memory_bytes;
        while at < end {
            let is_kept = pages.contains(&(at / PAGE * PAGE));
            let next = ((at / PAGE + 1) * PAGE).min(end);
            match runs.last_mut() {
                Some(run) if run.is_kept == is_kept && run.range.end == at && at != segment.pa => run.range.end = next,
                _ => runs.push(Run { range: at..next, is_kept }),
            }
            at = next;
        }
    }
    runs
}

/// The trimmed ELF file.
fn file(dump: &ElfDump, pages: &BTreeSet<u64>) -> Vec<u8> {
    let notes: Vec<u8> = dump.notes().flat_map(|note| record(note.name, note.kind, note.contents)).collect();
    let runs = runs(dump, pages);
    let count = runs.len() + 1;
    let mut offset = (HEADER + count * PROGRAM_HEADER) as u64;
    let mut out = header(machine_number(dump), count);
    out.extend(program_header(NOTE, offset, 0, notes.len() as u64, notes.len() as u64));
    offset += notes.len() as u64;
    for Run { range, is_kept } in &runs {
        let bytes = range.end - range.start;
        let in_file = if *is_kept { bytes } else { 0 };
        out.extend(program_header(LOAD, offset, range.start, in_file, bytes));
        offset += in_file;
    }
    out.extend(notes);
    for run in runs.iter().filter(|run| run.is_kept) {
        let mut memory = vec![0; (run.range.end - run.range.start) as usize];
        dump.read(PhysAddr(run.range.start), &mut memory).expect("memory of the dump");
        out.extend(memory);
    }
    out
}

fn header(machine: u16, program_headers: usize) -> Vec<u8> {
    let mut out = b"\x7fELF\x02\x01\x01".to_vec();
    out.resize(16, 0);
    out.extend(4_u16.to_le_bytes()); // a core file
    out.extend(machine.to_le_bytes());
    out.extend(1_u32.to_le_bytes());
    out.extend(0_u64.to_le_bytes()); // no entry point
    out.extend((HEADER as u64).to_le_bytes());
    out.extend(0_u64.to_le_bytes()); // no sections
    out.extend(0_u32.to_le_bytes());
    for size in [HEADER, PROGRAM_HEADER, program_headers, 0, 0, 0] {
        out.extend(u16::try_from(size).expect("a small number").to_le_bytes());
    }
    out
}

fn program_header(kind: u32, offset: u64, pa: u64, file_bytes: u64, memory_bytes: u64) -> Vec<u8> {
    let mut out = kind.to_le_bytes().to_vec();
    out.extend(0_u32.to_le_bytes());
    for word in [offset, pa, pa, file_bytes, memory_bytes, 0] {
        out.extend(word.to_le_bytes());
    }
    out
}

/// A note as the file has it: names end with a zero byte, parts are padded to words.
fn record(name: &[u8], kind: u32, contents: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for word in [name.len() as u32 + 1, contents.len() as u32, kind] {
        out.extend(word.to_le_bytes());
    }
    out.extend(name);
    out.push(0);
    out.resize(out.len().next_multiple_of(4), 0);
    out.extend(contents);
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

/// ELF's number of the machine.
fn machine_number(dump: &ElfDump) -> u16 {
    match dump.machine() {
        Machine::X86_64 => 62,
        Machine::Arm64 => 183,
        Machine::Other(number) => number,
        other => panic!("{other:?} has a number"),
    }
}
