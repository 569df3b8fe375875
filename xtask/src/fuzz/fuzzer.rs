//! libFuzzer, built around the targets, and what it is asked to do.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use harness_core::run_aloud;

use crate::install;

/// What cargo-fuzz would ask a nightly compiler for, said to LLVM itself. No address sanitizer: it
/// is all safe Rust.
const COVERAGE: [&str; 5] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];
/// One input may take so long; the slowest honest ones take milliseconds.
const SECONDS_PER_INPUT: u32 = 25;
/// The committed inputs of one target have no more bytes than this together.
const KEPT_BYTES: usize = 8_000;

/// libFuzzer is C++, and comes as source.
///
/// # Errors
/// There is no compiler for it, and it can't be installed.
pub fn compiler() -> Result<()> {
    if harness_core::in_path("c++") { Ok(()) } else { install::packages("for libFuzzer", &["g++"]) }
}

/// Each has a folder of inputs.
pub fn targets(root: &Path) -> Result<Vec<String>> {
    let folder = root.join("tests/fuzz/corpus");
    let entries = std::fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))?;
    let mut names = entries
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

/// The fuzzer as built from one tree.
pub struct Fuzzer {
    binary: PathBuf,
    /// The committed inputs, a folder a target.
    corpus: PathBuf,
    /// Where seeds, further inputs and findings go.
    work: PathBuf,
}

/// The result of a search.
pub enum Outcome {
    Nothing,
    /// What broke, and the input.
    Found {
        why: String,
        input: PathBuf,
    },
}

impl Fuzzer {
    /// Builds it from the tree at `root`, into `work`.
    pub fn build(root: &Path, work: &Path) -> Result<Self> {
        compiler()?;
        let package = root.join("tests/fuzz/libfuzzer");
        // What is fuzzed is what is shipped: the same versions. libfuzzer-sys alone comes in
        // addition.
        std::fs::copy(root.join("Cargo.lock"), package.join("Cargo.lock")).context("copying Cargo.lock")?;
        let host = host()?;
        let mut cargo = harness_core::cargo();
        cargo.current_dir(&package).args(["build", "--quiet", "--release", "--target", &host]);
        cargo.arg("--target-dir").arg(work).env("CARGO_ENCODED_RUSTFLAGS", COVERAGE.join("\x1f"));
        run_aloud(cargo)?;
        let binary = work.join(host).join("release/hookgate-libfuzzer");
        Ok(Self { binary, corpus: root.join("tests/fuzz/corpus"), work: work.to_owned() })
    }

    pub fn working_in(&self, work: PathBuf) -> Self {
        Self { binary: self.binary.clone(), corpus: self.corpus.clone(), work }
    }

    pub fn all(&self, targets: &[String], seconds: u32) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for target in targets {
            eprintln!("xtask: fuzzing {target} for {seconds} s");
            let Outcome::Found { why, input } = self.search(target, seconds)? else { continue };
            let input = input.display();
            found.push(format!("{target}: {why}\n  again: cargo xtask fuzz {target} --repeat {input}"));
        }
        Ok(found)
    }

    /// Looks for something that breaks `target`.
    pub fn search(&self, target: &str, seconds: u32) -> Result<Outcome> {
        let (findings, grown) = (self.folder("findings", target)?, self.folder("corpus", target)?);
        let mut command = self.command(target)?;
        command.arg(format!("-max_total_time={seconds}"));
        command.arg(format!("-artifact_prefix={}/", findings.display()));
        command.arg(grown).arg(self.corpus.join(target)).arg(self.folder("seeds", target)?);
        let output = command.output().context("starting the fuzzer")?;
        if output.status.success() {
            return Ok(Outcome::Nothing);
        }
        let log = String::from_utf8_lossy(&output.stderr);
        let input = log.lines().find_map(|line| line.split_once("Test unit written to "));
        let Some((_, input)) = input else { bail!("the fuzzer itself failed ({}):\n{log}", output.status) };
        let panicked = log.lines().skip_while(|line| !line.contains(" panicked at ")).skip(1);
        let why: Vec<&str> = panicked.take_while(|line| !line.starts_with("stack backtrace")).collect();
        let why =
            if why.is_empty() { "it takes too long, or too much memory".into() } else { why.join("\n") };
        Ok(Outcome::Found { why, input: input.into() })
    }

    /// Whether `target` holds for what is in `file`; it says itself what does not.
    pub fn repeat(&self, target: &str, file: &Path) -> Result<bool> {
        let mut command = self.command(target)?;
        Ok(command.arg(file).status().context("starting the fuzzer")?.success())
    }

    /// Leaves in the committed folder the smallest inputs that reach what the seeds alone don't.
    pub fn keep(&self, target: &str) -> Result<()> {
        let (seeds, grown) = (self.folder("seeds", target)?, self.folder("corpus", target)?);
        let committed = self.corpus.join(target);
        let mut command = self.command(target)?;
        let output = command.arg("-set_cover_merge=1").args([&seeds, &committed, &grown]).output();
        let output = output.context("starting the fuzzer")?;
        ensure!(output.status.success(), "merging {target}:\n{}", String::from_utf8_lossy(&output.stderr));

        // What the merge wants to keep, it has put beside the seeds.
        let mut inputs = Vec::new();
        for entry in std::fs::read_dir(&seeds)? {
            let path = entry?.path();
            if !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("seed-")) {
                inputs.push((std::fs::read(&path)?, path));
            }
        }
        inputs.sort_by_key(|(bytes, _)| bytes.len());
        std::fs::remove_dir_all(&committed).and_then(|()| std::fs::create_dir(&committed))?;
        let mut left = KEPT_BYTES;
        for (bytes, path) in inputs {
            if let (Some(rest), Some(name)) = (left.checked_sub(bytes.len()), path.file_name()) {
                left = rest;
                std::fs::write(committed.join(name), bytes)?;
            }
            std::fs::remove_file(path)?;
        }
        Ok(())
    }

    fn command(&self, target: &str) -> Result<Command> {
        let mut command = Command::new(&self.binary);
        command.env("HOOKGATE_FUZZ_TARGET", target).env("HOOKGATE_FUZZ_SEEDS", self.folder("seeds", target)?);
        command.args([format!("-timeout={SECONDS_PER_INPUT}"), "-rss_limit_mb=1024".into()]);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        Ok(command)
    }

    fn folder(&self, kind: &str, target: &str) -> Result<PathBuf> {
        let folder = self.work.join(kind).join(target);
        std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        Ok(folder)
    }
}

/// The target that rustc builds for by itself. It is named to cargo so that build scripts and
/// macros, which run in the compiler, are left without coverage.
fn host() -> Result<String> {
    let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc.arg("-vV");
    let said = harness_core::run(rustc)?;
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc -vV without a host")?.to_owned())
}
