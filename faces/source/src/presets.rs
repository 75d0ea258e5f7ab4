//! The machines that are built in: one of each architecture, with the kernel they were recorded with.

use std::path::Path;

use kernmem_base::{Era, PhysAddr};
use kernmem_config::{Arch, Arm64Cpu, Cpu, Given};
use kernmem_firmware::{Devicetree, Machine};

use crate::kernel::KernelFiles;
use crate::{Problem, SourceError, read};

/// A machine with its kernel.
pub(crate) struct Preset {
    pub(crate) machine: Machine,
    pub(crate) kernel: KernelFiles,
    pub(crate) cmdline: &'static str,
    pub(crate) cpu: Cpu,
    pub(crate) given: Given,
    pub(crate) era: Era,
}

/// The names of the presets.
pub const PRESETS: [&str; 1] = ["arm64-4g"];

/// The preset of that name.
pub(crate) fn named(name: &str) -> Option<Result<Preset, SourceError>> {
    match name {
        "arm64-4g" => Some(arm64()),
        _ => None,
    }
}

/// The preset whose kernel serves a machine of that architecture.
pub(crate) fn for_arch(arch: Arch) -> Result<Preset, SourceError> {
    match arch {
        Arch::Arm64 | Arch::X86_64 => arm64(),
    }
}

/// QEMU's `virt` with two Cortex-A72 and 4 GiB, and a small 6.1 kernel.
fn arm64() -> Result<Preset, SourceError> {
    let name = "arm64-4g";
    let blob = read::unpack(Path::new(name), include_bytes!("../presets/arm64-4g/final.dtb.gz").to_vec())?;
    let tree = Devicetree::parse(&blob).map_err(|error| SourceError::new(name, Problem::Devicetree(error)))?;
    let kernel = KernelFiles::embedded(
        name,
        include_bytes!("../presets/arm64-4g/config.gz"),
        include_bytes!("../presets/arm64-4g/System.map.zst"),
        include_str!("../presets/arm64-4g/sizes.csv"),
    )?;
    let model = "cortex-a72";
    let cpu = Arm64Cpu::by_model(model).ok_or_else(|| SourceError::new(name, Problem::UnknownCpu(model.to_owned())))?;
    let cmdline = "console=ttyAMA0 rodata=off";
    let mut machine = tree.machine();
    machine.bootargs = Some(cmdline.to_owned());
    let given = Given { text_phys: Some(PhysAddr(0x4020_0000)), dtb: Some(PhysAddr(0x4820_0000)), ..Given::default() };
    Ok(Preset { machine, kernel, cmdline, cpu: Cpu::Arm64(cpu), given, era: Era::V6_1 })
}
