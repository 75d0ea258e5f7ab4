//! Machines described in TOML.
//!
//! ```toml
//! arch = "arm64"             # or "x86_64"; required
//! model = "a board"          # shown only
//! cmdline = "rodata=off"
//! era = "6.1"
//! cpu = "cortex-a72"         # a model; on x86 a list of features such as "nx pdpe1gb bug:cpu_meltdown"
//! cpus = 4
//! kaslr_seed = "0x1b2c3d4e5f607182"
//! dma_limit = "0x3fffffff"   # highest address that every device reaches
//!
//! [[memory]]                 # at least one, or on x86 the firmware's map
//! start = "1G"               # a number, or a text with a unit or in hexadecimal
//! size = "4G"
//! node = 0                   # optional
//! hotplug = false            # optional
//!
//! [[no_map]]                 # memory that the kernel may not map
//! start = "0x90001000"
//! size = "12K"
//!
//! [[reserved]]               # memory that the kernel maps but may not use
//! start = "0x50000000"
//! size = "1M"
//!
//! [initrd]
//! start = "0x48000000"
//! size = "4K"
//!
//! [[e820]]                   # x86: the firmware's map
//! start = 0
//! size = "639K"
//! type = "usable"            # as a boot log names it, or a number
//!
//! [given]                    # what a loader chose or chance drew
//! text_phys = "0x40200000"   # also text_virt, linear_start, page_offset_base, vmalloc_base, vmemmap_base,
//! dtb = "0x48200000"         # kfence_pool
//! ```
//!
//! An unknown key is an error.

use std::path::Path;

use kernmem_base::{Era, PhysAddr, PhysRange, VirtAddr};
use kernmem_config::Given;
use kernmem_firmware::number::memparse;
use kernmem_firmware::{Arch, Bank, E820Table, E820Type, Machine, NumaBlock, Reserved};
use serde::Deserialize;

use crate::{Problem, SourceError};

/// A description, read.
pub(crate) struct Described {
    pub(crate) machine: Machine,
    pub(crate) era: Option<Era>,
    pub(crate) cpu: Option<String>,
    pub(crate) given: Given,
}

/// A number, or a text that holds one.
#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Plain(u64),
    Text(String),
}

impl Number {
    fn value(&self) -> Option<u64> {
        match self {
            Self::Plain(value) => Some(*value),
            Self::Text(text) => {
                let text = text.replace('_', "");
                // Saturation marks what does not fit.
                let (value, rest) = memparse(&text, Era::V7_2);
                (!text.is_empty() && rest.is_empty()).then_some(value)
            }
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Kind {
    Number(u32),
    Name(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MemoryKeys {
    start: Number,
    size: Number,
    node: Option<u32>,
    #[serde(default)]
    hotplug: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RangeKeys {
    start: Number,
    size: Number,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct E820Keys {
    start: Number,
    size: Number,
    #[serde(rename = "type")]
    kind: Kind,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct GivenKeys {
    text_phys: Option<Number>,
    text_virt: Option<Number>,
    linear_start: Option<Number>,
    page_offset_base: Option<Number>,
    vmalloc_base: Option<Number>,
    vmemmap_base: Option<Number>,
    dtb: Option<Number>,
    kfence_pool: Option<Number>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    arch: String,
    model: Option<String>,
    cmdline: Option<String>,
    era: Option<String>,
    cpu: Option<String>,
    cpus: Option<u32>,
    kaslr_seed: Option<Number>,
    dma_limit: Option<Number>,
    #[serde(default)]
    memory: Vec<MemoryKeys>,
    #[serde(default)]
    no_map: Vec<RangeKeys>,
    #[serde(default)]
    reserved: Vec<RangeKeys>,
    initrd: Option<RangeKeys>,
    #[serde(default)]
    e820: Vec<E820Keys>,
    #[serde(default)]
    given: GivenKeys,
}

/// A value that is not what its key needs.
struct Wrong(&'static str, &'static str);

const NUMBER: &str = "a number such as 4096, \"0x1000\" or \"4K\"";

fn number(key: &'static str, number: &Number) -> Result<u64, Wrong> {
    number.value().ok_or(Wrong(key, NUMBER))
}

fn optional(key: &'static str, value: &Option<Number>) -> Result<Option<u64>, Wrong> {
    value.as_ref().map(|value| number(key, value)).transpose()
}

fn range(key: &'static str, start: &Number, size: &Number) -> Result<PhysRange, Wrong> {
    let range = PhysRange::of_size(PhysAddr(number(key, start)?), number(key, size)?);
    range.filter(|range| !range.is_empty()).ok_or(Wrong(key, "a range that is not empty and ends below 2^64"))
}

/// Whether a text can only be such a description.
pub(crate) fn is_toml(text: &str) -> bool {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.next().is_some_and(|line| {
        let is_key = |key: &str| {
            !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'"'))
        };
        line.starts_with('[') && line.ends_with(']') || line.split_once('=').is_some_and(|(key, _)| is_key(key.trim()))
    })
}

/// Reads a description.
///
/// # Errors
/// The first key that is unknown or has a wrong value.
pub(crate) fn parse(file: &Path, text: &str) -> Result<Described, SourceError> {
    let keys: Keys = toml::from_str(text).map_err(|error| {
        let line = error.span().map_or(0, |span| text.bytes().take(span.start).filter(|b| *b == b'\n').count());
        SourceError::new(file, Problem::Toml { line: line + 1, error })
    })?;
    describe(&keys).map_err(|Wrong(key, expected)| SourceError::new(file, Problem::Value { key, expected }))
}

fn describe(keys: &Keys) -> Result<Described, Wrong> {
    let arch = Arch::from_name(&keys.arch).ok_or(Wrong("arch", "\"arm64\", \"x86_64\" or \"i386\""))?;
    let mut machine = match arch {
        Arch::X86_64 | Arch::I386 => Machine { arch, ..x86(keys)? },
        Arch::Arm64 if !keys.e820.is_empty() => return Err(Wrong("e820", "no firmware map on arm64")),
        Arch::Arm64 => Machine { memory: banks(keys)?, ..Machine::new(arch) },
    };
    machine.model.clone_from(&keys.model);
    machine.bootargs.clone_from(&keys.cmdline);
    machine.cpus = keys.cpus.unwrap_or(1);
    machine.kaslr_seed = optional("kaslr_seed", &keys.kaslr_seed)?;
    machine.dma_limit = optional("dma_limit", &keys.dma_limit)?.unwrap_or(u64::MAX);
    machine.initrd = keys.initrd.as_ref().map(|keys| range("initrd", &keys.start, &keys.size)).transpose()?;
    for (name, no_map, list) in [("no_map", true, &keys.no_map), ("reserved", false, &keys.reserved)] {
        for keys in list {
            let ranges = vec![range(name, &keys.start, &keys.size)?];
            machine.reserved.push(Reserved { name: name.to_owned(), ranges, no_map, ..Reserved::default() });
        }
    }
    let era = keys.era.as_deref().map(|era| era.parse().map_err(|_| Wrong("era", "one of 4.14, 5.10, 6.1, 6.12, 7.2")));
    Ok(Described { machine, era: era.transpose()?, cpu: keys.cpu.clone(), given: given(&keys.given)? })
}

fn banks(keys: &Keys) -> Result<Vec<Bank>, Wrong> {
    let banks = keys.memory.iter().map(|keys| {
        let range = range("memory", &keys.start, &keys.size)?;
        Ok(Bank { range, nid: keys.node, hotplug: keys.hotplug })
    });
    banks.collect()
}

/// Without a firmware map, banks become one.
fn x86(keys: &Keys) -> Result<Machine, Wrong> {
    let banks = banks(keys)?;
    let mut map = E820Table::new();
    for entry in &keys.e820 {
        let kind = match &entry.kind {
            Kind::Number(number) => E820Type(*number),
            Kind::Name(name) => E820Type::from_name(name).ok_or(Wrong("type", "a type as a boot log names it"))?,
        };
        let range = range("e820", &entry.start, &entry.size)?;
        map.add(range.start.0, range.size(), kind);
    }
    if map.is_empty() {
        for bank in &banks {
            map.add(bank.range.start.0, bank.range.size(), E820Type::RAM);
        }
    }
    let mut machine = Machine::with_e820(map);
    let blocks = banks
        .iter()
        .filter_map(|bank| bank.nid.map(|node| NumaBlock { node, range: bank.range, hotplug: bank.hotplug }));
    machine.numa = blocks.collect();
    Ok(machine)
}

fn given(keys: &GivenKeys) -> Result<Given, Wrong> {
    let phys = |key, value| optional(key, value).map(|value| value.map(PhysAddr));
    let virt = |key, value| optional(key, value).map(|value| value.map(VirtAddr));
    Ok(Given {
        text_phys: phys("text_phys", &keys.text_phys)?,
        text_virt: virt("text_virt", &keys.text_virt)?,
        linear_start: virt("linear_start", &keys.linear_start)?,
        page_offset_base: virt("page_offset_base", &keys.page_offset_base)?,
        vmalloc_base: virt("vmalloc_base", &keys.vmalloc_base)?,
        vmemmap_base: virt("vmemmap_base", &keys.vmemmap_base)?,
        dtb: phys("dtb", &keys.dtb)?,
        kfence_pool: phys("kfence_pool", &keys.kfence_pool)?,
        ..Given::default()
    })
}

/// Reads a description only to see whether it can be read.
///
/// # Errors
/// As [`crate::Source::from_bytes`].
pub fn check(name: &str, text: &str) -> Result<(), SourceError> {
    parse(Path::new(name), text).map(|_| ())
}
