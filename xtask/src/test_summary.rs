//! Counts what the test runners say, and shows it.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, ensure};

use crate::runs::{self, Run};

#[derive(Default)]
pub struct TestSummary {
    ok: u64,
    failed: u64,
    slow: u64,
    skips: Vec<String>,
    /// Those that need another kernel than this machine's.
    elsewhere: u64,
    runs: Vec<Run>,
}

impl TestSummary {
    /// Something that is a test of ours without being cargo's.
    pub fn add(&mut self, name: &str, findings: &[String]) {
        findings.iter().for_each(|finding| println!("{name}: {finding}"));
        if findings.is_empty() {
            self.ok += 1;
        } else {
            self.failed += 1;
        }
        println!("test {name} ... {}", if findings.is_empty() { "ok" } else { "FAILED" });
    }

    /// One more, which has said itself what went wrong.
    pub fn fail(&mut self) {
        self.failed += 1;
    }

    /// Counts as one that skips itself does.
    pub fn skip(&mut self, why: String) {
        self.ok += 1;
        self.skips.push(why);
    }

    /// Counts what was to run elsewhere as skipped: there is no other place than this one.
    pub fn skip_elsewhere(&mut self) {
        for _ in 0..std::mem::take(&mut self.elsewhere) {
            self.skips.push("a test that is left to this machine, see above".to_owned());
        }
    }

    /// Runs a test runner and passes on what it says. One that fails without a failed test is a
    /// failed test itself, and says `why`.
    ///
    /// # Errors
    /// It can't be started.
    pub fn run(&mut self, mut runner: Command, why: Option<&str>) -> Result<()> {
        let (output, input) = std::io::pipe()?;
        runner.stdin(Stdio::null()).stdout(input.try_clone()?).stderr(input);
        let mut child = runner.spawn().with_context(|| format!("starting {:?}", runner.get_program()))?;
        drop(runner); // and with it our copies of the pipe's end
        let followed = self.follow(output)?;
        if !child.wait()?.success() && !followed.any_failed {
            why.into_iter().for_each(|why| println!("test {why}"));
            self.failed += 1;
        }
        Ok(())
    }

    /// Passes on what test runners say until they end.
    ///
    /// # Errors
    /// It can't be read, or our own output is closed.
    pub fn follow(&mut self, output: impl Read) -> Result<Followed> {
        let failed_before = self.failed;
        let mut last = String::new();
        let mut stdout = std::io::stdout();
        for line in BufReader::new(output).split(b'\n') {
            let line = line?;
            stdout.write_all(&line).and_then(|()| stdout.write_all(b"\n")).and_then(|()| stdout.flush())?;
            // A terminal that is not raw ends lines with a carriage return, too.
            last = String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned();
            self.add_line(&last);
        }
        Ok(Followed { last, any_failed: self.failed > failed_before })
    }

    /// Puts what was run where into docs/install.md, as the tests' `RAN:` lines have it.
    ///
    /// # Errors
    /// A test failed or was skipped: nothing is published then. Or the page can't be written.
    pub fn publish(&self, root: &Path) -> Result<()> {
        let is_whole = self.failed == 0 && self.skips.is_empty();
        ensure!(is_whole, "tests failed or were skipped: what they ran is not published");
        runs::publish(root, &self.runs)
    }

    /// The sums, on standard output. A skipped test is as bad as a failed one where CI=true.
    pub fn verdict(&self) -> ExitCode {
        if !self.skips.is_empty() {
            println!("\nskipped:");
            self.skips.iter().for_each(|skip| println!("  {skip}"));
        }
        let may_skip = std::env::var_os("CI").is_none_or(|ci| ci != "true");
        let good = self.failed == 0 && (may_skip || self.skips.is_empty());
        if self.slow > 0 {
            println!("\n{} slow tests are left to `cargo xtask test --full`", self.slow);
        }
        if self.elsewhere > 0 {
            println!("\n{} tests need another kernel: `cargo xtask test --vm`", self.elsewhere);
        }
        println!("\n{} passed, {} failed, {} skipped", self.passed(), self.failed, self.skips.len());
        if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    /// A test that skips itself is `ok` to the runner.
    fn passed(&self) -> u64 {
        self.ok.saturating_sub(self.skips.len() as u64 + self.elsewhere)
    }

    /// `test result: ok. 3 passed; 0 failed; 1 ignored; …`, and the harness's `SKIPPED: name: why`
    /// or `ELSEWHERE: …`, which may follow `test name ... ` on the same line.
    fn add_line(&mut self, line: &str) {
        if let Some((_, skip)) = line.split_once("SKIPPED: ") {
            self.skips.push(skip.to_owned());
        }
        self.elsewhere += u64::from(line.contains("ELSEWHERE: "));
        self.runs.extend(Run::parse(line));
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

/// What [`TestSummary::follow`] saw.
pub struct Followed {
    /// The last line.
    pub last: String,
    pub any_failed: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runners_own_lines_add_up() {
        let mut summary = TestSummary::default();
        for line in [
            "test result: ok. 12 passed; 0 failed; 2 ignored; 0 measured; 3 filtered out; finished in 0.00s",
            "test a ... SKIPPED: a: needs root",
            "SKIPPED: b: needs nginx",
            "ELSEWHERE: c: needs the kernel's TLS",
            "test result: FAILED. 5 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s",
        ] {
            summary.add_line(line);
        }
        assert_eq!((summary.passed(), summary.failed, summary.slow, summary.elsewhere), (14, 1, 2, 1));
        assert_eq!(summary.skips, ["a: needs root", "b: needs nginx"]);
    }

    #[test]
    fn lines_of_a_terminal_end_as_others_do() {
        let followed = TestSummary::default().follow(&b"one\r\ndone\r\n"[..]).unwrap();
        assert_eq!(followed.last, "done");
    }
}
