//! JSON, written as it comes: nothing is collected.
//!
//! Addresses and raw bits are texts in hexadecimal; sizes and counts are numbers.

use core::fmt;

/// The version of every schema of this program; it grows when a key changes its meaning or goes.
pub const VERSION: u64 = 1;

/// A JSON text in the making. The caller opens and closes in pairs.
#[derive(Debug)]
pub struct Json<'o, W> {
    out: &'o mut W,
    depth: u32,
    /// One bit for each open level: whether it has an element already.
    filled: u64,
}

impl<'o, W: fmt::Write> Json<'o, W> {
    /// A text that goes to `out`.
    pub const fn new(out: &'o mut W) -> Self {
        Self { out, depth: 0, filled: 0 }
    }

    /// Opens the object that every answer is: with its schema's name and version.
    ///
    /// # Errors
    /// The writer failed, here and in every method.
    pub fn answer(&mut self, schema: &str) -> fmt::Result {
        self.open(None, '{')?;
        self.text("schema", schema)?;
        self.number("version", VERSION)
    }

    /// Closes the answer.
    ///
    /// # Errors
    /// As [`Json::answer`].
    pub fn finish(mut self) -> fmt::Result {
        self.close('}')?;
        self.out.write_char('\n')
    }

    fn separate(&mut self) -> fmt::Result {
        let bit = 1 << self.depth.min(63);
        if self.filled & bit != 0 {
            self.out.write_char(',')?;
        }
        self.filled |= bit;
        // Rows of the outermost list stand on lines of their own.
        if self.depth == 2 { self.out.write_char('\n') } else { Ok(()) }
    }

    fn name(&mut self, key: Option<&str>) -> fmt::Result {
        self.separate()?;
        if let Some(key) = key {
            self.quoted(key)?;
            self.out.write_char(':')?;
        }
        Ok(())
    }

    /// Opens an object (`{`) or a list (`[`), with a key inside an object.
    ///
    /// # Errors
    /// As [`Json::answer`].
    pub fn open(&mut self, key: Option<&str>, bracket: char) -> fmt::Result {
        if self.depth > 0 {
            self.name(key)?;
        }
        self.depth += 1;
        self.filled &= !(1 << self.depth.min(63));
        self.out.write_char(bracket)
    }

    /// Closes what was opened last.
    ///
    /// # Errors
    /// As [`Json::answer`].
    pub fn close(&mut self, bracket: char) -> fmt::Result {
        self.depth = self.depth.saturating_sub(1);
        self.out.write_char(bracket)
    }

    fn quoted(&mut self, text: &str) -> fmt::Result {
        self.out.write_char('"')?;
        for c in text.chars() {
            match c {
                '"' => self.out.write_str("\\\"")?,
                '\\' => self.out.write_str("\\\\")?,
                '\n' => self.out.write_str("\\n")?,
                c if u32::from(c) < 0x20 => write!(self.out, "\\u{:04x}", u32::from(c))?,
                c => self.out.write_char(c)?,
            }
        }
        self.out.write_char('"')
    }

    /// A text under a key.
    ///
    /// # Errors
    /// As [`Json::answer`].
    pub fn text(&mut self, key: &str, value: &str) -> fmt::Result {
        self.name(Some(key))?;
        self.quoted(value)
    }

    /// A text in a list.
    ///
    /// # Errors
    /// As [`Json::answer`].
    pub fn item(&mut self, value: &str) -> fmt::Result {
        self.name(None)?;
        self.quoted(value)
    }

    /// A count or a size in bytes.
    ///
    /// # Errors
    /// As [`Json::answer`].
    pub fn number(&mut self, key: &str, value: u64) -> fmt::Result {
        self.name(Some(key))?;
        write!(self.out, "{value}")
    }

    /// An address, or raw bits.
    ///
    /// # Errors
    /// As [`Json::answer`].
    pub fn hex(&mut self, key: &str, value: u64) -> fmt::Result {
        self.name(Some(key))?;
        write!(self.out, "\"{value:#x}\"")
    }

    /// A truth value.
    ///
    /// # Errors
    /// As [`Json::answer`].
    pub fn truth(&mut self, key: &str, value: bool) -> fmt::Result {
        self.name(Some(key))?;
        write!(self.out, "{value}")
    }
}

/// An answer that is a list of lines.
///
/// # Errors
/// The writer failed.
pub fn lines(schema: &str, key: &str, text: &str, out: &mut impl fmt::Write) -> fmt::Result {
    let mut json = Json::new(out);
    json.answer(schema)?;
    json.open(Some(key), '[')?;
    text.lines().try_for_each(|line| json.item(line))?;
    json.close(']')?;
    json.finish()
}

#[cfg(test)]
mod tests {
    use alloc::string::String;

    use super::*;

    #[test]
    fn an_answer_names_its_schema_and_escapes_texts() {
        let mut text = String::new();
        let mut json = Json::new(&mut text);
        json.answer("x.y").unwrap();
        json.text("a", "q\"\\\n\u{1}é").unwrap();
        json.open(Some("rows"), '[').unwrap();
        json.open(None, '{').unwrap();
        json.hex("at", 16).unwrap();
        json.close('}').unwrap();
        json.item("t").unwrap();
        json.close(']').unwrap();
        json.truth("b", true).unwrap();
        json.finish().unwrap();
        let expected = "{\"schema\":\"x.y\",\"version\":1,\"a\":\"q\\\"\\\\\\n\\u0001é\",\
                        \"rows\":[\n{\"at\":\"0x10\"},\n\"t\"],\"b\":true}\n";
        assert_eq!(text, expected);
    }
}
