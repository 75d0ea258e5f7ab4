//! The recorded lists of areas: every address again from the sequence of requests.
//!
//! What is taken from a file is each request's size and who made it. The order is that of the boot: on arm64 the
//! stacks of interrupts, the device windows in the order of their drivers, then stacks and remaps in the order in which
//! threads and drivers came, which is that of their addresses, then what fits into the small gaps. Ranges that the file
//! shows as freed were areas when their neighbours were placed.
#![allow(clippy::unwrap_used, reason = "a test stops where an answer is missing")]

use std::path::Path;

use kernmem_base::{Era, Granule, NoTlb, VirtAddr};
use kernmem_vmalloc::{Area, Caller, Early, Huge, Line, Request, Rules, VecStore, VmFlags, Vmalloc};

const PAGE: u64 = 4096;

/// One line of the file.
#[derive(Clone, Debug)]
struct Recorded {
    start: u64,
    size: u64,
    text: String,
}

impl Recorded {
    fn is_by(&self, callers: &[&str]) -> bool {
        callers.iter().any(|caller| self.text.starts_with(caller))
    }

    fn is_unpurged(&self) -> bool {
        self.is_by(&["unpurged"])
    }

    fn is_window(&self) -> bool {
        self.text.ends_with("ioremap") || self.is_unpurged() && self.size == 69632
    }
}

fn read(case: &str) -> Vec<Recorded> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testing/recordings").join(case).join("vmallocinfo");
    let hex = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap();
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| {
            let (range, rest) = line.split_once(' ').unwrap();
            let (start, end) = range.split_once('-').unwrap();
            let (size, text) = rest.trim_start().split_once(' ').unwrap();
            let recorded = Recorded { start: hex(start), size: size.parse().unwrap(), text: text.to_owned() };
            assert_eq!(recorded.start + recorded.size, hex(end));
            recorded
        })
        .collect()
}

fn rules(start: u64, end: u64) -> Rules {
    Rules {
        era: Era::V6_1,
        granule: Granule::K4,
        start: VirtAddr(start),
        end: VirtAddr(end),
        online_cpus: 2,
        online_nodes: 1,
        ioremap_max_order: 30,
        max_page_order: 10,
        huge: Huge { pud: true, pmd: true, vmalloc: true, io: true },
    }
}

/// Makes the request of a line; the address must be the recorded one.
fn place(areas: &mut Vmalloc<VecStore>, line: &Recorded, align: u64) {
    let flags = if line.is_window() { VmFlags::IOREMAP } else { VmFlags::ALLOC };
    let request = Request { align, flags, ..areas.request(line.size - PAGE, Caller(0)) };
    let area = areas.get_vm_area(&mut NoTlb, &request).unwrap();
    assert_eq!((area.start.0, area.size), (line.start, line.size), "{line:?}");
}

/// Frees what the file shows as freed, then compares every line.
fn compare(areas: &mut Vmalloc<VecStore>, lines: &[Recorded]) {
    for line in lines.iter().filter(|line| line.is_unpurged()) {
        areas.free_vm_area(&mut NoTlb, VirtAddr(line.start)).unwrap();
    }
    areas.audit().unwrap();
    let ours: Vec<_> = areas
        .lines()
        .map(|line| match line {
            Line::Area(area) => (area.start.0, area.size, false),
            Line::Unpurged { start, size } => (start.0, size, true),
        })
        .collect();
    let theirs: Vec<_> = lines.iter().map(|line| (line.start, line.size, line.is_unpurged())).collect();
    assert_eq!(ours, theirs);
}

fn arm64(case: &str) {
    const THREAD_ALIGN: u64 = 32 << 10;
    let lines = read(case);
    let mut early = Early::new(VecStore::new(), rules(0xffff_8000_0800_0000, 0xffff_fbff_f000_0000)).unwrap();
    let (image, mut rest): (Vec<_>, Vec<_>) = lines.iter().cloned().partition(|line| line.is_by(&["paging_init"]));
    assert_eq!(image.len(), 5);
    for line in &image {
        let area = Area::new(VirtAddr(line.start), line.size, VmFlags::MAP | VmFlags::NO_GUARD, Caller(0));
        early.add(area).unwrap();
    }
    let mut areas = early.init().map_err(|(_, error)| error).unwrap();
    let mut next = |wanted: &dyn Fn(&Recorded) -> bool, align| {
        let (mut now, later): (Vec<_>, Vec<_>) = rest.iter().cloned().partition(wanted);
        now.sort_by_key(|line| line.start);
        rest = later;
        now.iter().for_each(|line| place(&mut areas, line, align));
        now.len()
    };
    assert_eq!(next(&|line| line.is_by(&["start_kernel"]), THREAD_ALIGN), 2);
    assert_eq!(next(&|line| line.is_by(&["of_iomap"]), 1), 2, "distributor, then redistributors");
    assert_eq!(next(&|line| line.is_window() && line.size == 69632, 1), 2, "the translation service, twice");
    // threads and remaps of the devices' memory; only stacks are aligned
    let (mut now, later): (Vec<_>, Vec<_>) =
        rest.iter().cloned().partition(|line| line.is_by(&["kernel_clone", "fork_idle", "dma_common"]));
    now.sort_by_key(|line| line.start);
    for line in &now {
        place(&mut areas, line, if line.is_by(&["dma_common"]) { 1 } else { THREAD_ALIGN });
    }
    let mut last = later;
    last.sort_by_key(|line| line.start);
    assert!(now.len() > 25 && last.len() >= 6);
    last.iter().for_each(|line| place(&mut areas, line, 1));
    compare(&mut areas, &lines);
}

#[test]
fn an_arm64_boot_places_every_area_where_it_was() {
    arm64("arm64/a-ptrs");
}

#[test]
fn an_arm64_boot_at_another_address_places_every_area_where_it_was() {
    arm64("arm64/a-ptrs-full-kaslr");
}

/// Between the first interrupt stack and the timer's window lie three windows of a page each, which the firmware's
/// tables were read through and which marking the kernel read-only purged; the terminal's buffer came after that.
#[test]
fn an_x86_boot_places_every_area_where_it_was() {
    const THREAD_ALIGN: u64 = 16 << 10;
    let lines = read("x86/x-ptrs");
    let early = Early::new(VecStore::new(), rules(0xffff_c900_0000_0000, 0xffff_e900_0000_0000)).unwrap();
    let mut areas = early.init().map_err(|(_, error)| error).unwrap();
    let (terminal, boot): (Vec<_>, Vec<_>) = lines.iter().cloned().partition(|line| line.is_by(&["n_tty_open"]));
    place(&mut areas, &boot[0], 1);
    let request = Request { flags: VmFlags::IOREMAP, ..areas.request(PAGE, Caller(0)) };
    let windows: Vec<_> = (0..3).map(|_| areas.get_vm_area(&mut NoTlb, &request).unwrap().start).collect();
    for line in &boot[1..] {
        place(&mut areas, line, if line.is_by(&["kernel_clone", "fork_idle"]) { THREAD_ALIGN } else { 1 });
    }
    windows.iter().for_each(|&window| areas.free_vm_area(&mut NoTlb, window).unwrap());
    areas.purge(&mut NoTlb).unwrap();
    terminal.iter().for_each(|line| place(&mut areas, line, 1));
    assert_eq!(lines.len(), 33);
    compare(&mut areas, &lines);
}
