//! The boot log's lines that can be compared.

use crate::exclude::Exclusion;

/// The log of `memblock=debug` in `console`: its lines in order, call sites cut.
pub(crate) fn memblock_lines(console: &str) -> Vec<String> {
    console.lines().map(without_time).filter(|line| is_memblock(line)).map(without_call_site).collect()
}

/// A line without the time that a log may show before it.
fn without_time(line: &str) -> &str {
    match line.strip_prefix('[').and_then(|rest| rest.split_once("] ")) {
        Some((time, rest)) if time.trim().parse::<f64>().is_ok() => rest,
        _ => line,
    }
}

pub(crate) fn is_memblock(line: &str) -> bool {
    line.starts_with("memblock_")
        || line.starts_with("MEMBLOCK configuration")
        || [" memory size = ", " memory.cnt ", " memory[0x", " reserved.cnt ", " reserved[0x"]
            .iter()
            .any(|start| line.starts_with(start))
}

/// Cuts `SYMBOL+0xOFF/0xSIZE` with its blank off the end.
fn without_call_site(line: &str) -> String {
    match line.rsplit_once(' ') {
        Some((rest, last)) if last.contains("+0x") && last.contains("/0x") => rest.to_owned(),
        _ => line.to_owned(),
    }
}

/// The lines about zones, nodes and reservations, in order.
pub(crate) fn memory_lines(console: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut inside = false;
    for line in console.lines().map(without_time) {
        // The indented lines belong to the heading before them.
        let heading = HEADINGS.contains(&line);
        inside = heading || inside && line.starts_with("  ");
        if inside || STARTS.iter().any(|start| line.starts_with(start)) {
            lines.push(line.to_owned());
        }
    }
    lines
}

const HEADINGS: [&str; 3] = ["Zone ranges:", "Movable zone start for each node", "Early memory node ranges"];

const STARTS: [&str; 33] = [
    "Memory limited to ",
    "NUMA: No NUMA",
    "NUMA: NUMA disabled",
    "NUMA turned off",
    "NUMA: Faking",
    "NUMA: NODE_DATA",
    "No NUMA configuration",
    "Faking a node",
    "NODE_DATA(",
    "Initmem setup node",
    "On node ",
    "crashkernel reserved",
    "crashkernel low memory reserved",
    "Reserving ",
    "Using GB pages",
    "log_buf_len: ",
    "percpu: Embedded ",
    "Fallback order for Node ",
    "Built ",
    "Policy zone: ",
    "Unknown kernel command line parameters ",
    "Dentry cache hash table",
    "Inode-cache hash table",
    "Mount-cache hash table",
    "Mountpoint-cache hash table",
    "stackdepot hash table",
    "kasan: KernelAddressSanitizer initialized",
    "mem auto-init: ",
    "software IO TLB: area num ",
    "software IO TLB: mapped ",
    "Memory: ",
    "Freeing ",
    "debug: unmapping init ",
];

/// Compares the recorded log with ours, both from the first line to the last. If the log lost its head, what survived
/// is compared.
pub(crate) fn compare_memblock(ours: &[String], recorded: &[String], active: &[Exclusion]) -> MemblockLog {
    if recorded == ours {
        return MemblockLog { compared: ours.len(), lost: 0, difference: None };
    }
    if active.contains(&Exclusion::LostLogHead)
        && let Some(lost) = ours.len().checked_sub(recorded.len()).filter(|_| !recorded.is_empty())
        && recorded == &ours[lost..]
    {
        return MemblockLog { compared: recorded.len(), lost, difference: None };
    }
    let at = ours.iter().zip(recorded).position(|(a, b)| a != b).unwrap_or(ours.len().min(recorded.len()));
    let side = |lines: &[String]| lines.get(at).cloned().unwrap_or_else(|| "(end)".to_owned());
    MemblockLog { compared: at, lost: 0, difference: Some((at, side(ours), side(recorded))) }
}

/// What a comparison of two logs found.
pub(crate) struct MemblockLog {
    pub compared: usize,
    pub lost: usize,
    pub difference: Option<(usize, String, String)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn call_sites_are_cut_and_ranges_are_not() {
        let log = "[    0.000000] memblock_reserve: [0x0000000048000000-0x0000000048000fff] arm64_memblock_init+0x158/0x250\n\
                   memblock_phys_free: [0x1-0x2] numa_free_distance+0x2c/0x40\nother line\n reserved[0x0]\t[0x1-0x2], 0x2 bytes flags: 0x0\n";
        let lines = memblock_lines(log);
        assert_eq!(
            lines,
            [
                "memblock_reserve: [0x0000000048000000-0x0000000048000fff]",
                "memblock_phys_free: [0x1-0x2]",
                " reserved[0x0]\t[0x1-0x2], 0x2 bytes flags: 0x0",
            ]
        );
    }

    #[test]
    fn a_log_without_its_head_is_compared_by_what_survived() {
        let ours = ["a", "b", "c"].map(str::to_owned);
        let recorded = ["b", "c"].map(str::to_owned);
        let found = compare_memblock(&ours, &recorded, &Exclusion::ALL);
        assert_eq!((found.compared, found.lost), (2, 1));
        assert!(compare_memblock(&ours, &recorded, &[]).difference.is_some());
    }
}
