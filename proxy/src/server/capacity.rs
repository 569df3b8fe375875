//! How many client connections this machine can carry.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What one busy connection may take, in bytes: two TLS sessions, two buffers, and the kernel's sockets.
const BYTES_PER_CONNECTION: u64 = 40 * 1024;
/// A client's and an upstream's.
const DESCRIPTORS_PER_CONNECTION: u64 = 2;
/// For listeners, files, DNS and the runtime.
const OTHER_DESCRIPTORS: u64 = 128;

/// As many connections as memory and descriptors allow; the descriptors' soft limit is raised to the hard one.
pub fn connections() -> usize {
    let by_memory = memory_bytes().map_or(u64::MAX, |bytes| bytes / BYTES_PER_CONNECTION);
    let by_descriptors = descriptors().saturating_sub(OTHER_DESCRIPTORS) / DESCRIPTORS_PER_CONNECTION;
    usize::try_from(by_memory.min(by_descriptors)).unwrap_or(usize::MAX).max(1)
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
pub fn memory_bytes() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total(&text));
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = groups.lines().flat_map(limit_files).filter_map(|file| {
        // `max` is no number, and no limit.
        fs::read_to_string(file).ok()?.trim().parse::<u64>().ok()
    });
    limits.chain(machine).min()
}

/// `MemTotal:  524288 kB` (proc_meminfo(5)).
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Where the memory limits stand of the group in a line of /proc/self/cgroup (cgroups(7)) and of those around it, in
/// version 2 or 1.
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
    fn half_a_gigabyte_carries_what_the_contract_says() {
        let bytes = total("MemTotal:         524288 kB\nMemFree: 1 kB\n").unwrap();
        assert!(bytes / BYTES_PER_CONNECTION >= 12_000);
    }

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
