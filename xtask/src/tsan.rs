//! ThreadSanitizer: the stress and the tests with threads, with every access to memory watched.
//!
//! The standard library is built with the sanitizer too, since one that is not watched hides the order that its locks make,
//! and every lock would be reported. That needs a nightly toolchain and the sources of the library, which are installed if
//! they are missing.
//! First a witness runs: a frame that is handed on without an order must be reported, or the rest proves nothing.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::failure::Failure;
use crate::tidy::package_name;
use crate::tree::Tree;

/// Seconds that the stress runs if nobody says otherwise.
const SECONDS: u32 = 60;

/// What the sanitizer's runtime ends a program with that it has found a race in.
const RACE: i32 = 66;

/// Runs the witness, the stress and the tests.
pub fn run(root: &Path, words: &[&str]) -> Result<(), Failure> {
    let seconds = match words {
        [] => SECONDS,
        ["--seconds", n] => n.parse().map_err(|_| Failure::Usage)?,
        _ => return Err(Failure::Usage),
    };
    install()?;
    let tsan = Tsan { root, host: crate::no_std::host()? };
    tsan.built(&["build", "--package", "kernmem-stress"])?;
    tsan.witness()?;
    tsan.stress(seconds)?;
    let tree = Tree::read(root)?;
    for (package, test) in tests(&tree) {
        println!("tsan: {package}, tests of {test}");
        tsan.built(&["test", "--package", package, "--test", test])?;
    }
    println!("tsan: no race");
    Ok(())
}

/// The tests with threads: packages, and names of tests that begin with `threads`.
fn tests(tree: &Tree) -> Vec<(&str, &str)> {
    let of = |(folder, package): (&str, _)| {
        let tests = format!("{folder}/tests/");
        let names = tree.rust().filter_map(move |file| file.path.strip_prefix(&tests)?.strip_suffix(".rs"));
        names.filter(|name| name.starts_with("threads")).map(move |name| (package, name))
    };
    let packages = tree.crates().filter_map(|(folder, manifest)| Some((folder, package_name(manifest)?)));
    packages.flat_map(of).collect()
}

/// Installs what is missing.
fn install() -> Result<(), Failure> {
    let list = Command::new("rustup").args(["component", "list", "--toolchain", "nightly", "--installed"]).output();
    let list = list.map_err(|error| Failure::Start("rustup", error))?;
    if list.status.success() && String::from_utf8_lossy(&list.stdout).contains("rust-src") {
        return Ok(());
    }
    eprintln!("xtask: installing a nightly toolchain with the sources of the standard library");
    let words = ["toolchain", "install", "nightly", "--profile", "minimal", "--component", "rust-src"];
    let done = Command::new("rustup").args(words).status().map_err(|error| Failure::Start("rustup", error))?;
    if done.success() { Ok(()) } else { Err(Failure::Program("rustup toolchain install nightly")) }
}

struct Tsan<'r> {
    root: &'r Path,
    host: String,
}

impl Tsan<'_> {
    /// Runs cargo with all that it builds watched.
    fn built(&self, words: &[&str]) -> Result<(), Failure> {
        let status = Command::new("rustup")
            .args(["run", "nightly", "cargo"])
            .args(&words[..1])
            .args(["--quiet", "-Zbuild-std", "--release", "--target", &self.host, "--target-dir"])
            .arg(self.root.join("target/tsan"))
            .args(&words[1..])
            .current_dir(self.root)
            .env("RUSTFLAGS", "-Zsanitizer=thread --cfg tsan")
            .env("TSAN_OPTIONS", "halt_on_error=1")
            .status()
            .map_err(|error| Failure::Start("rustup", error))?;
        if status.success() { Ok(()) } else { Err(Failure::Program("what ThreadSanitizer watched")) }
    }

    fn program(&self, name: &str) -> PathBuf {
        self.root.join("target/tsan").join(&self.host).join("release").join(name)
    }

    /// A race that must be reported.
    fn witness(&self) -> Result<(), Failure> {
        let status = Command::new(self.program("unordered"))
            .env("TSAN_OPTIONS", "halt_on_error=1")
            .stderr(Stdio::null())
            .status()
            .map_err(|error| Failure::Start("the witness", error))?;
        if status.code() != Some(RACE) {
            return Err(Failure::Program("the witness: a race was not reported, so the rest would prove nothing; it"));
        }
        println!("tsan: the witness's race is reported");
        Ok(())
    }

    fn stress(&self, seconds: u32) -> Result<(), Failure> {
        let status = Command::new(self.program("kernmem-stress"))
            .args(["--seconds", &seconds.to_string(), "--cpus", "4", "--steps", "1024"])
            .env("TSAN_OPTIONS", "halt_on_error=1")
            .status()
            .map_err(|error| Failure::Start("the stress", error))?;
        if status.success() { Ok(()) } else { Err(Failure::Program("the stress under ThreadSanitizer")) }
    }
}
