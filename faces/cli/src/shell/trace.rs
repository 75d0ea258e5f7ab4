//! The calls of vmalloc as an indented tree, by Linux's names.

use core::fmt::Write;

use kernmem_base::VirtRange;
use kernmem_vmalloc::{Call, Trace};

/// The tree in the making: a line for each call, deeper calls further in.
#[derive(Debug, Default)]
pub struct Tree {
    /// The lines.
    pub text: String,
    depth: usize,
}

impl Tree {
    fn line(&mut self, what: &str) {
        // Writing to a text cannot fail, here and below.
        let _ = match self.depth {
            0 => writeln!(self.text, "{what}"),
            depth => writeln!(self.text, "{:width$}-> {what}", "", width = 3 * (depth - 1)),
        };
    }
}

impl Trace for Tree {
    fn enter(&mut self, call: &Call) {
        self.line(&format!("{}({})", call.name(), arguments(call)));
        self.depth += 1;
    }

    fn leave(&mut self, call: &Call, is_done: bool) {
        self.depth = self.depth.saturating_sub(1);
        if !is_done {
            let _ = writeln!(self.text, "{:width$}{} fails", "", call.name(), width = 3 * self.depth);
        }
    }
}

fn node(nid: Option<u32>) -> String {
    nid.map_or_else(|| "NUMA_NO_NODE".to_owned(), |nid| nid.to_string())
}

/// `[start, end)`; an end of 0 is that of the address space.
fn range(range: &VirtRange) -> String {
    format!("addr {:#x}, end {:#x}", range.start.0, range.last.0.wrapping_add(1))
}

fn arguments(call: &Call) -> String {
    match call {
        Call::Vmalloc { size } | Call::Vzalloc { size } | Call::VmallocHuge { size } | Call::KmallocNode { size } => {
            format!("size {size}")
        }
        Call::VmallocNode { size, align, gfp, nid } => {
            format!("size {size}, align {align}, gfp {:#x}, node {}", gfp.0, node(*nid))
        }
        Call::VmallocNodeRange { size, align, start, end, nid } => {
            format!("size {size}, align {align}, start {start}, end {end}, node {}", node(*nid))
        }
        Call::GetVmAreaNode { size, align, shift } => format!("size {size}, align {align}, shift {shift}"),
        Call::AllocVmapArea { size, align, start, end } => {
            format!("size {size}, align {align}, vstart {start}, vend {end}")
        }
        Call::SetupVmallocVm { addr } | Call::Vunmap { addr } | Call::Vfree { addr } => format!("addr {addr}"),
        Call::VmallocAreaNode { range: area, shift }
        | Call::VmapPagesRange { range: area, shift }
        | Call::VmapRangeNoflush { range: area, shift } => format!("{}, page_shift {shift}", range(area)),
        Call::VmAreaAllocPages { pages, order } => format!("nr_pages {pages}, order {}", order.0),
        Call::Vmap { pages } => format!("count {pages}"),
        Call::VunmapRangeNoflush { range: area } | Call::PurgeVmapAreaLazy { range: area } => range(area),
        Call::FreeVmapAreaNoflush { start, size } => format!("addr {start}, size {size}"),
        // Calls without arguments of their own.
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_inside_a_call_stands_further_in() {
        let mut tree = Tree::default();
        let (outer, inner) = (Call::Vmalloc { size: 4096 }, Call::KzallocNode);
        tree.enter(&outer);
        tree.enter(&inner);
        tree.enter(&inner);
        tree.leave(&inner, false);
        tree.leave(&inner, true);
        tree.leave(&outer, true);
        tree.enter(&outer);
        let lines = [
            "vmalloc(size 4096)",
            "-> kzalloc_node()",
            "   -> kzalloc_node()",
            "      kzalloc_node fails",
            "vmalloc(size 4096)",
        ];
        assert_eq!(tree.text.lines().collect::<Vec<_>>(), lines);
    }
}
