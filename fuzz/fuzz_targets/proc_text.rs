//! Any text as each file of `/proc` about memory: no panic, an error names a line of the text or the one behind its
//! end, and what was read can be printed.
#![no_main]

use kernmem_base::Era;
use kernmem_report::proc as print;
use kernmem_view::proc::parse::{self, ParseError};
use libfuzzer_sys::fuzz_target;

/// Prints what was read, or looks at the error.
fn check<T>(text: &str, read: Result<T, ParseError>, print: impl FnOnce(&T, &mut String) -> core::fmt::Result) {
    match read {
        Ok(value) => {
            let mut out = String::new();
            assert!(print(&value, &mut out).is_ok());
        }
        Err(error) => assert!((1..=text.lines().count() + 1).contains(&error.line)),
    }
}

fuzz_target!(|text: &str| {
    check(text, parse::buddyinfo(text), print::buddyinfo);
    check(text, parse::pagetypeinfo(text), print::pagetypeinfo);
    check(text, parse::meminfo(text), print::meminfo);
    check(text, parse::vmallocinfo(text), print::vmallocinfo);
    check(text, parse::slabinfo(text), print::slabinfo);
    for era in Era::ALL {
        check(text, parse::zoneinfo(text), |value, out| print::zoneinfo(era, value, out));
        check(text, parse::iomem(text), |value, out| print::iomem(era, value, out));
    }
});
