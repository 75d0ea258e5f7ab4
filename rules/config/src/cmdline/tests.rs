//! Vectors of the words about protection and amounts of memory, worked out by hand.

use alloc::string::ToString;
use alloc::vec::Vec;

use kernmem_base::Granule;
use kernmem_firmware::Arch;

use super::*;

const M: u64 = 1 << 20;

fn line(text: &str) -> CommandLine {
    CommandLine::parse(text)
}

fn word(name: &str, value: Option<&str>) -> Word {
    Word { name: name.to_owned(), value: value.map(ToOwned::to_owned) }
}

#[test]
fn quotes_group_and_vanish_where_they_enclose() {
    let line = line("  a=\"x y\" \"b=c d\" \"e f\" g=h\"i j\" k= =l");
    let expected = [
        word("a", Some("x y")),
        word("b", Some("c d")),
        word("e f", None),
        word("g", Some("h\"i j\"")),
        word("k", Some("")),
        word("=l", None),
    ];
    assert_eq!(line.words(), expected);
}

#[test]
fn a_nul_ends_the_line() {
    assert_eq!(line("a b\0 c\0").words(), [word("a", None), word("b", None)]);
    assert_eq!(line("a b\n").text(), "a b");
}

#[test]
fn two_dashes_end_the_kernels_words() {
    let line = line("quiet -- rodata=off");
    assert_eq!(line.words(), [word("quiet", None)]);
    assert_eq!(line.init_words(), [word("rodata", Some("off"))]);
    assert_eq!(line.rodata(Era::V6_1, Arch::Arm64, true).value, Rodata::Full);
}

#[test]
fn names_do_not_tell_dash_from_underscore() {
    assert!(line("debug-pagealloc=on").debug_pagealloc(Era::V6_1, false).value);
}

#[test]
fn rodata_words_by_era() {
    let ask = |text, era| line(text).rodata(era, Arch::Arm64, true);
    assert_eq!(ask("rodata=0", Era::V5_10).value, Rodata::Off);
    assert_eq!(ask("rodata=y", Era::V5_10).value, Rodata::On);
    assert_eq!(ask("rodata=full", Era::V5_10).value, Rodata::Full);
    let rejected = ask("rodata=0", Era::V6_1);
    assert_eq!(rejected.value, Rodata::Full);
    assert_eq!(rejected.warnings, [Warning::InvalidRodata("0".to_owned())]);
    assert_eq!(ask("rodata=noalias", Era::V6_12).warnings.len(), 1);
    assert_eq!(ask("rodata=noalias", Era::V7_2).value, Rodata::On);
    assert_eq!(ask("rodata=on", Era::V7_2).value, Rodata::Full);
    assert_eq!(ask("rodata=on", Era::V6_12).value, Rodata::On);
    let rejected = ask("rodata=full", Era::V7_2);
    assert_eq!((rejected.value, rejected.warnings.len()), (Rodata::Full, 1));
    assert_eq!(ask("rodata=off rodata=full", Era::V6_1).value, Rodata::Full);
    assert_eq!(line("rodata=off").rodata(Era::V6_1, Arch::X86_64, true).value, Rodata::Off);
    assert_eq!(line("").rodata(Era::V6_1, Arch::X86_64, true).value, Rodata::On);
}

#[test]
fn mem_vectors() {
    let ask = |text, era, arch| line(text).mem(era, arch, Granule::K4).value;
    let amount = |bytes| Some(MemoryLimit::Amount(bytes));
    assert_eq!(ask("mem=512M", Era::V6_1, Arch::Arm64), amount(0x2000_0000));
    assert_eq!(ask("mem=513K", Era::V6_1, Arch::Arm64), amount(0x8_0000));
    assert_eq!(ask("mem=0x10000000", Era::V6_1, Arch::Arm64), amount(256 * M));
    assert_eq!(ask("mem=1.5G", Era::V6_1, Arch::Arm64), amount(0));
    assert_eq!(ask("mem=1.5G", Era::V6_1, Arch::X86_64), Some(MemoryLimit::Address(1)));
    assert_eq!(ask("mem=16E", Era::V6_12, Arch::Arm64), amount(0));
    assert_eq!(ask("mem=16E", Era::V7_2, Arch::Arm64), amount(!0xfff));
    assert_eq!(ask("mem=1G mem=2G", Era::V6_1, Arch::Arm64), amount(2048 * M));
    assert_eq!(ask("mem=1G mem=2G", Era::V6_1, Arch::X86_64), Some(MemoryLimit::Address(1024 * M)));
    assert_eq!(line("mem").mem(Era::V6_1, Arch::Arm64, Granule::K4).warnings.len(), 1);
    assert_eq!(line("mem=0").mem(Era::V6_1, Arch::X86_64, Granule::K4).warnings.len(), 1);
}

#[test]
fn crashkernel_vectors() {
    let ask = |text, era, total| line(text).crashkernel(era, total);
    let simple = |size, base| Some(CrashKernel { size, base });
    let ranges = "crashkernel=512M-2G:64M,2G-:128M";
    assert_eq!(ask(ranges, Era::V6_1, 2047 * M).value.simple, simple(128 * M, None));
    assert_eq!(ask(ranges, Era::V5_10, 2047 * M).value.simple, simple(64 * M, None));
    let none = ask(ranges, Era::V6_1, 256 * M);
    assert_eq!((none.value.simple, none.warnings), (None, [Warning::CrashKernel(CrashFault::ZeroBytes)].to_vec()));
    let plan = ask("crashkernel=256M,high crashkernel=64M,low", Era::V6_1, 8192 * M).value;
    assert_eq!((plan.high, plan.low, plan.simple), (Some(256 * M), Some(64 * M), None));
    let last = ask("crashkernel=64M@16M crashkernel=128M", Era::V6_1, 4096 * M).value;
    assert_eq!(last.simple, simple(128 * M, None));
    assert_eq!(ask("crashkernel=64M@16M", Era::V6_1, 4096 * M).value.simple, simple(64 * M, Some(16 * M)));
    let placed = ask("crashkernel=1G-2G:64M,2G-:128M@32M", Era::V6_1, 1024 * M).value;
    assert_eq!(placed.simple, simple(64 * M, Some(32 * M)));
}

#[test]
fn crashkernel_faults_are_told() {
    let fault = |text| match line(text).crashkernel(Era::V6_1, 4096 * M).warnings.as_slice() {
        [Warning::CrashKernel(fault)] => Some(*fault),
        _ => None,
    };
    assert_eq!(fault("crashkernel=x"), Some(CrashFault::MemoryValueExpected));
    assert_eq!(fault("crashkernel=64Mx"), Some(CrashFault::UnrecognizedChar('x')));
    assert_eq!(fault("crashkernel=1G:64M"), Some(CrashFault::DashExpected));
    assert_eq!(fault("crashkernel=2G-1G:64M"), Some(CrashFault::EndBelowStart));
    assert_eq!(fault("crashkernel=1G-2G,3G-:64M"), Some(CrashFault::ColonExpected));
    assert_eq!(fault("crashkernel=1G-:8G"), Some(CrashFault::InvalidSize));
    assert_eq!(fault("crashkernel=0"), Some(CrashFault::ZeroBytes));
}

#[test]
fn nokaslr_is_a_word_or_a_prefix_by_era() {
    let ask = |text, era, arch| line(text).nokaslr(era, arch);
    assert!(ask("a nokaslr b", Era::V6_1, Arch::Arm64) && ask("nokaslr", Era::V6_1, Arch::X86_64));
    assert!(!ask("a nokaslrx", Era::V6_1, Arch::Arm64) && ask("a nokaslrx", Era::V5_10, Arch::Arm64));
    assert!(!ask("xnokaslr", Era::V5_10, Arch::Arm64) && !ask("-- nokaslr", Era::V6_1, Arch::Arm64));
}

#[test]
fn booleans_by_era() {
    assert_eq!(kstrtobool("true", Era::V5_10), None);
    assert_eq!(kstrtobool("true", Era::V6_1), Some(true));
    assert_eq!(kstrtobool("oN", Era::V5_10), Some(true));
    assert_eq!(kstrtobool("of", Era::V5_10), Some(false));
    assert_eq!((kstrtobool("o", Era::V7_2), kstrtobool("", Era::V7_2)), (None, None));
}

#[test]
fn isolation_words() {
    assert_eq!(line("kpti=1").kpti(Era::V6_1).value, Some(true));
    assert_eq!(line("kpti").kpti(Era::V6_1).warnings.len(), 1);
    assert_eq!(line("pti=on nopti").pti(Era::V6_1), Pti::On);
    assert_eq!(line("pti=on nopti").pti(Era::V6_12), Pti::Off);
    assert_eq!(line("mitigations=off").pti(Era::V6_1), Pti::Off);
    assert_eq!(line("mitigations=off pti=auto").pti(Era::V6_1), Pti::Auto);
    assert!(!line("mitigations=off mitigations=auto").mitigations_off());
}

#[test]
fn kfence_takes_whole_numbers_only() {
    assert_eq!(line("kfence.sample_interval=0").kfence_sample_interval(100).value, 0);
    let bad = line("kfence.sample_interval=1K").kfence_sample_interval(100);
    assert_eq!((bad.value, bad.warnings.len()), (100, 1));
}

#[test]
fn words_print_as_they_were_meant() {
    let text = "a=\"x y\" \"b c\" d=e f";
    let joined: Vec<_> = line(text).words().iter().map(ToString::to_string).collect();
    assert_eq!(joined.join(" "), text);
    let line = line("console=ttyS0 rec=none rodata=off");
    assert_eq!(line.unread_words().into_iter().collect::<Vec<_>>(), ["console", "rec"]);
}
