//! Names and addresses of one linked kernel.
//!
//! Here: System.map and kallsyms lines, lookup by name and by address. Not here: where the kernel runs: a shift is
//! added by whoever knows it.
//!
//! Source: Linux 5.10–7.2 scripts/mksysmap; kernel/kallsyms.c `s_show`.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

use kernmem_base::{Era, VirtAddr};

/// One symbol.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Symbol {
    /// Its address as linked.
    pub address: VirtAddr,
    /// The letter of its kind, as nm prints it.
    pub kind: char,
    /// Its name.
    pub name: String,
}

/// Symbols in the order of their addresses.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Symbols {
    by_address: Vec<Symbol>,
    /// Indices into `by_address` in the order of names; among equals the file's order.
    by_name: Vec<u32>,
}

impl Symbols {
    /// Reads `address kind name` lines; other lines are skipped, and so are symbols of modules.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        Self::sorted(text.lines().filter_map(symbol).collect())
    }

    fn sorted(mut by_address: Vec<Symbol>) -> Self {
        by_address.sort_by_key(|symbol| symbol.address);
        let mut by_name: Vec<u32> = (0..by_address.len() as u32).collect();
        let name = |index: &u32| by_address.get(*index as usize).map(|symbol| symbol.name.as_str());
        by_name.sort_by(|a, b| name(a).cmp(&name(b)));
        Self { by_address, by_name }
    }

    /// Number of symbols.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_address.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_address.is_empty()
    }

    /// The address of a name; the lowest if several symbols share it.
    #[must_use]
    pub fn address(&self, name: &str) -> Option<VirtAddr> {
        let named = |index: &u32| self.by_address.get(*index as usize).map_or("", |symbol| symbol.name.as_str());
        let first = self.by_name.partition_point(|index| named(index) < name);
        let index = self.by_name.get(first).filter(|index| named(index) == name)?;
        self.by_address.get(*index as usize).map(|symbol| symbol.address)
    }

    /// The last symbol at or below an address, and the bytes between; absolute symbols are no place.
    #[must_use]
    pub fn lookup(&self, address: VirtAddr) -> Option<(&Symbol, u64)> {
        let end = self.by_address.partition_point(|symbol| symbol.address <= address);
        let places = self.by_address.get(..end)?.iter().rev();
        let symbol = places.into_iter().find(|symbol| !matches!(symbol.kind, 'A' | 'a'))?;
        Some((symbol, address - symbol.address))
    }

    /// The same kernel linked `distance` bytes higher, modulo 2^64: every symbol from `first` on moves; what lies below
    /// it, such as offsets of per-CPU variables, is no place in the image.
    #[must_use]
    pub fn linked_higher(mut self, first: VirtAddr, distance: u64) -> Self {
        let moved = self.by_address.iter_mut().filter(|symbol| symbol.address >= first);
        moved.for_each(|symbol| symbol.address = symbol.address.wrapping_add(distance));
        self
    }

    /// The same image with room for the early tables of another era: behind its end, where an era that has none in
    /// the image, or less, finds it. No segment changes but the last, which grows. `page` is the page size in bytes.
    ///
    /// | era | pages in front of `init_pg_dir` to `init_pg_end`, 16 pages |
    /// |---|---|
    /// | 4.14, 5.10 | identity map (`idmap_pg_dir` to `idmap_pg_end`), data of the trampoline |
    /// | 6.1 | first identity map (`init_idmap_pg_dir` to `init_idmap_pg_end`) |
    /// | 6.12, 7.2 | the same, tables of the identity map and of page-table isolation (`idmap_ptes`, `kpti_ptes`) |
    ///
    /// An image without `_end` stays as it is.
    ///
    /// Source: Linux 5.10–7.2 arch/arm64/kernel/vmlinux.lds.S.
    #[must_use]
    pub fn with_early_tables(mut self, era: Era, page: u64) -> Self {
        const ALIGNMENT: u64 = 64 << 10;
        const FIRST_IDENTITY: (&str, Option<&str>, u64) = ("init_idmap_pg_dir", Some("init_idmap_pg_end"), 8);
        let places: &[(&str, Option<&str>, u64)] = match era {
            Era::V4_14 | Era::V5_10 => {
                &[("idmap_pg_dir", Some("idmap_pg_end"), 4), ("__entry_tramp_data_start", None, 1)]
            }
            Era::V6_1 => &[FIRST_IDENTITY],
            Era::V6_12 | Era::V7_2 => &[FIRST_IDENTITY, ("idmap_ptes", None, 4), ("kpti_ptes", None, 4)],
        };
        let Some(end) = self.address("_end") else { return self };
        let mut at = end.0.next_multiple_of(page);
        let mut own: Vec<(&str, u64)> = Vec::new();
        for (start, last, pages) in places.iter().chain(&[("init_pg_dir", Some("init_pg_end"), 16)]) {
            own.push((start, at));
            at += pages * page;
            own.extend(last.map(|last| (last, at)));
        }
        own.push(("_end", at.next_multiple_of(ALIGNMENT)));
        let named = |symbol: &Symbol| {
            let name = symbol.name.strip_prefix("__pi_").unwrap_or(&symbol.name);
            own.iter().any(|(other, _)| *other == name)
        };
        self.by_address.retain(|symbol| !named(symbol));
        let new = own.iter().map(|(name, at)| Symbol { address: VirtAddr(*at), kind: 'B', name: (*name).to_owned() });
        self.by_address.extend(new);
        Self::sorted(self.by_address)
    }

    /// All symbols in the order of their addresses.
    pub fn iter(&self) -> impl Iterator<Item = &Symbol> {
        self.by_address.iter()
    }
}

fn symbol(line: &str) -> Option<Symbol> {
    let mut fields = line.split_ascii_whitespace();
    let address = u64::from_str_radix(fields.next()?, 16).ok()?;
    let (kind, name) = (fields.next()?, fields.next()?);
    let mut kinds = kind.chars();
    let kind = kinds.next()?;
    if kinds.next().is_some() || fields.next().is_some() {
        return None;
    }
    Some(Symbol { address: VirtAddr(address), kind, name: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;

    const MAP: &str = "ffff800008000000 T _text\nffff800008010000 T _stext\nffff800008010000 T other\n\
                       0000000000000200 A PECOFF\nbad line\nffff800008020000 t twice\nffff800008030000 t twice\n\
                       ffff800009000000 t in_module [mod]\n";

    #[test]
    fn names_and_addresses_find_each_other() {
        let symbols = Symbols::parse(MAP);
        assert_eq!(symbols.len(), 6);
        assert_eq!(symbols.address("_stext"), Some(VirtAddr(0xffff_8000_0801_0000)));
        assert_eq!(symbols.address("twice"), Some(VirtAddr(0xffff_8000_0802_0000)));
        assert_eq!(symbols.address("none"), None);
        let (symbol, offset) = symbols.lookup(VirtAddr(0xffff_8000_0802_0010)).unwrap();
        assert_eq!((symbol.name.as_str(), offset), ("twice", 0x10));
        assert!(symbols.lookup(VirtAddr(0x300)).is_none());
    }

    #[test]
    fn room_for_early_tables_lies_behind_the_image_and_has_the_eras_names() {
        let map =
            format!("{MAP}ffff800008032000 B init_pg_dir\nffff800008035000 B init_pg_end\nffff800008040000 B _end\n");
        let old = Symbols::parse(&map).with_early_tables(Era::V5_10, 4096);
        let at = |name| old.address(name).map(|at| at.0 & 0xf_ffff);
        assert_eq!((at("idmap_pg_dir"), at("idmap_pg_end")), (Some(0x4_0000), Some(0x4_4000)));
        assert_eq!(
            (at("init_pg_dir"), at("init_pg_end"), at("_end")),
            (Some(0x4_5000), Some(0x5_5000), Some(0x6_0000))
        );
        assert_eq!(at("_stext"), Some(0x1_0000));
        let new = Symbols::parse(&map).with_early_tables(Era::V6_12, 4096);
        assert!(new.address("init_idmap_pg_end").is_some() && new.address("idmap_pg_end").is_none());
        let no_end = Symbols::parse(MAP);
        assert_eq!(no_end.clone().with_early_tables(Era::V6_12, 4096), no_end);
    }

    #[test]
    fn an_image_that_is_linked_elsewhere_keeps_its_order_and_what_is_no_part_of_it() {
        let first = VirtAddr(0xffff_8000_0800_0000);
        let moved = Symbols::parse(MAP).linked_higher(first, 0x0800_0000);
        assert_eq!(moved.address("_stext"), Some(VirtAddr(0xffff_8000_1001_0000)));
        assert_eq!(moved.address("PECOFF"), Some(VirtAddr(0x200)));
        let (symbol, offset) = moved.lookup(VirtAddr(0xffff_8000_1002_0010)).unwrap();
        assert_eq!((symbol.name.as_str(), offset), ("twice", 0x10));
    }
}
