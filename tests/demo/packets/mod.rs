//! The main job with Meta's real addresses: every packet that Meta's side sends is counted on both
//! ends, and compared.
//!
//! What the demo makes, it makes inside namespaces of its own (processes, mounts, networks), and
//! the kernel takes all of it away when the first process in there ends: after success, failure,
//! Ctrl-C or `kill -9` alike.

mod testbed;
mod verdict;

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};
use rustix::process::{WaitOptions, getpid, set_child_subreaper, wait};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Plays Meta in a network of its own, and compares what hookgate counted with what was sent
#[derive(clap::Args)]
pub struct Args {
    /// The binary, with the guard inside
    #[arg(long)]
    hookgate: PathBuf,
    /// Play it in the namespaces we are in (what this program itself calls)
    #[arg(long, hide = true)]
    inside: bool,
}

pub fn main(args: &Args) -> Result<ExitCode> {
    if args.inside { inside(&args.hookgate) } else { in_namespaces(&args.hookgate) }
}

/// Runs ourselves as the first process of fresh namespaces, and waits until nothing in there is
/// left.
fn in_namespaces(binary: &Path) -> Result<ExitCode> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGCHLD]).context("listening for signals")?;
    // The first process inside becomes ours when unshare is gone, and ends after all others in
    // there have.
    set_child_subreaper(Some(getpid())).context("adopting what unshare leaves")?;
    let mut command = Command::new("setpriv");
    command
        .args([
            "--pdeathsig",
            "KILL",
            "--",
            "unshare",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
        ])
        .arg(std::env::current_exe()?)
        .args(["packets", "--inside", "--hookgate"])
        .arg(binary)
        .env("TMPDIR", testbed::TEMP)
        .stdin(Stdio::null());
    let mut child = command.spawn().context("starting unshare through setpriv (util-linux)")?;

    let mut stopped_by = None;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if let Some(signal) = signals.wait().find(|signal| *signal != SIGCHLD) {
            stopped_by = Some(signal);
            child.kill().context("ending the demo")?;
        }
    };
    while wait(WaitOptions::empty()).is_ok() {}
    match (stopped_by, status.code()) {
        (Some(signal), _) => {
            eprintln!("demo: stopped by signal {signal}; nothing is left behind");
            Ok(ExitCode::from(u8::try_from(128 + signal).unwrap_or(1)))
        }
        (None, Some(code)) => Ok(ExitCode::from(u8::try_from(code).unwrap_or(1))),
        (None, None) => bail!("the demo was killed by signal {:?}", status.signal()),
    }
}

fn inside(binary: &Path) -> Result<ExitCode> {
    // Temporary files go with the mounts.
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", "mode=700", "hookgate-demo", testbed::TEMP]).stdin(Stdio::null());
    harness_core::run(mount)?;
    let counted = testbed::play(binary)?;
    Ok(if verdict::print(&counted)? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
