//! The command `kernmem`.
fn main() {}
