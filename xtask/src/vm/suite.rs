//! Which tests run in the guest.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use harness_core::Workspace;
use serde_json::Value;

/// Tests of one binary that depend on the kernel.
struct Row {
    /// Its file or folder in tests/tests; `hookgate`: the proxy's unit tests.
    binary: &'static str,
    how: How,
    /// A test is one of these if such a word is in its name.
    all: &'static [&'static str],
    /// The few of them that `--quick` leaves.
    quick: &'static [&'static str],
    /// Those that run on other kernels as well.
    elsewhere: &'static [&'static str],
    /// Those that an emulated machine is too slow for.
    slow: &'static [&'static str],
}

/// How many tests of those that depend on the kernel.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    All,
    Quick,
    OnOtherKernels,
}

/// How tests run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum How {
    AsOnTheHost,
    /// It is a failure if the kernel's TLS has no part in it.
    WithKernelTls,
    /// As well, and those that need no TLS have it, too.
    OverKernelTls,
}

impl How {
    /// The function of tests.sh that runs them so.
    pub fn function(self) -> &'static str {
        match self {
            Self::AsOnTheHost => "run",
            Self::WithKernelTls => "run_with_kernel_tls",
            Self::OverKernelTls => "run_over_kernel_tls",
        }
    }
}

const EVERY: &[&str] = &[""];
/// All but floods and rates, for which an emulated machine is too slow.
const AT_ANY_PACE: &[&str] = &[
    "answers::answers_that",
    "answers::before_links",
    "answers::each",
    "attach::",
    "bundles::",
    "counting::",
    "flood::the_maps",
    "handshakes::",
    "hidden::",
    "interfaces::",
    "kernel::",
    "log::one",
    "log::the_log",
    "lost::",
    "modes::",
    "published::",
    "tc::",
    "traffic::counting",
    "transport::",
    "tunnels::",
];
/// BPF, the kernel's TLS, and its Landlock: versions differ in what they refuse.
const UNIT_TESTS: &[&str] =
    &["sys::bpf::", "sys::kernel_tls::", "net::kernel::", "server::worker::confine::"];
/// What has TLS by itself.
const WITH_TLS: &[&str] =
    &["client_tls::", "upstream_tls::", "sessions::", "pooled::", "other_certificates", "funnel::"];
/// What a relay does with heads and bodies over any transport. Tests that take an emulated peer too
/// long are left out, and those that end before TLS begins.
const OVER_TLS: &[&str] = &[
    "bodies::",
    "delivery::a_client",
    "delivery::a_get",
    "delivery::a_pooled",
    "delivery::a_post",
    "delivery::a_request_that",
    "delivery::an_origin",
    "delivery::idle",
    "delivery::what",
    "pieces::",
    "splice::until_close",
    "timeouts::a_client_that_does_not",
    "timeouts::a_kept",
    "timeouts::no_100",
    "timeouts::of_two",
    "timeouts::the_response",
    "timeouts::what_moves",
];
const SUITE: [Row; 9] = [
    Row {
        binary: "hookgate",
        how: How::AsOnTheHost,
        all: UNIT_TESTS,
        quick: UNIT_TESTS,
        elsewhere: &[],
        slow: &[],
    },
    Row {
        binary: "program",
        how: How::AsOnTheHost,
        all: EVERY,
        quick: &["attempts::a_syn_with_another_number", "modes::an_allowed_network", "parsing::other_ports"],
        elsewhere: EVERY,
        slow: &["answers::what_leaves_is_waited_for_once"],
    },
    Row {
        binary: "guard",
        how: How::AsOnTheHost,
        all: AT_ANY_PACE,
        quick: &["detach_leaves_nothing", "flood::the_maps"],
        elsewhere: AT_ANY_PACE,
        // Its reload loads all programs anew, for which `hookgate reload` does not wait so long.
        slow: &["tc::an_interface_that_comes_back_is_filtered_in_tc"],
    },
    Row {
        binary: "prefixes_in_force",
        how: How::AsOnTheHost,
        all: EVERY,
        quick: &[],
        elsewhere: &[],
        slow: &[],
    },
    Row { binary: "rehearsal", how: How::AsOnTheHost, all: EVERY, quick: &[], elsewhere: &[], slow: &[] },
    Row { binary: "supervised", how: How::AsOnTheHost, all: EVERY, quick: &[], elsewhere: &[], slow: &[] },
    Row {
        binary: "relay",
        how: How::WithKernelTls,
        all: WITH_TLS,
        quick: &["the_kernel_encrypts", "tickets_of_the_upstreams"],
        elsewhere: &[],
        slow: &[],
    },
    Row {
        binary: "relay",
        how: How::OverKernelTls,
        all: OVER_TLS,
        quick: &["delivery::a_pooled"],
        elsewhere: &[],
        slow: &[],
    },
    Row {
        binary: "doctor",
        how: How::AsOnTheHost,
        all: &["a_machine_that_is_well", "interfaces_are_there"],
        quick: &[],
        elsewhere: &[],
        slow: &[],
    },
];

/// One binary with the exact names of its tests.
pub struct Selected {
    pub name: &'static str,
    pub how: How,
    pub binary: PathBuf,
    pub tests: Vec<String>,
}

/// Builds the tests and chooses among them; with `words`, only such as have one of these in
/// `binary::name`.
///
/// # Errors
/// They don't compile, or one of the suite's words fits none.
pub fn select(workspace: &Workspace, extent: Extent, words: &[String]) -> Result<Vec<Selected>> {
    let binaries = build(workspace)?;
    let mut selected = Vec::new();
    for row in SUITE {
        let name = row.binary;
        let binary = binaries.get(name).with_context(|| format!("there is no test binary {name}"))?;
        let known = list(binary)?;
        let mut tests = Vec::new();
        let of_row = match extent {
            Extent::All => row.all,
            Extent::Quick => row.quick,
            Extent::OnOtherKernels => row.elsewhere,
        };
        let like = |word: &str| {
            let fit = known.iter().filter(|test| test.contains(word)).collect::<Vec<_>>();
            ensure!(!fit.is_empty(), "{name} has no test like {word:?}, which {} names", file!());
            Ok(fit)
        };
        for word in of_row {
            tests.extend(like(word)?);
        }
        for word in row.slow {
            let slow = like(word)?;
            tests.retain(|test| !slow.contains(test));
        }
        let named = |test: &str, word: &String| format!("{name}::{test}").contains(word);
        let wanted = |test: &&String| words.is_empty() || words.iter().any(|word| named(test, word));
        let tests = tests.into_iter().filter(wanted).cloned().collect::<Vec<_>>();
        if !tests.is_empty() {
            selected.push(Selected { name, how: row.how, binary: binary.clone(), tests });
        }
    }
    Ok(selected)
}

/// The test binaries by name.
fn build(workspace: &Workspace) -> Result<BTreeMap<String, PathBuf>> {
    let mut cargo = workspace.cargo();
    cargo.args(["test", "--package", "hookgate", "--lib", "--package", "hookgate-tests", "--tests"]);
    cargo.args(["--no-run", "--quiet"]);
    cargo.arg("--message-format=json-render-diagnostics");
    let said = harness_core::run(cargo)?;
    let artifacts = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let is_test = |artifact: &Value| {
        let target = &artifact["target"];
        target["kind"][0] == "test" || target["kind"][0] == "lib" && target["name"] == "hookgate"
    };
    let tests = artifacts.filter(is_test);
    let binary = |artifact: Value| {
        let name = artifact["target"]["name"].as_str()?.to_owned();
        Some((name, PathBuf::from(artifact["executable"].as_str()?)))
    };
    Ok(tests.filter_map(binary).collect())
}

fn list(binary: &Path) -> Result<Vec<String>> {
    let mut list = Command::new(binary);
    list.args(["--list", "--format", "terse"]);
    let said = harness_core::run(list)?;
    Ok(said.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect())
}
