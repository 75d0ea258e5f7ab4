//! Commands about kernel addresses, and objects smaller than a page.

use core::fmt::Display;
use core::ptr::NonNull;

use kernmem_base::{Pfn, PhysAddr, VirtAddr};
use kernmem_slab::SlabError;
use kernmem_vmalloc::VmallocError;

use super::parse::Words;
use super::session::{Done, Session, Stop};
use super::table::Entry;

pub const COMMANDS: &[Entry] = &[
    Entry { name: "vmalloc", arguments: "SIZE", help: "takes pages, mapped one behind the other", run: vmalloc },
    Entry { name: "vmalloc_huge", arguments: "SIZE", help: "the same, in blocks where that can be", run: vmalloc_huge },
    Entry { name: "vfree", arguments: "ADDR", help: "frees such an area with its pages", run: vfree },
    Entry { name: "vmap", arguments: "PFN…", help: "maps frames one behind the other", run: vmap },
    Entry { name: "vunmap", arguments: "ADDR", help: "unmaps them; the frames stay yours", run: vunmap },
    Entry { name: "ioremap", arguments: "PHYSICAL SIZE", help: "maps device memory", run: ioremap },
    Entry { name: "iounmap", arguments: "ADDR", help: "unmaps it", run: iounmap },
    Entry { name: "purge", arguments: "", help: "flushes lazily freed addresses and makes them free", run: purge },
    Entry {
        name: "vmalloc_to_pfn",
        arguments: "ADDR",
        help: "leaves the frame behind an address of vmalloc",
        run: vmalloc_to_pfn,
    },
    Entry { name: "kmalloc", arguments: "SIZE", help: "takes an object of the slab allocator", run: kmalloc },
    Entry { name: "kfree", arguments: "ADDR", help: "frees it", run: kfree },
];

fn refused(error: impl Display) -> Stop {
    Stop::refused(format_args!("vmalloc: {error}"))
}

/// The address that was given.
fn given(session: &mut Session<'_, '_>, done: Result<VirtAddr, VmallocError>) -> Done {
    let addr = done.map_err(refused)?;
    session.say(format_args!("{addr:#x}"));
    Ok(Some(addr.0))
}

fn only_number(words: &mut Words<'_, '_>, what: &str) -> Result<u64, Stop> {
    let number = words.number(what)?;
    words.end()?;
    Ok(number)
}

fn vmalloc(session: &mut Session<'_, '_>, words: &mut Words<'_, '_>) -> Done {
    let size = only_number(words, "SIZE")?;
    let done = session.on(|running, on| running.vmalloc(on, size));
    given(session, done)
}

fn vmalloc_huge(session: &mut Session<'_, '_>, words: &mut Words<'_, '_>) -> Done {
    let size = only_number(words, "SIZE")?;
    let done = session.on(|running, on| running.vmalloc_huge(on, size));
    given(session, done)
}

fn vfree(session: &mut Session<'_, '_>, words: &mut Words<'_, '_>) -> Done {
    let addr = VirtAddr(only_number(words, "ADDR")?);
    session.on(|running, on| running.vfree(on, addr)).map_err(refused)?;
    Ok(None)
}

fn vmap(session: &mut Session<'_, '_>, words: &mut Words<'_, '_>) -> Done {
    let mut frames = vec![Pfn(words.number("PFN")?)];
    while !words.is_done() {
        frames.push(Pfn(words.number("PFN")?));
    }
    let done = session.on(|running, on| running.vmap(on, &frames));
    given(session, done)
}

fn vunmap(session: &mut Session<'_, '_>, words: &mut Words<'_, '_>) -> Done {
    let addr = VirtAddr(only_number(words, "ADDR")?);
    session.on(|running, on| running.vunmap(on, addr)).map_err(refused)?;
    Ok(None)
}

fn ioremap(session: &mut Session<'_, '_>, words: &mut Words<'_, '_>) -> Done {
    let phys = PhysAddr(words.number("PHYSICAL")?);
    let size = only_number(words, "SIZE")?;
    let done = session.on(|running, on| running.ioremap(on, phys, size));
    given(session, done)
}

fn iounmap(session: &mut Session<'_, '_>, words: &mut Words<'_, '_>) -> Done {
    let addr = VirtAddr(only_number(words, "ADDR")?);
    session.on(|running, on| running.iounmap(on, addr)).map_err(refused)?;
    Ok(None)
}

fn purge(session: &mut Session<'_, '_>, words: &mut Words<'_, '_>) -> Done {
    words.end()?;
    match session.on(|running, on| running.purge(on)) {
        Some(range) => {
            let (start, end) = (range.start.0, range.last.0.wrapping_add(1));
            session.say(format_args!("flushed {start:#x}-{end:#x}"));
        }
        None => session.say(format_args!("nothing to purge")),
    }
    Ok(None)
}

fn vmalloc_to_pfn(session: &mut Session<'_, '_>, words: &mut Words<'_, '_>) -> Done {
    let addr = VirtAddr(only_number(words, "ADDR")?);
    let found = session.live.running.vmalloc_to_pfn(addr).map_err(refused)?;
    let pfn = found.ok_or_else(|| refused(format_args!("nothing is mapped at {addr:#x}")))?;
    session.say(format_args!("{:#x}", pfn.0));
    Ok(Some(pfn.0))
}

fn kmalloc(session: &mut Session<'_, '_>, words: &mut Words<'_, '_>) -> Done {
    let size = only_number(words, "SIZE")?;
    let object = session.live.kmalloc(session.cpu, size)?;
    let addr = session.live.address_of(object)?;
    session.objects.insert(addr, size);
    session.say(format_args!("{addr:#x}"));
    Ok(Some(addr.0))
}

fn kfree(session: &mut Session<'_, '_>, words: &mut Words<'_, '_>) -> Done {
    let addr = VirtAddr(only_number(words, "ADDR")?);
    let object: Option<NonNull<u8>> = session.live.linear()?.window().ptr(addr);
    let not_ours = || Stop::refused(format_args!("slab: {addr:#x} is no memory of a slab"));
    let done = session.live.kfree(session.cpu, object.ok_or_else(not_ours)?);
    // The allocator names the pointer by which this program sees the object; people know its address.
    match done {
        Ok(()) => {
            session.objects.remove(&addr);
            Ok(None)
        }
        Err(kernmem_live::LiveError::Slab(SlabError::NotOurs { .. })) => Err(not_ours()),
        Err(kernmem_live::LiveError::Slab(SlabError::NotAnObject { .. })) => {
            Err(Stop::refused(format_args!("slab: no object begins at {addr:#x}")))
        }
        Err(kernmem_live::LiveError::Slab(SlabError::DoubleFree { .. })) => {
            Err(Stop::refused(format_args!("slab: {addr:#x} is free already")))
        }
        Err(error) => Err(error.into()),
    }
}
