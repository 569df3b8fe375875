//! The kernel: what the guard and the proxy can use of it.

use std::fs;
use std::path::Path;

use rustix::process::geteuid;
use rustix::thread::{CapabilitySet, capabilities};

use super::Finding;
use super::finding::Level;
use crate::config::{Config, Confine, Ktls};
use crate::guard;
use crate::host::{Container, Host, Mounts};
use crate::net::{KernelTls, NoKernelTls};
use crate::server::Confinement;

pub fn findings(config: &Config, host: &Host) -> Vec<Finding> {
    // What only the guard needs is no failure where none is wanted.
    let level = if config.guard.is_some() { Level::Fail } else { Level::Warn };
    let container = host.container.as_ref();
    let machine = [
        version(),
        bpf(config, level),
        bpffs(&host.mounts, container, level),
        btf(),
        control_groups(&host.mounts, container),
        permissions(config, is_first_user_namespace(), container),
        kernel_tls(config.ktls),
        confinement(config.process.confine, &Confinement::probe()),
    ];
    let read = |path: &str| fs::read_to_string(path).ok();
    let jit = read("/proc/sys/net/core/bpf_jit_enable").and_then(|setting| jit(&setting));
    let [possible, online] = ["possible", "online"].map(|set| {
        let list = read(&format!("/sys/devices/system/cpu/{set}"));
        list.and_then(|list| count_cpus(&list))
    });
    let memory = config.guard.as_ref().and_then(|guard| guard::memory(&guard.pin).ok()?);
    let cpus = possible.zip(online).map(|(possible, online)| cpus(possible, online, memory));
    machine.into_iter().chain(jit).chain(cpus).collect()
}

/// Nothing is concluded from it: distributions bring what later versions have into older ones.
fn version() -> Finding {
    let uname = rustix::system::uname();
    let (release, machine) = (uname.release().to_string_lossy(), uname.machine().to_string_lossy());
    Finding::ok("kernel", format!("Linux {release} {machine}"))
}

fn bpf(config: &Config, level: Level) -> Finding {
    const SUBJECT: &str = "BPF";
    // A guard that is there needs no second one, which takes as much memory for a moment.
    if config.guard.as_ref().is_some_and(|guard| guard::is_pinned(&guard.pin).unwrap_or(false)) {
        return Finding::ok(SUBJECT, "the kernel has the guard's program");
    }
    match guard::probe() {
        Ok(missing) => missing_programs(SUBJECT, &missing),
        Err(guard::Error::NotPermitted { .. }) => Finding::ok(
            SUBJECT,
            "the guard's program is built in, and the kernel has BPF; only root can try both",
        ),
        Err(error) => {
            Finding::wrong(level, SUBJECT, error.in_a_line(), "without it the proxy serves unguarded")
        }
    }
}

/// What the kernel takes beside the XDP program.
fn missing_programs(subject: &str, missing: &guard::Missing) -> Finding {
    let guard::Missing { handshakes, answers, tc } = missing;
    let programs = [
        (handshakes, "what counts handshakes", "the guard counts all but handshakes"),
        (answers, "what sees answers", "the guard does not say why handshakes fail"),
        (tc, "the tc program", "interfaces without native XDP get generic XDP"),
    ];
    let mut missing =
        programs.into_iter().filter_map(|(why, what, effect)| Some((why.as_ref()?, what, effect)));
    match missing.next() {
        None => Finding::ok(subject, "the kernel takes the guard's programs"),
        // The others most likely lack the same.
        Some((why, what, effect)) => Finding::warn(
            subject,
            format!("the kernel takes the guard's XDP program, but not {what}: {}", why.in_a_line()),
            format!("{effect}; see below for what is missing"),
        ),
    }
}

/// net.core.bpf_jit_enable, which network namespaces other than the first do not show.
fn jit(setting: &str) -> Option<Finding> {
    (setting.trim() == "0").then(|| {
        Finding::warn(
            "BPF JIT",
            "off (net.core.bpf_jit_enable = 0): handshakes can't be counted, and each packet costs more",
            "run `sysctl -w net.core.bpf_jit_enable=1`, and write it into /etc/sysctl.d",
        )
    })
}

/// How many CPUs a list such as `0-3,8` names (cpuset(7)).
fn count_cpus(list: &str) -> Option<usize> {
    let count = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (first.parse::<usize>().ok()?, last.parse::<usize>().ok()?);
        Some((last + 1).saturating_sub(first))
    };
    list.trim().split(',').map(count).sum()
}

/// The guard's counters are kept once for each possible CPU. `memory`: what its maps take, in
/// bytes.
fn cpus(possible: usize, online: usize, memory: Option<u64>) -> Finding {
    let mut text = format!("{online} online, {possible} possible");
    if let Some(memory) = memory {
        text += &format!("; the guard's maps take {:.1} MiB", memory as f64 / f64::from(1 << 20));
    }
    Finding::ok("CPUs", text)
}

fn bpffs(mounts: &Mounts, container: Option<&Container>, level: Level) -> Finding {
    const AT: &str = "/sys/fs/bpf";
    if mounts.of_kind("bpf").any(|at| at == Path::new(AT)) {
        return Finding::ok("bpffs", format!("mounted at {AT}"));
    }
    let next = match container {
        None => format!("run `mount -t bpf bpf {AT}`; systemd does so at boot"),
        Some(container) => format!("give the container {}", container.grants().bpf),
    };
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

fn control_groups(mounts: &Mounts, container: Option<&Container>) -> Finding {
    const SUBJECT: &str = "cgroup2";
    const UNCOUNTED: &str = "completed handshakes can't be counted without the privilege to mount it";
    if let Some(at) = mounts.of_kind(SUBJECT).next() {
        return Finding::ok(SUBJECT, format!("mounted at {}", at.display()));
    }
    let is_version_1 = mounts.of_kind("cgroup").next().is_some();
    match (is_version_1, container) {
        (true, None) => Finding::warn(
            SUBJECT,
            format!("not mounted, only cgroup v1: {UNCOUNTED}"),
            "run `mkdir -p /run/cgroup2 && mount -t cgroup2 none /run/cgroup2`, or boot with \
             systemd.unified_cgroup_hierarchy=1",
        ),
        (true, Some(_)) => Finding::warn(
            SUBJECT,
            format!("not mounted, only cgroup v1: {UNCOUNTED}"),
            "boot the machine with systemd.unified_cgroup_hierarchy=1, so that engines use cgroup2",
        ),
        (false, _) => Finding::warn(
            SUBJECT,
            format!("not mounted: {UNCOUNTED}"),
            "run `mount -t cgroup2 none /sys/fs/cgroup`; systemd does so at boot",
        ),
    }
}

/// Capabilities for BPF count in no other.
fn is_first_user_namespace() -> bool {
    /// `PROC_USER_INIT_INO` of linux/proc_ns.h.
    const FIRST: &str = "user:[4026531837]";
    fs::read_link("/proc/self/ns/user").map_or(true, |namespace| namespace == Path::new(FIRST))
}

fn permissions(config: &Config, is_first_user_namespace: bool, container: Option<&Container>) -> Finding {
    const SUBJECT: &str = "capabilities";
    let held = capabilities(None).map(|sets| sets.effective).unwrap_or(CapabilitySet::empty());
    let listen = &config.listen;
    let low = [&listen.https, &listen.http, &listen.plain].into_iter().flatten().any(|at| at.port() < 1024);
    let guard = config.guard.is_some();
    let is_root_user = geteuid().is_root();
    let wanted = [
        (guard, CapabilitySet::BPF, "CAP_BPF"),
        (guard, CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN"),
        (guard, CapabilitySet::PERFMON, "CAP_PERFMON"),
        (low, CapabilitySet::NET_BIND_SERVICE, "CAP_NET_BIND_SERVICE"),
        (is_root_user, CapabilitySet::SETUID, "CAP_SETUID"),
        (is_root_user, CapabilitySet::SETGID, "CAP_SETGID"),
    ];
    let root = held.contains(CapabilitySet::SYS_ADMIN);
    let covered = CapabilitySet::BPF | CapabilitySet::PERFMON;
    let has = |capability| held.contains(capability) || (root && covered.contains(capability));
    let missing = wanted.into_iter().filter(|(wanted, capability, _)| *wanted && !has(*capability));
    let missing: Vec<&str> = missing.map(|(.., name)| name).collect();
    if !missing.is_empty() {
        let text = format!("this process lacks {}", missing.join(", "));
        let next = match container {
            None => "run as root, as the shipped unit does; others may see less here".into(),
            Some(container) => format!("give them to the container: {}", container.grants().capabilities),
        };
        return Finding::warn(SUBJECT, text, next);
    }
    if guard && !is_first_user_namespace {
        return Finding::warn(
            SUBJECT,
            "held in a user namespace, as in an unprivileged container, where CAP_BPF and CAP_PERFMON do not count",
            "run hookgate, or `hookgate guard attach`, outside of it",
        );
    }
    Finding::ok(SUBJECT, "all that this configuration needs")
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
    fn no_version_of_the_kernel_is_too_old() {
        assert_eq!(version().level, Level::Ok);
    }

    #[test]
    fn without_a_just_in_time_compiler_handshakes_are_not_counted() {
        assert_eq!(jit("1\n"), None);
        assert_eq!(jit("2\n"), None);
        assert_eq!(jit("0\n").map(|finding| finding.level), Some(Level::Warn));
    }

    #[test]
    fn cpus_that_are_possible_and_not_there_are_told() {
        for (list, expected) in
            [("0\n", Some(1)), ("0-127\n", Some(128)), ("0-3,8,10-11\n", Some(7)), ("\n", None), ("x", None)]
        {
            assert_eq!(count_cpus(list), expected, "{list:?}");
        }
        assert_eq!(cpus(128, 1, None).text, "1 online, 128 possible");
        assert_eq!(cpus(2, 2, Some(9 << 20)).text, "2 online, 2 possible; the guard's maps take 9.0 MiB");
    }

    #[test]
    fn what_is_mounted_is_found_by_type() {
        let mounts = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n\
                      32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu\n\
                      50 1 0:40 / /sys/fs/bpf rw - bpf bpf rw,mode=700\nnonsense\n";
        let mounts = Mounts::parse(mounts);
        let none = Mounts::default();
        assert_eq!(control_groups(&mounts, None).text, "mounted at /sys/fs/cgroup/unified");
        assert_eq!(bpffs(&mounts, None, Level::Fail).level, Level::Ok);
        assert_eq!(bpffs(&none, None, Level::Fail).level, Level::Fail);
        assert_eq!(control_groups(&none, None).level, Level::Warn);
    }

    #[test]
    fn what_is_missing_is_asked_of_the_containers_engine() {
        let none = Mounts::default();
        let next =
            |container: &Container| bpffs(&none, Some(container), Level::Fail).next.unwrap_or_default();
        assert!(next(&Container::Docker).ends_with("the volume /sys/fs/bpf:/sys/fs/bpf"));
        assert!(next(&Container::Lxc).contains("lxc.mount.entry = /sys/fs/bpf"));
    }

    #[test]
    fn version_1_of_control_groups_is_named() {
        let v1 = Mounts::parse("32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n");
        let found = control_groups(&v1, None);
        assert!(found.text.contains("only cgroup v1"), "{found}");
        assert!(found.next.is_some_and(|next| next.contains("/run/cgroup2")));
    }

    #[test]
    fn kernel_tls_is_never_a_failure() {
        assert_ne!(kernel_tls(Ktls::Auto).level, Level::Fail);
        let off = kernel_tls(Ktls::Off);
        assert_eq!(off.level, Level::Ok);
        assert!(off.text.starts_with("off"), "{off}");
    }
}
