//! `kernmem-bench list`: contenders that need no other crate.
//! `kernmem-bench once ROW CONTENDER`: one round of one of them.

use std::env;
use std::process::ExitCode;

use kernmem_bench::{rows, time};

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut all = rows::ours();
    all.extend(rows::models());
    match words.as_slice() {
        ["list"] => all.iter().for_each(|one| println!("{}\t{}", one.row, one.name)),
        ["once", row, name] => {
            let Some(one) = all.iter().find(|one| one.row == *row && one.name == *name) else {
                eprintln!("kernmem-bench: no {name} in row {row}");
                return ExitCode::from(2);
            };
            println!("figure {}", one.round());
            println!("operations {}", time::operations());
        }
        _ => {
            eprintln!("usage: kernmem-bench list | once ROW CONTENDER");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}
