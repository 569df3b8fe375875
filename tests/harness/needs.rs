use std::io::Write;
use std::path::Path;

/// What a test can't do without.
#[derive(Clone, Copy, Debug)]
pub enum Need {
    Root,
    /// A program in PATH.
    Program(&'static str),
    /// A binary with the XDP program inside.
    Guard,
    /// The binary with an allocator that counts.
    CountingBinary,
    /// Control groups that bound memory.
    MemoryControl,
}

/// Whether the test can run here. If not, a line `SKIPPED: <test>: <why>` says so, and `cargo xtask test` counts it.
///
/// ```no_run
/// # use harness::{Need, require};
/// if !require(&[Need::Root, Need::Program("nginx")]) {
///     return;
/// }
/// ```
#[must_use]
pub fn require(needs: &[Need]) -> bool {
    let Some(why) = needs.iter().find_map(|need| need.missing()) else { return true };
    let thread = std::thread::current();
    // Written directly: the test runner swallows what `eprintln!` says in a test that passes.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {}: {why}", thread.name().unwrap_or("?"));
    false
}

impl Need {
    fn missing(self) -> Option<String> {
        match self {
            Self::Root => (!rustix::process::geteuid().is_root()).then(|| "needs root".to_owned()),
            Self::Program(name) => (!in_path(name)).then(|| format!("needs {name}")),
            Self::Guard => match crate::binary() {
                Ok(binary) => {
                    (!has_guard(&binary)).then(|| "hookgate was built without the guard".to_owned())
                }
                Err(e) => Some(format!("{e:#}")),
            },
            Self::CountingBinary => crate::counting_binary().err().map(|e| format!("{e:#}")),
            Self::MemoryControl => {
                memory_control().is_none().then(|| "needs control groups for memory".to_owned())
            }
        }
    }
}

/// Where control groups that bound memory are made, and the file of theirs that holds the limit, in version 2 or 1.
pub fn memory_control() -> Option<[&'static str; 2]> {
    let enabled = std::fs::read_to_string("/sys/fs/cgroup/cgroup.subtree_control");
    if enabled.is_ok_and(|enabled| enabled.split_whitespace().any(|controller| controller == "memory")) {
        return Some(["/sys/fs/cgroup", "memory.max"]);
    }
    let v1 = "/sys/fs/cgroup/memory";
    Path::new(v1).join("memory.limit_in_bytes").is_file().then_some([v1, "memory.limit_in_bytes"])
}

/// Whether a program is installed.
pub fn in_path(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Users other than root often lack sbin, where nginx and others lie.
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|dir| dir.join(name).is_file())
}

/// `cargo xtask build` leaves the object in `<target dir>/bpf`, two folders up from the binary.
fn has_guard(binary: &Path) -> bool {
    binary.ancestors().nth(2).is_some_and(|target| target.join("bpf/hookgate-guard.o").is_file())
}
