//! The machines that are built in: one of each architecture. Their kernels are those of [`crate::builtin`].

use std::path::Path;

use kernmem_base::{PhysAddr, VirtAddr};
use kernmem_config::{Arch, Arm64Cpu, Cpu, Given, X86Cpu};
use kernmem_firmware::{Devicetree, Machine, e820};

use crate::{Problem, SourceError, read};

/// A machine, and what its loader did.
pub(crate) struct Preset {
    pub(crate) machine: Machine,
    pub(crate) cmdline: &'static str,
    pub(crate) cpu: Cpu,
    pub(crate) given: Given,
}

/// The names of the presets.
pub const PRESETS: [&str; 3] = ["arm64-4g", "x86-4g", "i386-2g"];

/// The preset of that name.
pub(crate) fn named(name: &str) -> Option<Result<Preset, SourceError>> {
    match name {
        "arm64-4g" => Some(arm64(name)),
        "x86-4g" => Some(x86(name)),
        "i386-2g" => Some(i386(name)),
        _ => None,
    }
}

/// The preset whose CPU serves a machine of that architecture.
pub(crate) fn for_arch(arch: Arch) -> Result<Preset, SourceError> {
    match arch {
        Arch::Arm64 => arm64("arm64-4g"),
        Arch::X86_64 => x86("x86-4g"),
        Arch::I386 => i386("i386-2g"),
    }
}

/// QEMU's `virt` with two Cortex-A72 and 4 GiB.
fn arm64(name: &str) -> Result<Preset, SourceError> {
    let blob = read::unpack(Path::new(name), include_bytes!("../presets/arm64-4g/final.dtb.gz").to_vec())?;
    let tree = Devicetree::parse(&blob).map_err(|error| SourceError::new(name, Problem::Devicetree(error)))?;
    let model = "cortex-a72";
    let cpu = Arm64Cpu::by_model(model).ok_or_else(|| SourceError::new(name, Problem::UnknownCpu(model.to_owned())))?;
    let given = Given { text_phys: Some(PhysAddr(0x4020_0000)), dtb: Some(PhysAddr(0x4820_0000)), ..Given::default() };
    let cmdline = "console=ttyAMA0 rodata=off";
    Ok(Preset { machine: tree.machine(), cmdline, cpu: Cpu::Arm64(cpu), given })
}

/// QEMU's `pc` with two Haswell and 4 GiB, and a kernel without KASLR.
fn x86(name: &str) -> Result<Preset, SourceError> {
    let cpu = X86Cpu::from_cpuinfo(include_str!("../presets/x86-4g/cpuinfo"));
    let cpu = cpu.ok_or_else(|| SourceError::new(name, Problem::NoFlags))?;
    let mut machine = Machine::with_e820(e820::parse_e820(include_str!("../presets/x86-4g/e820.txt")));
    machine.cpus = cpu.processors;
    let firmware = [
        (0xbffe_19df, 0xbffe_1a52, "ACPI FACP"),
        (0xbffe_0040, 0xbffe_19de, "ACPI DSDT"),
        (0xbffe_0000, 0xbffe_003f, "ACPI FACS"),
        (0xbffe_1a53, 0xbffe_1ad2, "ACPI APIC"),
        (0xbffe_1ad3, 0xbffe_1b0a, "ACPI HPET"),
        (0xbffe_1b0b, 0xbffe_1b32, "ACPI WAET"),
        (0x000f_5ba0, 0x000f_5baf, "MP table"),
    ];
    let given = Given {
        initrd: Some((0xbffd_f000, 0xbffd_ffff)),
        firmware: firmware.map(|(start, last, name)| (start, last, name.to_owned())).to_vec(),
        ..unmoved_x86()
    };
    let cmdline = "console=ttyS0 nokaslr";
    Ok(Preset { machine, cmdline, cpu: Cpu::X86(cpu), given })
}

/// QEMU's `pc` with two CPUs of 32 bits and 2 GiB.
fn i386(name: &str) -> Result<Preset, SourceError> {
    let cpu = X86Cpu::from_cpuinfo(include_str!("../presets/i386-2g/cpuinfo"));
    let cpu = cpu.ok_or_else(|| SourceError::new(name, Problem::NoFlags))?;
    let mut machine = Machine::with_e820(e820::parse_e820(include_str!("../presets/i386-2g/e820.txt")));
    machine.arch = Arch::I386;
    machine.cpus = cpu.processors;
    let given = Given { initrd: Some((0x7ffd_f000, 0x7ffd_ffff)), ..unmoved_i386() };
    Ok(Preset { machine, cmdline: "console=ttyS0 nokaslr", cpu: Cpu::X86(cpu), given })
}

/// Where an i386 kernel lies that drew nothing.
pub(crate) fn unmoved_i386() -> Given {
    Given { text_phys: Some(PhysAddr(0x100_0000)), ..Given::default() }
}

/// Where an x86-64 kernel with four levels lies that drew nothing.
pub(crate) fn unmoved_x86() -> Given {
    Given {
        text_phys: Some(PhysAddr(0x100_0000)),
        text_virt: Some(VirtAddr(0xffff_ffff_8100_0000)),
        page_offset_base: Some(VirtAddr(0xffff_8880_0000_0000)),
        vmalloc_base: Some(VirtAddr(0xffff_c900_0000_0000)),
        vmemmap_base: Some(VirtAddr(0xffff_ea00_0000_0000)),
        ..Given::default()
    }
}
