//! Events that own what they say, and an observer that keeps them.

use heap::vec::Vec;

use crate::{Dump, Event, Observer, Region};

/// An event that outlives the lists it speaks of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LoggedEvent {
    /// Anything but a dump.
    Plain(Event<'static>),
    /// Both lists, copied.
    Dump {
        /// Memory that exists.
        memory: Vec<Region>,
        /// Memory that is taken.
        reserved: Vec<Region>,
        /// Bytes of memory, as Linux counts them.
        memory_size: u64,
        /// Bytes taken.
        reserved_size: u64,
    },
}

impl LoggedEvent {
    /// The event as it was told.
    #[must_use]
    pub fn as_event(&self) -> Event<'_> {
        match self {
            Self::Plain(event) => *event,
            Self::Dump { memory, reserved, memory_size, reserved_size } => {
                Event::Dump(Dump { memory, reserved, memory_size: *memory_size, reserved_size: *reserved_size })
            }
        }
    }
}

impl From<Event<'_>> for LoggedEvent {
    fn from(event: Event<'_>) -> Self {
        Self::Plain(match event {
            Event::Dump(dump) => {
                return Self::Dump {
                    memory: dump.memory.to_vec(),
                    reserved: dump.reserved.to_vec(),
                    memory_size: dump.memory_size,
                    reserved_size: dump.reserved_size,
                };
            }
            Event::Add { base, size } => Event::Add { base, size },
            Event::AddNode { base, size, nid, flags } => Event::AddNode { base, size, nid, flags },
            Event::Remove { base, size } => Event::Remove { base, size },
            Event::Reserve { base, size, nid, flags } => Event::Reserve { base, size, nid, flags },
            Event::Free { base, size } => Event::Free { base, size },
            Event::FreeLate { base, size } => Event::FreeLate { base, size },
            Event::Alloc { api, size, align, nid, from, max } => Event::Alloc { api, size, align, nid, from, max },
            Event::PhysAllocRange { size, align, from, max } => Event::PhysAllocRange { size, align, from, max },
            Event::Doubled { list, entries, base, size } => Event::Doubled { list, entries, base, size },
            Event::DoubleFailed { list, from, to } => Event::DoubleFailed { list, from, to },
            Event::MirrorExhausted { size } => Event::MirrorExhausted { size },
            Event::CapWithoutMemory => Event::CapWithoutMemory,
            Event::Uncovered { bytes, total } => Event::Uncovered { bytes, total },
        })
    }
}

/// An observer that keeps every event in order.
#[derive(Clone, Debug, Default)]
pub struct Recorder(pub Vec<LoggedEvent>);

impl Observer for Recorder {
    fn event(&mut self, event: Event<'_>) {
        self.0.push(event.into());
    }
}
