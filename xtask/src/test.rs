//! Everything in one command, from unit tests to real packets; ends with what passed, failed and was skipped.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result};

use crate::build::{self, Profile};
use crate::workspace::{Workspace, is_root};
use crate::{bpffs, fuzz, install, tidy};

/// How many random cases each property is tried with under `--full`, instead of proptest's own 256.
const FULL_CASES: u32 = 4096;
/// How long each fuzz target is run with `--full`.
const FUZZ_SECONDS: u32 = 30;

/// Runs every test, and installs what they need when run by root; a skipped one fails it where CI=true
#[derive(clap::Args)]
pub struct Args {
    /// The slow ones too (`#[ignore]`)
    #[arg(long)]
    full: bool,
}

pub fn main(workspace: &Workspace, args: &Args) -> Result<ExitCode> {
    if let Err(e) = install::programs("for the tests") {
        eprintln!("xtask: some tests will be skipped: {e:#}");
    }
    let built = build::both(workspace, Profile::Dev)?;
    if let Some(why) = &built.guard_missing {
        eprintln!("xtask: the guard's tests will be skipped: {why}");
    }

    let mut tally = Tally::default();
    tally.add("tidy", &tidy::findings(workspace)?);
    run_tests(tests(workspace, &built.binary, args.full), &mut tally)?;
    if args.full {
        match fuzz::compiler() {
            Ok(()) => tally.add("fuzz", &fuzz::findings(workspace, FUZZ_SECONDS)?),
            Err(why) => tally.skip(format!("fuzz: {why:#}")),
        }
    }

    if !tally.skips.is_empty() {
        println!("\nskipped:");
        tally.skips.iter().for_each(|skip| println!("  {skip}"));
    }
    let may_skip = std::env::var_os("CI").is_none_or(|ci| ci != "true");
    let good = tally.failed == 0 && (may_skip || tally.skips.is_empty());
    if tally.slow > 0 {
        println!("\n{} slow tests are left to `cargo xtask test --full`", tally.slow);
    }
    println!("\n{} passed, {} failed, {} skipped", tally.passed(), tally.failed, tally.skips.len());
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// `cargo test`; as root with a BPF file system that only the tests see, so that nothing pinned outlives them.
fn tests(workspace: &Workspace, binary: &Path, full: bool) -> Command {
    let mut cargo = workspace.cargo();
    cargo.args(["test", "--workspace", "--no-fail-fast"]).env("HOOKGATE_BIN", binary);
    if full {
        cargo.env("PROPTEST_CASES", FULL_CASES.to_string()).args(["--", "--include-ignored"]);
    }
    if !is_root() {
        return cargo;
    }
    let mount = format!("mount -t bpf bpf {} && exec \"$@\"", bpffs::PATH);
    harness::wrapped("unshare", &["--mount", "sh", "-c", &mount, "sh"], &cargo)
}

/// Counts what the test runners say, and shows it.
#[derive(Default)]
struct Tally {
    ok: u64,
    failed: u64,
    slow: u64,
    skips: Vec<String>,
}

impl Tally {
    /// A test that skips itself is `ok` to the runner.
    fn passed(&self) -> u64 {
        self.ok.saturating_sub(self.skips.len() as u64)
    }

    /// Something that is a test of ours without being cargo's.
    fn add(&mut self, name: &str, findings: &[String]) {
        findings.iter().for_each(|finding| println!("{name}: {finding}"));
        if findings.is_empty() {
            self.ok += 1;
        } else {
            self.failed += 1;
        }
        println!("test {name} ... {}", if findings.is_empty() { "ok" } else { "FAILED" });
    }

    /// Counts as one that skips itself does.
    fn skip(&mut self, why: String) {
        self.ok += 1;
        self.skips.push(why);
    }

    /// `test result: ok. 3 passed; 0 failed; 1 ignored; …`, and the harness's `SKIPPED: name: why`, which may follow
    /// `test name ... ` on the same line.
    fn add_line(&mut self, line: &str) {
        if let Some((_, skip)) = line.split_once("SKIPPED: ") {
            self.skips.push(skip.to_owned());
        }
        let Some(result) = line.strip_prefix("test result: ") else { return };
        let counts = result.split(['.', ';']).filter_map(|part| part.trim().split_once(' '));
        for (number, what) in counts {
            let Ok(number) = number.parse::<u64>() else { continue };
            match what {
                "passed" => self.ok += number,
                "failed" => self.failed += number,
                "ignored" => self.slow += number,
                _ => {}
            }
        }
    }
}

fn run_tests(mut command: Command, tally: &mut Tally) -> Result<()> {
    let (output, input) = std::io::pipe()?;
    command.stdin(Stdio::null()).stdout(input.try_clone()?).stderr(input);
    let failed_before = tally.failed;
    let mut child = command.spawn().context("starting cargo test")?;
    drop(command); // and with it our copies of the pipe's end
    let mut stdout = std::io::stdout();
    for line in BufReader::new(output).split(b'\n') {
        let line = line?;
        stdout.write_all(&line).and_then(|()| stdout.write_all(b"\n")).and_then(|()| stdout.flush())?;
        tally.add_line(&String::from_utf8_lossy(&line));
    }
    if !child.wait()?.success() && tally.failed == failed_before {
        tally.failed += 1; // it did not compile, or a test took its process down
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runners_own_lines_add_up() {
        let mut tally = Tally::default();
        for line in [
            "test result: ok. 12 passed; 0 failed; 2 ignored; 0 measured; 3 filtered out; finished in 0.00s",
            "test a ... SKIPPED: a: needs root",
            "SKIPPED: b: needs nginx",
            "test result: FAILED. 5 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s",
        ] {
            tally.add_line(line);
        }
        assert_eq!((tally.passed(), tally.failed, tally.slow), (15, 1, 2));
        assert_eq!(tally.skips, ["a: needs root", "b: needs nginx"]);
    }
}
