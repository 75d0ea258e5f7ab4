//! A recording's folder: the machine and the kernel, never what that kernel printed about its memory.
//!
//! Read here: `boot.json`; on arm64 `final.dtb.gz` or `final.dtb`; on x86 the firmware's lines in `console.txt` (map and
//! affinity table; the map from the file `e820` where the log has lost it) and `cpuinfo`; the kernel's folder
//! `../../kernels/NAME`, and for a model that is not built in `../../cpus.csv`. Nothing else: what the real
//! kernel wrote is what a boot is compared with.

use std::path::{Path, PathBuf};

use kernmem_base::{PhysAddr, VirtAddr};
use kernmem_config::{Arch, Arm64Cpu, Cpu, Given, X86Cpu};
use kernmem_firmware::{Devicetree, Machine, e820};
use serde_json::Value;

use crate::assemble::{Parts, log_machine};
use crate::kernel::KernelFiles;
use crate::{Origin, Problem, SourceError, read};

/// One JSON file and its name, for messages.
struct Boot<'a> {
    path: &'a Path,
    json: Value,
}

impl Boot<'_> {
    fn wrong(&self, key: &'static str, expected: &'static str) -> SourceError {
        SourceError::new(self.path, Problem::Value { key, expected })
    }

    fn text(&self, key: &'static str) -> Result<&str, SourceError> {
        self.json.get(key).and_then(Value::as_str).ok_or_else(|| self.wrong(key, "a text"))
    }

    fn given(&self, key: &'static str) -> Result<Option<u64>, SourceError> {
        let Some(value) = self.json.get("given").and_then(|given| given.get(key)) else { return Ok(None) };
        address(value).map(Some).ok_or_else(|| self.wrong(key, "an address such as \"0x40200000\""))
    }
}

/// An address: a text in hexadecimal, or a number.
fn address(value: &Value) -> Option<u64> {
    match value {
        Value::String(text) => u64::from_str_radix(text.strip_prefix("0x")?, 16).ok(),
        value => value.as_u64(),
    }
}

pub(crate) fn open(folder: &Path) -> Result<Parts, SourceError> {
    let path = folder.join("boot.json");
    let json = serde_json::from_str(&read::text(&path)?).map_err(|e| SourceError::new(&path, Problem::Json(e)))?;
    let boot = Boot { path: &path, json };
    let arch = boot.text("arch")?;
    let arch = Arch::from_name(arch).ok_or_else(|| SourceError::new(&path, Problem::Architecture(arch.to_owned())))?;
    let era = boot.text("era")?.parse().map_err(|_| boot.wrong("era", "one of 4.14, 5.10, 6.1, 6.12, 7.2"))?;
    let kernel_name = boot.text("kernel")?.to_owned();
    if kernel_name.contains(['/', '\\']) || kernel_name.starts_with('.') || kernel_name.is_empty() {
        return Err(boot.wrong("kernel", "the name of a folder under kernels/"));
    }
    let root = folder.join("..").join("..");
    let kernel = KernelFiles::open(&root.join("kernels").join(&kernel_name))?;
    let (machine, cpu) = match arch {
        Arch::Arm64 => (devicetree(&tree_file(folder))?, arm64_cpu(&boot, &root)?),
        Arch::X86_64 | Arch::I386 => x86(folder, arch, &boot)?,
    };
    let cmdline = boot.text("cmdline")?.to_owned();
    let given = given(&boot)?;
    let provenance = vec![
        Origin::new("machine", format!("recording {}", folder.display())),
        Origin::new("kernel", format!("{kernel_name} of the recording")),
    ];
    Ok(Parts { machine, kernel: Some(kernel), cmdline, cpu, own_cpu: true, given, era, provenance })
}

/// The firmware's lines of the log, the CPU, and how many of them the emulator has.
fn x86(folder: &Path, arch: Arch, boot: &Boot<'_>) -> Result<(Machine, Cpu), SourceError> {
    let (log, map_file) = (folder.join("console.txt"), folder.join("e820"));
    let has_log = log.exists() || !map_file.exists();
    let text = if has_log { read::text(&log)? } else { String::new() };
    let mut map = e820::parse_e820(&text);
    if map.is_empty() && map_file.exists() {
        map = e820::parse_e820(&read::text(&map_file)?);
    }
    if map.is_empty() {
        return Err(SourceError::new(log, Problem::NoMemory));
    }
    let mut machine = log_machine(map, &text);
    let info = folder.join("cpuinfo");
    let cpu = X86Cpu::from_cpuinfo(&read::text(&info)?).ok_or_else(|| SourceError::new(info, Problem::NoFlags))?;
    machine.arch = arch;
    // A kernel that was told to use fewer shows only those.
    let emulated = boot.json.get("smp").and_then(Value::as_u64).and_then(|cpus| u32::try_from(cpus).ok());
    machine.cpus = machine.cpus.max(cpu.processors).max(emulated.unwrap_or(0));
    Ok((machine, Cpu::X86(cpu)))
}

/// The devicetree's file, packed or plain.
fn tree_file(folder: &Path) -> PathBuf {
    let plain = folder.join("final.dtb");
    if plain.exists() { plain } else { folder.join("final.dtb.gz") }
}

fn devicetree(path: &Path) -> Result<Machine, SourceError> {
    let blob = read::file(path)?;
    let tree = Devicetree::parse(&blob).map_err(|error| SourceError::new(path, Problem::Devicetree(error)))?;
    Ok(tree.machine())
}

/// The model's registers from the recordings' own table, else from the built-in one.
fn arm64_cpu(boot: &Boot<'_>, root: &Path) -> Result<Cpu, SourceError> {
    let model = boot.text("cpu")?;
    let table = root.join("cpus.csv");
    let cpu = match Arm64Cpu::by_model(model) {
        None if table.exists() => Arm64Cpu::from_csv(&read::text(&table)?, model),
        known => known,
    };
    cpu.map(Cpu::Arm64).ok_or_else(|| SourceError::new(boot.path, Problem::UnknownCpu(model.to_owned())))
}

fn given(boot: &Boot<'_>) -> Result<Given, SourceError> {
    let phys = |key| boot.given(key).map(|value| value.map(PhysAddr));
    let virt = |key| boot.given(key).map(|value| value.map(VirtAddr));
    let list = |key| boot.json.get("given").and_then(|given| given.get(key));
    let mut given = Given {
        text_phys: phys("text_phys")?,
        text_virt: virt("text_virt")?,
        linear_start: virt("linear_start")?,
        page_offset_base: virt("page_offset_base")?,
        vmalloc_base: virt("vmalloc_base")?,
        vmemmap_base: virt("vmemmap_base")?,
        dtb: phys("dtb")?,
        kfence_pool: phys("kfence_pool")?,
        ..Given::default()
    };
    if let Some(value) = list("initrd") {
        let pair = value.get(0).and_then(address).zip(value.get(1).and_then(address));
        given.initrd = Some(pair.ok_or_else(|| boot.wrong("initrd", "first and last address"))?);
    }
    for entry in list("firmware").and_then(Value::as_array).into_iter().flatten() {
        let range = entry.get(0).and_then(address).zip(entry.get(1).and_then(address));
        let name = entry.get(2).and_then(Value::as_str);
        let Some(((start, last), name)) = range.zip(name) else {
            return Err(boot.wrong("firmware", "a list of first address, last address, name"));
        };
        given.firmware.push((start, last, name.to_owned()));
    }
    Ok(given)
}
