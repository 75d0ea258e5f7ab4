//! Any text as lines of the shell, and as numbers, sizes, addresses and ranges: no panic; words come out of the text in
//! its order, and a number that is read twice is the same.
#![no_main]

#[path = "../../faces/cli/src/numbers.rs"]
#[allow(dead_code, reason = "the command uses more")]
mod numbers;
#[path = "../../faces/cli/src/shell/parse.rs"]
#[allow(dead_code, reason = "the command uses more")]
mod parse;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let names: parse::Names = [("a".to_owned(), 4096), ("b".to_owned(), u64::MAX)].into();
    for line in text.lines() {
        for command in parse::commands(line).flatten() {
            assert!(!command.words.is_empty() && line.contains(command.text));
            assert!(command.words.iter().all(|word| command.text.contains(word)));
        }
    }
    for word in text.split_whitespace() {
        let number = parse::number(word, &names);
        assert_eq!(number, parse::number(word, &names));
        let _ = (numbers::parse_number(word), numbers::parse_size(word), numbers::parse_address(word));
        if let Ok(range) = numbers::parse_range(word) {
            assert!(range.start <= range.last, "{word}");
        }
    }
});
