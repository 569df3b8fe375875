use crate::guard::{Counts, FailedBy, Stats};
use crate::observe::Exposition;

/// A family, what it counts, and where that stands; `None`: it is not counted.
type Family = (&'static str, &'static str, fn(&Counts) -> Option<u64>);

const FAMILIES: [Family; 12] = [
    ("packets", "Packets to guarded ports", |c| Some(c.packets)),
    ("bytes", "Their bytes, as frames", |c| Some(c.bytes)),
    ("syns", "SYNs, retransmitted ones included", |c| Some(c.syns)),
    ("syns_retransmitted", "SYNs of a handshake under way", |c| c.syns_retransmitted),
    ("handshakes", "Handshakes completed, as the kernel's TCP sees it", |c| c.handshakes),
    ("handshakes_failed", "Handshakes reset, or not completed 10 s after their last SYN", |c| {
        c.handshakes_failed
    }),
    ("segments_retransmitted", "Segments that this machine's TCP sent again", |c| c.segments_retransmitted),
    ("rtos", "Retransmission timeouts of this machine's TCP", |c| c.timeouts),
    ("untracked", "SYNs whose handshake could not be followed", |c| Some(c.untracked)),
    ("fins", "Packets with FIN", |c| Some(c.fins)),
    ("rsts", "Packets with RST", |c| Some(c.rsts)),
    ("dropped", "Packets that the guard dropped", |c| Some(c.dropped)),
];

/// Attempts of Meta's that were lost, by stage, since the attach. Those that prove nothing, or that
/// the other end has reset, are none.
pub fn lost_attempts(stats: &Stats) -> [(&'static str, u64); 3] {
    let rows = stats.prefixes.iter().filter_map(|(_, counts)| believed(counts));
    let sum = |of: fn(&FailedBy) -> u64| rows.clone().map(|by| of(&by)).sum();
    [
        ("machine", sum(|by| by.refused + by.uncompleted + by.unanswered)),
        ("outbound", sum(|by| by.unheard)),
        ("inbound", sum(|by| by.silent)),
    ]
}

/// What failed, without attempts of which the source may be forged.
fn believed(counts: &Counts) -> Option<FailedBy> {
    let (by, unproven, suspect) = (counts.failed_by?, counts.unproven?, counts.suspect?);
    Some(FailedBy {
        silent: by.silent.saturating_sub(unproven.silent + suspect.silent),
        unanswered: by.unanswered.saturating_sub(unproven.unanswered + suspect.unanswered),
        ..by
    })
}

/// Appends what the kernel has counted; series appear at first use; those of all other addresses
/// are always there.
pub fn expose(stats: &Stats, to: &mut Exposition) {
    for (name, help, count) in FAMILIES {
        let Some(other) = count(&stats.other) else { continue };
        let help = format!("{help}, by the prefix they came from");
        to.family(&format!("hookgate_prefix_{name}_total"), "counter", &help);
        for (prefix, row) in &stats.prefixes {
            if let Some(count) = count(row).filter(|count| *count > 0) {
                to.sample(&[("prefix", &prefix.to_string())], count);
            }
        }
        to.sample(&[("prefix", "other")], other);
    }
    to.family("hookgate_guard_dropped_total", "counter", "Packets that the guard dropped, by reason");
    let by = &stats.dropped_by;
    for (reason, count) in [
        ("strict", by.strict),
        ("limited", by.limited),
        ("garbage", by.garbage),
        ("fragment", by.fragment),
        ("extensions", by.extensions),
    ] {
        if count > 0 {
            to.sample(&[("reason", reason)], count);
        }
    }
}
