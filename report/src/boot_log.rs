//! The boot log's lines about memory.
