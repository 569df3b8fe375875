use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};

use anyhow::{Context, Result, bail, ensure};
use harness_core::wrapped;
use serde_json::Value;

use crate::kind::{Addresses, Route};
use crate::testbed::{NAME, Testbed};

/// The load generator (tests/bench/load), warmed up and waiting for the word to start.
pub struct Generator {
    child: Child,
    said: Lines<BufReader<ChildStdout>>,
}

impl Generator {
    /// Opens what the load needs, and returns when it is ready.
    ///
    /// # Errors
    /// A request failed; it has said which itself.
    pub fn prepare(testbed: &Testbed, addresses: &Addresses, route: Route, load: &[String]) -> Result<Self> {
        let mut command = Command::new(&testbed.programs.generator);
        command.arg("--address").arg(addresses.of(route).to_string());
        if route != Route::Plain {
            command.args(["--name", NAME]).arg("--ca").arg(&testbed.ca);
        }
        command.arg("--request").arg(&testbed.webhook).args(load);
        let mut child = wrapped("setpriv", &["--pdeathsig", "KILL", "--"], &command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting the load generator through setpriv (util-linux)")?;
        let stdout = child.stdout.take().context("a load generator without output")?;
        let mut generator = Self { child, said: BufReader::new(stdout).lines() };
        match generator.line()?.as_str() {
            "ready" => Ok(generator),
            other => bail!("the load generator said {other:?} instead of `ready`"),
        }
    }

    /// Does the load, and returns what was measured. Its connections stay open until this value is
    /// dropped.
    ///
    /// # Errors
    /// A request failed; it has said which itself.
    pub fn run(&mut self) -> Result<Value> {
        self.start()?;
        self.finish()
    }

    /// Starts the load.
    ///
    /// # Errors
    /// The generator has ended.
    pub fn start(&mut self) -> Result<()> {
        let mut stdin = self.child.stdin.as_ref().context("a load generator without input")?;
        writeln!(stdin, "go").context("the load generator has ended")
    }

    /// Waits for the load's end; see [`Generator::run`].
    ///
    /// # Errors
    /// As there.
    pub fn finish(&mut self) -> Result<Value> {
        serde_json::from_str(&self.line()?).context("reading what the load generator measured")
    }

    fn line(&mut self) -> Result<String> {
        self.said.next().context("the load generator failed; it has said why")?.context("reading its output")
    }

    /// Lets it finish what it has begun: uploads, for instance.
    ///
    /// # Errors
    /// Something failed meanwhile; it has said what itself.
    pub fn end(mut self) -> Result<()> {
        let status = self.wait()?;
        ensure!(status.success(), "the load generator failed; it has said why");
        Ok(())
    }

    fn wait(&mut self) -> Result<ExitStatus> {
        drop(self.child.stdin.take());
        self.child.wait().context("waiting for the load generator")
    }
}

impl Drop for Generator {
    fn drop(&mut self) {
        if let Err(e) = self.wait() {
            eprintln!("bench: {e:#}");
        }
    }
}
