//! `/proc/iomem`: a tree of named ranges of bus addresses.
//!
//! Source: Linux 5.10–7.2 kernel/resource.c `r_show`.

use alloc::string::String;
use alloc::vec::Vec;

use kernmem_base::PhysAddr;

/// `/proc/iomem`: resources in the order of their addresses, children behind their parents.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct IoMem {
    /// The resources.
    pub resources: Vec<Resource>,
}

/// One range.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Resource {
    /// How deep in the tree; 0 is a child of the root.
    pub depth: u32,
    /// First address; 0 for a reader without rights.
    pub first: PhysAddr,
    /// Last address, inclusive; 0 for a reader without rights.
    pub last: PhysAddr,
    /// Its name.
    pub name: String,
}
