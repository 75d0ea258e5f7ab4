//! Commands about kernel addresses, and objects smaller than a page.

use core::error::Error;
use core::fmt::Display;
use core::ptr::{NonNull, without_provenance_mut};

use kernmem::running::{caller, is_of_boot};
use kernmem_base::{Pfn, PhysAddr, VirtAddr};
use kernmem_live::LiveError;
use kernmem_slab::{SlabError, ZERO_SIZE};
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

/// An error with what is behind it.
fn failed(error: VmallocError) -> Stop {
    match error.source() {
        Some(source) => refused(format_args!("{error}: {source}")),
        None => refused(error),
    }
}

/// The area at the next word's address, which is to go. The areas that boot made stay.
fn to_go(session: &Session<'_, '_>, words: &mut Words<'_, '_>) -> Result<VirtAddr, Stop> {
    let addr = VirtAddr(only_number(words, "ADDR")?);
    let area = session.live.running.areas.find_vm_area(addr);
    match area.filter(|area| is_of_boot(area.caller)) {
        Some(area) => {
            let owner = caller(area.caller);
            Err(refused(format_args!("the area at {addr:#x} is the kernel's own, of {owner}")))
        }
        None => Ok(addr),
    }
}

/// The address that was given.
fn given(session: &mut Session<'_, '_>, done: Result<VirtAddr, VmallocError>) -> Done {
    let addr = done.map_err(failed)?;
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
    let addr = to_go(session, words)?;
    session.on(|running, on| running.vfree(on, addr)).map_err(failed)?;
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
    let addr = to_go(session, words)?;
    session.on(|running, on| running.vunmap(on, addr)).map_err(failed)?;
    Ok(None)
}

fn ioremap(session: &mut Session<'_, '_>, words: &mut Words<'_, '_>) -> Done {
    let phys = PhysAddr(words.number("PHYSICAL")?);
    let size = only_number(words, "SIZE")?;
    let done = session.on(|running, on| running.ioremap(on, phys, size));
    given(session, done)
}

fn iounmap(session: &mut Session<'_, '_>, words: &mut Words<'_, '_>) -> Done {
    let addr = to_go(session, words)?;
    session.on(|running, on| running.iounmap(on, addr)).map_err(failed)?;
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

/// What a request of no bytes gives: an address that is no memory.
const NOTHING: VirtAddr = VirtAddr(ZERO_SIZE as u64);

fn kmalloc(session: &mut Session<'_, '_>, words: &mut Words<'_, '_>) -> Done {
    let size = only_number(words, "SIZE")?;
    let object = session.live.kmalloc(session.cpu, size)?;
    let addr = if object.addr().get() == ZERO_SIZE { NOTHING } else { session.live.address_of(object)? };
    session.objects.insert(addr, size);
    session.say(format_args!("{addr:#x}"));
    Ok(Some(addr.0))
}

fn kfree(session: &mut Session<'_, '_>, words: &mut Words<'_, '_>) -> Done {
    let addr = VirtAddr(only_number(words, "ADDR")?);
    let object: Option<NonNull<u8>> = match addr {
        // As in Linux, freeing nothing is nothing.
        VirtAddr(0) => return Ok(None),
        NOTHING => NonNull::new(without_provenance_mut(ZERO_SIZE)),
        addr => session.live.linear()?.window().ptr(addr),
    };
    let not_ours = || Stop::refused(format_args!("slab: {addr:#x} is no memory of a slab"));
    // The allocator names the pointer by which this program sees the object; people know its address.
    match session.live.kfree(session.cpu, object.ok_or_else(not_ours)?) {
        Ok(()) => {
            session.objects.remove(&addr);
            Ok(None)
        }
        Err(LiveError::Slab(SlabError::NotOurs { .. })) => Err(not_ours()),
        Err(LiveError::Slab(SlabError::NotAnObject { .. })) => {
            Err(Stop::refused(format_args!("slab: no object begins at {addr:#x}")))
        }
        Err(LiveError::Slab(SlabError::DoubleFree { .. })) => {
            Err(Stop::refused(format_args!("slab: {addr:#x} is free already")))
        }
        Err(error) => Err(error.into()),
    }
}
