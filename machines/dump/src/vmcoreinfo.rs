//! VMCOREINFO: lines that the kernel wrote about itself, so that its memory can be understood.
//!
//! ```text
//! OSRELEASE=6.1.0          text
//! SYMBOL(init_uts_ns)=ffff800009a0b7c0   hexadecimal
//! SIZE(page)=64            decimal; so are OFFSET and LENGTH
//! NUMBER(PHYS_OFFSET)=0x40000000         decimal with sign, or hexadecimal after 0x
//! ```
//!
//! Source: Linux 5.10–7.2 kernel/crash_core.c, kernel/vmcore_info.c; arch/arm64/kernel/crash_core.c.

/// What the kernel wrote about itself.
///
/// Lines were cut at 79 characters and the whole text at a page, so the last line may be incomplete.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Vmcoreinfo {
    text: String,
}

impl Vmcoreinfo {
    /// The contents of a VMCOREINFO note; bytes that are no text are replaced.
    #[must_use]
    pub fn new(contents: &[u8]) -> Self {
        let end = contents.iter().position(|&byte| byte == 0).unwrap_or(contents.len());
        let text = contents.get(..end).unwrap_or_default();
        Self { text: String::from_utf8_lossy(text).into_owned() }
    }

    /// The whole text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Keys and values, in order.
    pub fn lines(&self) -> impl Iterator<Item = (&str, &str)> {
        self.text.lines().filter_map(|line| line.split_once('='))
    }

    /// The value of `key`.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<&str> {
        self.lines().find(|&(name, _)| name == key).map(|(_, value)| value)
    }

    fn entry(&self, kind: &str, name: &str) -> Option<&str> {
        let is_it = |key: &str| {
            let inside = key.strip_prefix(kind).and_then(|rest| rest.strip_prefix('(')?.strip_suffix(')'));
            inside == Some(name)
        };
        self.lines().find(|&(key, _)| is_it(key)).map(|(_, value)| value)
    }

    /// `OSRELEASE`.
    #[must_use]
    pub fn release(&self) -> Option<&str> {
        self.value("OSRELEASE")
    }

    /// `PAGESIZE`, in bytes.
    #[must_use]
    pub fn page_bytes(&self) -> Option<u64> {
        self.value("PAGESIZE")?.parse().ok()
    }

    /// `KERNELOFFSET`: how far the kernel image was moved.
    #[must_use]
    pub fn kernel_offset(&self) -> Option<u64> {
        hex(self.value("KERNELOFFSET")?)
    }

    /// `SYMBOL(name)`: mostly an address; what the address means differs by symbol.
    #[must_use]
    pub fn symbol(&self, name: &str) -> Option<u64> {
        hex(self.entry("SYMBOL", name)?)
    }

    /// `NUMBER(name)`; a negative one as its 64-bit pattern.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u64> {
        let value = self.entry("NUMBER", name)?;
        match value.strip_prefix("0x") {
            Some(digits) => hex(digits),
            None => value.parse().ok().or_else(|| value.parse().ok().map(i64::cast_unsigned)),
        }
    }

    /// `SIZE(name)`, in bytes.
    #[must_use]
    pub fn size(&self, name: &str) -> Option<u64> {
        self.entry("SIZE", name)?.parse().ok()
    }

    /// `OFFSET(name)`, in bytes; the name is `structure.member`.
    #[must_use]
    pub fn offset(&self, name: &str) -> Option<u64> {
        self.entry("OFFSET", name)?.parse().ok()
    }

    /// `LENGTH(name)`, in elements.
    #[must_use]
    pub fn length(&self, name: &str) -> Option<u64> {
        self.entry("LENGTH", name)?.parse().ok()
    }
}

fn hex(digits: &str) -> Option<u64> {
    u64::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_has_its_base() {
        let info = Vmcoreinfo::new(
            b"OSRELEASE=6.1.192\nPAGESIZE=4096\nSYMBOL(_stext)=ffff800008010000\nSIZE(page)=64\n\
              OFFSET(list_head.next)=0\nLENGTH(mem_section)=8192\nNUMBER(phys_base)=-360710144\n\
              NUMBER(PHYS_OFFSET)=0x40000000\nNUMBER(VA_BITS)=48\nKERNELOFFSET=fa00000\nSIZE(cut\0 after",
        );
        assert_eq!((info.release(), info.page_bytes()), (Some("6.1.192"), Some(4096)));
        assert_eq!((info.symbol("_stext"), info.kernel_offset()), (Some(0xffff_8000_0801_0000), Some(0x0fa0_0000)));
        assert_eq!((info.size("page"), info.offset("list_head.next")), (Some(64), Some(0)));
        assert_eq!((info.length("mem_section"), info.number("VA_BITS")), (Some(8192), Some(48)));
        assert_eq!(
            (info.number("phys_base"), info.number("PHYS_OFFSET")),
            (Some(0xffff_ffff_ea80_0000), Some(1 << 30))
        );
        assert_eq!((info.size("cut"), info.symbol("page"), info.lines().count()), (None, None, 10));
    }
}
