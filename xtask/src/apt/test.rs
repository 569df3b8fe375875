//! Debians that install from a repository, as the pages say, by the steps of others' habits too.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use harness_core::{TempDir, Workspace, is_root};

use super::repository::Repository;
use super::signer::Signer;
use super::{packages, roots, stand_ins};
use crate::arch::Arch;
use crate::booted_root::Booted;
use crate::test_summary::TestSummary;
use crate::{commit, docs, package};

const SUITES: [&str; 2] = ["bookworm", "trixie"];
const LIMIT: Duration = Duration::from_secs(900);
/// Into the root: repositories, what the pages say, and packaging/.
const PREPARE: &str = "cp -r \"$world\" srv/test; cp -r \"$packaging\" srv/test/packaging\n";
/// As a machine's provider hands over what its owner wrote.
const SEED: &str = include_str!("seed.sh");
const WITHOUT_CLOUD_INIT: &str = "touch etc/cloud/cloud-init.disabled\n";
const APT: &str = include_str!("apt.sh");
const VERIFY: &str = include_str!("verify.sh");
const OTHERS_HABITS: [(&str, &str, &str); 3] = [
    ("cloud_init", SEED, include_str!("cloud_init.sh")),
    ("ansible", WITHOUT_CLOUD_INIT, include_str!("ansible.sh")),
    ("verify", WITHOUT_CLOUD_INIT, VERIFY),
];

/// # Errors
/// The package can't be built, or there is no such Debian to be had.
pub fn test(workspace: &Workspace, summary: &mut TestSummary) -> Result<()> {
    if !is_root() {
        summary.skip("the apt repository: needs root".to_owned());
        return Ok(());
    }
    let world = world(workspace)?;
    for suite in SUITES {
        run(workspace, &world, &format!("apt_{suite}"), &roots::server(suite)?, ["", APT], summary)?;
        let root = roots::with_others_habits(suite)?;
        for (name, prepare, tests) in OTHERS_HABITS {
            run(workspace, &world, &format!("{name}_{suite}"), &root, [prepare, tests], summary)?;
        }
    }
    Ok(())
}

fn run(
    workspace: &Workspace,
    world: &TempDir,
    group: &str,
    root: &Path,
    [prepare, tests]: [&str; 2],
    summary: &mut TestSummary,
) -> Result<()> {
    let packaging = workspace.root.join("packaging");
    let common = include_str!("common.sh");
    let booted = Booted {
        name: group,
        root,
        paths: &[("world", world.path()), ("packaging", &packaging)],
        prepare: &format!("{PREPARE}{prepare}"),
        tests: &format!("{}{common}group={group}\n{tests}finish\n", package::CHECKS),
        limit: LIMIT,
    };
    booted.run(summary)
}

/// Three repositories: `before` with one version, `after` with the next one too, and `other`, the
/// same with another key; and `typed`, what the pages say.
fn world(workspace: &Workspace) -> Result<TempDir> {
    let blocks = docs::marked(workspace, "needs=apt")?;
    for (name, _) in &blocks {
        let is_typed = [APT, VERIFY].iter().any(|script| script.contains(name));
        ensure!(is_typed, "no test types the block {name} of docs/");
    }
    let world = TempDir::new("apt")?;
    let folder = |name: &str| world.path().join(name);
    let committed = commit::date(workspace)?;
    let aside = TempDir::new("apt-packages")?;
    let [ours, other] = [stand_ins::key(aside.path(), "ours")?, stand_ins::key(aside.path(), "other")?];
    let [ours, other] = [&ours, &other].map(|key| Signer::find(&key.to_string_lossy()));
    let (ours, other) = (ours?, other?);
    let host = Arch::host()?;
    let absent = packages::ARCHITECTURES.into_iter().find(|arch| *arch != host).unwrap_or(host);
    for revision in [1, 2] {
        let version = format!("{}-{revision}", env!("CARGO_PKG_VERSION"));
        let files = [
            package::build(workspace, Arch::host()?, revision)?,
            stand_ins::package(aside.path(), &version, absent, committed)?,
        ];
        if revision == 1 {
            Repository::at(&folder("before")).add(&files, committed, &ours)?;
            let mut copy = Command::new("cp");
            copy.arg("-r").arg(folder("before")).arg(folder("after"));
            harness_core::run(copy)?;
        }
        Repository::at(&folder("after")).add(&files, committed, &ours)?;
        Repository::at(&folder("other")).add(&files, committed, &other)?;
    }
    fs::create_dir(folder("typed"))?;
    for (name, text) in blocks {
        fs::write(folder("typed").join(name), text)?;
    }
    // apt reads as a user of its own.
    let mut open = Command::new("chmod");
    open.args(["-R", "a+rX"]).arg(world.path());
    harness_core::run(open)?;
    Ok(world)
}
