//! `crashkernel=`: memory for the kernel that runs after a crash.
//!
//! Here: the forms and which word is in force. Not here: where the memory is taken.
//!
//! Source: Linux 5.10–6.12 kernel/crash_core.c, 7.2 kernel/crash_reserve.c `__parse_crashkernel`,
//! `parse_crashkernel_mem`, `parse_crashkernel_simple`, `parse_crashkernel_suffix`.

use alloc::vec::Vec;

use kernmem_base::Era;

use super::{Answer, CommandLine, CrashFault, Warning};
use crate::number::memparse;

/// Rounds the total before ranges are compared, from 6.1 on.
const TOTAL_UNIT: u64 = 128 << 20;

/// A size, and its address if the line fixes one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CrashKernel {
    /// Bytes wanted.
    pub size: u64,
    /// Where; anywhere if `None`.
    pub base: Option<u64>,
}

/// What the line asks for a crash kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CrashKernelPlan {
    /// `size[@base]` or the range list.
    pub simple: Option<CrashKernel>,
    /// Bytes of `size,high`.
    pub high: Option<u64>,
    /// Bytes of `size,low`.
    pub low: Option<u64>,
    /// Bytes of `size,cma` (7.2).
    pub cma: Option<u64>,
}

impl CrashKernelPlan {
    /// Whether the line asks for anything.
    #[must_use]
    pub const fn is_any(&self) -> bool {
        self.simple.is_some() || self.high.is_some()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Suffix {
    None,
    High,
    Low,
    Cma,
}

/// The class of a value by its end, and the value before it.
fn suffix(value: &str, era: Era) -> Suffix {
    let has_cma = match era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 | Era::V6_12 => false,
        Era::V7_2 => true,
    };
    if value.ends_with(",high") {
        Suffix::High
    } else if value.ends_with(",low") {
        Suffix::Low
    } else if has_cma && value.ends_with(",cma") {
        Suffix::Cma
    } else {
        Suffix::None
    }
}

impl CommandLine {
    /// The crash kernel's memory on a machine of `total` bytes: the last word of each class counts, `,low` only with
    /// a `,high` that can be read.
    #[must_use]
    pub fn crashkernel(&self, era: Era, total: u64) -> Answer<CrashKernelPlan> {
        let mut answer = Answer::new(CrashKernelPlan::default());
        let last = |wanted: Suffix| {
            let mut values = self.named("crashkernel").filter_map(|word| word.value.as_deref());
            values.rfind(|value| suffix(value, era) == wanted)
        };
        let mut warn = |fault: Option<CrashFault>| answer.warnings.extend(fault.map(Warning::CrashKernel));
        let mut plan = CrashKernelPlan::default();
        if let Some(value) = last(Suffix::None) {
            match parse(value, era, total) {
                Ok(simple) if simple.size == 0 => warn(Some(CrashFault::ZeroBytes)),
                Ok(simple) => plan.simple = Some(simple),
                Err(fault) => warn(Some(fault)),
            }
        }
        let mut sized = |wanted: Suffix| match last(wanted).map(|value| sized(value, era)) {
            Some(Ok(size)) => Some(size).filter(|size| *size != 0 || wanted == Suffix::Low),
            Some(Err(fault)) => {
                warn(Some(fault));
                None
            }
            None => None,
        };
        if plan.simple.is_none() {
            plan.high = sized(Suffix::High);
            plan.low = plan.high.and_then(|_| sized(Suffix::Low));
        }
        plan.cma = sized(Suffix::Cma);
        answer.value = plan;
        answer
    }
}

/// `size,word`: the size before the comma.
fn sized(value: &str, era: Era) -> Result<u64, CrashFault> {
    let (size, rest) = memparse(value, era);
    match rest.chars().next() {
        _ if rest.len() == value.len() => Err(CrashFault::MemoryValueExpected),
        Some(',') => Ok(size),
        Some(c) => Err(CrashFault::UnrecognizedChar(c)),
        None => Ok(size),
    }
}

fn parse(value: &str, era: Era, total: u64) -> Result<CrashKernel, CrashFault> {
    // A range list has a colon before any space.
    let first = value.split(' ').next().unwrap_or("");
    if first.contains(':') { ranges(value, era, total) } else { simple(value, era) }
}

fn simple(value: &str, era: Era) -> Result<CrashKernel, CrashFault> {
    let (size, rest) = memparse(value, era);
    if rest.len() == value.len() {
        return Err(CrashFault::MemoryValueExpected);
    }
    match rest.chars().next() {
        Some('@') => Ok(CrashKernel { size, base: base(rest, era) }),
        Some(' ') | None => Ok(CrashKernel { size, base: None }),
        Some(c) => Err(CrashFault::UnrecognizedChar(c)),
    }
}

/// The address behind `@`; address 0 means anywhere.
fn base(text: &str, era: Era) -> Option<u64> {
    text.strip_prefix('@').map(|text| memparse(text, era).0).filter(|base| *base != 0)
}

fn ranges(value: &str, era: Era, total: u64) -> Result<CrashKernel, CrashFault> {
    let total = match era {
        Era::V4_14 | Era::V5_10 => total,
        Era::V6_1 | Era::V6_12 | Era::V7_2 => total.checked_next_multiple_of(TOTAL_UNIT).unwrap_or(total),
    };
    let number = |text| {
        let (number, rest): (u64, &str) = memparse(text, era);
        if rest.len() == str::len(text) { Err(CrashFault::MemoryValueExpected) } else { Ok((number, rest)) }
    };
    let mut text = value;
    let mut found = 0;
    loop {
        let (start, rest) = number(text)?;
        let rest = rest.strip_prefix('-').ok_or(CrashFault::DashExpected)?;
        let (end, rest) = if rest.starts_with(':') { (u64::MAX, rest) } else { number(rest)? };
        if end <= start {
            return Err(CrashFault::EndBelowStart);
        }
        let rest = rest.strip_prefix(':').ok_or(CrashFault::ColonExpected)?;
        let (size, rest) = number(rest)?;
        if size >= total {
            return Err(CrashFault::InvalidSize);
        }
        text = rest;
        if (start..end).contains(&total) {
            found = size;
            break;
        }
        match text.strip_prefix(',') {
            Some(next) => text = next,
            None => break,
        }
    }
    // The address stands behind the last range, wherever the search ended.
    let place = text.split(' ').next().unwrap_or("").find('@').and_then(|at| text.get(at..));
    Ok(CrashKernel { size: found, base: place.filter(|_| found != 0).and_then(|place| base(place, era)) })
}

/// The values of all `crashkernel=` words, in order.
impl CommandLine {
    /// The values as written.
    #[must_use]
    pub fn crashkernel_words(&self) -> Vec<&str> {
        self.named("crashkernel").filter_map(|word| word.value.as_deref()).collect()
    }
}
