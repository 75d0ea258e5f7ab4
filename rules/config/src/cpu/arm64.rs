//! arm64 CPUs by model: identification registers, and the facts that a boot reads from them.
//!
//! Source: Arm ARM, ID_AA64MMFR0_EL1 to ID_AA64PFR1_EL1; Linux 5.10–7.2 arch/arm64/kernel/cpufeature.c
//! `unmap_kernel_at_el0`.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::string::String;

use kernmem_base::Granule;

use crate::number::leading_number;

/// Registers of the models that kernmem knows: lines of model, register, value.
const MODELS: &str = include_str!("../../data/cpus.csv");

/// Models that Linux trusts not to leak kernel mappings (its list of safe CPUs), as the emulator names them.
const SAFE_MODELS: [&str; 6] = ["cortex-a35", "cortex-a53", "cortex-a55", "cortex-a57", "cortex-a72", "cortex-a73"];

/// Models whose FEAT_CSV3 is known although the table lacks the register.
const CSV3_MODELS: [&str; 2] = ["max", "neoverse-n1"];

/// Models that Linux trusts to change block sizes in place without an abort: name, implementer and part as MIDR_EL1 has
/// them, and the first revision of variant 0; without one every variant counts.
const BBML2_MODELS: [(&str, u64, u64, Option<u64>); 6] = [
    ("cortex-x4", 0x41, 0xd82, Some(3)),
    ("neoverse-v3", 0x41, 0xd84, Some(2)),
    ("neoverse-v3ae", 0x41, 0xd83, Some(2)),
    ("nvidia-olympus", 0x4e, 0x010, None),
    ("ampere1", 0xc0, 0xac3, None),
    ("ampere1a", 0xc0, 0xac4, None),
];

/// What the decision on page-table isolation depends on beside the CPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct KptiFacts {
    /// `CONFIG_UNMAP_KERNEL_AT_EL0`.
    pub unmap_built_in: bool,
    /// `CONFIG_ARM64_E0PD`.
    pub e0pd_built_in: bool,
    /// `kpti=`.
    pub forced: Option<bool>,
    /// Whether the image was moved.
    pub kaslr: bool,
    /// Whether the command line turns mitigations off.
    pub mitigations_off: bool,
}

/// An arm64 CPU: its model and its identification registers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Arm64Cpu {
    /// The model's name with its options.
    pub model: String,
    registers: BTreeMap<String, u64>,
}

impl Arm64Cpu {
    /// A model of the built-in table.
    #[must_use]
    pub fn by_model(model: &str) -> Option<Self> {
        Self::from_csv(MODELS, model)
    }

    /// The names of the built-in table.
    pub fn models() -> impl Iterator<Item = &'static str> {
        let lines = MODELS.lines().filter_map(fields).map(|(model, _, _)| model);
        let mut last = "";
        lines.filter(move |model| core::mem::replace(&mut last, model) != *model)
    }

    /// A model of a table with the columns model, register, value; `None` if the table does not name it.
    #[must_use]
    pub fn from_csv(csv: &str, model: &str) -> Option<Self> {
        let lines = csv.lines().filter_map(fields).filter(|(name, _, _)| *name == model);
        let registers: BTreeMap<String, u64> = lines.map(|(_, register, value)| (register.to_owned(), value)).collect();
        (!registers.is_empty()).then(|| Self { model: model.to_owned(), registers })
    }

    /// A CPU made of registers.
    #[must_use]
    pub fn from_registers(model: &str, registers: impl IntoIterator<Item = (String, u64)>) -> Self {
        Self { model: model.to_owned(), registers: registers.into_iter().collect() }
    }

    /// A register's value; 0 if the table lacks it.
    #[must_use]
    pub fn register(&self, name: &str) -> u64 {
        self.registers.get(name).copied().unwrap_or(0)
    }

    fn field(&self, register: &str, shift: u32) -> u64 {
        self.register(register) >> shift & 0xf
    }

    /// Physical address bits (PARange).
    #[must_use]
    pub fn physical_bits(&self) -> u32 {
        match self.field("ID_AA64MMFR0_EL1", 0) {
            0 => 32,
            1 => 36,
            2 => 40,
            3 => 42,
            4 => 44,
            5 => 48,
            6 => 52,
            _ => 56,
        }
    }

    /// Bits of an address-space identifier.
    #[must_use]
    pub fn asid_bits(&self) -> u32 {
        if self.field("ID_AA64MMFR0_EL1", 4) == 2 { 16 } else { 8 }
    }

    /// Whether the MMU has this granule at stage 1.
    #[must_use]
    pub fn has_granule(&self, granule: Granule) -> bool {
        match granule {
            Granule::K4 => self.field("ID_AA64MMFR0_EL1", 28) < 8,
            Granule::K16 => self.field("ID_AA64MMFR0_EL1", 20) != 0,
            Granule::K64 => self.field("ID_AA64MMFR0_EL1", 24) < 8,
        }
    }

    /// FEAT_LPA2 at stage 1: 52-bit addresses with this granule.
    #[must_use]
    pub fn has_lpa2(&self, granule: Granule) -> bool {
        match granule {
            Granule::K4 => self.field("ID_AA64MMFR0_EL1", 28) == 1,
            Granule::K16 => self.field("ID_AA64MMFR0_EL1", 20) == 2,
            Granule::K64 => false,
        }
    }

    /// FEAT_LVA: 52-bit virtual addresses with 64K pages.
    #[must_use]
    pub fn has_lva(&self) -> bool {
        self.field("ID_AA64MMFR2_EL1", 16) >= 1
    }

    /// Whether a kernel with this page size finds 52 bits of virtual addresses.
    ///
    /// | page | what the CPU must have |
    /// |---|---|
    /// | 4K, 16K | LPA2 for this page size |
    /// | 64K | LVA |
    ///
    /// Source: Linux 5.10, 6.1 arch/arm64/kernel/head.S `primary_entry`; 6.12, 7.2 arch/arm64/kernel/pi/map_kernel.c.
    #[must_use]
    pub fn has_52_bits(&self, granule: Granule) -> bool {
        match granule {
            Granule::K4 | Granule::K16 => self.has_lpa2(granule),
            Granule::K64 => self.has_lva(),
        }
    }

    /// Level of break-before-make support (BBM): 2 allows changing block sizes in place.
    #[must_use]
    pub fn bbm(&self) -> u64 {
        self.field("ID_AA64MMFR2_EL1", 52)
    }

    /// Whether changing block sizes in place is allowed and raises no conflict abort: by Linux's list of models, as
    /// MIDR_EL1 tells them, or by name where that register is not known (then of every revision); what the feature
    /// register says does not count.
    ///
    /// Source: Linux 7.2 arch/arm64/kernel/cpufeature.c `cpu_supports_bbml2_noabort`.
    #[must_use]
    pub fn has_bbml2_noabort(&self) -> bool {
        let midr = self.register("MIDR_EL1");
        if midr == 0 {
            return BBML2_MODELS.iter().any(|(name, ..)| *name == self.base_model());
        }
        let (implementer, variant) = (midr >> 24 & 0xff, midr >> 20 & 0xf);
        let (part, revision) = (midr >> 4 & 0xfff, midr & 0xf);
        BBML2_MODELS.iter().any(|&(_, by, number, first)| {
            (by, number) == (implementer, part) && first.is_none_or(|first| variant == 0 && revision >= first)
        })
    }

    /// FEAT_E0PD: user accesses to the kernel's half fault in constant time.
    #[must_use]
    pub fn has_e0pd(&self) -> bool {
        self.field("ID_AA64MMFR2_EL1", 60) >= 1
    }

    /// FEAT_CSV3: speculation cannot read what the tables forbid.
    #[must_use]
    pub fn has_csv3(&self) -> bool {
        self.field("ID_AA64PFR0_EL1", 60) >= 1 || CSV3_MODELS.contains(&self.base_model())
    }

    /// FEAT_RNG: the CPU has random numbers of its own.
    #[must_use]
    pub fn has_rndr(&self) -> bool {
        self.field("ID_AA64ISAR0_EL1", 60) >= 1
    }

    /// FEAT_HAFDBS: hardware sets the access flag (1) and the dirty state (2).
    #[must_use]
    pub fn hafdbs(&self) -> u64 {
        self.field("ID_AA64MMFR1_EL1", 0)
    }

    /// FEAT_PAN, FEAT_HPDS and others are read by their fields; this is FEAT_CnP.
    #[must_use]
    pub fn has_cnp(&self) -> bool {
        self.field("ID_AA64MMFR2_EL1", 0) >= 1
    }

    /// FEAT_TLBIRANGE.
    #[must_use]
    pub fn has_tlbi_range(&self) -> bool {
        self.field("ID_AA64ISAR0_EL1", 56) >= 2
    }

    /// FEAT_BTI.
    #[must_use]
    pub fn has_bti(&self) -> bool {
        self.field("ID_AA64PFR1_EL1", 0) >= 1
    }

    /// Memory tagging: 2 and more means tags in memory.
    #[must_use]
    pub fn mte(&self) -> u64 {
        self.field("ID_AA64PFR1_EL1", 8)
    }

    /// Smallest cache line of the data caches, in bytes.
    #[must_use]
    pub fn dcache_line(&self) -> u64 {
        4 << (self.register("CTR_EL0") >> 16 & 0xf)
    }

    fn base_model(&self) -> &str {
        self.model.split(',').next().unwrap_or("")
    }

    /// Whether Linux lists the model as one that needs no page-table isolation.
    #[must_use]
    pub fn is_kpti_safe(&self) -> bool {
        SAFE_MODELS.contains(&self.base_model())
    }

    /// Whether the kernel unmaps itself while user code runs: the same rule in all eras.
    ///
    /// | built in | `kpti=` | KASLR | mitigations | answer |
    /// |---|---|---|---|---|
    /// | no | – | – | – | no |
    /// | yes | given | – | – | that |
    /// | yes | – | on | – | yes, unless the CPU has E0PD and the kernel uses it |
    /// | yes | – | – | off | no |
    /// | yes | – | – | – | no if the CPU has CSV3 or is a safe model; else yes |
    ///
    /// Source: Linux 5.10–7.2 arch/arm64/kernel/cpufeature.c `unmap_kernel_at_el0`; that KASLR comes before
    /// `mitigations=` is UNVERIFIED.
    #[must_use]
    pub fn kpti_needed(&self, facts: KptiFacts) -> bool {
        let safe = self.has_csv3() || self.is_kpti_safe();
        let e0pd = self.has_e0pd() && facts.e0pd_built_in;
        match facts.forced {
            _ if !facts.unmap_built_in => false,
            Some(on) => on,
            None if facts.kaslr && !e0pd => true,
            None => !facts.mitigations_off && !safe,
        }
    }
}

/// Model, register and value of a line; models may be quoted.
fn fields(line: &str) -> Option<(&str, &str, u64)> {
    let line = line.trim();
    let (model, rest) = match line.strip_prefix('"') {
        Some(quoted) => {
            let (model, rest) = quoted.split_once('"')?;
            (model, rest.strip_prefix(',')?)
        }
        None => line.split_once(',')?,
    };
    let (register, value) = rest.split_once(',')?;
    let number = leading_number(value);
    (!value.is_empty() && number.rest.is_empty()).then_some((model, register, number.value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_72_has_44_bits_and_no_late_features() {
        let cpu = Arm64Cpu::by_model("cortex-a72").unwrap();
        assert_eq!((cpu.physical_bits(), cpu.asid_bits(), cpu.dcache_line()), (44, 16, 64));
        assert!(!cpu.has_e0pd() && !cpu.has_rndr() && !cpu.has_lva() && cpu.is_kpti_safe());
        assert!(cpu.has_granule(Granule::K4) && !cpu.has_granule(Granule::K16) && cpu.has_granule(Granule::K64));
    }

    #[test]
    fn the_largest_model_has_them_and_its_option_takes_lpa2_away() {
        let cpu = Arm64Cpu::by_model("max").unwrap();
        assert!(cpu.has_lpa2(Granule::K4) && cpu.has_lpa2(Granule::K16) && cpu.has_lva() && cpu.has_rndr());
        assert!(cpu.has_e0pd());
        assert_eq!((cpu.physical_bits(), cpu.bbm()), (52, 2));
        assert!(!cpu.has_bbml2_noabort() && Arm64Cpu::from_registers("cortex-x4", []).has_bbml2_noabort());
        let cpu = Arm64Cpu::by_model("max,lpa2=off").unwrap();
        assert!(!cpu.has_lpa2(Granule::K4) && !cpu.has_lpa2(Granule::K16) && cpu.has_granule(Granule::K16));
        assert_eq!(cpu.physical_bits(), 52);
    }

    /// Facts: Cortex-X4 from r0p3 on, Neoverse V3 and V3AE from r0p2 on, NVIDIA Olympus, Ampere1 and 1A of any revision.
    #[test]
    fn block_sizes_change_in_place_on_the_listed_revisions() {
        let of = |midr: u64| Arm64Cpu::from_registers("max", [("MIDR_EL1".to_owned(), midr)]).has_bbml2_noabort();
        assert_eq!([of(0x410f_d822), of(0x410f_d823), of(0x411f_d823)], [false, true, false]);
        assert_eq!([of(0x410f_d841), of(0x410f_d842), of(0x410f_d832)], [false, true, true]);
        assert_eq!([of(0x4e0f_0100), of(0xc00f_ac30), of(0xc01f_ac41)], [true, true, true]);
        assert_eq!([of(0x410f_d083), of(0x000f_0510)], [false, false], "Cortex-A72, and the emulator's largest model");
    }

    #[test]
    fn isolation_follows_force_then_kaslr_then_the_model() {
        let a72 = Arm64Cpu::by_model("cortex-a72").unwrap();
        let max = Arm64Cpu::by_model("max").unwrap();
        let old = Arm64Cpu::from_registers("cortex-a75", []);
        let facts = KptiFacts { unmap_built_in: true, ..KptiFacts::default() };
        let moved = KptiFacts { kaslr: true, ..facts };
        assert!(!a72.kpti_needed(facts) && a72.kpti_needed(moved));
        assert!(!max.kpti_needed(facts) && max.kpti_needed(moved));
        assert!(!max.kpti_needed(KptiFacts { e0pd_built_in: true, ..moved }));
        assert!(!a72.kpti_needed(KptiFacts { forced: Some(false), ..moved }));
        assert!(a72.kpti_needed(KptiFacts { forced: Some(true), ..facts }));
        assert!(old.kpti_needed(facts) && !old.kpti_needed(KptiFacts::default()));
    }

    #[test]
    fn each_model_is_listed_once() {
        let models: alloc::vec::Vec<_> = Arm64Cpu::models().collect();
        assert!(models.contains(&"max,lpa2=off"));
        assert_eq!(models.len(), 5, "{models:?}");
    }
}
