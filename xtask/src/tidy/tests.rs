//! Each rule on small trees that break it, and all rules on the project itself.

use super::*;
use crate::tree::File;

fn tree(files: &[(&str, &str)]) -> Tree {
    let file = |&(path, text): &(&str, &str)| File { path: path.to_owned(), text: text.to_owned() };
    Tree { files: files.iter().map(file).collect() }
}

#[track_caller]
fn check(rule: Rule, files: &[(&str, &str)], expected: &[(&str, usize)]) {
    let found = rule(&tree(files));
    let places: Vec<(&str, usize)> = found.iter().map(|finding| (finding.path.as_str(), finding.line)).collect();
    assert_eq!(places, expected, "{found:#?}");
}

#[test]
fn the_project_is_tidy() {
    let found = findings(&Tree::read(&crate::root()).unwrap());
    let lines: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert!(lines.is_empty(), "\n{}\n", lines.join("\n"));
}

#[test]
fn a_layer_uses_only_layers_above() {
    let base = ("foundation/base/Cargo.toml", "[package]\nname = \"kernmem-base\"\n");
    let arch = "[package]\nname = \"kernmem-arch\"\n[dependencies]\nkernmem-base.workspace = true\nserde = \"1\"\n";
    let upward = "[package]\nname = \"kernmem-base\"\n[dependencies]\nkernmem-arch = { path = \"x\" }\n";
    let tests = "[package]\nname = \"kernmem-base\"\n[dev-dependencies]\nkernmem-arch = { path = \"x\" }\n";
    let table = "[package]\nname = \"kernmem-base\"\n[target.'cfg(unix)'.dependencies.kernmem-arch]\npath = \"x\"\n";
    check(layers::direction, &[base, ("rules/arch/Cargo.toml", arch)], &[]);
    for (manifest, expected) in [(upward, 4), (table, 3)] {
        let files = [("foundation/base/Cargo.toml", manifest), ("rules/arch/Cargo.toml", arch)];
        check(layers::direction, &files, &[("foundation/base/Cargo.toml", expected)]);
    }
    check(layers::direction, &[("foundation/base/Cargo.toml", tests), ("rules/arch/Cargo.toml", arch)], &[]);
    let slab = ("virtual/slab/Cargo.toml", "[package]\nname = \"kernmem-slab\"\n");
    let vmalloc = "[package]\nname = \"kernmem-vmalloc\"\n[dependencies]\nkernmem-slab.workspace = true\n";
    let expected = [("virtual/vmalloc/Cargo.toml", 4)];
    check(layers::direction, &[slab, ("virtual/vmalloc/Cargo.toml", vmalloc)], &expected);
    check(layers::direction, &[("odd/Cargo.toml", "[package]\nname = \"odd\"\n")], &[("odd/Cargo.toml", 1)]);
}

#[test]
fn the_proof_without_std_misses_no_crate() {
    let base = ("foundation/base/Cargo.toml", "[package]\nname = \"kernmem-base\"\n");
    let sim = ("machines/sim/Cargo.toml", "[package]\nname = \"kernmem-sim\"\n");
    let proof = "[dependencies]\nkernmem-base = { path = \"../../foundation/base\" }\n";
    check(layers::no_std_proof_is_complete, &[base, sim, ("xtask/no-std/Cargo.toml", proof)], &[]);
    let expected = [("xtask/no-std/Cargo.toml", 1)];
    check(layers::no_std_proof_is_complete, &[base, sim, ("xtask/no-std/Cargo.toml", "")], &expected);
}

#[test]
fn unsafe_stands_where_it_is_listed() {
    let code = "//! A.\n#![forbid(unsafe_code)]\n// unsafe\nlet s = \"unsafe\";\nunsafe { f() }\n";
    let document = "# X\n`b/c.rs`\n## Unsafe\n- `a/b.rs`: why\n## More\n`c/d.rs`\n";
    check(places::unsafe_code, &[("machines/sim/src/lib.rs", code), ("foundation/base/src/lent.rs", code)], &[]);
    check(places::unsafe_code, &[("ARCHITECTURE.md", document), ("a/b.rs", code)], &[]);
    check(places::unsafe_code, &[("ARCHITECTURE.md", document), ("c/d.rs", code)], &[("c/d.rs", 5)]);
}

#[test]
fn the_target_decides_nothing_above_the_hardware() {
    let code = "#[cfg(target_arch = \"x86_64\")]\nfn f() {}\n";
    let files = [("machines/hw/src/lib.rs", code), ("rules/arch/src/lib.rs", code)];
    check(places::cfg_of_target, &files, &[("rules/arch/src/lib.rs", 1)]);
}

#[test]
fn listings_are_formatted_in_the_report_only() {
    let code =
        "//! `---[ x ]---`\nfn f() { write!(f, \"---[ {name} ]---\") }\nlet x = \"[mem \";\n#[cfg(test)]\n\"---[ {\"\n";
    let files = [("report/src/a.rs", code), ("kernel/kernel/src/a.rs", code), ("report/tests/a.rs", code)];
    check(places::listings, &files, &[("kernel/kernel/src/a.rs", 2)]);
}

#[test]
fn a_module_has_a_head_and_sources_name_known_eras() {
    let rule = heads::heads_and_sources;
    check(rule, &[("a.rs", "fn main() {}\n")], &[("a.rs", 1)]);
    check(rule, &[("a.rs", "//! A.\n//! Source: Linux 5.10–7.2 mm/a.c `f`; 6.1.192 mm/b.c; 6.12, 7.2 c\n")], &[]);
    check(rule, &[("a.rs", "//! A.\n/// Source: Linux 6.1 mm/a.c;\n/// 6.6 mm/b.c\nfn f() {}\n")], &[("a.rs", 2)]);
    check(rule, &[("a.rs", "//! A.\n/// Source: Linux mm/a.c\n")], &[("a.rs", 2)]);
    check(rule, &[("a.rs", "//! A.\nlet s = \"Source: Linux mm/a.c\";\n")], &[]);
}

#[test]
fn words_of_unfinished_work_and_of_machines_are_found() {
    let text = format!(
        "a {} b\n{}: c\n{}/x\nsrc{}/x\n",
        concat!("for ", "now"),
        concat!("FIX", "ME"),
        concat!("/wo", "rk"),
        concat!("/wo", "rk")
    );
    check(words::forbidden_words, &[("a.md", &text)], &[("a.md", 1), ("a.md", 2), ("a.md", 3)]);
    check(words::forbidden_words, &[("testing/recordings/x/y/console.txt", &text)], &[]);
    let merged = format!("a\n{} HEAD\nb\n{} other\n", "<".repeat(7), ">".repeat(7));
    check(words::forbidden_words, &[("a.toml", &merged)], &[("a.toml", 2), ("a.toml", 4)]);
    let code = format!("fn f() {{ {}() }}\n// {}\n", concat!("to", "do!"), concat!("TO", "DO: x"));
    check(words::forbidden_words, &[("a.rs", &code)], &[("a.rs", 2), ("a.rs", 1)]);
    check(words::lengths, &[("a.rs", &"\n".repeat(801))], &[("a.rs", 801)]);
}

#[test]
fn recordings_have_their_provenance() {
    let root = [("LOCKS.md", ""), ("testing/recordings/README.md", "")];
    check(records::provenance, &[root[0]], &[("testing/recordings/README.md", 1)]);
    let boot = [("testing/recordings/arm64/a/iomem", ""), ("testing/recordings/kernels/k/config", "")];
    let missing = [("testing/recordings/arm64/a/boot.json", 1)];
    check(records::provenance, &[root[0], root[1], boot[0], boot[1]], &missing);
}

#[test]
fn a_file_that_nothing_names_is_dead() {
    let manifest = ("a/Cargo.toml", "[[bin]]\npath = \"src/tool.rs\"\n");
    let lib = ("a/src/lib.rs", "pub mod b;\n#[cfg(test)] mod t;\n#[path = \"odd.rs\"]\nmod c;\n// mod d;\n");
    let reached = [("a/src/b/mod.rs", "mod e;"), ("a/src/b/e.rs", ""), ("a/src/t.rs", ""), ("a/src/odd.rs", "")];
    let dead = ("a/src/d.rs", "");
    let mut files = vec![manifest, lib, ("a/src/tool.rs", ""), ("a/src/bin/x.rs", ""), dead];
    files.extend(reached);
    check(dead::dead_files, &files, &[("a/src/d.rs", 1)]);
}

#[test]
fn a_test_that_no_program_has_is_dead() {
    let tests = [("a/tests/main.rs", "mod x;"), ("a/tests/x.rs", ""), ("a/tests/y.rs", "mod common;")];
    let common = ("a/tests/common/mod.rs", "");
    let files = |manifest| [tests.as_slice(), &[common, ("a/Cargo.toml", manifest)]].concat();
    check(dead::dead_files, &files(""), &[]);
    let one = "autotests = false\n[[test]]\npath = \"tests/main.rs\"\n";
    check(dead::dead_files, &files(one), &[("a/tests/y.rs", 1), ("a/tests/common/mod.rs", 1)]);
}
