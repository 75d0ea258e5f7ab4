//! x86 CPUs: what `/proc/cpuinfo` tells, or a list of features.
//!
//! Source: Linux 5.10–7.2 arch/x86/kernel/cpu/proc.c `show_cpuinfo`.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeSet;
use alloc::string::String;

/// An x86 CPU: vendor, features, known faults.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct X86Cpu {
    /// The vendor's name, such as `GenuineIntel`.
    pub vendor: String,
    /// The model's name.
    pub model: String,
    flags: BTreeSet<String>,
    bugs: BTreeSet<String>,
    /// CPUs that the text lists.
    pub processors: u32,
    /// Physical address bits.
    pub physical_bits: u32,
    /// Virtual address bits.
    pub virtual_bits: u32,
}

impl X86Cpu {
    /// The first CPU of a `/proc/cpuinfo`; `None` if no line tells flags.
    #[must_use]
    pub fn from_cpuinfo(text: &str) -> Option<Self> {
        let mut cpu = Self::from_features("", "");
        let mut found = false;
        for line in text.lines() {
            let Some((key, value)) = line.split_once(':') else { continue };
            let (key, value) = (key.trim_end(), value.trim());
            if key == "processor" {
                cpu.processors = cpu.processors.saturating_add(1);
            }
            if cpu.processors > 1 {
                continue;
            }
            match key {
                "vendor_id" => value.clone_into(&mut cpu.vendor),
                "model name" => value.clone_into(&mut cpu.model),
                "flags" => {
                    found = true;
                    cpu.flags = words(value);
                }
                "bugs" => cpu.bugs = words(value),
                "address sizes" => (cpu.physical_bits, cpu.virtual_bits) = address_sizes(value).unwrap_or((36, 48)),
                _ => {}
            }
        }
        found.then_some(cpu)
    }

    /// A CPU by a list of features, each a flag as `/proc/cpuinfo` names it or a fault that begins with `bug:`.
    #[must_use]
    pub fn from_features(vendor: &str, features: &str) -> Self {
        let all = features.split([' ', ',', '+']).filter(|word| !word.is_empty());
        let (mut flags, mut bugs) = (BTreeSet::new(), BTreeSet::new());
        for word in all {
            match word.strip_prefix("bug:") {
                Some(bug) => bugs.insert(bug.to_owned()),
                None => flags.insert(word.to_owned()),
            };
        }
        let virtual_bits = if flags.contains("la57") { 57 } else { 48 };
        let (vendor, model) = (vendor.to_owned(), String::new());
        Self { vendor, model, flags, bugs, processors: 0, physical_bits: 40, virtual_bits }
    }

    /// The same CPU with `+features` added and `-features` taken away: `+pdpe1gb,-pcid,-bug:cpu_meltdown`.
    #[must_use]
    pub fn changed(&self, changes: &str) -> Self {
        let mut cpu = self.clone();
        for word in changes.split([' ', ',']).filter(|word| !word.is_empty()) {
            let (takes, feature) = match word.strip_prefix('-') {
                Some(feature) => (true, feature),
                None => (false, word.strip_prefix('+').unwrap_or(word)),
            };
            let (set, name) = match feature.strip_prefix("bug:") {
                Some(bug) => (&mut cpu.bugs, bug),
                None => (&mut cpu.flags, feature),
            };
            if takes {
                set.remove(name);
            } else {
                set.insert(name.to_owned());
            }
        }
        cpu
    }

    /// Whether the CPU has the feature.
    #[must_use]
    pub fn has(&self, flag: &str) -> bool {
        self.flags.contains(flag)
    }

    /// Whether the CPU has the fault.
    #[must_use]
    pub fn has_bug(&self, bug: &str) -> bool {
        self.bugs.contains(bug)
    }

    /// The features in alphabetical order.
    pub fn flags(&self) -> impl Iterator<Item = &str> {
        self.flags.iter().map(String::as_str)
    }
}

fn words(text: &str) -> BTreeSet<String> {
    text.split_ascii_whitespace().map(ToOwned::to_owned).collect()
}

/// `40 bits physical, 48 bits virtual`.
fn address_sizes(text: &str) -> Option<(u32, u32)> {
    let (physical, rest) = text.split_once(" bits physical, ")?;
    let (virtual_bits, _) = rest.split_once(" bits virtual")?;
    Some((physical.trim().parse().ok()?, virtual_bits.trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: A B\nflags\t\t: fpu nx pdpe1gb\n\
                        bugs\t\t: cpu_meltdown l1tf\naddress sizes\t: 40 bits physical, 48 bits virtual\n\n\
                        processor\t: 1\nflags\t\t: fpu\n";

    #[test]
    fn the_first_cpu_speaks_for_all() {
        let cpu = X86Cpu::from_cpuinfo(TEXT).unwrap();
        assert_eq!((cpu.vendor.as_str(), cpu.model.as_str(), cpu.processors), ("GenuineIntel", "A B", 2));
        assert!(cpu.has("nx") && cpu.has("pdpe1gb") && !cpu.has("la57") && cpu.has_bug("cpu_meltdown"));
        assert_eq!((cpu.physical_bits, cpu.virtual_bits), (40, 48));
        assert_eq!(X86Cpu::from_cpuinfo("processor : 0\n"), None);
    }

    #[test]
    fn a_list_of_features_makes_a_cpu() {
        let changed = X86Cpu::from_features("", "pse pcid").changed("+pdpe1gb,-pcid");
        assert!(changed.has("pse") && changed.has("pdpe1gb") && !changed.has("pcid"));
        let leaky = changed.changed("bug:cpu_meltdown");
        assert!(leaky.has_bug("cpu_meltdown") && !leaky.changed("-bug:cpu_meltdown").has_bug("cpu_meltdown"));
        let cpu = X86Cpu::from_features("AuthenticAMD", "nx,la57 pcid bug:cpu_meltdown");
        assert!(cpu.has("pcid") && cpu.has_bug("cpu_meltdown") && !cpu.has("bug:cpu_meltdown"));
        assert_eq!(cpu.virtual_bits, 57);
    }
}
