//! Flattened devicetrees: one validated walk, then lookups that cannot fail.
//!
//! Here: header, structure and strings, nodes and properties. Not here: what the properties mean (`facts`), which
//! memory masters reach (`dma`).
//!
//! # Invariants
//! 1. `nodes` is in the blob's order; the subtree of node `i` is `i..nodes[i].end`.
//! 2. All offsets in `nodes` lie inside the blob: [`Devicetree::parse`] visited each token.
//!
//! Source: Devicetree Specification 0.4 chapter 5; tolerance as Linux 6.1 scripts/dtc/libfdt/fdt_ro.c,
//! drivers/of/fdt.c.

use alloc::vec::Vec;
use core::fmt;

mod dma;
mod facts;
#[cfg(test)]
mod tests;

const MAGIC: u32 = 0xd00d_feed;
const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROP: u32 = 3;
const NOP: u32 = 4;
const END: u32 = 9;
/// Linux unpacks no deeper tree.
const MAX_DEPTH: usize = 64;

/// What is wrong with a devicetree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum TreeFault {
    /// The first word is not the magic number.
    NotATree {
        /// What was found.
        found: u32,
    },
    /// A version older than 16 or one that readers of version 17 may not read.
    Version {
        /// The blob's version.
        version: u32,
        /// The oldest version it claims to be compatible with.
        compatible: u32,
    },
    /// The blob ends before what is named here.
    Truncated {
        /// What was looked for.
        what: &'static str,
        /// Bytes the blob would need.
        needed: u64,
    },
    /// A block does not start at a multiple of its unit.
    Misaligned {
        /// Which block.
        what: &'static str,
    },
    /// A word of the structure block that is no token.
    Token {
        /// What was found.
        found: u32,
    },
    /// A token where the structure does not allow it.
    Structure {
        /// What was expected.
        expected: &'static str,
    },
    /// A property's name lies outside the strings block.
    PropertyName {
        /// The offset in the strings block.
        offset: u32,
    },
    /// More levels than Linux unpacks.
    TooDeep,
}

/// A devicetree that cannot be read, and where.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TreeError {
    /// Byte in the blob.
    pub offset: usize,
    /// What is wrong there.
    pub fault: TreeFault,
}

impl fmt::Display for TreeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "byte {:#x}: ", self.offset)?;
        match self.fault {
            TreeFault::NotATree { found } => write!(f, "not a devicetree: magic {found:#010x}, expected {MAGIC:#010x}"),
            TreeFault::Version { version, compatible } => {
                write!(f, "devicetree version {version} (compatible with {compatible}); 16 and 17 are known")
            }
            TreeFault::Truncated { what, needed } => {
                write!(f, "the blob ends inside its {what}; {needed} bytes needed")
            }
            TreeFault::Misaligned { what } => write!(f, "the {what} is misaligned"),
            TreeFault::Token { found } => write!(f, "unknown token {found:#x}"),
            TreeFault::Structure { expected } => write!(f, "expected {expected}"),
            TreeFault::PropertyName { offset } => write!(f, "property name at {offset:#x} is outside the strings"),
            TreeFault::TooDeep => write!(f, "more than {MAX_DEPTH} levels of nodes"),
        }
    }
}

impl core::error::Error for TreeError {}

const fn fail<T>(offset: usize, fault: TreeFault) -> Result<T, TreeError> {
    Err(TreeError { offset, fault })
}

/// A node of a tree: an index that is valid for the tree that gave it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct NodeId(usize);

#[derive(Clone, Copy, Debug)]
struct Node<'a> {
    name: &'a [u8],
    parent: usize,
    /// One past the last node of the subtree.
    end: usize,
    /// Properties before the first subnode: bytes of the blob.
    properties: (usize, usize),
}

/// A parsed devicetree that borrows its blob.
#[derive(Clone, Debug)]
pub struct Devicetree<'a> {
    blob: &'a [u8],
    strings: &'a [u8],
    total_size: u32,
    reservations: usize,
    nodes: Vec<Node<'a>>,
}

fn word(blob: &[u8], at: usize) -> Option<u32> {
    let bytes = blob.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

fn until_nul(bytes: &[u8]) -> Option<&[u8]> {
    let len = bytes.iter().position(|byte| *byte == 0)?;
    bytes.get(..len)
}

const fn align4(at: usize) -> usize {
    at.next_multiple_of(4)
}

impl<'a> Devicetree<'a> {
    /// Reads and checks the whole blob; bytes behind its total size are ignored.
    ///
    /// # Errors
    /// The first offence in the order of the blob's reading.
    pub fn parse(blob: &'a [u8]) -> Result<Self, TreeError> {
        let field = |at: usize| {
            let fault = TreeFault::Truncated { what: "header", needed: 40 };
            word(blob, at).ok_or(TreeError { offset: blob.len(), fault })
        };
        let found = field(0)?;
        if found != MAGIC {
            return fail(0, TreeFault::NotATree { found });
        }
        let (total_size, version, compatible) = (field(4)?, field(20)?, field(24)?);
        if version < 16 || compatible > 17 || compatible > version {
            return fail(20, TreeFault::Version { version, compatible });
        }
        let Some(blob) = blob.get(..total_size as usize) else {
            return fail(4, TreeFault::Truncated { what: "total size", needed: u64::from(total_size) });
        };
        let (structure, strings, reservations) = (field(8)? as usize, field(12)? as usize, field(16)? as usize);
        let strings_size = field(32)? as usize;
        let structure_size = if version >= 17 { field(36)? as usize } else { blob.len().saturating_sub(structure) };
        if structure % 4 != 0 {
            return fail(8, TreeFault::Misaligned { what: "structure block" });
        }
        if reservations % 8 != 0 {
            return fail(16, TreeFault::Misaligned { what: "memory reservation block" });
        }
        let block = |at: usize, start: usize, size: usize, what: &'static str| {
            let end = start.checked_add(size).filter(|end| *end <= blob.len());
            let needed = start as u64 + size as u64;
            end.ok_or(TreeError { offset: at, fault: TreeFault::Truncated { what, needed } })
        };
        let strings_end = block(12, strings, strings_size, "strings block")?;
        let structure_end = block(8, structure, structure_size, "structure block")?;
        let mut tree = Self {
            blob,
            strings: blob.get(strings..strings_end).unwrap_or(&[]),
            total_size,
            reservations,
            nodes: Vec::new(),
        };
        tree.read_structure(structure, structure_end)?;
        tree.check_reservations()?;
        Ok(tree)
    }

    fn read_structure(&mut self, start: usize, end: usize) -> Result<(), TreeError> {
        let (blob, strings) = (self.blob.get(..end).unwrap_or(self.blob), self.strings);
        let mut open: Vec<usize> = Vec::new();
        let mut at = start;
        loop {
            let needed = at as u64 + 4;
            let short = |what| TreeError { offset: at, fault: TreeFault::Truncated { what, needed } };
            let token = word(blob, at).ok_or_else(|| short("structure block"))?;
            match token {
                BEGIN_NODE => {
                    let name = blob.get(at + 4..).and_then(until_nul).ok_or_else(|| short("node name"))?;
                    if open.len() == MAX_DEPTH {
                        return fail(at, TreeFault::TooDeep);
                    }
                    if open.is_empty() && !self.nodes.is_empty() {
                        return fail(at, TreeFault::Structure { expected: "the end of the tree" });
                    }
                    let body = align4(at + 4 + name.len() + 1);
                    let parent = open.last().copied().unwrap_or(0);
                    open.push(self.nodes.len());
                    self.nodes.push(Node { name, parent, end: 0, properties: (body, body) });
                    at = body;
                }
                END_NODE => {
                    let Some(node) = open.pop() else {
                        return fail(at, TreeFault::Structure { expected: "a node before its end" });
                    };
                    let end = self.nodes.len();
                    if let Some(node) = self.nodes.get_mut(node) {
                        node.end = end;
                    }
                    at += 4;
                }
                PROP => {
                    let Some(&node) = open.last() else {
                        return fail(at, TreeFault::Structure { expected: "a node around the property" });
                    };
                    let (len, name) =
                        word(blob, at + 4).zip(word(blob, at + 8)).ok_or_else(|| short("property header"))?;
                    let end = (at + 12).checked_add(len as usize).filter(|end| *end <= blob.len());
                    let end = end.ok_or_else(|| short("property value"))?;
                    if strings.get(name as usize..).and_then(until_nul).is_none() {
                        return fail(at + 8, TreeFault::PropertyName { offset: name });
                    }
                    at = align4(end);
                    // A property behind a subnode is found by no reader of Linux.
                    let is_last = node + 1 == self.nodes.len();
                    if let Some(node) = self.nodes.get_mut(node).filter(|_| is_last) {
                        node.properties.1 = at.min(blob.len());
                    }
                }
                NOP => at += 4,
                END if open.is_empty() && !self.nodes.is_empty() => return Ok(()),
                END => return fail(at, TreeFault::Structure { expected: "the end of each node first" }),
                found => return fail(at, TreeFault::Token { found }),
            }
        }
    }

    fn check_reservations(&self) -> Result<(), TreeError> {
        let mut at = self.reservations;
        loop {
            match self.reservation_at(at) {
                Some((0, 0)) => return Ok(()),
                Some(_) => at += 16,
                None => {
                    let needed = at as u64 + 16;
                    return fail(at, TreeFault::Truncated { what: "memory reservation block", needed });
                }
            }
        }
    }

    fn reservation_at(&self, at: usize) -> Option<(u64, u64)> {
        let words =
            [word(self.blob, at)?, word(self.blob, at + 4)?, word(self.blob, at + 8)?, word(self.blob, at + 12)?];
        let [a, b, c, d] = words.map(u64::from);
        Some((a << 32 | b, c << 32 | d))
    }

    /// Bytes of the blob, from its header.
    #[must_use]
    pub const fn total_size(&self) -> u32 {
        self.total_size
    }

    /// Address and size of each entry of the header's reservation block, ended by one that is all zero.
    pub fn reservations(&self) -> impl Iterator<Item = (u64, u64)> {
        let entries = (self.reservations..self.blob.len()).step_by(16).map_while(|at| self.reservation_at(at));
        entries.take_while(|entry| *entry != (0, 0))
    }

    /// The root.
    #[must_use]
    pub const fn root(&self) -> NodeId {
        NodeId(0)
    }

    /// All nodes in the blob's order, root first.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> + use<> {
        (0..self.nodes.len()).map(NodeId)
    }

    /// The node's name with its unit address.
    #[must_use]
    pub fn name(&self, node: NodeId) -> &'a [u8] {
        self.nodes.get(node.0).map_or(&[], |node| node.name)
    }

    /// The node above; the root is its own.
    #[must_use]
    pub fn parent(&self, node: NodeId) -> NodeId {
        NodeId(self.nodes.get(node.0).map_or(0, |node| node.parent))
    }

    /// The nodes directly below, in order.
    pub fn children(&self, node: NodeId) -> impl Iterator<Item = NodeId> {
        let end = self.nodes.get(node.0).map_or(0, |node| node.end);
        let first = (node.0 + 1 < end).then_some(node.0 + 1);
        let next = move |child: &usize| self.nodes.get(*child).map(|n| n.end).filter(|next| *next < end);
        core::iter::successors(first, next).map(NodeId)
    }

    /// The child of that name: equal, or equal before its `@` if `name` has none.
    #[must_use]
    pub fn child(&self, node: NodeId, name: &str) -> Option<NodeId> {
        self.children(node).find(|child| {
            let full = self.name(*child);
            full == name.as_bytes() || base_name(full) == name.as_bytes()
        })
    }

    /// Names and values of the node's properties.
    pub fn properties(&self, node: NodeId) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let (mut at, end) = self.nodes.get(node.0).map_or((0, 0), |node| node.properties);
        let (blob, strings) = (self.blob, self.strings);
        core::iter::from_fn(move || {
            while at < end && word(blob, at)? == NOP {
                at += 4;
            }
            if at >= end || word(blob, at)? != PROP {
                return None;
            }
            let (len, name) = (word(blob, at + 4)? as usize, word(blob, at + 8)? as usize);
            let value = blob.get(at + 12..at + 12 + len)?;
            at = align4(at + 12 + len);
            Some((until_nul(strings.get(name..)?)?, value))
        })
    }

    /// The value of a property.
    #[must_use]
    pub fn property(&self, node: NodeId, name: &str) -> Option<&'a [u8]> {
        self.properties(node).find(|(found, _)| *found == name.as_bytes()).map(|(_, value)| value)
    }

    /// Whether the node's `status` lets it be used: absent, `okay` or `ok`.
    #[must_use]
    pub fn is_available(&self, node: NodeId) -> bool {
        matches!(self.property(node, "status"), None | Some(b"okay\0" | b"ok\0"))
    }
}

/// A node's name before its unit address.
#[must_use]
pub fn base_name(name: &[u8]) -> &[u8] {
    name.split(|byte| *byte == b'@').next().unwrap_or(name)
}
