//! Verdicts, and the notebook in which a lab writes them: sentences by key, numbers by name.

use core::fmt;

use kernmem_base::{Era, Size};

use crate::options::Language;
use crate::texts::Text;
use crate::{ClaimId, LabError};

/// A number, with what it counts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Value {
    /// Things.
    Count(u64),
    /// Bytes.
    Bytes(u64),
    /// A virtual or physical address, or raw bits.
    Address(u64),
    /// A truth.
    Truth(bool),
    /// A name.
    Name(String),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Bytes(bytes) => Size(*bytes).fmt(f),
            Self::Address(address) => write!(f, "{address:016x}"),
            Self::Truth(truth) => write!(f, "{truth}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// A number under its name.
pub type Number = (&'static str, Value);

/// Whether a claim holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Holds {
    /// As it stands.
    Yes,
    /// Under a condition.
    OnlyIf(Text),
    /// Not here; what is true instead.
    No(Text),
}

impl Holds {
    /// `yes`, `only if` or `no`.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::OnlyIf(_) => "only if",
            Self::No(_) => "no",
        }
    }

    /// The condition, or what is true instead.
    #[must_use]
    pub const fn because(&self) -> Option<Text> {
        match self {
            Self::Yes => None,
            Self::OnlyIf(text) | Self::No(text) => Some(*text),
        }
    }
}

/// What a lab found about one claim on one era.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verdict {
    /// The claim.
    pub claim: ClaimId,
    /// The branch of Linux that it was held against.
    pub era: Era,
    /// Whether it holds.
    pub holds: Holds,
    /// The numbers that were found on the way.
    pub numbers: Vec<Number>,
}

impl Verdict {
    /// The value called `name`.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&Value> {
        self.numbers.iter().find(|(own, _)| *own == name).map(|(_, value)| value)
    }

    /// The condition, or what is true instead, with its numbers.
    #[must_use]
    pub fn because(&self, language: Language) -> Option<String> {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = fill(language.text(self.holds.because()?), &self.numbers, &mut text);
        Some(text)
    }

    /// The count, bytes or address called `name`.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u64> {
        match self.value(name)? {
            Value::Count(number) | Value::Bytes(number) | Value::Address(number) => Some(*number),
            Value::Truth(_) | Value::Name(_) => None,
        }
    }
}

/// Where a lab writes while it runs.
pub(crate) struct Notebook<'o> {
    out: &'o mut dyn fmt::Write,
    language: Language,
    claim: Option<ClaimId>,
    numbers: Vec<Number>,
    verdicts: Vec<Verdict>,
    has_measured: bool,
}

impl<'o> Notebook<'o> {
    pub(crate) fn new(out: &'o mut dyn fmt::Write, language: Language) -> Self {
        Self { out, language, claim: None, numbers: Vec::new(), verdicts: Vec::new(), has_measured: false }
    }

    /// A heading.
    pub(crate) fn title(&mut self, name: &str, text: Text) -> Result<(), LabError> {
        Ok(writeln!(self.out, "{name}: {}", self.language.text(text))?)
    }

    /// States a claim; what follows belongs to it.
    pub(crate) fn claim(&mut self, claim: ClaimId, text: Text) -> Result<(), LabError> {
        self.claim = Some(claim);
        self.numbers.clear();
        Ok(writeln!(self.out, "\n{claim}  {}", self.language.text(text))?)
    }

    /// Writes a sentence with its numbers, and keeps the numbers.
    pub(crate) fn say(&mut self, text: Text, numbers: &[Number]) -> Result<(), LabError> {
        self.show(text, numbers)?;
        self.numbers.extend_from_slice(numbers);
        Ok(())
    }

    /// Writes a sentence that repeats: its numbers are not kept.
    pub(crate) fn show(&mut self, text: Text, numbers: &[Number]) -> Result<(), LabError> {
        self.out.write_str("       ")?;
        fill(self.language.text(text), numbers, self.out)?;
        Ok(self.out.write_char('\n')?)
    }

    /// Keeps a number without a sentence.
    pub(crate) fn keep(&mut self, number: Number) {
        self.numbers.push(number);
    }

    /// Writes a sentence whose numbers this machine gave, and keeps them.
    pub(crate) fn measured(&mut self, text: Text, numbers: &[Number]) -> Result<(), LabError> {
        self.has_measured = true;
        self.say(text, numbers)
    }

    /// Whether anything was measured.
    pub(crate) const fn has_measured(&self) -> bool {
        self.has_measured
    }

    /// Judges the claim on `era`. Several eras may follow each other, each with the numbers since the last.
    pub(crate) fn conclude(&mut self, era: Era, holds: Holds) -> Result<(), LabError> {
        let Some(claim) = self.claim else { return Ok(()) };
        write!(self.out, "    => {era}: {}", holds.word())?;
        if let Some(because) = holds.because() {
            self.out.write_str(if matches!(holds, Holds::No(_)) { ": " } else { " " })?;
            fill(self.language.text(because), &self.numbers, self.out)?;
        }
        // Its rules come from headers of later kernels.
        if era == Era::V4_14 {
            write!(self.out, " {}", self.language.text(Text::Unverified))?;
        }
        self.out.write_char('\n')?;
        self.verdicts.push(Verdict { claim, era, holds, numbers: core::mem::take(&mut self.numbers) });
        Ok(())
    }

    pub(crate) fn finish(self) -> Vec<Verdict> {
        self.verdicts
    }
}

/// Writes `text` with each `{name}` replaced by the number of that name; an unknown name stays as it is.
fn fill(text: &str, numbers: &[Number], out: &mut dyn fmt::Write) -> fmt::Result {
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        out.write_str(before)?;
        let Some((name, behind)) = after.split_once('}') else { return write!(out, "{{{after}") };
        match numbers.iter().find(|(own, _)| *own == name) {
            Some((_, value)) => write!(out, "{value}")?,
            None => write!(out, "{{{name}}}")?,
        }
        rest = behind;
    }
    out.write_str(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_replaced_and_unknown_ones_stay() {
        let mut text = String::new();
        fill("{a} of {b}, {c}{", &[("a", Value::Bytes(2 << 20)), ("b", Value::Address(0x1f))], &mut text).unwrap();
        assert_eq!(text, "2M of 000000000000001f, {c}{");
    }
}
