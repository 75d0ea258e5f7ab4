//! The check for writable and executable mappings, held against what kernels of x86 said of their own tables.

use crate::common::{recordings, with_kernel};
use kernmem_config::Rodata;
use kernmem_report::ptdump::check_wx;
use kernmem_view::RootKind;

/// With `rodata=off` only the tables of user mode are checked, and they are found to have 10 MiB of text that is writable.
/// Without NX areas of vmalloc count as well, and which there are does not follow from a boot.
#[test]
fn the_check_says_what_the_kernels_said() {
    let (mut passed, mut failed) = (0, 0);
    for path in recordings() {
        let Ok(log) = std::fs::read_to_string(path.join("console.txt")) else { continue };
        let told = log.lines().find_map(|line| line.find("x86/mm: Checked W+X").map(|at| line[at..].trim_end()));
        let Some(told) = told else { continue };
        with_kernel(&path, |kernel, boot| {
            if boot.config.cmdline.has("noexec") {
                return;
            }
            let root = if boot.config.rodata().value == Rodata::Off { RootKind::User } else { RootKind::Kernel };
            let ours = check_wx(kernel, root).expect("tables that are there");
            assert_eq!(ours.to_string(), told, "{}", path.display());
            passed += usize::from(ours.passed());
            failed += usize::from(!ours.passed());
        });
    }
    assert!(passed >= 40 && failed >= 1, "{passed} passed, {failed} failed");
}

/// arm64's recorded kernels were built without the check: the lines of their listings say what it would have found.
#[test]
fn the_check_finds_what_recorded_listings_show() {
    let (mut checked, mut found) = (0, 0);
    for path in recordings() {
        let Ok(listing) = std::fs::read_to_string(path.join("kernel_page_tables")) else { continue };
        with_kernel(&path, |kernel, _| {
            let bytes: u64 = listing.lines().filter(|line| line.contains(" RW x ")).filter_map(size).sum();
            let wx = check_wx(kernel, RootKind::Kernel).expect("the kernel's tables");
            assert_eq!((wx.pages, wx.non_uxn), (bytes / kernel.granule.bytes(), 0), "{}", path.display());
            checked += 1;
            found += usize::from(wx.pages > 0);
        });
    }
    assert!(checked >= 78 && found >= 50, "{checked} listings, {found} with such pages");
}

/// Bytes of a line's range.
fn size(line: &str) -> Option<u64> {
    let (start, end) = line.split_whitespace().next()?.split_once('-')?;
    let number = |text: &str| u64::from_str_radix(text.strip_prefix("0x")?, 16).ok();
    Some(number(end)?.wrapping_sub(number(start)?))
}
