//! `layout` with a seed, a CPU, a command line: what moves, which bits are in use, and what is refused.
#![allow(clippy::unwrap_used, reason = "functions that tests share fail as tests do")]

use crate::common::{json, kernmem};
use serde_json::Value;

const SEED: &str = "0x1b2c3d4e5f607182";
const OTHER_SEED: &str = "0x7b2c3d4e5f60a183";

/// The only table of an answer.
#[track_caller]
fn only(args: &[&str]) -> Value {
    let answer = json(&[&["layout", "--json"], args].concat(), "kernmem.layout");
    let [table] = &answer["layouts"].as_array().unwrap()[..] else { panic!("one table: {answer}") };
    table.clone()
}

/// Addresses that moved.
fn moved(table: &Value) -> Vec<u64> {
    let all = table["moved"].as_array().unwrap().iter();
    all.map(|one| u64::from_str_radix(&one["address"].as_str().unwrap()[2..], 16).unwrap()).collect()
}

/// Facts, "KASLR", worked table: where real kernels of these eras had image and memory with these seeds. The CPU is one
/// with 44 or 52 bits of physical addresses.
#[test]
fn arm64_images_and_memory_lie_where_kernels_with_that_seed_had_them() {
    let cases: [(&[&str], &str, [u64; 2]); 10] = [
        (&["--era", "5.10", "--memory", "2999M"], SEED, [0xffff_dd4e_6f60_0000, 0xffff_0d95_c000_0000]),
        (&["--era", "6.1"], SEED, [0xffff_dd4e_6760_0000, 0xffff_31a8_c000_0000]),
        (&["--era", "6.1", "--kasan", "generic"], SEED, [0xffff_dd4e_6760_0000, 0xffff_2378_8000_0000]),
        (
            &["--era", "6.1", "--page-size", "64K", "--va-bits", "52"],
            SEED,
            [0xffff_dd4e_6760_0000, 0xffff_31a8_e000_0000],
        ),
        (&["--era", "6.1", "--va-bits", "39"], SEED, [0xffff_ffde_6760_0000, 0xffff_ff80_0000_0000]),
        (&["--era", "6.12"], SEED, [0xffff_a630_28a0_0000, 0xffff_31a8_c000_0000]),
        (&["--era", "6.12", "--va-bits", "52"], SEED, [0xffff_a630_28a0_0000, 0xffff_31a8_c000_0000]),
        (&["--era", "7.2"], SEED, [0xffff_a630_28a0_0000, 0xffff_0000_0000_0000]),
        (
            &["--era", "6.12", "--va-bits", "52", "--cpu", "max"],
            OTHER_SEED,
            [0xffff_a060_d560_0000, 0xfff0_0000_0000_0000],
        ),
        (&["--era", "7.2", "--cpu", "max"], OTHER_SEED, [0xffff_bdd0_04a0_0000, 0xffff_0000_0000_0000]),
    ];
    for (args, seed, expected) in cases {
        let cpu: &[&str] = if args.contains(&"--cpu") { &[] } else { &["--cpu", "cortex-a72"] };
        let table = only(&[args, cpu, &["--seed", seed]].concat());
        assert_eq!(moved(&table), expected, "{args:?} {seed}");
    }
}

#[test]
fn nothing_moves_without_a_seed_or_with_nokaslr() {
    assert!(moved(&only(&[])).is_empty());
    assert!(moved(&only(&["--seed", SEED, "--cmdline", "quiet nokaslr"])).is_empty());
    let said = kernmem(&["layout", "--seed", SEED, "--cmdline", "nokaslr"]).good();
    assert!(said.contains("Nothing is drawn"), "{said}");
    let said = kernmem(&["layout", "--arch", "x86-64", "--seed", "1", "--kasan", "generic"]).good();
    assert!(said.contains("Nothing is drawn"), "{said}");
}

/// SplitMix64, written down once more.
fn draw(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Facts, "The three regions": the arithmetic step by step, for a kernel with memory hotplug (10 TB of padding) and
/// without device memory.
fn bases(levels: &str, memory_tb: u64, mut seed: u64) -> [u64; 3] {
    const TB: u128 = 1 << 40;
    const GB: u128 = 1 << 30;
    let (start, whole, vmalloc): (u128, u128, u128) = match levels {
        "4" => (0xffff_8880_0000_0000, 64, 32),
        _ => (0xff11_0000_0000_0000, 4096, 12_800),
    };
    let direct = whole.min(u128::from(memory_tb) + 10);
    let descriptors = ((direct << 28) * 64).div_ceil(TB);
    let sizes = [direct * TB, vmalloc * TB, descriptors * TB];
    let mut remain = 0xffff_fe00_0000_0000 - start - sizes.iter().sum::<u128>();
    let mut at = start;
    let mut bases = [0; 3];
    for (nr, size) in sizes.into_iter().enumerate() {
        let share = remain / (3 - nr as u128);
        let gap = (u128::from(draw(&mut seed)) % (share + 1)) / GB * GB;
        at += gap;
        bases[nr] = at as u64;
        at = (at + size + 1).div_ceil(GB) * GB;
        remain -= gap;
    }
    bases
}

#[test]
fn x86_regions_are_drawn_by_the_arithmetic_of_the_facts() {
    for levels in ["4", "5"] {
        for era in ["5.10", "6.1", "6.12", "7.2"] {
            for (memory, tb) in [("2G", 1), ("3T", 4)] {
                for seed in [1_u64, 77, u64::MAX] {
                    let text = seed.to_string();
                    let args =
                        ["--arch", "x86-64", "--era", era, "--levels", levels, "--memory", memory, "--seed", &text];
                    let table = only(&args);
                    assert_eq!(moved(&table)[..3], bases(levels, tb, seed), "{args:?}");
                }
            }
        }
    }
}

/// Facts, the example of a 2 GiB machine: its drawn bases given, the regions lie there.
#[test]
fn given_bases_are_taken_as_they_are() {
    let bases = "ffff95d240000000,ffffa2edc0000000,ffffd47a00000000";
    let text = kernmem(&["layout", "--arch", "x86-64", "--bases", bases]).good();
    for (start, name) in bases.split(',').zip(["page_offset_base", "vmalloc_base", "vmemmap_base"]) {
        let row = text.lines().find(|line| line.contains(name)).unwrap();
        assert!(row.trim_start().starts_with(start), "{row}");
    }
}

#[test]
fn the_bits_in_use_follow_from_the_cpu_and_the_command_line() {
    let bits = |args: &[&str]| {
        let answer = json(&[&["layout", "--json", "--va-bits", "52"], args].concat(), "kernmem.layout");
        let tables = answer["layouts"].as_array().unwrap().iter();
        tables.map(|table| (table["va_bits_in_use"].as_u64().unwrap(), table["levels"].as_u64().unwrap())).collect()
    };
    /// Bits in use and levels of each table.
    type InUse = Vec<(u64, u64)>;
    let cases: [(&[&str], InUse); 9] = [
        (&["--era", "6.12"], vec![(52, 5), (48, 4)]),
        (&["--era", "6.12", "--cpu", "max"], vec![(52, 5)]),
        (&["--era", "6.12", "--cpu", "max,lpa2=off"], vec![(48, 4)]),
        (&["--era", "6.12", "--cpu", "cortex-a72"], vec![(48, 4)]),
        (&["--era", "6.12", "--cpu", "max", "--cmdline", "arm64.nolva"], vec![(48, 4)]),
        (&["--era", "7.2", "--page-size", "16K"], vec![(52, 4), (47, 3)]),
        (&["--era", "5.10", "--page-size", "64K"], vec![(52, 3), (48, 3)]),
        (&["--era", "6.1", "--page-size", "64K", "--cpu", "max,lpa2=off"], vec![(52, 3)]),
        // The option came with 6.12.
        (&["--era", "6.1", "--page-size", "64K", "--cpu", "max", "--cmdline", "arm64.nolva"], vec![(52, 3)]),
    ];
    for (args, expected) in cases {
        let found: InUse = bits(args);
        assert_eq!(found, expected, "{args:?}");
    }
}

#[test]
fn a_kernel_of_five_levels_runs_with_four_on_a_cpu_without_them() {
    let levels = |args: &[&str]| only(&[&["--arch", "x86-64"], args].concat())["levels"].as_u64();
    assert_eq!(levels(&["--levels", "5"]), Some(5));
    assert_eq!(levels(&["--levels", "5", "--cpu", "pse,pge,nx"]), Some(4));
    assert_eq!(levels(&["--cpu", "pse,pge,nx,la57"]), Some(5));
    assert_eq!(levels(&["--cpu", "pse,pge,nx,la57", "--cmdline", "no5lvl"]), Some(4));
    assert_eq!(levels(&["--va-bits", "57"]), Some(5));
    let text = kernmem(&["layout", "--arch", "x86-64", "--levels", "5", "--cmdline", "no5lvl"]).good();
    assert!(text.starts_with("Complete virtual memory map with 4-level page tables, built for 5"), "{text}");
}

#[test]
fn kernels_that_do_not_exist_are_refused_in_one_line() {
    for (args, words) in [
        (&["--va-bits", "42"][..], "4K pages has 39, 48"),
        (&["--va-bits", "52", "--era", "6.1"], "4K pages has 39, 48"),
        (&["--va-bits", "52", "--era", "5.10", "--page-size", "16K"], "16K pages has 36, 47, 48"),
        (&["--va-bits", "52", "--era", "4.14", "--page-size", "64K"], "64K pages has 42, 48"),
        (&["--va-bits", "0"], "has 39, 48"),
        (&["--page-size", "16K", "--va-bits", "48", "--kasan", "generic", "--era", "6.1"], "no such shadow"),
        (&["--era", "4.14", "--kasan", "sw-tags"], "no such shadow"),
        (&["--page-size", "16K", "--cpu", "cortex-a72"], "no 16K pages"),
        (&["--page-size", "8K"], "one of 4K, 16K, 64K"),
        (&["--levels", "5"], "x86's"),
        (&["--arch", "x86-64", "--page-size", "64K"], "4K alone"),
        (&["--arch", "x86-64", "--va-bits", "52"], "48 with 4 levels and 57 with 5"),
        (&["--arch", "x86-64", "--levels", "4", "--va-bits", "57"], "48 with 4 levels and 57 with 5"),
        (&["--arch", "x86-64", "--levels", "3"], "x86-64 has 4 or 5"),
        (&["--arch", "x86-64", "--levels", "6"], "--levels"),
        (&["--arch", "i386", "--levels", "4"], "2, and 3 with PAE"),
        (&["--arch", "i386", "--va-bits", "48"], "32 bits"),
        (&["--arch", "i386", "--kasan", "generic"], "no shadow"),
        (&["--arch", "x86-64", "--kasan", "sw-tags"], "no such shadow"),
        (&["--arch", "x86-64", "--bases", "1,2"], "three addresses"),
        (&["--arch", "x86-64", "--bases", "ffffc90000000000,ffff888000000000,ffffea0000000000"], "in this order"),
        (&["--era", "3.10"], "unknown era"),
        (&["--cpu", "abacus"], "not known"),
    ] {
        let line = kernmem(&[&["layout"], args].concat()).refused(2);
        assert!(line.contains(words), "{args:?}: {line}");
    }
}

/// Side by side, an era without such a kernel is told, and fall-backs have a table of their own.
#[test]
fn eras_without_such_a_kernel_are_told() {
    let text = kernmem(&["layout", "--era", "all", "--va-bits", "52"]).good();
    assert!(text.contains("(52-bit with HW support): start and size"), "{text}");
    assert!(text.contains("(52-bit without HW support: 48 in use): start and size"), "{text}");
    for era in ["4.14", "5.10", "6.1"] {
        assert!(text.contains(&format!("\n  Linux {era} with 4K pages has 39, 48.\n")), "{text}");
    }
    assert_eq!(kernmem(&["layout", "--era", "all", "--va-bits", "42"]).refused(2).matches("4K pages").count(), 5);
}

#[test]
fn an_era_that_nobody_could_read_is_marked() {
    let first = |args: &[&str]| kernmem(args).good().lines().next().unwrap().to_owned();
    let line = first(&["layout", "--era", "4.14"]);
    assert!(line.contains("before the halves were flipped in 5.4") && line.contains("unverified"), "{line}");
    assert!(first(&["layout", "--era", "4.14", "--arch", "x86-64"]).contains("unverified"));
    assert!(!first(&["layout", "--era", "5.10"]).contains("unverified"));
    assert!(only(&["--era", "4.14"])["unverified"].is_string());
    assert!(only(&["--era", "6.1"])["unverified"].is_null());
}
