//! Everything in one command, from unit tests to real packets; ends with what passed, failed and
//! was skipped.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::Result;
use harness_core::{Workspace, is_root};

use crate::arch::Arch;
use crate::build::{self, Profile};
use crate::setup::{self, Purpose};
use crate::test_summary::TestSummary;
use crate::{apt, docs, ebpf, fresh, fuzz, image, package, tidy, vm};

/// How many random cases each property is tried with under `--full`, instead of proptest's own 256.
const FULL_CASES: u32 = 4096;
/// How long each fuzz target is run with `--full`.
const FUZZ_SECONDS: u32 = 30;

/// Runs every test, after `setup`; a skipped one fails it where CI=true
#[derive(clap::Args)]
pub struct Args {
    /// The slow ones too (`#[ignore]`)
    #[arg(long)]
    full: bool,
    /// Those that depend on the kernel, on Debian's own in an emulated machine; needs root
    #[arg(long, conflicts_with = "full")]
    vm: bool,
    /// The Debian package: installed, used, upgraded and purged in a small Debian; needs root
    #[arg(long, group = "shipped", conflicts_with_all = ["full", "vm"])]
    package: bool,
    /// Of the package, that for this processor: another than this machine's is emulated
    #[arg(long, value_enum, requires = "package")]
    arch: Option<Arch>,
    /// The apt repository: installed and upgraded from in small Debians, by hand, by cloud-init and
    /// by Ansible; needs root
    #[arg(long, group = "shipped", conflicts_with_all = ["full", "vm"])]
    apt: bool,
    /// The container image, in a container engine; needs root
    #[arg(long, group = "shipped", conflicts_with_all = ["full", "vm"])]
    image: bool,
    /// Puts what was run where into the table of docs/install.md
    #[arg(long, requires = "shipped")]
    publish: bool,
    /// The README's first command on machines that have never seen hookgate; needs root
    #[arg(long, conflicts_with_all = ["full", "vm", "shipped"])]
    fresh: bool,
    /// Of the kernel's, the few that show within a minute or so whether it works at all
    #[arg(long, requires = "vm")]
    quick: bool,
    /// Of the kernel's, those on a kernel whose version begins so, such as 6.12
    #[arg(long, requires = "vm")]
    kernel: Option<String>,
    /// Of the kernel's, the ones with such a word in their name
    #[arg(requires = "vm")]
    names: Vec<String>,
}

/// `xtask`: our own command line, which pages name.
///
/// # Errors
/// Something does not compile, or can't be started.
pub fn main(workspace: &Workspace, args: &Args, xtask: &clap::Command) -> Result<ExitCode> {
    if args.fresh {
        let mut summary = TestSummary::default();
        fresh::test(workspace, &mut summary)?;
        return Ok(summary.verdict());
    }
    let mut summary = TestSummary::default();
    let emulated = match args.arch {
        Some(arch) if arch != Arch::host()? => Some(arch),
        _ => None,
    };
    if let Some(arch) = emulated {
        // All that these start is in the emulated machine.
        package::test_emulated(workspace, arch, &mut summary)?;
        return finish_shipped(workspace, args, summary);
    }
    if let Err(e) = setup::install_missing(Purpose::Tests) {
        eprintln!("xtask: some tests will be skipped: {e:#}");
    }
    if args.image || args.package || args.apt {
        let test = match (args.image, args.package) {
            (true, _) => image::test,
            (_, true) => package::test,
            _ => apt::test,
        };
        test(workspace, &mut summary)?;
        return finish_shipped(workspace, args, summary);
    }
    let built = build::both(workspace, Profile::Dev)?;
    if let Some(why) = &built.guard_missing {
        eprintln!("xtask: the guard's tests will be skipped: {why}");
    }

    if args.vm {
        let wanted = vm::Wanted { quick: args.quick, kernel: args.kernel.as_deref(), words: &args.names };
        vm::test(workspace, &built, &wanted, &mut summary)?;
        return Ok(summary.verdict());
    }
    ebpf::verify(workspace, &mut summary)?;
    build::counting(workspace)?;
    summary.add("tidy", &tidy::findings(workspace)?);
    docs::check(workspace, &built, xtask, &mut summary)?;
    // It fails without a failed test where it does not compile, or a test took its process down.
    summary.run(tests(workspace, &built.binary, args.full), None)?;
    if args.full {
        match fuzz::compiler() {
            Ok(()) => summary.add("fuzz", &fuzz::findings(workspace, FUZZ_SECONDS)?),
            Err(why) => summary.skip(format!("fuzz: {why:#}")),
        }
    }

    Ok(summary.verdict())
}

/// The end of a test of what is shipped.
fn finish_shipped(workspace: &Workspace, args: &Args, summary: TestSummary) -> Result<ExitCode> {
    if args.publish {
        summary.publish(&workspace.root)?;
    }
    Ok(summary.verdict())
}

/// `cargo test`; as root with a BPF file system that only the tests see, so that nothing pinned
/// outlives them.
fn tests(workspace: &Workspace, binary: &Path, full: bool) -> Command {
    let mut cargo = workspace.cargo();
    cargo.args(["test", "--workspace", "--no-fail-fast"]).env("HOOKGATE_BIN", binary);
    if full {
        cargo.env("PROPTEST_CASES", FULL_CASES.to_string()).args(["--", "--include-ignored"]);
    }
    if !is_root() {
        return cargo;
    }
    const MOUNT: &str = "mount -t bpf bpf /sys/fs/bpf && exec \"$@\"";
    harness_core::wrapped("unshare", &["--mount", "sh", "-c", MOUNT, "sh"], &cargo)
}
