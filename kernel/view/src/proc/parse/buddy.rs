//! Reads `/proc/buddyinfo` and `/proc/pagetypeinfo`.
//!
//! Source: Linux 5.10–7.2 mm/vmstat.c `frag_show`, `pagetypeinfo_show`.

use alloc::vec::Vec;

use super::super::{BuddyInfo, BuddyRow, MigrateType, PageTypeBlocks, PageTypeFree, PageTypeInfo, PageTypeNode};
use super::{Line, Lines, ParseError};

/// Reads `/proc/buddyinfo`.
///
/// # Errors
/// The first line that is no row of a zone.
pub fn buddyinfo(text: &str) -> Result<BuddyInfo, ParseError> {
    let row = |line: Line<'_>| {
        let (node, kind, rest) = line.node_and_zone()?;
        Ok(BuddyRow { node, kind, free: line.numbers(rest)? })
    };
    Ok(BuddyInfo { zones: Lines::new(text).map(row).collect::<Result<_, _>>()? })
}

/// Reads `/proc/pagetypeinfo`.
///
/// # Errors
/// The first line that does not stand in such a file, or differs from one node to the next where it must not.
pub fn pagetypeinfo(text: &str) -> Result<PageTypeInfo, ParseError> {
    let mut lines = Lines::new(text);
    let mut info = one_node(&mut lines)?;
    while lines.peek().is_some() {
        let line = lines.count + 1;
        let mut next = one_node(&mut lines)?;
        info.nodes.append(&mut next.nodes);
        next.nodes.clone_from(&info.nodes);
        if next != info {
            return Err(ParseError { line, expected: "the same orders and types for each node" });
        }
    }
    Ok(info)
}

fn one_node(lines: &mut Lines<'_>) -> Result<PageTypeInfo, ParseError> {
    let pageblock_order = after(lines, "Page block order:")?;
    let pageblock_order =
        u32::try_from(pageblock_order).map_err(|_| ParseError { line: lines.count, expected: "an order" })?;
    let pageblock_pages = after(lines, "Pages per block:")?;
    lines.must("an empty line")?;
    let orders = orders(lines)?;
    let free = free_rows(lines)?;
    let head = lines.must("`Number of blocks type`")?;
    let types = head.text.strip_prefix("Number of blocks type").ok_or_else(|| head.wrong("`Number of blocks type`"))?;
    let types = types.split_whitespace().map(|name| migrate(&head, name)).collect::<Result<Vec<_>, _>>()?;
    let blocks = block_rows(lines)?;
    let mixed = match lines.next_if(|line| line.text.is_empty()) {
        Some(_) => {
            let head = lines.must("`Number of mixed blocks`")?;
            if !head.text.starts_with("Number of mixed blocks") {
                return Err(head.wrong("`Number of mixed blocks`"));
            }
            Some(block_rows(lines)?)
        }
        None => None,
    };
    let nodes = alloc::vec![PageTypeNode { free, blocks, mixed }];
    Ok(PageTypeInfo { pageblock_order, pageblock_pages, orders, types, nodes })
}

fn after(lines: &mut Lines<'_>, name: &'static str) -> Result<u64, ParseError> {
    let line = lines.must(name)?;
    let rest = line.text.strip_prefix(name).ok_or_else(|| line.wrong(name))?;
    line.number(rest.trim())
}

/// How many orders the header names: 0, 1, 2 and so on.
fn orders(lines: &mut Lines<'_>) -> Result<u32, ParseError> {
    const HEAD: &str = "Free pages count per migrate type at order";
    let head = lines.must(HEAD)?;
    let rest = head.text.strip_prefix(HEAD).ok_or_else(|| head.wrong(HEAD))?;
    let mut count = 0;
    for word in rest.split_whitespace() {
        if head.small(word)? != count {
            return Err(head.wrong("the next order"));
        }
        count += 1;
    }
    Ok(count)
}

fn migrate(line: &Line<'_>, name: &str) -> Result<MigrateType, ParseError> {
    MigrateType::ALL
        .into_iter()
        .find(|kind| kind.name() == name)
        .ok_or_else(|| line.wrong("the name of a migrate type"))
}

/// Rows up to the empty line.
fn free_rows(lines: &mut Lines<'_>) -> Result<Vec<PageTypeFree>, ParseError> {
    let mut rows = Vec::new();
    for line in lines.by_ref().take_while(|line| !line.text.is_empty()) {
        let (node, kind, rest) = line.node_and_zone()?;
        let rest = rest.strip_prefix(", type").ok_or_else(|| line.wrong("`, type`"))?.trim_start();
        let (name, rest) = rest.split_once(' ').ok_or_else(|| line.wrong("counts"))?;
        let count = |word: &str| line.number(word.strip_prefix('>').unwrap_or(word));
        let counts = rest.split_whitespace().map(count).collect::<Result<_, _>>()?;
        rows.push(PageTypeFree { node, kind, migrate: migrate(&line, name)?, counts });
    }
    Ok(rows)
}

/// Rows of zones, as far as they go.
fn block_rows(lines: &mut Lines<'_>) -> Result<Vec<PageTypeBlocks>, ParseError> {
    let mut rows = Vec::new();
    while let Some(line) = lines.next_if(|line| line.text.starts_with("Node")) {
        let (node, kind, rest) = line.node_and_zone()?;
        rows.push(PageTypeBlocks { node, kind, counts: line.numbers(rest)? });
    }
    Ok(rows)
}
