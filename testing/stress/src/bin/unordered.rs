//! A witness for ThreadSanitizer: a frame goes from one thread to another without an order between them, and its words
//! are written by both. Built with `--cfg tsan` this must be reported.

fn main() {
    kernmem_stress::hand_on_unordered();
}
