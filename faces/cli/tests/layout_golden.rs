//! `layout` of every era, page size, number of bits and shadow against the constants that a compiler took out of the
//! kernels' headers.
#![allow(clippy::unwrap_used, reason = "functions that tests share fail as tests do")]

use std::collections::BTreeMap;

use crate::common::json;
use serde_json::Value;

const ARM64_ROWS: &str = include_str!("../../../testing/golden/arm64_layout.csv");
const X86_ROWS: &str = include_str!("../../../testing/golden/x86_layout.csv");

fn hex(text: &str) -> u64 {
    u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap()
}

/// Constants by configuration, each a list of cells, and name.
struct Golden<'a>(BTreeMap<Vec<&'a str>, BTreeMap<&'a str, u64>>);

impl<'a> Golden<'a> {
    fn parse(rows: &'a str, wanted: impl Fn(&[&str]) -> bool) -> Self {
        let mut all: BTreeMap<Vec<&str>, BTreeMap<&str, u64>> = BTreeMap::new();
        for line in rows.lines().skip(1) {
            let mut cells: Vec<&str> = line.split(',').collect();
            let (value, name) = (cells.pop().unwrap(), cells.pop().unwrap());
            if wanted(&cells) {
                all.entry(cells).or_default().insert(name, hex(value));
            }
        }
        Self(all)
    }
}

/// The first and the last address of a region by the start of its name.
#[track_caller]
fn region(table: &Value, name: &str) -> Option<(u64, u64)> {
    let regions = table["regions"].as_array().unwrap();
    let found = regions.iter().find(|region| region["use"].as_str().unwrap().starts_with(name))?;
    Some((hex(found["start"].as_str().unwrap()), hex(found["last"].as_str().unwrap())))
}

/// Compared values, and what they are of when one differs.
struct Tally<'a> {
    table: &'a Value,
    compared: &'a mut usize,
    what: String,
}

impl Tally<'_> {
    #[track_caller]
    fn start(&mut self, name: &str, expected: Option<u64>) {
        self.equal(name, region(self.table, name).map(|(start, _)| start), expected);
    }

    /// `end` is one past the last address.
    #[track_caller]
    fn end(&mut self, name: &str, end: Option<u64>) {
        let ours = region(self.table, name).map(|(_, last)| last.wrapping_add(1));
        self.equal(name, ours, end);
    }

    #[track_caller]
    fn equal(&mut self, name: &str, ours: Option<u64>, expected: Option<u64>) {
        let show = |value: Option<u64>| value.map(|value| format!("{value:#x}"));
        assert_eq!(show(ours), show(expected), "{}: {name} in {}", self.what, self.table);
        *self.compared += 1;
    }
}

fn compare_arm64(era: &str, kasan: &str, table: &Value, golden: &BTreeMap<&str, u64>, compared: &mut usize) {
    let fallback = table["va_bits"] != table["va_bits_in_use"];
    let get = |name: &str| {
        let changed = golden.get(format!("{name}@fallback").as_str()).filter(|_| fallback);
        changed.or_else(|| golden.get(name)).copied()
    };
    let what = format!("Linux {era} {} KASAN {kasan}", if fallback { "fall-back" } else { "" });
    let mut tally = Tally { table, compared, what };
    let bits = table["va_bits_in_use"].as_u64().unwrap();
    tally.equal("bits in use", Some(bits), get("vabits_actual"));
    tally.equal("page", table["page_size"].as_u64(), get("PAGE_SIZE"));
    if !fallback {
        tally.equal("levels", table["levels"].as_u64(), get("CONFIG_PGTABLE_LEVELS"));
    }
    tally.end("user", get("TASK_SIZE_64"));
    // A kernel with fewer bits in use cannot reach the lower part of the region.
    let bottom = if fallback { Some(!0 << bits) } else { get("PAGE_OFFSET") };
    tally.start("kernel logical memory map", bottom);
    let shadow = kasan != "off";
    let shadow_inside = shadow && era != "5.10";
    tally.end("kernel logical memory map", get(if shadow_inside { "KASAN_SHADOW_END" } else { "PAGE_END" }));
    tally.start("kasan shadow region", get("KASAN_SHADOW_START").filter(|_| shadow));
    tally.end("kasan shadow region", get("KASAN_SHADOW_END").filter(|_| shadow));
    tally.start("bpf jit region", get("BPF_JIT_REGION_START"));
    tally.end("bpf jit region", get("BPF_JIT_REGION_END"));
    tally.start("modules", get("MODULES_VADDR"));
    tally.end("modules", get("MODULES_END"));
    tally.start("vmalloc", get("VMALLOC_START"));
    tally.end("vmalloc", get("VMALLOC_END"));
    tally.end("fixed mappings", get("FIXADDR_TOP"));
    if era == "5.10" {
        tally.start("fixed mappings", get("FIXADDR_START"));
    }
    tally.start("PCI I/O space", get("PCI_IO_START"));
    tally.end("PCI I/O space", get("PCI_IO_END"));
    tally.end("vmemmap", get("VMEMMAP_END"));
    if !fallback {
        tally.start("vmemmap", get("VMEMMAP_START"));
    }
}

#[test]
fn every_arm64_kernel_of_the_headers_has_its_table() {
    let golden = Golden::parse(ARM64_ROWS, |_| true);
    let mut choices: Vec<[&str; 3]> = golden.0.keys().map(|key| [key[1], key[2], key[3]]).collect();
    choices.sort_unstable();
    choices.dedup();
    let (mut tables, mut compared) = (0, 0);
    for [page, bits, kasan] in choices {
        let mode = kasan.replace('_', "-");
        let args = ["layout", "--era", "all", "--page-size", page, "--va-bits", bits, "--kasan", &mode, "--json"];
        let answer = json(&args, "kernmem.layout");
        for table in answer["layouts"].as_array().unwrap().iter().filter(|table| table["era"] != "4.14") {
            assert_eq!((table["kasan"].as_str(), table["va_bits"].to_string().as_str()), (Some(kasan), bits));
            let era = table["era"].as_str().unwrap();
            let key = vec![era, page, bits, kasan];
            let golden = golden.0.get(&key).unwrap_or_else(|| panic!("no kernel {key:?} in the headers"));
            compare_arm64(era, kasan, table, golden, &mut compared);
            tables += 1;
        }
    }
    println!("arm64: {tables} tables, {compared} values compared");
    // Each kernel once, and those of 52 bits once more without them.
    assert_eq!((tables, golden.0.len()), (104 + 24, 104));
    assert!(compared > 2000, "{compared}");
}

fn compare_x86(era: &str, option: &str, table: &Value, golden: &BTreeMap<&str, u64>, compared: &mut usize) {
    let get = |name: &str| golden.get(name).copied();
    let past = |name: &str| get(name).map(|last| last.wrapping_add(1));
    let slot = 1_u64 << 39;
    let shadow = option == "kasan";
    let mut tally = Tally { table, compared, what: format!("Linux {era} {option}") };
    tally.end("user half", get("TASK_SIZE_MAX").map(|size| size + 4096));
    tally.start("... guard hole", get("GUARD_HOLE_BASE_ADDR"));
    tally.end("... guard hole", get("GUARD_HOLE_END_ADDR"));
    tally.start("LDT remap", get("LDT_BASE_ADDR"));
    tally.end("LDT remap", get("LDT_END_ADDR"));
    tally.start("direct map", get("PAGE_OFFSET"));
    tally.start("vmalloc", get("VMALLOC_START"));
    tally.end("vmalloc", past("VMALLOC_END"));
    tally.start("page descriptors", get("VMEMMAP_START"));
    tally.start("KASAN shadow", get("KASAN_SHADOW_START").filter(|_| shadow));
    tally.end("KASAN shadow", get("KASAN_SHADOW_END").filter(|_| shadow));
    tally.start("CPU entry areas", get("CPU_ENTRY_AREA_BASE"));
    tally.start("espfix", get("ESPFIX_BASE_ADDR"));
    tally.end("espfix", get("ESPFIX_BASE_ADDR").map(|start| start + slot));
    tally.start("EFI", get("EFI_VA_END"));
    tally.end("EFI", get("EFI_VA_START"));
    tally.start("kernel image", get("__START_KERNEL_map"));
    tally.end("kernel image", get("MODULES_VADDR"));
    tally.start("modules", get("MODULES_VADDR"));
    tally.end("modules", get("MODULES_END"));
    tally.start("vsyscall", get("VSYSCALL_ADDR"));
}

#[test]
fn every_x86_kernel_of_the_headers_has_its_table() {
    let golden = Golden::parse(X86_ROWS, |cells| cells[1] == "x86_64");
    let (mut tables, mut compared) = (0, 0);
    for (option, config) in [
        ("kaslr", "CONFIG_RANDOMIZE_BASE=y\nCONFIG_RANDOMIZE_MEMORY=y\n"),
        ("nokaslr-build", "# CONFIG_RANDOMIZE_BASE is not set\n"),
        ("kasan", "CONFIG_KASAN=y\nCONFIG_KASAN_GENERIC=y\n"),
    ] {
        let text = format!("CONFIG_X86_64=y\nCONFIG_X86_5LEVEL=y\n{config}");
        let file = crate::common::file(&format!("golden-{option}.config"), text.as_bytes());
        for levels in ["4", "5"] {
            let args = ["layout", "--arch", "x86-64", "--era", "all", "--levels", levels, "--kconfig", &file, "--json"];
            let answer = json(&args, "kernmem.layout");
            for table in answer["layouts"].as_array().unwrap().iter().filter(|table| table["era"] != "4.14") {
                let era = table["era"].as_str().unwrap();
                let key = vec![era, "x86_64", levels, option];
                assert_eq!(table["levels"].to_string(), levels);
                compare_x86(era, option, table, &golden.0[&key], &mut compared);
                tables += 1;
            }
        }
    }
    println!("x86-64: {tables} tables, {compared} values compared");
    assert_eq!((tables, golden.0.len()), (24, 24));
}

fn compare_i386(what: &str, table: &Value, golden: &BTreeMap<&str, u64>, highmem: bool, compared: &mut usize) {
    let get = |name: &str| golden.get(name).copied();
    let sum = |base: &str, size: Option<u64>| Some(get(base)? + size?);
    let mut tally = Tally { table, compared, what: what.to_owned() };
    tally.end("user", get("PAGE_OFFSET"));
    tally.start("lowmem", get("PAGE_OFFSET"));
    tally.end("lowmem", sum("PAGE_OFFSET", get("MAXMEM")));
    tally.start("vmalloc", get("VMALLOC_START(full lowmem)"));
    tally.end("vmalloc", get("VMALLOC_END"));
    tally.start("pkmap", get("PKMAP_BASE").filter(|_| highmem));
    tally.end("pkmap", sum("PKMAP_BASE", get("LAST_PKMAP").map(|pages| pages << 12)).filter(|_| highmem));
    tally.start("ldt", get("LDT_BASE_ADDR"));
    tally.end("ldt", get("LDT_END_ADDR"));
    tally.start("cpu_entry", get("CPU_ENTRY_AREA_BASE"));
    tally.start("fixmap", get("FIXADDR_START"));
    tally.end("fixmap", get("FIXADDR_TOP"));
}

/// With as much memory as low memory can have.
#[test]
fn every_i386_kernel_of_the_headers_has_its_table() {
    let golden = Golden::parse(X86_ROWS, |cells| cells[1].starts_with("i386"));
    let mut builds: Vec<[&str; 2]> = golden.0.keys().map(|key| [key[1], key[3]]).collect();
    builds.sort_unstable();
    builds.dedup();
    let (mut tables, mut compared) = (0, 0);
    for [arch, option] in builds {
        let mut words = option.split('+');
        let (split, high) = (words.next().unwrap(), words.next().unwrap());
        let cpus = words.next().map_or("NR_CPUS=8", |word| word);
        let pae = if arch == "i386pae" { "CONFIG_X86_PAE=y\n" } else { "" };
        let highmem = if high == "highmem" { "CONFIG_HIGHMEM=y\n" } else { "" };
        let apics = "CONFIG_X86_LOCAL_APIC=y\nCONFIG_X86_IO_APIC=y\nCONFIG_PCI_MMCONFIG=y\n";
        let text = format!("CONFIG_X86_32=y\nCONFIG_{split}=y\nCONFIG_{cpus}\n{pae}{highmem}{apics}");
        let file = crate::common::file(&format!("golden-{arch}-{option}.config"), text.as_bytes());
        let args = ["layout", "--arch", "i386", "--era", "all", "--kconfig", &file, "--memory", "4G", "--json"];
        let answer = json(&args, "kernmem.layout");
        for table in answer["layouts"].as_array().unwrap() {
            let levels = if pae.is_empty() { "2" } else { "3" };
            assert_eq!(table["levels"].to_string(), levels);
            let key = vec![table["era"].as_str().unwrap(), arch, levels, option];
            // No 4.14, and no kernel that an era does not have.
            let Some(golden) = golden.0.get(&key) else { continue };
            compare_i386(&format!("{key:?}"), table, golden, !highmem.is_empty(), &mut compared);
            tables += 1;
        }
    }
    println!("i386: {tables} tables, {compared} values compared");
    assert_eq!(tables, golden.0.len());
    assert_eq!(compared, 12 * tables);
}
