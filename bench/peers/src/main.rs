//! Runs the performance rows over our crates and those of the registry, side by side: `cargo xtask bench`.
#![deny(unsafe_code)]

mod frames;
mod peers;
mod tables;

use std::env;

use kernmem_bench::rows;
use kernmem_bench::run::{Choice, run};
use kernmem_bench::stats::{median, paired_ratio, spread};

fn main() {
    let words: Vec<String> = env::args().skip(1).collect();
    let value = |key: &str| words.iter().position(|word| word == key).and_then(|at| words.get(at + 1));
    let only = value("--only").map(|list| list.split(',').map(str::to_owned).collect()).unwrap_or_default();
    let rounds = value("--rounds").and_then(|n| n.parse().ok()).unwrap_or(15);
    let mut all = peers::peers();
    all.extend(rows::models());
    all.extend(rows::ours());
    run(&all, &Choice { only, rounds }, |ran| {
        println!("\n{}  {} [{}]", ran.row.id, ran.row.what, ran.row.unit);
        for line in &ran.lines {
            let (best, worst) = spread(&line.figures);
            let ratio = paired_ratio(&line.figures, &ran.lines[0].figures);
            println!(
                "  {:<34} median {:>10.4}  best {best:>10.4}  worst {worst:>10.4}  x{ratio:.2}",
                line.contender.name,
                median(&line.figures)
            );
        }
    });
}
