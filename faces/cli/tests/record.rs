//! `record`: its script collects from a made root what a recorded kernel told, and `verify` finds it equal.
#![allow(clippy::unwrap_used, reason = "functions that tests share fail as tests do")]

use crate::common::{json, kernmem, recording};
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// Files of /proc that a recording has under their own names.
const PROC: [&str; 10] = [
    "version",
    "cmdline",
    "cpuinfo",
    "iomem",
    "meminfo",
    "zoneinfo",
    "buddyinfo",
    "pagetypeinfo",
    "vmallocinfo",
    "slabinfo",
];

/// A root folder as a running kernel shows it, made of a recording's files.
struct Root {
    folder: PathBuf,
    recording: PathBuf,
    name: &'static str,
}

/// What the script said and left.
struct Recorded {
    status: i32,
    err: String,
    folder: PathBuf,
}

fn pack(bytes: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

fn unpack(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(fs::File::open(path).unwrap()).read_to_end(&mut bytes).unwrap();
    bytes
}

impl Root {
    /// `test` names the folder: each test has its own.
    fn new(test: &str, set: &str, name: &'static str) -> Self {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("record").join(test);
        let _ = fs::remove_dir_all(&folder);
        let root = Self { folder, recording: PathBuf::from(recording(set, name)), name };
        for file in PROC {
            root.copy(file, &format!("proc/{file}"));
        }
        root.copy("console.txt", "var/log/dmesg");
        root.copy("memory_block_size_bytes", "sys/devices/system/memory/block_size_bytes");
        root.copy("kernel_page_tables", "sys/kernel/debug/kernel_page_tables");
        for tree in ["kernel", "current_kernel", "current_user"] {
            root.copy(&format!("page_tables_{tree}"), &format!("sys/kernel/debug/page_tables/{tree}"));
        }
        for list in ["memory", "reserved"] {
            root.copy(&format!("memblock_{list}"), &format!("sys/kernel/debug/memblock/{list}"));
        }
        for node in ["node0", "node1"] {
            root.copy(&format!("node_{node}_meminfo"), &format!("sys/devices/system/node/{node}/meminfo"));
        }
        let tree = root.recording.join("final.dtb.gz");
        if tree.exists() {
            root.put("sys/firmware/fdt", &unpack(&tree));
        }
        root.put("proc/config.gz", &pack(&fs::read(root.kernel().join("config")).unwrap()));
        root.put("boot/System.map-6.1.192", root.symbols().as_bytes());
        root.put("sys/kernel/btf/vmlinux", &root.btf());
        root
    }

    fn boot(&self) -> Value {
        serde_json::from_str(&fs::read_to_string(self.recording.join("boot.json")).unwrap()).unwrap()
    }

    fn kernel(&self) -> PathBuf {
        self.recording.join("../../kernels").join(self.boot()["kernel"].as_str().unwrap())
    }

    /// The kernel's System.map.
    fn symbols(&self) -> String {
        let packed = self.kernel().join("System.map.zst");
        let bytes = kernmem_source::read::file(&packed).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    /// The recorded sizes of structures as the types that a kernel would carry.
    fn btf(&self) -> Vec<u8> {
        let sizes = fs::read_to_string(self.kernel().join("sizes.csv")).unwrap();
        let (mut names, mut types) = (vec![0], Vec::new());
        for (name, size) in sizes.lines().filter_map(|line| line.strip_prefix("sizeof_")?.split_once(',')) {
            for word in [names.len() as u32, 4 << 24, size.parse().unwrap()] {
                types.extend(word.to_le_bytes());
            }
            names.extend(name.bytes().chain([0]));
        }
        let mut blob = vec![0x9f, 0xeb, 1, 0];
        for word in [24, 0, types.len() as u32, types.len() as u32, names.len() as u32] {
            blob.extend(word.to_le_bytes());
        }
        blob.extend(types);
        blob.extend(names);
        blob
    }

    fn copy(&self, file: &str, to: &str) {
        if let Ok(bytes) = fs::read(self.recording.join(file)) {
            self.put(to, &bytes);
        }
    }

    fn put(&self, path: &str, bytes: &[u8]) {
        let path = self.folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn remove(&self, path: &str) {
        fs::remove_file(self.folder.join(path)).unwrap();
    }

    /// The symbols as the running kernel would show them: of the image, moved; those of modules behind them.
    fn put_kallsyms(&self, text: u64) {
        let map = self.symbols();
        let linked = map.lines().find(|line| line.ends_with(" _text")).unwrap().split(' ').next().unwrap();
        let linked = u64::from_str_radix(linked, 16).unwrap();
        let mut lines = String::new();
        for line in map.lines() {
            let (address, rest) = line.split_once(' ').unwrap();
            let address = u64::from_str_radix(address, 16).unwrap();
            let moved = if address >= linked { address.wrapping_add(text.wrapping_sub(linked)) } else { address };
            lines.push_str(&format!("{moved:016x} {rest}\n"));
        }
        lines.push_str("ffffffffc0000000 t init_of_module\t[module]\n");
        self.put("proc/kallsyms", lines.as_bytes());
        self.remove("boot/System.map-6.1.192");
    }

    /// Runs the script under `shell`.
    fn record_with(&self, shell: &[&str]) -> Recorded {
        let script = self.folder.join("record.sh");
        fs::write(&script, kernmem(&["record"]).good()).unwrap();
        let output = self.folder.join("recording");
        let _ = fs::remove_dir_all(&output);
        let mut command = Command::new(shell[0]);
        command.args(&shell[1..]).arg(&script).arg(&output).stdin(Stdio::null());
        command.env("ROOT", &self.folder).env("NAME", self.name).env_remove("ERA").env_remove("CPU");
        let said = command.output().unwrap();
        let out = String::from_utf8(said.stdout).unwrap();
        let folder = PathBuf::from(out.trim_end());
        assert!(folder.starts_with(&output), "{out}");
        Recorded { status: said.status.code().unwrap(), err: String::from_utf8(said.stderr).unwrap(), folder }
    }

    fn record(&self) -> Recorded {
        self.record_with(&["sh"])
    }
}

impl Recorded {
    fn boot(&self) -> Value {
        serde_json::from_str(&fs::read_to_string(self.folder.join("boot.json")).unwrap()).unwrap()
    }

    fn path(&self) -> &str {
        self.folder.to_str().unwrap()
    }

    /// What standard error and the file name as missing, in order: both say the same.
    fn missing(&self) -> Vec<String> {
        let told = fs::read_to_string(self.folder.join("MISSING")).unwrap_or_default();
        let said: Vec<&str> = self.err.lines().map(|line| line.strip_prefix("record: missing ").unwrap()).collect();
        assert_eq!(said, told.lines().collect::<Vec<_>>());
        assert_eq!(self.status, i32::from(!said.is_empty()));
        said.iter().map(|line| line.split_once(": ").unwrap().0.to_owned()).collect()
    }

    /// Whether the recording verifies equal; every file that the recording has was compared.
    #[track_caller]
    fn verified(&self, files: usize) -> Value {
        let said = kernmem(&["verify", self.path()]);
        assert_eq!((said.status, said.err.as_str()), (0, ""), "{}", said.out);
        let answer = json(&["verify", "--json", self.path()], "kernmem.verify");
        assert_eq!(answer["equal"], 1);
        assert_eq!(answer["files"].as_array().unwrap().len(), files, "{answer:#}");
        answer
    }
}

/// The keys of `given` that both recordings have are equal, and `only` are those that ours alone has.
#[track_caller]
fn same_given(ours: &Value, recorded: &Value, only: &[&str]) {
    let (ours, recorded) = (ours["given"].as_object().unwrap(), recorded["given"].as_object().unwrap());
    for (key, value) in recorded {
        assert_eq!(ours.get(key), Some(value), "{key}");
    }
    let extra: Vec<&str> = ours.keys().filter(|key| !recorded.contains_key(*key)).map(String::as_str).collect();
    assert_eq!(extra, only);
}

#[test]
fn an_arm64_machine_is_recorded_whole_and_verifies_equal() {
    let root = Root::new("arm64", "arm64", "a-2node-rodata-off");
    root.put_kallsyms(0xffff_8000_0800_0000);
    let recorded = root.record();
    assert_eq!(recorded.missing(), ["addresses in vmallocinfo"], "{}", recorded.err);
    let boot = recorded.boot();
    same_given(&boot, &root.boot(), &["linear_start", "text_virt"]);
    for key in ["arch", "cpu", "era", "cmdline", "smp"] {
        assert_eq!(boot[key], root.boot()[key], "{key}");
    }
    recorded.verified(8);
    for file in PROC.iter().filter(|file| **file != "version") {
        let ours = fs::read(recorded.folder.join(file)).unwrap();
        assert_eq!(ours, fs::read(root.recording.join(file)).unwrap(), "{file}");
    }
}

#[test]
fn an_x86_machine_that_kaslr_moved_is_recorded_whole_and_verifies_equal() {
    let root = Root::new("x86", "x86", "x-4G-kaslr");
    let recorded = root.record();
    assert_eq!(recorded.missing(), ["addresses in vmallocinfo"], "{}", recorded.err);
    same_given(&recorded.boot(), &root.boot(), &[]);
    recorded.verified(9);
}

#[test]
fn symbols_of_the_running_kernel_are_moved_back_to_where_they_were_linked() {
    for (test, set, name, files) in [("kallsyms-x86", "x86", "x-4G-kaslr", 9), ("kallsyms-arm64", "arm64", "a-max", 8)]
    {
        let root = Root::new(test, set, name);
        let text = root.boot()["given"]["text_virt"].as_str().unwrap().to_owned();
        root.put_kallsyms(u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap());
        let recorded = root.record();
        assert!(recorded.boot()["symbols"].as_str().unwrap().starts_with("/proc/kallsyms minus 0x"));
        same_given(&recorded.boot(), &root.boot(), &[]);
        let map = fs::read_to_string(recorded.folder.join("../../kernels/6.1.192/System.map")).unwrap();
        assert_eq!(map, root.symbols());
        recorded.verified(files);
    }
}

#[test]
fn a_seed_that_the_kernel_wiped_is_made_up_for_by_addresses() {
    let root = Root::new("wiped", "arm64", "a-kaslr2-full");
    // What is executable begins with _stext, 64K above _text.
    let listing = fs::read_to_string(root.recording.join("kernel_page_tables")).unwrap();
    let line = listing.lines().find(|line| line.contains(" x ")).unwrap();
    root.put_kallsyms(u64::from_str_radix(&line[2..18], 16).unwrap() - 0x1_0000);
    let mut tree = unpack(&root.recording.join("final.dtb.gz"));
    let seed = property(&tree, "kaslr-seed");
    assert!(tree[seed.clone()].iter().any(|byte| *byte != 0));
    tree[seed].fill(0);
    root.put("sys/firmware/fdt", &tree);
    let recorded = root.record();
    let boot = recorded.boot();
    same_given(&boot, &root.boot(), &["linear_start", "text_virt"]);
    recorded.verified(8);
    for key in ["linear_start", "text_virt"] {
        let mut without = boot.clone();
        without["given"].as_object_mut().unwrap().remove(key);
        fs::write(recorded.folder.join("boot.json"), without.to_string()).unwrap();
        assert_eq!(kernmem(&["verify", recorded.path()]).status, 1, "{key}");
    }
}

/// Where the value of a property lies in a blob that names the property once.
fn property(tree: &[u8], name: &str) -> core::ops::Range<usize> {
    let word = |at: usize| u32::from_be_bytes(tree[at..at + 4].try_into().unwrap()) as usize;
    let (structure, strings) = (word(8), word(12));
    let wanted = [name.as_bytes(), &[0]].concat();
    let name = tree[strings..].windows(wanted.len()).position(|bytes| bytes == wanted).unwrap();
    let at = (structure..strings).step_by(4).find(|at| word(*at) == 3 && word(at + 8) == name && word(at + 4) == 8);
    let at = at.unwrap() + 12;
    at..at + 8
}

#[test]
fn parts_that_are_missing_are_named_and_the_rest_is_compared() {
    let root = Root::new("parts", "arm64", "a-4G");
    for path in [
        "proc/zoneinfo",
        "sys/kernel/debug/memblock/reserved",
        "boot/System.map-6.1.192",
        "sys/kernel/btf/vmlinux",
        "proc/slabinfo",
    ] {
        root.remove(path);
    }
    root.put("proc/kallsyms", b"0000000000000000 T _text\n");
    let kept = root.symbols();
    let recorded = root.record();
    let named = recorded.missing();
    for what in [
        "zoneinfo",
        "slabinfo",
        "memblock_reserved",
        "kallsyms",
        "System.map",
        "sizes of most structures",
        "given dtb",
        "given text_virt",
    ] {
        assert!(named.iter().any(|one| one == what), "{what}: {named:?}");
    }
    // Without symbols there is no boot: the file to bring is named. With it the rest is compared.
    let line = kernmem(&["verify", recorded.path()]).refused(2);
    assert!(line.contains("kernels/6.1.192/System.map"), "{line}");
    fs::write(recorded.folder.join("../../kernels/6.1.192/System.map"), kept).unwrap();
    let answer = recorded.verified(6);
    let lacks: Vec<&str> =
        answer["missing"].as_array().unwrap().iter().map(|one| one["what"].as_str().unwrap()).collect();
    assert_eq!(lacks, named);
    let text = kernmem(&["verify", recorded.path()]).good();
    assert!(text.contains("a-4G: not recorded: zoneinfo: /proc/zoneinfo is not there"), "{text}");
}

#[test]
fn an_x86_log_without_its_head_gives_its_map_to_firmware() {
    let root = Root::new("head", "x86", "x-4G");
    let log = fs::read_to_string(root.recording.join("console.txt")).unwrap();
    let (head, tail) = log.split_at(log.find("Movable zone start").unwrap());
    root.put("var/log/dmesg", tail.as_bytes());
    for (nr, line) in head.lines().filter_map(|line| line.strip_prefix("BIOS-e820: [mem ")).enumerate() {
        let (range, kind) = line.split_once("] ").unwrap();
        let (start, end) = range.split_once('-').unwrap();
        let kind = if kind == "usable" { "System RAM" } else { "Reserved" };
        for (file, text) in [("start", start), ("end", end), ("type", kind)] {
            root.put(&format!("sys/firmware/memmap/{nr}/{file}"), format!("{text}\n").as_bytes());
        }
    }
    let recorded = root.record();
    let named = recorded.missing();
    for what in ["head of console.txt", "the firmware's map in console.txt", "given initrd"] {
        assert!(named.iter().any(|one| one == what), "{what}: {named:?}");
    }
    let machine = |path: &str| json(&["boot", "--json", path], "kernmem.boot")["machine"].clone();
    assert_eq!(machine(recorded.path())["memory_bytes"], machine(root.recording.to_str().unwrap())["memory_bytes"]);
    let answer = json(&["verify", "--json", recorded.path()], "kernmem.verify");
    let listing = answer["files"].as_array().unwrap().iter().find(|file| file["file"] == "page_tables_kernel").unwrap();
    assert!(listing["equal_lines"].as_u64().unwrap() > 0);
}

#[test]
fn hidden_addresses_and_a_log_that_is_not_there_are_named() {
    let root = Root::new("hidden", "x86", "x-4G");
    let iomem = fs::read_to_string(root.recording.join("iomem")).unwrap();
    let hidden: String = iomem
        .lines()
        .map(|line| {
            let (range, name) = line.split_once(" : ").unwrap();
            let zeros: String = range.chars().map(|c| if c.is_ascii_hexdigit() { '0' } else { c }).collect();
            format!("{zeros} : {name}\n")
        })
        .collect();
    root.put("proc/iomem", hidden.as_bytes());
    root.remove("var/log/dmesg");
    let named = root.record().missing();
    for what in ["iomem", "console.txt", "the firmware's map", "given text_phys"] {
        assert!(named.iter().any(|one| one == what), "{what}: {named:?}");
    }
}

#[test]
fn wrong_usage_and_a_recording_that_exists_are_refused_with_one_line() {
    let root = Root::new("usage", "x86", "x-4G");
    let recorded = root.record();
    let script = root.folder.join("record.sh");
    let run = |args: &[&str], folder: &Path| {
        let mut command = Command::new("sh");
        let said = command.arg(&script).args(args).env("ROOT", folder).env("NAME", "x-4G").output().unwrap();
        assert_eq!(said.status.code(), Some(2));
        assert_eq!(said.stdout, b"");
        let err = String::from_utf8(said.stderr).unwrap();
        assert_eq!(err.lines().count(), 1, "{err}");
        err
    };
    let top = recorded.folder.join("../..");
    assert!(run(&[top.to_str().unwrap()], &root.folder).contains("is a recording already"));
    assert!(run(&["a", "b"], &root.folder).contains("one folder at most"));
    assert!(run(&["--frob"], &root.folder).contains("--frob"));
    assert!(run(&["x"], Path::new("/nowhere")).contains("/nowhere/proc/version"));
    assert!(kernmem(&["record", "--frob"]).refused(2).contains("--frob"));
    assert!(kernmem(&["record", "folder"]).refused(2).contains("folder"));
}

#[test]
fn a_folder_with_inputs_alone_is_refused_since_nothing_would_be_compared() {
    let root = Root::new("inputs", "arm64", "a-4G");
    let recorded = root.record();
    for entry in fs::read_dir(&recorded.folder).unwrap() {
        let path = entry.unwrap().path();
        if !["boot.json", "final.dtb.gz", "cpuinfo"].iter().any(|name| path.ends_with(name)) {
            fs::remove_file(path).unwrap();
        }
    }
    assert!(kernmem(&["verify", recorded.path()]).refused(2).contains("no file of the kernel"));
}

#[test]
fn json_has_the_scripts_lines() {
    let script = kernmem(&["record"]).good();
    let answer = json(&["record", "--json"], "kernmem.record");
    let lines: Vec<&str> = answer["lines"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
    assert_eq!(lines, script.lines().collect::<Vec<_>>());
}

/// The shells that a system may have, each as its command and a word that it takes alone.
const SHELLS: [&[&str]; 4] = [&["sh"], &["dash"], &["busybox", "sh"], &["bash", "--posix"]];

#[test]
fn every_shell_of_this_system_reads_the_script_and_records_the_same() {
    let root = Root::new("shells", "x86", "x-4G-kaslr");
    root.put_kallsyms(0xffff_ffff_9f00_0000);
    let mut first: Option<Vec<(PathBuf, Vec<u8>)>> = None;
    for shell in SHELLS {
        if Command::new(shell[0]).args(&shell[1..]).args(["-c", ":"]).output().is_err() {
            eprintln!("SKIPPED: this system has no {}; the script was not tried under it", shell[0]);
            continue;
        }
        let script = root.folder.join("record.sh");
        fs::write(&script, kernmem(&["record"]).good()).unwrap();
        let said = Command::new(shell[0]).args(&shell[1..]).arg("-n").arg(&script).output().unwrap();
        assert!(said.status.success() && said.stderr.is_empty(), "{shell:?}: {said:?}");
        let recorded = root.record_with(shell);
        recorded.verified(9);
        let mut files: Vec<(PathBuf, Vec<u8>)> = Vec::new();
        for folder in [recorded.folder.clone(), recorded.folder.join("../../kernels/6.1.192")] {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                // Packed files have the packer's own head.
                if path.extension().is_none_or(|end| end != "gz") {
                    files.push((path.clone(), fs::read(&path).unwrap()));
                }
            }
        }
        files.sort();
        match &first {
            None => first = Some(files),
            Some(first) => assert!(*first == files, "{shell:?} records something else"),
        }
    }
}
