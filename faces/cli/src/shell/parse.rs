//! Lines of the shell's language: commands, names, numbers.
//!
//! ```text
//! line    = command { ";" command } [ "#" anything ]
//! command = [ "-" ] [ NAME "=" ] WORD { WORD }
//! number  = term { ( "+" | "-" ) term }        without spaces
//! term    = decimal | 0x… | either with K, M, G, T | $NAME
//! ```
//!
//! Here: text to words and numbers. Not here: what a command means.

use std::collections::BTreeMap;

use crate::numbers::parse_size;

/// Numbers that commands left under a name.
pub type Names = BTreeMap<String, u64>;

/// A command as it was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Command<'t> {
    /// It may fail, and what follows runs all the same.
    pub may_fail: bool,
    /// The name for its result.
    pub name: Option<&'t str>,
    /// Its words, at least one.
    pub words: Vec<&'t str>,
    /// Its text, for those who tell it.
    pub text: &'t str,
}

/// The commands of a line, without empty ones and without the comment.
pub fn commands(line: &str) -> impl Iterator<Item = Result<Command<'_>, String>> {
    uncommented(line).split(';').map(str::trim).filter(|text| !text.is_empty()).map(command)
}

/// A comment begins at a `#` that begins a word.
fn uncommented(line: &str) -> &str {
    let begins =
        |at: &usize| line[..*at].chars().next_back().is_none_or(|before| before.is_whitespace() || before == ';');
    let comment = line.match_indices('#').map(|(at, _)| at).find(begins);
    comment.map_or(line, |at| &line[..at])
}

fn command(text: &str) -> Result<Command<'_>, String> {
    let (may_fail, rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest.trim_start()),
        None => (false, text),
    };
    let (name, rest) = match rest.split_once('=') {
        Some((name, rest)) if is_name(name.trim()) => (Some(name.trim()), rest),
        _ => (None, rest),
    };
    let words: Vec<&str> = rest.split_whitespace().collect();
    if words.is_empty() {
        return Err("a command is missing; `help` lists them".to_owned());
    }
    Ok(Command { may_fail, name, words, text })
}

/// A letter or `_`, then letters, digits and `_`.
fn is_name(text: &str) -> bool {
    let is_inner = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.chars().all(is_inner) && text.chars().next().is_some_and(|first| !first.is_ascii_digit())
}

/// Whether a word can only be a number: where a command stands, it is told.
pub fn is_number(word: &str) -> bool {
    word.starts_with(|first: char| first == '$' || first.is_ascii_digit())
}

/// The number that `word` says.
///
/// # Errors
/// What is wrong, for people.
pub fn number(word: &str, names: &Names) -> Result<u64, String> {
    let mut sum: u64 = 0;
    let (mut rest, mut is_minus) = (word, false);
    loop {
        let end = rest.find(['+', '-']).unwrap_or(rest.len());
        let value = term(&rest[..end], names).map_err(|wrong| format!("`{word}`: {wrong}"))?;
        let next = if is_minus { sum.checked_sub(value) } else { sum.checked_add(value) };
        sum = next.ok_or_else(|| format!("`{word}` is below 0 or above 2^64"))?;
        if end == rest.len() {
            return Ok(sum);
        }
        is_minus = rest[end..].starts_with('-');
        rest = &rest[end + 1..];
    }
}

fn term(text: &str, names: &Names) -> Result<u64, String> {
    let Some(name) = text.strip_prefix('$') else {
        return parse_size(text).map_err(|_| "a number such as 4096, 0x1000, 64K or $NAME expected".to_owned());
    };
    names.get(name).copied().ok_or_else(|| format!("nothing was named {name}; `{name} = COMMAND` does it"))
}

/// The words of a command behind its first, taken one by one.
#[derive(Debug)]
pub struct Words<'w, 't> {
    words: core::slice::Iter<'w, &'t str>,
    names: &'w Names,
}

impl<'w, 't> Words<'w, 't> {
    /// The words, with the names that numbers may use.
    pub fn new(words: &'w [&'t str], names: &'w Names) -> Self {
        Self { words: words.iter(), names }
    }

    /// The next word, if there is one.
    pub fn word(&mut self) -> Option<&'t str> {
        self.words.next().copied()
    }

    /// The next word is a number; `what` names it in the usage.
    ///
    /// # Errors
    /// It is missing, or no number.
    pub fn number(&mut self, what: &str) -> Result<u64, String> {
        let word = self.word().ok_or_else(|| format!("{what} is missing"))?;
        number(word, self.names).map_err(|wrong| format!("{what}: {wrong}"))
    }

    /// Nothing follows.
    ///
    /// # Errors
    /// Something does.
    pub fn end(&mut self) -> Result<(), String> {
        self.word().map_or(Ok(()), |word| Err(format!("`{word}` is too much")))
    }

    /// Whether all words are taken.
    pub fn is_done(&self) -> bool {
        self.words.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names() -> Names {
        Names::from([("A".to_owned(), 0x1000), ("top".to_owned(), u64::MAX)])
    }

    fn only(line: &str) -> Command<'_> {
        let mut all = commands(line);
        let command = all.next().unwrap().unwrap();
        assert!(all.next().is_none(), "{line}");
        command
    }

    #[test]
    fn a_command_has_words_and_maybe_a_name() {
        let plain = only("  vmalloc 8K # two pages");
        assert_eq!((plain.may_fail, plain.name, plain.words.as_slice()), (false, None, ["vmalloc", "8K"].as_slice()));
        for text in ["A = vmalloc 8K", "A=vmalloc 8K", "A =vmalloc   8K"] {
            let named = only(text);
            assert_eq!((named.name, named.words.as_slice()), (Some("A"), ["vmalloc", "8K"].as_slice()));
        }
    }

    #[test]
    fn a_minus_lets_a_command_fail() {
        for text in ["-vfree $A", "- vfree $A"] {
            let command = only(text);
            assert!(command.may_fail && command.words == ["vfree", "$A"]);
        }
        assert_eq!(only("-B = alloc 0").name, Some("B"));
    }

    #[test]
    fn semicolons_part_commands_and_comments_end_lines() {
        let texts: Vec<&str> =
            commands("spawn; ;fork 1;# exit 1; spawn").map(|command| command.unwrap().text).collect();
        assert_eq!(texts, ["spawn", "fork 1"]);
        assert_eq!(commands("# nothing").count() + commands("").count() + commands(" ;; ").count(), 0);
        assert_eq!(only("help a#b").words, ["help", "a#b"]);
    }

    #[test]
    fn a_name_without_a_command_is_refused() {
        for text in ["A =", "-", "- A ="] {
            assert!(commands(text).next().unwrap().is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_no_name_stays_a_word() {
        assert_eq!(only("1A = 2").words, ["1A", "=", "2"]);
        assert_eq!(only("= 2").words, ["=", "2"]);
    }

    #[test]
    fn numbers_are_sums_of_terms() {
        let number = |word| number(word, &names());
        assert_eq!(number("4096"), Ok(4096));
        assert_eq!(number("0x1f"), Ok(31));
        assert_eq!(number("2M"), Ok(2 << 20));
        assert_eq!(number("$A+0x10"), Ok(0x1010));
        assert_eq!(number("$A+4K-1"), Ok(0x1fff));
        assert_eq!(number("$top"), Ok(u64::MAX));
    }

    #[test]
    fn what_is_no_number_is_told() {
        let wrong = |word| number(word, &names()).unwrap_err();
        assert!(wrong("$B").contains("nothing was named B"));
        assert!(wrong("$top+1").contains("2^64") && wrong("1-2").contains("below 0"));
        for word in ["", "x", "+1", "1+", "1++1", "$", "--", "0x", "4Q", "1.5K"] {
            assert!(wrong(word).contains("number") || wrong(word).contains("named"), "{word}");
        }
    }

    #[test]
    fn words_are_taken_in_order_and_counted() {
        let names = names();
        let mut words = Words::new(&["$A", "x", "y"], &names);
        assert_eq!(words.number("PFN"), Ok(0x1000));
        assert!(words.number("ORDER").unwrap_err().starts_with("ORDER: "));
        assert_eq!(words.end().unwrap_err(), "`y` is too much");
        assert!(words.is_done() && words.end().is_ok());
        assert_eq!(words.number("ORDER").unwrap_err(), "ORDER is missing");
    }

    proptest! {
        #[test]
        fn random_lines_never_panic(line in "\\PC{0,60}|[-=;#$+A-C0-9xKMG ]{0,40}") {
            for command in commands(&line).flatten() {
                prop_assert!(!command.words.is_empty());
                for word in &command.words {
                    let _ = number(word, &names());
                }
            }
        }
    }
}
