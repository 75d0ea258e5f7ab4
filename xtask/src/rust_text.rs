//! Rust text divided into code, comments and literals, well enough for checks that look for words.

/// A kind of text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// What the compiler reads as code.
    Code,
    /// Comments of any sort, without their marks.
    Comment,
    /// The inside of string literals.
    Literal,
}

/// `text` with all but one kind replaced by blanks; lines stay where they are.
pub fn only(kind: Kind, text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let (found, len) = next(rest);
        let (piece, after) = rest.split_at(len);
        rest = after;
        if found == kind {
            kept.push_str(piece);
        } else {
            kept.extend(piece.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        }
    }
    kept
}

/// The kind and the length of the piece that `text` begins with.
fn next(text: &str) -> (Kind, usize) {
    if text.starts_with("//") {
        return (Kind::Comment, text.find('\n').unwrap_or(text.len()));
    }
    if text.starts_with("/*") {
        return (Kind::Comment, block_comment(text));
    }
    if let Some(len) = string(text) {
        return (Kind::Literal, len);
    }
    if text.starts_with('\'') {
        return (Kind::Code, character(text));
    }
    let first = text.chars().next().map_or(0, char::len_utf8);
    if !is_word(text) {
        return (Kind::Code, first);
    }
    let word = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
    (Kind::Code, word.max(first))
}

fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphanumeric() || c == '_')
}

fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    loop {
        let rest = &text[at..];
        if rest.starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest.starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
        } else {
            match rest.chars().next() {
                Some(c) => at += c.len_utf8(),
                None => return text.len(),
            }
        }
        if depth == 0 {
            return at;
        }
    }
}

/// The length of a string literal that `text` begins with, prefix and quotes included.
fn string(text: &str) -> Option<usize> {
    let prefix = text.find(|c| !matches!(c, 'b' | 'c' | 'r'))?;
    if prefix > 2 {
        return None;
    }
    let is_raw = text[..prefix].contains('r');
    let body = &text[prefix..];
    let hashes = if is_raw { body.find(|c| c != '#')? } else { 0 };
    let inside = body[hashes..].strip_prefix('"')?;
    let start = text.len() - inside.len();
    if is_raw {
        let end = format!("\"{}", "#".repeat(hashes));
        return Some(inside.find(&end).map_or(text.len(), |at| start + at + end.len()));
    }
    let mut escaped = false;
    for (at, c) in inside.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(start + at + 1),
            _ => {}
        }
    }
    Some(text.len())
}

/// The length of a character literal, or 1 for the mark of a lifetime.
fn character(text: &str) -> usize {
    let inside = &text[1..];
    if let Some(escape) = inside.strip_prefix('\\') {
        let skip = escape.chars().next().map_or(0, char::len_utf8);
        return escape[skip..].find('\'').map_or(text.len(), |at| 2 + skip + at + 1);
    }
    let Some(first) = inside.chars().next() else { return 1 };
    if inside[first.len_utf8()..].starts_with('\'') { 2 + first.len_utf8() } else { 1 }
}

/// The lines, from 1, of `text` where `word` stands alone; `word` begins and ends with a letter.
pub fn lines_with_word<'t>(text: &'t str, word: &'t str) -> impl Iterator<Item = usize> + 't {
    text.lines().enumerate().filter(move |(_, line)| has_word(line, word)).map(|(at, _)| at + 1)
}

/// Whether `word` stands alone in `line`.
pub fn has_word(line: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word)
        .any(|(at, _)| !line[..at].ends_with(is_part) && !line[at + word.len()..].starts_with(is_part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_strings_and_characters_are_told_apart() {
        let text = "let a = '\"'; // \"x\"\nlet b: &'a str = r#\"un\"safe\"#; /* /* n */ */ f(b\"\\\"q\")\n";
        let code = only(Kind::Code, text);
        assert_eq!(code.lines().count(), 2);
        assert!(code.contains("let a = '\"';") && code.contains("&'a str") && code.contains("f("));
        assert!(!code.contains("safe") && !code.contains('x') && !code.contains('q'));
        assert!(only(Kind::Literal, text).contains("r#\"un\"safe\"#"));
        assert!(only(Kind::Literal, text).contains("b\"\\\"q\""));
        assert_eq!(
            only(Kind::Comment, text).split_whitespace().collect::<Vec<_>>(),
            ["//", "\"x\"", "/*", "/*", "n", "*/", "*/"]
        );
    }

    #[test]
    fn any_text_is_divided_without_a_rest() {
        for text in ["'", "\"", "r#\"", "/*", "'\\", "b'", "ré'é'", "r", "br##"] {
            let kinds = [Kind::Code, Kind::Comment, Kind::Literal].map(|kind| only(kind, text).trim().len());
            assert_eq!(kinds.iter().sum::<usize>(), text.len(), "{text}");
        }
    }

    #[test]
    fn a_word_stands_alone() {
        assert!(has_word("a word, b", "word"));
        assert!(!has_word("a_word words", "word"));
    }
}
