//! Commands about pools of huge pages.

use kernmem_base::{Order, Size};

use super::parse::Words;
use super::session::{Done, Session, Stop};
use super::table::{Entry, on_off};

pub const COMMANDS: &[Entry] = &[
    Entry {
        name: "hugepages",
        arguments: "SIZE COUNT",
        help: "makes the pool COUNT pages large, as nr_hugepages does; leaves how large it is",
        run: hugepages,
    },
    Entry {
        name: "hvo",
        arguments: "on|off",
        help: "lets pages that enter pools give their descriptors' memory back",
        run: hvo,
    },
];

fn hugepages(session: &mut Session<'_, '_>, words: &mut Words<'_, '_>) -> Done {
    let (bytes, count) = (words.number("SIZE")?, words.number("COUNT")?);
    words.end()?;
    let facts = &session.live.running.facts;
    let granule = facts.granule.bytes();
    let size_of = |order: &Order| granule << order.0;
    let order = facts.huge_orders.iter().find(|order| size_of(order) == bytes).copied();
    let Some(index) = order.and_then(|order| session.live.running.pool_of(order)) else {
        let sizes: Vec<String> = facts.huge_orders.iter().map(|order| Size(size_of(order)).to_string()).collect();
        let sizes = if sizes.is_empty() { "none".to_owned() } else { sizes.join(", ") };
        return Err(Stop::Refused(format!("there is no pool of {} pages; this kernel has {sizes}", Size(bytes))));
    };
    let resized = session.on(|running, on| running.resize_pool(on, index, count));
    let resized = resized.ok_or_else(|| Stop::refused("there is no such pool"))?;
    let (size, pages) = (Size(bytes), resized.pages);
    match resized.stopped {
        Some(why) => session.say(format_args!("{pages} of {count} pages of {size}: {why}")),
        None => session.say(format_args!("{pages} pages of {size}")),
    }
    Ok(Some(pages))
}

fn hvo(session: &mut Session<'_, '_>, words: &mut Words<'_, '_>) -> Done {
    let is_on = on_off(words)?;
    session.live.running.optimize_new(is_on);
    Ok(None)
}
