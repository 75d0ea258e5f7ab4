//! Damaged texts of `/proc`: every reader gives a value that can be printed or names a line; none panics.

mod common;

use common::{boots, tree};
use kernmem_base::Era;
use kernmem_report::proc as print;
use kernmem_view::proc::parse::{self, ParseError};

/// Reads `text` with every reader; how many understood it.
fn read(text: &str) -> usize {
    let mut out = String::new();
    let mut understood = 0;
    let mut look = |read: Result<core::fmt::Result, ParseError>| match read {
        Ok(printed) => {
            printed.expect("a string takes everything");
            understood += 1;
        }
        Err(error) => assert!((1..=text.lines().count() + 1).contains(&error.line), "{error}"),
    };
    look(parse::buddyinfo(text).map(|value| print::buddyinfo(&value, &mut out)));
    look(parse::pagetypeinfo(text).map(|value| print::pagetypeinfo(&value, &mut out)));
    look(parse::meminfo(text).map(|value| print::meminfo(&value, &mut out)));
    look(parse::vmallocinfo(text).map(|value| print::vmallocinfo(&value, &mut out)));
    look(parse::slabinfo(text).map(|value| print::slabinfo(&value, &mut out)));
    look(parse::iomem(text).map(|value| print::iomem(Era::V7_2, &value, &mut out)));
    for era in Era::ALL {
        look(parse::zoneinfo(text).map(|value| print::zoneinfo(era, &value, &mut out)));
    }
    understood
}

/// Numbers, words and signs that fit nowhere or only just.
const WORDS: [&str; 8] = ["", "-1", "18446744073709551616", ">", "0x", "Node", ": ", "\u{fe}ff"];

fn damage(text: &str) {
    let lines: Vec<&str> = text.lines().collect();
    let shown = lines.len().min(60);
    for at in 0..shown {
        let mut fewer = lines.clone();
        fewer.remove(at);
        read(&fewer.join("\n"));
        for word in WORDS {
            let mut changed: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
            changed[at] = changed[at].replacen(|c: char| c.is_ascii_digit(), word, 1);
            read(&changed.join("\n"));
            changed[at] = word.to_owned();
            read(&changed.join("\n"));
        }
    }
    let cuts = text.char_indices().map(|(at, _)| at).step_by(text.len() / 200 + 1);
    for at in cuts {
        read(&text[..at]);
    }
}

#[test]
fn no_damage_makes_a_reader_panic() {
    let files = ["buddyinfo", "pagetypeinfo", "zoneinfo", "meminfo", "iomem", "vmallocinfo", "slabinfo"];
    let boots = boots(&tree());
    let chosen = |name: &str| boots.iter().find(|boot| boot.folder.ends_with(name)).expect("a recorded boot");
    for boot in [chosen("x86/x-2node"), chosen("arm64/a-ptrs")] {
        for file in files {
            let text = boot.file(file).expect("a recorded file");
            assert!(read(&text) >= 1, "{file}");
            damage(&text);
        }
    }
}

#[test]
fn an_empty_text_is_read_where_a_file_may_be_empty() {
    // Not pagetypeinfo and slabinfo, which have heads.
    assert_eq!(read(""), 4 + Era::ALL.len());
}
