//! `trim-dump FROM TO`: a copy of the dump in the folder FROM, with nothing but page tables in it, in the folder TO.

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [from, to] = words.as_slice() else {
        eprintln!("usage: trim-dump FROM TO");
        return ExitCode::from(2);
    };
    let pages = kernmem_testing::trim(Path::new(from), Path::new(to));
    println!("{pages} pages are kept");
    ExitCode::SUCCESS
}
