//! The product at work on this machine, with a receiver to deliver to; or, with arguments, the
//! product itself.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use harness_core::Workspace;

use crate::build::{self, Profile};

/// Runs hookgate here, in front of a receiver of its own; prints a command to try it with
#[derive(clap::Args)]
pub struct Args {
    /// Without optimisation
    #[arg(long)]
    dev: bool,
    /// As it is shipped: a few per cent faster, and built in twice the time
    #[arg(long, conflicts_with = "dev")]
    release: bool,
    /// Where the demo listens
    #[arg(long, default_value = "127.0.0.1:8443")]
    listen: SocketAddr,
    /// Arguments for `hookgate run`: the real thing instead of the demo, for instance
    /// `-- --config FILE`
    #[arg(last = true)]
    hookgate: Vec<String>,
}

pub fn main(workspace: &Workspace, args: &Args) -> Result<ExitCode> {
    let profile = match (args.dev, args.release) {
        (true, _) => Profile::Dev,
        (_, true) => Profile::Release,
        _ => Profile::Local,
    };
    if !args.hookgate.is_empty() {
        let binary = build::both(workspace, profile)?.binary;
        let error = Command::new(&binary).arg("run").args(&args.hookgate).exec();
        return Err(error).with_context(|| format!("starting {}", binary.display()));
    }
    ensure_free(args.listen)?;
    let built = build::both(workspace, profile)?;
    let program = build::beside_hookgate(workspace, build::DEMO)?;
    let mut demo = Command::new(&program);
    demo.arg("run").arg("--hookgate").arg(&built.binary).arg("--listen").arg(args.listen.to_string());
    demo.args(built.guard_missing.map(|why| format!("--guard-missing={why}")));
    Err(demo.exec()).with_context(|| format!("starting {}", program.display()))
}

fn ensure_free(listen: SocketAddr) -> Result<()> {
    match TcpListener::bind(listen) {
        Ok(_) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::AddrInUse => {
            let holder = holder(listen.port()).unwrap_or_else(|| "another program".to_owned());
            let other = SocketAddr::new(listen.ip(), listen.port().wrapping_add(1000).max(1024));
            bail!("{listen} is taken by {holder}: stop it, or choose another with --listen {other}")
        }
        Err(e) => {
            Err(e).with_context(|| format!("can't listen on {listen}; choose another address with --listen"))
        }
    }
}

/// Who listens on a port, as far as ss may tell us: `nginx (process 12)`.
fn holder(port: u16) -> Option<String> {
    let mut ss = Command::new("ss");
    ss.args(["-Hltnp", &format!("sport = :{port}")]);
    let sockets = harness_core::run(ss).ok()?;
    let (_, user) = sockets.split_once("users:((\"")?;
    let (name, rest) = user.split_once('"')?;
    let pid = rest.strip_prefix(",pid=")?.split(',').next()?;
    Some(format!("{name} (process {pid})"))
}
