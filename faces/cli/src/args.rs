//! The verbs, and the options that describe a kernel, which are the same for every verb.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use kernmem_base::{Era, Granule};
use kernmem_config::Arch;

use crate::numbers::{parse_number, parse_size};
use crate::{diff, explain, info, lab, layout, ptdump, record, shell, verify, walk};

/// Boots the memory subsystem of a Linux kernel and tells what it made of the machine.
#[derive(Debug, Parser)]
#[command(name = "kernmem", version, args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
pub struct Cli {
    /// Options of `boot`, which is what no verb means.
    #[command(flatten)]
    pub boot: crate::boot::BootArgs,
    #[command(subcommand)]
    pub verb: Option<Verb>,
}

/// What is asked.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Boot a machine and tell it on one page: log, memory, address space, linear map, costs
    Boot {
        /// A preset (arm64-4g, x86-4g, i386-2g), a devicetree, a machine's TOML, a boot log, an iomem text, a recording, or `-`
        source: Option<String>,
        #[command(flatten)]
        options: crate::boot::BootArgs,
    },
    /// Print page tables, as that Linux prints them or in our own forms
    Ptdump(ptdump::PtdumpArgs),
    /// Print the regions of an address space as the kernel's documentation does
    Layout(layout::LayoutArgs),
    /// Print the files of /proc and sysfs about memory in Linux's own format, of a kernel that has just come up
    Info(info::InfoArgs),
    /// Follow one address through the tables, level by level
    Walk(walk::WalkArgs),
    /// Tell what an address is, every alias, and why it is mapped at this size with these rights
    Explain(explain::ExplainArgs),
    /// Compare the tables of two machines or configurations; exit status 1 on a difference
    Diff(diff::DiffArgs),
    /// Run an experiment of the documents and judge its claims; without a name, list them
    Lab(lab::LabArgs),
    /// Run a kernel under commands: from a script, from standard input, or typed
    Shell(shell::ShellArgs),
    /// Boot recordings from their inputs alone and compare every file; exit status 1 on a difference
    Verify(verify::VerifyArgs),
    /// Print the shell script that collects a recording on a running Linux: kernmem record >record.sh
    Record(record::RecordArgs),
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// What describes a kernel in place of the source's own; of a source without a kernel, which built-in one it is.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "The kernel")]
pub struct KernelArgs {
    /// Architecture: arm64 or x86-64; chooses the preset where no source is named
    #[arg(long, value_parser = parse_arch)]
    pub arch: Option<Arch>,
    /// Branch of Linux: 4.14, 5.10, 6.1, 6.12 or 7.2; boot, explain and layout tell all of them side by side. A preset
    /// and a machine's file take the kernel that is built in for it, 6.1 unless told
    #[arg(long, value_parser = parse_eras)]
    pub era: Option<Eras>,
    /// arm64: page size, 4K, 16K or 64K; chooses the built-in kernel
    #[arg(long, value_parser = parse_page_size)]
    pub page_size: Option<Granule>,
    /// arm64: bits of virtual addresses that the kernel is built for; chooses the built-in kernel
    #[arg(long)]
    pub va_bits: Option<u32>,
    /// The kernel's command line
    #[arg(long, allow_hyphen_values = true)]
    pub cmdline: Option<String>,
    /// The kernel's configuration file; with --symbols a kernel that is not built in
    #[arg(long, value_name = "FILE")]
    pub kconfig: Option<PathBuf>,
    /// arm64: the CPU's model; x86: a list of features
    #[arg(long)]
    pub cpu: Option<String>,
    /// The kernel's System.map
    #[arg(long, value_name = "FILE")]
    pub symbols: Option<PathBuf>,
    /// Seed of KASLR
    #[arg(long, value_parser = parse_number)]
    pub seed: Option<u64>,
    /// Memory in place of the machine's, such as 64G
    #[arg(long, value_parser = parse_size, value_name = "SIZE")]
    pub memory: Option<u64>,
}

/// One era or all of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Eras {
    /// One.
    One(Era),
    /// All, side by side.
    All,
}

/// An era, or `all`.
pub fn parse_eras(text: &str) -> Result<Eras, String> {
    if text == "all" {
        return Ok(Eras::All);
    }
    text.parse().map(Eras::One).map_err(|error| format!("{error}, or all"))
}

/// An architecture by name.
pub fn parse_arch(text: &str) -> Result<Arch, &'static str> {
    Arch::from_name(text).ok_or("one of arm64, x86-64")
}

/// A page size that arm64 has.
pub fn parse_page_size(text: &str) -> Result<Granule, &'static str> {
    let sizes = [Granule::K4, Granule::K16, Granule::K64];
    let bytes = parse_size(text).unwrap_or(0);
    sizes.into_iter().find(|granule| granule.bytes() == bytes).ok_or("one of 4K, 16K, 64K")
}
