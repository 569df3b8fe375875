use std::error::Error as _;
use std::io::{self, ErrorKind};
use std::path::PathBuf;

use aya::EbpfError;
use aya::maps::MapError;
use aya::pin::PinError;
use aya::programs::ProgramError;
use aya::util::nr_cpus;
use rustix::io::Errno;

use hookgate_ebpf::abi;

use super::answers::Unseen;
use super::holder::Holder;
use super::interface::{ModeRefusal, Reason, Xdp};

/// Why the guard is not attached, not detached or not read. Each says what to do next; causes are
/// in `source`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("this hookgate was built without the guard's program: build it with `cargo xtask build`")]
    NotEmbedded,
    #[error("this kernel has no BPF (there is no /sys/fs/bpf): use one built with CONFIG_BPF_SYSCALL")]
    NoBpf,
    #[error(
        "[guard] mode = \"strict\" with port 22 among `ports` would lock you out of SSH, unless you come from Meta's \
         prefixes or an `allow` network: take 22 out, or insist with --yes-lock-me-out"
    )]
    LocksOutSsh,
    #[error(
        "[guard] mode = \"strict\" without a single prefix of Meta's would drop everything: fill the list of \
         `prefixes`, or insist with --yes-lock-me-out"
    )]
    LocksOutMeta,
    #[error(
        "the guard needs CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN, and lacks {}: run as root, or give them to the container",
        lacks.join(", ")
    )]
    NotPermitted { lacks: Vec<&'static str> },
    #[error(
        "BPF is not allowed here although the process has the capabilities for it: an unprivileged container (they count in \
         the machine's first user namespace alone), seccomp, a security module, or a kernel before 5.11 with a low \
         RLIMIT_MEMLOCK (the guard needs the BPF of Linux 5.15)? run hookgate, or `hookgate guard attach`, where it is allowed"
    )]
    Forbidden(#[source] Box<EbpfError>),
    #[error(
        "no memory for the guard's maps, which take room for each of the {} possible CPUs \
         (/sys/devices/system/cpu/possible): free some, raise the limit of hookgate's control group, or boot with `nr_cpus=`",
        possible_cpus()
    )]
    NoMemory(#[source] Box<EbpfError>),
    #[error(
        "/sys/fs/bpf is not mounted: run `mount -t bpf bpf /sys/fs/bpf`, or give the container the volume \
         /sys/fs/bpf:/sys/fs/bpf"
    )]
    NoBpffs,
    #[error(
        "another hookgate changes what lies in /sys/fs/bpf, and has not done for 8 s: does it hang? `fuser -v /sys/fs/bpf` \
         names it"
    )]
    Locked,
    #[error("[guard] interfaces: there is no interface {name:?} here; there are: {}", present.join(", "))]
    NoInterface { name: String, present: Vec<String> },
    #[error(
        "[guard] interfaces = \"auto\": there is no default route; name interfaces instead, there are: {}",
        present.join(", ")
    )]
    NoDefaultRoute { present: Vec<String> },
    #[error("[guard] interfaces: {name}: {reason}", reason = Reason::NoEthernet)]
    NoEthernet { name: String },
    #[error(
        "[guard] interfaces: {upper} lies above {lower}: its packets come in at {lower} first and would be counted \
         twice: name {lower} alone"
    )]
    Stacked { upper: String, lower: String },
    #[error("{interface} already runs {holder}: {}, or leave this interface out of [guard] interfaces", holder.remedy())]
    Held { interface: String, holder: Holder },
    #[error(
        "{interface} can't run a program while {upper}, which lies above it, runs {holder}: {}, or guard {upper} in place \
         of {interface}",
        holder.remedy()
    )]
    HeldAbove { interface: String, upper: String, holder: Holder },
    #[error("the program can't run on {interface} in {xdp} mode{}", advice(*.xdp))]
    Attach {
        interface: String,
        xdp: Xdp,
        #[source]
        why: ModeRefusal,
    },
    #[error(
        "the guard in {} is on {interface} of another network namespace: give this one another [guard] pin, or take that \
         off with `hookgate guard detach`",
        folder.display()
    )]
    OtherNamespace { folder: PathBuf, interface: String },
    #[error("{0}")]
    NotPutBack(String),
    #[error("the kernel attaches XDP programs, but not through links, which Linux 5.9 brought")]
    NoLinks,
    #[error("can't ask the kernel for its interfaces")]
    Netlink(#[source] io::Error),
    #[error("can't use the pinned link {}: remove it with `hookgate guard detach`", path.display())]
    Link { path: PathBuf, source: io::Error },
    #[error("{0} prefixes are more than there are counters left for: `hookgate guard detach` starts anew")]
    TooManyPrefixes(usize),
    #[error("[guard] allow: {0} networks are more than the {most} that fit", most = abi::ALLOWED_MOST)]
    TooManyAllowed(usize),
    #[error("can't read /proc/self/mountinfo")]
    Mounts(#[source] io::Error),
    #[error("no cgroup2 hierarchy is mounted: run `mount -t cgroup2 cgroup2 /sys/fs/cgroup`")]
    NoCgroup(#[source] io::Error),
    #[error("the kernel refuses a program at its cgroups (it needs CONFIG_CGROUP_BPF)")]
    Cgroup(#[source] ProgramError),
    #[error("the kernel can't run the program that begins to look for failed handshakes")]
    Sweeps(#[source] ProgramError),
    #[error(
        "this kernel (before Linux 5.18) would crash, since net.core.bpf_jit_harden is on: run `sysctl -w \
         net.core.bpf_jit_harden=0` in the machine's first network namespace, then `hookgate guard attach`"
    )]
    HardenedJit,
    #[error(
        "can't find out whether net.core.bpf_jit_harden is on, with which this kernel (before Linux 5.18) would crash"
    )]
    BlindingUnknown(#[source] io::Error),
    #[error("the kernel has no memory for a timer: free some, then `hookgate guard attach`")]
    NoTimer,
    #[error("it could not be arranged when the guard was attached: `hookgate guard attach` says why")]
    HandshakesRefused,
    #[error(
        "the control group that the guard was attached in is gone, as with a container: `hookgate guard attach` attaches it anew"
    )]
    CgroupGone,
    #[error(
        "the kernel's timer that ends attempts does not run: `hookgate guard attach` starts it again, or says why not"
    )]
    NotSwept,
    #[error("the kernel does not show what leaves through {interface}")]
    Answers {
        interface: String,
        #[source]
        why: Unseen,
    },
    #[error(
        "the program that sees what leaves has been taken off an interface: `hookgate guard attach` puts it back"
    )]
    AnswersGone,
    #[error(
        "{failed} had failed before what leaves could be seen; `hookgate guard detach` and `hookgate guard attach` begin \
         to count anew"
    )]
    AnswersUnseenBefore { failed: u64 },
    #[error(
        "{unseen} of {handshakes} handshakes were completed whose SYN-ACK left through no guarded interface: name the one with \
         the way back to Meta in [guard] interfaces, too"
    )]
    AnswersElsewhere { unseen: u64, handshakes: u64 },
    #[error("the kernel tells no reasons why it drops packets, as Linux 5.17 does")]
    NoDropReasons,
    #[error("the kernel's own types can't be read (it needs CONFIG_DEBUG_INFO_BTF)")]
    Btf(#[source] io::Error),
    #[error("the kernel refuses a program where it tells of dropped packets")]
    Tracepoint(#[source] ProgramError),
    #[error("they could not be counted when the guard was attached: `hookgate guard attach` says why")]
    DropsRefused,
    #[error("can't tell this network namespace from others (SO_NETNS_COOKIE, which Linux 5.14 brought)")]
    Netns(#[source] io::Error),
    #[error("the kernel's verifier refuses the guard's program; that of Linux 5.15 takes it:\n{log}")]
    Verifier { log: String, source: io::Error },
    #[error("the kernel does not take the guard's program; Linux 5.15 does")]
    Load(#[source] Box<EbpfError>),
    #[error("the guard's map {name}")]
    Map { name: &'static str, source: MapError },
    #[error("another `hookgate guard log`, process {process}, reads the guard's log: end that one first")]
    LogRead { process: u32 },
    #[error("the guard was detached, or replaced by another version's, while its log was read")]
    LogGone,
    #[error("can't pin {}", path.display())]
    Pin { path: PathBuf, source: PinError },
    #[error(
        "{}{} holds what is not hookgate's: {}: remove it by hand (`rm`), then the folder (`rmdir`)",
        let_go(released),
        folder.display(),
        files.join(", ")
    )]
    ForeignPins { folder: PathBuf, files: Vec<String>, released: Vec<String> },
    #[error("can't {doing} {}{}", path.display(), root_hint(source))]
    Folder { doing: &'static str, path: PathBuf, source: io::Error },
    #[error(
        "the guard in {} was attached by another version of hookgate: read it with that one, or replace it \
         with `hookgate guard attach` (its counters start from nothing then)",
        folder.display()
    )]
    OtherLayout { folder: PathBuf },
}

impl Error {
    pub(super) fn from_loading(error: EbpfError) -> Self {
        match (errno(&error), error) {
            (Some(Errno::PERM), error) => Self::Forbidden(Box::new(error)),
            (Some(Errno::NOMEM), error) => Self::NoMemory(Box::new(error)),
            (_, EbpfError::ProgramError(ProgramError::LoadError { io_error, verifier_log })) => {
                Self::Verifier { log: last_lines(&verifier_log.to_string()), source: io_error }
            }
            (_, error) => Self::Load(Box::new(error)),
        }
    }

    /// Causes included.
    pub fn in_a_line(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            text += &format!(": {error}");
            cause = error.source();
        }
        text
    }

    /// What was could not be put back for this, after something else had failed.
    pub(super) fn after(&self, cause: Self) -> Self {
        let (cause, error) = (cause.in_a_line(), self.in_a_line());
        Self::NotPutBack(format!("{cause}; and what was attached before could not be put back: {error}"))
    }

    pub(super) fn map(name: &'static str) -> impl Fn(MapError) -> Self {
        move |source| Self::Map { name, source }
    }
}

/// What the kernel said, below everything that was made of it.
fn errno(error: &(dyn std::error::Error + 'static)) -> Option<Errno> {
    let causes = std::iter::successors(Some(error), |error| (*error).source());
    causes.filter_map(|cause| cause.downcast_ref()).find_map(Errno::from_io_error)
}

/// How many the kernel keeps per-CPU memory for, online or not.
fn possible_cpus() -> usize {
    nr_cpus().unwrap_or(1)
}

/// Where the verifier says what it minds, after everything that it found right.
fn last_lines(log: &str) -> String {
    let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(8)..].join("\n")
}

fn advice(xdp: Xdp) -> &'static str {
    match xdp {
        Xdp::Native => " (its driver may not support it): set [guard] xdp = \"auto\" or \"tc\"",
        Xdp::Tc => ": set [guard] xdp = \"auto\"",
        Xdp::Generic => "",
    }
}

fn let_go(interfaces: &[String]) -> String {
    if interfaces.is_empty() {
        String::new()
    } else {
        format!("detached from {}, but ", interfaces.join(", "))
    }
}

fn root_hint(error: &io::Error) -> &'static str {
    if error.kind() == ErrorKind::PermissionDenied { " (are you root?)" } else { "" }
}

#[cfg(test)]
mod tests {
    use aya::sys::SyscallError;

    use super::*;

    #[test]
    fn what_keeps_the_program_from_being_loaded_is_told_with_its_likely_reason() {
        let map = |errno: Errno| {
            let name = abi::SEEN.to_owned();
            EbpfError::MapError(MapError::CreateError { name, io_error: errno.into() })
        };
        let call = |errno: Errno| {
            EbpfError::ProgramError(SyscallError { call: "bpf_prog_load", io_error: errno.into() }.into())
        };
        for (error, expected) in [
            (map(Errno::PERM), "BPF is not allowed here although the process has the capabilities"),
            (call(Errno::PERM), "BPF is not allowed here although the process has the capabilities"),
            (map(Errno::NOMEM), "no memory for the guard's maps, which take room for each of the "),
            (map(Errno::INVAL), "the kernel does not take the guard's program; Linux 5.15 does: map error"),
        ] {
            let text = Error::from_loading(error).in_a_line();
            assert!(text.starts_with(expected), "{text}");
        }
    }
}
