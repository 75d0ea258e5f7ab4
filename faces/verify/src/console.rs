//! The boot log's lines that can be compared.

use crate::exclude::Exclusion;
use crate::tally::FileTally;
use crate::verify::compare_lines;

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
    line.trim_start_matches('_').starts_with("memblock_")
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
        let is_known = STARTS.iter().any(|start| line.starts_with(start)) || ENDS.iter().any(|end| line.ends_with(end));
        if inside || is_known {
            lines.push(line.to_owned());
        }
    }
    lines
}

const HEADINGS: [&str; 3] = ["Zone ranges:", "Movable zone start for each node", "Early memory node ranges"];

const ENDS: [&str; 2] = ["MB HIGHMEM available.", "MB LOWMEM available."];

const STARTS: [&str; 34] = [
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
    "software IO TLB: SWIOTLB bounce buffer size ",
    "software IO TLB: mapped ",
    "Memory: ",
    "Freeing ",
    "debug: unmapping init ",
];

/// Whether the log begins where the kernel began.
pub(crate) fn has_head(console: &str) -> bool {
    console.lines().any(|line| without_time(line).starts_with("Linux version "))
}

/// Compares the lines about memory. If the log lost its head, what survived is compared.
pub(crate) fn compare_memory(ours: &[String], recorded: &[String], has_head: bool, active: &[Exclusion]) -> FileTally {
    const FILE: &str = "console memory lines";
    let lost = ours.len().saturating_sub(recorded.len());
    let survived = !has_head && active.contains(&Exclusion::LostLogHead) && ours[lost..] == *recorded;
    let mut tally = compare_lines(FILE, if survived { recorded } else { ours }, recorded);
    if survived && lost > 0 {
        tally.excluded.push((Exclusion::LostLogHead, lost));
    }
    tally
}

/// Cuts how much memory is available out of the line about memory; the answer is how many lines that were.
pub(crate) fn without_available(lines: &mut [String]) -> usize {
    let mut cut = 0;
    for line in lines {
        if let Some((_, total)) = line.strip_prefix("Memory: ").and_then(|rest| rest.split_once('/')) {
            *line = format!("Memory: /{total}");
            cut += 1;
        }
    }
    cut
}

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
    fn memory_lines_that_were_lost_with_the_head_are_counted_and_none_behind_it_may_differ() {
        let ours = ["a", "b", "c"].map(str::to_owned);
        let tail = ["b", "c"].map(str::to_owned);
        let found = compare_memory(&ours, &tail, false, &Exclusion::ALL);
        assert_eq!((found.equal, found.excluded), (2, vec![(Exclusion::LostLogHead, 1)]));
        assert_eq!(found.difference, None);
        assert!(compare_memory(&ours, &tail, true, &Exclusion::ALL).difference.is_some());
        assert!(compare_memory(&ours, &["a", "c"].map(str::to_owned), false, &Exclusion::ALL).difference.is_some());
        assert!(compare_memory(&ours, &tail, false, &[]).difference.is_some());
        assert!(has_head("Booting\n[    0.000000] Linux version 6.1\n") && !has_head("Zone ranges:\n"));
    }

    #[test]
    fn all_but_the_free_memory_is_compared() {
        let line = "Memory: 4040828K/4193784K available (6144K kernel code, 0K cma-reserved)";
        let mut lines = [line, "Policy zone: Normal"].map(str::to_owned);
        assert_eq!(without_available(&mut lines), 1);
        assert_eq!(lines, ["Memory: /4193784K available (6144K kernel code, 0K cma-reserved)", "Policy zone: Normal"]);
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
