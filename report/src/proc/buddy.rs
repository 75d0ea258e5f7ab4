//! `/proc/buddyinfo` and `/proc/pagetypeinfo`.
//!
//! Source: Linux 5.10–7.2 mm/vmstat.c `frag_show_print`, `pagetypeinfo_show`.

use core::fmt;

use kernmem_view::proc::{BuddyInfo, PageTypeBlocks, PageTypeInfo, PageTypeNode};

/// Free blocks of a type that are counted at most.
const MOST: u64 = 100_000;

/// `/proc/buddyinfo`, the same in all eras.
///
/// # Errors
/// The writer failed.
pub fn buddyinfo(info: &BuddyInfo, out: &mut impl fmt::Write) -> fmt::Result {
    for zone in &info.zones {
        write!(out, "Node {}, zone {:>8} ", zone.node, zone.kind)?;
        for blocks in &zone.free {
            write!(out, "{blocks:6} ")?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// `/proc/pagetypeinfo`, the same in all eras: a whole text for each node.
///
/// # Errors
/// The writer failed.
pub fn pagetypeinfo(info: &PageTypeInfo, out: &mut impl fmt::Write) -> fmt::Result {
    info.nodes.iter().try_for_each(|node| print_node(info, node, out))
}

fn print_node(info: &PageTypeInfo, node: &PageTypeNode, out: &mut impl fmt::Write) -> fmt::Result {
    writeln!(out, "Page block order: {}", info.pageblock_order)?;
    writeln!(out, "Pages per block:  {}", info.pageblock_pages)?;
    writeln!(out)?;
    write!(out, "{:<43} ", "Free pages count per migrate type at order")?;
    for order in 0..info.orders {
        write!(out, "{order:6} ")?;
    }
    writeln!(out)?;
    for row in &node.free {
        write!(out, "Node {:4}, zone {:>8}, type {:>12} ", row.node, row.kind, row.migrate.name())?;
        for count in &row.counts {
            let more = if *count >= MOST { ">" } else { "" };
            write!(out, "{more}{:6} ", count.min(&MOST))?;
        }
        writeln!(out)?;
    }
    blocks("Number of blocks type ", info, &node.blocks, out)?;
    match &node.mixed {
        Some(mixed) => blocks("Number of mixed blocks ", info, mixed, out),
        None => Ok(()),
    }
}

fn blocks(head: &str, info: &PageTypeInfo, rows: &[PageTypeBlocks], out: &mut impl fmt::Write) -> fmt::Result {
    write!(out, "\n{head:<23}")?;
    for kind in &info.types {
        write!(out, "{:>12} ", kind.name())?;
    }
    writeln!(out)?;
    for row in rows {
        write!(out, "Node {}, zone {:>8} ", row.node, row.kind)?;
        for count in &row.counts {
            write!(out, "{count:12} ")?;
        }
        writeln!(out)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use alloc::string::String;
    use alloc::vec;

    use kernmem_view::proc::{MigrateType, PageTypeFree, ZoneKind};

    use super::*;

    #[test]
    fn counting_stops_at_a_hundred_thousand() {
        let free = |counts| PageTypeFree { node: 0, kind: ZoneKind::Normal, migrate: MigrateType::Movable, counts };
        let info = PageTypeInfo {
            pageblock_order: 9,
            pageblock_pages: 512,
            orders: 3,
            types: vec![MigrateType::Movable],
            nodes: vec![PageTypeNode {
                free: vec![free(vec![99_999, 100_000, 7_000_000])],
                blocks: vec![],
                mixed: Some(vec![]),
            }],
        };
        let mut text = String::new();
        pagetypeinfo(&info, &mut text).unwrap();
        assert!(text.contains("type      Movable  99999 >100000 >100000 \n"), "{text}");
        assert!(text.ends_with("\nNumber of mixed blocks      Movable \n"), "{text}");
    }
}
