//! What the kernel counts by itself, of all connections of this network namespace together.

use std::fs;

use serde::{Deserialize, Serialize};

use crate::observe;

/// Totals since the network namespace was made. `None`: this kernel does not count it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelCounters {
    /// Handshakes for which a listener's accept queue had no room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen_overflows: Option<u64>,
    /// SYNs and final ACKs that a listener dropped, those of `listen_overflows` included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen_drops: Option<u64>,
    /// Packets that connection tracking dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conntrack_drops: Option<u64>,
}

/// The counters of the caller's network namespace.
pub fn kernel_counters() -> KernelCounters {
    // `/proc/net` is the namespace of the process's first thread.
    let read = |file: &str| fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap_or_default();
    let netstat = read("netstat");
    KernelCounters {
        listen_overflows: tcp_extension(&netstat, "ListenOverflows"),
        listen_drops: tcp_extension(&netstat, "ListenDrops"),
        conntrack_drops: conntrack_drops(&read("stat/nf_conntrack")),
    }
}

impl KernelCounters {
    pub fn plus(&self, more: &Self) -> Self {
        let sum = |of: fn(&Self) -> Option<u64>| match (of(self), of(more)) {
            (None, None) => None,
            (one, other) => Some(one.unwrap_or(0).saturating_add(other.unwrap_or(0))),
        };
        Self {
            listen_overflows: sum(|counters| counters.listen_overflows),
            listen_drops: sum(|counters| counters.listen_drops),
            conntrack_drops: sum(|counters| counters.conntrack_drops),
        }
    }

    /// About one half, rounded up, and the rest.
    pub fn halves(&self) -> [Self; 2] {
        let half = |count: Option<u64>| count.map(|count| count.div_ceil(2));
        let first = Self {
            listen_overflows: half(self.listen_overflows),
            listen_drops: half(self.listen_drops),
            conntrack_drops: half(self.conntrack_drops),
        };
        [first, self.since(&first)]
    }

    /// What was counted since `earlier`. A count that went down has begun anew: all of it is new.
    pub fn since(&self, earlier: &Self) -> Self {
        let grown = |of: fn(&Self) -> Option<u64>| {
            let (earlier, now) = (of(earlier).unwrap_or(0), of(self)?);
            Some(observe::grown(now, earlier))
        };
        Self {
            listen_overflows: grown(|counters| counters.listen_overflows),
            listen_drops: grown(|counters| counters.listen_drops),
            conntrack_drops: grown(|counters| counters.conntrack_drops),
        }
    }
}

/// A line of names, then a line of numbers, each behind `TcpExt:`.
fn tcp_extension(netstat: &str, name: &str) -> Option<u64> {
    let mut lines = netstat.lines().filter_map(|line| line.strip_prefix("TcpExt:"));
    let (names, numbers) = (lines.next()?, lines.next()?);
    let place = names.split_whitespace().position(|known| known == name)?;
    numbers.split_whitespace().nth(place)?.parse().ok()
}

/// A line of names, then a line of hexadecimal numbers a processor.
///
/// `drop` has what a full table, an unresolved clash and a helper drop; a bucket with too many
/// entries is counted apart (`chainlength`, Linux 5.15). `insert_failed` counts the same packets
/// again, and clashes that drop nothing; `early_drop` counts entries that give way, not packets.
fn conntrack_drops(table: &str) -> Option<u64> {
    const DROPS: [&str; 2] = ["drop", "chainlength"];
    let mut lines = table.lines();
    let names: Vec<&str> = lines.next()?.split_whitespace().collect();
    names.contains(&DROPS[0]).then_some(())?;
    let mut sum = 0u64;
    for line in lines {
        for (name, number) in names.iter().zip(line.split_whitespace()) {
            if DROPS.contains(name) {
                sum = sum.saturating_add(u64::from_str_radix(number, 16).ok()?);
            }
        }
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_by_name() {
        let netstat = "\
            TcpExt: SyncookiesSent ListenOverflows ListenDrops TCPLoss\n\
            TcpExt: 1 22 333 4\n\
            IpExt: InNoRoutes ListenDrops\n\
            IpExt: 5 6\n";
        assert_eq!(tcp_extension(netstat, "ListenOverflows"), Some(22));
        assert_eq!(tcp_extension(netstat, "ListenDrops"), Some(333));
        assert_eq!(tcp_extension(netstat, "TCPUnknown"), None);
        assert_eq!(tcp_extension("", "ListenDrops"), None);
    }

    #[test]
    fn drops_of_all_processors_are_added_up() {
        // Linux 6.1, and 5.10 with the older names.
        let new = "\
            entries  clashres found new invalid ignore delete chainlength insert insert_failed drop early_drop icmp_error\n\
            00000007  00000001 00000000 00000000 00000000 00000000 00000000 00000002 00000000 00000010 00000010 00000005 00000000\n\
            00000007  00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 0000000a 0000000a 00000000 00000000\n";
        assert_eq!(conntrack_drops(new), Some(0x10 + 0xa + 2));
        let old = "\
            entries  searched found new invalid ignore delete delete_list insert insert_failed drop early_drop icmp_error\n\
            00000007  00000001 00000000 00000000 00000000 00000000 00000000 00000002 00000000 00000010 00000003 00000005 00000000\n";
        assert_eq!(conntrack_drops(old), Some(3));
        assert_eq!(conntrack_drops(""), None);
        assert_eq!(conntrack_drops("entries\n00000001\n"), None);
    }

    #[test]
    fn a_difference_has_what_both_count() {
        let counters = |overflows, drops, conntrack| KernelCounters {
            listen_overflows: overflows,
            listen_drops: drops,
            conntrack_drops: conntrack,
        };
        let (earlier, now) = (counters(Some(3), Some(9), None), counters(Some(10), Some(4), Some(2)));
        assert_eq!(now.since(&earlier), counters(Some(7), Some(4), Some(2)));
        assert_eq!(earlier.since(&now).conntrack_drops, None);
    }
}
