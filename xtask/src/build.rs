//! The XDP program, then the proxy with it embedded: one file is the whole product.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use harness_core::{Workspace, run_aloud};

use crate::arch::Arch;
use crate::ebpf::{self, Object};
use crate::release;

/// Builds the XDP program and the proxy with it embedded
#[derive(clap::Args)]
pub struct Args {
    /// Optimised, as it is shipped
    #[arg(long)]
    release: bool,
    /// Fail where the XDP program can't be had, instead of building a proxy without it
    #[arg(long)]
    require_guard: bool,
}

/// What puts hookgate to work for `run` and `demo`.
pub const DEMO: &str = "hookgate-demo";
/// What measures it.
pub const BENCH: &str = "hookgate-bench";

#[derive(Clone, Copy)]
pub enum Profile {
    Dev,
    /// What runs on the machine that builds it: optimised, and built in half of the time that
    /// `Release` takes.
    Local,
    /// What is shipped.
    Release,
}

impl Profile {
    /// cargo's name for it, and for its folder in the target directory.
    fn names(self) -> [&'static str; 2] {
        match self {
            Self::Dev => ["dev", "debug"],
            Self::Local => ["local"; 2],
            Self::Release => ["release"; 2],
        }
    }
}

pub struct Built {
    pub binary: PathBuf,
    /// Why the guard is not inside, and what to do about it.
    pub guard_missing: Option<String>,
}

pub fn main(workspace: &Workspace, args: &Args) -> Result<ExitCode> {
    let built = both(workspace, if args.release { Profile::Release } else { Profile::Dev })?;
    match built.guard_missing {
        None => eprintln!("xtask: {} (guard embedded)", built.binary.display()),
        Some(why) if args.require_guard => bail!("the guard can't be had: {why}"),
        Some(why) => eprintln!("xtask: {} WITHOUT the guard: {why}", built.binary.display()),
    }
    Ok(ExitCode::SUCCESS)
}

/// Both halves; where the program can't be had, the proxy alone.
///
/// # Errors
/// The code does not compile.
pub fn both(workspace: &Workspace, profile: Profile) -> Result<Built> {
    let guard_missing = match ebpf::build(workspace)? {
        Object::Ready => None,
        Object::Missing { why } => Some(why),
    };
    Ok(Built { binary: proxy(workspace, profile)?, guard_missing })
}

/// The proxy with an allocator that counts, beside the other.
///
/// # Errors
/// The code does not compile.
pub fn counting(workspace: &Workspace) -> Result<()> {
    let mut cargo = workspace.cargo();
    cargo.args([
        "build",
        "--package",
        "hookgate",
        "--features",
        "count-allocations",
        "--bin",
        "hookgate-counting",
    ]);
    run_aloud(cargo)
}

/// The proxy with whatever program an earlier build has left.
///
/// # Errors
/// The code does not compile.
pub fn proxy(workspace: &Workspace, profile: Profile) -> Result<PathBuf> {
    let [name, folder] = profile.names();
    let binary = workspace.target.join(folder).join("hookgate");
    if let Profile::Release = profile {
        let shipped = release::with_symbols(workspace, Arch::host()?)?;
        put(&shipped, &binary)
            .with_context(|| format!("copying {} to {}", shipped.display(), binary.display()))?;
        return Ok(binary);
    }
    let mut cargo = workspace.cargo();
    cargo.args(["build", "--bin", "hookgate", "--profile", name, "--target-dir"]).arg(&workspace.target);
    match profile {
        // All packages' features together, as for xtask itself (.cargo/config.toml). The demo is
        // wanted next.
        Profile::Local => cargo.args(["--bin", DEMO]),
        _ => cargo.args(["--package", "hookgate"]),
    };
    run_aloud(cargo)?;
    Ok(binary)
}

/// Copies a program in place of another, which may be running.
fn put(program: &Path, to: &Path) -> std::io::Result<()> {
    let aside = to.with_extension("new");
    fs::create_dir_all(to.parent().unwrap_or(to))?;
    fs::copy(program, &aside)?;
    fs::rename(&aside, to)
}

/// A program of ours that works beside hookgate: the demo, or the bench. It has xtask's profile
/// and, chosen without `--package`, the features of all packages together, as xtask itself: what
/// they have in common is compiled once.
///
/// # Errors
/// The code does not compile.
pub fn beside_hookgate(workspace: &Workspace, name: &str) -> Result<PathBuf> {
    let mut cargo = workspace.cargo();
    cargo.args(["build", "--bin", name, "--profile", "local"]);
    run_aloud(cargo)?;
    Ok(workspace.target.join("local").join(name))
}
