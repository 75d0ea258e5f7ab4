//! Words of the command line that Linux refuses or passes over, each with what stays in force.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use kernmem_base::{Era, Granule};
use kernmem_config::cmdline::{CrashFault, HugeFault};
use kernmem_config::{Arch, Config, Rodata, Warning};

/// What the questions about memory found wrong with the words of `config`.
#[must_use]
pub fn of(config: &Config) -> Vec<String> {
    let (line, era, arch) = (&config.cmdline, config.era, config.arch);
    let mut all = Vec::new();
    let rodata = config.rodata();
    all.extend(rodata.warnings.iter().map(|warning| match warning {
        Warning::InvalidRodata(_) | Warning::Malformed { .. } => {
            format!("{}; {}", text(warning), rodata_note(era, arch, rodata.value))
        }
        other => text(other),
    }));
    let granule = match arch {
        Arch::Arm64 => config.kconfig.arm64_granule(),
        Arch::X86_64 | Arch::I386 => Granule::K4,
    };
    let lists = [
        config.debug_pagealloc().warnings,
        config.kfence_sample_interval().warnings,
        line.kpti(era).warnings,
        line.mem(era, arch, granule).warnings,
        line.kernelcore(era).warnings,
        line.movablecore(era).warnings,
        line.cma(era).warnings,
    ];
    all.extend(lists.iter().flatten().map(text));
    all
}

/// The name of a protection as this era's command line writes it.
#[must_use]
pub const fn rodata_name(era: Era, arch: Arch, rodata: Rodata) -> &'static str {
    match (arch, era, rodata) {
        (Arch::Arm64, Era::V7_2, Rodata::Full) => "on",
        (Arch::Arm64, Era::V7_2, Rodata::On) => "noalias",
        (_, _, Rodata::Full) => "full",
        (_, _, Rodata::On) => "on",
        (_, _, Rodata::Off) => "off",
    }
}

/// Which words an era knows, and what is in force.
#[must_use]
pub fn rodata_note(era: Era, arch: Arch, in_force: Rodata) -> String {
    let words = match (arch, era) {
        (Arch::Arm64, Era::V5_10) => "a boolean or full",
        (Arch::Arm64, Era::V6_1 | Era::V6_12) => "on, off or full; 5.10 also read booleans, where 0 meant off",
        (Arch::Arm64, Era::V7_2) => "on, off or noalias; here on protects the linear alias too, as full did before",
        (_, Era::V4_14 | Era::V5_10) => "a boolean",
        (Arch::X86_64 | Arch::I386, Era::V6_1 | Era::V6_12 | Era::V7_2) => {
            "on or off; 5.10 read booleans, where 0 meant off"
        }
    };
    format!("{era} reads {words}; rodata={} stays in force", rodata_name(era, arch, in_force))
}

fn word(name: &str, value: Option<&str>) -> String {
    value.map_or_else(|| String::from(name), |value| format!("{name}={value}"))
}

/// One warning as a sentence.
#[must_use]
pub fn text(warning: &Warning) -> String {
    match warning {
        Warning::Malformed { name, value } => {
            format!("`{}` is malformed and changes nothing", word(name, value.as_deref()))
        }
        Warning::InvalidRodata(value) => format!("`rodata={value}` is an invalid option string"),
        Warning::InvalidParameter { name, value } => {
            format!("`{}` is an invalid value and changes nothing", word(name, value.as_deref()))
        }
        Warning::HugePages(fault) => huge(fault),
        Warning::CrashKernel(fault) => format!("`crashkernel=` is passed over: {}", crash(*fault)),
        Warning::Ignored(word) => format!("`{word}` means nothing on this architecture"),
        _ => String::from("a word is passed over"),
    }
}

fn huge(fault: &HugeFault) -> String {
    match fault {
        HugeFault::UnsupportedSize(size) => format!("`hugepagesz={size}`: this kernel has no such huge pages"),
        HugeFault::SizeTwice(size) => format!("`hugepagesz={size}` stands twice; the second is passed over"),
        HugeFault::UnsupportedDefault(size) => format!("`default_hugepagesz={size}`: no such huge pages"),
        HugeFault::DefaultTwice(size) => format!("`default_hugepagesz={size}` is the second one and passed over"),
        HugeFault::NoValidSize(count) => format!("`hugepages={count}` follows a size that was refused"),
        HugeFault::CountTwice(count) => format!("`hugepages={count}` is the second count for its size"),
        HugeFault::InvalidCount(count) => format!("`hugepages={count}` is no count"),
        _ => String::from("a word about huge pages is passed over"),
    }
}

fn crash(fault: CrashFault) -> String {
    match fault {
        CrashFault::MemoryValueExpected => "a number was expected".into(),
        CrashFault::UnrecognizedChar(c) => format!("`{c}` behind a number means nothing"),
        CrashFault::DashExpected => "a range needs its `-`".into(),
        CrashFault::EndBelowStart => "a range ends at or below its start".into(),
        CrashFault::ColonExpected => "a range needs its `:`".into(),
        CrashFault::InvalidSize => "the size is all of memory or more".into(),
        CrashFault::ZeroBytes => "no range holds this machine's memory, or the size is 0".into(),
        _ => "it could not be read".into(),
    }
}
