//! The kernel: what the guard and the proxy can use of it.

use std::fs;
use std::path::Path;

use rustix::thread::{CapabilitySet, capabilities};

use super::Finding;
use super::finding::Level;
use crate::config::{Config, Confine, Ktls};
use crate::guard;
use crate::net::{KernelTls, NoKernelTls};
use crate::server::Confinement;

/// The guard's program and its links need it.
const OLDEST: (u32, u32) = (5, 18);

pub fn findings(config: &Config) -> Vec<Finding> {
    // What only the guard needs is no failure where none is wanted.
    let level = if config.guard.is_some() { Level::Fail } else { Level::Warn };
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    vec![
        version(level),
        bpf(level),
        bpffs(&mounts, level),
        btf(),
        control_groups(&mounts),
        permissions(config),
        kernel_tls(config.ktls),
        confinement(config.process.confine, &Confinement::probe()),
    ]
}

fn version(level: Level) -> Finding {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    let text = format!("Linux {release} {}", uname.machine().to_string_lossy());
    let (major, minor) = OLDEST;
    match parse_release(&release) {
        Some(version) if version < OLDEST => {
            Finding::wrong(level, "kernel", text, format!("the guard needs Linux {major}.{minor} or later"))
        }
        _ => Finding::ok("kernel", text),
    }
}

/// `6.1.0-28-cloud-amd64`
fn parse_release(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn bpf(level: Level) -> Finding {
    match guard::is_supported() {
        Ok(()) => Finding::ok("BPF", "the guard's program is built in, and the kernel has BPF"),
        Err(error) => {
            Finding::wrong(level, "BPF", error.to_string(), "without it the proxy serves unguarded")
        }
    }
}

fn bpffs(mounts: &str, level: Level) -> Finding {
    const AT: &str = "/sys/fs/bpf";
    if mounted(mounts, "bpf").any(|at| at == AT) {
        return Finding::ok("bpffs", format!("mounted at {AT}"));
    }
    let next = format!("run `mount -t bpf bpf {AT}`; systemd does so at boot");
    Finding::wrong(level, "bpffs", format!("not mounted at {AT}"), next)
}

fn btf() -> Finding {
    const AT: &str = "/sys/kernel/btf/vmlinux";
    if Path::new(AT).exists() {
        return Finding::ok("BTF", AT);
    }
    let next = "a kernel with CONFIG_DEBUG_INFO_BTF has it; tools such as bpftool then show types";
    Finding::warn("BTF", format!("the kernel does not describe its types ({AT})"), next)
}

fn control_groups(mounts: &str) -> Finding {
    match mounted(mounts, "cgroup2").next() {
        Some(at) => Finding::ok("cgroup2", format!("mounted at {at}")),
        None => Finding::warn(
            "cgroup2",
            "not mounted: completed handshakes can't be counted",
            "run `mount -t cgroup2 none /sys/fs/cgroup`; systemd does so at boot",
        ),
    }
}

/// Where file systems of a type are mounted (proc_pid_mountinfo(5)).
fn mounted<'m>(mountinfo: &'m str, kind: &'m str) -> impl Iterator<Item = &'m str> {
    mountinfo.lines().filter_map(move |line| {
        let (before, after) = line.split_once(" - ")?;
        (after.split(' ').next() == Some(kind)).then(|| before.split(' ').nth(4)).flatten()
    })
}

fn permissions(config: &Config) -> Finding {
    let held = capabilities(None).map(|sets| sets.effective).unwrap_or(CapabilitySet::empty());
    let listen = &config.listen;
    let low = [&listen.https, &listen.http, &listen.plain].into_iter().flatten().any(|at| at.port() < 1024);
    let guard = config.guard.is_some();
    let wanted = [
        (guard, CapabilitySet::BPF, "CAP_BPF"),
        (guard, CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN"),
        (guard, CapabilitySet::PERFMON, "CAP_PERFMON"),
        (low, CapabilitySet::NET_BIND_SERVICE, "CAP_NET_BIND_SERVICE"),
    ];
    let root = held.contains(CapabilitySet::SYS_ADMIN);
    let covered = CapabilitySet::BPF | CapabilitySet::PERFMON;
    let has = |capability| held.contains(capability) || (root && covered.contains(capability));
    let missing = wanted.into_iter().filter(|(wanted, capability, _)| *wanted && !has(*capability));
    let missing: Vec<&str> = missing.map(|(.., name)| name).collect();
    if missing.is_empty() {
        return Finding::ok("capabilities", "all that this configuration needs");
    }
    let text = format!("this process lacks {}", missing.join(", "));
    Finding::warn("capabilities", text, "run as root, as the shipped unit does; others may see less here")
}

fn confinement(wanted: Confine, found: &Confinement) -> Finding {
    const SUBJECT: &str = "confinement";
    let next =
        "Linux 5.13 and later have both; `lsm=` on the kernel's command line must not leave out landlock";
    let gaps = found.gaps().join("; ");
    match (found.ensure_required(), wanted) {
        (Ok(()), _) if gaps.is_empty() => Finding::ok(SUBJECT, found.to_string()),
        (Ok(()), _) => Finding::ok(SUBJECT, format!("{found}; {gaps}")),
        (Err(_), Confine::Auto) => Finding::warn(SUBJECT, gaps, next),
        (Err(_), Confine::Required) => {
            Finding::fail(SUBJECT, format!("{gaps}, and [process] confine = \"required\""), next)
        }
    }
}

fn kernel_tls(ktls: Ktls) -> Finding {
    const SUBJECT: &str = "kernel TLS";
    let costs = "the proxy encrypts bodies itself, which takes more CPU";
    match (ktls, KernelTls::probe()) {
        (Ktls::Off, Ok(found)) => {
            Finding::ok(SUBJECT, format!("off, by [tls] ktls; it could be used: {found}"))
        }
        (Ktls::Off, Err(error)) => Finding::ok(SUBJECT, format!("off, by [tls] ktls; {error}")),
        (_, Ok(found)) if found.rekeys() => Finding::ok(SUBJECT, format!("used: {found}")),
        (_, Ok(found)) => Finding::ok(
            SUBJECT,
            format!(
                "used: {found} (peers that replace theirs, and few do, are disconnected; Linux 6.14 goes on)"
            ),
        ),
        (_, Err(error @ NoKernelTls::Absent)) => Finding::warn(
            SUBJECT,
            format!("not used: {error}: {costs}"),
            "where the kernel was built with it: `modprobe tls`, and `echo tls >/etc/modules-load.d/tls.conf` for later",
        ),
        (_, Err(error @ NoKernelTls::Silent)) => Finding::warn(
            SUBJECT,
            format!("not used: {error}: {costs}"),
            "let loopback through (`nft list ruleset`, `iptables -S`), and is the table of connections full \
             (`sysctl net.netfilter.nf_conntrack_count net.netfilter.nf_conntrack_max`)? then restart hookgate",
        ),
        (_, Err(error)) => Finding::warn(
            SUBJECT,
            format!("not used: {error}: {costs}"),
            "a newer kernel may do better; write ktls = \"off\" in [tls] if that is as it should be",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_begin_with_two_numbers() {
        for (release, expected) in [
            ("6.1.0-28-cloud-amd64", Some((6, 1))),
            ("5.18", Some((5, 18))),
            ("6.18.44-fc-v595", Some((6, 18))),
            ("next", None),
            ("6", None),
        ] {
            assert_eq!(parse_release(release), expected, "{release}");
        }
    }

    #[test]
    fn mounts_are_found_by_type() {
        let mounts = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n\
                      32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu\n\
                      50 1 0:40 / /sys/fs/bpf rw - bpf bpf rw,mode=700\nnonsense\n";
        assert_eq!(mounted(mounts, "cgroup2").collect::<Vec<_>>(), ["/sys/fs/cgroup/unified"]);
        assert_eq!(bpffs(mounts, Level::Fail).level, Level::Ok);
        assert_eq!(bpffs("", Level::Fail).level, Level::Fail);
        assert_eq!(control_groups("").level, Level::Warn);
    }

    #[test]
    fn kernel_tls_is_never_a_failure() {
        assert_ne!(kernel_tls(Ktls::Auto).level, Level::Fail);
        let off = kernel_tls(Ktls::Off);
        assert_eq!(off.level, Level::Ok);
        assert!(off.text.starts_with("off"), "{off}");
    }
}
