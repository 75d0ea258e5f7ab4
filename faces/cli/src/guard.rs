//! The witness of a boot, which also watches what the simulated tables take of the host's memory.
//!
//! A machine of 64 TiB whose linear map is made of pages needs 128 GiB of tables. The host would end the program
//! without a word; this ends it with one.

use kernmem::{Changed, Kept, LogEntry, Mapped, TableFrame, Witness};
use kernmem_memblock::{Event, Observer};
use kernmem_report::boot_report::about;
use kernmem_view::BootRecord;

use crate::failure::{BAD_INPUT, Failure};

/// Most bytes of tables, however much the host has: those of half a terabyte in pages of 4K, and some.
const MOST_BYTES: u64 = (1 << 30) + (64 << 20);
/// Bytes of one table.
const TABLE: u64 = 4096;

/// Half of what the host says is available, where it says so.
fn affordable() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib: Option<u64> = line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok());
    kib.map_or(MOST_BYTES, |kib| (kib << 9).min(MOST_BYTES))
}

/// Keeps the record and counts tables.
#[derive(Debug)]
pub struct Guard {
    /// The record.
    pub record: BootRecord,
    name: String,
    left: u64,
    most: u64,
}

impl Guard {
    /// For the source of that name.
    pub fn new(name: &str) -> Self {
        let most = affordable();
        Self { record: BootRecord::default(), name: name.to_owned(), left: most / TABLE, most }
    }
}

impl Observer for Guard {
    fn event(&mut self, event: Event<'_>) {
        self.record.event(event);
    }
}

impl Witness for Guard {
    fn mapped(&mut self, mapped: &Mapped<'_>) {
        self.record.mapped(mapped);
    }

    fn changed(&mut self, changed: &Changed) {
        self.record.changed(changed);
    }

    fn kept(&mut self, kept: &Kept) {
        self.record.kept(kept);
    }

    fn table(&mut self, frame: &TableFrame) {
        let Some(left) = self.left.checked_sub(1) else {
            let (name, most) = (&self.name, about(self.most));
            let line = format!(
                "{name}: needs more than {most} of page tables, the most that this host can lend; give it less memory \
                 or larger leaves, such as --cmdline rodata=off on arm64"
            );
            Failure::input(line).report();
            std::process::exit(i32::from(BAD_INPUT));
        };
        self.left = left;
        self.record.table(frame);
    }

    fn log(&mut self, entry: LogEntry) {
        Witness::log(&mut self.record, entry);
    }
}
