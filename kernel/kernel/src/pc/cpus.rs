//! How many CPUs may come up, and when lock prefixes of a kernel for several are freed.
//!
//! Source: Linux 5.10–7.2 arch/x86/kernel/smpboot.c, topology.c; arch/x86/kernel/alternative.c.

use kernmem_arch::x86::image::frees_smp_locks;
use kernmem_base::Era;
use kernmem_config::Config;

use super::given::Milestone;
use crate::managed::Moment;

/// CPUs that may ever come up, after the words that limit them.
///
/// | words | 4.14 (UNVERIFIED), 5.10, 6.1 | 6.12, 7.2 |
/// |---|---|---|
/// | `nosmp`, `maxcpus=0` | one | one |
/// | `possible_cpus=n` | n, at most as many as the kernel can have | at most n |
/// | `maxcpus=n` without CPU hotplug | at most n | those that firmware tells |
/// | else | those that firmware tells | the same |
///
/// Never more than the kernel was built for, or than `nr_cpus=`.
///
/// Source: Linux 5.10, 6.1 arch/x86/kernel/smpboot.c `prefill_possible_map`; 6.12, 7.2 arch/x86/kernel/cpu/topology.c
/// `topology_apply_cmdline_limits_early`.
pub(crate) fn possible_cpus(config: &Config) -> u32 {
    let built = config.kconfig.number("NR_CPUS").unwrap_or(1) as u32;
    let (told, limit) = (config.possible_cpus, config.cmdline.maxcpus());
    let wished = config.cmdline.possible_cpus();
    let cpus = match config.era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 => match (wished, limit) {
            (Some(wished), _) => wished,
            (None, Some(limit)) if !config.kconfig.is_set("HOTPLUG_CPU") => told.min(limit),
            (None, _) => told,
        },
        Era::V6_12 | Era::V7_2 => wished.map_or(told, |wished| wished.min(told)),
    };
    if limit == Some(0) { 1 } else { cpus.min(config.cmdline.nr_cpus(built)).max(1) }
}

/// Whether lock prefixes are freed `now`, once it is known that several CPUs run, and in which figures they count.
///
/// | era | when | counts in |
/// |---|---|---|
/// | 4.14 (UNVERIFIED), 5.10, 6.1, 6.12 | while one CPU runs | reserves and watermarks |
/// | 7.2 | when all run | watermarks |
///
/// Source: Linux 5.10–6.12 arch/x86/kernel/alternative.c `alternative_instructions`; 7.2 an initcall there.
pub(crate) fn smp_locks_are_freed(config: &Config, cpus: u32, now: Milestone) -> Option<Moment> {
    let (then, moment) = match config.era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 | Era::V6_12 => (Milestone::OneCpu, Moment::BeforeReserves),
        Era::V7_2 => (Milestone::AllCpus, Moment::BeforeWatermarks),
    };
    let present = config.possible_cpus.min(cpus);
    let alone = present == 1 || config.cmdline.maxcpus().is_some_and(|limit| limit <= 1);
    let patched = alone && !config.cmdline.has("noreplace-smp");
    (now == then && frees_smp_locks(patched, cpus)).then_some(moment)
}
