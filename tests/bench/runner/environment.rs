//! What was measured with, on what, and when.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::testbed::Testbed;

pub type Environment = BTreeMap<&'static str, String>;

/// # Errors
/// The machine, or one of the programs, does not say what it is.
pub fn of(testbed: &Testbed, rounds: usize, seconds: f64) -> Result<Environment> {
    let mut environment = of_machine(&testbed.programs.hookgate)?;
    let peer = |program, question| said(testbed.programs.of_peers(command(program, &[question])));
    environment.extend([
        ("haproxy", peer("haproxy", "-v")?),
        ("nginx", peer("nginx", "-v")?),
        ("openssl", peer("openssl", "version").unwrap_or_else(|_| "unknown".to_owned())),
        ("request", format!("{} bytes, head and body", testbed.webhook_bytes)),
        ("rounds", format!("{rounds} of {seconds} s each")),
    ]);
    Ok(environment)
}

/// What every measurement has: this command, this machine, and hookgate.
///
/// # Errors
/// As [`of`].
pub fn of_machine(hookgate: &Path) -> Result<Environment> {
    let args = std::env::args().skip(1).collect::<Vec<_>>().join(" ");
    Ok(BTreeMap::from([
        ("command", format!("`{}`", format!("cargo xtask bench {args}").trim_end())),
        ("hookgate", said(command(hookgate, &["--version"]))?),
        ("kernel", read("/proc/sys/kernel/osrelease")?.trim().to_owned()),
        ("load before", read("/proc/loadavg")?.trim().to_owned()),
        ("machine", machine()?),
        ("started", said(command("date", &["--utc", "+%Y-%m-%dT%H:%M:%SZ"]))?),
    ]))
}

fn machine() -> Result<String> {
    let cpus = read("/proc/cpuinfo")?;
    let models = cpus.lines().filter_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let models = models.map(|(_, model)| model).collect::<Vec<_>>();
    let memory = read("/proc/meminfo")?;
    let total = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap_or("?").trim();
    Ok(format!("{} × {}, {total}", models.len(), models.first().unwrap_or(&"unknown processor")))
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("reading {path}"))
}

fn command(program: impl AsRef<OsStr>, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args);
    command
}

/// The first line that a program says, on whichever of the two outputs.
fn said(mut command: Command) -> Result<String> {
    let output = command.output().with_context(|| format!("starting {command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim_end());
    let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    let text = String::from_utf8_lossy(&text);
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}
