//! How many client connections this machine can carry.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::system::sysinfo;

/// What connections take in bytes, on average, when all are busy: two TLS sessions, the kernel's
/// sockets, and in some a buffer in which something waits.
const BYTES_PER_CONNECTION: u64 = 28 * 1024;
/// What connections may take of the memory; the rest is for all else on the machine.
const SHARE_OF_MEMORY: (u64, u64) = (3, 4);
// Half a gigabyte carries as many as the contract says, also without the 40 MiB that a kernel keeps
// of it.
const _: () = assert!(by_memory(472 << 20) >= 12_000);
/// A client's and an upstream's.
const DESCRIPTORS_PER_CONNECTION: u64 = 2;
/// For listeners, files, DNS and the runtime.
const OTHER_DESCRIPTORS: u64 = 128;

/// As many connections as memory and descriptors allow; the descriptors' soft limit is raised to
/// the hard one.
pub fn connections() -> usize {
    let by_memory = by_memory(memory_bytes());
    let by_descriptors = descriptors().saturating_sub(OTHER_DESCRIPTORS) / DESCRIPTORS_PER_CONNECTION;
    usize::try_from(by_memory.min(by_descriptors)).unwrap_or(usize::MAX).max(1)
}

const fn by_memory(bytes: u64) -> u64 {
    let (part, whole) = SHARE_OF_MEMORY;
    bytes / whole * part / BYTES_PER_CONNECTION
}

/// The limit on open descriptors, after raising it as far as it goes.
fn descriptors() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    // `None` is unlimited; where raising is refused, the limit that was there holds.
    let limit = if raised.is_ok() { maximum } else { current };
    limit.unwrap_or(u64::MAX)
}

/// The machine's memory, or what control groups leave of it to this process.
pub fn memory_bytes() -> u64 {
    // Not /proc/meminfo: the shipped unit shows this process nothing of /proc but processes.
    let machine = sysinfo();
    let machine = machine.totalram as u64 * u64::from(machine.mem_unit);
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = groups.lines().flat_map(limit_files).filter_map(|file| {
        // `max` is no number, and no limit.
        fs::read_to_string(file).ok()?.trim().parse::<u64>().ok()
    });
    limits.fold(machine, u64::min)
}

/// Where the memory limits stand of the group in a line of /proc/self/cgroup (cgroups(7)) and of
/// those around it, in version 2 or 1.
fn limit_files(line: &str) -> Vec<PathBuf> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (root, limit) = match parts.next() {
        Some("") => ("/sys/fs/cgroup", "memory.max"),
        Some("memory") => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
        _ => return Vec::new(),
    };
    let group = Path::new(parts.next().unwrap_or_default().trim_start_matches('/'));
    group.ancestors().map(|group| Path::new(root).join(group).join(limit)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_found_in_both_versions_of_control_groups_and_around_them() {
        let files =
            |line| limit_files(line).iter().map(|file| file.display().to_string()).collect::<Vec<_>>();
        assert_eq!(
            files("0::/system.slice/hookgate.service"),
            [
                "/sys/fs/cgroup/system.slice/hookgate.service/memory.max",
                "/sys/fs/cgroup/system.slice/memory.max",
                "/sys/fs/cgroup/memory.max",
            ]
        );
        assert_eq!(
            files("9:memory:/a"),
            ["/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        );
        assert_eq!(files("8:cpu,cpuacct:/a"), [""; 0]);
    }
}
