//! Tables of i386: two or three levels, and where low memory ends.

use kernmem::i386::{layout_facts, low_facts};
use kernmem_arch::i386::layout::Layout;
use kernmem_arch::i386::low_memory::split;
use kernmem_base::{Era, Pfn};
use kernmem_report::layout;

use super::{Kasan, LayoutArgs, Tables};
use crate::failure::Failure;
use crate::machine::Opened;

/// The tables of all eras.
pub(super) fn tables(args: &LayoutArgs, opened: &Opened, eras: &[Era]) -> Result<Tables, Failure> {
    let kernel = &args.kernel;
    if kernel.page_size.is_some_and(|granule| granule.shift() != 12) || kernel.va_bits.is_some_and(|bits| bits != 32) {
        return Err(Failure::input("--page-size, --va-bits: i386 has pages of 4K and 32 bits; leave them out"));
    }
    if args.kasan.is_some_and(|mode| mode != Kasan::Off) || args.bases.is_some() {
        return Err(Failure::input("--kasan, --bases: i386 has no shadow, and no bases are drawn; leave them out"));
    }
    let mut config = opened.source.config.clone();
    match args.levels {
        None => {}
        Some(2) => config.kconfig.insert("X86_PAE", "n"),
        Some(3) => config.kconfig.insert("X86_PAE", "y"),
        Some(levels) => return Err(Failure::input(format!("--levels {levels}: i386 has 2, and 3 with PAE"))),
    }
    let tables = eras.iter().map(|era| {
        config.era = *era;
        let facts = layout_facts(&config);
        let (layout, fixmap) = Layout::new(&facts);
        let most = facts.paging.max_arch_pfn().0;
        let max_pfn = Pfn(opened.source.machine.e820.end_pfn(*era, most, most));
        let low = split(&low_facts(&config, &layout, max_pfn));
        layout::i386_table(&layout.with_low_memory(low.max_low), &fixmap)
    });
    let tables = tables.collect();
    let notes = match kernel.seed {
        Some(_) => vec!["Nothing is drawn: on i386 a seed moves the image alone, inside low memory.".to_owned()],
        None => Vec::new(),
    };
    Ok(Tables { tables, notes, beside: false })
}
