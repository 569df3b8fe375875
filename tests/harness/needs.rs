use std::io::Write;
use std::path::Path;

use harness_core::{in_path, is_root};

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
    /// A folder for temporary files that is not itself memory.
    TempDirOnDisk,
    /// TLS in the kernel. Tests that need it are left to the emulated machine, where it must be
    /// there.
    KernelTls,
    /// A kernel with interfaces of that kind. Tests that need other than veth, bridge and tun are
    /// left to the emulated machine.
    Link(&'static str),
    /// Two network cards on one wire, which a test may take. Tests that need them are left to the
    /// emulated machine, which has them.
    Wire,
}

/// Whether the test can run here. If not, a line `SKIPPED: <test>: <why>` says so, and
/// `cargo xtask test` counts it; `ELSEWHERE: …` where it runs on another kernel.
///
/// ```no_run
/// # use harness::{Need, require};
/// if !require(&[Need::Root, Need::Program("nginx")]) {
///     return;
/// }
/// ```
#[must_use]
pub fn require(needs: &[Need]) -> bool {
    let missing = needs.iter().find_map(|need| need.missing().map(|why| (need, why)));
    let Some((need, why)) = missing else { return true };
    let word =
        if matches!(need, Need::KernelTls | Need::Link(_) | Need::Wire) { "ELSEWHERE" } else { "SKIPPED" };
    let line = format!("{word}: {}: {why}\n", std::thread::current().name().unwrap_or("?"));
    // Written directly: the test runner swallows what `eprintln!` says in a test that passes.
    let _ = std::io::stderr().write_all(line.as_bytes());
    false
}

impl Need {
    fn missing(self) -> Option<String> {
        match self {
            Self::Root => (!is_root()).then(|| "needs root".to_owned()),
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
            Self::TempDirOnDisk => is_temp_dir_memory().then(|| "needs temporary files on a disk".to_owned()),
            Self::Link(kind) => (!has_link(kind)).then(|| format!("needs interfaces of the kind {kind}")),
            Self::Wire => wire().is_none().then(|| "needs two network cards on one wire".to_owned()),
            Self::KernelTls => KernelTlsCounts::read().is_none().then(|| "needs the kernel's TLS".to_owned()),
        }
    }
}

/// The names of two network cards on one wire, in the namespace that everything else uses, which
/// `HOOKGATE_TEST_WIRE` says that a test may take.
pub fn wire() -> Option<[String; 2]> {
    let names = std::env::var("HOOKGATE_TEST_WIRE").ok()?;
    let names: Vec<_> = names.split(' ').map(str::to_owned).collect();
    names.try_into().ok()
}

/// Whether an interface of that kind can be made, tried in a namespace of its own.
fn has_link(kind: &str) -> bool {
    let link = match kind {
        "vlan" => "link probe0 name probe2 type vlan id 5".to_owned(),
        "macvlan" => "link probe0 name probe2 type macvlan".to_owned(),
        "gre" | "ipip" => format!("name probe2 type {kind} local 192.0.2.1 remote 192.0.2.2"),
        other => format!("name probe2 type {other}"),
    };
    let script = format!("ip link add probe0 type veth peer name probe1 && ip link add {link}");
    let made = std::process::Command::new("unshare").args(["--net", "sh", "-c", &script]).output();
    made.is_ok_and(|output| output.status.success())
}

/// What the kernel's TLS has done so far, in this network namespace
/// (Documentation/networking/tls.rst).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelTlsCounts {
    /// Sockets that were given keys to send with.
    pub sending: u64,
    /// Sockets that were given keys to receive with.
    pub receiving: u64,
    /// Records that were not the peer's.
    pub bad: u64,
}

impl KernelTlsCounts {
    /// `None` where the kernel has no TLS; where it is a module, it is loaded.
    pub fn read() -> Option<Self> {
        let read = || std::fs::read_to_string("/proc/net/tls_stat").ok();
        let text = read().or_else(|| {
            let loaded = std::process::Command::new("modprobe").arg("tls").output();
            loaded.ok().and_then(|_| read())
        })?;
        let count = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
            line.unwrap_or_default()
        };
        Some(Self {
            sending: count("TlsTxSw "),
            receiving: count("TlsRxSw "),
            bad: count("TlsDecryptError "),
        })
    }
}

/// Where control groups that bound memory are made, and the file of theirs that holds the limit, in
/// version 2 or 1.
pub fn memory_control() -> Option<[&'static str; 2]> {
    let enabled = std::fs::read_to_string("/sys/fs/cgroup/cgroup.subtree_control");
    if enabled.is_ok_and(|enabled| enabled.split_whitespace().any(|controller| controller == "memory")) {
        return Some(["/sys/fs/cgroup", "memory.max"]);
    }
    let v1 = "/sys/fs/cgroup/memory";
    Path::new(v1).join("memory.limit_in_bytes").is_file().then_some([v1, "memory.limit_in_bytes"])
}

fn is_temp_dir_memory() -> bool {
    /// statfs(2).
    const TMPFS_MAGIC: u32 = 0x0102_1994;
    let folder = rustix::fs::statfs(std::env::temp_dir());
    folder.is_ok_and(|folder| u32::try_from(folder.f_type) == Ok(TMPFS_MAGIC))
}

/// `cargo xtask build` leaves the object in `<target dir>/bpf`, two folders up from the binary.
fn has_guard(binary: &Path) -> bool {
    binary.ancestors().nth(2).is_some_and(|target| target.join("bpf/hookgate-guard.o").is_file())
}
