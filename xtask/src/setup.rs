//! The programs that tests and measurements start, and the Debian packages that bring them.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;

use crate::debootstrap::Root;
use crate::install;

/// Installs the programs that the tests start, as root; `test`, `docs` and `demo` call it
/// themselves
#[derive(clap::Args)]
pub struct Args {
    /// What the programs are for
    #[arg(long = "for", value_enum, default_value_t = Purpose::Tests)]
    purpose: Purpose,
    /// Instead: nginx and HAProxy of this suite of Debian, for `cargo xtask bench --peers`; prints
    /// the folder of their root
    #[arg(long, value_name = "SUITE", conflicts_with = "purpose")]
    peers: Option<String>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
pub enum Purpose {
    Tests,
    Bench,
    /// `cargo xtask bench --only guard`
    GuardBench,
}

type Program = (&'static str, &'static str);

const TESTS: [Program; 27] = [
    ("apt-ftparchive", "apt-utils"),
    ("bpftool", "bpftool"),
    ("caddy", "caddy"),
    ("chattr", "e2fsprogs"),
    ("chromium", "chromium"),
    ("curl", "curl"),
    ("dnsmasq", "dnsmasq-base"),
    ("ethtool", "ethtool"),
    ("fincore", "util-linux-extra"),
    ("gdb", "gdb"),
    ("gpg", "gpg"),
    ("gpg-agent", "gpg-agent"),
    ("h2load", "nghttp2-client"),
    ("haproxy", "haproxy"),
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("nginx", "nginx-light"),
    ("openssl", "openssl"),
    ("pebble", "pebble"),
    ("pebble-challtestsrv", "pebble"),
    ("python3", "python3"),
    ("setfacl", "acl"),
    ("setpriv", "util-linux"),
    ("strace", "strace"),
    ("tcpdump", "tcpdump"),
    ("tmux", "tmux"),
    ("wg", "wireguard-tools"),
];
const BENCH: [Program; 4] =
    [("dnsmasq", "dnsmasq-base"), ("haproxy", "haproxy"), ("nginx", "nginx-light"), ("pkill", "procps")];
const GUARD_BENCH: [Program; 1] = [("clang", "clang")];

pub fn main(args: &Args) -> Result<ExitCode> {
    match &args.peers {
        Some(suite) => println!("{}", peers(suite)?.display()),
        None => install_missing(args.purpose)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// A root of `suite` with the peers that the bench starts.
fn peers(suite: &str) -> Result<PathBuf> {
    let root = Root {
        name: &format!("peers-{suite}"),
        suite,
        packages: "ca-certificates,haproxy,nginx-light",
        purpose: "to measure beside the peers of another Debian",
        files: ["usr/sbin/nginx", "usr/sbin/haproxy"],
    };
    root.find_or_make(|_| Ok(()))
}

/// Installs the programs of `purpose` that are not in PATH.
///
/// # Errors
/// As [`install::packages`].
pub fn install_missing(purpose: Purpose) -> Result<()> {
    let (programs, reason) = match purpose {
        Purpose::Tests => (&TESTS[..], "for the tests"),
        Purpose::Bench => (&BENCH[..], "for the bench"),
        Purpose::GuardBench => (&GUARD_BENCH[..], "for the guard's bench"),
    };
    let missing = programs.iter().filter(|(program, _)| !harness_core::in_path(program));
    let mut packages = missing.map(|(_, package)| *package).collect::<Vec<_>>();
    packages.dedup();
    if packages.is_empty() { Ok(()) } else { install::packages(reason, &packages) }
}
